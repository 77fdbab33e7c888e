//! Log-ins that hold for a connection (NTLM, Negotiate), of programs that know of no proxy.

use super::*;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

/// Remembers on each connection who logged in on it, and notes the name when the connection ends.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, scheme: &str, ended: &Mutex<Vec<String>>) {
    let (mut challenged, mut who) = (false, String::new());
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return ended.lock().unwrap().push(who),
            }
        }
        let head = String::from_utf8(head).unwrap();
        let token = head.lines().find_map(|line| line.strip_prefix("authorization: ")?.strip_prefix(scheme)?.strip_prefix(' '));
        let (status, body) = match token {
            Some("one") => {
                challenged = true;
                (format!("401 No\r\nwww-authenticate: {scheme} two"), "challenge".to_owned())
            }
            Some(_) if !challenged => ("401 No".to_owned(), "a handshake that began on another connection".to_owned()),
            Some(name) => {
                (challenged, who) = (false, name.to_owned());
                ("200 OK".to_owned(), "welcome".to_owned())
            }
            None if who.is_empty() => (format!("401 No\r\nwww-authenticate: {scheme}"), "who are you".to_owned()),
            None => ("200 OK".to_owned(), format!("you are {who}")),
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
}

async fn asks<S: AsyncRead + AsyncWrite + Unpin>(client: &mut H1<S>, authorization: &str) -> (u16, String) {
    let line = if authorization.is_empty() { String::new() } else { format!("authorization: {authorization}\r\n") };
    let answer = client.send(&[h1_head("GET", "/", &line)]).await;
    (answer.status, answer.text())
}

/// Two programs of one user, who may share connections otherwise, and each stays who it is.
async fn each_is_who_logged_in<S, C>(scheme: &str, mut connect: impl FnMut() -> C, ended: &Mutex<Vec<String>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Future<Output = H1<S>>,
{
    let mut clients = Vec::new();
    for name in ["ada", "bob"] {
        let mut client = connect().await;
        assert_eq!(asks(&mut client, "").await, (401, "who are you".to_owned()));
        assert_eq!(asks(&mut client, &format!("{scheme} one")).await, (401, "challenge".to_owned()));
        assert_eq!(asks(&mut client, &format!("{scheme} {name}")).await, (200, "welcome".to_owned()));
        clients.push((name, client));
    }
    for (name, client) in &mut clients {
        for _ in 0..3 {
            assert_eq!(asks(client, "").await, (200, format!("you are {name}")));
        }
    }
    // Who comes without a log-in is nobody, also while both rest.
    let mut stranger = connect().await;
    assert_eq!(asks(&mut stranger, "").await.0, 401);
    for (name, client) in clients {
        client.close().await;
        soon("the end of its connection", async {
            while !ended.lock().unwrap().iter().any(|who| who == name) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(asks(&mut connect().await, "").await.0, 401, "nobody inherits {name}'s connection");
    }
}

#[tokio::test]
async fn who_logs_in_for_a_connection_has_it_alone_and_it_ends_with_the_programs() {
    for scheme in ["NTLM", "Negotiate"] {
        for with_tls in [false, true] {
            let trusted = Upstream::start(H1).await;
            let acceptor = TlsAcceptor::from(trusted.authority.server(HOST, BOTH));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let ended = Arc::new(Mutex::new(Vec::new()));
            let noted = ended.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, noted) = (acceptor.clone(), noted.clone());
                    tokio::spawn(async move {
                        match with_tls {
                            true => serve(acceptor.accept(stream).await.unwrap(), scheme, &noted).await,
                            false => serve(stream, scheme, &noted).await,
                        }
                    });
                }
            });
            let (gnomon, kernel) = gnomon(Gnomon::with(), &trusted).await;
            let dial = || kernel.connect(&gnomon, address);
            match with_tls {
                true => {
                    let connect = || async { H1::over(handshake(dial().await, &gnomon.root, HOST, H1).await.unwrap()) };
                    each_is_who_logged_in(scheme, connect, &ended).await;
                }
                false => each_is_who_logged_in(scheme, || async { H1::over(dial().await) }, &ended).await,
            }
        }
    }
}
