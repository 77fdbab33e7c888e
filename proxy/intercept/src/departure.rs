//! A client that says no more while its request is answered (HTTP/1.1).
//!
//! Its FIN may mean that it has gone, or that it has asked all it wanted and reads on: the two look alike, and servers differ in
//! what they do. So the client is served on, its call is not cancelled, and the server sees the same end ([`ClientEnd`]). A reset can
//! only mean that it has gone: the library reads it, and drops the request, which cancels it at the server.

use crate::{
    client_seats::ClientSeat,
    leaving::Activity,
    resets::{Resets, Severed},
};
use gnomon_http::{ClientEnd, server::until_stopped};
use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

/// How far the client of one connection is with what it has to say.
#[derive(Debug, Default)]
pub(crate) struct Departure {
    end: Arc<ClientEnd>,
    activity: Activity,
    /// The connection is no longer HTTP: its reader judges the end.
    left_http: AtomicBool,
    /// The connection is given up before what is sent on it is whole.
    cut_off: Arc<AtomicBool>,
    /// The first lines of the last bytes and of the last request, once the connection has ended.
    last: OnceLock<(Vec<u8>, Vec<u8>)>,
}

impl Departure {
    /// The connection is joined to the server's from now on.
    pub fn leaves_http(&self) {
        self.left_http.store(true, Ordering::Relaxed);
    }

    /// The connection ends in the middle: by a reset.
    pub fn is_cut_off(&self) {
        self.cut_off.store(true, Ordering::Release);
    }

    /// Whether the client has ended its side of the connection.
    pub fn has_ended(&self) -> bool {
        self.end.has_ended()
    }

    /// The first line of the client's last bytes, or as much of it as there was, up to 16 KiB. None while the connection is driven.
    pub fn last_line(&self) -> Option<&[u8]> {
        self.last.get().map(|(last, _)| last.as_slice())
    }

    /// The same of the last request, where something else came behind it: what that belongs to is not known of a head that is not read.
    pub fn request_line(&self) -> Option<&[u8]> {
        self.last.get().map(|(_, request)| request.as_slice())
    }

    /// The client's end, for what answers it.
    pub fn end(&self) -> Arc<ClientEnd> {
        self.end.clone()
    }
}

/// A scanner for the ends of a connection's requests (RFC 9112 section 6.3): an end in the middle of one is a request that broke off. The library
/// reads on as soon as it has a request, so the request's handler cannot tell.
#[derive(Debug, Default)]
struct Requests {
    at: At,
    /// The line in progress, as far as it matters.
    line: Vec<u8>,
    /// The first line of the request that began last, with its end.
    first: Vec<u8>,
    length: u64,
    chunked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Between requests, where empty lines count for nothing.
    #[default]
    Begin,
    Head,
    /// In a body, or a chunk and the end of its line, with so many bytes to come.
    Body(u64),
    Chunk(u64),
    ChunkSize,
    Trailers,
}

/// Most bytes of a line that matter: a header with a length, or the size of a chunk.
const LINE: usize = 64;
/// The longest first line that is kept, which may have to be reported.
const FIRST_LINE: usize = 16 << 10;

impl Requests {
    fn are_whole(&self) -> bool {
        self.at == At::Begin && self.line.is_empty()
    }

    fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match self.at {
                At::Body(left) | At::Chunk(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let left = left - taken as u64;
                    self.at = match self.at {
                        At::Body(_) if left == 0 => At::Begin,
                        At::Body(_) => At::Body(left),
                        _ if left == 0 => At::ChunkSize,
                        _ => At::Chunk(left),
                    };
                    taken
                }
                At::Begin | At::Head | At::ChunkSize | At::Trailers => {
                    let end = memchr::memchr(b'\n', bytes);
                    let part = &bytes[..end.unwrap_or(bytes.len())];
                    let most = if self.at == At::Begin { FIRST_LINE } else { LINE };
                    self.line.extend_from_slice(&part[..part.len().min(most - self.line.len())]);
                    if end.is_some() {
                        let begins = self.at == At::Begin;
                        self.line_over();
                        if begins && self.at == At::Head {
                            std::mem::swap(&mut self.first, &mut self.line);
                            self.first.push(b'\n');
                        }
                        self.line.clear();
                    }
                    end.map_or(bytes.len(), |end| end + 1)
                }
            };
            bytes = &bytes[taken..];
        }
    }

    /// The first line of the last bytes.
    fn last(&mut self) -> Vec<u8> {
        let begun = self.at == At::Begin && !self.line.trim_ascii().is_empty();
        std::mem::take(if begun { &mut self.line } else { &mut self.first })
    }

    fn line_over(&mut self) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let value =
            |name: &[u8]| line.split_at_checked(name.len()).filter(|(begin, _)| begin.eq_ignore_ascii_case(name)).map(|(_, rest)| rest);
        match (self.at, line.is_empty()) {
            (At::Begin, true) => {}
            (At::Begin, false) => (self.at, self.length, self.chunked) = (At::Head, 0, false),
            (At::Head, false) => {
                if let Some(length) = value(b"content-length:") {
                    self.length = std::str::from_utf8(length).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
                } else if value(b"transfer-encoding:").is_some() {
                    // The library takes no other than `chunked`.
                    self.chunked = true;
                }
            }
            (At::Head, true) if self.chunked => self.at = At::ChunkSize,
            (At::Head, true) => self.at = if self.length == 0 { At::Begin } else { At::Body(self.length) },
            (At::ChunkSize, _) => {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let size = std::str::from_utf8(&line[..digits]).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
                self.at = if size == 0 { At::Trailers } else { At::Chunk(size.saturating_add(2)) };
            }
            (At::Trailers, true) => self.at = At::Begin,
            (At::Trailers, false) | (At::Body(_) | At::Chunk(_), _) => {}
        }
    }
}

/// Cuts a client's connection off, unless it was said to be over. To be dropped before the connection.
pub(crate) struct UntilOver {
    departure: Arc<Departure>,
    over: bool,
}

impl UntilOver {
    pub fn new(departure: Arc<Departure>) -> Self {
        Self { departure, over: false }
    }

    pub fn ends(mut self) {
        self.over = true;
    }
}

impl Drop for UntilOver {
    fn drop(&mut self) {
        if !self.over {
            self.departure.is_cut_off();
        }
    }
}

/// A client's connection whose end is noted, without ending the answers that it still gets.
pub(crate) struct Noted<T: Resets> {
    inner: Severed<T>,
    departure: Arc<Departure>,
    requests: Tells,
}

/// A scanner for the ends of requests, which reports the last bytes at its own end.
struct Tells {
    requests: Requests,
    to: Arc<Departure>,
}

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.to.last.set((self.requests.last(), std::mem::take(&mut self.requests.first)));
    }
}

impl<T: Resets> Noted<T> {
    pub fn new(inner: T, departure: Arc<Departure>) -> Self {
        let inner = Severed::new(inner, departure.cut_off.clone());
        let requests = Tells { requests: Requests::default(), to: departure.clone() };
        Self { inner, departure, requests }
    }

    pub fn into_inner(self) -> Option<T> {
        self.inner.into_inner()
    }
}

impl<T: AsyncRead + Resets + Unpin> AsyncRead for Noted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let joined = self.departure.left_http.load(Ordering::Relaxed);
        if self.departure.has_ended() {
            return if joined { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let before = buf.filled().len();
        let read = self.inner.io()?.poll_read(cx, buf);
        let ended = match &read {
            Poll::Ready(Ok(())) => buf.filled().len() == before && buf.remaining() > 0,
            // TLS without a goodbye.
            Poll::Ready(Err(error)) => error.kind() == io::ErrorKind::UnexpectedEof,
            Poll::Pending => false,
        };
        if ended && !joined && self.requests.requests.are_whole() {
            self.departure.end.ends();
            self.departure.activity.ends();
            return Poll::Pending;
        }
        if matches!(read, Poll::Ready(Ok(()))) && !joined {
            self.requests.requests.look(&buf.filled()[before..]);
        }
        read
    }
}

impl<T: AsyncWrite + Resets + Unpin> AsyncWrite for Noted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.departure.activity.moves();
        self.inner.io()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.departure.activity.moves();
        self.inner.io()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.get_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.io()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.io()?.poll_shutdown(cx)
    }
}

/// Drives a connection until it ends. `finish` is called once, when the client has ended its side: nothing new comes from it, so
/// the connection ends with the requests in progress.
async fn driven<C: Future>(mut connection: Pin<&mut C>, departure: &Departure, finish: impl FnOnce(Pin<&mut C>)) -> C::Output {
    let mut finish = Some(finish);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(over) = connection.as_mut().poll(cx) {
            return Poll::Ready(over);
        }
        if departure.has_ended()
            && let Some(finish) = finish.take()
        {
            finish(connection.as_mut());
            return connection.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

/// The same, and `finish` is called too once the proxy is to stop, or others need the seat of a connection that says nothing. None: it
/// gave that up, or its client has ended its side and nothing comes for it ([`Activity::is_over`]).
pub(crate) async fn served<C: Future>(
    mut connection: Pin<&mut C>,
    departure: &Departure,
    (stop, seat): (&mut watch::Receiver<bool>, &ClientSeat),
    finish: impl Fn(Pin<&mut C>),
) -> Option<C::Output> {
    let mut left = pin!(departure.activity.is_over(seat));
    let mut over = None;
    let needed = {
        let until = pin!(async { over = Some(driven(connection.as_mut(), departure, &finish).await) });
        tokio::select! {
            biased;
            _ = until_stopped(until, stop) => false,
            // First, as it is needed by then.
            () = left.as_mut() => return None,
            () = seat.is_needed() => true,
        }
    };
    if over.is_some() {
        return over;
    }
    finish(connection.as_mut());
    let rest = pin!(driven(connection, departure, |_| {}));
    let rest = async { if needed { seat.seated().gives_up(rest).await } else { Some(rest.await) } };
    tokio::select! {
        over = rest => over,
        () = left => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_what_came_last_is_known_whole_or_not() {
        for (said, last) in [
            (&b""[..], &b""[..]),
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"GET / HTTP/1.1\r\n"),
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n\r\nSSH-2.0-x\r\n", b"SSH-2.0-x\r\n"),
            (b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc\x16\x03\x01", b"\x16\x03\x01"),
        ] {
            for at in 0..=said.len() {
                let mut requests = Requests::default();
                requests.look(&said[..at]);
                requests.look(&said[at..]);
                assert_eq!(requests.last(), last, "{at}");
            }
        }
        let mut requests = Requests::default();
        requests.look(&vec![b'x'; 2 * FIRST_LINE]);
        assert_eq!(requests.last().len(), FIRST_LINE);
    }

    #[test]
    fn a_request_is_whole_with_its_last_byte_and_not_before_however_it_is_cut() {
        for request in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\n\n\n\n",
            "POST / HTTP/1.1\nx: y\nTransfer-Encoding: chunked\n\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nt: u\r\n\r\n",
        ] {
            let request = request.as_bytes();
            for at in 0..request.len() {
                let mut requests = Requests::default();
                requests.look(&request[..at]);
                assert_eq!(requests.are_whole(), at == 0, "{at}");
                requests.look(&request[at..]);
                assert!(requests.are_whole());
            }
            let mut requests = Requests::default();
            request.iter().chain(b"\r\n").chain(request).for_each(|byte| requests.look(&[*byte]));
            assert!(requests.are_whole(), "two in a row, with an empty line between them");
        }
    }
}
