//! Authorisation for all parts of a portal, by the policy in force. Requests are checked here, and what clients say without a call
//! ([`saying`](crate::saying)). Being listed and being let through are two types; a way to send requests to a server is given out for a
//! [`Cleared`](crate::owed::Cleared) only. What types do not hold (that nothing else asks the policy, or the rules about what a client says,
//! or sends by a handle that it has for another purpose), a test holds the sources to, by the usual spellings.

use crate::{held::Upstream, related::is_of_task};
use arc_swap::{ArcSwap, Guard};
use gnomon_access::{Asked, Caller, Capability, Decision, Hints, Listing, Permit, Policy};
use gnomon_upstream::{Scope, members::Members, rpc::Notification};
use smol_str::SmolStr;
use std::sync::Arc;

/// The policy in force, for all parts of a portal.
pub struct Gate {
    portal: SmolStr,
    policy: ArcSwap<Policy>,
}

impl Gate {
    /// The gate of a portal, with a policy in force.
    pub fn new(portal: SmolStr, policy: Arc<Policy>) -> Arc<Self> {
        Arc::new(Self { portal, policy: ArcSwap::new(policy) })
    }

    /// The portal's id.
    pub fn portal(&self) -> &SmolStr {
        &self.portal
    }

    /// Puts another policy in force.
    pub fn regulate(&self, policy: Arc<Policy>) {
        self.policy.store(policy);
    }

    /// The policy in force.
    pub fn policy(&self) -> Guard<Arc<Policy>> {
        self.policy.load()
    }

    /// Decides whether this call may be made, and by which line.
    pub fn decide(&self, caller: &Caller, asked: &Asked<'_>) -> Decision {
        self.policy().decide(caller, asked)
    }

    /// Decides whether a server may be asked this about something, which is no call of it, and by which line.
    pub fn decide_about(&self, caller: &Caller, asked: &Asked<'_>) -> Decision {
        self.policy().decide_about(caller, asked)
    }

    /// Whether a caller may know of this: some call of it would be allowed.
    pub fn may_list(&self, caller: &Caller, asked: &Asked<'_>) -> Listing {
        self.policy().may_list(caller, asked)
    }

    /// The decision by a policy that was in force a moment ago, of which something is kept.
    pub fn lists_by(policy: &Policy, caller: &Caller, asked: &Asked<'_>) -> bool {
        policy.may_list(caller, asked).is_shown()
    }

    /// Whether a caller may read what has this URI, the server's own.
    pub fn may_read(&self, caller: &Caller, server: &str, capability: Capability, uri: &str) -> Decision {
        let asked = Asked { portal: &self.portal, server, capability, name: uri, hints: Hints::default(), arguments: None };
        self.policy().decide(caller, &asked)
    }

    /// Whether an entry that names resources allows a caller to read what has this URI, the server's own.
    pub fn names(&self, caller: &Caller, server: &str, uri: &str) -> bool {
        let asked =
            Asked { portal: &self.portal, server, capability: Capability::Resource, name: uri, hints: Hints::default(), arguments: None };
        self.policy().allows_by_name(caller, &asked)
    }

    /// Whether a caller may know of a tool now.
    pub fn shows_tool(&self, caller: &Caller, server: &str, (name, hints): (&str, Hints)) -> bool {
        self.may_list(caller, &self.tool(server, name, hints)).is_shown()
    }

    /// Decides whether a server may be asked what became of calls of this tool.
    pub fn decide_about_tool(&self, caller: &Caller, server: &str, (name, hints): (&str, Hints)) -> Decision {
        self.decide_about(caller, &self.tool(server, name, hints))
    }

    fn tool<'a>(&'a self, server: &'a str, name: &'a str, hints: Hints) -> Asked<'a> {
        Asked { portal: &self.portal, server, capability: Capability::Tool, name, hints, arguments: None }
    }

    /// The permit to ask a server for what is a caller's own as a whole.
    pub fn reach(&self, caller: &Caller, server: &str) -> Option<Permit> {
        self.policy().reach(caller, &self.portal, server)
    }

    /// Whether a caller may use anything of a server now, as far as policy alone tells.
    pub fn may_reach(&self, caller: &Caller, server: &str) -> bool {
        self.policy().may_reach(caller, &self.portal, server)
    }

    /// True if this caller may get this notification: those of tasks go to their owners only.
    pub fn tells(&self, caller: &Caller, upstream: &Upstream, whose: (&SmolStr, Scope), notification: &Notification) -> bool {
        if !self.may_hear(caller, &upstream.id, notification) {
            return false;
        }
        if !is_of_task(&notification.method) {
            return true;
        }
        Members::of(notification.params.as_ref())
            .ok()
            .and_then(|task| upstream.held.tasks.told(whose, &task))
            .is_some_and(|made| self.shows_tool(caller, &upstream.id, (&made.tool, made.hints)))
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn nothing_else_asks_the_policy() {
        let portal = ["src", "../lists/src", "../scripts/src", "../portal/src"];
        let mut folders = portal.map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).to_vec();
        let mut read = 0;
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                read += 1;
                let text = fs::read_to_string(&path).unwrap();
                let asks = [
                    "policy.may_list(",
                    "policy.may_reach(",
                    "policy.decide(",
                    "policy.decide_about(",
                    "policy.reach(",
                    "policy().may_list(",
                    "policy().may_reach(",
                    "policy().decide(",
                    "policy().decide_about(",
                    "policy().reach(",
                    "allows_by_name(",
                ];
                let asks = asks.iter().any(|ask| text.contains(ask));
                assert!(!asks || path.ends_with("gate.rs"), "{} asks the policy itself: ask the gate", path.display());
                // What sends to servers or opens a way to them, and the files that may: those of what clients say, the cancellation of a
                // call, what answers servers' questions, and the roads of calls, which hold a `Cleared`.
                let ways: [(&str, &[&str]); 10] = [
                    ("judge.said(", &["src/saying.rs"]),
                    ("\"logging/setLevel\"", &["src/saying.rs"]),
                    ("Cleared(())", &["src/owed.rs"]),
                    (".open_session(", &["src/session.rs", "src/shared.rs"]),
                    ("turns_modern(", &["src/stateless.rs"]),
                    (".modern()", &["src/stateless.rs", "road/stateless.rs"]),
                    (".notify(", &["session/saying.rs", "pending.rs"]),
                    (".request(", &["src/saying.rs", "src/stateless.rs", "road/mod.rs", "road/stateless.rs", "road/tasks.rs"]),
                    (".converse(", &["road/mod.rs", "road/stateless.rs"]),
                    (".respond(", &["src/session.rs", "src/shared.rs", "session/asking.rs", "road/mod.rs", "road/stateless.rs"]),
                ];
                for (way, files) in ways {
                    let may = files.iter().chain(&["gate.rs"]).any(|file| path.ends_with(file));
                    assert!(may || !text.contains(way), "{} has `{way}`: see what owed.rs and saying.rs ask for", path.display());
                }
            }
        }
        assert!(read > 40, "{read} files");
    }
}
