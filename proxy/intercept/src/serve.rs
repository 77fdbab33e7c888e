//! HTTP on the client's side of an intercepted connection.

use crate::{
    download::Download,
    forward::{Route, forward},
    patience::{Ended, HeadTimer, until_stopped},
    proxy::Shared,
};
use http::Response;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// How long a request head may take, idle time before it included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Most requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 256;
/// Most bytes of a request's headers on HTTP/2.
const HEADER_LIST: u32 = 64 << 10;

/// Which HTTP the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// Serves requests until the client is done, or we are asked to stop.
pub(crate) async fn serve<T>(route: Route, io: T, speaks: Speaks)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared: Arc<Shared> = route.shared.clone();
    let route = Arc::new(route);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let route = route.clone();
        async move { Ok::<Response<Download>, Infallible>(forward(&route, request).await) }
    });
    let mut stop = shared.stopping();
    let io = TokioIo::new(io);
    match speaks {
        Speaks::Http1 => {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(HeadTimer::default()).header_read_timeout(HEAD_TIMEOUT).half_close(true);
            let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
            if until_stopped(connection.as_mut(), &mut stop).await == Ended::Connection {
                return;
            }
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
        Speaks::Http2 => {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .adaptive_window(true)
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEADER_LIST)
                .keep_alive_interval(Some(Duration::from_secs(60)));
            let mut connection = pin!(builder.serve_connection(io, service));
            if until_stopped(connection.as_mut(), &mut stop).await == Ended::Connection {
                return;
            }
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
