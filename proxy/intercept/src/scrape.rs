//! The endpoint that Prometheus scrapes.

use crate::{download::Download, reply};
use gnomon_http::server::Plain;
use gnomon_record::Recorder;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use std::{sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// Scrapers are few, and none displaces another.
const SERVED: Plain = Plain {
    name: "metrics",
    connections: 32,
    head: Duration::from_secs(30),
    unread: Duration::from_secs(30),
    drain: Duration::from_secs(1),
};

/// Serves `GET /metrics` and `GET /healthz` until `shutdown`. When this returns nothing of it runs any more.
pub async fn serve_metrics(listener: TcpListener, recorder: Arc<Recorder>, shutdown: impl Future<Output = ()>) {
    SERVED.serve(listener, move |request| scrape(&recorder, request), shutdown).await;
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
