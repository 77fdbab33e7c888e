//! A blocked message must never look complete to the upstream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gnomon_http::{AbortBody, Alpn, SendError};
use http::Request;
use http_body::{Body, Frame};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::support::{NAME, UpstreamCa, dest, pools, serve};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body whose pieces the test sends.
struct Fed(mpsc::Receiver<Result<Bytes, BoxError>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|item| item.map(|data| data.map(Frame::data)))
    }
}

fn fed() -> (mpsc::Sender<Result<Bytes, BoxError>>, Request<Fed>) {
    let (feed, body) = mpsc::channel(4);
    (feed, Request::post("/mcp").body(Fed(body)).unwrap())
}

/// Sends a part, waits until the upstream has received it, then ends the body with `error`.
async fn end_with(alpn: Alpn, error: BoxError) -> (SendError, Seen) {
    let ca = UpstreamCa::new();
    let (report, mut seen) = mpsc::channel(16);
    let address = serve(ca.server(NAME, &[alpn]), move |tls| {
        let report = report.clone();
        async move {
            match alpn {
                Alpn::H2 => h2_upstream(tls, report).await,
                _ => h1_upstream(tls, report).await,
            }
        }
    })
    .await;
    let pools = pools(ca.trusted(), address);
    let (feed, request) = fed();
    let sending = tokio::spawn(async move {
        let result = pools.send(&dest(alpn), request).await;
        (result, pools)
    });
    feed.send(Ok(Bytes::from_static(b"{\"part"))).await.unwrap();
    let Some(Seen::Part) = seen.recv().await else { panic!("the part never arrived") };
    feed.send(Err(error)).await.unwrap();
    let end = seen.recv().await.unwrap();
    let (result, _pools) = sending.await.unwrap();
    (result.unwrap_err(), end)
}

#[derive(Debug, PartialEq)]
enum Seen {
    Part,
    ClosedAfter { terminator: Terminator },
    Reset(h2::Reason),
    CleanEnd,
}

#[derive(Debug, PartialEq)]
enum Terminator {
    Absent,
    Present,
}

async fn h1_upstream(mut tls: impl tokio::io::AsyncRead + Unpin, report: mpsc::Sender<Seen>) {
    let mut all = Vec::new();
    let mut told = false;
    loop {
        let n = tls.read_buf(&mut all).await.unwrap_or(0);
        if !told && all.windows(6).any(|w| w == b"{\"part") {
            told = true;
            report.send(Seen::Part).await.unwrap();
        }
        if n == 0 {
            let terminator = if all.ends_with(b"0\r\n\r\n") { Terminator::Present } else { Terminator::Absent };
            let _ = report.send(Seen::ClosedAfter { terminator }).await;
            return;
        }
    }
}

async fn h2_upstream<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static>(tls: T, report: mpsc::Sender<Seen>) {
    let mut connection = h2::server::handshake(tls).await.unwrap();
    let (request, _respond) = connection.accept().await.unwrap().unwrap();
    tokio::spawn(async move { while connection.accept().await.is_some() {} });
    let mut body = request.into_body();
    assert_eq!(body.data().await.unwrap().unwrap().as_ref(), b"{\"part");
    report.send(Seen::Part).await.unwrap();
    let end = match body.data().await {
        Some(Err(e)) => Seen::Reset(e.reason().unwrap()),
        _ => Seen::CleanEnd,
    };
    let _ = report.send(end).await;
}

#[tokio::test]
async fn an_abort_over_http1_closes_without_the_terminating_chunk() {
    let (error, seen) = end_with(Alpn::Http11, Box::new(AbortBody::new())).await;
    assert_eq!(seen, Seen::ClosedAfter { terminator: Terminator::Absent });
    assert_eq!(error, SendError::Aborted);
}

#[tokio::test]
async fn an_abort_over_http2_resets_the_stream_with_cancel() {
    let (error, seen) = end_with(Alpn::H2, Box::new(AbortBody::new())).await;
    assert_eq!(seen, Seen::Reset(h2::Reason::CANCEL));
    assert_eq!(error, SendError::Aborted);
}

#[tokio::test]
async fn a_body_that_fails_for_another_reason_is_no_abort_and_no_clean_end_either() {
    let (error, seen) = end_with(Alpn::Http11, "the client went away".into()).await;
    assert_eq!(seen, Seen::ClosedAfter { terminator: Terminator::Absent });
    assert_eq!(error, SendError::RequestBody);
    let (error, seen) = end_with(Alpn::H2, "the client went away".into()).await;
    assert!(matches!(seen, Seen::Reset(_)), "{seen:?}");
    assert_eq!(error, SendError::RequestBody);
}
