//! Single large or slow exchanges: 64 MiB either way, a paused upload, a stream of events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Full};
use hyper::Method;
use hyper::body::{Body, Frame, SizeHint};

use super::connection::{Protocol, Route};
use crate::upstream::{LARGE_BYTES, SSE_EVENTS, now_us};

const CHUNK: usize = 64 << 10;
/// Of a paused upload: enough that a proxy which collects bodies is told from one which streams.
const PAUSED_BYTES: u64 = 1 << 20;
const PAUSE: Duration = Duration::from_millis(500);

/// How an upload is sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// 64 MiB as fast as it goes.
    Full,
    /// 1 MiB, with half a second of silence after the first 64 KiB.
    Paused,
}

/// What one large exchange measured.
#[derive(Debug)]
pub struct Transfer {
    /// Megabytes (10^6) per second over the whole exchange.
    pub mb_per_s: f64,
    /// From the start of the request to the first body byte at its receiver, milliseconds.
    pub first_byte_ms: f64,
}

/// Fetches 64 MiB.
///
/// # Errors
/// When the exchange breaks or bytes are missing.
pub async fn download(route: &Route) -> Result<Transfer> {
    let mut connection = route.open(Protocol::Http1).await?;
    let request = route.request(Protocol::Http1, Method::GET, "/download", Empty::new().boxed())?;
    let start = Instant::now();
    let response = connection.send(request).await?;
    ensure!(response.status().is_success(), "answered with {}", response.status());
    let mut body = response.into_body();
    let (mut bytes, mut first_byte_ms) = (0_u64, 0.0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if bytes == 0 {
                first_byte_ms = start.elapsed().as_secs_f64() * 1e3;
            }
            bytes += data.len() as u64;
        }
    }
    ensure!(bytes == LARGE_BYTES, "{bytes} of {LARGE_BYTES} bytes came back");
    Ok(Transfer { mb_per_s: megabytes_per_second(bytes, start), first_byte_ms })
}

/// Sends a large non-MCP body and asks the upstream what it saw.
///
/// # Errors
/// When the exchange breaks or bytes are missing.
pub async fn upload(route: &Route, pace: Pace) -> Result<Transfer> {
    let mut connection = route.open(Protocol::Http1).await?;
    let body = UploadBody::new(pace);
    let expected = body.left;
    let request = route.request(Protocol::Http1, Method::POST, "/upload", body.boxed())?;
    let (start, start_us) = (Instant::now(), now_us());
    let response = connection.send(request).await?;
    ensure!(response.status().is_success(), "answered with {}", response.status());
    let answer = response.into_body().collect().await?.to_bytes();
    let seen: serde_json::Value = serde_json::from_slice(&answer)?;
    let field = |name: &str| seen[name].as_u64().with_context(|| format!("no {name} in the answer"));
    let bytes = field("bytes")?;
    ensure!(bytes == expected, "{bytes} of {expected} bytes arrived");
    Ok(Transfer { mb_per_s: megabytes_per_second(bytes, start), first_byte_ms: field("first_us")?.saturating_sub(start_us) as f64 / 1e3 })
}

fn megabytes_per_second(bytes: u64, start: Instant) -> f64 {
    bytes as f64 / 1e6 / start.elapsed().as_secs_f64().max(f64::EPSILON)
}

/// A JSON document with one long string: scanned, but nothing that a rule would stop.
struct UploadBody {
    left: u64,
    opening: bool,
    chunk: Bytes,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

const OPENING: &[u8] = br#"{"document":""#;
const CLOSING: &[u8] = br#""}"#;

impl UploadBody {
    fn new(pace: Pace) -> Self {
        let (left, pause) = match pace {
            Pace::Full => (LARGE_BYTES, None),
            Pace::Paused => (PAUSED_BYTES, Some(Box::pin(tokio::time::sleep(PAUSE)))),
        };
        Self { left, opening: true, chunk: Bytes::from(vec![b'A'; CHUNK]), pause }
    }

    fn next_chunk(&mut self) -> Bytes {
        let last = self.left <= CHUNK as u64;
        if !self.opening && !last {
            return self.chunk.clone();
        }
        let mut edge = BytesMut::from(&self.chunk[..]);
        if self.opening {
            edge[..OPENING.len()].copy_from_slice(OPENING);
            self.opening = false;
        }
        if last {
            edge[CHUNK - CLOSING.len()..].copy_from_slice(CLOSING);
        }
        edge.freeze()
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if !self.opening
            && let Some(pause) = &mut self.pause
        {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        let chunk = self.next_chunk();
        self.left -= chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// How long server-sent events were on their way, milliseconds.
#[derive(Debug)]
pub struct Events {
    /// The first one: shows a response that is held back, or Nagle's algorithm.
    pub first_ms: f64,
    /// The median.
    pub p50_ms: f64,
}

/// Opens an event stream and times each event from the upstream's send to our receipt.
///
/// # Errors
/// When the stream breaks or events are missing.
pub async fn listen(route: &Route) -> Result<Events> {
    let mut connection = route.open(Protocol::Http1).await?;
    let ask = Full::from(&br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"watch","arguments":{}}}"#[..]);
    let request = route.request(Protocol::Http1, Method::POST, "/sse", ask.boxed())?;
    let response = connection.send(request).await?;
    ensure!(response.status().is_success(), "answered with {}", response.status());
    let mut body = response.into_body();
    let (mut pending, mut delays_ms) = (BytesMut::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let received = now_us();
        pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = memchr::memmem::find(&pending, b"\n\n") {
            let sent = sent_us(&pending[..end]).context("an event without its time")?;
            pending.advance(end + 2);
            delays_ms.push(received.saturating_sub(sent) as f64 / 1e3);
        }
    }
    ensure!(delays_ms.len() as u64 == SSE_EVENTS, "{} of {SSE_EVENTS} events came through", delays_ms.len());
    let first_ms = delays_ms[0];
    delays_ms.sort_by(f64::total_cmp);
    Ok(Events { first_ms, p50_ms: delays_ms[delays_ms.len() / 2] })
}

fn sent_us(event: &[u8]) -> Option<u64> {
    const KEY: &[u8] = br#""sent_us":"#;
    let from = memchr::memmem::find(event, KEY)? + KEY.len();
    let digits = event[from..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |sum: Option<u64>, digit| sum.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn an_upload_is_one_json_document_of_the_promised_length() {
        let body = UploadBody::new(Pace::Paused).collect().await.unwrap().to_bytes();
        assert_eq!(body.len() as u64, PAUSED_BYTES);
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(value["document"].is_string());
    }

    #[test]
    fn the_send_time_is_read_from_an_event() {
        assert_eq!(sent_us(br#"data: {"sent_us":1234}}"#), Some(1234));
        assert_eq!(sent_us(b"data: {}"), None);
    }
}
