//! Cgroups by the shape of their path: what a scope of the configuration is about.
//!
//! A path as systemd and container runtimes make them, with `*` for any part of one name. Only the folders that match are
//! looked into, so that a search costs as many system calls as the pattern has names, and not as many as there are cgroups.

use std::fmt;
use std::str::FromStr;

use super::below::children;
use super::{Cgroup, CgroupError, CgroupId, Hierarchy};

/// Most cgroups that one pattern matches; further ones are left out.
pub const MAX_MATCHES: usize = 1024;
/// Most names of a pattern.
const MAX_NAMES: usize = 32;

/// `/user.slice/user-1000.slice`, `/system.slice/docker-*.scope`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPattern {
    names: Vec<String>,
}

/// A text that is no such pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// The pattern does not begin with `/`.
    #[error("the path of a cgroup begins with `/`, as /system.slice/agent.service")]
    NotWhole,
    /// The pattern matches all cgroups.
    #[error("this means all cgroups; name one below")]
    Everything,
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
            _ => Ok(Self { names }),
        }
    }
}

impl fmt::Display for CgroupPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.names.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

impl Hierarchy {
    /// The cgroups that match now, at most [`MAX_MATCHES`].
    ///
    /// # Errors
    /// The hierarchy cannot be read.
    pub fn matching(&self, pattern: &CgroupPattern) -> Result<Vec<CgroupId>, CgroupError> {
        let mut found = Vec::new();
        look(&self.top()?, &pattern.names, &mut found);
        Ok(found)
    }
}

/// Collects the matches; a cgroup that vanishes meanwhile is passed over.
fn look(cgroup: &Cgroup, names: &[String], found: &mut Vec<CgroupId>) {
    let Some((name, rest)) = names.split_first() else {
        found.push(cgroup.id());
        return;
    };
    let below = |name: &str| Cgroup::open(cgroup.directory(), name, format!("{}/{name}", cgroup.path().trim_end_matches('/')));
    if !name.contains('*') {
        if let Ok(next) = below(name) {
            look(&next, rest, found);
        }
        return;
    }
    for (child, _) in children(cgroup.directory()) {
        if found.len() >= MAX_MATCHES {
            return;
        }
        if fits(name, &child)
            && let Ok(next) = below(&child)
        {
            look(&next, rest, found);
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
    }
}
