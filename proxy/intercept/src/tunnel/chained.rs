//! A program that asks another proxy for a tunnel: a corporate proxy, configured in it as usual, reached because the kernel
//! redirects it or by a tunnel of ours.
//!
//! The other proxy is asked in the program's own words, and what it answers the program gets as it is. Once it has opened
//! the tunnel, what is inside is read like what is inside of a tunnel of ours. The trade-off: where it cannot be told
//! where an answer of the other proxy ends, the rest of the connection is not read, and passes only if the judge lets
//! it ([`Passage::OtherProxy`]).

use super::Tunnel;
use crate::first_bytes::asks_for_a_tunnel;
use bytes::{Buf as _, Bytes, BytesMut};
use gnomon_http::{ConnectHead, ConnectOutcome, ConnectRequest, MAX_CONNECT_HEAD};
use gnomon_inspect::Passage;
use gnomon_record::FlowOutcome;
use std::{pin::Pin, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

/// How often a program may ask on one connection: schemes of authentication take up to three rounds.
const ROUNDS: usize = 8;
/// The timeout of asking again, as a person may be asked for a password meanwhile.
const ASKS_AGAIN: Duration = Duration::from_secs(300);
/// Longest page that comes with a refusal, bytes.
const MAX_PAGE: u64 = 1 << 20;

/// A program's request to the other proxy.
enum Asked {
    Tunnel(ConnectHead, String, u16),
    /// Any other request, which passes unchanged.
    Other,
    Gone,
}

/// Serves a connection that begins with a request for a tunnel.
/// Boxed, as there is a tunnel within.
pub(crate) fn serve(tunnel: Tunnel) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(follow(tunnel))
}

async fn follow(mut tunnel: Tunnel) {
    let mut patience = tunnel.shared.options.hello_timeout;
    for _ in 0..ROUNDS {
        let (head, host, port) = match timeout(patience, asked(&mut tunnel)).await {
            Ok(Asked::Tunnel(head, host, port)) => (head, host, port),
            Ok(Asked::Other) => {
                // A server that is no proxy may run `CONNECT /mcp` as it runs any method.
                let odd = asks_for_a_tunnel(&tunnel.seen);
                return tunnel.pass(if odd { Passage::OtherProxyOdd } else { Passage::OtherProxy }).await;
            }
            Ok(Asked::Gone) | Err(_) => return tunnel.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new()),
        };
        // None: a rule refuses the other proxy, which `pass` reports.
        let Some(server) = &mut tunnel.server else { return tunnel.pass(Passage::OtherProxy).await };
        let Ok(answer) = head.ask(server).await else {
            tunnel.shared.recorder.flow(FlowOutcome::Unreachable, Vec::new());
            let _ = tunnel.client.set_zero_linger();
            return;
        };
        tunnel.seen.advance(head.length());
        if tunnel.client.write_all(&answer.head).await.is_err() {
            return tunnel.shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new());
        }
        match answer.outcome {
            ConnectOutcome::Open => return tunnel.within(head, host, port).begin().await,
            ConnectOutcome::Refused(_, page) if page <= MAX_PAGE => {
                let mut page = server.take(page);
                if tokio::io::copy(&mut page, &mut tunnel.client).await.is_err() {
                    return;
                }
                patience = ASKS_AGAIN;
            }
            ConnectOutcome::Refused(..) | ConnectOutcome::OpenOrAnswered | ConnectOutcome::Unclear => {
                return tunnel.pass(Passage::OtherProxy).await;
            }
        }
    }
    tunnel.pass(Passage::OtherProxy).await;
}

async fn asked(tunnel: &mut Tunnel) -> Asked {
    let mut buffer = BytesMut::from(&tunnel.seen[..]);
    loop {
        match ConnectHead::parse(&buffer) {
            ConnectRequest::Whole { head, host, port } => {
                tunnel.seen = buffer.freeze();
                return Asked::Tunnel(head, host, port);
            }
            ConnectRequest::Partial if buffer.len() < MAX_CONNECT_HEAD => {}
            ConnectRequest::Partial | ConnectRequest::Other => {
                tunnel.seen = buffer.freeze();
                return Asked::Other;
            }
        }
        buffer.reserve(1024);
        if !matches!(tunnel.client.read_buf(&mut buffer).await, Ok(read) if read > 0) {
            tunnel.seen = Bytes::new();
            return Asked::Gone;
        }
    }
}
