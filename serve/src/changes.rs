//! Changes to a running gnomon, and their originators: a record of kind `change` in the audit, and an event.
//!
//! The configuration before is compared with the new one, entry by entry, so that a record names what is added, removed or changed. Texts
//! of policy stand in it, as they do where an entry decides a call; secrets do not, as a configuration names only
//! where those are.

use gnomon_access::Policy;
use gnomon_audit::{Audit, Record, RecordKind, Status, text_digest};
use gnomon_cli::{line::one_line, rule_files::RuleText};
use gnomon_config::{Config, Portal};
use gnomon_engine::RuleSet;
use gnomon_inspect::Sighting;
use gnomon_observe::{Action, Class, Field, Observation};
use gnomon_record::Recorder;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::SystemTime,
};

/// Most entries of one sort that a record names, and most characters of each.
const NAMED: usize = 10;
const LONGEST: usize = 240;
/// Characters of a digest that tell two texts apart.
const DIGEST: usize = 16;

/// The originator of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// None yet.
    #[default]
    Nobody,
    /// A process of this user sent SIGHUP.
    Signal {
        /// Its number.
        pid: u32,
        /// Its user.
        uid: u32,
        /// Its program, where that could be seen.
        program: Option<String>,
    },
    /// Files of rules were written, by their owners.
    Files,
    /// The expiry of something was reached.
    Clock,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Signal { pid, uid, program } => {
                let program = program.as_deref().map(|program| format!(" ({program})")).unwrap_or_default();
                write!(f, "SIGHUP of process {pid}{program} of {}", user(*uid))
            }
            Self::Files => f.write_str("files of rules that were written"),
            Self::Clock => f.write_str("the clock"),
        }
    }
}

/// A user by name, where it has one.
fn user(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => format!("user {}", user.name),
        Ok(None) | Err(_) => format!("user {uid}"),
    }
}

/// One thing that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The portal; none if it concerns no single one.
    pub portal: Option<String>,
    /// The change, in words.
    pub what: String,
    /// The status: in force, or failed.
    pub status: Status,
}

impl Change {
    fn of(portal: Option<&str>, what: String) -> Self {
        Self { portal: portal.map(str::to_owned), what, status: Status::Ok }
    }

    /// Exceptions act no longer.
    pub fn expired() -> Self {
        Self::of(None, "exceptions whose time is over act no longer".to_owned())
    }

    /// A change that was requested and failed, for reasons that may have a line each.
    pub fn failed(why: &str) -> Self {
        Self { portal: None, what: one_line(why), status: Status::Error }
    }
}

/// The audit and the events that changes are recorded in.
#[derive(Clone)]
pub struct Changes {
    audit: Option<Audit>,
    recorder: Arc<Recorder>,
}

impl Changes {
    /// In this audit, if there is one, and among events.
    pub fn new(audit: Option<Audit>, recorder: Arc<Recorder>) -> Self {
        Self { audit, recorder }
    }

    /// Records changes, with their originator.
    pub fn tell(&self, by: &By, changes: Vec<Change>) {
        for Change { portal, what, status } in changes {
            let message = format!("{what}; by {by}");
            if let Some(audit) = &self.audit {
                let mut record = Record { kind: RecordKind::Change, status: Some(status), ..Record::at(SystemTime::now()) };
                record.portal = portal.as_deref().map(Into::into);
                record.message = Some(message.as_str().into());
                if let By::Signal { uid, program, .. } = by {
                    record.process_user = user(*uid).strip_prefix("user ").map(Into::into);
                    record.process_executable = program.as_deref().map(Into::into);
                }
                // The audit counts and records its own losses.
                let _ = audit.record(record);
            }
            let mut seen = Observation::new();
            seen.set(Field::Health, if status == Status::Ok { "changed" } else { "not_changed" });
            seen.set(Field::Action, Action::Allow.as_str());
            seen.set(Field::DetectionClass, Class::Health.as_str());
            if let Some(portal) = portal {
                seen.set(Field::PortalId, portal);
            }
            seen.set(Field::Message, message);
            self.recorder.report(vec![Sighting { seen, rule: None, action: Action::Allow, class: Class::Health, call: 0 }]);
        }
    }
}

/// The named items that were added, removed or changed, in words; empty if none was.
fn differences(sort: &str, before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let added: Vec<_> = now.keys().filter(|name| !before.contains_key(*name)).collect();
    let removed: Vec<_> = before.keys().filter(|name| !now.contains_key(*name)).collect();
    let changed: Vec<_> =
        now.iter().filter(|(name, text)| before.get(*name).is_some_and(|old| old != *text)).map(|(name, _)| name).collect();
    let told = [("added", added), ("removed", removed), ("changed", changed)].into_iter().filter(|(_, names)| !names.is_empty());
    told.map(|(word, names)| format!("{sort} {word}: {}", listed(names.into_iter().map(String::as_str)))).collect()
}

/// Some of the names, and how many more there are.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let further = names.len().saturating_sub(NAMED);
    let shown: Vec<String> = names.take(NAMED).map(|name| name.chars().take(LONGEST).collect()).collect();
    let more = if further > 0 { format!(" and {further} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn digest(text: &str) -> String {
    text_digest(text).chars().take(DIGEST).collect()
}

/// A policy's digest: the same for two that say the same.
pub fn policy_digest(policy: &Policy) -> String {
    digest(&policy.written().collect::<Vec<_>>().join("\n"))
}

/// The change to a portal's policy, in words.
fn of_policy(before: &Policy, now: &Policy) -> Option<String> {
    let (old, new) = (policy_digest(before), policy_digest(now));
    if old == new {
        return None;
    }
    let among = |policy: &Policy| policy.written().map(|entry| (entry.to_owned(), String::new())).collect::<BTreeMap<_, _>>();
    let mut told = vec![format!("policy, sha256 {old}, is now {new}")];
    told.extend(differences("entries", &among(before), &among(now)));
    if told.len() == 1 {
        told.push("the order of entries is another".to_owned());
    }
    Some(told.join("; "))
}

/// The changes between two configurations, both those in force at once and those that need a restart. Servers in `renewed` changed although
/// their entries did not: by a secret, or a document.
pub fn of_configuration(before: &Config, now: &Config, renewed: &BTreeSet<String>) -> Vec<Change> {
    let (old, new) = (before.to_json(), now.to_json());
    let mut changes = Vec::new();
    for portal in &now.portals {
        let Some(was) = before.portals.iter().find(|one| one.id == portal.id) else { continue };
        let told = of_portal(was, portal);
        if !told.is_empty() {
            changes.push(Change::of(Some(&portal.id), told.join("; ")));
        }
    }
    let mut told = Vec::new();
    if before.countries != now.countries {
        told.push("`countries` is another".to_owned());
    }
    let shown = |config: &Value| labelled(config, &["tools", "prompts"], &[]);
    let labels = |config: &Value| labelled(config, &[], &["tools", "prompts"]);
    told.extend(differences("labels of servers", &labels(&old), &labels(&new)).into_iter().filter(|text| text.contains(" changed: ")));
    told.extend(differences("servers", &shown(&old), &shown(&new)));
    if !renewed.is_empty() {
        told.push(format!("servers with another secret or document: {}", listed(renewed.iter().map(String::as_str))));
    }
    let mut waits = differences("portals", &portals(&old), &portals(&new));
    let rest = |config: &Value| {
        let sections =
            config.as_object().into_iter().flatten().filter(|(key, _)| !["servers", "portals", "countries"].contains(&key.as_str()));
        sections.map(|(key, value)| (key.clone(), value.to_string())).collect::<BTreeMap<_, _>>()
    };
    waits.extend(differences("sections", &rest(&old), &rest(&new)));
    if !waits.is_empty() {
        told.push(format!("read, and in force after a restart: {}", waits.join("; ")));
    }
    if !told.is_empty() {
        changes.push(Change::of(None, told.join("; ")));
    }
    changes
}

fn of_portal(was: &Portal, now: &Portal) -> Vec<String> {
    let mut told: Vec<String> = of_policy(&was.policy, &now.policy).into_iter().collect();
    if was.auth != now.auth {
        told.push("log-in (`auth`) is another".to_owned());
    }
    if was.overrides != now.overrides {
        told.push("labels (`overrides`) are others".to_owned());
    }
    let offered = |portal: &Portal| portal.servers.iter().map(|id| (id.clone(), String::new())).collect::<BTreeMap<_, _>>();
    told.extend(differences("servers offered,", &offered(was), &offered(now)));
    if was.servers != now.servers && offered(was) == offered(now) {
        told.push("the order of servers is another".to_owned());
    }
    told
}

/// Servers by id, with what stands of them: all but some keys, or these alone.
fn labelled(config: &Value, without: &[&str], only: &[&str]) -> BTreeMap<String, String> {
    let servers = config["servers"].as_array().into_iter().flatten().filter_map(Value::as_object);
    let said = |server: &serde_json::Map<String, Value>| {
        let meant = |key: &str| !without.contains(&key) && (only.is_empty() || only.contains(&key));
        server.iter().filter(|(key, _)| meant(key)).map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
    };
    servers.map(|server| (server.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(), said(server))).collect()
}

/// Portals by id, with what of them waits for a restart.
fn portals(config: &Value) -> BTreeMap<String, String> {
    let portals = config["portals"].as_array().into_iter().flatten().cloned();
    portals
        .map(|mut portal| {
            portal["overrides"] = Value::Null;
            portal["servers"] = Value::Null;
            (portal["id"].as_str().unwrap_or_default().to_owned(), portal.to_string())
        })
        .collect()
}

/// The changes to the rules.
pub fn of_rules((text, rules): (&RuleText, &RuleSet), (now_text, now): (&RuleText, &RuleSet)) -> Vec<Change> {
    let files = |text: &RuleText| {
        let all = text.sources.iter().chain(&text.overrides);
        all.map(|source| (source.name.clone(), digest(&source.text))).collect::<BTreeMap<_, _>>()
    };
    let (old, new) = (files(text), files(now_text));
    let mut told = differences("files of rules", &old, &new);
    if told.is_empty() {
        return Vec::new();
    }
    let judged = |rules: &RuleSet| rules.rules().iter().map(|rule| (format!("{} ({})", rule.title, rule.id), String::new())).collect();
    told.extend(differences("rules in force", &judged(rules), &judged(now)));
    let all = |files: &BTreeMap<String, String>| digest(&files.iter().map(|(name, text)| format!("{name} {text}\n")).collect::<String>());
    told.push(format!("sha256 of all files, {}, is now {}", all(&old), all(&new)));
    vec![Change::of(None, told.join("; "))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_engine::{Origin, Source};

    fn config(text: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gnomon.yml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).unwrap()
    }

    fn with(servers: &str, portal: &str) -> Config {
        config(&format!(
            "servers: [{{id: docs, url: 'https://docs.example/mcp'}}{servers}]\nportals: [{{id: main, listen: '127.0.0.1:0', servers: [docs], {portal}}}]\n"
        ))
    }

    #[test]
    fn a_reload_is_told_entry_by_entry_with_digests_and_with_what_waits_for_a_restart() {
        let before = with("", "policy: [{allow: {servers: [docs], tools: [a]}}, {allow: {servers: [docs], tools: [b]}}]");
        assert_eq!(of_configuration(&before, &before, &BTreeSet::new()), []);
        let now = with(
            ", {id: wiki, url: 'https://wiki.example/mcp'}",
            "policy: [{allow: {servers: [docs], tools: [a]}}, {deny: {servers: [docs], tools: [c]}}], overrides: {docs: {tools: {a: {enabled: false}}}}",
        );
        let told = of_configuration(&before, &now, &BTreeSet::from(["docs".to_owned()]));
        let [portal, rest] = told.as_slice() else { unreachable!("{told:?}") };
        let (old, new) = (policy_digest(&before.portals[0].policy), policy_digest(&now.portals[0].policy));
        let text = format!(
            "policy, sha256 {old}, is now {new}; entries added: deny: {{ servers: [docs], tools: [c] }}; entries removed: \
             allow: {{ servers: [docs], tools: [b] }}; labels (`overrides`) are others"
        );
        assert_eq!((portal.portal.as_deref(), portal.what.as_str()), (Some("main"), text.as_str()));
        assert_eq!(
            (rest.portal.as_deref(), rest.what.as_str()),
            (None, "servers added: wiki; servers with another secret or document: docs")
        );
    }

    #[test]
    fn an_entry_that_differs_beyond_what_is_shown_is_another_and_one_that_moved_is_told_too() {
        let long = |last: &str| format!("policy: [{{allow: {{servers: [docs], tools: [{}, {last}]}}}}]", ["some-tool"; 40].join(", "));
        assert_eq!(of_configuration(&with("", &long("a")), &with("", &long("b")), &BTreeSet::new()).len(), 1);
        let order = |first: &str, second: &str| {
            with(
                "",
                &format!("policy: [{{allow: {{servers: [docs], tools: [{first}]}}}}, {{allow: {{servers: [docs], tools: [{second}]}}}}]"),
            )
        };
        let told = of_configuration(&order("a", "b"), &order("b", "a"), &BTreeSet::new());
        assert!(told.len() == 1 && told[0].what.ends_with("the order of entries is another"), "{told:?}");
    }

    #[test]
    fn rules_are_told_by_file_and_by_title() {
        let source = |name: &str, title: &str| Source {
            name: name.to_owned(),
            text: format!(
                "title: {title}\nid: 00000000-0000-4000-8000-00000000000{}\nlogsource: {{product: mcp, category: mcp_traffic}}\n\
                 detection:\n    selection:\n        gen_ai.tool.name: x\n    condition: selection\nlevel: high\n",
                name.len() % 10
            ),
            origin: Origin::Admin,
        };
        let read = |sources: Vec<Source>| {
            let rules = RuleSet::compile(&sources).unwrap();
            (RuleText { sources, ..RuleText::default() }, rules)
        };
        let (old, same) = (read(vec![source("a.yml", "A")]), read(vec![source("a.yml", "A")]));
        assert_eq!(of_rules((&old.0, &old.1), (&same.0, &same.1)), []);
        let new = read(vec![source("a.yml", "A, changed"), source("bb.yml", "B")]);
        let told = of_rules((&old.0, &old.1), (&new.0, &new.1));
        let what = &told[0].what;
        assert!(
            what.starts_with("files of rules added: bb.yml; files of rules changed: a.yml; rules in force added: A, changed ("),
            "{what}"
        );
        assert!(what.contains("B (00000000-0000-4000-8000-000000000006)") && what.contains("rules in force removed: A ("), "{what}");
    }
}
