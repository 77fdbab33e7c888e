//! Every recorded and written exchange of the corpora, judged by the shipped rules, without sockets:
//! whole, in small pieces and byte by byte. The live counterpart goes through the proxy.

use base64::{Engine, engine::general_purpose::STANDARD};
use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Authority, Bounds, Connection, Exchange, Head, Hello, Inspector, Sighting, Surroundings};
use gnomon_observe::{Channel, Field, Lookup, Observation, Value};
use gnomon_packs::{Enablement, HostCatalogue, packs};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use serde_json::Value as Json;
use std::{fs, path::Path, sync::Arc};

fn corpus(name: &str) -> Vec<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(name);
    fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn inspector() -> Arc<Inspector> {
    let sources: Vec<Source> = packs()
        .iter()
        .filter(|p| p.enabled_by_default == Enablement::Enabled)
        .flat_map(|p| p.files().map(|(name, text)| Source { name, text: text.to_owned(), origin: Origin::Vendor }).collect::<Vec<_>>())
        .collect();
    let rules = Arc::new(RuleSet::compile(&sources).unwrap());
    let surroundings = Surroundings { catalogue: HostCatalogue::shipped().unwrap(), ..Surroundings::default() };
    Arc::new(Inspector::new(rules, surroundings, Bounds::default()))
}

fn headers(json: &Json) -> HeaderMap {
    let mut map = HeaderMap::new();
    let mut add = |name: &str, value: &Json| {
        let values = match value {
            Json::Array(values) => values.iter().map(|v| v.as_str().unwrap().to_owned()).collect(),
            value => vec![value.as_str().unwrap().to_owned()],
        };
        for value in values {
            let (Ok(name), Ok(value)) = (name.to_lowercase().parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes())) else {
                continue;
            };
            map.append(name, value);
        }
    };
    match json {
        Json::Array(pairs) => pairs.iter().for_each(|pair| add(pair[0].as_str().unwrap(), &pair[1])),
        Json::Object(pairs) => pairs.iter().for_each(|(name, value)| add(name, value)),
        _ => {}
    }
    map
}

/// The request's body as it goes over the wire.
fn body(case: &Json, request: &Json) -> Vec<u8> {
    if let Some(body) = request["body_b64"].as_str() {
        return STANDARD.decode(body).unwrap();
    }
    let mut body = request["body"].as_str().unwrap_or_default().to_owned();
    if let Some(size) = case["expect"]["pad_to"].as_u64() {
        let room = (size as usize).saturating_sub(body.len());
        body = match body.find("PAD") {
            Some(_) => body.replace("PAD", &"A".repeat(room)),
            None => " ".repeat(room) + &body,
        };
    }
    if let Some(repeat) = case["expect"]["repeat"].as_u64() {
        // `[{element},…x999…,{last}]`
        let marker_end = body.find(&format!("x{repeat}")).unwrap();
        let start = body[..marker_end].rfind(',').unwrap();
        let end = body[marker_end..].find('{').unwrap() + marker_end;
        let element = body[1..start].to_owned();
        let last = body[end..].to_owned();
        body = format!("[{}{last}", format!("{element},").repeat(repeat as usize));
    }
    match case["expect"]["encode"].as_str() {
        Some("br") => {
            let mut out = Vec::new();
            brotli::BrotliCompress(&mut body.as_bytes(), &mut out, &brotli::enc::BrotliEncoderParams::default()).unwrap();
            out
        }
        Some("zstd") => zstd::encode_all(body.as_bytes(), 3).unwrap(),
        _ => body.into_bytes(),
    }
}

struct Exchanged {
    method: String,
    host: String,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
    answer: Option<(u16, HeaderMap, Vec<u8>)>,
}

fn exchange(inspector: &Arc<Inspector>, e: &Exchanged, piece: usize) -> Vec<Sighting> {
    let mut seen = Observation::new();
    seen.set(Field::Channel, Channel::Https.as_str());
    seen.set(Field::SourceAddress, "127.0.0.1");
    let (mut connection, _) = Connection::open(inspector, seen);
    let host = e.host.rsplit_once(':').map_or(e.host.as_str(), |(host, _)| host);
    let _ = connection.hello(host, 443, &Hello { sni: Some(host), random: None });
    let (path, query) = e.path.split_once('?').map_or((e.path.as_str(), None), |(p, q)| (p, Some(q)));
    let method: Method = e.method.parse().unwrap();
    let head =
        Head { method: &method, path, query, version: Version::HTTP_11, headers: &e.headers, alpn: None, authority: Authority::Agrees };
    let mut exchange = Exchange::begin(&connection, &head);
    for chunk in e.body.chunks(piece) {
        exchange.request_bytes(chunk);
    }
    exchange.request_end();
    if let Some((status, headers, body)) = &e.answer {
        exchange.response_head(*status, headers);
        for chunk in body.chunks(piece) {
            exchange.response_bytes(chunk);
        }
        exchange.response_end(&mut Vec::new());
    }
    exchange.flush();
    exchange.reports().collect()
}

fn confidence(sightings: &[Sighting]) -> &'static str {
    let all: Vec<_> = sightings.iter().filter_map(|s| s.seen.text(Field::Confidence)).collect();
    ["confirmed", "probable", "suspected"].into_iter().find(|c| all.contains(c)).unwrap_or("nothing")
}

fn summary(sightings: &[Sighting]) -> String {
    let line = |s: &Sighting| serde_json::to_string(&s.seen).unwrap();
    sightings.iter().take(2).map(line).collect::<Vec<_>>().join("\n      ")
}

/// The outcome for all sizes of pieces, which must agree.
fn judged(e: &Exchanged) -> Vec<Sighting> {
    let whole = exchange(&inspector(), e, usize::MAX);
    for piece in [1, 7] {
        let pieces = exchange(&inspector(), e, piece);
        let facts = |all: &[Sighting]| -> Vec<String> {
            let without_size = |s: &Sighting| {
                // Sizes are as read so far, which depends on the pieces.
                let mut seen = s.seen.clone();
                seen.clear(Field::RequestSize);
                seen.clear(Field::ResponseSize);
                serde_json::to_string(&seen).unwrap()
            };
            all.iter().map(without_size).collect()
        };
        assert!(facts(&pieces) == facts(&whole), "pieces of {piece} differ:\n{}\n{}", summary(&pieces), summary(&whole));
    }
    whole
}

fn request_of(request: &Json, body: Vec<u8>) -> Exchanged {
    let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
    Exchanged { method: text("method"), host: text("host"), path: text("path"), headers: headers(&request["headers"]), body, answer: None }
}

fn report(what: &str, failures: &[String], cases: usize) {
    println!("{what}: {cases} cases, {} as expected", cases - failures.len());
    assert!(failures.is_empty(), "{what}:\n{}", failures.join("\n"));
}

#[test]
fn every_evasion_comes_out_as_written_beside_it() {
    let mut failures = Vec::new();
    let cases = corpus("evasions.jsonl");
    for case in &cases {
        let (id, expected, expect) = (case["id"].as_str().unwrap(), case["expected"].as_str().unwrap(), &case["expect"]);
        // Framing is the socket's business; these are tried live.
        if expected == "later" || case["category"] == "framing" {
            continue;
        }
        let mut e = request_of(&case["request"], body(case, &case["request"]));
        if expect["direction"] == "response" || e.method == "RESPONSE" || case["note"].as_str().unwrap().contains("SSE") {
            let body = std::mem::take(&mut e.body);
            let mut answer = HeaderMap::new();
            for (name, value) in &e.headers {
                answer.append(name, value.clone());
            }
            e.answer = Some((200, answer, body));
            e.method = "GET".to_owned();
        }
        let sightings = judged(&e);
        let confidence = confidence(&sightings);
        let fits = match expected {
            "mcp" | "malformed" => matches!(confidence, "probable" | "confirmed"),
            "suspected" => confidence == "suspected",
            _ => matches!(confidence, "suspected" | "nothing"),
        };
        let has =
            |field: Field, wanted: &Json| wanted.as_str().is_none_or(|wanted| sightings.iter().any(|s| s.seen.text(field) == Some(wanted)));
        let read = expected != "mcp" || (has(Field::RpcMethod, &expect["rpc_method"]) && has(Field::ToolName, &expect["tool"]));
        let batch = expect["batch"].as_u64().is_none_or(|n| sightings.len() as u64 == n);
        let mismatch = expect["reason"] != "header_mismatch"
            || sightings.iter().any(|s| matches!(s.seen.get(Field::Mismatch), Lookup::Value(Value::List(l)) if !l.is_empty()));
        if !(fits && read && batch && mismatch) {
            failures.push(format!("{id} ({}): {expected} came out {confidence}\n      {}", case["note"], summary(&sightings)));
        }
    }
    report("evasions", &failures, cases.len());
}

#[test]
fn no_lookalike_is_more_than_suspected() {
    let cases = corpus("negatives.jsonl");
    let mut failures = Vec::new();
    for case in &cases {
        let e = request_of(case, body(case, case));
        let sightings = judged(&e);
        if matches!(confidence(&sightings), "probable" | "confirmed") {
            failures.push(format!("{} ({}): {}", case["name"], case["why"], summary(&sightings)));
        }
    }
    report("look-alikes", &failures, cases.len());
}

#[test]
fn every_exchange_of_a_real_client_is_recognised() {
    let mut failures = Vec::new();
    let cases: Vec<Json> = corpus("real_clients_http.jsonl").into_iter().chain(corpus("real_clients_auth.jsonl")).collect();
    let shared = inspector();
    for (index, case) in cases.iter().enumerate() {
        // Discovery stands alone: what the same endpoint did before must not speak for it.
        let shared = if case["is_mcp"].is_null() { inspector() } else { shared.clone() };
        let mut e = request_of(case, body(case, case));
        {
            let body = case["resp_body"].as_str().unwrap_or_default().as_bytes().to_vec();
            let mut answer = headers(&case["resp_headers"]);
            // Recorded bodies are decoded already.
            answer.remove("content-encoding");
            e.answer = Some((case["status"].as_u64().unwrap_or(200) as u16, answer, body));
        }
        let sightings = exchange(&shared, &e, usize::MAX);
        let confidence = confidence(&sightings);
        let has_header = e.headers.keys().any(|k| k.as_str().starts_with("mcp-"));
        let fits = match (case["is_mcp"].as_bool(), has_header) {
            (Some(true), _) => matches!(confidence, "probable" | "confirmed"),
            (Some(false), _) => matches!(confidence, "suspected" | "nothing"),
            (None, true) => true,
            (None, false) => matches!(confidence, "suspected" | "nothing"),
        };
        if !fits {
            failures.push(format!(
                "line {index} {} {} {} came out {confidence}\n      {}",
                case["client"],
                e.method,
                e.path,
                summary(&sightings)
            ));
        }
    }
    report("real clients", &failures, cases.len());
}
