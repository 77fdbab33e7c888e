//! Words as they are looked for: in small letters, in the singular, without those that everything is asked with.

/// Words in questions that say nothing of what is asked for. In order.
const STOP: &[&str] = &[
    "a", "about", "all", "an", "and", "any", "are", "as", "at", "be", "been", "by", "can", "could", "did", "do", "does", "done", "for",
    "from", "had", "has", "have", "here", "how", "i", "if", "in", "into", "is", "it", "its", "may", "me", "might", "my", "need", "of",
    "on", "or", "our", "out", "please", "should", "some", "that", "the", "there", "these", "this", "those", "to", "up", "us", "want",
    "was", "we", "were", "what", "when", "where", "which", "who", "whom", "whose", "why", "will", "with", "would", "you", "your",
];

/// Words of people for what tools are called. In order.
const SYNONYMS: &[(&str, &[&str])] = &[
    ("answer", &["reply"]),
    ("approve", &["review"]),
    ("big", &["size"]),
    ("bug", &["issue"]),
    ("change", &["update", "edit"]),
    ("changed", &["diff", "log"]),
    ("clock", &["time"]),
    ("close", &["update"]),
    ("compare", &["diff"]),
    ("connect", &["relation"]),
    ("difference", &["diff"]),
    ("dir", &["directory"]),
    ("download", &["get", "read", "fetch"]),
    ("edit", &["update"]),
    ("emoji", &["reaction"]),
    ("fact", &["observation"]),
    ("find", &["search"]),
    ("folder", &["directory"]),
    ("forget", &["delete"]),
    ("history", &["log"]),
    ("image", &["media"]),
    ("link", &["relation"]),
    ("look", &["search", "read"]),
    ("make", &["create"]),
    ("member", &["user"]),
    ("new", &["create"]),
    ("people", &["user", "entity"]),
    ("person", &["user", "entity"]),
    ("picture", &["media"]),
    ("pr", &["pull", "request"]),
    ("read", &["get"]),
    ("remember", &["create", "add"]),
    ("remove", &["delete"]),
    ("rename", &["move"]),
    ("replace", &["edit"]),
    ("repo", &["repository"]),
    ("said", &["message"]),
    ("save", &["write"]),
    ("say", &["post"]),
    ("send", &["post"]),
    ("several", &["multiple"]),
    ("show", &["get", "list"]),
    ("stage", &["add"]),
    ("switch", &["checkout"]),
    ("ticket", &["issue"]),
    ("timezone", &["time"]),
    ("today", &["current"]),
    ("uncommitted", &["diff", "status", "unstaged"]),
    ("undo", &["reset", "revert"]),
    ("unstage", &["reset"]),
    ("upload", &["push", "write", "create"]),
    ("web", &["fetch"]),
    ("website", &["fetch"]),
];

/// Words of a text: `listPullRequests`, `list_pull_requests` and `List the pull requests` are the same three. A plural is its
/// singular, as people and schemas mix them.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|c: char| !c.is_alphanumeric()).flat_map(humps).filter(|word| !word.is_empty());
    parts.map(str::to_lowercase).filter(|word| STOP.binary_search(&word.as_str()).is_err()).map(|word| singular(&word))
}

/// Further words that a word of a question may mean: what tools call it, and what it is a form of.
pub fn alternatives(word: &str) -> impl Iterator<Item = &str> {
    let said = SYNONYMS.binary_search_by_key(&word, |(said, _)| said).ok().and_then(|at| SYNONYMS.get(at));
    let called = said.into_iter().flat_map(|(_, called)| called.iter().copied());
    called.chain(["ing", "ed", "er", "d"].into_iter().filter_map(move |ending| word.strip_suffix(ending)).filter(|stem| stem.len() >= 4))
}

/// Splits where a small letter or digit meets a capital.
fn humps(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut before = None;
        let cut = rest.char_indices().find_map(|(at, c)| {
            let split = c.is_uppercase() && before.is_some_and(|before: char| !before.is_uppercase());
            before = Some(c);
            split.then_some(at)
        });
        let (hump, after) = rest.split_at(cut.unwrap_or(rest.len()));
        rest = after;
        Some(hump)
    })
}

fn singular(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ies").filter(|stem| stem.len() > 1) {
        return format!("{stem}y");
    }
    if ["sses", "xes", "ches", "shes", "zes", "tuses"].iter().any(|ending| word.ends_with(ending)) {
        return word.strip_suffix("es").unwrap_or(word).to_owned();
    }
    match word.strip_suffix('s') {
        Some(stem) if stem.len() > 2 && !stem.ends_with(['s', 'u', 'i']) => stem.to_owned(),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_in_order_so_that_they_can_be_looked_up() {
        assert!(STOP.is_sorted() && SYNONYMS.is_sorted_by_key(|(said, _)| said));
    }

    #[test]
    fn a_plural_is_its_singular() {
        let of = |text: &str| words(text).collect::<Vec<_>>().join(" ");
        assert_eq!(of("entities repositories branches statuses issues files classes"), "entity repository branch status issue file class");
        assert_eq!(of("status releases series"), "status release sery");
        assert_eq!(of("which of the listPullRequests"), "list pull request");
    }
}
