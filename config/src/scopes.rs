//! Scopes: whose connections are observed, read, or governed.
//!
//! The kernel half goes by cgroup, and so do scopes: a path, a user's slice, or a unit. Not by executable: a connection may
//! be made before anybody could have looked which file a process runs, and moving a process to another cgroup would take it
//! from its service. `gnomon exec` starts a program in a scope of its own.

use crate::{
    Check,
    declare::{Form, Many, One, mapping},
    forms::{NeededText, OwnText, Word, Words as _, words, written},
    keys::Shape,
};
use gnomon_host::cgroup::CgroupPattern;
use nix::unistd::User;
use serde_json::{Value, json};
use serde_saphyr::Spanned;
use std::fmt;

/// The treatment of connections of some cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its name.
    pub name: String,
    /// The cgroups that it matches.
    pub matches: Match,
    /// The mode of their connections.
    pub mode: Mode,
    /// Destination ports that are redirected, at most 16.
    pub ports: Vec<u16>,
    /// The treatment of HTTP/3.
    pub quic: Quic,
    /// The treatment of a connection that cannot be redirected.
    pub fail: Fail,
}

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
        match self {
            Self::Cgroup(pattern) => Some(pattern.clone()),
            Self::User(user) => {
                let uid = user.parse().ok().or_else(|| Some(User::from_name(user).ok()??.uid.as_raw()))?;
                format!("/user.slice/user-{uid}.slice").parse().ok()
            }
            // Instances of a template have a slice of their own (systemd.slice(5)), in whose name a dash would mean a slice within.
            Self::Unit(unit) => match unit.split_once('@') {
                Some((template, _)) => format!("/system.slice/system-{}.slice/{unit}", template.replace('-', "\\x2d")).parse().ok(),
                None => format!("/system.slice/{unit}").parse().ok(),
            },
        }
    }
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

/// Most ports of a scope.
pub(crate) const MAX_PORTS: usize = 16;

mapping! {
    struct ScopeSource at "sensor.scopes[]." {
        /// A scope: cgroups whose connections are treated alike. Everything else is observed. Of scopes that match one cgroup
        /// the first holds, of nested cgroups the inner one's.
        name as NeededText, needed: true, sample "agents";
        r#match as One<MatchSource>, needed: true;
        /// `off`: not looked at. `observe`: tagged. `intercept`: sent through the proxy and read, nothing is refused.
        /// `enforce`: sent through the proxy, and rules hold.
        mode as Word<Mode> => Mode = Mode::Observe, sample "intercept";
        /// Destination ports that are sent through the proxy, at most 16.
        ports as Ports => Vec<u16> = vec![443], sample "[443, 8443]";
        /// HTTP/3 where connections are sent through the proxy: UDP to port 443, whatever `ports` says, is refused, so that
        /// clients fall back to TCP, or left unread. UDP to other ports always goes direct, unseen.
        quic as Word<Quic> => Quic = Quic::Refuse, sample "leave";
        /// What happens to a connection that cannot be sent through the proxy: it goes direct and is counted (`open`), or is refused
        /// (`closed`). Connections to link-local, cloud metadata, multicast and broadcast addresses go direct either way.
        fail as Word<Fail> => Fail = Fail::Open, sample "closed";
    }
}

mapping! {
    #[derive(Default)]
    struct MatchSource at "sensor.scopes[].match." {
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
    /// They are not even looked at.
    Off,
    /// They are tagged.
    Observe,
    /// They are sent through the proxy, and nothing is refused.
    Intercept,
    /// They are sent through the proxy, and rules hold.
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
    /// It passes unread.
    Leave,
}

words! { Quic: "refuse" => Refuse, "leave" => Leave }

/// The treatment of a connection that cannot be redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    /// It goes direct, and is counted.
    Open,
    /// It is refused.
    Closed,
}

words! { Fail: "open" => Open, "closed" => Closed }

impl Form<Vec<Scope>> for Many<ScopeSource> {
    fn read(source: Self::Source, _: Vec<Scope>, check: &mut Check<'_>) -> Option<Vec<Scope>> {
        Some(check.scopes(source))
    }

    fn show(value: &Vec<Scope>) -> Value {
        value.iter().map(shown).collect()
    }
}

fn shown(scope: &Scope) -> Value {
    let matches = match &scope.matches {
        Match::Cgroup(pattern) => json!({"cgroup": pattern.to_string()}),
        Match::User(user) => json!({"user": user}),
        Match::Unit(unit) => json!({"unit": unit}),
    };
    json!({
        "name": scope.name,
        "match": matches,
        "mode": scope.mode.word(),
        "ports": scope.ports,
        "quic": scope.quic.word(),
        "fail": scope.fail.word(),
    })
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

    fn show(value: &Vec<u16>) -> Value {
        json!(value)
    }
}

impl Check<'_> {
    fn scopes(&mut self, scopes: Vec<ScopeSource>) -> Vec<Scope> {
        let mut known: Vec<Scope> = Vec::with_capacity(scopes.len());
        let mut names: Vec<String> = Vec::with_capacity(scopes.len());
        for scope in scopes {
            if names.contains(&scope.name.value) {
                self.refuse(scope.name.referenced, format!("the scope `{}` is listed twice; rename one", scope.name.value));
            }
            let Some(matches) = self.matches(&scope) else { continue };
            let name = scope.name.value;
            names.push(name.clone());
            // All are looked at, so that all that is wrong is told.
            let (mode, ports) = (ScopeSource::mode(scope.mode, self), ScopeSource::ports(scope.ports, self));
            let (quic, fail) = (ScopeSource::quic(scope.quic, self), ScopeSource::fail(scope.fail, self));
            if let (Some(mode), Some(ports), Some(quic), Some(fail)) = (mode, ports, quic, fail) {
                known.push(Scope { name, matches, mode, ports, quic, fail });
            }
        }
        known
    }

    fn matches(&mut self, scope: &ScopeSource) -> Option<Match> {
        let MatchSource { cgroup, user, unit } = &scope.r#match;
        match (cgroup, user, unit) {
            (Some(cgroup), None, None) => self.parsed(cgroup, "").map(Match::Cgroup),
            (None, Some(user), None) => Some(Match::User(user.value.clone())),
            (None, None, Some(unit)) if !unit.value.contains('/') && unit.value.contains('.') => Some(Match::Unit(unit.value.clone())),
            (None, None, Some(unit)) => {
                self.refuse(unit.referenced, format!("`{}` is not a unit; write it whole, as agent.service", unit.value));
                None
            }
            _ => {
                let cause = format!("the scope `{}` needs one of match.cgroup, match.user and match.unit", scope.name.value);
                self.refuse(scope.name.referenced, cause);
                None
            }
        }
    }
}
