//! The lines of `tests/corpus` as exchanges: the request, the answer of the server, and the expected finding.

use crate::support::coding::{Coding, Decoder};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{fmt, fs, io::Read, path::Path};

/// Header names and values in the order sent.
pub type Headers = Vec<(String, String)>;

/// One line.
#[derive(Clone)]
pub struct Case {
    pub id: String,
    pub corpus: Corpus,
    pub framing: Framing,
    pub method: String,
    /// As recorded, with its port and upper case.
    pub host: String,
    pub path: String,
    pub headers: Headers,
    /// As sent, without transfer coding.
    pub body: Vec<u8>,
    pub answer: Option<Given>,
    pub expected: Expected,
    /// Hints and facts (`expect` of an evasion); null for other corpora.
    pub facts: Value,
}

/// What the server answers.
#[derive(Clone)]
pub struct Given {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corpus {
    RealHttp,
    RealAuth,
    Evasions,
    LookAlikes,
}

impl Corpus {
    pub const ALL: [Self; 4] = [Self::RealHttp, Self::RealAuth, Self::Evasions, Self::LookAlikes];

    fn file(self) -> &'static str {
        match self {
            Self::RealHttp => "real_clients_http.jsonl",
            Self::RealAuth => "real_clients_auth.jsonl",
            Self::Evasions => "evasions.jsonl",
            Self::LookAlikes => "negatives.jsonl",
        }
    }
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.file().trim_end_matches(".jsonl"))
    }
}

/// How the request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.1 with a `Content-Length`.
    Length,
    /// HTTP/1.1, chunked, each chunk of this many bytes and in a write of its own.
    Chunks(usize),
    /// HTTP/1.1, chunked, with the `Content-Length` of the corpus beside it.
    BothLengths,
    /// HTTP/1.1, the body sent after `100 Continue`.
    Continue,
    /// HTTP/1.1, in one write behind a harmless request.
    Pipelined,
    /// HTTP/2.
    Two,
}

/// What the corpus says must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Mcp,
    Malformed,
    Suspected,
    NotMcp,
    /// Discovery with an MCP header: either answer is accepted.
    Anything,
    /// Not supported yet.
    Later,
}

impl Expected {
    /// Whether finding it counts for recall.
    pub fn is_positive(self) -> bool {
        matches!(self, Self::Mcp | Self::Malformed)
    }

    /// Whether calling it MCP is a false positive.
    pub fn is_negative(self) -> bool {
        matches!(self, Self::Suspected | Self::NotMcp)
    }
}

/// The objects of one file.
pub fn lines(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every case of a corpus, in its order.
pub fn cases(corpus: Corpus) -> Vec<Case> {
    let lines = lines(corpus.file());
    let each = lines.iter().zip(1..);
    match corpus {
        Corpus::RealHttp | Corpus::RealAuth => each.map(|(line, number)| recorded(corpus, line, number)).collect(),
        Corpus::Evasions => each.map(|(line, _)| evasion(line)).collect(),
        Corpus::LookAlikes => each.map(|(line, _)| look_alike(line)).collect(),
    }
}

impl Case {
    /// The host as TLS names it: without port, brackets and final dot.
    pub fn name(&self) -> &str {
        bare(&self.host).trim_matches(['[', ']']).trim_end_matches('.')
    }

    /// What a client asks the proxy for. All upstreams of these tests are reached by the usual port.
    pub fn target(&self) -> String {
        format!("{}:443", bare(&self.host))
    }

    /// The request's body without content codings, as far as it can be decoded.
    pub fn plain_body(&self) -> Vec<u8> {
        let coding = self.header("content-encoding");
        if coding == Some("gzip") {
            // One body may be several members (RFC 1952 section 2.2).
            let mut plain = Vec::new();
            let _ = flate2::read::MultiGzDecoder::new(&*self.body).read_to_end(&mut plain);
            return plain;
        }
        Decoder::new(coding).feed(&self.body)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A host without its port.
fn bare(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => host,
    }
}

fn recorded(corpus: Corpus, line: &Value, number: usize) -> Case {
    let headers = headers(&line["headers"]);
    let by_header = headers.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("mcp-"));
    let expected = match line["is_mcp"].as_bool() {
        Some(true) => Expected::Mcp,
        Some(false) => Expected::NotMcp,
        None if by_header => Expected::Anything,
        None => Expected::NotMcp,
    };
    let answer = Given {
        status: line["status"].as_u64().and_then(|s| s.try_into().ok()).unwrap_or(200),
        headers: self::headers(&line["resp_headers"]),
        body: text(line, "resp_body").into_bytes(),
    };
    Case {
        id: format!("{}:{number} ({} {})", corpus.file().trim_end_matches(".jsonl"), text(line, "client"), text(line, "method")),
        framing: if line["http"] == "2.0" { Framing::Two } else { Framing::Length },
        answer: Some(answer),
        expected,
        ..plain(corpus, line, headers)
    }
}

fn look_alike(line: &Value) -> Case {
    // gRPC needs HTTP/2.
    let framing = if text(line, "name") == "grpc-h2" { Framing::Two } else { Framing::Length };
    Case { id: text(line, "name"), framing, expected: Expected::NotMcp, ..plain(Corpus::LookAlikes, line, headers(&line["headers"])) }
}

fn evasion(line: &Value) -> Case {
    let (request, expect) = (&line["request"], &line["expect"]);
    let expected = match line["expected"].as_str().unwrap() {
        "mcp" => Expected::Mcp,
        "malformed" => Expected::Malformed,
        "suspected" => Expected::Suspected,
        "not_mcp" => Expected::NotMcp,
        "later" => Expected::Later,
        other => panic!("unknown expectation {other}"),
    };
    let mut case =
        Case { id: text(line, "id"), expected, facts: expect.clone(), ..plain(Corpus::Evasions, request, headers(&request["headers"])) };
    case.body = built(expect, request);
    let chunked = case.header("transfer-encoding").is_some();
    case.framing = match (case.header("content-length"), expect["split"].as_u64()) {
        _ if line["http"] == "2" => Framing::Two,
        (Some(_), _) if chunked => Framing::BothLengths,
        (None, Some(size)) => Framing::Chunks(size as usize),
        (None, None) if chunked => Framing::Chunks(usize::MAX),
        _ if case.header("expect").is_some() => Framing::Continue,
        _ if expect["pipeline_index"].is_u64() => Framing::Pipelined,
        _ => Framing::Length,
    };
    // The body is what the server sends on a stream that the client only reads.
    if expect["direction"] == "response" || line["note"].as_str().unwrap().contains("SSE") {
        case.answer = Some(Given { status: 200, headers: case.headers.clone(), body: std::mem::take(&mut case.body) });
        case.method = "GET".to_owned();
        case.headers = vec![("accept".to_owned(), "application/json, text/event-stream".to_owned())];
    }
    case
}

fn plain(corpus: Corpus, request: &Value, headers: Headers) -> Case {
    Case {
        id: String::new(),
        corpus,
        framing: Framing::Length,
        method: text(request, "method"),
        host: text(request, "host"),
        path: text(request, "path"),
        headers,
        body: text(request, "body").into_bytes(),
        answer: None,
        expected: Expected::NotMcp,
        facts: Value::Null,
    }
}

fn text(line: &Value, key: &str) -> String {
    line[key].as_str().unwrap_or_default().to_owned()
}

fn headers(json: &Value) -> Headers {
    let mut headers = Headers::new();
    let mut add = |name: &str, value: &Value| match value {
        Value::Array(values) => headers.extend(values.iter().map(|v| (name.to_owned(), v.as_str().unwrap().to_owned()))),
        value => headers.push((name.to_owned(), value.as_str().unwrap().to_owned())),
    };
    match json {
        Value::Array(pairs) => pairs.iter().for_each(|pair| add(pair[0].as_str().unwrap(), &pair[1])),
        Value::Object(pairs) => pairs.iter().for_each(|(name, value)| add(name, value)),
        _ => {}
    }
    headers
}

/// The body of an evasion, built as its hints say.
fn built(expect: &Value, request: &Value) -> Vec<u8> {
    if let Some(body) = request["body_b64"].as_str() {
        return STANDARD.decode(body).unwrap();
    }
    let mut body = text(request, "body");
    if let Some(size) = expect["pad_to"].as_u64() {
        let room = (size as usize).saturating_sub(body.len());
        body = if body.contains("PAD") { body.replace("PAD", &"A".repeat(room)) } else { " ".repeat(room) + &body };
    }
    if let Some(repeat) = expect["repeat"].as_u64() {
        // `[{element},…x999…,{last}]`
        let mark = body.find(&format!("x{repeat}")).unwrap();
        let (start, end) = (body[..mark].rfind(',').unwrap(), body[mark..].find('{').unwrap() + mark);
        body = format!("[{}{}", format!("{},", &body[1..start]).repeat(repeat as usize), &body[end..]);
    }
    let coding = match expect["encode"].as_str() {
        Some("br") => Coding::Brotli,
        Some("zstd") => Coding::Zstd,
        Some(other) => panic!("unknown coding {other}"),
        None => Coding::Identity,
    };
    coding.encode(body.as_bytes())
}
