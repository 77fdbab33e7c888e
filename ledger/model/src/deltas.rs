//! Changes that a group of events makes besides adding rows. Summed up in memory where events are recorded, so that the database sees one
//! change per touched server or incident, not per event.

use crate::{
    HostPort, MAX_CLIENTS, MAX_LISTENS, MAX_PROTOCOLS, MAX_TOOLS, MAX_USERS, Once, ServerStatus,
    inventory::{UNREACHED, cut, is_local},
    volume::{Volumes, calls_of},
};
use gnomon_observe::{Channel, Confidence, Field, Lookup, Observation, Value};
use hashbrown::{Equivalent, HashMap, HashSet};
use smol_str::{SmolStr, ToSmolStr as _};

/// The key of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey {
    /// Its name or address.
    pub address: SmolStr,
    /// Its TCP port, 0 where there is none.
    pub port: i64,
    /// The path of its endpoint; empty where only the host is known.
    pub path: SmolStr,
}

impl ServerKey {
    /// True if it is started on this host.
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_local(&self.address)
    }
}

/// The changes of a group of events to one server.
#[derive(Debug, Default)]
pub struct ServerDelta {
    /// First event, milliseconds since the Unix epoch. The entry keeps the earliest.
    pub first_ms: i64,
    /// Last event, likewise. The entry keeps the latest.
    pub last_ms: i64,
    /// MCP messages, to be added; negative where some turned out to have reached nobody.
    pub calls: i64,
    /// Messages, else requests and connections, for which it could not be dialled, to be added.
    pub unreached: i64,
    /// True if it answered.
    pub answered: bool,
    /// True if an event told of an MCP server, which makes an entry; else there is only what became of calls.
    pub makes_entry: bool,
    /// Sanctioned or not, where an event said. Of this and the texts below the entry keeps the last value.
    pub sanctioned: Option<bool>,
    /// Its class in the host catalogue.
    pub catalogue: Option<SmolStr>,
    /// Its own name.
    pub name: Option<SmolStr>,
    /// Its own version.
    pub version: Option<SmolStr>,
    /// The highest confidence that it speaks MCP. The entry keeps the highest.
    pub confidence: Option<Confidence>,
    /// The channel to it. That it is listed in a configuration takes the place of no other channel.
    pub channel: Option<SmolStr>,
    /// Names of clients, to be added up to [`MAX_CLIENTS`].
    pub clients: HashSet<SmolStr>,
    /// Names of tools, to be added up to [`MAX_TOOLS`].
    pub tools: HashSet<SmolStr>,
    /// Protocol versions, to be added up to [`MAX_PROTOCOLS`].
    pub protocols: HashSet<SmolStr>,
    /// Of a server that is started on this host, or that a configuration file lists, its users, to be added up to [`MAX_USERS`].
    pub users: HashSet<SmolStr>,
    /// Of a server that is started on this host, the addresses at which it listens, to be added up to [`MAX_LISTENS`].
    pub listens: HashSet<SmolStr>,
}

/// The changes of a group of events to one incident.
#[derive(Debug)]
pub struct IncidentDelta {
    /// First detection, milliseconds since the Unix epoch. The incident keeps the earliest.
    pub first_ms: i64,
    /// Last detection, likewise. The incident keeps the latest.
    pub last_ms: i64,
    /// Detections, to be added.
    pub count: i64,
    /// The index of its first event in the group.
    pub first: usize,
    /// The index of its last event in the group.
    pub last: usize,
    /// Its description. An incident that exists already keeps its own.
    pub about: About,
}

/// The description of an incident, from its first event.
#[derive(Debug)]
pub struct About {
    /// `rule.id`.
    pub rule: Option<SmolStr>,
    /// `rule.name`.
    pub rule_name: Option<SmolStr>,
    /// `rule.level`.
    pub level: Option<SmolStr>,
    /// `gnomon.action`.
    pub action: Option<SmolStr>,
    /// The client's name, else its program, else its `User-Agent`.
    pub client: Option<SmolStr>,
    /// The server's name, else that of the local server, with its port where that is not the one of HTTPS.
    pub server: Option<SmolStr>,
}

impl About {
    fn of(seen: &Observation) -> Self {
        let plain = |field| seen.text(field).map(SmolStr::new);
        Self {
            rule: plain(Field::RuleId),
            rule_name: plain(Field::RuleName),
            level: plain(Field::RuleLevel),
            action: plain(Field::Action),
            client: client_name(seen).map(SmolStr::from),
            server: Some(HostPort::of(seen)).filter(|server| !server.host().is_empty()).map(|server| server.to_smolstr()),
        }
    }
}

/// The changes of a group of events besides adding rows.
#[derive(Debug, Default)]
pub struct Deltas {
    /// Changes of the inventory.
    pub servers: HashMap<ServerKey, ServerDelta>,
    /// Changes of incidents, by `gnomon.incident.id`.
    pub incidents: HashMap<SmolStr, IncidentDelta>,
    /// Changes of the hourly sums.
    pub volumes: Volumes,
}

impl Deltas {
    /// Adds what the event at place `n` of the group says; `calls` are those that were counted before. What is known already costs
    /// look-ups and no allocation: this runs where events are recorded.
    pub(crate) fn add(&mut self, n: usize, seen: &Observation, at_ms: i64, calls: &mut Once) {
        let is_outcome = seen.text(Field::EventKind) == Some("outcome");
        // As reports count: whatever the first event of a call is, and no outcome.
        let is_first = !is_outcome && calls.is_first(seen.text(Field::ObservationId));
        if is_first {
            self.volumes.add(seen, at_ms);
        }
        if let Some(id) = text(seen, Field::IncidentId) {
            let delta = match self.incidents.get_mut(id) {
                Some(delta) => delta,
                None => self.incidents.entry(id.into()).or_insert_with(|| IncidentDelta {
                    first_ms: at_ms,
                    last_ms: at_ms,
                    count: 0,
                    first: n,
                    last: n,
                    about: About::of(seen),
                }),
            };
            delta.first_ms = delta.first_ms.min(at_ms);
            delta.last_ms = delta.last_ms.max(at_ms);
            delta.count += 1;
            delta.last = n;
        }
        if let Some(key) = KeyRef::of(seen) {
            let delta = match self.servers.get_mut(&key) {
                Some(delta) => delta,
                None => self.servers.entry(key.to_key()).or_insert_with(|| ServerDelta {
                    first_ms: at_ms,
                    last_ms: at_ms,
                    ..Default::default()
                }),
            };
            if is_outcome {
                // It could not be dialled after all: its event counted it.
                delta.calls = delta.calls.saturating_sub(1);
                delta.unreached = delta.unreached.saturating_add(1);
                return;
            }
            delta.add(seen, at_ms);
            if is_first && is_unreached(seen) {
                delta.unreached = delta.unreached.saturating_add(calls_of(seen));
            } else if is_first && seen.text(Field::McpMethod).is_some() {
                delta.calls = delta.calls.saturating_add(calls_of(seen));
            }
        }
    }
}

impl ServerDelta {
    /// The status by the last event that has one; shadow without, as in the database.
    #[must_use]
    pub fn status(&self) -> ServerStatus {
        if self.sanctioned == Some(true) { ServerStatus::Sanctioned } else { ServerStatus::Shadow }
    }

    fn add(&mut self, seen: &Observation, at_ms: i64) {
        self.makes_entry = true;
        self.answered |= matches!(seen.get(Field::HttpStatus), Lookup::Value(_)) || says_answer(seen);
        self.first_ms = self.first_ms.min(at_ms);
        self.last_ms = self.last_ms.max(at_ms);
        if let Lookup::Value(Value::Bool(sanctioned)) = seen.get(Field::Sanctioned) {
            self.sanctioned = Some(*sanctioned);
        }
        let keep = |kept: &mut Option<SmolStr>, field| {
            if let Some(text) = text(seen, field)
                && kept.as_deref() != Some(text)
            {
                *kept = Some(text.into());
            }
        };
        keep(&mut self.catalogue, Field::Catalogue);
        keep(&mut self.name, Field::McpServerName);
        keep(&mut self.version, Field::McpServerVersion);
        keep(&mut self.version, Field::PackageVersion);
        if self.channel.is_none() || seen.text(Field::Channel) != Some(Channel::Config.as_str()) {
            keep(&mut self.channel, Field::Channel);
        }
        self.confidence = self.confidence.max(seen.text(Field::Confidence).and_then(|word| word.parse().ok()));
        let local = seen.text(Field::LocalServer).is_some() || seen.text(Field::ConfigClient).is_some();
        if local {
            insert(&mut self.users, MAX_USERS, text(seen, Field::UserName).or_else(|| text(seen, Field::UserId)));
        }
        // The program of a local server is no client of its own.
        insert(
            &mut self.clients,
            MAX_CLIENTS,
            if local { text(seen, Field::Agent).or_else(|| text(seen, Field::ConfigClient)) } else { client_name(seen) },
        );
        insert(&mut self.protocols, MAX_PROTOCOLS, text(seen, Field::McpProtocolVersion));
        if let Lookup::Value(Value::List(tools)) = seen.get(Field::Tools) {
            for tool in tools {
                insert(&mut self.tools, MAX_TOOLS, Some(cut(tool)));
            }
        }
        if let Lookup::Value(Value::List(addresses)) = seen.get(Field::LocalListens) {
            for address in addresses {
                insert(&mut self.listens, MAX_LISTENS, Some(cut(address)));
            }
        }
        // A client may ask for any name; a name that was answered without error exists.
        if seen.get(Field::ErrorType) == Lookup::Absent && matches!(seen.get(Field::HttpStatus), Lookup::Value(Value::Int(200))) {
            insert(&mut self.tools, MAX_TOOLS, text(seen, Field::ToolName));
        }
    }
}

/// A [`ServerKey`] that borrows its texts, for looking up.
#[derive(PartialEq, Eq, Hash)]
struct KeyRef<'a> {
    address: &'a str,
    port: i64,
    path: &'a str,
}

impl<'a> KeyRef<'a> {
    /// The server an event tells of, if it tells of an MCP server.
    fn of(seen: &'a Observation) -> Option<Self> {
        if let Some(address) = text(seen, Field::LocalServer) {
            // A server that is called over a network has its address.
            return Some(Self { address, port: 0, path: "" });
        }
        let address = text(seen, Field::ServerAddress)?;
        // An unreadable body may have been a message, and is no evidence of one.
        let says = |field| matches!(seen.get(field), Lookup::Value(_));
        let speaks = says(Field::McpMethod) || says(Field::Tools);
        let confidence = seen.text(Field::Confidence).and_then(|word| word.parse::<Confidence>().ok());
        let outcome = seen.text(Field::EventKind) == Some("outcome");
        if outcome && !is_unreached(seen) || !outcome && !speaks && confidence.is_none() {
            return None;
        }
        let port = match seen.get(Field::ServerPort) {
            Lookup::Value(Value::Int(port)) => i64::from(u16::try_from(*port).unwrap_or(0)),
            _ => 0,
        };
        // A path is an endpoint only where something spoke MCP; a suspected host has many paths.
        let endpoint = outcome || speaks || confidence >= Some(Confidence::Probable);
        let path = if endpoint { text(seen, Field::UrlPath).unwrap_or_default() } else { "" };
        Some(Self { address, port, path })
    }

    fn to_key(&self) -> ServerKey {
        ServerKey { address: self.address.into(), port: self.port, path: self.path.into() }
    }
}

impl Equivalent<ServerKey> for KeyRef<'_> {
    fn equivalent(&self, key: &ServerKey) -> bool {
        (self.address, self.port, self.path) == (key.address.as_str(), key.port, key.path.as_str())
    }
}

/// True if the server could not be dialled.
fn is_unreached(seen: &Observation) -> bool {
    seen.text(Field::ErrorType) == Some(UNREACHED) && seen.get(Field::HttpStatus) == Lookup::Absent
}

/// True if a server said something, over whatever channel.
fn says_answer(seen: &Observation) -> bool {
    [Field::Tools, Field::McpServerName, Field::ResponseSignatures].into_iter().any(|field| matches!(seen.get(field), Lookup::Value(_)))
        || seen.text(Field::RpcStatus).is_some()
}

/// The client's name: its own, else its program, else its `User-Agent`.
fn client_name(seen: &Observation) -> Option<&str> {
    text(seen, Field::McpClientName)
        .or_else(|| text(seen, Field::Executable))
        .or_else(|| seen.text(Field::UserAgent).and_then(|agent| agent.split([' ', '/']).next()).map(cut))
}

fn text(seen: &Observation, field: Field) -> Option<&str> {
    seen.text(field).filter(|text| !text.is_empty()).map(cut)
}

fn insert(set: &mut HashSet<SmolStr>, bound: usize, name: Option<&str>) {
    if let Some(name) = name
        && set.len() < bound
        && !set.contains(name)
    {
        set.insert(name.into());
    }
}
