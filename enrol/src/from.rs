//! Adding a server that was seen in use: an entry of the inventory becomes one of the configuration, with the least privilege that the
//! observed calls need.

use super::{
    AddServer,
    proposal::{Proposal, exactly},
};
use anyhow::Result;
use gnomon_cli::{
    Complaint,
    line::{clean, counted},
};
use gnomon_config::At;
use gnomon_kit::nearest;
use gnomon_ledger::{EventFilter, Order, Reader, ServerRecord};
use gnomon_observe::Action;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Events are read in pages of this many …
const PAGE: usize = 1_000;
/// … the latest first, and no more pages than this.
const PAGES: usize = 200;
/// The most names of one kind that a proposal has.
const NAMES: usize = 512;
/// The most users that a comment names.
const USERS: usize = 5;
/// What a policy names: the key, the method by which it is used, and the field that has its name.
const USES: [(&str, &str, &str); 3] = [
    ("tools", "tools/call", "gen_ai.tool.name"),
    ("prompts", "prompts/get", "gen_ai.prompt.name"),
    ("resources", "resources/read", "mcp.resource.uri"),
];

impl AddServer {
    /// Finds the server in the inventory and what was called of it, and adds its entry.
    pub(super) async fn seen(self, server: &str) -> Result<()> {
        let ledger = self.state.ledger()?;
        let mut reader = Reader::open(&ledger).await?;
        let mut seen = reader.inventory().await?;
        // One that a client starts has no address.
        seen.retain(|record| !record.is_local());
        let record = find(server, seen)?;
        let used = Used::of(&mut reader, &record).await?;
        drop(reader);
        let url = used.url.clone().unwrap_or_else(|| guessed_url(&record));
        let same = |configured: &gnomon_config::Server| matches!(&configured.at, At::Url(at) if *at == url);
        if let Some(known) = self.config.load()?.servers.iter().find(|configured| same(configured)) {
            let cause = format!("the configuration has {url} already, as `{}`", known.id);
            return Err(Complaint::usage(cause).next("allow more of it in the portal's policy").into());
        }
        self.remote(&url, Some(used)).await
    }
}

/// The inventory's entry of this name: a host, with its port and path where one host has several.
fn find(server: &str, servers: Vec<ServerRecord>) -> Result<ServerRecord, Complaint> {
    let wanted = server.split_once("://").map_or(server, |(_, rest)| rest);
    let wanted = wanted.trim_end_matches('/');
    let names = |record: &ServerRecord| {
        let host = record.address.clone();
        let port = record.port.map(|port| format!("{host}:{port}"));
        let path = record.path.trim_end_matches('/');
        let mut names = vec![format!("{host}{path}"), host];
        names.extend(port.into_iter().flat_map(|port| [format!("{port}{path}"), port]));
        names
    };
    let (mut found, others): (Vec<_>, Vec<_>) = servers.into_iter().partition(|record| names(record).iter().any(|name| name == wanted));
    // A host of which no path is known stands for what may be any of its servers.
    if found.len() > 1 {
        found.retain(|record| !record.path.is_empty());
    }
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        0 => {
            let known: Vec<&str> = others.iter().map(|record| record.address.as_str()).collect();
            let next = match nearest(wanted, known, 0.7) {
                Some(near) => format!("is it `{}`? `gnomon inventory` has all that were seen", clean(near)),
                None => "`gnomon inventory` has all that were seen".to_owned(),
            };
            Err(Complaint::usage(format!("no server `{}` was seen", clean(server))).next(next))
        }
        _ => {
            let several: Vec<String> = found.iter().map(|record| clean(&at(record))).collect();
            Err(Complaint::usage(format!("several servers are called so: {}", several.join(", "))).next("name one with port and path"))
        }
    }
}

fn at(record: &ServerRecord) -> String {
    let port = record.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}{}", record.address, record.path)
}

/// A URL where no event has it.
fn guessed_url(record: &ServerRecord) -> String {
    let scheme = if record.channel.is_some_and(|channel| channel.as_str() == "http") { "http" } else { "https" };
    let usual = if scheme == "http" { 80 } else { 443 };
    let port = record.port.filter(|port| *port != usual).map(|port| format!(":{port}")).unwrap_or_default();
    let host = if record.address.contains(':') { format!("[{}]", record.address) } else { record.address.clone() };
    format!("{scheme}://{host}{port}{}", record.path)
}

/// The use of a server, as its events have it.
pub(super) struct Used {
    url: Option<String>,
    /// By the policy's key, name by name.
    names: BTreeMap<&'static str, BTreeMap<String, Uses>>,
    /// Calls that a rule refused or the server did not know, which nobody needs as yet.
    refused: u64,
    /// `gnomon.observation.id` of the last call: one that is several events is one call, and they stand together.
    last_call: Option<String>,
}

#[derive(Default)]
struct Uses {
    calls: u64,
    users: BTreeSet<String>,
}

impl Used {
    async fn of(reader: &mut Reader, record: &ServerRecord) -> Result<Self> {
        let mut used = Self { url: None, names: BTreeMap::new(), refused: 0, last_call: None };
        let mut conditions = vec![format!("server.address={}", record.address).parse()?];
        if let Some(port) = record.port {
            conditions.push(format!("server.port={port}").parse()?);
        }
        if !record.path.is_empty() {
            conditions.push(format!("url.path={}", record.path).parse()?);
        }
        // What became of a call is told by an event of its own, which is not another call.
        let kinds = ["event", "alert", "signal"].map(str::to_owned).to_vec();
        let mut filter = EventFilter { conditions, kinds, limit: PAGE, ..EventFilter::default() };
        for _ in 0..PAGES {
            let page = reader.events(&filter, Order::NewestFirst).await?;
            for event in page.iter().filter_map(|event| serde_json::from_str::<Map<String, Value>>(&event.json).ok()) {
                used.add(&event);
            }
            filter.after = page.last().map(|event| event.seq);
            if page.len() < PAGE {
                break;
            }
        }
        Ok(used)
    }

    fn add(&mut self, event: &Map<String, Value>) {
        let text = |field: &str| event.get(field).and_then(Value::as_str);
        if self.url.is_none() {
            self.url = text("url.full").map(str::to_owned);
        }
        let Some((key, _, field)) = USES.iter().find(|(_, method, _)| text("mcp.method.name") == Some(method)) else { return };
        let Some(name) = text(field) else { return };
        let call = text("gnomon.observation.id");
        if call.is_some() && self.last_call.as_deref() == call {
            return;
        }
        self.last_call = call.map(str::to_owned);
        let calls = event.get("gnomon.calls").and_then(Value::as_u64).unwrap_or(1);
        // A tool that fails is a tool all the same.
        let failed = text("error.type").is_some_and(|error| error != "tool_error");
        if failed || text("gnomon.action").and_then(|action| action.parse().ok()).is_some_and(Action::refuses) {
            self.refused += calls;
            return;
        }
        let names = self.names.entry(key).or_default();
        if names.len() >= NAMES && !names.contains_key(name) {
            return;
        }
        let uses = names.entry(name.to_owned()).or_default();
        uses.calls += calls;
        uses.users.extend(text("user.name").map(str::to_owned));
    }

    /// Entries of a policy that allow what was called and nothing else; none where nothing was.
    pub fn proposal(&self, id: &str) -> Proposal {
        let mut odd = 0;
        let entry = |(key, names): (&&str, &BTreeMap<String, Uses>)| {
            let (mut calls, mut users, mut allowed) = (0, BTreeSet::new(), Vec::new());
            for (name, uses) in names {
                let Some(name) = exactly(name) else {
                    odd += 1;
                    continue;
                };
                calls += uses.calls;
                users.extend(uses.users.iter().map(|user| clean(user)));
                allowed.push(name);
            }
            (!allowed.is_empty()).then(|| {
                let by = by(&users).map(|by| format!(" by {by}")).unwrap_or_default();
                format!("allow: {{ servers: [{id}], {key}: [{}] }}    # {}{by}", allowed.join(", "), counted(calls, "call"))
            })
        };
        let allow = self.names.iter().filter_map(entry).collect();
        Proposal { allow, choices: Vec::new(), odd }
    }

    /// A summary in one line.
    pub fn line(&self) -> String {
        let calls: u64 = self.names.values().flat_map(BTreeMap::values).map(|uses| uses.calls).sum();
        let tools = self.names.get("tools").map_or(0, BTreeMap::len);
        let mut line = format!("seen: {} of {}", counted(calls, "call"), counted(u64::try_from(tools).unwrap_or(u64::MAX), "tool"));
        if self.refused > 0 {
            line.push_str(&format!("; {} that rules refused or that failed, not proposed below", counted(self.refused, "call")));
        }
        line
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let of = |names: &BTreeMap<String, Uses>| {
            names.iter().map(|(name, uses)| json!({"name": name, "calls": uses.calls, "users": uses.users})).collect::<Vec<Value>>()
        };
        let names: Map<String, Value> = self.names.iter().map(|(key, names)| ((*key).to_owned(), of(names).into())).collect();
        json!({"called": names, "refused": self.refused})
    }

    /// Tools that were called and that the server no longer offers.
    pub fn gone<'a>(&'a self, offered: &'a BTreeSet<&str>) -> impl Iterator<Item = &'a str> {
        let tools = self.names.get("tools").into_iter().flat_map(BTreeMap::keys);
        tools.map(String::as_str).filter(|name| !offered.contains(name))
    }
}

fn by(users: &BTreeSet<String>) -> Option<String> {
    let mut named = users.iter().take(USERS).map(String::as_str).collect::<Vec<_>>().join(", ");
    if users.len() > USERS {
        named.push_str(&format!(" and {} more", users.len() - USERS));
    }
    (!named.is_empty()).then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_ledger::ServerStatus;

    fn record(address: &str, port: u16, path: &str) -> ServerRecord {
        ServerRecord {
            address: address.into(),
            port: Some(port),
            path: path.into(),
            status: ServerStatus::Shadow,
            catalogue: None,
            first_seen_ms: 0,
            last_seen_ms: 0,
            calls: 0,
            unreached: 0,
            contact: gnomon_ledger::Contact::Used,
            clients: Vec::new(),
            tools: Vec::new(),
            protocols: Vec::new(),
            name: None,
            version: None,
            confidence: None,
            channel: None,
            users: Vec::new(),
            listens: Vec::new(),
        }
    }

    #[test]
    fn a_server_is_named_by_as_much_as_tells_it_from_others() {
        let servers = || {
            vec![
                record("a.example", 443, "/mcp"),
                record("a.example", 443, "/other"),
                record("b.example", 443, ""),
                record("b.example", 443, "/mcp"),
            ]
        };
        let found = |name: &str| find(name, servers()).map(|found| at(&found)).map_err(|error| error.to_string());
        assert_eq!(found("b.example").unwrap(), "b.example:443/mcp");
        assert_eq!(found("https://a.example/other/").unwrap(), "a.example:443/other");
        assert_eq!(found("a.example:443/mcp").unwrap(), "a.example:443/mcp");
        assert!(found("a.example").unwrap_err().contains("several"));
        assert!(found("c.example").unwrap_err().contains("no server"));
    }

    #[test]
    fn what_was_called_is_proposed_and_what_was_refused_is_not() {
        let mut used = Used { url: None, names: BTreeMap::new(), refused: 0, last_call: None };
        let call = |tool: &str, more: Value| {
            let mut event = json!({"mcp.method.name": "tools/call", "gen_ai.tool.name": tool, "user.name": "ada"});
            event.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
            event.as_object().unwrap().clone()
        };
        used.add(&call("read", json!({"gnomon.calls": 40, "url.full": "https://a.example/mcp"})));
        used.add(&call("read", json!({"user.name": "bob"})));
        used.add(&call("delete", json!({"gnomon.action": "block"})));
        used.add(&call("every*", json!({})));
        used.add(json!({"mcp.method.name": "tools/list"}).as_object().unwrap());
        assert_eq!(used.url.as_deref(), Some("https://a.example/mcp"));
        let proposal = used.proposal("a");
        assert_eq!(
            (&*proposal.allow, proposal.odd),
            (&["allow: { servers: [a], tools: ['read'] }    # 41 calls by ada, bob".to_owned()][..], 1)
        );
        assert!(used.line().contains("1 call that rules refused"), "{}", used.line());
        assert_eq!(used.gone(&BTreeSet::from(["every*"])).collect::<Vec<_>>(), ["read"]);
    }
}
