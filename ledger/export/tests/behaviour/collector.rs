//! A collector that can be told to misbehave.
// It trusts the exporter of its own test.
#![allow(clippy::disallowed_methods)]

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
    common::v1::any_value::Value,
    logs::v1::LogRecord,
};
use prost::Message;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What the collector does with a request.
pub enum Answer {
    Accept,
    /// Takes it and says that it rejected so many.
    Partly(i64),
    /// A status, with `Retry-After` in seconds where it is not 0.
    Status(u16, u64),
    /// Takes it and closes the connection without an answer.
    Cut,
    /// Takes it and answers with a page for people.
    Page,
    /// Never answers.
    Silence,
}

/// What arrived.
#[derive(Default)]
pub struct Seen {
    /// How many requests.
    pub requests: usize,
    /// The values of `Authorization`.
    pub authorization: Vec<Option<String>>,
    /// All records of requests that were taken, in order.
    pub records: Vec<LogRecord>,
    /// The last request as it came.
    pub last: Bytes,
}

impl Seen {
    /// The values of a text attribute, in order.
    pub fn texts(&self, key: &str) -> Vec<String> {
        self.records.iter().filter_map(|record| text(record, key)).collect()
    }
}

pub fn text(record: &LogRecord, key: &str) -> Option<String> {
    let value = record.attributes.iter().find(|pair| pair.key == key)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

type Behaviour = dyn Fn(usize, &ExportLogsServiceRequest) -> Answer + Send + Sync;

/// A collector on loopback, until dropped.
pub struct Collector {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
    _serving: JoinSet<()>,
}

impl Collector {
    /// Starts it. `behaviour` is asked with the number of the request, from 0.
    pub async fn start(behaviour: impl Fn(usize, &ExportLogsServiceRequest) -> Answer + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), None, Arc::new(behaviour))
    }

    pub async fn with_tls(acceptor: TlsAcceptor) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), Some(acceptor), Arc::new(|_, _| Answer::Accept))
    }

    fn on(listener: TcpListener, tls: Option<TlsAcceptor>, behaviour: Arc<Behaviour>) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut serving = JoinSet::new();
        let shared = seen.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (seen, behaviour, tls) = (shared.clone(), behaviour.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(tcp, seen, behaviour).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                serve(stream, seen, behaviour).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, _serving: serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send, seen: Arc<Mutex<Seen>>, behaviour: Arc<Behaviour>) {
    let service = service_fn(move |request| take(request, seen.clone(), behaviour.clone()));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn take(request: Request<Incoming>, seen: Arc<Mutex<Seen>>, behaviour: Arc<Behaviour>) -> io::Result<Response<Full<Bytes>>> {
    assert_eq!((request.uri().path(), request.headers()["content-type"].to_str().unwrap()), ("/v1/logs", "application/x-protobuf"));
    let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let batch = ExportLogsServiceRequest::decode(body.clone()).unwrap();
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.requests += 1;
        seen.authorization.push(authorization);
        seen.last = body;
        seen.requests - 1
    };
    let records = || batch.resource_logs.iter().flat_map(|logs| &logs.scope_logs).flat_map(|logs| &logs.log_records).cloned();
    let keep = || seen.lock().unwrap().records.extend(records());
    let mut answer = ExportLogsServiceResponse::default();
    match behaviour(number, &batch) {
        Answer::Accept => keep(),
        Answer::Partly(rejected) => {
            keep();
            answer.partial_success = Some(ExportLogsPartialSuccess { rejected_log_records: rejected, error_message: "too old".to_owned() });
        }
        Answer::Status(status, after) => {
            let mut response = Response::new(Full::from("no"));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if after > 0 {
                response.headers_mut().insert("retry-after", after.into());
            }
            return Ok(response);
        }
        Answer::Cut => {
            keep();
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Answer::Page => return Ok(Response::new(Full::from("<html>Sign in</html>"))),
        Answer::Silence => std::future::pending().await,
    }
    Ok(Response::new(Full::from(answer.encode_to_vec())))
}
