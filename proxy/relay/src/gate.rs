//! Authorisation for all parts of a portal, by the policy in force. Requests are checked here, and what clients say without a call
//! ([`saying`](crate::saying)). Being listed and being let through are two types; a way to send requests to a server is given out for a
//! [`Cleared`](crate::owed::Cleared) only. What types do not hold (that nothing else asks the policy, or the rules about what a client says,
//! or sends by a handle that it has for another purpose), tests hold the sources of all crates to that could, by the usual spellings.

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
    use std::{collections::BTreeSet, fs, path::Path};

    /// What a policy is asked by.
    const QUESTIONS: [&str; 7] = ["decide", "decide_about", "may_list", "may_reach", "reach", "allows_by_name", "explain"];

    /// The files that have a question, beside this one, and what stands before it.
    const ASKING: [(&str, &str); 19] = [
        // The gate.
        ("proxy/lists/src/lists.rs", "self.gate"),
        ("proxy/lists/src/omitted.rs", "self.gate()"),
        ("proxy/lists/src/pages.rs", "self.gate()"),
        ("proxy/lists/src/route.rs", "self.gate()"),
        ("proxy/portal/src/road/again.rs", "self.lists.gate()"),
        ("proxy/portal/src/road/skills.rs", "self.lists.gate()"),
        ("proxy/portal/src/road/tasks.rs", "self.lists.gate()"),
        ("proxy/relay/src/owed.rs", "gate"),
        ("proxy/relay/src/saying.rs", "gate"),
        ("proxy/relay/src/session.rs", "self.gate"),
        ("proxy/scripts/src/host/nested.rs", "gate"),
        ("proxy/scripts/src/host/saving.rs", "gate"),
        // A policy, for whoever writes it: nothing is sent.
        ("src/commands/policy.rs", "portal.policy"),
        // No policy: how a server that is configured is reached.
        ("enrol/src/attempt.rs", "reaching"),
        ("serve/src/portals.rs", "run"),
        ("serve/src/portals.rs", "reached"),
        ("serve/src/regulated.rs", "reaching"),
        // No policy: how far back a line is searched for secrets.
        ("proxy/upstream/src/program.rs", "veil"),
        ("proxy/upstream/src/program/speech.rs", "veil"),
    ];

    /// What sends to servers or opens a way to them, and the files that may: those of what clients say, the cancellation of a call, what
    /// answers servers' questions, and the roads of calls, which hold a `Cleared`.
    const WAYS: [(&str, &[&str]); 10] = [
        ("judge.said(", &["proxy/relay/src/saying.rs"]),
        ("\"logging/setLevel\"", &["proxy/relay/src/saying.rs"]),
        ("Cleared(())", &["proxy/relay/src/owed.rs"]),
        (".open_session(", &["proxy/relay/src/session.rs", "proxy/relay/src/shared.rs"]),
        ("turns_modern(", &["proxy/relay/src/stateless.rs"]),
        (".modern()", &["proxy/relay/src/stateless.rs", "proxy/portal/src/road/stateless.rs"]),
        (".notify(", &["proxy/relay/src/session/saying.rs", "proxy/relay/src/pending.rs"]),
        (
            ".request(",
            &[
                "proxy/relay/src/saying.rs",
                "proxy/relay/src/stateless.rs",
                "proxy/portal/src/road/mod.rs",
                "proxy/portal/src/road/stateless.rs",
                "proxy/portal/src/road/tasks.rs",
            ],
        ),
        (".converse(", &["proxy/portal/src/road/mod.rs", "proxy/portal/src/road/stateless.rs"]),
        (
            ".respond(",
            &[
                "proxy/relay/src/session.rs",
                "proxy/relay/src/shared.rs",
                "proxy/relay/src/session/asking.rs",
                "proxy/portal/src/road/mod.rs",
                "proxy/portal/src/road/stateless.rs",
            ],
        ),
    ];

    /// True of a crate that depends on the policy, or on what reaches servers, not for its tests alone.
    fn may_ask(manifest: &str) -> bool {
        let mut section = "";
        manifest.lines().any(|line| {
            if line.starts_with('[') {
                section = line;
            }
            let counts = !section.contains("dev-dependencies") && !section.starts_with("[workspace");
            counts && (line.starts_with("gnomon-access") || line.starts_with("gnomon-upstream"))
        })
    }

    /// The sources of such crates, by their paths in the workspace: all but this one, without white space, as rustfmt breaks lines where
    /// it likes. `gnomon-access` is the policy itself, and not among them.
    fn sources() -> Vec<(String, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let workspace = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let (_, members) = workspace.split_once("\nmembers = [").unwrap();
        let (members, _) = members.split_once(']').unwrap();
        let mut folders = Vec::new();
        for member in members.split('"').skip(1).step_by(2) {
            if may_ask(&fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap()) {
                folders.push(format!("{member}/src").trim_start_matches("./").to_owned());
            }
        }
        let mut sources = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root.join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let path = format!("{folder}/{}", entry.file_name().display());
                if entry.path().is_dir() {
                    folders.push(path);
                } else if path.ends_with(".rs") && path != "proxy/relay/src/gate.rs" {
                    let text = fs::read_to_string(entry.path()).unwrap();
                    sources.push((path, text.split_whitespace().collect()));
                }
            }
        }
        assert!(sources.len() > 200, "{} files", sources.len());
        sources
    }

    #[test]
    fn nothing_else_asks_the_policy() {
        let mut unseen = BTreeSet::from(ASKING);
        for (path, text) in sources() {
            for question in QUESTIONS {
                assert!(!text.contains(&format!("Policy::{question}(")), "{path} asks the policy itself: ask the gate");
                for (at, _) in text.match_indices(format!(".{question}(").as_str()) {
                    let known = ASKING.into_iter().find(|(file, before)| path == *file && text[..at].ends_with(*before));
                    let Some(known) = known else { panic!("{path} asks by `.{question}(`: ask the gate, or list what it is") };
                    unseen.remove(&known);
                }
            }
        }
        assert!(unseen.is_empty(), "listed, and not there: {unseen:?}");
    }

    #[test]
    fn nothing_else_sends_to_servers() {
        for (path, text) in sources() {
            // The ways themselves.
            if path.starts_with("proxy/upstream/") {
                continue;
            }
            for (way, files) in WAYS {
                let may = files.contains(&path.as_str());
                assert!(may || !text.contains(way), "{path} has `{way}`: see what owed.rs and saying.rs ask for");
            }
        }
    }

    #[test]
    fn a_crate_that_has_the_policy_for_its_tests_alone_is_not_searched() {
        for (manifest, searched) in [
            ("[dependencies]\ngnomon-access.workspace = true\n", true),
            ("[target.'cfg(unix)'.dependencies]\ngnomon-upstream = { workspace = true }\n", true),
            ("[dependencies]\nbytes.workspace = true\n\n[dev-dependencies]\ngnomon-access.workspace = true\n", false),
            ("[workspace.dependencies]\ngnomon-access = { path = \"proxy/access\" }\n", false),
        ] {
            assert_eq!(may_ask(manifest), searched, "{manifest}");
        }
    }
}
