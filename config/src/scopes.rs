//! Scopes: whose connections are observed, read, or governed.
//!
//! The kernel half goes by cgroup, and so do scopes: a path, a user's slice, or a unit. Not by executable: a connection may
//! be made before anybody could have looked which file a process runs, and moving a process to another cgroup would take it
//! from its service. `gnomon exec` starts a program in a scope of its own.

use crate::{
    Check,
    check::ScopeUser,
    declare::{Form, Many, One, Show, mapping},
    forms::{NeededText, OwnText, Word, Words as _, words, written},
    keys::Shape,
};
use gnomon_host::cgroup::CgroupPattern;
use nix::unistd::User;
use serde_json::{Value, json};
use serde_saphyr::Spanned;
use std::fmt;

/// The match of cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// By path.
    Cgroup(CgroupPattern),
    /// The slice that systemd-logind makes for the sessions and services of a person.
    User(String),
    /// A service or scope of the system.
    Unit(String),
}

impl Match {
    /// The pattern of cgroup paths. `None` where there is no such user, at this moment.
    pub fn pattern(&self) -> Option<CgroupPattern> {
        self.pattern_anywhere().or_else(|| match self {
            Self::User(user) => of_user(User::from_name(user).ok()??.uid.as_raw()),
            Self::Cgroup(_) | Self::Unit(_) => None,
        })
    }

    /// The same, where it is one on every host: a name is another user on another.
    fn pattern_anywhere(&self) -> Option<CgroupPattern> {
        match self {
            Self::Cgroup(pattern) => Some(pattern.clone()),
            Self::User(user) => of_user(user.parse().ok()?),
            // Instances of a template have a slice of their own (systemd.slice(5)), in whose name a dash would mean a slice within.
            Self::Unit(unit) => match unit.split_once('@') {
                Some((template, _)) => format!("/system.slice/system-{}.slice/{unit}", template.replace('-', "\\x2d")).parse().ok(),
                None => format!("/system.slice/{unit}").parse().ok(),
            },
        }
    }

    /// True if it matches whatever the other one does, on every host.
    fn covers(&self, other: &Self) -> bool {
        self == other || self.pattern_anywhere().zip(other.pattern_anywhere()).is_some_and(|(ours, theirs)| ours.covers(&theirs))
    }
}

fn of_user(uid: u32) -> Option<CgroupPattern> {
    format!("/user.slice/user-{uid}.slice").parse().ok()
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(pattern) => write!(f, "cgroup {pattern}"),
            Self::User(user) => write!(f, "user {user}"),
            Self::Unit(unit) => write!(f, "unit {unit}"),
        }
    }
}

/// What this host makes of scopes of users by name, one line each: there may be no such user, yet, and a name may be that of a number that
/// another scope has. It asks the accounts, which may block.
pub(crate) fn doubts(scopes: &[Scope], users: &[ScopeUser]) -> Vec<String> {
    let mut doubts = Vec::new();
    for ScopeUser { place, scope: name } in users {
        let Some(nth) = scopes.iter().position(|scope| scope.name == *name) else { continue };
        let Some((scope, before)) = scopes.get(..=nth).and_then(<[Scope]>::split_last) else { continue };
        let Match::User(user) = &scope.r#match else { continue };
        let Some(pattern) = scope.r#match.pattern() else {
            doubts.push(format!(
                "{place}: this host has no user `{user}`: the scope `{name}` matches nothing until there is one; `getent passwd` lists them"
            ));
            continue;
        };
        if let Some(first) = before.iter().find(|before| before.r#match.pattern().is_some_and(|before| before.covers(&pattern))) {
            doubts.push(format!(
                "{place}: the scope `{name}` is never in force on this host: `{}`, which stands before it, matches {pattern} as well; remove one of them",
                first.name
            ));
        }
    }
    doubts
}

/// Most ports of a scope.
pub(crate) const MAX_PORTS: usize = 16;

mapping! {
    /// The treatment of connections of some cgroups.
    #[derive(PartialEq, Eq)]
    pub struct Scope, written ScopeSource at "sensor.scopes[].", with (check, named: &Spanned<String>) {
        /// A scope: cgroups whose connections are treated alike. Everything else is observed. Of scopes that match one cgroup
        /// the first holds, of nested cgroups the inner one's.
        name: String as NeededText, fit Some(name.value), needed: true, sample "agents";
        /// The cgroups that it matches.
        r#match: Match as One<MatchSource>, fit check.matches(r#match, named), needed: true;
        /// `off`: not looked at. `observe`: tagged. `intercept`: sent through the proxy and read, nothing is refused.
        /// `enforce`: sent through the proxy, and rules hold.
        mode: Mode as Word<Mode> = Mode::Observe, sample "intercept";
        /// Destination ports that are sent through the proxy, at most 16.
        ports: Vec<u16> as Ports = vec![443], sample "[443, 8443]";
        /// HTTP/3 where connections are sent through the proxy: UDP to port 443, whatever `ports` says, is refused, so that
        /// clients fall back to TCP, or left unread. UDP to other ports always goes direct, unseen.
        quic: Quic as Word<Quic> = Quic::Refuse, sample "leave";
        /// What happens to a connection that cannot be sent through the proxy: it goes direct and is counted (`open`), or is refused
        /// (`closed`). Connections to link-local, cloud metadata, multicast and broadcast addresses go direct either way.
        fail: Fail as Word<Fail> = Fail::Open, sample "closed";
    }
}

mapping! {
    struct MatchSource: Default at "sensor.scopes[].match." {
        /// Cgroups by path, `*` for any part of one name, and all below them. One of the three ways to match.
        cgroup as OwnText, without "none", sample "'/system.slice/docker-*.scope'";
        /// The sessions of a user, by name or number: the cgroup `/user.slice/user-UID.slice` that systemd-logind makes.
        user as OwnText, without "none", sample "ada";
        /// A service or scope of the system: the cgroup `/system.slice/UNIT`.
        unit as OwnText, without "none", sample "agent.service";
    }
}

written! {
    /// A list of ports.
    Ports: Option<Spanned<Vec<u64>>>, Shape::Ports;
}

/// The mode of a scope's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not observed.
    Off,
    /// Tagged with their owner.
    Observe,
    /// Redirected to the proxy and read; nothing is refused.
    Intercept,
    /// Redirected to the proxy; rules hold.
    Enforce,
}

words! { Mode: "off" => Off, "observe" => Observe, "intercept" => Intercept, "enforce" => Enforce }

impl Mode {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        self.word()
    }
}

/// The treatment of HTTP/3 where connections are redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quic {
    /// Refused, so that clients fall back to TCP.
    Refuse,
    /// Passed on, unread.
    Leave,
}

words! { Quic: "refuse" => Refuse, "leave" => Leave }

/// The treatment of a connection that cannot be redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    /// Connected directly, and counted.
    Open,
    /// Refused.
    Closed,
}

words! { Fail: "open" => Open, "closed" => Closed }

impl Form<Vec<Scope>> for Many<ScopeSource> {
    fn read(source: Self::Source, _: Vec<Scope>, check: &mut Check<'_>) -> Option<Vec<Scope>> {
        let mut known: Vec<Scope> = Vec::with_capacity(source.len());
        for scope in source {
            if known.iter().any(|known| known.name == scope.name.value) {
                check.refuse(scope.name.referenced, format!("the scope `{}` is listed twice; rename one", scope.name.value));
            }
            let name = scope.name.clone();
            let Some(scope) = Scope::read(scope, check, &name) else { continue };
            if let Some(before) = known.iter().find(|before| before.name != scope.name && before.r#match.covers(&scope.r#match)) {
                let (before, same) = (&before.name, scope.r#match.covers(&before.r#match));
                let why = if same {
                    format!("it matches the same cgroups as `{before}`, which stands before it; remove one of them")
                } else {
                    format!("`{before}`, which stands before it, matches all of its cgroups; put `{}` first", scope.name)
                };
                check.refuse(name.referenced, format!("the scope `{}` is never in force: {why}", scope.name));
            }
            known.push(scope);
        }
        Some(known)
    }
}

impl Show<Vec<Scope>> for Many<ScopeSource> {
    fn show(value: &Vec<Scope>) -> Value {
        value.iter().map(Scope::show).collect()
    }
}

impl Show<Match> for One<MatchSource> {
    fn show(value: &Match) -> Value {
        match value {
            Match::Cgroup(pattern) => json!({"cgroup": pattern.to_string()}),
            Match::User(user) => json!({"user": user}),
            Match::Unit(unit) => json!({"unit": unit}),
        }
    }
}

impl Form<Vec<u16>> for Ports {
    fn read(source: Self::Source, default: Vec<u16>, check: &mut Check<'_>) -> Option<Vec<u16>> {
        let Some(ports) = source else { return Some(default) };
        let list: Vec<u16> = ports.value.iter().filter_map(|port| u16::try_from(*port).ok().filter(|port| *port != 0)).collect();
        if list.len() != ports.value.len() || list.is_empty() || list.len() > MAX_PORTS {
            return check.refused(ports.referenced, format!("from 1 to {MAX_PORTS} ports, each from 1 to 65535"));
        }
        Some(list)
    }
}

impl Show<Vec<u16>> for Ports {
    fn show(value: &Vec<u16>) -> Value {
        json!(value)
    }
}

impl Check<'_> {
    fn matches(&mut self, source: MatchSource, scope: &Spanned<String>) -> Option<Match> {
        let MatchSource { cgroup, user, unit } = source;
        match (cgroup, user, unit) {
            (Some(cgroup), None, None) => self.parsed(&cgroup, "").map(Match::Cgroup),
            (None, Some(user), None) if user.value.contains('/') => {
                self.refused(user.referenced, format!("`{}` is not a user; the path of a cgroup is for match.cgroup", user.value))
            }
            (None, Some(user), None) => {
                let place = self.place(user.referenced);
                self.scope_users.push(ScopeUser { place, scope: scope.value.clone() });
                Some(Match::User(user.value))
            }
            (None, None, Some(unit)) if !unit.value.contains('/') && unit.value.contains('.') => Some(Match::Unit(unit.value)),
            (None, None, Some(unit)) => {
                self.refused(unit.referenced, format!("`{}` is not a unit; write it whole, as agent.service", unit.value))
            }
            _ => {
                let cause = format!("the scope `{}` needs one of match.cgroup, match.user and match.unit", scope.value);
                self.refused(scope.referenced, cause)
            }
        }
    }
}
