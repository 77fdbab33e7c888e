//! What a portal shows of its servers to each caller: its lists, and what it says of itself with them.

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
use serde_json::json;
use smol_str::SmolStr;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::broadcast, task::JoinSet};

/// How long after the portal's start clients wait for servers that nobody has heard of yet.
const FIRST_PATIENCE: Duration = Duration::from_millis(800);
/// How long clients of the stateless era may keep a list, milliseconds.
pub const LIST_TTL_MS: u64 = 60_000;

/// A change at one of its servers, or at the portal itself, by its id.
pub(crate) type Changed = (SmolStr, Change);

/// The lists of a portal.
pub struct PortalLists {
    portal: SmolStr,
    servers: Vec<Arc<Upstream>>,
    prefix: Prefix,
    gate: Arc<Gate>,
    labels: ArcSwap<HashMap<SmolStr, Labels>>,
    view: ArcSwap<View>,
    given: Given,
    pub(crate) watched: Arc<Shares>,
    begun: Instant,
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
        Self { portal: gate.portal().clone(), servers, prefix, gate, labels, view, given, watched, begun: Instant::now(), changes }
    }

    /// The portal's id.
    pub fn portal(&self) -> &SmolStr {
        &self.portal
    }

    /// The servers, in the order in which they are shown.
    pub fn servers(&self) -> &[Arc<Upstream>] {
        &self.servers
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
            let _ = self.changes.send((self.portal.clone(), Change::List(kind)));
        }
    }

    /// Waits a little for servers that were never reached, so that the first client finds them. Later nobody waits:
    /// a server that takes connections and says nothing is as good as gone.
    pub async fn settled(&self) {
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

    /// The current view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        let view = self.view.load_full();
        if view.is_current(&self.servers) {
            return view;
        }
        let fresh = Arc::new(View::of(&self.servers, self.prefix, &self.labels.load()));
        self.view.store(fresh.clone());
        fresh
    }

    /// Whether a caller may know of an entry.
    pub fn shows(&self, caller: &Caller, kind: Kind, exposed: &Exposed) -> bool {
        self.shows_of(&self.view(), caller, kind, exposed)
    }

    fn shows_of(&self, view: &View, caller: &Caller, kind: Kind, exposed: &Exposed) -> bool {
        self.gate.may_list(caller, &self.asked(kind, exposed)).is_allow()
            && (kind != Kind::Resource || !self.hides(caller, view, exposed.server, &exposed.entry.name))
    }

    /// Whether it is on a caller's lists without Code Mode.
    pub fn lists(&self, caller: &Caller, kind: Kind, exposed: &Exposed) -> bool {
        *exposed.entry.listed() == Listed::Everywhere && self.shows(caller, kind, exposed)
    }

    /// The entry as a question to policy.
    pub fn asked<'a>(&'a self, kind: Kind, exposed: &'a Exposed) -> Asked<'a> {
        Asked {
            portal: &self.portal,
            server: &self.servers[exposed.server].id,
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
        let notices = [("dev.gnomon/missing", self.missing(caller)), ("dev.gnomon/left-out", self.left_out(caller, kind))];
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

    /// How to use it: what the servers say that a caller may know of, and which of them are missing.
    pub fn instructions(&self, caller: &Caller, offer: Offer) -> Option<String> {
        // They would grow with every server, which is what the others are for.
        if offer != Offer::Full {
            return None;
        }
        let (mut parts, known) = (Vec::new(), self.known(caller));
        for (server, _) in self.servers.iter().zip(&known).filter(|(_, known)| **known) {
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

    /// The servers that a caller may know of, by their place: those of which they may use anything, as far as it is known what
    /// there is.
    pub fn known(&self, caller: &Caller) -> Box<[bool]> {
        let view = self.view();
        let mut has_any = vec![false; self.servers.len()];
        for kind in Kind::ALL {
            view.all(kind).iter().for_each(|exposed| has_any[exposed.server] = true);
        }
        let seen = self.seen(&view, caller);
        let known = |(place, server): (usize, &Arc<Upstream>)| match has_any[place] {
            true => seen[place].contains(&true),
            false => self.gate.may_reach(caller, &server.id),
        };
        self.servers.iter().enumerate().map(known).collect()
    }

    /// The kinds of which a caller may use anything, for each server.
    pub fn seen(&self, view: &View, caller: &Caller) -> Box<[[bool; 4]]> {
        let mut seen = vec![[false; 4]; self.servers.len()];
        for kind in Kind::ALL {
            for exposed in view.all(kind) {
                let place = &mut seen[exposed.server][kind as usize];
                *place = *place || self.shows_of(view, caller, kind, exposed);
            }
        }
        seen.into()
    }
}

/// Members of lists in the stateless era. A list is private to its caller.
pub fn of_stateless() -> String {
    format!(",\"resultType\":\"complete\",\"ttlMs\":{LIST_TTL_MS},\"cacheScope\":\"private\"")
}
