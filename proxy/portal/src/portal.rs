//! One portal: its servers, what it shows of them, and its clients' sessions.

use crate::{
    acts::{Act, Acts, Ending},
    call::{Call, From},
    clients::Clients,
    codemode::{self, CodeModeWorks, callable::Callables, suspended::Suspended},
    given::{Given, Wanted},
    held::{Held, Upstream},
    judged::{Judge, Rules},
    labels::Labels,
    metrics::{Lacking, PortalMetrics},
    modern::LIST_TTL_MS,
    names::Prefix,
    offer::{CodeMode, Offer},
    own,
    parked::Parked,
    room::Common,
    session::{SessionLimits, Sessions},
    shared::SharedSessions,
    unsent::no_list,
    view::{Exposed, View},
    visible::Gate,
};
use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use gnomon_access::{Asked, Authenticator, Caller, Policy};
use gnomon_audit::Status;
use gnomon_http::server::Tasks;
use gnomon_record::{Duties, Owners};
use gnomon_upstream::{
    Change, Client, Fits, Presence, Reach, UpstreamError,
    catalogue::{Kind, Listed},
    era::{Era, LEGACY},
    legacy::text,
    members::Members,
    rpc::{Outcome, quoted},
};
use serde_json::json;
use smol_str::SmolStr;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{broadcast, watch},
    task::JoinSet,
};

/// How long after the portal's start clients wait for servers that nobody has heard of yet.
const FIRST_PATIENCE: Duration = Duration::from_millis(800);
/// Most changes that wait for a client to be told.
const CHANGES: usize = 256;

/// What a portal is made of.
pub struct PortalOptions {
    /// Its id.
    pub id: SmolStr,
    /// Its servers, in the order in which they are shown.
    pub servers: Vec<(SmolStr, Reach)>,
    /// How names are shown.
    pub prefix: Prefix,
    /// How tools and prompts are shown, by their server's id, at first.
    pub labels: HashMap<SmolStr, Labels>,
    /// Bounds of sessions.
    pub sessions: SessionLimits,
    /// Most bytes of a request.
    pub max_request: usize,
    /// Hosts that clients may call it by, besides the loopback names; any port.
    pub hosts: Vec<String>,
    /// Web origins that may call it, besides its own hosts.
    pub origins: Vec<String>,
    /// The path of its endpoint.
    pub path: String,
    /// Who may do what, at first.
    pub policy: Arc<Policy>,
    /// Who is asking, at first.
    pub authenticator: Arc<Authenticator>,
    /// Which programs of this host connect; without it nobody knows.
    pub owners: Option<Arc<dyn Owners>>,
    /// What judges every message; without it nothing does.
    pub rules: Option<Rules>,
    /// What records who did what; without it nothing does.
    pub acts: Option<Arc<Acts>>,
    /// Whether clients may, or must, use Code Mode.
    pub code_mode: CodeMode,
    /// What runs it; without it there is none.
    pub codemode: Option<Arc<CodeModeWorks>>,
    /// What counts entries that are not offered, and who is turned away; without it nothing does.
    pub metrics: Option<PortalMetrics>,
}

/// A portal.
pub struct Portal {
    pub(crate) options: PortalOptions,
    pub(crate) servers: Vec<Arc<Upstream>>,
    authenticator: ArcSwap<Authenticator>,
    /// Told when another authenticator is in force.
    pub(crate) log_ins: watch::Sender<()>,
    pub(crate) gate: Arc<Gate>,
    labels: ArcSwap<HashMap<SmolStr, Labels>>,
    view: ArcSwap<View>,
    begun: Instant,
    pub(crate) sessions: Sessions,
    pub(crate) shared: SharedSessions,
    pub(crate) parked: Parked,
    pub(crate) suspended: Suspended,
    pub(crate) callables: Callables,
    pub(crate) clients: Clients,
    given: Given,
    pub(crate) changes: broadcast::Sender<(SmolStr, Change)>,
    tasks: Tasks,
}

impl Portal {
    /// A portal that serves nobody yet.
    #[must_use]
    pub fn new(mut options: PortalOptions) -> Arc<Self> {
        let (changes, _) = broadcast::channel(CHANGES);
        let gate = Gate::new(options.id.clone(), options.policy.clone());
        let prefix = options.prefix;
        let (servers, own) = (std::mem::take(&mut options.servers), own_client());
        let upstream = |(id, reach): (SmolStr, Reach)| {
            let judge = options.rules.clone().map(|rules| Judge::new(rules, &options.id, &id, &reach));
            let held = Held::new(&id, prefix, judge, options.metrics.clone());
            Upstream::new(id, reach, own.clone(), changes.clone(), held)
        };
        let servers = servers.into_iter().map(upstream).collect();
        let sessions = Sessions::new(options.sessions, options.acts.clone(), gate.clone());
        Arc::new(Self {
            authenticator: ArcSwap::new(options.authenticator.clone()),
            log_ins: watch::Sender::new(()),
            gate,
            labels: ArcSwap::from_pointee(std::mem::take(&mut options.labels)),
            options,
            servers,
            view: ArcSwap::default(),
            begun: Instant::now(),
            sessions,
            shared: SharedSessions::new(),
            parked: Parked::new(),
            suspended: Suspended::default(),
            callables: Callables::default(),
            clients: Clients::default(),
            given: Given::default(),
            changes,
            tasks: Tasks::default(),
        })
    }

    /// Puts another policy in force, and other labels: for the next request of everybody, in sessions that are open as well.
    /// Clients are told that their lists may have changed.
    pub fn regulate(&self, policy: Arc<Policy>, labels: HashMap<SmolStr, Labels>) {
        self.gate.regulate(policy);
        self.labels.store(Arc::new(labels));
        self.view.store(Arc::default());
        for kind in Kind::ALL {
            let _ = self.changes.send((self.options.id.clone(), Change::List(kind)));
        }
    }

    /// Has callers prove who they are in another way, from the next request on; streams that wait for news end where their callers
    /// cannot. It has the providers' keys first, if it can.
    pub async fn reauthenticate(&self, authenticator: Arc<Authenticator>) {
        // Its users would be refused as long as the keys are on their way; where they do not come, what is withdrawn counts.
        if let Err(issuers) = authenticator.warm().await {
            tracing::warn!("no keys yet of {}: nobody can log in with its tokens", issuers.join(", "));
        }
        self.authenticator.store(authenticator);
        self.log_ins.send_replace(());
    }

    /// Who is asking, now.
    pub(crate) fn authenticator(&self) -> Arc<Authenticator> {
        self.authenticator.load_full()
    }

    /// Who may do what, now.
    pub(crate) fn policy(&self) -> Guard<Arc<Policy>> {
        self.gate.policy()
    }

    /// Somebody was turned away.
    pub(crate) fn refused(&self, lacking: Lacking) {
        if let Some(metrics) = &self.options.metrics {
            metrics.refused(lacking);
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SmolStr {
        &self.options.id
    }

    /// What runs beside the requests: it ends when the set is dropped.
    #[must_use]
    pub fn tend(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for server in &self.servers {
            tasks.spawn(server.clone().keep());
        }
        let portal = self.clone();
        tasks.spawn(async move {
            if let Err(issuers) = portal.options.authenticator.warm().await {
                tracing::warn!("no keys yet of {}: nobody can log in with its tokens", issuers.join(", "));
            }
        });
        let portal = self.clone();
        tasks.spawn(async move { portal.sessions.sweep().await });
        let portal = self.clone();
        tasks.spawn(async move { portal.shared.sweep().await });
        tasks
    }

    /// Runs a task on this thread that ends with the portal.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // A runtime that is gone runs nothing: what is owed is with the duties.
        self.tasks.spawn(task);
    }

    /// Waits until no task is left.
    pub(crate) async fn at_rest(&self) {
        self.tasks.rest().await;
    }

    /// Ends the tasks that are left and waits until they have, then all sessions.
    pub(crate) async fn end_work(&self) {
        self.tasks.cut_off().await;
        self.sessions.end_all().await;
    }

    /// The duties of those who record for this portal.
    pub(crate) fn duties(&self) -> Vec<Arc<Duties>> {
        let mut all: Vec<Arc<Duties>> = Vec::with_capacity(2);
        let events = self.options.rules.as_ref().map(|rules| rules.recorder.duties());
        for duties in events.into_iter().chain(self.options.acts.as_ref().map(|acts| acts.duties())) {
            if all.iter().all(|other| !Arc::ptr_eq(other, duties)) {
                all.push(duties.clone());
            }
        }
        all
    }

    /// A list, which the audit tells of.
    pub(crate) async fn listed(&self, call: &Call, kind: Kind) -> Outcome {
        let act = Act::begin(self, gnomon_audit::Kind::List, call, kind.method());
        let era = match &call.from {
            From::Session(_) => Era::Legacy,
            From::Stateless(_) => Era::Modern,
        };
        let list = match (kind, call.offer) {
            (Kind::Tool, Offer::Full) => self.list(&call.caller, kind, era).await,
            (Kind::Tool, Offer::Names) => Arc::new(Common::new(finished(self.list_names(&call.caller).await, era))),
            (Kind::Tool, Offer::Query) => short(format!("{{\"tools\":[{}]}}", own::QUERY_AND_EXECUTE), era),
            (Kind::Tool, Offer::Code) => {
                if let Some(works) = &self.options.codemode {
                    self.settled().await;
                    let view = self.view();
                    let shown = view.all(kind).iter().filter(|exposed| self.lists(&call.caller, kind, exposed));
                    works.list_was(shown.map(|exposed| exposed.text.len() + 1).sum());
                }
                short(format!("{{\"tools\":[{}]}}", codemode::TOOLS), era)
            }
            _ => self.list(&call.caller, kind, era).await,
        };
        match self.recipient(&call.caller).part_of(&list).await {
            Some(list) => act.end(Ending::of(Status::Ok), Outcome::Result(list)).await,
            None => act.end(Ending::because(Status::Refused, UpstreamError::NoRoom.kind()), no_list()).await,
        }
    }

    /// Waits a little for servers that were never reached, so that the first client finds them. Later nobody waits:
    /// a server that takes connections and says nothing is as good as gone.
    pub(crate) async fn settled(&self) {
        let left = FIRST_PATIENCE.saturating_sub(self.begun.elapsed());
        if left.is_zero() {
            return;
        }
        let mut waiting = JoinSet::new();
        for server in self.servers.iter().filter(|server| matches!(server.presence(), Presence::Unknown)) {
            let server = server.clone();
            waiting.spawn(async move { server.settled(left).await });
        }
        while waiting.join_next().await.is_some() {}
    }

    /// What it shows now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        let view = self.view.load_full();
        if view.is_current(&self.servers) {
            return view;
        }
        let fresh = Arc::new(View::of(&self.servers, self.options.prefix, &self.labels.load()));
        self.view.store(fresh.clone());
        fresh
    }

    /// Whether a caller may know of an entry.
    pub(crate) fn shows(&self, caller: &Caller, kind: Kind, exposed: &Exposed) -> bool {
        self.policy().may_list(caller, &self.asked(kind, exposed)).is_allow()
    }

    /// Whether it is on a caller's lists without Code Mode.
    pub(crate) fn lists(&self, caller: &Caller, kind: Kind, exposed: &Exposed) -> bool {
        *exposed.entry.listed() == Listed::Everywhere && self.shows(caller, kind, exposed)
    }

    /// What is asked for, as policy sees it.
    pub(crate) fn asked<'a>(&'a self, kind: Kind, exposed: &'a Exposed) -> Asked<'a> {
        Asked {
            portal: &self.options.id,
            server: &self.servers[exposed.server].id,
            capability: kind.asked(),
            name: &exposed.entry.name,
            hints: exposed.entry.hints,
            arguments: None,
        }
    }

    /// The result of a list method, for this caller, with what clients of its era can read.
    pub(crate) async fn list(&self, caller: &Caller, kind: Kind, era: Era) -> Arc<Common> {
        self.settled().await;
        let view = self.view();
        let readable = |exposed: &Exposed| era == Era::Modern || exposed.entry.fits == Fits::Both;
        let shows = |place: &usize| {
            let exposed = &view.all(kind)[*place];
            readable(exposed) && self.lists(caller, kind, exposed)
        };
        let shown: Vec<usize> = (0..view.all(kind).len()).filter(shows).collect();
        let notices = [("dev.gnomon/missing", self.missing(caller)), ("dev.gnomon/left-out", self.left_out(caller, kind))];
        let notices: serde_json::Map<_, _> = notices.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        let notices = if notices.is_empty() { String::new() } else { serde_json::Value::Object(notices).to_string() };
        let wanted = Wanted { view: &view, kind, era, shown: &shown, notices: &notices };
        self.given.of(&wanted, || {
            let entries = || shown.iter().map(|place| &view.all(kind)[*place]);
            let mut text = Vec::with_capacity(entries().map(|exposed| exposed.text.len() + 1).sum::<usize>() + notices.len() + 256);
            text.extend_from_slice(b"{\"");
            text.extend_from_slice(kind.key().as_bytes());
            text.extend_from_slice(b"\":[");
            for (index, exposed) in entries().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(&exposed.listed());
            }
            text.push(b']');
            if !notices.is_empty() {
                text.extend_from_slice(b",\"_meta\":");
                text.extend_from_slice(notices.as_bytes());
            }
            if era == Era::Modern {
                text.extend_from_slice(of_stateless().as_bytes());
            }
            text.push(b'}');
            text.into()
        })
    }

    /// The servers that are not there, of those that a caller may know of, as JSON; none where all are.
    fn missing(&self, caller: &Caller) -> Option<serde_json::Value> {
        if self.servers.iter().all(|server| server.presence().is_up()) {
            return None;
        }
        let known = self.known(caller);
        let missing: Vec<_> = self
            .servers
            .iter()
            .zip(&known)
            .filter(|(_, known)| **known)
            .filter_map(|(server, _)| match server.presence() {
                Presence::Up { .. } => None,
                Presence::Unknown => Some(json!({"server": server.id, "why": "it is being connected to", "stale": false})),
                Presence::Down { why, face, .. } => Some(json!({"server": server.id, "why": why.to_string(), "stale": face.is_some()})),
            })
            .collect();
        (!missing.is_empty()).then_some(missing.into())
    }

    /// What the portal can do, as JSON: what any of its servers can.
    pub(crate) fn capabilities(&self) -> serde_json::Value {
        if let (Prefix::Never, [only]) = (self.options.prefix, &*self.servers)
            && let Some(face) = only.presence().face()
            && let Ok(own) = serde_json::from_slice(&face.capabilities)
        {
            return own;
        }
        let mut all = json!({"tools": {"listChanged": true}});
        for server in &self.servers {
            let presence = server.presence();
            let Some(Ok(own)) = presence.face().map(|face| Members::read(&face.capabilities)) else { continue };
            for name in ["prompts", "logging", "completions", "resources"] {
                if let Some(json) = own.get(name) {
                    let old = &mut all[name];
                    match name {
                        "prompts" => *old = json!({"listChanged": true}),
                        "resources" => {
                            let subscribe =
                                old["subscribe"] == true || Members::read(json.as_bytes()).is_ok_and(|r| r.flag("subscribe") == Some(true));
                            *old = json!({"listChanged": true, "subscribe": subscribe});
                        }
                        _ => *old = json!({}),
                    }
                }
            }
        }
        all
    }

    /// Who the portal is, as JSON.
    pub(crate) fn info(&self) -> serde_json::Value {
        json!({"name": "gnomon", "title": format!("gnomon portal {}", self.options.id), "version": env!("CARGO_PKG_VERSION")})
    }

    /// How to use it: what the servers say that a caller may know of, and which of them are missing.
    pub(crate) fn instructions(&self, caller: &Caller, offer: Offer) -> Option<String> {
        // They would grow with every server, which is what the others are for.
        if offer != Offer::Full {
            return None;
        }
        let (mut parts, known) = (Vec::new(), self.known(caller));
        for (server, _) in self.servers.iter().zip(&known).filter(|(_, known)| **known) {
            let presence = server.presence();
            if let Some(said) = presence.face().and_then(|face| face.instructions.as_deref()) {
                let said = said.to_owned();
                match self.options.prefix {
                    Prefix::Never => parts.push(said),
                    Prefix::Always => parts.push(format!("## Server {}\n{said}", server.id)),
                }
            }
            if let Presence::Down { why, .. } = &presence {
                parts.push(format!("Server {} is not available at the moment: {why}. Its tools may fail.", server.id));
            }
        }
        (!parts.is_empty()).then(|| parts.join("\n\n"))
    }
}

/// Who the portal is to servers, on its own behalf.
fn own_client() -> Client {
    let info = json!({"name": "gnomon-portal", "version": env!("CARGO_PKG_VERSION")});
    Client::new(Bytes::from(info.to_string()), Bytes::from_static(b"{}"), SmolStr::new_static(LEGACY[0]))
}

/// What lists say besides in the stateless era. What a caller sees is theirs alone.
fn of_stateless() -> String {
    format!(",\"resultType\":\"complete\",\"ttlMs\":{LIST_TTL_MS},\"cacheScope\":\"private\"")
}

/// The portal's own tools, as clients of an era have them.
fn short(list: String, era: Era) -> Arc<Common> {
    Arc::new(Common::new(finished(list.into(), era)))
}

/// A list, an object, as clients of an era have it.
fn finished(list: Bytes, era: Era) -> Bytes {
    match (era, list.strip_suffix(b"}")) {
        (Era::Modern, Some(open)) => [open, of_stateless().as_bytes(), b"}"].concat().into(),
        _ => list,
    }
}

/// A result with another member, unless it has it.
pub(crate) fn with_member(result: &Bytes, name: &str, value: &str) -> Bytes {
    match Members::read(result) {
        Ok(members) if members.get(name).is_none() => members.with(&[(name, Some(value))]),
        _ => result.clone(),
    }
}

/// The same with a text as value.
pub(crate) fn with_text(result: &Bytes, name: &str, value: &str) -> Bytes {
    with_member(result, name, &quoted(value))
}

/// JSON that was UTF-8 when it was read.
pub(crate) fn as_text(json: &[u8]) -> &str {
    text(json)
}
