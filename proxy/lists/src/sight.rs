//! What a listener is notified of: a server that policy hides as a whole is not named, and its changes are not announced.

use crate::{lists::PortalLists, view::View};
use gnomon_access::{Caller, Policy};
use gnomon_upstream::catalogue::Kind;
use smol_str::SmolStr;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

/// The entries that one listener may know of, so that it is notified of changes of those only.
pub struct Sight {
    lists: Arc<PortalLists>,
    caller: Arc<Caller>,
    /// The view it saw last: a listener that does not read keeps none of it in memory.
    view: Weak<View>,
    policy: Weak<Policy>,
    now: HashMap<SmolStr, [bool; 4]>,
    /// The state of its last notifications, by server and kind.
    told: HashMap<SmolStr, [bool; 4]>,
}

impl Sight {
    /// The entries that this caller may know of now.
    pub fn of(lists: &Arc<PortalLists>, caller: &Arc<Caller>) -> Self {
        let policy = lists.gate().policy().clone();
        let (view, now) = lists.seen(caller);
        let (view, policy, told) = (Arc::downgrade(&view), Arc::downgrade(&policy), now.clone());
        Self { lists: lists.clone(), caller: caller.clone(), view, policy, now, told }
    }

    /// Whether to announce that a list of a server changed: if anything of it could be used, before or now. A change at the portal,
    /// which names no server, is announced to everyone.
    pub fn concerns(&mut self, server: &str, kind: Kind) -> bool {
        self.looks();
        let kinds = announced_with(kind);
        if server.is_empty() {
            kinds.iter().for_each(|kind| self.tells_of_all(*kind));
            return true;
        }
        // Only of these: of what else changed at the same time there will be word as well.
        let now = self.now.get(server).copied().unwrap_or_default();
        let told = self.told.entry(server.into()).or_default();
        let mut concerns = false;
        for kind in kinds {
            let place = *kind as usize;
            concerns |= told[place] || now[place];
            told[place] = now[place];
        }
        if *told == [false; 4] {
            self.told.remove(server);
        }
        concerns
    }

    /// What to announce where it is not known what changed, one kind for each notification: those of which anything of any server could be
    /// used, before or now.
    pub fn concerned(&mut self) -> Vec<Kind> {
        self.looks();
        let mut concerned = Vec::new();
        for kind in [Kind::Tool, Kind::Prompt, Kind::Resource] {
            let kinds = announced_with(kind);
            let mut seen = self.told.values().chain(self.now.values());
            if seen.any(|seen| kinds.iter().any(|kind| seen[*kind as usize])) {
                concerned.push(kind);
            }
            kinds.iter().for_each(|kind| self.tells_of_all(*kind));
        }
        concerned
    }

    /// Looks at the view and the policy in force, where they are others than before.
    fn looks(&mut self) {
        let (view, policy) = (self.lists.view(), self.lists.gate().policy().clone());
        let same = std::ptr::eq(Arc::as_ptr(&view), self.view.as_ptr()) && std::ptr::eq(Arc::as_ptr(&policy), self.policy.as_ptr());
        if !same {
            let (view, now) = self.lists.seen(&self.caller);
            (self.view, self.policy, self.now) = (Arc::downgrade(&view), Arc::downgrade(&policy), now);
        }
    }

    fn tells_of_all(&mut self, kind: Kind) {
        self.told.values_mut().for_each(|told| told[kind as usize] = false);
        for (server, now) in &self.now {
            self.told.entry(server.clone()).or_default()[kind as usize] = now[kind as usize];
        }
    }
}

/// The kinds that are announced with this one: resources and their templates share one notification.
fn announced_with(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::Tool => &[Kind::Tool],
        Kind::Prompt => &[Kind::Prompt],
        Kind::Resource | Kind::Template => &[Kind::Resource, Kind::Template],
    }
}
