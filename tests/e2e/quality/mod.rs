//! How well MCP is told from what resembles it: every line of `tests/corpus` is sent through the proxy and given to `gnomon replay`, each
//! to a new gnomon, and compared with the ten regular expressions that are the usual way to look for it. `cargo xtask quality` prints the
//! tables; docs/quality.md explains them.

mod baseline;
mod calls;
mod corpus;
mod live;
mod replayed;
mod servers;
mod stdio;
mod table;
mod verdict;

use crate::support::{
    request::call,
    rules::{MESSAGE, block, id},
};
use baseline::Baseline;
use corpus::{Case, Corpus, Expected, Framing, cases};
use live::through_the_proxy;
use serde_json::{Value, json};
use servers::Servers;
use table::{Found, Row};

/// Cases whose result is known to differ from the corpus, and why that is accepted.
const KNOWN: &[(&str, &str)] = &[(
    "frm-004",
    "Content-Length beside Transfer-Encoding: refused with 400 before anything in it is judged, so no event says that it \
     was a call",
)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_the_corpora_comes_out_as_written_live_and_replayed() {
    let (mut servers, baseline) = (Servers::new(), Baseline::new());
    let dir = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    for case in Corpus::ALL.into_iter().flat_map(cases) {
        let live = match case.expected {
            Expected::Later => Vec::new(),
            _ => through_the_proxy(&case, &mut servers, Vec::new()).await.events,
        };
        let replayed = replayed::untold(&case).is_none().then(|| replayed::events(&case, dir.path()));
        let baseline = if baseline.finds(&case) { Found::Yes } else { Found::No };
        rows.push(Row { case, live, replayed, baseline });
    }
    let short = table::print(&rows);
    let unknown: Vec<String> =
        short.iter().filter(|s| !KNOWN.iter().any(|(id, _)| *id == s.id)).map(|s| format!("{}: {}", s.id, s.why)).collect();
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    let mended: Vec<&str> = KNOWN.iter().map(|(id, _)| *id).filter(|id| !short.iter().any(|s| s.id == *id)).collect();
    assert!(mended.is_empty(), "comes out as written now, so need not be excused: {mended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_hides_nothing_that_http1_shows() {
    let mut servers = Servers::new();
    let (mut tried, mut wrong) = (0, Vec::new());
    let of_both = |case: &Case| case.framing == Framing::Length && case.expected != Expected::Later && case.path.starts_with('/');
    for mut case in cases(Corpus::Evasions).into_iter().chain(cases(Corpus::LookAlikes)).filter(of_both) {
        case.framing = Framing::Two;
        let events = through_the_proxy(&case, &mut servers, Vec::new()).await.events;
        tried += 1;
        wrong.extend(verdict::shortfall(&case, &events).map(|why| format!("{}: {why}", case.id)));
    }
    println!("evasions and look-alikes over HTTP/2: {tried} cases, {} otherwise than written", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_refused_where_a_rule_blocks_calls_and_what_hides_is_by_the_rule_that_it_hides_from() {
    let mut servers = Servers::new();
    let (mut refused, mut wrong) = (0, Vec::new());
    // A request with two framings is refused before any rule is judged.
    let judged = |case: &Case| match case.expected {
        Expected::Malformed => case.framing != Framing::BothLengths,
        _ => case.facts["rule"].is_string(),
    };
    for case in cases(Corpus::Evasions).into_iter().filter(judged) {
        let rules = vec![block(1, case.facts["rule"].as_str().unwrap_or("mcp.method.name: tools/call"))];
        let outcome = through_the_proxy(&case, &mut servers, rules).await;
        let reached = (servers.paths(), servers.executed());
        let by_us = outcome.answer.as_ref().is_some_and(|answer| answer.header("x-gnomon") == Some("block"));
        let told = outcome.events.iter().any(|event| event["gnomon.action"] == "block" && event["rule.id"] == id(1));
        if by_us && told && reached == (Vec::new(), Vec::new()) {
            refused += 1;
        } else {
            wrong.push(format!("{}: upstream saw {reached:?}, client got {:?}\n{:#?}", case.id, outcome.answer, outcome.events));
        }
    }
    println!("unreadable, contradictory or hidden calls under a rule that blocks them: {refused} refused, {} not", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_two_lengths_reaches_no_server() {
    let case = cases(Corpus::Evasions).into_iter().find(|case| case.framing == Framing::BothLengths).unwrap();
    let mut servers = Servers::new();
    let outcome = through_the_proxy(&case, &mut servers, Vec::new()).await;
    assert_eq!(outcome.answer.map(|answer| answer.status), Some(400));
    assert!(servers.paths().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_only_its_body_reveals_is_found_and_refused() {
    let mut body = call(1, "read_file");
    body["params"]["arguments"] = json!({"path": "/etc/passwd"});
    let case = Case {
        id: "body only".to_owned(),
        corpus: Corpus::Evasions,
        framing: Framing::Length,
        method: "POST".to_owned(),
        host: "internal-tools.company.example".to_owned(),
        path: "/api/assistant".to_owned(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.to_string().into_bytes(),
        answer: None,
        expected: Expected::Mcp,
        facts: Value::Null,
    };
    let mut servers = Servers::new();

    let outcome = through_the_proxy(&case, &mut servers, Vec::new()).await;
    assert_eq!(outcome.events.len(), 1, "{:#?}", outcome.events);
    let event = &outcome.events[0];
    assert_eq!(event["gnomon.confidence"], "confirmed");
    assert_eq!(event["gnomon.evidence"], json!(["body"]));
    assert_eq!((&event["gen_ai.tool.name"], &event["gnomon.action"]), (&json!("read_file"), &json!("log")), "{event:#}");
    assert_eq!(servers.executed(), [body.to_string()]);

    let rules = vec![block(1, "'gen_ai.tool.call.arguments|contains': /etc/passwd")];
    let outcome = through_the_proxy(&case, &mut servers, rules).await;
    assert_eq!((servers.paths(), servers.executed()), (Vec::new(), Vec::new()));
    assert_eq!(outcome.answer.map(|answer| answer.text().contains(MESSAGE)), Some(true));
    let blocked = |event: &Value| event["rule.id"] == id(1) && event["gnomon.action"] == "block";
    assert!(outcome.events.iter().any(blocked), "{:#?}", outcome.events);
    println!("only the body reveals it: found (confirmed, evidence body), and refused by a rule on its arguments");
}
