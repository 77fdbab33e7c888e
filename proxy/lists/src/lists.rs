//! The lists that a portal shows to each caller, and its instructions.

mod offered;
mod watched;

use crate::{
    given::{Given, ListKey},
    labels::Labels,
    view::{Exposed, View},
};
use arc_swap::ArcSwap;
use gnomon_access::{Asked, Caller, Policy};
use gnomon_relay::{gate::Gate, held::Upstream, names::Prefix, offer::Offer, room::Common, uris::without_page};
use gnomon_shares::Shares;
use gnomon_upstream::{
    Change, Fits, Presence,
    catalogue::{Kind, Listed},
    era::Era,
};
pub use offered::Offered;
use serde_json::json;
use smol_str::SmolStr;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::broadcast, task::JoinSet};

/// How long after the portal's start clients wait for servers that have not answered yet.
const FIRST_PATIENCE: Duration = Duration::from_millis(800);
/// The time for which clients of the stateless era may cache a list, milliseconds.
pub const LIST_TTL_MS: u64 = 60_000;

/// A change at one of its servers, by its id, or at all of them: then without one.
pub type Changed = (SmolStr, Change);

/// The lists of a portal.
pub struct PortalLists {
    portal: SmolStr,
    servers: ArcSwap<Offered>,
    prefix: Prefix,
    gate: Arc<Gate>,
    labels: ArcSwap<HashMap<SmolStr, Labels>>,
    view: ArcSwap<View>,
    given: Given,
    pub(crate) watched: Arc<Shares>,
    changes: broadcast::Sender<Changed>,
}

impl PortalLists {
    /// The lists of a portal's servers, shown like this. Its servers announce `changes`.
    pub fn new(
        (servers, changes): (Vec<Arc<Upstream>>, broadcast::Sender<Changed>),
        (prefix, labels): (Prefix, HashMap<SmolStr, Labels>),
        gate: Arc<Gate>,
    ) -> Self {
        let (view, labels) = (ArcSwap::default(), ArcSwap::from_pointee(labels));
        let (given, watched) = (Given::default(), watched::places());
        let servers = ArcSwap::from_pointee(Offered::from(servers));
        Self { portal: gate.portal().clone(), servers, prefix, gate, labels, view, given, watched, changes }
    }

    /// The portal's id.
    pub fn portal(&self) -> &SmolStr {
        &self.portal
    }

    /// The servers that are offered now, in the order in which they are shown.
    pub fn servers(&self) -> Arc<Offered> {
        self.servers.load_full()
    }

    /// Offers these servers from now on, and tells of those lists that can be other ones by that.
    pub fn offer(&self, servers: Vec<Arc<Upstream>>) {
        let before = self.servers.swap(Arc::new(Offered::from(servers)));
        let now = self.servers();
        self.view.store(Arc::default());
        let others = |these: &Offered, than: &Offered| {
            let is_other = |one: &&Arc<Upstream>| than.iter().all(|two| two.number != one.number);
            these.iter().filter(is_other).cloned().collect::<Vec<_>>()
        };
        for server in others(&before, &now).into_iter().chain(others(&now, &before)) {
            let lists = server.lists();
            for kind in Kind::ALL.into_iter().filter(|kind| !lists.of(*kind).is_empty()) {
                let _ = self.changes.send((server.id.clone(), Change::List(kind)));
            }
        }
    }

    /// The channel on which its servers announce changes.
    pub fn announced(&self) -> broadcast::Sender<Changed> {
        self.changes.clone()
    }

    /// Whether names carry their server's id.
    pub fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// The gate to policy and rules.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.changes.subscribe()
    }

    /// Puts another policy in force, and other labels; tells that all lists may have changed.
    pub fn regulate(&self, policy: Arc<Policy>, labels: HashMap<SmolStr, Labels>) {
        self.gate.regulate(policy);
        self.labels.store(Arc::new(labels));
        self.view.store(Arc::default());
        for kind in Kind::ALL {
            let _ = self.changes.send((SmolStr::default(), Change::List(kind)));
        }
    }

    /// Waits a little for servers that were never reached, so that the first client finds them. Later there is no wait:
    /// a server that takes connections and says nothing is as good as gone.
    pub async fn settled(&self) {
        let servers = self.servers.load();
        let left = FIRST_PATIENCE.saturating_sub(servers.since().elapsed());
        if left.is_zero() {
            return;
        }
        let mut waiting = JoinSet::new();
        for server in servers.iter().filter(|server| matches!(server.presence(), Presence::Unknown)) {
            let server = server.clone();
            waiting.spawn(async move { server.settled(left).await });
        }
        while waiting.join_next().await.is_some() {}
    }

    /// The current view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.current().1
    }

    /// The servers that are offered now, and the view of them.
    pub(crate) fn current(&self) -> (Arc<Offered>, Arc<View>) {
        let (servers, labels, view) = (self.servers(), self.labels.load(), self.view.load_full());
        if view.is_current(&servers, &labels) {
            return (servers, view);
        }
        let fresh = Arc::new(View::of(&servers, self.prefix, &labels));
        self.view.store(fresh.clone());
        (servers, fresh)
    }

    /// Whether a caller may know of an entry.
    pub fn shows(&self, caller: &Caller, kind: Kind, exposed: &Exposed) -> bool {
        self.shows_of(&self.view(), caller, kind, exposed)
    }

    fn shows_of(&self, view: &View, caller: &Caller, kind: Kind, exposed: &Exposed) -> bool {
        self.gate.may_list(caller, &self.asked(kind, exposed)).is_shown()
            && (kind != Kind::Resource || !self.hides(caller, view, &exposed.server, &exposed.entry.name))
    }

    /// True if it is on a caller's lists without Code Mode.
    pub fn lists(&self, caller: &Caller, kind: Kind, exposed: &Exposed) -> bool {
        *exposed.entry.listed() == Listed::Everywhere && self.shows(caller, kind, exposed)
    }

    /// The entry as a question to policy.
    pub fn asked<'a>(&'a self, kind: Kind, exposed: &'a Exposed) -> Asked<'a> {
        Asked {
            portal: &self.portal,
            server: &exposed.server,
            capability: kind.asked(),
            name: &exposed.entry.name,
            hints: exposed.entry.hints,
            arguments: None,
        }
    }

    /// The result of a list method, for this caller, with what clients of its era can read.
    pub async fn list(&self, caller: &Caller, kind: Kind, era: Era) -> Arc<Common> {
        self.settled().await;
        let view = self.view();
        let readable = |exposed: &Exposed| era == Era::Modern || exposed.entry.fits == Fits::Both;
        let shows = |place: &usize| {
            let exposed = &view.all(kind)[*place];
            readable(exposed) && *exposed.entry.listed() == Listed::Everywhere && self.shows_of(&view, caller, kind, exposed)
        };
        let shown: Vec<usize> = (0..view.all(kind).len()).filter(shows).collect();
        let hides = |place: &usize| self.hides_page(caller, &view, &view.all(kind)[*place]);
        let plain: Vec<usize> = shown.iter().copied().filter(hides).collect();
        let notices = [
            ("dev.gnomon/missing", self.missing(caller)),
            ("dev.gnomon/silent", self.silent(caller)),
            ("dev.gnomon/left-out", self.left_out(caller, kind)),
        ];
        let notices: serde_json::Map<_, _> = notices.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        let notices = if notices.is_empty() { String::new() } else { serde_json::Value::Object(notices).to_string() };
        let wanted = ListKey { view: &view, kind, era, shown: &shown, plain: &plain, notices: &notices };
        self.given.of(&wanted, || {
            let entries = || shown.iter().map(|place| (place, &view.all(kind)[*place]));
            let mut text = Vec::with_capacity(entries().map(|(_, exposed)| exposed.text.len() + 1).sum::<usize>() + notices.len() + 256);
            text.extend_from_slice(b"{\"");
            text.extend_from_slice(kind.key().as_bytes());
            text.extend_from_slice(b"\":[");
            for (index, (place, exposed)) in entries().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                match plain.binary_search(place) {
                    Ok(_) => text.extend_from_slice(&without_page(&exposed.listed())),
                    Err(_) => text.extend_from_slice(&exposed.listed()),
                }
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
        if self.servers.load().iter().all(|server| server.presence().is_up()) {
            return None;
        }
        let missing: Vec<_> = self
            .known(caller)
            .iter()
            .filter_map(|server| match server.presence() {
                Presence::Up { .. } => None,
                Presence::Unknown => Some(json!({"server": server.id, "why": "it is being connected to", "stale": false})),
                Presence::Down { why, face, .. } => Some(json!({"server": server.id, "why": why.to_string(), "stale": face.is_some()})),
            })
            .collect();
        (!missing.is_empty()).then_some(missing.into())
    }

    /// The servers that are at calls and answer nobody else meanwhile, of those that a caller may know of, as JSON; none where there are none.
    fn silent(&self, caller: &Caller) -> Option<serde_json::Value> {
        if self.servers.load().iter().all(|server| server.silence().is_none()) {
            return None;
        }
        let why = "it is at calls, and answers nobody else meanwhile: it is frozen, or does one thing at a time";
        let known = self.known(caller);
        let silent: Vec<_> =
            known.iter().filter(|server| server.silence().is_some()).map(|server| json!({"server": server.id, "why": why})).collect();
        (!silent.is_empty()).then_some(silent.into())
    }

    /// How to use it: what the servers say that a caller may know of, and which of them are missing.
    pub fn instructions(&self, caller: &Caller, offer: Offer) -> Option<String> {
        // They would grow with every server, which is what the others are for.
        if offer != Offer::Full {
            return None;
        }
        let mut parts = Vec::new();
        for server in self.known(caller) {
            let presence = server.presence();
            if let Some(said) = presence.face().and_then(|face| face.instructions.as_deref()) {
                let said = said.to_owned();
                match self.prefix {
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

    /// The servers that a caller may know of: those of which they may use anything, as far as it is known what there is.
    pub fn known(&self, caller: &Caller) -> Vec<Arc<Upstream>> {
        let (servers, view) = self.current();
        let mut has_any = vec![false; view.width()];
        for kind in Kind::ALL {
            view.all(kind).iter().for_each(|exposed| has_any[exposed.place] = true);
        }
        let seen = self.seen_by_place(&view, caller);
        let known = |(place, server): &(usize, &Arc<Upstream>)| match has_any[*place] {
            true => seen[*place].contains(&true),
            false => self.gate.may_reach(caller, &server.id),
        };
        servers.iter().enumerate().filter(known).map(|(_, server)| server.clone()).collect()
    }

    fn seen_by_place(&self, view: &View, caller: &Caller) -> Vec<[bool; 4]> {
        let mut seen = vec![[false; 4]; view.width()];
        for kind in Kind::ALL {
            for exposed in view.all(kind) {
                let place = &mut seen[exposed.place][kind as usize];
                *place = *place || self.shows_of(view, caller, kind, exposed);
            }
        }
        seen
    }

    /// The kinds of which a caller may use anything, by the id of the server.
    pub(crate) fn seen(&self, caller: &Caller) -> (Arc<View>, HashMap<SmolStr, [bool; 4]>) {
        let (servers, view) = self.current();
        let seen = self.seen_by_place(&view, caller);
        (view, servers.iter().map(|server| server.id.clone()).zip(seen).collect())
    }
}

/// Members of lists in the stateless era. A list is private to its caller.
pub fn of_stateless() -> String {
    format!(",\"resultType\":\"complete\",\"ttlMs\":{LIST_TTL_MS},\"cacheScope\":\"private\"")
}
