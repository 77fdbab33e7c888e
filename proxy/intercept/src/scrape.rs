//! The endpoint that Prometheus scrapes.

use crate::{download::Download, reply};
use bytes::Bytes;
use gnomon_http::server::Plain;
use gnomon_record::Recorder;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// Scrapers are few, and none displaces another.
const SERVED: Plain = Plain {
    name: "metrics",
    connections: 32,
    head: Duration::from_secs(30),
    unread: Duration::from_secs(30),
    drain: Duration::from_secs(1),
    turned_away: None,
};

/// One in so many moments may be spent on rendering, however many ask: what was rendered last is given for so many times as long as that
/// took. A scraper never gets what is older than some milliseconds by that.
const SPENT: u32 = 20;

/// The metrics as text.
struct Rendered {
    recorder: Arc<Recorder>,
    last: Mutex<Option<Last>>,
}

/// What was rendered last, and until when it is given.
struct Last {
    text: Bytes,
    until: Instant,
}

impl Rendered {
    fn text(&self) -> Bytes {
        let mut last = self.last.lock();
        let began = Instant::now();
        if let Some(last) = last.as_ref().filter(|last| began < last.until) {
            return last.text.clone();
        }
        let text = Bytes::from(self.recorder.metrics().render(&self.recorder.ledger().counts()));
        let ended = Instant::now();
        *last = Some(Last { text: text.clone(), until: ended + (ended - began) * SPENT });
        text
    }
}

/// Serves `GET /metrics` and `GET /healthz` until `shutdown`. When this returns nothing of it runs any more.
pub async fn serve_metrics(listener: TcpListener, recorder: Arc<Recorder>, shutdown: impl Future<Output = ()>) {
    let turned_away = Some(recorder.metrics().turned_away());
    let rendered = Arc::new(Rendered { recorder, last: Mutex::default() });
    Plain { turned_away, ..SERVED }.serve(listener, move |request| scrape(&rendered, request), shutdown).await;
}

fn scrape(rendered: &Rendered, request: &Request<Incoming>) -> Response<Download> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let mut response = Response::new(Download::full(rendered.text()));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
            response
        }
        (&Method::GET | &Method::HEAD, "/healthz") => reply::text(StatusCode::OK, "ok\n"),
        _ => reply::text(StatusCode::NOT_FOUND, "try /metrics or /healthz\n"),
    }
}
