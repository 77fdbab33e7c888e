//! Calls for which there is no connection left, a bound of ours: many of them are few events, and the sums say how many there were.

use gnomon_stage::{
    HOST,
    client::H1,
    gnomon::Gnomon,
    request::call,
    rules::rule,
    upstream::{Answer, Upstream},
};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, task::JoinSet};

/// The time after which sums are told with the next call.
const WHILE: Duration = Duration::from_secs(10);
/// Calls at a time of each kind.
const MANY: u64 = 100;

/// A client of the proxy that has posted this body, on a connection of its own.
async fn posted(proxy: SocketAddr, body: &Value) -> H1<TcpStream> {
    let mut client = H1::over(TcpStream::connect(proxy).await.unwrap());
    let body = body.to_string();
    let head = format!("POST http://{HOST}/mcp HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n");
    client.write(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
    client
}

/// Posts each of these at the same time; there is no connection for any.
async fn refused(proxy: SocketAddr, bodies: impl IntoIterator<Item = Value>) {
    let mut clients = JoinSet::new();
    for body in bodies {
        clients.spawn(async move { posted(proxy, &body).await.answer().await.status });
    }
    let statuses = clients.join_all().await;
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_beyond_a_clients_connections_are_few_events_whose_numbers_add_up_to_the_calls() {
    let upstream = Upstream::without_tls(|_| Some(Answer::Nothing)).await;
    let watched = rule(1, "Watched for", "gen_ai.tool.name: watched", "action: log");
    let gnomon = Gnomon::with().rules([watched]).resolve(HOST, upstream.address).upstream_connections(2).start().await;
    // The one connection that a client may have is waited at.
    let waiting = posted(gnomon.address, &call(0, "waits")).await;
    upstream.until("the call at the server", |all| !all.is_empty()).await;

    let kinds = |number: u64| [call(number, "watched"), call(number, &format!("tool_{number}"))];
    let batch: Value = (0..5).map(|number| call(number, "of_a_batch")).collect();
    refused(gnomon.address, (1..=MANY).flat_map(kinds).chain([batch])).await;
    tokio::time::sleep(WHILE + Duration::from_millis(500)).await;
    refused(gnomon.address, kinds(MANY + 1)).await;
    assert_eq!(upstream.paths().len(), 1, "none of them reached the server");
    drop(waiting);

    let events = gnomon.finish().await;
    // On a loaded machine some are told before they are refused.
    let is_refused = |event: &&Value| event["event.kind"] != "outcome" && event["gen_ai.tool.name"] != "waits";
    let (found, others): (Vec<_>, Vec<_>) = events.iter().filter(is_refused).partition(|event| event["rule.name"] == "Watched for");
    for (told, made) in [(found, MANY + 1), (others, MANY + 5 + 1)] {
        let calls: u64 = told.iter().map(|event| event["gnomon.calls"].as_u64().unwrap_or(1)).sum();
        assert_eq!(calls, made, "{told:#?}");
        assert!(told.len() <= 80, "{} events of {made} calls", told.len());
        let sums: Vec<_> = told.iter().filter(|event| event["gnomon.calls"].is_u64()).collect();
        assert!(!sums.is_empty(), "{told:#?}");
        for sum in sums {
            let said = ["error.type", "mcp.method.name", "server.address"].map(|name| sum[name].as_str());
            assert_eq!(said, [Some("upstream_connections_exhausted"), Some("tools/call"), Some(HOST)], "{sum:#}");
            assert!(sum.get("gen_ai.tool.name").is_none() && sum.get("jsonrpc.request.id").is_none(), "{sum:#}");
        }
    }
    assert!(events.iter().any(|event| event["gen_ai.tool.name"] == "waits"), "{events:#?}");
}
