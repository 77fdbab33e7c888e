//! Dialling for a program that believes to be connected, and so cannot try its next address itself.
//!
//! A program whose connect() fails goes on to the next address of the same name: `localhost` is ::1 and then
//! 127.0.0.1, and a server may have an IPv6 address that leads nowhere. Here the connection is made already, so we do it
//! in its place, where the name is known: from the ClientHello, or from the Host of a request. The name counts only where
//! it leads to the address that the program asked for, so that it cannot be borrowed for another server. Nothing that the
//! program sent is taken from it meanwhile.

use crate::first_bytes::{Line, asks_the_server, first_line, head_is_over, host_in};
use gnomon_http::{DialError, Dialer, UpstreamTcp};
use gnomon_wire::hello::{HelloParser, HelloStatus};
use quick_cache::sync::Cache;
use std::{net::SocketAddr, pin::pin, time::Duration};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

/// How long an address has before the next is tried beside it: what curl gives it (RFC 8305 section 5 allows 100 ms to 2 s).
const STAGGER: Duration = Duration::from_millis(200);
/// How long the address itself is tried: as long as the kernel does by default (tcp(7), `tcp_syn_retries`), as the program would have waited.
const AS_THE_KERNEL: Duration = Duration::from_secs(127);
/// The timeout for a program with a dead address to send a name. One that waits for its server sends none.
const SAYS_A_NAME: Duration = Duration::from_millis(200);
/// The timeout of resolving a name.
const RESOLVE: Duration = Duration::from_secs(2);
/// The interval at which a program's incomplete first bytes are examined again.
const AGAIN: Duration = Duration::from_millis(5);
/// Most bytes looked at for a name: a TLS record, or the head of a request.
const LOOK: usize = 17 << 10;

/// The time for which an address that never answered is refused: long enough for a program that retries its addresses.
const NOBODY: Duration = Duration::from_secs(30);
/// The time for which an address that has answered before is refused, as a restarted service is back soon.
const NOBODY_FOR_NOW: Duration = Duration::from_secs(1);
/// Most addresses that are remembered.
const REMEMBERED: usize = 8192;

/// The addresses at which a server was reached.
#[derive(Debug)]
pub(crate) struct Reached(Cache<(u64, SocketAddr), ()>);

impl Reached {
    /// No addresses yet.
    pub fn new() -> Self {
        Self(Cache::new(REMEMBERED))
    }

    /// Notes that a server was reached at this address, from that network namespace.
    pub fn keep(&self, netns: u64, address: SocketAddr) {
        if self.0.get(&(netns, address)).is_none() {
            self.0.insert((netns, address), ());
        }
    }

    /// The time for which an unreachable address is refused.
    pub fn refused_for(&self, netns: u64, address: SocketAddr) -> Duration {
        if self.0.get(&(netns, address)).is_some() { NOBODY_FOR_NOW } else { NOBODY }
    }
}

/// The result of dialling.
pub(crate) struct Dialled {
    /// The server, and the address that it was reached at.
    pub connected: Option<(UpstreamTcp, SocketAddr)>,
    /// The error of the address that the program asked for, where that is known.
    pub failure: Option<DialError>,
}

/// Connects to the address that a program asked for, or to another one of the name that it says.
pub(crate) async fn dial(dialer: &Dialer, original: SocketAddr, client: &TcpStream) -> Dialled {
    let patient = dialer.with_patience(AS_THE_KERNEL);
    let mut direct = pin!(patient.address(original));
    let mut failure = None;
    match timeout(STAGGER, &mut direct).await {
        Ok(Ok(server)) => return Dialled { connected: Some((server, original)), failure },
        Ok(Err(error)) if error.is_of_the_address() => failure = Some(error),
        Ok(Err(error)) => return Dialled { connected: None, failure: Some(error) },
        Err(_) => {}
    }
    let mut other = pin!(another(dialer, original, client));
    if failure.is_some() {
        let connected = other.await;
        return Dialled { connected, failure };
    }
    tokio::select! {
        dialled = &mut direct => match dialled {
            Ok(server) => Dialled { connected: Some((server, original)), failure },
            Err(error) => Dialled { connected: if error.is_of_the_address() { other.await } else { None }, failure: Some(error) },
        },
        connected = &mut other => match connected {
            Some(connected) => Dialled { connected: Some(connected), failure },
            None => match direct.await {
                Ok(server) => Dialled { connected: Some((server, original)), failure },
                Err(error) => Dialled { connected: None, failure: Some(error) },
            },
        },
    }
}

/// A connection to another address of the name that the program says, if it says one that leads to the address it asked for.
async fn another(dialer: &Dialer, original: SocketAddr, client: &TcpStream) -> Option<(UpstreamTcp, SocketAddr)> {
    let name = timeout(SAYS_A_NAME, name(client)).await.ok()??;
    let found = dialer.addresses_within(RESOLVE, &name, original.port()).await.ok()?;
    let is_original = |address: &&SocketAddr| address.ip().to_canonical() == original.ip();
    if !found.iter().any(|address| is_original(&address)) {
        return None;
    }
    let others: Vec<SocketAddr> = found.iter().filter(|address| !is_original(address)).copied().collect();
    if others.is_empty() {
        return None;
    }
    let server = dialer.one_of(&name, &others).await.ok()?;
    let address = server.peer_addr().ok()?;
    Some((server, SocketAddr::new(address.ip().to_canonical(), address.port())))
}

/// The first name that the program sends; its bytes stay to be read.
async fn name(client: &TcpStream) -> Option<String> {
    let mut buffer = vec![0; LOOK];
    let mut seen = 0;
    loop {
        let there = client.peek(&mut buffer).await.ok()?;
        if there == 0 {
            return None;
        }
        if there > seen {
            seen = there;
            match said(&buffer[..there]) {
                Said::Name(name) => return Some(name),
                Said::Nothing => return None,
                Said::NotYet if there == LOOK => return None,
                Said::NotYet => {}
            }
        }
        sleep(AGAIN).await;
    }
}

/// The name in the first bytes, if there is one.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Name(String),
    NotYet,
    Nothing,
}

fn said(bytes: &[u8]) -> Said {
    let named = |name: Option<String>| name.map_or(Said::Nothing, Said::Name);
    match HelloParser::new().push(bytes) {
        Ok(HelloStatus::Complete(hello)) => named(hello.sni.as_deref().map(ToOwned::to_owned)),
        Ok(HelloStatus::Incomplete) => Said::NotYet,
        Ok(HelloStatus::NotTls) => match first_line(bytes) {
            Line::Maybe => Said::NotYet,
            Line::Http(_) if !asks_the_server(bytes) => Said::Nothing,
            Line::Http(_) if head_is_over(bytes) => named(host_in(bytes)),
            Line::Http(_) => Said::NotYet,
            Line::Odd | Line::Long | Line::Hello | Line::Strange | Line::Foreign => Said::Nothing,
        },
        Err(_) => Said::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_server_once_its_head_is_there_and_other_protocols_never() {
        let head = b"GET / HTTP/1.1\r\nHost: localhost:11434\r\n\r\n";
        for end in 1..head.len() {
            assert_eq!(said(&head[..end]), Said::NotYet, "{end}");
        }
        assert_eq!(said(head), Said::Name("localhost".to_owned()));
        for other in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"CONNECT a.example:443 HTTP/1.1\r\n\r\n"] {
            assert_eq!(said(other), Said::Nothing);
        }
    }
}
