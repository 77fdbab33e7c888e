//! What of its servers a caller may know: a server that policy hides as a whole is not named, says nothing, and does not tell of
//! changes.

use crate::{
    call::{Call, From},
    held::Upstream,
    portal::Portal,
    shares,
    view::View,
};
use arc_swap::{ArcSwap, Guard};
use gnomon_access::{Asked, AuthMethod, Caller, Capability, Decision, Hints, Policy};
use gnomon_upstream::{Scope, catalogue::Kind, members::Members, rpc::Notification};
use smol_str::{SmolStr, format_smolstr};
use std::sync::{Arc, Weak};

/// Who may do what, for all parts of a portal.
pub(crate) struct Gate {
    portal: SmolStr,
    policy: ArcSwap<Policy>,
}

impl Gate {
    pub fn new(portal: SmolStr, policy: Arc<Policy>) -> Arc<Self> {
        Arc::new(Self { portal, policy: ArcSwap::new(policy) })
    }

    /// Puts another policy in force.
    pub fn regulate(&self, policy: Arc<Policy>) {
        self.policy.store(policy);
    }

    /// What is in force.
    pub fn policy(&self) -> Guard<Arc<Policy>> {
        self.policy.load()
    }

    /// Whether a caller may read what has this URI, the server's own.
    pub fn may_read(&self, caller: &Caller, server: &str, capability: Capability, uri: &str) -> Decision {
        let asked = Asked { portal: &self.portal, server, capability, name: uri, hints: Hints::default(), arguments: None };
        self.policy().decide(caller, &asked)
    }

    /// Whether a caller may know of a tool now.
    pub fn may_list_tool(&self, caller: &Caller, server: &str, name: &str, hints: Hints) -> Decision {
        let asked = Asked { portal: &self.portal, server, capability: Capability::Tool, name, hints, arguments: None };
        self.policy().may_list(caller, &asked)
    }

    /// Whether a caller may use anything of a server now, as far as policy alone tells.
    pub fn may_reach(&self, caller: &Caller, server: &str) -> bool {
        self.policy().may_reach(caller, &self.portal, server)
    }

    /// Whether this caller may be told this: of tasks only their owners are.
    pub fn tells(&self, caller: &Caller, upstream: &Upstream, whose: (&SmolStr, Scope), notification: &Notification) -> bool {
        if !self.may_hear(caller, &upstream.id, notification) {
            return false;
        }
        if !matches!(notification.method.as_str(), "notifications/tasks/status" | "notifications/tasks") {
            return true;
        }
        Members::of(notification.params.as_ref())
            .ok()
            .and_then(|task| upstream.held.tasks.told(whose, &task))
            .is_some_and(|made| self.may_list_tool(caller, &upstream.id, &made.tool, made.hints).is_allow())
    }

    /// Whether a caller may be told this of a server: that a resource changed only where they may read it, anything else where they
    /// may use anything.
    pub fn may_hear(&self, caller: &Caller, server: &str, notification: &Notification) -> bool {
        if notification.method != "notifications/resources/updated" {
            return self.may_reach(caller, server);
        }
        let uri = Members::of(notification.params.as_ref()).ok().and_then(|members| members.text("uri").map(SmolStr::new));
        uri.is_some_and(|uri| self.may_read(caller, server, Capability::Resource, &uri).is_allow())
    }
}

impl Portal {
    /// The servers that a caller may know of, by their place: those of which they may use anything, as far as it is known what
    /// there is.
    pub(crate) fn known(&self, caller: &Caller) -> Box<[bool]> {
        let view = self.view();
        let mut has_any = vec![false; self.servers.len()];
        for kind in Kind::ALL {
            view.all(kind).iter().for_each(|exposed| has_any[exposed.server] = true);
        }
        let seen = seen(self, &view, caller);
        let known = |(place, server): (usize, &Arc<Upstream>)| match has_any[place] {
            true => seen[place].contains(&true),
            false => self.policy().may_reach(caller, &self.options.id, &server.id),
        };
        self.servers.iter().enumerate().map(known).collect()
    }
}

/// Of which kinds a caller may use anything, for each server.
fn seen(portal: &Portal, view: &View, caller: &Caller) -> Box<[[bool; 4]]> {
    let mut seen = vec![[false; 4]; portal.servers.len()];
    for kind in Kind::ALL {
        for exposed in view.all(kind) {
            let place = &mut seen[exposed.server][kind as usize];
            *place = *place || portal.shows(caller, kind, exposed);
        }
    }
    seen.into()
}

/// What one listener may know, so that it is told of changes of that and of nothing else.
pub(crate) struct Sight {
    portal: Arc<Portal>,
    caller: Arc<Caller>,
    /// Of what it saw last: whoever does not read what they are told keeps none of it in memory.
    view: Weak<View>,
    policy: Weak<Policy>,
    seen: Box<[[bool; 4]]>,
}

impl Sight {
    pub fn of(portal: &Arc<Portal>, caller: &Arc<Caller>) -> Self {
        let (view, policy) = (portal.view(), portal.policy().clone());
        let seen = seen(portal, &view, caller);
        Self { portal: portal.clone(), caller: caller.clone(), view: Arc::downgrade(&view), policy: Arc::downgrade(&policy), seen }
    }

    /// Whether to tell that a list of a server changed: where anything of it could be used, before or now. `server` may be the
    /// portal, of which everybody knows.
    pub fn concerns(&mut self, server: &str, kind: Kind) -> bool {
        let before = std::mem::take(&mut self.seen);
        let (view, policy) = (self.portal.view(), self.portal.policy().clone());
        let same = std::ptr::eq(Arc::as_ptr(&view), self.view.as_ptr()) && std::ptr::eq(Arc::as_ptr(&policy), self.policy.as_ptr());
        self.seen = if same { before.clone() } else { seen(&self.portal, &view, &self.caller) };
        (self.view, self.policy) = (Arc::downgrade(&view), Arc::downgrade(&policy));
        let Some(place) = self.portal.servers.iter().position(|one| one.id == server) else { return true };
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

/// Whose a task is that this call begins or asks for: who is proven to ask, else the kernel's user, else the session.
pub(crate) fn task_owner(call: &Call) -> SmolStr {
    match &call.from {
        From::Session(session) => task_owner_in(&call.caller, &session.id),
        From::Stateless(_) => shares::owner(&call.caller),
    }
}

/// The same within a session.
pub(crate) fn task_owner_in(caller: &Caller, session: &str) -> SmolStr {
    let nobody = caller.method == AuthMethod::None && caller.process.as_ref().is_none_or(|process| process.user.is_none());
    if nobody { format_smolstr!("session {session}") } else { shares::owner(caller) }
}
