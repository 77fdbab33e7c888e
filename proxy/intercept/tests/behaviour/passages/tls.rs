//! TLS that cannot be read, and protocols other than HTTP inside TLS.

use super::*;
use gnomon_stage::{
    authority::{Authority, trusting},
    client::{H1, handshake},
    request::h1_post,
};
use rustls::pki_types::ServerName;
use serde_json::json;
use std::{
    io::Write as _,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first flight of a client that connects to this name.
fn hello(name: &str) -> Vec<u8> {
    let authority = Authority::new("nobody");
    let config = trusting(authority.certificate(), &[]);
    let mut client = rustls::ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same bytes with one text replaced by another of the same length.
fn renamed(name: &str, other: &str) -> Vec<u8> {
    let mut bytes = hello(name);
    let at = bytes.windows(name.len()).position(|part| part == name.as_bytes()).unwrap();
    (&mut bytes[at..]).write_all(other.as_bytes()).unwrap();
    bytes
}

pub(super) fn unreadable() -> Vec<(Vec<u8>, Passage)> {
    // A first record whose handshake message claims more than 64 KiB.
    let mut long = vec![22, 3, 1, 0x40, 0, 1, 1, 0, 1];
    long.resize(5 + 0x4000, 0);
    let mut torn = hello("a.b.example");
    // A record of another type in the middle of the message.
    torn.truncate(60);
    let rest = torn.split_off(40);
    torn[3..5].copy_from_slice(&35_u16.to_be_bytes());
    torn.extend_from_slice(&[23, 3, 3, 0, 15]);
    torn.extend_from_slice(&rest[..15]);
    // What some servers take all the same: Go's a record of any version below 16.0, Java's any from 3.0 on.
    let of_version = |major| {
        let mut bytes = hello("a.b.example");
        bytes[1] = major;
        bytes
    };
    // SSL 2.0's format, with which OpenSSL goes on in TLS.
    let mut ssl2 = vec![0x80, 46, 1, 3, 3, 0, 21, 0, 0, 0, 16];
    ssl2.resize(48, 7);
    let behind_an_alert = [&[21, 3, 1, 0, 2, 1, 90], hello("a.b.example").as_slice()].concat();
    vec![
        (of_version(2), Passage::HelloUnreadable),
        (of_version(15), Passage::HelloUnreadable),
        (ssl2, Passage::HelloUnreadable),
        (behind_an_alert, Passage::HelloUnreadable),
        (renamed("a.b.example", "*.b.example"), Passage::ServerNameInvalid),
        (renamed("a.b.example", "a..b.exampl"), Passage::ServerNameInvalid),
        (renamed("a.b.example", "a b.example"), Passage::ServerNameInvalid),
        (long, Passage::HelloTooLong),
        (torn, Passage::HelloUnreadable),
    ]
}

/// Whatever name the client gives the proxy: the name by which the server decides is inside the bytes that cannot be read.
#[tokio::test]
async fn what_cannot_be_read_goes_round_no_rule_for_a_host_by_another_name_of_it() {
    let odd = [(request("POST /mcp HTTP/1.2\r\n"), Passage::RequestLineOdd)];
    for (bytes, passage) in unreadable().into_iter().chain(odd) {
        let server = Lenient::start().await;
        let rules = [block(1, &format!("server.address: {HOST}"))];
        let setup = Gnomon::with().rules(rules).resolve_port("another.example", server.address);
        let gnomon = setup.start().await;
        let mut stream = tunnel(gnomon.address, &format!("another.example:{}", server.address.port())).await;
        let _ = stream.write_all(&bytes).await;
        let mut rest = Vec::new();
        let _ = soon("an end", stream.read_to_end(&mut rest)).await;
        let events = gnomon.events_until(1).await;
        assert_eq!((events[0]["gnomon.action"].as_str(), told(&events, passage).len()), (Some("block"), 1), "{events:#?}");
        assert_eq!(events[0]["server.address"], "another.example", "as it was asked for: {events:#?}");
        assert!(server.got().is_empty(), "{passage:?} arrived");
    }
}

#[tokio::test]
async fn a_name_that_no_certificate_can_be_for_is_told_and_refused_where_a_rule_could_match() {
    for name in ["-a.b.exampl", "a-.b.exampl", "a.b.examp.1"] {
        for rules in [vec![block(1, CALLS)], Vec::new()] {
            let (server, bytes, is_refused) = (Lenient::start().await, renamed("a.b.example", name), !rules.is_empty());
            let (gnomon, mut stream) = reach(Gnomon::with().rules(rules), ROADS[0], server.address).await;
            stream.write_all(&bytes).await.unwrap();
            if is_refused {
                let mut answer = [0; 7];
                let alert = soon("an alert", stream.read_exact(&mut answer)).await;
                assert!(alert.is_err() || answer == [21, 3, 3, 0, 2, 2, 49], "{name}: {answer:?}");
                assert!(server.got().is_empty(), "{name} arrived");
            } else {
                soon("the hello", async {
                    while server.got().len() < bytes.len() {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                })
                .await;
            }
            let events = gnomon.events_until(1).await;
            assert_eq!(told(&events, Passage::ServerNameInvalid).len(), 1, "{name}: {events:#?}");
        }
    }
}

#[tokio::test]
async fn a_hello_that_cannot_be_read_reaches_no_server_where_a_rule_could_match() {
    for road in ROADS {
        for (bytes, passage) in unreadable() {
            let server = Lenient::start().await;
            let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
            let _ = stream.write_all(&bytes).await;
            let mut answer = [0; 7];
            let alert = soon("an alert", stream.read_exact(&mut answer)).await;
            // Closing with unread bytes may turn the alert into a reset.
            assert!(alert.is_err() || answer == [21, 3, 3, 0, 2, 2, 49], "{passage:?}: {answer:?}");
            let events = gnomon.events_until(1).await;
            assert_eq!(told(&events, passage).len(), 1, "{road:?}: {events:#?}");
            assert!(server.got().is_empty(), "{road:?}: {passage:?} arrived");

            // Where no rule could match, it passes.
            let (gnomon, mut stream) = reach(Gnomon::with(), road, server.address).await;
            stream.write_all(&bytes).await.unwrap();
            soon("the hello", async {
                while server.got().len() < bytes.len() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
            assert_eq!((server.got() == bytes, passed(&gnomon, passage)), (true, 1));
            assert_eq!(told(&gnomon.events_until(1).await, passage).len(), 1);
        }
    }
}

#[tokio::test]
async fn an_application_protocol_that_the_server_did_not_choose_hides_nothing() {
    for road in ROADS {
        for alpn in [&["x"][..], &["h3"], &["http/1.0", "x"]] {
            let authority = Authority::new("theirs");
            let server = Lenient::with_tls(&authority, HOST, &[], b"").await;
            let setup = Gnomon::with().rules([block(1, CALLS)]).trust(authority.pem_file()).resolve_port(HOST, server.address);
            let (gnomon, stream) = reach(setup, road, server.address).await;
            let mut client = H1::over(handshake(stream, &gnomon.root, HOST, alpn).await.unwrap());
            let answer = client.send(&[h1_post("/mcp", call(1, "any_tool").to_string().as_bytes())]).await;
            assert_eq!(answer.json()["result"]["isError"], json!(true), "{road:?} {alpn:?}: {answer:?}");
            assert_eq!(server.calls(), 0);
        }
    }
}

#[tokio::test]
async fn http_is_read_by_whichever_of_its_names_the_server_chooses_it() {
    for road in ROADS {
        for alpn in ["http/1.0", "http/0.9"] {
            let authority = Authority::new("theirs");
            let server = Lenient::with_tls(&authority, HOST, &[alpn], b"").await;
            let setup = Gnomon::with().rules([block(1, CALLS)]).trust(authority.pem_file()).resolve_port(HOST, server.address);
            let (gnomon, stream) = reach(setup, road, server.address).await;
            let mut client = H1::over(handshake(stream, &gnomon.root, HOST, &[alpn]).await.unwrap());
            let answer = client.send(&[h1_post("/mcp", call(1, "any_tool").to_string().as_bytes())]).await;
            assert_eq!(answer.json()["result"]["isError"], json!(true), "{road:?} {alpn}: {answer:?}");
            assert_eq!((server.calls(), passed(&gnomon, Passage::ForeignAlpn)), (0, 0));
        }
    }
}

#[tokio::test]
async fn a_protocol_that_the_server_chose_passes_and_a_rule_on_the_host_holds() {
    for road in ROADS {
        let authority = Authority::new("theirs");
        let server = Lenient::with_tls(&authority, HOST, &["postgresql"], b"").await;
        for (rule, passes) in [(CALLS, true), (&format!("server.address: {HOST}"), false)] {
            // gnomon does not trust the authority of this server, as with servers of other organisations.
            let setup = Gnomon::with().rules([block(1, rule)]).resolve_port(HOST, server.address);
            let (gnomon, stream) = reach(setup, road, server.address).await;
            let before = server.got().len();
            let tls = handshake(stream, authority.certificate(), HOST, &["postgresql"]).await;
            assert_eq!(tls.is_ok(), passes, "{road:?}: {rule}");
            if let Ok(mut tls) = tls {
                tls.write_all(b"\0\0\0\x08\0\x03\0\0").await.unwrap();
                tls.flush().await.unwrap();
                soon("the startup message", async {
                    while server.got().len() < before + 8 {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                })
                .await;
            }
            assert_eq!(passed(&gnomon, Passage::ForeignAlpn), u64::from(passes));
        }
    }
}

#[tokio::test]
async fn a_protocol_that_is_no_http_has_one_reason_whether_the_server_chooses_it_or_none() {
    for road in ROADS {
        let authority = Authority::new("theirs");
        let server = Lenient::with_tls(&authority, HOST, &[], b"").await;
        let setup = Gnomon::with().rules([block(1, CALLS)]).trust(authority.pem_file()).resolve_port(HOST, server.address);
        let (gnomon, stream) = reach(setup, road, server.address).await;
        let mut tls = handshake(stream, &gnomon.root, HOST, &["postgresql"]).await.unwrap();
        let said = b"\0\0\0\x08\0\x03\0\0";
        tls.write_all(said).await.unwrap();
        tls.flush().await.unwrap();
        soon("the startup message", async {
            while server.got() != said {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        assert_eq!((passed(&gnomon, Passage::ForeignAlpn), passed(&gnomon, Passage::ForeignInTls)), (1, 0), "{road:?}");
    }
}

#[tokio::test]
async fn a_protocol_other_than_http_inside_tls_passes_both_ways() {
    // Client first as in LDAPS, and server first as in IMAPS.
    for road in ROADS {
        for greeting in [&b""[..], b"* OK IMAP4rev1 ready\r\n"] {
            let authority = Authority::new("theirs");
            let server = Lenient::with_tls(&authority, HOST, &[], greeting).await;
            let setup = Gnomon::with().rules([block(1, CALLS)]).trust(authority.pem_file()).resolve_port(HOST, server.address);
            let (gnomon, stream) = reach(setup, road, server.address).await;
            let mut tls = handshake(stream, &gnomon.root, HOST, &[]).await.unwrap();
            let mut heard = vec![0; greeting.len()];
            soon("the greeting", tls.read_exact(&mut heard)).await.unwrap();
            assert_eq!(heard, greeting);
            let said = b"0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0";
            tls.write_all(said).await.unwrap();
            tls.flush().await.unwrap();
            soon("what the client says", async {
                while server.got() != said {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
            let passage = if greeting.is_empty() { Passage::ForeignInTls } else { Passage::ServerFirst };
            assert_eq!(passed(&gnomon, passage), 1);
        }
    }
}

#[tokio::test]
async fn an_odd_request_line_within_tls_runs_no_tool() {
    for road in ROADS {
        let authority = Authority::new("theirs");
        let server = Lenient::with_tls(&authority, HOST, &[], b"").await;
        let setup = Gnomon::with().rules([block(1, CALLS)]).trust(authority.pem_file()).resolve_port(HOST, server.address);
        let (gnomon, stream) = reach(setup, road, server.address).await;
        let mut client = H1::over(handshake(stream, &gnomon.root, HOST, &[]).await.unwrap());
        let answer = client.send(&[request("POST /mcp HTTP/1.2\r\n")]).await;
        assert_eq!((answer.status, server.calls(), server.connections()), (403, 0, u64::from(road == Road::Redirected)));
        assert_eq!(told(&gnomon.events_until(1).await, Passage::RequestLineOdd).len(), 1);
    }
}

/// A client's connection that names another minor version in its first record.
struct OfVersion<S> {
    inner: S,
    minor: u8,
    written: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for OfVersion<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for OfVersion<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut bytes = buf.to_vec();
        if let Some(byte) = 2_usize.checked_sub(self.written).and_then(|at| bytes.get_mut(at)) {
            *byte = self.minor;
        }
        let wrote = Pin::new(&mut self.inner).poll_write(cx, &bytes);
        if let Poll::Ready(Ok(length)) = wrote {
            self.written += length;
        }
        wrote
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Receivers ignore the version that a record names (RFC 8446 section 5.1): the server behind does, and so do we.
#[tokio::test]
async fn tls_is_read_whatever_version_its_first_record_names() {
    let authority = Authority::new("theirs");
    let server = Lenient::with_tls(&authority, HOST, &["http/1.1"], b"").await;
    let as_version = |inner, minor| OfVersion { inner, minor, written: 0 };
    let request = h1_post("/mcp", call(1, "any_tool").to_string().as_bytes());
    for minor in [0, 4, 5, 9, 0x7f, 0xff] {
        // Directly it runs.
        let before = server.calls();
        let stream = as_version(TcpStream::connect(server.address).await.unwrap(), minor);
        let mut client = H1::over(handshake(stream, authority.certificate(), HOST, &["http/1.1"]).await.unwrap());
        client.send(std::slice::from_ref(&request)).await;
        assert_eq!(server.calls(), before + 1, "{minor}");
        for road in ROADS {
            let setup = Gnomon::with().rules([block(1, CALLS)]).trust(authority.pem_file()).resolve_port(HOST, server.address);
            let (gnomon, stream) = reach(setup, road, server.address).await;
            let stream = handshake(as_version(stream, minor), &gnomon.root, HOST, &["http/1.1"]).await.unwrap();
            let answer = H1::over(stream).send(std::slice::from_ref(&request)).await;
            assert_eq!(answer.json()["result"]["isError"], json!(true), "{road:?}, {minor}: {answer:?}");
            assert_eq!((server.calls(), passed(&gnomon, Passage::Foreign)), (before + 1, 0), "{road:?}, {minor}");
        }
    }
}

#[tokio::test]
async fn tls_within_tls_is_a_hello_that_is_not_read_also_where_it_comes_in_pieces() {
    for road in ROADS {
        for pieces in [1, 2] {
            let authority = Authority::new("theirs");
            let server = Lenient::with_tls(&authority, HOST, &[], b"").await;
            let setup = Gnomon::with().rules([block(1, CALLS)]).trust(authority.pem_file()).resolve_port(HOST, server.address);
            let (gnomon, stream) = reach(setup, road, server.address).await;
            let mut tls = handshake(stream, &gnomon.root, HOST, &[]).await.unwrap();
            let inner = hello("a.b.example");
            let (first, rest) = inner.split_at(if pieces == 1 { inner.len() } else { 1 });
            tls.write_all(first).await.unwrap();
            tls.flush().await.unwrap();
            if pieces == 2 {
                // Longer than a beginning is waited for.
                tokio::time::sleep(Duration::from_millis(1_500)).await;
            }
            let _ = tls.write_all(rest).await;
            let _ = tls.flush().await;
            let mut end = Vec::new();
            let _ = soon("an end", tls.read_to_end(&mut end)).await;
            assert_eq!(told(&gnomon.events_until(1).await, Passage::HelloUnreadable).len(), 1, "{road:?}");
            assert!(server.got().len() <= 1, "{road:?}: {:?}", server.got());
        }
    }
}
