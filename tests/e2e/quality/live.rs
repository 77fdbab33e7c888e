//! One case through the proxy: CONNECT, TLS with gnomon's certificate, HTTP as the case frames it.

use super::{
    corpus::{Case, Framing},
    servers::Servers,
};
use crate::support::{
    client::{Answer, Ends, H1, H2, h2_answer, handshake, tunnel},
    gnomon::Gnomon,
    request::chunk,
    rules,
};
use gnomon_engine::Source;
use http::Request;
use serde_json::Value;

/// The result of a case.
pub struct Outcome {
    pub events: Vec<Value>,
    /// `None` if the connection was closed without an answer.
    pub answer: Option<Answer>,
}

/// Sends one case through a new gnomon with the shipped rules and these further ones.
pub async fn through_the_proxy(case: &Case, servers: &mut Servers, further: Vec<Source>) -> Outcome {
    servers.prepare(case).await;
    let setup = Gnomon::with().shipped_catalogue().rules(rules::shipped().into_iter().chain(further));
    let gnomon = servers.known_to(setup).start().await;
    let answer = ask(&gnomon, case).await;
    Outcome { events: gnomon.finish().await, answer }
}

async fn ask(gnomon: &Gnomon, case: &Case) -> Option<Answer> {
    let tunnel = tunnel(gnomon.address, &case.target()).await;
    let alpn = if case.framing == Framing::Two { "h2" } else { "http/1.1" };
    let stream = handshake(tunnel, &gnomon.root, case.name(), &[alpn]).await.unwrap_or_else(|e| panic!("{}: {e}", case.id));
    if case.framing == Framing::Two {
        return two(case, H2::over(stream).await).await;
    }
    let mut client = H1::over(stream);
    let (head, body) = (head(case), &case.body);
    match case.framing {
        Framing::Length | Framing::Two => client.write(&[&head[..], body].concat()).await,
        Framing::Chunks(size) => {
            client.write(&head).await;
            for piece in body.chunks(size.min(body.len())) {
                client.write(&chunk(piece)).await;
            }
            client.write(b"0\r\n\r\n").await;
        }
        Framing::BothLengths => client.write(&[&head[..], &chunk(body), b"0\r\n\r\n"].concat()).await,
        Framing::Continue => {
            client.write(&head).await;
            assert_eq!(client.head().await.unwrap().status, 100, "{}", case.id);
            client.write(body).await;
        }
        Framing::Pipelined => {
            let first = format!("GET /health HTTP/1.1\r\nhost: {}\r\n\r\n", case.host);
            client.write(&[first.as_bytes(), &head, body].concat()).await;
            client.answer().await;
        }
    }
    let answer = client.try_answer().await.ok();
    client.close().await;
    answer
}

/// The head of the corpus, with the Content-Length of the body.
fn head(case: &Case) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\n", case.method, case.path);
    let mut line = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
    if case.header("host").is_none() {
        line("host", &case.host);
    }
    let own_length = matches!(case.framing, Framing::BothLengths | Framing::Chunks(_));
    for (name, value) in &case.headers {
        if own_length || !["content-length", "transfer-encoding"].contains(&&*name.to_ascii_lowercase()) {
            line(name, value);
        }
    }
    if !own_length && (!case.body.is_empty() || case.method == "POST") {
        line("content-length", &case.body.len().to_string());
    }
    head.push_str("\r\n");
    head.into_bytes()
}

async fn two(case: &Case, mut client: H2) -> Option<Answer> {
    // HTTP/2 says these in another way or not at all (RFC 9113 sections 8.2.2 and 8.3.1).
    const OTHERWISE: [&str; 4] = ["host", "connection", "transfer-encoding", "content-length"];
    let mut request = Request::builder().method(&*case.method).uri(format!("https://{}{}", case.host, case.path));
    for (name, value) in &case.headers {
        if !name.starts_with(':') && !OTHERWISE.contains(&&*name.to_ascii_lowercase()) {
            request = request.header(name, value);
        }
    }
    let ends = if case.body.is_empty() { Ends::WithHead } else { Ends::WithBody };
    let (response, mut body) = client.begin(request.body(()).unwrap(), ends).await;
    if ends == Ends::WithBody {
        // A refusal may arrive before the body is sent.
        let _ = body.send_data(case.body.clone().into(), true);
    }
    let answer = h2_answer(response).await.ok();
    drop(body);
    client.close().await;
    answer
}
