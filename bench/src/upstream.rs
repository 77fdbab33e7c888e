//! The server every contender talks to: small JSON answers, a counting sink, a source, SSE.
//!
//! It reads each request body to its end before it answers, as a real MCP server does; a server
//! that answers early makes some proxies drop a kept-alive connection and skews the rates.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::{Request, Response};
use tokio::sync::mpsc;

type Answer = BoxBody<Bytes, Infallible>;

/// Events in one SSE answer.
pub const SSE_EVENTS: u64 = 20;
/// Pause between two SSE events: long enough that Nagle and delayed ACKs show, short enough to
/// keep a round under a second.
pub const SSE_PAUSE: Duration = Duration::from_millis(40);
/// Bytes in a large transfer, either way.
pub const LARGE_BYTES: u64 = 64 << 20;

const TOOL_RESULT: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"ok"}],"isError":false}}"#;
const CHUNK: usize = 64 << 10;

/// Microseconds since the epoch: one clock for upstream and load generator, which share a host.
#[must_use]
pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

/// Answers one request: `/upload`, `/download`, `/sse`, and a tool result for any other path.
///
/// # Errors
/// Never.
pub async fn answer(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/upload" => json(count(request.into_body()).await),
        "/download" => typed("application/octet-stream", Repeat::new(LARGE_BYTES).boxed()),
        "/sse" => {
            drain(request.into_body()).await;
            typed("text/event-stream", events().boxed())
        }
        _ => {
            drain(request.into_body()).await;
            json(TOOL_RESULT)
        }
    })
}

fn json(body: impl Into<Bytes>) -> Response<Answer> {
    typed("application/json", Full::new(body.into()).boxed())
}

fn typed(content_type: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

async fn drain(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

async fn count(mut body: Incoming) -> String {
    let (mut first_us, mut bytes) = (0, 0);
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            if bytes == 0 {
                first_us = now_us();
            }
            bytes += data.len();
        }
    }
    format!(r#"{{"first_us":{first_us},"bytes":{bytes}}}"#)
}

/// Each event carries the time it was sent, so that the reader can tell how long it travelled.
fn events() -> Receiver {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for i in 0..SSE_EVENTS {
            let event = format!(
                "event: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":1,\"progress\":{i},\"sent_us\":{}}}}}\n\n",
                now_us()
            );
            if sender.send(Bytes::from(event)).await.is_err() {
                return;
            }
            tokio::time::sleep(SSE_PAUSE).await;
        }
    });
    Receiver(receiver)
}

struct Receiver(mpsc::Receiver<Bytes>);

impl Body for Receiver {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|data| Ok(Frame::data(data))))
    }
}

/// The same chunk again and again until `left` bytes are out.
struct Repeat {
    chunk: Bytes,
    left: u64,
}

impl Repeat {
    fn new(bytes: u64) -> Self {
        Self { chunk: Bytes::from(vec![b'a'; CHUNK]), left: bytes }
    }
}

impl Body for Repeat {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK));
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(self.chunk.slice(..length)))))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.left)
    }
}
