//! The portal's own tools where it shows fewer than all: one that tells of tools, one that calls them.
//!
//! They change what a model reads, never what it may do: they show what lists would show, and their calls take the
//! road of a direct call.

use crate::road::Road;
use bytes::Bytes;
use gnomon_access::Caller;
use gnomon_audit::{RecordKind as Recorded, Status};
use gnomon_lists::lists::PortalLists;
use gnomon_relay::{acts::Ending, call::Call, names::shortened, offer::Offer};
use gnomon_upstream::{
    catalogue::Kind,
    rpc::{Outcome, Request, quoted},
};
use regex_automata::{
    meta::{Config, Regex},
    util::syntax,
};
use serde_json::json;
use smol_str::SmolStr;

/// Tells of tools.
const QUERY: &str = "portal_query_tools";
/// Calls one.
const EXECUTE: &str = "portal_execute";
/// Most tools that one query tells of.
const MOST_TOLD: usize = 50;
/// Longest query, bytes.
const LONGEST_QUERY: usize = 512;
/// Most bytes of a query's program.
const PROGRAM: usize = 256 << 10;

macro_rules! query {
    () => {
        r#"{"name":"portal_query_tools","description":"Full definitions of the tools whose name, description or schema matches a regular expression (case does not matter; at most 50).","inputSchema":{"type":"object","properties":{"query":{"type":"string"}},"required":["query"]},"annotations":{"readOnlyHint":true}}"#
    };
}

/// The tools that find and call others, as they are listed.
pub(crate) const QUERY_AND_EXECUTE: &str = concat!(
    query!(),
    r#",{"name":"portal_execute","description":"Call a tool by the name that portal_query_tools gives.","inputSchema":{"type":"object","properties":{"name":{"type":"string"},"args":{"type":"object"}},"required":["name"]}}"#
);

/// Lists all tools by their names, and the one that tells more.
pub(crate) async fn list_names(lists: &PortalLists, caller: &Caller) -> Bytes {
    lists.settled().await;
    let view = lists.view();
    let mut text = format!("{{\"tools\":[{}", query!());
    for exposed in view.all(Kind::Tool).iter().filter(|exposed| exposed.audience.model && lists.lists(caller, Kind::Tool, exposed)) {
        text.push_str(&format!(",{{\"name\":{},\"inputSchema\":{{\"type\":\"object\"}}}}", quoted(&exposed.name)));
    }
    text.push_str("]}");
    text.into()
}

/// Answers a call of one of these tools; none where it is another's.
pub(crate) async fn tool(road: &Road, call: &Call, request: &Request) -> Option<Outcome> {
    let params = request.members().ok()?;
    let name = params.text("name")?;
    let given = params.object("arguments").unwrap_or_default();
    match &*name {
        QUERY => {
            let act = road.begin(Recorded::Call, call, &request.method);
            act.names(|| SmolStr::new_static(QUERY));
            let (outcome, ending) = match given.text("query") {
                Some(query) => told_of(road.lists(), &call.caller, &query).await,
                None => (Outcome::failed_tool("`query` is missing: a regular expression"), invalid()),
            };
            Some(act.end(ending, outcome).await)
        }
        EXECUTE if call.offer == Offer::Query => {
            let Some(tool) = given.text("name") else {
                return Some(not_called(road, call, request, "`name` is missing: the tool to call, as portal_query_tools names it").await);
            };
            let params = params.with(&[("name", Some(&quoted(&tool))), ("arguments", Some(given.get("args").unwrap_or("{}")))]);
            let request = request.with(params);
            Some(road.direct(call, &request).await)
        }
        _ if call.offer == Offer::Query => {
            let why = "this URL offers portal_query_tools and portal_execute: call other tools by the latter";
            Some(not_called(road, call, request, why).await)
        }
        _ => None,
    }
}

/// Answers why nothing was called, and records the attempt.
async fn not_called(road: &Road, call: &Call, request: &Request, why: &str) -> Outcome {
    let act = road.begin(Recorded::Call, call, &request.method);
    let named = request.members().ok().and_then(|params| params.text("name").map(|name| shortened(&name)));
    act.names(|| named.unwrap_or_default().into());
    act.end(invalid(), Outcome::failed_tool(why)).await
}

async fn told_of(lists: &PortalLists, caller: &Caller, query: &str) -> (Outcome, Ending) {
    if query.len() > LONGEST_QUERY {
        return (Outcome::failed_tool(&format!("`query` may have at most {LONGEST_QUERY} bytes")), invalid());
    }
    let config = Config::new().nfa_size_limit(Some(PROGRAM)).hybrid_cache_capacity(PROGRAM);
    let syntax = syntax::Config::new().case_insensitive(true).nest_limit(64);
    let pattern = match Regex::builder().configure(config).syntax(syntax).build(query) {
        Ok(pattern) => pattern,
        Err(error) => return (Outcome::failed_tool(&format!("`query` is not a regular expression that can be used: {error}")), invalid()),
    };
    lists.settled().await;
    let view = lists.view();
    let shown = view.all(Kind::Tool).iter().filter(|exposed| exposed.audience.model && lists.lists(caller, Kind::Tool, exposed));
    let mut found = shown.filter(|exposed| pattern.is_match(&exposed.listed()[..]));
    let told: Vec<_> = found.by_ref().take(MOST_TOLD).map(|exposed| String::from_utf8_lossy(&exposed.listed()).into_owned()).collect();
    let more = found.count();
    let mut text = format!("[{}]", told.join(","));
    if more > 0 {
        text.push_str(&format!("\n--- {more} more match: narrow the query ---"));
    }
    (Outcome::of(&json!({"content": [{"type": "text", "text": text}], "resultType": "complete"})), Ending::of(Status::Ok))
}

fn invalid() -> Ending {
    Ending::because(Status::Refused, "invalid_arguments")
}
