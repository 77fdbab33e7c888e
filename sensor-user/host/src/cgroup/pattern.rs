//! Cgroups by the shape of their path: what a scope of the configuration is about.
//!
//! A path as systemd and container runtimes make them, with `*` for any part of one name. Only the folders that match are
//! looked into, so that a search costs as many system calls as the pattern has names, and not as many as there are cgroups. What one user
//! makes takes no other's place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::below::children;
use super::user::{self, Budget, SYSTEM};
use super::{Cgroup, CgroupError, CgroupId, Hierarchy};

/// Most cgroups of one user that one pattern matches; younger ones are left out.
pub const MAX_MATCHES: usize = 1024;
/// Most names of a pattern.
const MAX_NAMES: usize = 32;
/// Where cgroups are mounted, v2 alone or with v1 beside it: `/sys/fs/cgroup`, `/sys/fs/cgroup/unified`.
const MOUNT: [&str; 3] = ["sys", "fs", "cgroup"];
const BESIDE_V1: &str = "unified";

/// `/user.slice/user-1000.slice`, `/system.slice/docker-*.scope`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPattern {
    names: Vec<String>,
}

/// A text that is no such pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// The pattern does not begin with `/`.
    #[error("the path of a cgroup begins with `/`, as /system.slice/agent.service")]
    NotWhole,
    /// The pattern matches all cgroups.
    #[error("this means all cgroups; name one below")]
    Everything,
    /// The pattern is a folder's; the path of its cgroup.
    #[error("this is a folder; the path of its cgroup is {0}")]
    Folder(String),
    /// A name of it is `.` or `..`.
    #[error("`.` and `..` are not cgroups")]
    Dots,
    /// The pattern has too many names.
    #[error("more than {MAX_NAMES} names")]
    TooLong,
}

impl FromStr for CgroupPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let below = text.strip_prefix('/').ok_or(BadPattern::NotWhole)?;
        let names: Vec<String> = below.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        match names.len() {
            0 => Err(BadPattern::Everything),
            count if count > MAX_NAMES => Err(BadPattern::TooLong),
            _ if names.iter().any(|name| name == "." || name == "..") => Err(BadPattern::Dots),
            _ if names.starts_with(&MOUNT.map(str::to_owned)) => Err(in_folder(&names)),
            _ => Ok(Self { names }),
        }
    }
}

impl fmt::Display for CgroupPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.names.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

/// A folder below the mount is none of a cgroup.
fn in_folder(names: &[String]) -> BadPattern {
    match names.get(MOUNT.len()..).unwrap_or_default() {
        [] => BadPattern::Everything,
        [first] if first == BESIDE_V1 => BadPattern::Everything,
        [first, rest @ ..] if first == BESIDE_V1 => BadPattern::Folder(format!("/{}", rest.join("/"))),
        below => BadPattern::Folder(format!("/{}", below.join("/"))),
    }
}

impl CgroupPattern {
    /// True if this matches whatever the other one does.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // A `*` of the other is text that only a `*` of ours matches.
        self.names.len() == other.names.len() && self.names.iter().zip(&other.names).all(|(ours, theirs)| fits(ours, theirs))
    }
}

/// The cgroups that a pattern matches.
#[derive(Debug, Default)]
pub struct Matching {
    /// By the user whose they are ([`SYSTEM`] for those of nobody in particular), [`MAX_MATCHES`] of each: the oldest.
    pub of_users: BTreeMap<u32, BTreeSet<CgroupId>>,
    /// How many more match. Where a user has more cgroups than are searched, there may be others.
    pub left_out: usize,
    /// The users whose those are, and of whom there may be others.
    pub beyond: BTreeSet<u32>,
}

impl Matching {
    /// The number of matching cgroups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of_users.values().map(BTreeSet::len).sum()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(&mut self, user: u32, cgroup: CgroupId) {
        let of_user = self.of_users.entry(user).or_default();
        of_user.insert(cgroup);
        // Numbers grow: whoever makes more takes their own older ones out of no scope.
        if of_user.len() > MAX_MATCHES {
            of_user.pop_last();
            self.left_out += 1;
            self.beyond.insert(user);
        }
    }
}

impl Hierarchy {
    /// The cgroups that match now.
    ///
    /// # Errors
    /// The hierarchy cannot be read.
    pub fn matching(&self, pattern: &CgroupPattern) -> Result<Matching, CgroupError> {
        let (mut found, mut budget) = (Matching::default(), Budget::shared());
        look(&self.top()?, SYSTEM, &pattern.names, (&mut found, &mut budget));
        found.beyond.append(&mut budget.over());
        Ok(found)
    }
}

/// Collects the matches below a cgroup of this user; a cgroup that vanishes meanwhile is passed over.
fn look(cgroup: &Cgroup, user: u32, names: &[String], (found, budget): (&mut Matching, &mut Budget)) {
    let Some((name, rest)) = names.split_first() else { return };
    let below = |name: &str| Cgroup::open(cgroup.directory(), name, format!("{}/{name}", cgroup.path().trim_end_matches('/')));
    if !name.contains('*') {
        match below(name) {
            Ok(next) if rest.is_empty() => found.add(user::of_entry(user, name), next.id()),
            Ok(next) => look(&next, user::of(user, &next), rest, (found, budget)),
            Err(_) => {}
        }
        return;
    }
    for (child, id) in children(cgroup.directory()) {
        let of_child = user::of_entry(user, &child);
        if !budget.take(of_child) || !fits(name, &child) {
            continue;
        }
        if rest.is_empty() {
            found.add(of_child, id);
        } else if let Ok(next) = below(&child) {
            look(&next, user::of(user, &next), rest, (found, budget));
        }
    }
}

/// Matches a name; `*` stands for any text, none included. Takes the first place for each part, which is enough where nothing but `*` is
/// between them.
fn fits(shape: &str, name: &str) -> bool {
    let mut parts = shape.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_part_of_one_name() {
        for (shape, name) in [("docker-*.scope", "docker-1f2d.scope"), ("*", "x"), ("a*b*c", "aXbYc"), ("a*", "a"), ("plain", "plain")] {
            assert!(fits(shape, name), "{shape} {name}");
        }
        for (shape, name) in [("docker-*.scope", "docker-1f2d.service"), ("a*a", "a"), ("a*b*c", "acb"), ("plain", "plainer")] {
            assert!(!fits(shape, name), "{shape} {name}");
        }
    }

    #[test]
    fn patterns_that_mean_everything_or_nothing_are_refused() {
        let refused = |text: &str| text.parse::<CgroupPattern>().unwrap_err();
        assert_eq!(refused("system.slice"), BadPattern::NotWhole);
        assert_eq!((refused("/"), refused("//")), (BadPattern::Everything, BadPattern::Everything));
        assert_eq!((refused("/a/../b"), refused("/.")), (BadPattern::Dots, BadPattern::Dots));
        assert_eq!(refused(&"/x".repeat(33)), BadPattern::TooLong);
        assert_eq!("/a//b/".parse::<CgroupPattern>().unwrap().to_string(), "/a/b");
        assert_eq!(refused("/sys/fs/cgroup"), BadPattern::Everything);
        assert_eq!(refused("/sys/fs/cgroup/unified/"), BadPattern::Everything);
        let folder = |path: &str| BadPattern::Folder(path.to_owned());
        assert_eq!(refused("/sys/fs/cgroup/system.slice/a.service"), folder("/system.slice/a.service"));
        assert_eq!(refused("/sys/fs/cgroup/unified/system.slice/*"), folder("/system.slice/*"));
    }

    #[test]
    fn a_pattern_covers_those_that_match_nothing_else() {
        let covers = |ours: &str, theirs: &str| ours.parse::<CgroupPattern>().unwrap().covers(&theirs.parse().unwrap());
        for (ours, theirs) in [("/a/b", "/a/b"), ("/a/*", "/a/b"), ("/a/*", "/a/b*"), ("/a/b-*.scope", "/a/b-c*d.scope"), ("/*/b", "/*/b")]
        {
            assert!(covers(ours, theirs), "{ours} {theirs}");
        }
        for (ours, theirs) in [("/a/b", "/a/*"), ("/a/b*", "/a/*"), ("/a", "/a/b"), ("/a/*", "/a"), ("/a/b-*.scope", "/a/b-*")] {
            assert!(!covers(ours, theirs), "{ours} {theirs}");
        }
    }
}
