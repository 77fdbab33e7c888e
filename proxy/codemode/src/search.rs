//! Ranked search over tools.
//!
//! BM25 over three fields (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, 3.5), in memory. SQLite's FTS5
//! would do it too, but here there are a few thousand short texts that change with their servers and are seen differently by each
//! caller: an index that is a value needs no file, no thread and no query language to escape from, and policy is asked of no more
//! tools than are shown.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde_json::{Map, Value};

/// What may be found at once.
pub const MAX_HITS: usize = 50;

/// Bytes of a query that count.
pub const MAX_QUERY: usize = 512;

/// Words of a query that count.
const MAX_WORDS: usize = 16;

/// Words of the index that one word of a query may begin.
const MAX_COMPLETIONS: usize = 64;

/// Bytes of a description that are indexed.
const MAX_TEXT: usize = 8 << 10;

/// Parameters of a tool that are indexed.
const MAX_PARAMETERS: usize = 256;

/// What a word is worth where it stands.
const NAME: f32 = 4.0;
const PARAMETER: f32 = 1.5;
const DESCRIPTION: f32 = 1.0;

/// The usual constants of BM25: how soon repetition stops to count, and how much length counts.
const SATURATION: f32 = 1.2;
const LENGTH: f32 = 0.75;

/// What a beginning of a word is worth beside the word.
const COMPLETION: f32 = 0.5;

/// What is searched of a tool.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its name on `codemode`.
    pub name: &'a str,
    /// Its description.
    pub description: &'a str,
    /// Its input schema, of which the names of parameters are taken, two levels deep.
    pub input: Option<&'a Value>,
}

/// A tool that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Which, in the order in which they were given.
    pub entry: usize,
    /// How well it fits; only to compare within one search.
    pub score: f32,
}

/// An index that does not change. Made when a server's tools change; 2,500 tools take about 30 ms and 3 MB.
#[derive(Debug, Default)]
pub struct Index {
    /// Each word with the entries that have it and what it is worth there, in order of entries.
    words: BTreeMap<Box<str>, Vec<(u32, f32)>>,
    /// What the words of each entry are worth together.
    lengths: Vec<f32>,
    average: f32,
}

impl Index {
    /// Indexes tools, at most 2³² of them.
    pub fn new<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let mut index = Self::default();
        for (number, entry) in (0_u32..).zip(entries) {
            let mut weights: BTreeMap<String, f32> = BTreeMap::new();
            let mut add = |text: &str, weight: f32| words(text).for_each(|word| *weights.entry(word).or_default() += weight);
            add(entry.name, NAME);
            add(&entry.description[..entry.description.floor_char_boundary(MAX_TEXT)], DESCRIPTION);
            for parameter in parameters(entry.input).take(MAX_PARAMETERS) {
                add(parameter, PARAMETER);
            }
            index.lengths.push(weights.values().sum());
            for (word, weight) in weights {
                index.words.entry(word.into()).or_default().push((number, weight));
            }
        }
        index.average = index.lengths.iter().sum::<f32>() / index.lengths.len().max(1) as f32;
        index
    }

    /// The best hits among those that are `visible`, best first, at most `limit` and [`MAX_HITS`]. Equal ones are in order of
    /// entries. A query without a word finds nothing.
    #[must_use]
    pub fn search(&self, query: &str, limit: usize, mut visible: impl FnMut(usize) -> bool) -> Vec<Hit> {
        let mut scores = vec![0.0_f32; self.lengths.len()];
        for word in words(&query[..query.floor_char_boundary(MAX_QUERY)]).take(MAX_WORDS) {
            // Each word counts once for an entry, as what fits best: itself, or something that it begins.
            let mut best = vec![0.0_f32; self.lengths.len()];
            let from = (Bound::Included(word.as_str()), Bound::Unbounded);
            let begun = self.words.range::<str, _>(from).take_while(|(found, _)| found.starts_with(word.as_str()));
            for (found, entries) in begun.take(MAX_COMPLETIONS) {
                let worth = if **found == *word { 1.0 } else { COMPLETION };
                for (entry, weight) in entries {
                    let kept = &mut best[*entry as usize];
                    *kept = kept.max(worth * self.score(*entry, *weight, entries.len()));
                }
            }
            scores.iter_mut().zip(best).for_each(|(score, best)| *score += best);
        }
        let scored = scores.into_iter().enumerate().filter(|(_, score)| *score > 0.0);
        let mut hits: Vec<Hit> = scored.map(|(entry, score)| Hit { entry, score }).collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.entry.cmp(&b.entry)));
        hits.into_iter().filter(|hit| visible(hit.entry)).take(limit.min(MAX_HITS)).collect()
    }

    fn score(&self, entry: u32, weight: f32, entries: usize) -> f32 {
        let (all, having) = (self.lengths.len() as f32, entries as f32);
        let rarity = ((all - having + 0.5) / (having + 0.5)).ln_1p();
        let length = self.lengths.get(entry as usize).copied().unwrap_or_default() / self.average.max(f32::MIN_POSITIVE);
        rarity * weight * (SATURATION + 1.0) / (weight + SATURATION * (1.0 - LENGTH + LENGTH * length))
    }
}

/// Names of parameters, and of what is in those that are objects.
fn parameters(schema: Option<&Value>) -> impl Iterator<Item = &str> {
    let top = schema.and_then(properties).into_iter().flatten();
    top.flat_map(|(name, inner)| {
        let below = properties(inner).into_iter().flatten().map(|(name, _)| name.as_str());
        std::iter::once(name.as_str()).chain(below)
    })
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

/// Words in small letters: `listPullRequests`, `list_pull_requests` and `List pull requests` are the same three. A plural is its
/// singular, as people and schemas mix them.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).flat_map(humps).filter(|word| !word.is_empty()).map(|word| singular(&word.to_lowercase()))
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
    match word.strip_suffix('s') {
        Some(stem) if stem.len() > 2 && !stem.ends_with(['s', 'u', 'i']) => stem.to_owned(),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(query: &str) -> Vec<usize> {
        let schema = serde_json::json!({ "properties": { "jql": {}, "page": { "properties": { "cursorToken": {} } } } });
        let entry = |name, description, input| Entry { name, description, input };
        let index = Index::new([
            entry("jira_search_issues", "Finds tickets by a query.", Some(&schema)),
            entry("jira_update_issue", "Changes a ticket.", None),
            entry("github_listPullRequests", "Lists what waits for review.", None),
            entry("drive_get_content", "Reads a document; a long text about tickets, issues and other things that it is not about.", None),
        ]);
        index.search(query, 10, |_| true).into_iter().map(|hit| hit.entry).collect()
    }

    #[test]
    fn a_name_counts_more_than_a_description() {
        assert_eq!(found("issue")[..2], [1, 0]);
        assert_eq!(found("search tickets")[0], 0);
        assert_eq!(found("document"), [3]);
    }

    #[test]
    fn spelling_of_names_does_not_matter() {
        for query in ["pull requests", "PullRequest", "list_pull_request", "pull req"] {
            assert_eq!(found(query)[0], 2, "{query}");
        }
        assert_eq!(found("cursor token"), [0]);
    }

    #[test]
    fn what_is_not_visible_is_not_found() {
        let index = Index::new(["a_tool", "b_tool"].map(|name| Entry { name, description: "", input: None }));
        assert_eq!(index.search("tool", 10, |entry| entry == 1).iter().map(|hit| hit.entry).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn hostile_queries_find_nothing_and_take_no_time() {
        for query in ["", "\" OR 1=1 --", "* NEAR(", "\u{0}", &"é".repeat(100_000), &"a b ".repeat(100_000)] {
            let _ = found(query);
        }
        assert_eq!(found("").len(), 0);
    }

    #[test]
    fn the_bound_holds_whatever_is_asked_for() {
        let names: Vec<String> = (0..500).map(|number| format!("tool_{number}")).collect();
        let index = Index::new(names.iter().map(|name| Entry { name, description: "", input: None }));
        assert_eq!(index.search("tool", usize::MAX, |_| true).len(), MAX_HITS);
    }
}
