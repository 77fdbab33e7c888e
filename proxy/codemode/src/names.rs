//! The names that a script may call, kept outside of the sandbox.

use std::collections::HashSet;

use gnomon_kit::nearest_by;
use smol_str::SmolStr;

/// The longest name that can be called, in bytes. Longer ones are unknown.
pub const MAX_NAME: usize = 128;

/// How far a suggestion may be from what was asked for.
const ALIKE: f64 = 0.75;

/// The tools that a program may call. Made once for a caller and used for many executions.
#[derive(Debug, Default)]
pub struct Names {
    known: HashSet<SmolStr>,
}

impl Names {
    /// Names longer than [`MAX_NAME`] are left out.
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        Self { known: names.into_iter().map(|name| SmolStr::new(name.as_ref())).filter(|name| name.len() <= MAX_NAME).collect() }
    }

    /// True if exactly this name, byte by byte, can be called.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.known.contains(name)
    }

    /// The name that can be called and that this one stands for: itself, or the same with `_` where this has `-`, `.`, `/` or a
    /// blank, as names have outside of JavaScript.
    pub(crate) fn meant(&self, name: &str) -> Option<&str> {
        let known = |name: &str| self.known.get(name).map(SmolStr::as_str);
        known(name).or_else(|| known(&name.replace(['-', '.', '/', ' '], "_")).filter(|_| name.len() <= MAX_NAME))
    }

    /// The name that was probably meant. Takes time with the number of names (about 1 ms for 2,500).
    #[must_use]
    pub fn nearest(&self, name: &str) -> Option<&str> {
        if name.len() > MAX_NAME {
            return None;
        }
        // Without its server's name, where only one server has it.
        let wanted = name.to_ascii_lowercase();
        let mut ending = self.known.iter().filter(|known| {
            known.to_ascii_lowercase().strip_suffix(&wanted).is_some_and(|server| server.len() > 1 && server.ends_with('_'))
        });
        if let (Some(only), None) = (ending.next(), ending.next()) {
            return Some(only);
        }
        // The name decides between equals, so that the same mistake has the same answer.
        let mut known: Vec<&SmolStr> = self.known.iter().collect();
        known.sort_unstable_by(|a, b| b.cmp(a));
        nearest_by(&name.to_ascii_lowercase(), known, |known| known.to_ascii_lowercase(), ALIKE).map(SmolStr::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_is_suggested() {
        let names = Names::new(["jira_search_issues", "jira_update_issue", "drive_get_content"]);
        assert_eq!(names.nearest("jira_searchIssues"), Some("jira_search_issues"));
        assert_eq!(names.nearest("DRIVE_GET_CONTENT"), Some("drive_get_content"));
        assert_eq!(names.nearest("zzz"), None);
        assert_eq!(names.nearest("get_content"), Some("drive_get_content"));
        assert_eq!(names.meant("drive_get-content"), Some("drive_get_content"));
        assert_eq!(names.meant("drive_getcontent"), None);
        assert_eq!(names.nearest(&"j".repeat(MAX_NAME + 1)), None);
    }
}
