//! One portal: its servers, what it shows of them, and its clients' sessions.

mod offering;

pub use offering::{Parting, Registration};

use crate::{clients::Clients, log_in::LogIn, own, road::Road};
use bytes::Bytes;
use gnomon_access::{Authenticator, Caller, Policy};
use gnomon_audit::Status;
use gnomon_http::server::Tasks;
use gnomon_lists::{
    labels::Labels,
    lists::{PortalLists, of_stateless},
    view::View,
};
use gnomon_record::{Duties, Owners};
use gnomon_relay::{
    act::Act,
    acts::{Acts, Ending},
    call::{Call, Origin},
    error::CallError,
    gate::Gate,
    judged::Rules,
    metrics::{Lacking, PortalMetrics},
    names::Prefix,
    offer::{CodeMode, Offer},
    room::Common,
    sessions::{SessionLimits, Sessions},
    unsent::{Recipient, no_list},
};
use gnomon_scripts::{Calls, CodeModeWorks, Scripts, Shelf, TOOLS};
use gnomon_upstream::{
    Reach,
    catalogue::Kind,
    era::Era,
    rpc::{Outcome, Request},
};
use offering::{Keeping, upstream};
use serde_json::json;
use smol_str::SmolStr;
use std::{collections::HashMap, sync::Arc};
use tokio::{sync::broadcast, task::JoinSet};

/// Most changes that wait for a client to be told.
const CHANGES: usize = 256;

/// Options of a portal.
pub struct PortalOptions {
    /// The id.
    pub id: SmolStr,
    /// The servers, in the order in which they are shown.
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
    /// The policy at the start.
    pub policy: Arc<Policy>,
    /// The authenticator at the start.
    pub authenticator: Arc<Authenticator>,
    /// Names the programs of this host that connect; without it they are unknown.
    pub owners: Option<Arc<dyn Owners>>,
    /// The judge of every message; without it none is judged.
    pub rules: Option<Rules>,
    /// The audit; without it nothing is recorded.
    pub acts: Option<Arc<Acts>>,
    /// Whether clients may, or must, use Code Mode.
    pub code_mode: CodeMode,
    /// The works of Code Mode; without them there is none.
    pub codemode: Option<Arc<CodeModeWorks>>,
    /// The saved snippets of Code Mode; without them none is saved or called.
    pub snippets: Option<Arc<Shelf>>,
    /// Counters of entries that are not offered and of refusals; without them nothing is counted.
    pub metrics: Option<PortalMetrics>,
}

/// A portal.
pub struct Portal {
    pub(crate) options: PortalOptions,
    pub(crate) lists: Arc<PortalLists>,
    pub(crate) road: Arc<Road>,
    pub(crate) sessions: Sessions,
    pub(crate) log_in: LogIn,
    pub(crate) clients: Clients,
    pub(crate) keeping: Keeping,
    scripts: Arc<Scripts<Road>>,
    tasks: Tasks,
}

impl Portal {
    /// A portal without connections yet.
    #[must_use]
    pub fn new(mut options: PortalOptions) -> Arc<Self> {
        let (changes, _) = broadcast::channel(CHANGES);
        let gate = Gate::new(options.id.clone(), options.policy.clone());
        let prefix = options.prefix;
        let servers = std::mem::take(&mut options.servers);
        let servers = servers.into_iter().map(|(id, reach)| upstream(&options, id, reach, changes.clone())).collect();
        let number = options.metrics.as_ref().map(|metrics| metrics.sessions(&options.id));
        let sessions = Sessions::new(options.sessions, options.acts.clone(), gate.clone()).shown_in(number);
        let labels = std::mem::take(&mut options.labels);
        let lists = Arc::new(PortalLists::new((servers, changes), (prefix, labels), gate));
        let road = Arc::new(Road::new(lists.clone(), options.acts.clone(), options.metrics.clone(), options.rules.clone()));
        Arc::new(Self {
            lists,
            sessions,
            log_in: LogIn::new(options.authenticator.clone()),
            clients: Clients::default(),
            scripts: Scripts::new(road.clone(), options.codemode.clone(), options.rules.clone(), options.snippets.clone()),
            road,
            options,
            tasks: Tasks::default(),
            keeping: Keeping::default(),
        })
    }

    /// Puts another policy in force, and other labels: for the next request of everybody, in sessions that are open as well.
    /// Clients are notified that their lists may have changed.
    pub fn regulate(&self, policy: Arc<Policy>, labels: HashMap<SmolStr, Labels>) {
        self.lists.regulate(policy, labels);
    }

    /// Puts a policy in force that says the same, on other lines of its file: clients are not notified.
    pub fn restate(&self, policy: Arc<Policy>) {
        self.lists.gate().regulate(policy);
    }

    /// Replaces the authenticator, from the next request on; streams that wait for news end where their callers
    /// cannot. It has the providers' keys first, if it can.
    pub async fn reauthenticate(&self, authenticator: Arc<Authenticator>) {
        self.log_in.replace(authenticator).await;
    }

    /// The current view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.lists.view()
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, lacking: Lacking) {
        if let Some(metrics) = &self.options.metrics {
            metrics.refused(lacking);
        }
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &SmolStr {
        &self.options.id
    }

    /// Starts the tasks beside the requests: they end when the set is dropped, but for those that look after servers, which
    /// [`Portal::end_work`] ends.
    #[must_use]
    pub fn tend(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        self.tend_servers();
        let portal = self.clone();
        tasks.spawn(async move {
            portal.log_in.warm().await;
        });
        let portal = self.clone();
        tasks.spawn(async move { portal.sessions.sweep().await });
        let portal = self.clone();
        tasks.spawn(async move { portal.road.sweep().await });
        if let Some(acts) = self.options.acts.clone() {
            tasks.spawn(async move { acts.sums_up_refusals().await });
        }
        tasks
    }

    /// Runs a task on this thread that ends with the portal.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // A runtime that is gone runs nothing: the duties record what was open.
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
        self.keeping.cut_off().await;
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

    /// Performs a request, and records it.
    pub(crate) async fn perform(&self, call: &Call, request: &Request) -> Outcome {
        if request.method == "tools/call" {
            match call.offer {
                Offer::Code => return self.scripts.run(call, request).await,
                Offer::Names | Offer::Query => {
                    if let Some(answered) = own::tool(&self.road, call, request).await {
                        return answered;
                    }
                }
                Offer::Full => {}
            }
        }
        self.road.direct(call, request).await
    }

    /// A list, which the audit tells of.
    pub(crate) async fn listed(&self, call: &Call, kind: Kind) -> Outcome {
        let act = self.road.begin(gnomon_audit::RecordKind::List, call, kind.method());
        let (lists, caller) = (&self.lists, &call.caller);
        let era = match &call.from {
            Origin::Session(_) => Era::Legacy,
            Origin::Stateless(_) => Era::Modern,
        };
        let list = match (kind, call.offer) {
            (Kind::Tool, Offer::Full) => lists.list(caller, kind, era).await,
            (Kind::Tool, Offer::Names) => Arc::new(Common::new(finished(own::list_names(lists, caller).await, era))),
            (Kind::Tool, Offer::Query) => short(format!("{{\"tools\":[{}]}}", own::QUERY_AND_EXECUTE), era),
            (Kind::Tool, Offer::Code) => {
                if let Some(works) = &self.options.codemode {
                    lists.settled().await;
                    let view = lists.view();
                    let shown = view.all(kind).iter().filter(|exposed| lists.lists(caller, kind, exposed));
                    works.list_was(shown.map(|exposed| exposed.text.len() + 1).sum());
                }
                short(format!("{{\"tools\":[{}]}}", TOOLS), era)
            }
            _ => lists.list(caller, kind, era).await,
        };
        match self.recipient(caller).part_of(&list).await {
            Some(list) => act.end(Ending::of(Status::Ok), Outcome::Result(list)).await,
            None => act.end(Ending::because(Status::Refused, CallError::NoRoom.kind()), no_list()).await,
        }
    }

    /// The share that messages for a caller are charged to.
    pub(crate) fn recipient(&self, caller: &Caller) -> Recipient {
        self.road.recipient(caller)
    }

    /// The portal's description of itself, as JSON.
    pub(crate) fn info(&self) -> serde_json::Value {
        json!({"name": "gnomon", "title": format!("gnomon portal {}", self.options.id), "version": env!("CARGO_PKG_VERSION")})
    }
}

impl Calls for Road {
    fn lists(&self) -> &PortalLists {
        self.lists()
    }

    fn begin(&self, call: &Call, method: &str) -> Act {
        self.begin(gnomon_audit::RecordKind::Call, call, method)
    }

    async fn call(&self, call: &Call, request: &Request) -> Outcome {
        self.direct(call, request).await
    }

    async fn refuse(&self, call: &Call, request: &Request) -> Outcome {
        self.nowhere(call, request).await
    }
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
