//! The endpoint that Prometheus scrapes.

use crate::{download::Download, reply};
use gnomon_record::Recorder;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// Most scrapers at a time.
const SCRAPERS: usize = 32;

/// Serves `GET /metrics` and `GET /healthz` until `shutdown`.
pub async fn serve_metrics(listener: TcpListener, recorder: Arc<Recorder>, shutdown: impl Future<Output = ()>) {
    let mut shutdown = std::pin::pin!(shutdown);
    let room = Arc::new(Semaphore::new(SCRAPERS));
    let mut tasks = JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        while tasks.try_join_next().is_some() {}
        let recorder = recorder.clone();
        tasks.spawn(async move {
            let service = service_fn(move |request| {
                let answer = scrape(&recorder, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

fn scrape(recorder: &Recorder, request: &Request<Incoming>) -> Response<Download> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let text = recorder.metrics().render(&recorder.ledger().counts());
            let mut response = reply::text(StatusCode::OK, text);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
            response
        }
        (&Method::GET | &Method::HEAD, "/healthz") => reply::text(StatusCode::OK, "ok\n"),
        _ => reply::text(StatusCode::NOT_FOUND, "try /metrics or /healthz\n"),
    }
}
