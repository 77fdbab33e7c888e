//! An MCP server under the tests' control: of either era or both, and with every kind of misbehaviour.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
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
    sync::{Arc, Mutex},
};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
};

/// The eras that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Legacy,
    Modern,
    Both,
}

impl Speaks {
    fn legacy(self) -> bool {
        self != Self::Modern
    }

    fn modern(self) -> bool {
        self != Self::Legacy
    }
}

/// Whether it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Accepts requests and never answers.
    Frozen,
}

/// Its answer to an unknown session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// As in the specification.
    NotFound,
    /// As in the examples of the TypeScript SDK.
    BadRequest,
    /// As in earlier versions of the Python SDK.
    Words,
    /// As an error of the request itself.
    OfTheRequest,
}

/// A request that a server received.
#[derive(Clone, Debug)]
pub struct Got {
    pub headers: HeaderMap,
    pub body: Value,
    pub raw: Bytes,
}

struct Inner {
    name: &'static str,
    speaks: Mutex<Speaks>,
    mood: watch::Receiver<Mood>,
    got: Mutex<Vec<Got>>,
    /// The sessions that it knows.
    sessions: Mutex<HashMap<String, usize>>,
    unknown: Mutex<Unknown>,
    asked: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    cancelled: watch::Sender<usize>,
    /// Other tools in place of the usual ones: the list, and the results of calls.
    shop: Option<(Value, Shop)>,
    /// Other answers in place of the usual ones.
    script: Option<Script>,
    /// The resources whose changes it agrees to report; `None` if it does not say.
    granted: Mutex<Option<Value>>,
    /// Messages outside of calls.
    says: broadcast::Sender<Value>,
}

/// The result of a method with these parameters; `None` for the usual one.
pub type Script = Arc<dyn Fn(&str, &Value) -> Option<Value> + Send + Sync>;

/// Answers a call of a tool with these arguments.
pub type Shop = fn(&str, &Value) -> Value;

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    mood: watch::Sender<Mood>,
    task: JoinHandle<()>,
}

type Body = BoxBody<Bytes, Infallible>;

impl Server {
    pub async fn start(name: &'static str, speaks: Speaks) -> Self {
        Self::start_at(name, speaks, "127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts one with these tools.
    pub async fn with_tools(name: &'static str, speaks: Speaks, tools: Value, shop: Shop) -> Self {
        Self::open(name, speaks, "127.0.0.1:0".parse().unwrap(), Some((tools, shop)), None).await
    }

    pub async fn start_at(name: &'static str, speaks: Speaks, address: SocketAddr) -> Self {
        Self::open(name, speaks, address, None, None).await
    }

    /// Starts one that answers by a script where the script gives an answer, and has a stream for messages outside of calls.
    pub async fn scripted(
        name: &'static str,
        speaks: Speaks,
        script: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        Self::open(name, speaks, "127.0.0.1:0".parse().unwrap(), None, Some(Arc::new(script))).await
    }

    /// Sends a notification on all open streams.
    pub fn say(&self, method: &str, params: Value) {
        let _ = self.inner.says.send(json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// The same for each of these parameters, as fast as the streams take them.
    pub async fn say_each(&self, method: &str, all: impl IntoIterator<Item = Value>) {
        for params in all {
            // What a stream had to leave out would end it.
            while self.inner.says.len() >= 32 {
                tokio::task::yield_now().await;
            }
            self.say(method, params);
        }
    }

    /// Sends a request on all open streams.
    pub fn ask_all(&self, id: &str, method: &str, params: Value) {
        let _ = self.inner.says.send(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
    }

    /// The answers to the request with this id.
    pub fn answers(&self, id: &str) -> Vec<Value> {
        let got = self.inner.got.lock().unwrap();
        got.iter().map(|got| &got.body).filter(|body| body["method"].is_null() && body["id"] == id).cloned().collect()
    }

    /// Waits until this many streams are open.
    pub async fn heard_by(&self, count: usize) {
        crate::soon("listeners", async {
            while self.inner.says.receiver_count() < count {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    async fn open(name: &'static str, speaks: Speaks, address: SocketAddr, shop: Option<(Value, Shop)>, script: Option<Script>) -> Self {
        let (mood, moods) = watch::channel(Mood::Well);
        let inner = Arc::new(Inner {
            name,
            speaks: Mutex::new(speaks),
            mood: moods,
            got: Mutex::default(),
            sessions: Mutex::default(),
            unknown: Mutex::new(Unknown::NotFound),
            asked: Mutex::default(),
            cancelled: watch::Sender::new(0),
            shop,
            script,
            granted: Mutex::default(),
            says: broadcast::Sender::new(64),
        });
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(accept(listener, inner.clone()));
        Self { address, inner, mood, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// All received requests with this method.
    pub fn got(&self, method: &str) -> Vec<Got> {
        self.inner.got.lock().unwrap().iter().filter(|got| got.body["method"] == method).cloned().collect()
    }

    pub fn freeze(&self) {
        self.mood.send_replace(Mood::Frozen);
    }

    /// Agrees to report changes of these resources only.
    pub fn grants(&self, uris: &[&str]) {
        *self.inner.granted.lock().unwrap() = Some(json!(uris));
    }

    /// Speaks other eras, as after a restart with another version.
    pub fn becomes(&self, speaks: Speaks) {
        *self.inner.speaks.lock().unwrap() = speaks;
        self.forget_sessions();
    }

    /// Forgets its sessions, as after a restart.
    pub fn forget_sessions(&self) {
        self.inner.sessions.lock().unwrap().clear();
    }

    /// Selects its answer to unknown sessions.
    pub fn answers_unknown(&self, unknown: Unknown) {
        *self.inner.unknown.lock().unwrap() = unknown;
    }

    /// How many calls were cancelled so far.
    pub fn taken_back(&self) -> usize {
        *self.inner.cancelled.borrow()
    }

    pub async fn cancelled(&self, count: usize) {
        let mut seen = self.inner.cancelled.subscribe();
        crate::soon("the call to be taken back", seen.wait_for(|seen| *seen >= count)).await.unwrap();
    }

    /// Stops it: its port is closed, and so are its connections.
    pub async fn stop(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let _ = tcp.set_nodelay(true);
        let inner = inner.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let inner = inner.clone();
                async move { Ok::<_, Infallible>(inner.answer(request).await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}

fn whole(status: u16, body: Value) -> Response<Body> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(http_body_util::Full::new(Bytes::from(text)).boxed())
        .unwrap()
}

fn result(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn error(id: &Value, code: i32) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "no"}})
}

fn events() -> (mpsc::UnboundedSender<String>, Response<Body>) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<String>();
    let stream = futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|text| text.map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text)))))
    });
    let response = Response::builder().header("content-type", "text/event-stream").body(BodyExt::boxed(StreamBody::new(stream))).unwrap();
    (sender, response)
}

fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// Reports when an answer in progress is no longer wanted.
struct Dropped(Arc<Inner>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.cancelled.send_modify(|count| *count += 1);
    }
}

impl Inner {
    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        if *self.mood.borrow() == Mood::Frozen {
            std::future::pending::<()>().await;
        }
        let (parts, body) = request.into_parts();
        if parts.method == Method::GET && self.script.is_some() {
            return self.told(&[]);
        }
        if parts.method != Method::POST {
            return whole(405, Value::Null);
        }
        let raw = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&raw).unwrap_or_default();
        self.got.lock().unwrap().push(Got { headers: parts.headers.clone(), body: body.clone(), raw });
        let version = parts.headers.get("mcp-protocol-version").and_then(|v| v.to_str().ok());
        let speaks = *self.speaks.lock().unwrap();
        match (version == Some("2026-07-28"), speaks) {
            (true, speaks) if speaks.modern() => self.modern(&body).await,
            (false, speaks) if speaks.legacy() => self.legacy(&parts.headers, &body).await,
            // As servers of the other era answer.
            (true, _) => whole(200, error(&body["id"], -32601)),
            (false, _) => whole(400, error(&body["id"], -32022)),
        }
    }

    /// A stream of messages outside of calls.
    fn told(self: &Arc<Self>, first: &[Value]) -> Response<Body> {
        let (events, response) = events();
        first.iter().for_each(|message| drop(events.send(event(message))));
        let mut says = self.says.subscribe();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    said = says.recv() => match said {
                        Ok(said) => drop(events.send(event(&said))),
                        Err(_) => return,
                    },
                    () = events.closed() => return,
                }
            }
        });
        response
    }

    /// Its capabilities, and those that its script adds.
    fn capabilities(&self) -> Value {
        let mut all = json!({"tools": {"listChanged": true}, "prompts": {}, "resources": {}});
        let more = self.script.as_ref().and_then(|script| script("capabilities", &Value::Null));
        for (name, value) in more.iter().flat_map(|more| more.as_object().unwrap()) {
            all[name] = value.clone();
        }
        all
    }

    async fn legacy(self: &Arc<Self>, headers: &HeaderMap, body: &Value) -> Response<Body> {
        let id = &body["id"];
        if body["method"] == "initialize" {
            let session = format!("{}-session-{}", self.name, self.got.lock().unwrap().len());
            self.sessions.lock().unwrap().insert(session.clone(), 0);
            let said = json!({
                "protocolVersion": "2025-11-25",
                "capabilities": self.capabilities(),
                "serverInfo": {"name": self.name, "version": "1"},
                "instructions": format!("Ask {} for it.", self.name),
            });
            let mut response = whole(200, result(id, said));
            response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
            return response;
        }
        let session = headers.get("mcp-session-id").and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !self.sessions.lock().unwrap().contains_key(session) {
            let about = |id: &Value| json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": "Bad Request: No valid session ID provided"}});
            let unknown = *self.unknown.lock().unwrap();
            return match unknown {
                Unknown::NotFound => whole(404, error(id, -32001)),
                Unknown::BadRequest => whole(400, about(&Value::Null)),
                Unknown::OfTheRequest => whole(400, about(id)),
                Unknown::Words => {
                    let words = http_body_util::Full::new(Bytes::from_static(b"Bad Request: No valid session ID provided"));
                    Response::builder().status(400).header("content-type", "text/plain").body(words.boxed()).unwrap()
                }
            };
        }
        if body["method"] == "notifications/cancelled" {
            self.cancelled.send_modify(|count| *count += 1);
        }
        if body.get("method").is_none() {
            let answer = self.asked.lock().unwrap().remove(id.as_str().unwrap_or_default());
            if let Some(answer) = answer {
                let _ = answer.send(body["result"].clone());
            }
        }
        if id.is_null() || body.get("method").is_none() {
            return whole(202, Value::Null);
        }
        if body["method"] == "tools/call" && body["params"]["name"] == "ask" {
            return self.ask(id);
        }
        self.common(body, "1").await
    }

    /// Asks the client for a colour during the call.
    fn ask(self: &Arc<Self>, id: &Value) -> Response<Body> {
        let (events, response) = events();
        let (inner, id) = (self.clone(), id.clone());
        let (sender, answer) = oneshot::channel();
        let question = format!("q{}", self.got.lock().unwrap().len());
        self.asked.lock().unwrap().insert(question.clone(), sender);
        tokio::spawn(async move {
            let asked = json!({"jsonrpc": "2.0", "id": question, "method": "elicitation/create", "params": colour()});
            let _ = events.send(event(&asked));
            let colour = answer.await.unwrap_or_default()["content"]["colour"].clone();
            let _ = events.send(event(&result(&id, said(&format!("{}: {}", inner.name, colour.as_str().unwrap_or("none"))))));
        });
        response
    }

    async fn modern(self: &Arc<Self>, body: &Value) -> Response<Body> {
        let id = &body["id"];
        let params = &body["params"];
        // What every request must have (2026-07-28, Basic, _meta).
        let lacks = |key: &str| params["_meta"].get(format!("io.modelcontextprotocol/{key}")).is_none();
        if body.get("id").is_some() && (lacks("protocolVersion") || lacks("clientCapabilities")) {
            let error = json!({"code": -32602, "message": "`params._meta` does not say who asks"});
            return whole(400, json!({"jsonrpc": "2.0", "id": id, "error": error}));
        }
        match body["method"].as_str().unwrap_or_default() {
            "server/discover" => whole(
                200,
                result(
                    id,
                    json!({
                        "resultType": "complete", "supportedVersions": ["2026-07-28"],
                        "capabilities": self.capabilities(),
                        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": self.name, "version": "1"}},
                    }),
                ),
            ),
            "tools/call" if params["name"] == "ask" => match params["inputResponses"]["colour"]["content"]["colour"].as_str() {
                Some(colour) if params["requestState"] == "kept" => {
                    let mut done = said(&format!("{}: {colour}", self.name));
                    done["resultType"] = "complete".into();
                    whole(200, result(id, done))
                }
                _ => whole(
                    200,
                    result(
                        id,
                        json!({
                            "resultType": "input_required", "requestState": "kept",
                            "inputRequests": {"colour": {"method": "elicitation/create", "params": colour()}},
                        }),
                    ),
                ),
            },
            "subscriptions/listen" => {
                let granted = self.granted.lock().unwrap().clone();
                let params = granted.map_or_else(|| json!({}), |uris| json!({"notifications": {"resourceSubscriptions": uris}}));
                self.told(&[json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params})])
            }
            _ => self.common(body, "complete").await,
        }
    }

    async fn common(self: &Arc<Self>, body: &Value, kind: &str) -> Response<Body> {
        let id = &body["id"];
        let params = &body["params"];
        let complete = |mut value: Value| {
            if kind == "complete" {
                value["resultType"] = "complete".into();
            }
            value
        };
        if let Some(first) = params["arguments"]["say"].as_array().filter(|_| body["method"] == "tools/call") {
            return says_first(id, first, &params["arguments"]);
        }
        if let Some(answer) = self.script.as_ref().and_then(|script| script(body["method"].as_str().unwrap_or_default(), params)) {
            // The answer as a whole, with a status.
            if let (Some(status), Some(answer)) = (answer["http"].as_u64(), answer.get("answer")) {
                let mut answer = answer.clone();
                answer["jsonrpc"] = "2.0".into();
                answer["id"] = id.clone();
                return whole(u16::try_from(status).unwrap(), answer);
            }
            // A result may have a `resultType` of its own.
            let answer = if answer.get("resultType").is_some() { answer } else { complete(answer) };
            return whole(200, result(id, answer));
        }
        if let Some((tools, shop)) = &self.shop {
            match (body["method"].as_str(), params["name"].as_str()) {
                (Some("tools/list"), _) => return whole(200, result(id, complete(json!({"tools": tools})))),
                (Some("tools/call"), Some(tool)) => return whole(200, result(id, complete(shop(tool, &params["arguments"])))),
                _ => {}
            }
        }
        match (body["method"].as_str().unwrap_or_default(), params["name"].as_str()) {
            ("ping", _) => whole(200, result(id, json!({}))),
            ("tools/list", _) => {
                let tools = vec![
                    json!({"name": "echo", "description": format!("Echoes from {}", self.name), "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}, "vendor": {"kept": 1.0}}),
                    json!({"name": "delete_all", "inputSchema": {"type": "object"}, "annotations": {"destructiveHint": true}}),
                    json!({"name": "ask", "inputSchema": {"type": "object"}}),
                    json!({"name": "wait", "inputSchema": {"type": "object"}}),
                    json!({"name": "region", "inputSchema": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}}),
                    json!({"name": "wrong", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}),
                ];
                whole(200, result(id, complete(json!({"tools": tools}))))
            }
            ("prompts/list", _) => whole(200, result(id, complete(json!({"prompts": [{"name": "greet"}]})))),
            ("resources/list", _) => {
                whole(200, result(id, complete(json!({"resources": [{"uri": format!("note://{}/1", self.name), "name": "one"}]}))))
            }
            ("resources/templates/list", _) => whole(200, result(id, complete(json!({"resourceTemplates": []})))),
            ("resources/read", _) => {
                whole(200, result(id, complete(json!({"contents": [{"uri": params["uri"], "text": format!("read from {}", self.name)}]}))))
            }
            ("prompts/get", _) => {
                whole(200, result(id, complete(json!({"messages": [{"role": "user", "content": {"type": "text", "text": self.name}}]}))))
            }
            ("tools/call", Some("echo")) => {
                let text = params["arguments"]["text"].as_str().unwrap_or_default();
                let mut said = complete(said(&format!("{}: {text}", self.name)));
                said["vendor"] = json!({"number": 1.0});
                whole(200, result(id, said))
            }
            ("tools/call", Some("region")) => whole(200, result(id, complete(said(self.name)))),
            ("tools/call", Some("delete_all")) => whole(200, result(id, complete(said("deleted")))),
            ("tools/call", Some("wrong")) => whole(200, result(id, complete(json!({"content": [], "structuredContent": {"n": "many"}})))),
            ("tools/call", Some("wait")) => {
                let (events, response) = events();
                let dropped = Dropped(self.clone());
                let modern = kind == "complete";
                tokio::spawn(async move {
                    events.closed().await;
                    // In the older era closing the stream cancels nothing; a notification does.
                    if modern { drop(dropped) } else { std::mem::forget(dropped) }
                });
                response
            }
            _ => whole(200, error(id, -32601)),
        }
    }
}

/// Sends the messages that the caller passed in the arguments on the call's own stream, then the answer, or the error that was passed,
/// unless it is told to hold the answer back.
fn says_first(id: &Value, first: &[Value], arguments: &Value) -> Response<Body> {
    let (events, response) = events();
    first.iter().for_each(|message| drop(events.send(event(message))));
    if arguments["hold"] == true {
        tokio::spawn(async move { events.closed().await });
        return response;
    }
    let answer = match arguments.get("error") {
        Some(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
        None => result(id, said("done")),
    };
    drop(events.send(event(&answer)));
    response
}

fn said(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

fn colour() -> Value {
    json!({"message": "Which colour?", "requestedSchema": {"type": "object", "properties": {"colour": {"type": "string"}}}})
}

/// A port that accepts connections and never sends anything.
pub async fn black_hole() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((tcp, _)) = listener.accept().await {
            kept.push(tcp);
        }
    });
    (address, task)
}

/// A port on which nobody listens.
pub fn closed_port() -> SocketAddr {
    gnomon_testkit::free_port()
}
