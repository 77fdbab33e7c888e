//! Scopes: whose connections are observed, read, or governed.
//!
//! The kernel half goes by cgroup, and so do scopes: a path, a user's slice, or a unit. Not by executable: a connection may
//! be made before anybody could have looked which file a process runs, and moving a process to another cgroup would take it
//! from its service. `gnomon exec` starts a program in a scope of its own.

use super::{Check, keys, raw};
use gnomon_access::yaml::hint;
use gnomon_host::cgroup::CgroupPattern;
use nix::unistd::User;
use serde_saphyr::Spanned;
use std::fmt;

/// What the configuration says of the connections of some cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub name: String,
    pub matches: Match,
    pub mode: Mode,
    /// Destination ports that are redirected, at most 16.
    pub ports: Vec<u16>,
    pub quic: Quic,
    pub fail: Fail,
}

/// Which cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    Cgroup(CgroupPattern),
    /// The slice that systemd-logind makes for the sessions and services of a person.
    User(String),
    /// A service or scope of the system.
    Unit(String),
}

impl Match {
    /// As a path. `None` where there is no such user, at this moment.
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

/// A closed set of words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $all:ident, [$($(#[$vdoc:meta])* $variant:ident = $word:literal),+]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
        /// Its words.
        pub const $all: &[&str] = &[$($word),+];
        impl $name {
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
            fn named(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// What happens to connections of a scope.
    Mode, MODES, [
        /// They are not even looked at.
        Off = "off",
        /// They are tagged.
        Observe = "observe",
        /// They are sent through the proxy, and nothing is refused.
        Intercept = "intercept",
        /// They are sent through the proxy, and rules hold.
        Enforce = "enforce"
    ]
}
words! {
    /// What happens to HTTP/3 where connections are redirected.
    Quic, QUICS, [
        /// Refused, so that clients fall back to TCP.
        Refuse = "refuse",
        /// It passes unread.
        Leave = "leave"
    ]
}
words! {
    /// What happens to a connection that cannot be redirected.
    Fail, FAILS, [
        /// It goes direct, and is counted.
        Open = "open",
        /// It is refused.
        Closed = "closed"
    ]
}

impl Check<'_> {
    pub(super) fn scopes(&mut self, scopes: Vec<raw::Scope>) -> Vec<Scope> {
        let mut known: Vec<Scope> = Vec::with_capacity(scopes.len());
        for scope in scopes {
            if known.iter().any(|other| other.name == scope.name.value) {
                self.refuse(scope.name.referenced, format!("the scope `{}` stands here twice; rename one", scope.name.value));
            }
            let Some(matches) = self.matches(&scope) else { continue };
            known.push(Scope {
                matches,
                mode: self.word(scope.mode, Mode::named, MODES).unwrap_or(Mode::Observe),
                ports: self.ports(scope.ports),
                quic: self.word(scope.quic, Quic::named, QUICS).unwrap_or(Quic::Refuse),
                fail: self.word(scope.fail, Fail::named, FAILS).unwrap_or(Fail::Open),
                name: scope.name.value,
            });
        }
        known
    }

    fn matches(&mut self, scope: &raw::Scope) -> Option<Match> {
        let raw::Match { cgroup, user, unit } = &scope.matches;
        match (cgroup, user, unit) {
            (Some(cgroup), None, None) => self.parsed(cgroup, "").map(Match::Cgroup),
            (None, Some(user), None) => Some(Match::User(user.value.clone())),
            (None, None, Some(unit)) if !unit.value.contains('/') && unit.value.contains('.') => Some(Match::Unit(unit.value.clone())),
            (None, None, Some(unit)) => {
                self.refuse(unit.referenced, format!("`{}` is no unit; write it whole, as agent.service", unit.value));
                None
            }
            _ => {
                let cause = format!("the scope `{}` needs one of match.cgroup, match.user and match.unit", scope.name.value);
                self.refuse(scope.name.referenced, cause);
                None
            }
        }
    }

    fn ports(&mut self, ports: Option<Spanned<Vec<u64>>>) -> Vec<u16> {
        let Some(ports) = ports else { return vec![443] };
        let list: Vec<u16> = ports.value.iter().filter_map(|port| u16::try_from(*port).ok().filter(|port| *port != 0)).collect();
        if list.len() != ports.value.len() || list.is_empty() || list.len() > keys::MAX_PORTS {
            self.refuse(ports.referenced, format!("from 1 to {} ports, each from 1 to 65535", keys::MAX_PORTS));
        }
        list
    }

    pub(super) fn word<T>(&mut self, word: Option<Spanned<String>>, named: fn(&str) -> Option<T>, words: &[&str]) -> Option<T> {
        let word = word?;
        let found = named(&word.value);
        if found.is_none() {
            self.refuse(word.referenced, format!("`{}` is not known here{}", word.value, hint(&word.value, words)));
        }
        found
    }
}
