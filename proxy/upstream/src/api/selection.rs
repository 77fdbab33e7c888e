//! The operations of an API that are offered: reading by default, writing only where configured.

use gnomon_access::{Flavour, Glob};
use gnomon_catalogue::catalogue::Listed;
use gnomon_openapi::{Effect, Operation};
use smol_str::format_smolstr;

/// Longest path that patterns are held against, bytes.
const MAX_PATH: usize = 512;

/// The operations that are offered, and where.
#[derive(Debug, Default)]
pub struct Selection {
    allow: Vec<Pattern>,
    writes: Vec<Pattern>,
}

/// A pattern for operations: of their names, or where it holds a blank, of `METHOD /path`, in which `*` stops at `/`.
#[derive(Debug)]
struct Pattern {
    text: String,
    glob: Glob,
    of_place: bool,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let of_place = text.contains(' ');
        let flavour = if of_place { Flavour::Path } else { Flavour::Name };
        Self { text: text.to_owned(), glob: Glob::new(text, flavour), of_place }
    }

    fn fits(&self, operation: &Operation) -> bool {
        if self.of_place {
            return operation.path.len() <= MAX_PATH && self.glob.matches(&format!("{} {}", operation.method, operation.path));
        }
        self.glob.matches(&operation.name)
    }
}

impl Selection {
    /// Patterns of the operations listed as direct tools, and of those that may be called although they write.
    #[must_use]
    pub fn new(allow: &[String], writes: &[String]) -> Self {
        let patterns = |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect();
        Self { allow: patterns(allow), writes: patterns(writes) }
    }

    /// The list on which an operation of this server is.
    #[must_use]
    pub fn listed(&self, operation: &Operation, server: &str) -> Listed {
        if operation.effect == Effect::Write && !self.writes.iter().any(|pattern| pattern.fits(operation)) {
            return Listed::Nowhere(format_smolstr!(
                "`{}` changes something ({} {}), and `openapi.writes` of server `{server}` does not name it; whoever runs the portal decides that",
                operation.name,
                operation.method,
                operation.path
            ));
        }
        if self.allow.iter().any(|pattern| pattern.fits(operation)) { Listed::Everywhere } else { Listed::Searchable }
    }

    /// Patterns that fit nothing: misspelt, most likely. Of those for writing, that fit nothing that writes.
    #[must_use]
    pub fn idle<'a>(&'a self, operations: &[Operation]) -> Vec<&'a str> {
        let idle = |patterns: &'a [Pattern], fits: &dyn Fn(&Operation) -> bool| {
            let unused = |pattern: &&Pattern| !operations.iter().any(|operation| fits(operation) && pattern.fits(operation));
            patterns.iter().filter(unused).map(|pattern| pattern.text.as_str()).collect::<Vec<_>>()
        };
        let mut all = idle(&self.allow, &|_| true);
        all.extend(idle(&self.writes, &|operation| operation.effect == Effect::Write));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_openapi::{Options, import};
    use serde_json::json;

    #[test]
    fn reading_is_offered_to_scripts_and_writing_to_nobody_unless_somebody_says_so() {
        let document = json!({"openapi": "3.1.0", "servers": [{"url": "https://api.example"}], "paths": {
            "/repos/{owner}/issues": {"get": {"operationId": "issues/list"}, "post": {"operationId": "issues/create"}},
            "/repos/{owner}": {"get": {"operationId": "repos/get"}, "delete": {"operationId": "repos/delete"}}}});
        let options = Options { longest_name: 60, base: None, here: None };
        let operations = import(document.to_string().as_bytes(), options).unwrap().operations;
        let of = |allow: &[&str], writes: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let selection = Selection::new(&texts(allow), &texts(writes));
            let word = |operation| match selection.listed(operation, "api") {
                Listed::Everywhere => 'e',
                Listed::Searchable => 'c',
                Listed::Nowhere(_) => '-',
            };
            (operations.iter().map(word).collect::<String>(), selection.idle(&operations).len())
        };
        for (allow, writes, expected, idle) in [
            (&[][..], &[][..], "c-c-", 0),
            (&["*"], &[], "e-e-", 0),
            (&["issues_*"], &["issues_create"], "eec-", 0),
            (&["GET /repos/*"], &["POST /repos/**"], "cce-", 0),
            (&["GET /repos/**"], &["* /repos/*"], "e-ec", 0),
            (&["nothing"], &["repos_get"], "c-c-", 2),
        ] {
            assert_eq!(of(allow, writes), (expected.to_owned(), idle), "{allow:?} {writes:?}");
        }
    }
}
