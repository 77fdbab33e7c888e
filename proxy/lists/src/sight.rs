//! Of what a listener is told: a server that policy hides as a whole is not named, says nothing, and does not tell of changes.

use crate::{lists::PortalLists, view::View};
use gnomon_access::{Caller, Policy};
use gnomon_upstream::catalogue::Kind;
use std::sync::{Arc, Weak};

/// The entries that one listener may know of, so that it is told of changes of those and of nothing else.
pub struct Sight {
    lists: Arc<PortalLists>,
    caller: Arc<Caller>,
    /// The view it saw last: a listener that does not read keeps none of it in memory.
    view: Weak<View>,
    policy: Weak<Policy>,
    seen: Box<[[bool; 4]]>,
}

impl Sight {
    /// The entries that this caller may know of now.
    pub fn of(lists: &Arc<PortalLists>, caller: &Arc<Caller>) -> Self {
        let (view, policy) = (lists.view(), lists.gate().policy().clone());
        let seen = lists.seen(&view, caller);
        Self { lists: lists.clone(), caller: caller.clone(), view: Arc::downgrade(&view), policy: Arc::downgrade(&policy), seen }
    }

    /// Whether to tell that a list of a server changed: where anything of it could be used, before or now. `server` may be the
    /// portal, of which everybody knows.
    pub fn concerns(&mut self, server: &str, kind: Kind) -> bool {
        let before = std::mem::take(&mut self.seen);
        let (view, policy) = (self.lists.view(), self.lists.gate().policy().clone());
        let same = std::ptr::eq(Arc::as_ptr(&view), self.view.as_ptr()) && std::ptr::eq(Arc::as_ptr(&policy), self.policy.as_ptr());
        self.seen = if same { before.clone() } else { self.lists.seen(&view, &self.caller) };
        (self.view, self.policy) = (Arc::downgrade(&view), Arc::downgrade(&policy));
        let Some(place) = self.lists.servers().iter().position(|one| one.id == server) else { return true };
        let of = |seen: &[[bool; 4]]| seen.get(place).is_some_and(|kinds| kinds[kind as usize]);
        // Resources and their templates are told of by one word.
        let either =
            |seen: &[[bool; 4]]| seen.get(place).is_some_and(|kinds| kinds[Kind::Resource as usize] || kinds[Kind::Template as usize]);
        match kind {
            Kind::Tool | Kind::Prompt => of(&before) || of(&self.seen),
            Kind::Resource | Kind::Template => either(&before) || either(&self.seen),
        }
    }
}
