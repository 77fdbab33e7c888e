//! Every kind of client with every kind of server: questions of servers, progress and cancellations reach the right side, from the first
//! call on, with another such server beside it.

use crate::{
    Running, Setup,
    asking::{Asking, Says, question},
    client::Client,
    programs::{READY, options},
    soon,
};
use gnomon_upstream::Program;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::sync::mpsc;

/// How a client receives messages outside of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    /// In a session, on a stream of its own.
    OnStream,
    /// In a session, in the answers to its calls only.
    InAnswers,
    /// In the answers of the stateless era.
    InResults,
}

pub const CLIENTS: [Hears; 3] = [Hears::OnStream, Hears::InAnswers, Hears::InResults];
pub const SERVERS: [Says; 5] = [Says::InAnswer, Says::OnStream, Says::BesideDocument, Says::Sse, Says::InResult];
const CAN: &str = r#"{"elicitation": {}, "sampling": {}, "roots": {}}"#;

/// A client's answer to whatever it is asked.
fn answer() -> Value {
    json!({
        "action": "accept", "role": "assistant", "model": "m", "content": {"type": "text", "text": "blue", "said": "blue"},
        "roots": [{"uri": "file:///blue", "name": "blue"}],
    })
}

pub struct Caller {
    client: Client,
    /// The capabilities that it declares.
    can: Value,
    hears: Hears,
    heard: mpsc::UnboundedReceiver<Value>,
    hear: mpsc::UnboundedSender<Value>,
}

/// Sends each message of a body on as it arrives.
async fn read(mut body: hyper::body::Incoming, hear: mpsc::UnboundedSender<Value>) {
    let mut rest = String::new();
    while let Some(Ok(frame)) = body.frame().await {
        rest.push_str(std::str::from_utf8(frame.data_ref().map_or(b"", |data| data)).unwrap());
        while let Some((line, after)) = rest.split_once('\n') {
            if let Ok(message) = serde_json::from_str(line.strip_prefix("data: ").unwrap_or(line)) {
                let _ = hear.send(message);
            }
            rest = after.to_owned();
        }
    }
    if let Ok(message) = serde_json::from_str(&rest) {
        let _ = hear.send(message);
    }
}

impl Caller {
    pub async fn new(portal: SocketAddr, hears: Hears) -> Self {
        Self::that_can(portal, hears, serde_json::from_str(CAN).unwrap()).await
    }

    async fn that_can(portal: SocketAddr, hears: Hears, can: Value) -> Self {
        let mut client = Client::modern(portal);
        if hears != Hears::InResults {
            client = client.begun_with("2025-11-25", can.clone()).await;
        }
        let (hear, heard) = mpsc::unbounded_channel();
        if hears == Hears::OnStream {
            tokio::spawn(read(client.stand().await, hear.clone()));
        }
        Self { client, can, hears, heard, hear }
    }

    fn message(&mut self, tool: &str, more: &Value) -> (Vec<(&'static str, String)>, Value) {
        let mut params = json!({"name": tool, "arguments": {}, "_meta": {"progressToken": "mine"}});
        for (key, value) in more.as_object().into_iter().flatten() {
            params[key] = value.clone();
        }
        let (headers, mut body) = self.client.message("tools/call", params);
        if self.hears == Hears::InResults {
            body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = self.can.clone();
            if tool.ends_with("_log") {
                body["params"]["_meta"]["io.modelcontextprotocol/logLevel"] = "info".into();
            }
        }
        (headers, body)
    }

    /// Begins a call; its messages are sent to `heard`.
    fn begin(&mut self, tool: &str, more: &Value) -> (Value, tokio::task::JoinHandle<()>) {
        let (headers, body) = self.message(tool, more);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = self.client.build(Method::POST, &headers, body.to_string());
        let (asked, hear) = (self.client.http.request(request), self.hear.clone());
        let task = tokio::spawn(async move { read(asked.await.unwrap().into_body(), hear).await });
        (body["id"].clone(), task)
    }

    /// Calls a tool and answers its questions. Returns the text of the result, and the other messages received meanwhile.
    pub async fn call(&mut self, tool: &str) -> (String, Vec<Value>) {
        let (mut said, mut more) = (Vec::new(), Value::Null);
        loop {
            let (id, _task) = self.begin(tool, &more);
            let last = loop {
                let message = soon(tool, self.heard.recv()).await.unwrap();
                if message["id"] == id && message.get("method").is_none() {
                    break message;
                }
                match message["method"].as_str() {
                    Some("elicitation/create" | "sampling/createMessage" | "roots/list") => {
                        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": answer()});
                        let session = self.client.session();
                        assert_eq!(self.client.post(&[("mcp-session-id", &session)], answer).await.status, 202);
                    }
                    _ => said.push(message),
                }
            };
            let result = &last["result"];
            if result["resultType"] != "input_required" {
                let text = result["content"][0]["text"].as_str().map_or_else(|| last.to_string(), str::to_owned);
                return (text, said);
            }
            let asked = result["inputRequests"].as_object().unwrap().iter().next().unwrap();
            assert_eq!(asked.1["method"].as_str(), question(tool.rsplit('_').next().unwrap()).map(|(method, _)| method));
            more = json!({"inputResponses": {asked.0: answer()}});
            if let Some(state) = result.get("requestState") {
                more["requestState"] = state.clone();
            }
        }
    }

    /// Asks for what servers log, where that is not asked for with each call.
    async fn asks_for_logs(&mut self) {
        if self.hears != Hears::InResults {
            let set = self.client.request("logging/setLevel", json!({"level": "info"})).await;
            assert!(set.last()["result"].is_object(), "{set:?}");
        }
    }

    async fn take_back(&mut self, id: &Value, task: tokio::task::JoinHandle<()>) {
        match self.hears {
            Hears::InResults => task.abort(),
            Hears::OnStream | Hears::InAnswers => {
                let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
                let session = self.client.session();
                assert_eq!(self.client.post(&[("mcp-session-id", &session)], cancel).await.status, 202);
            }
        }
    }
}

/// Checks questions, progress and logs of both servers.
async fn converses(portal: SocketAddr, hears: Hears, what: &str) {
    let mut caller = Caller::new(portal, hears).await;
    caller.asks_for_logs().await;
    for server in ["one", "two"] {
        for tool in ["elicit", "sample", "roots", "elicit"] {
            let (text, _) = caller.call(&format!("{server}_{tool}")).await;
            assert!(text.ends_with("blue"), "{what} {hears:?} {tool}: {text}");
        }
        let (text, said) = caller.call(&format!("{server}_progress")).await;
        assert!(text.contains("done") || text.contains("progressed"), "{what} {hears:?}: {text}");
        let told = said.iter().filter(|said| said["method"] == "notifications/progress" && said["params"]["progressToken"] == "mine");
        assert_eq!(told.count(), 1, "{what} {hears:?}: {said:?}");
        let (_, mut said) = caller.call(&format!("{server}_log")).await;
        let is_log = |said: &&Value| said["method"] == "notifications/message";
        // The answer and what comes on a stream of its own take two connections: either may be first.
        while hears == Hears::OnStream && !said.iter().any(|said| is_log(&said)) {
            said.push(soon("what is logged", caller.heard.recv()).await.unwrap());
        }
        let logged: Vec<&Value> = said.iter().filter(is_log).collect();
        assert_eq!(logged.len(), 1, "{what} {hears:?}: {said:?}");
        assert_eq!((&logged[0]["params"]["level"], &logged[0]["params"]["data"]), (&json!("warning"), &json!(format!("{server} logs"))));
    }
}

#[tokio::test]
async fn what_a_server_asks_and_tells_reaches_every_client_from_the_first_call_on_whatever_the_transport() {
    for says in SERVERS {
        let (one, two) = (Asking::start("one", says).await, Asking::start("two", says).await);
        for hears in CLIENTS {
            // Each has its own sessions.
            let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
            converses(portal.address, hears, &format!("{says:?}")).await;
        }
    }
}

#[tokio::test]
async fn a_call_that_is_taken_back_is_taken_back_at_its_server_whatever_the_transport() {
    for says in SERVERS {
        let (one, two) = (Asking::start("one", says).await, Asking::start("two", says).await);
        let portal = Setup::of([("one", one.url()), ("two", two.url())]).start().await;
        for hears in CLIENTS {
            let mut caller = Caller::new(portal.address, hears).await;
            let (calls, cancelled) = (one.calls(), one.cancelled());
            let (id, task) = caller.begin("one_wait", &Value::Null);
            one.called(calls + 1).await;
            caller.take_back(&id, task).await;
            one.taken_back(cancelled + 1).await;
            assert_eq!(two.cancelled(), 0, "{says:?} {hears:?}");
        }
    }
}

pub async fn of_programs(mode: &str) -> Running {
    let program = |id: &str| {
        let mut options = options(READY, mode);
        options.id = id.into();
        options.environment.push(("SERVER".into(), id.into()));
        Program::new(options)
    };
    let portal = Setup::of([]).program("one", program("one")).program("two", program("two")).start().await;
    let mut client = Client::modern(portal.address);
    soon("both programs", async {
        while client.names("tools/list", "tools", "name").await.iter().filter(|name| name.ends_with("_elicit")).count() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    portal
}

#[tokio::test]
async fn what_a_program_asks_and_tells_reaches_every_client_and_what_is_taken_back_reaches_the_program() {
    if !gnomon_testkit::has("what_a_program_asks_and_tells_reaches_every_client_and_what_is_taken_back_reaches_the_program", &["python3"]) {
        return;
    }
    for mode in ["legacy", "modern"] {
        let portal = of_programs(mode).await;
        for hears in CLIENTS {
            converses(portal.address, hears, mode).await;
            let mut caller = Caller::new(portal.address, hears).await;
            let before: usize = caller.call("two_cancelled").await.0.parse().unwrap();
            let (id, task) = caller.begin("two_wait", &Value::Null);
            tokio::time::sleep(Duration::from_millis(300)).await;
            caller.take_back(&id, task).await;
            soon("the call to be taken back", async {
                while caller.call("two_cancelled").await.0 != (before + 1).to_string() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
            .await;
        }
    }
}

/// Checks that questions are refused which the client has not declared, whether it declared nothing or something else.
async fn is_refused(portal: SocketAddr, hears: Hears, tools: &[&str], what: &str) {
    for (can, asked) in [(json!({}), tools), (json!({"sampling": {}}), &["elicit"][..])] {
        let mut caller = Caller::that_can(portal, hears, can.clone()).await;
        for tool in asked {
            let called = tokio::time::timeout(Duration::from_secs(5), caller.call(&format!("one_{tool}"))).await;
            let (text, said) = called.unwrap_or_else(|_| panic!("{what} {hears:?} {can} {tool}: its server waits"));
            assert!(text.contains("the client has not declared"), "{what} {hears:?} {can} {tool}: {text}");
            assert!(said.is_empty(), "{what} {hears:?} {can} {tool}: {said:?}");
        }
    }
}

#[tokio::test]
async fn what_a_client_has_not_declared_is_refused_to_its_server_at_once_whatever_the_client_and_the_transport() {
    for says in SERVERS {
        let one = Asking::start("one", says).await;
        for hears in CLIENTS {
            let portal = Setup::of([("one", one.url())]).start().await;
            is_refused(portal.address, hears, &["elicit", "sample", "roots"], &format!("{says:?}")).await;
        }
    }
}

#[tokio::test]
async fn what_a_client_has_not_declared_is_refused_to_a_program_at_once() {
    if !gnomon_testkit::has("what_a_client_has_not_declared_is_refused_to_a_program_at_once", &["python3"]) {
        return;
    }
    for mode in ["legacy", "modern"] {
        let portal = of_programs(mode).await;
        for hears in CLIENTS {
            is_refused(portal.address, hears, &["elicit", "sample", "roots"], mode).await;
        }
    }
}

#[tokio::test]
async fn calls_of_one_stateless_client_that_are_asked_at_the_same_time_are_asked_each_for_itself() {
    for says in [Says::OnStream, Says::Sse] {
        let one = Asking::start("one", says).await;
        let portal = Setup::of([("one", one.url())]).start().await;
        let calls = (0..3).map(|_| async {
            let mut caller = Caller::new(portal.address, Hears::InResults).await;
            caller.call("one_elicit").await.0
        });
        let calls: Vec<String> = futures_util::future::join_all(calls).await;
        assert_eq!(calls, ["one: blue"; 3], "{says:?}");
    }
}

#[tokio::test]
async fn a_client_that_reads_no_stream_is_not_asked_and_the_server_is_told_so_at_once() {
    for says in [Says::InAnswer, Says::OnStream, Says::BesideDocument, Says::Sse] {
        let one = Asking::start("one", says).await;
        let portal = Setup::of([("one", one.url())]).start().await;
        let client = Client::modern(portal.address).begun_with("2025-11-25", serde_json::from_str(CAN).unwrap()).await;
        let body = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "one_elicit", "arguments": {}}});
        let mut request = client.build(Method::POST, &[("mcp-session-id", &client.session())], body.to_string());
        request.headers_mut().insert("accept", "application/json".parse().unwrap());
        let answer = tokio::time::timeout(Duration::from_secs(10), client.http.request(request)).await.unwrap().unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&text).contains("cannot be asked now"), "{says:?}: {text:?}");
    }
}
