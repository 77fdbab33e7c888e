//! Servers that ask questions, report progress and have calls cancelled, in each of the ways the protocol has. As with the official SDKs, a
//! message on a stream that nobody has opened is lost.

use crate::extended::TASKS;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

/// Where a server sends its messages about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// On the call's own event stream.
    InAnswer,
    /// On the session's stream; the call is answered with an event stream of its own.
    OnStream,
    /// On the session's stream; the call is answered with a JSON document.
    BesideDocument,
    /// On the single stream of 2024-11-05.
    Sse,
    /// In the result, as in the stateless era.
    InResult,
}

/// The resource that a server has, and the task that its calls begin.
pub const DOCUMENT: &str = "doc://one";
const TASK: &str = "t-1";
const MADE: &str = "2026-01-01T00:00:00Z";

type Body = BoxBody<Bytes, Infallible>;
type Events = mpsc::UnboundedSender<String>;

struct Inner {
    name: &'static str,
    says: Says,
    asked: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    streams: Mutex<HashMap<String, Events>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
    cancelled: watch::Sender<usize>,
    calls: watch::Sender<usize>,
    next: AtomicU64,
}

/// A running server.
pub struct Asking {
    address: SocketAddr,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Asking {
    pub async fn start(name: &'static str, says: Says) -> Self {
        let inner = Arc::new(Inner {
            name,
            says,
            asked: Mutex::default(),
            streams: Mutex::default(),
            waiting: Mutex::default(),
            cancelled: watch::Sender::new(0),
            calls: watch::Sender::new(0),
            next: AtomicU64::new(1),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = inner.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let inner = serving.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let inner = inner.clone();
                        async move { Ok::<_, Infallible>(inner.answer(request).await) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
                });
            }
        });
        Self { address, inner, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Waits until this many calls of tools were received.
    pub async fn called(&self, count: usize) {
        crate::soon("the call", self.inner.calls.subscribe().wait_for(|seen| *seen >= count)).await.unwrap();
    }

    pub fn calls(&self) -> usize {
        *self.inner.calls.borrow()
    }

    /// Waits until this many calls were cancelled.
    pub async fn taken_back(&self, count: usize) {
        crate::soon("the call to be taken back", self.inner.cancelled.subscribe().wait_for(|seen| *seen >= count)).await.unwrap();
    }

    pub fn cancelled(&self) -> usize {
        *self.inner.cancelled.borrow()
    }
}

fn document(status: u16, body: &Value) -> Response<Body> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let body = Full::new(Bytes::from(text)).boxed();
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

fn events() -> (Events, Response<Body>) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<String>();
    let stream = futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|text| text.map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text)))))
    });
    (sender, Response::builder().header("content-type", "text/event-stream").body(BodyExt::boxed(StreamBody::new(stream))).unwrap())
}

fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// What the server asks when this tool is called.
pub fn question(tool: &str) -> Option<(&'static str, Value)> {
    match tool {
        "elicit" => Some(("elicitation/create", json!({"message": "Which?", "requestedSchema": {"type": "object", "properties": {}}}))),
        "sample" => Some(("sampling/createMessage", json!({"messages": [], "maxTokens": 5}))),
        "roots" => Some(("roots/list", json!({}))),
        _ => None,
    }
}

fn said(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

/// The result that the answer leads to.
fn heard(name: &str, answer: &Value) -> Value {
    let result = &answer["result"];
    let said = result["content"]["said"].as_str().or(result["content"]["text"].as_str()).or(result["roots"][0]["name"].as_str());
    let said = said.map_or_else(|| format!("refused: {}", answer["error"]["message"]), str::to_owned);
    json!({"content": [{"type": "text", "text": format!("{name}: {said}")}]})
}

impl Inner {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let of_stream = parts.uri.query().and_then(|query| query.strip_prefix("s=")).map(str::to_owned);
        if let (&Method::GET, Some(last)) = (&parts.method, parts.headers.get("last-event-id")) {
            return self.resumed(last.to_str().unwrap());
        }
        match (parts.method.clone(), self.says) {
            (Method::GET, Says::Sse) => return self.stream(None),
            (Method::GET, Says::OnStream | Says::BesideDocument) => return self.stream(session(&parts.headers)),
            (Method::POST, Says::Sse) if of_stream.is_none() => return document(405, &Value::Null),
            (Method::POST, _) => {}
            (Method::DELETE, _) => return document(200, &Value::Null),
            _ => return document(405, &Value::Null),
        }
        let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap_or_default();
        let (id, modern) = (body["id"].clone(), parts.headers.get("mcp-protocol-version").is_some_and(|v| v == "2026-07-28"));
        let answered = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
        let refused = |code: i32| json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "no"}});
        if modern != (self.says == Says::InResult) {
            return document(400, &refused(if modern { -32601 } else { -32022 }));
        }
        let Some(method) = body["method"].as_str().map(str::to_owned) else {
            let answer = self.asked.lock().unwrap().remove(id.as_str().unwrap_or_default());
            answer.map(|answer| answer.send(body));
            return document(202, &Value::Null);
        };
        if id.is_null() {
            if method == "notifications/cancelled" {
                self.waiting.lock().unwrap().remove(&body["params"]["requestId"].to_string());
                self.cancelled.send_modify(|count| *count += 1);
            }
            return document(202, &Value::Null);
        }
        let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
        let can = json!({
            "tools": {}, "logging": {}, "resources": {"subscribe": true}, "extensions": {TASKS: {}},
            "tasks": {"requests": {"tools": {"call": {}}}},
        });
        let common = match method.as_str() {
            "initialize" => Some(json!({
                "protocolVersion": if self.says == Says::Sse { "2024-11-05" } else { "2025-11-25" },
                "capabilities": can, "serverInfo": {"name": self.name, "version": "1"},
            })),
            "server/discover" => Some(json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": can})),
            "ping" | "logging/setLevel" | "resources/subscribe" => Some(json!({})),
            "tools/list" => {
                let tools = ["elicit", "sample", "roots", "progress", "log", "touch", "cut", "begin", "wait"].map(tool);
                Some(json!({"tools": tools, "resultType": "complete"}))
            }
            "resources/list" => Some(json!({"resources": [{"uri": DOCUMENT, "name": "document"}], "resultType": "complete"})),
            "subscriptions/listen" => return self.listened(&body["params"]["notifications"]),
            "tasks/get" => Some(match self.says {
                Says::InResult => {
                    json!({"taskId": TASK, "status": "completed", "ttlMs": null, "result": said(self.name), "resultType": "complete"})
                }
                _ => json!({"taskId": TASK, "status": "completed", "ttl": null, "createdAt": MADE, "lastUpdatedAt": MADE}),
            }),
            "tasks/result" => Some(said(self.name)),
            "tools/call" => None,
            _ => return self.reply(of_stream.as_deref(), &refused(-32601)),
        };
        if let Some(result) = common {
            let mut response = self.reply(of_stream.as_deref(), &answered(result));
            if method == "initialize" && self.says != Says::Sse {
                let session = format!("{}-{}", self.name, self.next.fetch_add(1, Ordering::Relaxed));
                response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
            }
            return response;
        }
        self.calls.send_modify(|count| *count += 1);
        self.call(&parts.headers, of_stream, body).await
    }

    /// A call whose answer's stream ends before the answer: the client is to come back for it, after as many milliseconds as the call says.
    fn cut(&self, body: &Value) -> Response<Body> {
        let (sender, response) = events();
        let (id, retry) = (&body["id"], body["params"]["arguments"]["retry"].as_u64().unwrap_or(50));
        let _ = sender.send(format!("id: cut {id}\nretry: {retry}\ndata: \n\n"));
        response
    }

    /// The rest of such a stream.
    fn resumed(&self, last: &str) -> Response<Body> {
        let (sender, response) = events();
        let id: Value = serde_json::from_str(last.strip_prefix("cut ").unwrap_or("null")).unwrap_or_default();
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": said(&format!("{}: whole", self.name))});
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let _ = sender.send(event(&answer));
        });
        response
    }

    /// The stream of a subscription in the stateless era.
    fn listened(&self, wanted: &Value) -> Response<Body> {
        let (sender, response) = events();
        let params = json!({"notifications": wanted});
        let _ = sender.send(event(&json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params})));
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        self.streams.lock().unwrap().insert(name, sender);
        response
    }

    /// The stream for messages outside of calls. Like the SDKs, it refuses a second one in the same session.
    fn stream(&self, session: Option<String>) -> Response<Body> {
        let (sender, response) = events();
        let name = session.clone().unwrap_or_else(|| self.next.fetch_add(1, Ordering::Relaxed).to_string());
        if session.is_none() {
            let _ = sender.send(format!("event: endpoint\ndata: /mcp?s={name}\n\n"));
        }
        let mut streams = self.streams.lock().unwrap();
        if streams.get(&name).is_some_and(|open| !open.is_closed()) {
            return document(409, &Value::Null);
        }
        streams.insert(name, sender);
        response
    }

    fn say(&self, stream: &str, message: &Value) {
        if let Some(stream) = self.streams.lock().unwrap().get(stream) {
            let _ = stream.send(event(message));
        }
    }

    fn reply(&self, stream: Option<&str>, message: &Value) -> Response<Body> {
        match stream {
            None => document(200, message),
            Some(stream) => {
                self.say(stream, message);
                document(202, &Value::Null)
            }
        }
    }

    async fn call(self: Arc<Self>, headers: &HeaderMap, of_stream: Option<String>, body: Value) -> Response<Body> {
        let stream = of_stream.or_else(|| session(headers));
        if body["params"]["name"] == "cut" && matches!(self.says, Says::InAnswer | Says::OnStream) {
            return self.cut(&body);
        }
        if self.says == Says::BesideDocument {
            let (inner, said) = (self.clone(), stream.clone().unwrap_or_default());
            let result = self.clone().run(&body, &move |message| inner.say(&said, &message)).await;
            return document(200, &result);
        }
        let (answer, response) = events();
        let sse = self.says == Says::Sse;
        tokio::spawn(async move {
            let (inner, own, stream) = (self.clone(), answer.clone(), stream.unwrap_or_default());
            let on = stream.clone();
            let say = move |message: Value| match inner.says {
                Says::InAnswer | Says::InResult => drop(own.send(event(&message))),
                Says::OnStream | Says::BesideDocument | Says::Sse => inner.say(&on, &message),
            };
            let gone = answer.clone();
            let result = tokio::select! {
                result = self.clone().run(&body, &say) => result,
                () = gone.closed(), if self.says == Says::InResult => {
                    self.cancelled.send_modify(|count| *count += 1);
                    return;
                }
            };
            if sse { self.say(&stream, &result) } else { drop(answer.send(event(&result))) }
        });
        if sse { document(202, &Value::Null) } else { response }
    }

    async fn run(self: Arc<Self>, body: &Value, say: &(dyn Fn(Value) + Send + Sync)) -> Value {
        let (id, params) = (&body["id"], &body["params"]);
        let tool = params["name"].as_str().unwrap_or_default();
        let result = match question(tool) {
            Some((method, asked)) if self.says == Says::InResult => match params["inputResponses"].get("q") {
                Some(answer) => heard(self.name, &json!({"result": answer})),
                None => json!({"resultType": "input_required", "inputRequests": {"q": {"method": method, "params": asked}}}),
            },
            Some((method, asked)) => {
                let name = format!("{}-q{}", self.name, self.next.fetch_add(1, Ordering::Relaxed));
                let (sender, answer) = oneshot::channel();
                self.asked.lock().unwrap().insert(name.clone(), sender);
                say(json!({"jsonrpc": "2.0", "id": name, "method": method, "params": asked}));
                heard(self.name, &answer.await.unwrap_or_default())
            }
            None if tool == "log" => {
                let told = json!({"level": "warning", "data": format!("{} logs", self.name)});
                say(json!({"jsonrpc": "2.0", "method": "notifications/message", "params": told}));
                tokio::time::sleep(Duration::from_millis(200)).await;
                said("logged")
            }
            None if tool == "touch" => {
                let told = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": DOCUMENT}});
                if self.says == Says::InAnswer {
                    say(told);
                } else {
                    self.streams.lock().unwrap().values().for_each(|stream| drop(stream.send(event(&told))));
                }
                said("touched")
            }
            None if tool == "begin" && self.says == Says::InResult => {
                json!({"resultType": "task", "taskId": TASK, "status": "working", "ttlMs": null, "createdAt": MADE, "lastUpdatedAt": MADE})
            }
            None if tool == "begin" => {
                json!({"task": {"taskId": TASK, "status": "working", "ttl": null, "createdAt": MADE, "lastUpdatedAt": MADE}})
            }
            None if tool == "progress" => {
                let told = json!({"progressToken": params["_meta"]["progressToken"], "progress": 1});
                say(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": told}));
                // It may be sent over another connection than the answer.
                tokio::time::sleep(Duration::from_millis(200)).await;
                json!({"content": [{"type": "text", "text": format!("{}: done", self.name)}]})
            }
            None => {
                let (until, cancelled) = oneshot::channel();
                self.waiting.lock().unwrap().insert(id.to_string(), until);
                let _ = cancelled.await;
                std::future::pending().await
            }
        };
        let mut result = result;
        if self.says == Says::InResult && result.get("resultType").is_none() {
            result["resultType"] = "complete".into();
        }
        json!({"jsonrpc": "2.0", "id": id, "result": result})
    }
}

fn session(headers: &HeaderMap) -> Option<String> {
    headers.get("mcp-session-id").map(|session| session.to_str().unwrap().to_owned())
}
