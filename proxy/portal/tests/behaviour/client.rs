//! A client of either era that makes one HTTP request at a time.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A client of the portal.
pub struct Client {
    pub http: Http<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    session: Option<String>,
    next: u64,
    /// The query of the URL.
    query: &'static str,
    /// Its token, sent in the Authorization header of every request.
    bearer: Option<String>,
    /// The capabilities that it declares in every request outside of sessions.
    capabilities: Value,
}

/// An answer of the portal.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    /// The JSON document, or the messages of the event stream.
    pub messages: Vec<Value>,
}

impl Answer {
    /// The only message, or the last one.
    pub fn last(&self) -> &Value {
        self.messages.last().unwrap_or(&Value::Null)
    }

    pub fn text(&self) -> &str {
        self.last()["result"]["content"][0]["text"].as_str().unwrap_or_default()
    }
}

impl Client {
    /// A client of the stateless era.
    pub fn modern(address: SocketAddr) -> Self {
        let (http, capabilities) = (Http::builder(TokioExecutor::new()).build_http(), json!({"elicitation": {}}));
        Self { http, address, session: None, next: 1, query: "", bearer: None, capabilities }
    }

    /// A client of the older era, with a session.
    pub async fn legacy(address: SocketAddr) -> Self {
        Self::modern(address).begun().await
    }

    /// Declares these capabilities outside of sessions.
    pub fn declaring(mut self, capabilities: Value) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Sends this token.
    pub fn holding(mut self, bearer: &str) -> Self {
        self.bearer = Some(bearer.to_owned());
        self
    }

    /// Begins a session, as in the older era.
    pub async fn begun(self) -> Self {
        let mut client = self;
        let answer = client.initialize().await;
        client.session = answer.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        assert!(client.session.is_some(), "{answer:?}");
        client.post(&[("mcp-session-id", &client.session())], json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        client
    }

    /// Adds this query to the portal's URL.
    pub fn at(mut self, query: &'static str) -> Self {
        self.query = query;
        self
    }

    pub async fn initialize(&self) -> Answer {
        let params =
            json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "test", "version": "1"}});
        self.post(&[], json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})).await
    }

    /// Begins a session that declares these capabilities.
    pub async fn begun_with(mut self, version: &str, capabilities: Value) -> Self {
        let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"}});
        let begun = self.post(&[], json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})).await;
        self.session = begun.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        self
    }

    pub fn session(&self) -> String {
        self.session.clone().unwrap_or_default()
    }

    /// Headers and body of a request in the client's era.
    pub fn message(&mut self, method: &str, mut params: Value) -> (Vec<(&'static str, String)>, Value) {
        self.next += 1;
        let mut headers = Vec::new();
        match &self.session {
            Some(session) => headers.push(("mcp-session-id", session.clone())),
            None => {
                params["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
                params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
                params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
                headers.push(("mcp-protocol-version", "2026-07-28".to_owned()));
                headers.push(("mcp-method", method.to_owned()));
                if let Some(name) = params["name"].as_str().or(params["uri"].as_str()).or(params["taskId"].as_str()) {
                    headers.push(("mcp-name", name.to_owned()));
                }
            }
        }
        (headers, json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}))
    }

    pub async fn request(&mut self, method: &str, params: Value) -> Answer {
        let (headers, body) = self.message(method, params);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.post(&headers, body).await
    }

    pub async fn call(&mut self, tool: &str, arguments: Value) -> Answer {
        self.request("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    /// The names in a list.
    pub async fn names(&mut self, method: &str, list: &str, key: &str) -> Vec<String> {
        let answer = self.request(method, json!({})).await;
        let entries = answer.last()["result"][list].as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
    }

    pub async fn post(&self, headers: &[(&str, &str)], body: Value) -> Answer {
        self.send(Method::POST, headers, body.to_string()).await
    }

    pub async fn send(&self, method: Method, headers: &[(&str, &str)], body: String) -> Answer {
        let response = crate::soon("the answer", self.http.request(self.build(method, headers, body))).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = crate::soon("the answer's body", body.collect()).await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let events = parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let messages = if events {
            text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
        } else {
            serde_json::from_str(&text).into_iter().collect()
        };
        Answer { status: parts.status, headers: parts.headers, messages }
    }

    pub fn build(&self, method: Method, headers: &[(&str, &str)], body: String) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}/mcp{}", self.address, self.query))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(Bytes::from(body))).unwrap()
    }

    /// The stream of messages outside of calls.
    pub async fn stand(&self) -> hyper::body::Incoming {
        self.listen(&self.session()).await
    }

    /// The same for another session.
    pub async fn listen(&self, session: &str) -> hyper::body::Incoming {
        let request = self.build(Method::GET, &[("mcp-session-id", session)], String::new());
        crate::soon("the stream's head", self.http.request(request)).await.unwrap().into_body()
    }

    /// Sends a request whose answer is read piece by piece.
    pub async fn open(&self, headers: &[(&str, &str)], body: Value) -> http::Response<hyper::body::Incoming> {
        let request = self.build(Method::POST, headers, body.to_string());
        crate::soon("the answer's head", self.http.request(request)).await.unwrap()
    }
}

/// The next message of an event stream. Comments that keep the stream alive are none, and do not prolong the wait for one.
pub async fn next_event(body: &mut hyper::body::Incoming) -> Value {
    let message = async {
        loop {
            let frame = body.frame().await.unwrap().unwrap();
            let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
            if let Some(message) = text.lines().find_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()) {
                return message;
            }
        }
    };
    crate::soon("an event", message).await
}
