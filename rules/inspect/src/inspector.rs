//! The state shared by all exchanges: the rules in force, the surroundings, the bounds, and the memory of endpoints that spoke MCP
//! before.

use crate::{HostPatterns, Reviews, in_force::InForce, normal_host, reviews};
use arc_swap::{ArcSwap, Guard};
use gnomon_engine::{Enforcement, RuleSet};
use gnomon_observe::{Field, Lookup, Observation, Value};
use gnomon_packs::{HostCatalogue, HostClass};
use gnomon_wire::{coding::DecodeLimits, jsonrpc};
use quick_cache::sync::Cache;
use smol_str::SmolStr;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Bounds of one exchange. Every number is in the configuration reference.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most raw bytes of a body that a caller holds back, in bytes.
    pub window: usize,
    /// Bounds of content decoding.
    pub decode: DecodeLimits,
    /// Deepest JSON nesting.
    pub max_depth: u16,
    /// Most bytes of one captured string.
    pub max_capture: usize,
    /// Most bytes of captured arguments per message.
    pub max_arguments: usize,
    /// Most messages of one body whose answers are awaited; further ones are reported at once.
    pub max_open_calls: usize,
    /// Most endpoints remembered as having spoken MCP, most sessions whose client is remembered, and most lists of tools whose hash is.
    pub memory: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            window: 64 << 10,
            decode: DecodeLimits::default(),
            max_depth: 128,
            max_capture: 1024,
            max_arguments: 64 << 10,
            max_open_calls: 64,
            memory: 4096,
        }
    }
}

impl Bounds {
    pub(crate) fn scanner(&self, arguments: jsonrpc::ArgumentCapture) -> jsonrpc::Limits {
        jsonrpc::Limits { max_depth: self.max_depth, max_capture: self.max_capture, arguments }
    }
}

/// Knowledge about servers before any traffic: those sanctioned, those known, those that portals offer.
#[derive(Default)]
pub struct Surroundings {
    /// Servers that the organisation named as allowed.
    pub sanctioned: HostPatterns,
    /// Known hosts.
    pub catalogue: HostCatalogue,
    /// The servers that portals offer.
    pub registered: Registered,
}

/// Servers that portals offer, by where they are.
#[derive(Clone, Debug, Default)]
pub struct Registered(HashMap<(SmolStr, u16), SmolStr>);

impl Registered {
    /// The id of the server at this host, its name already [`normal_host`], and port.
    #[must_use]
    pub fn at(&self, host: &str, port: u16) -> Option<&SmolStr> {
        if self.0.is_empty() { None } else { self.0.get(&(SmolStr::new(host), port)) }
    }
}

impl FromIterator<(String, u16, SmolStr)> for Registered {
    /// Collects hosts, ports and ids. Of several at one host and port the first counts.
    fn from_iter<T: IntoIterator<Item = (String, u16, SmolStr)>>(servers: T) -> Self {
        let mut known = HashMap::new();
        for (host, port, id) in servers {
            known.entry((SmolStr::new(normal_host(&host)), port)).or_insert(id);
        }
        Self(known)
    }
}

/// The shared half of the judge. Rules can be replaced while exchanges run; an exchange keeps the
/// set it began with.
pub struct Inspector {
    rules: ArcSwap<InForce>,
    surroundings: ArcSwap<Surroundings>,
    reviews: ArcSwap<Reviews>,
    pub(crate) bounds: Bounds,
    spoke_mcp: Cache<Endpoint, ()>,
    sessions: Cache<(SmolStr, SmolStr), Named>,
    tools: Cache<ListedTools, [u8; 32]>,
    enforcement: Enforcement,
    disarmed: AtomicBool,
    edition: AtomicU64,
}

/// A page of a list of tools: its endpoint, the server's id in a portal, the cursor.
type ListedTools = (Endpoint, SmolStr, SmolStr);

/// The name that a client gave when its session began (2025-11-25 and before: later requests of the session do not repeat it).
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    pub name: Option<SmolStr>,
    pub version: Option<SmolStr>,
}

/// A client and the endpoint it spoke to; the client is the user where one is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub client: SmolStr,
    pub server: SmolStr,
    pub port: i64,
    pub path: SmolStr,
}

impl Endpoint {
    /// The endpoint at this path of an observation's server, requested by its client.
    pub fn of(seen: &Observation, path: &str) -> Self {
        let client = seen.text(Field::UserName).or_else(|| seen.text(Field::SourceAddress)).unwrap_or_default();
        let port = match seen.get(Field::ServerPort) {
            Lookup::Value(value) => value.as_int().unwrap_or_default(),
            Lookup::Absent | Lookup::Unreadable => 0,
        };
        let server = seen.text(Field::ServerAddress).unwrap_or_default();
        Self { client: client.into(), server: server.into(), port, path: path.into() }
    }
}

impl Inspector {
    /// An inspector with these rules.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>, surroundings: Surroundings, bounds: Bounds) -> Self {
        Self {
            rules: ArcSwap::from_pointee(InForce::new(rules)),
            surroundings: ArcSwap::from_pointee(surroundings),
            reviews: ArcSwap::default(),
            bounds,
            spoke_mcp: Cache::new(bounds.memory),
            sessions: Cache::new(bounds.memory),
            tools: Cache::new(bounds.memory),
            enforcement: Enforcement::Enforce,
            disarmed: AtomicBool::new(false),
            edition: AtomicU64::new(0),
        }
    }

    /// Sets the enforcement of all connections: `Observe` here overrides that of each connection.
    #[must_use]
    pub fn enforcing(self, enforcement: Enforcement) -> Self {
        Self { enforcement, ..self }
    }

    /// The kill switch: from now on nothing is refused, not even messages already held. Verdicts already given stay.
    pub fn disarm(&self) {
        self.disarmed.store(true, Ordering::Release);
    }

    /// Reverts [`Inspector::disarm`].
    pub fn arm(&self) {
        self.disarmed.store(false, Ordering::Release);
    }

    /// True if anything may be interfered with.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        !self.disarmed.load(Ordering::Acquire)
    }

    /// The enforcement of a connection that was opened under `own`.
    pub(crate) fn enforcement(&self, own: Enforcement) -> Enforcement {
        if self.is_armed() && self.enforcement == Enforcement::Enforce { own } else { Enforcement::Shadow }
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Arc<RuleSet> {
        self.rules.load().set().clone()
    }

    /// True if a rule in force, or a filter, asks for digests of programs' files.
    #[must_use]
    pub fn asks_for_digests(&self) -> bool {
        self.rules.load().asks_for_digests
    }

    /// The rules in force, with their derived data.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.rules.load_full()
    }

    /// Puts other rules in force for exchanges that begin from now on.
    pub fn replace_rules(&self, rules: Arc<RuleSet>) {
        self.rules.store(Arc::new(InForce::new(rules)));
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// The current decisions and knowledge about servers.
    pub(crate) fn surroundings(&self) -> Guard<Arc<Surroundings>> {
        self.surroundings.load()
    }

    /// Replaces the configuration's facts about servers, for connections and requests that begin from now on.
    pub fn replace_surroundings(&self, surroundings: Surroundings) {
        self.surroundings.store(Arc::new(surroundings));
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// A number that is another once rules, reviews or surroundings are others: who keeps what was judged judges it anew then.
    #[must_use]
    pub fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// The bounds of exchanges.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The reviews that apply to requests beginning now.
    pub(crate) fn reviews(&self) -> Arc<Reviews> {
        self.reviews.load_full()
    }

    /// Puts other reviews in force for requests that begin from now on, on open connections too.
    pub fn replace_reviews(&self, reviews: Arc<Reviews>) {
        self.reviews.store(reviews);
        self.edition.fetch_add(1, Ordering::Release);
    }

    /// Writes into an observation whether this server, its name already [`normal_host`], is sanctioned,
    /// and what was decided about it.
    pub(crate) fn describe_standing(&self, seen: &mut Observation, reviews: &Reviews, server: &str, port: u16) {
        reviews::describe(seen, self.surroundings().sanctioned.matches(server, port), reviews.of(server, port));
    }

    /// True if the organisation allows this server: by configuration or by approval.
    #[must_use]
    pub fn is_sanctioned(&self, host: &str, port: u16) -> bool {
        let mut seen = Observation::new();
        self.describe_standing(&mut seen, &self.reviews.load(), &normal_host(host), port);
        seen.get(Field::Sanctioned) == Lookup::Value(&Value::Bool(true))
    }

    /// True if the name alone points to MCP: by the catalogue, or by one of its labels.
    pub(crate) fn host_points_to_mcp(&self, host: &str) -> bool {
        self.surroundings().catalogue.lookup(host).is_some_and(|e| e.kind == HostClass::Mcp)
            || host.split(['.', '-', '_']).any(|word| word == "mcp")
    }

    pub(crate) fn remember(&self, endpoint: Endpoint) {
        self.spoke_mcp.insert(endpoint, ());
    }

    /// A list of tools with this hash came from here, of this server of a portal, if it is one, as the page at this cursor. The hash of the
    /// list that came before, where it was another one.
    pub(crate) fn tools_listed(&self, endpoint: Endpoint, server: SmolStr, cursor: SmolStr, hash: [u8; 32]) -> Option<[u8; 32]> {
        let key = (endpoint, server, cursor);
        let before = self.tools.get(&key);
        if before != Some(hash) {
            self.tools.insert(key, hash);
        }
        before.filter(|before| *before != hash)
    }

    /// A session began at this server.
    pub(crate) fn begin_session(&self, server: SmolStr, session: SmolStr, named: Named) {
        self.sessions.insert((server, session), named);
    }

    /// The client that began the session.
    pub(crate) fn session(&self, server: &str, session: &str) -> Option<Named> {
        self.sessions.get(&(SmolStr::new(server), SmolStr::new(session)))
    }

    pub(crate) fn remembers(&self, endpoint: &Endpoint) -> bool {
        self.spoke_mcp.get(endpoint).is_some()
    }
}
