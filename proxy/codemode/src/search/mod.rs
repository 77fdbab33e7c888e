//! Ranked search over tools.
//!
//! BM25 over four fields (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, 3.5), in memory. SQLite's FTS5
//! would do it too, but here there are a few thousand short texts that change with their servers and are seen differently by each
//! caller: an index that is a value needs no file, no thread and no query language to escape from, and policy is asked of no more
//! tools than are shown.
//!
//! Names of tools are short and chosen with care: what is asked for with all of a name comes before what is asked for with a part,
//! and what answers to all of a question before what answers to a part; what does as the question asks before what does otherwise (`deeds.rs`).

mod deeds;
mod words;

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use serde_json::{Map, Value};

use deeds::{Doing, Wish};
use words::{alternatives, words};

/// The most tools that are found at once.
pub const MAX_HITS: usize = 50;

/// Bytes of a query that count.
pub const MAX_QUERY: usize = 512;

/// Words of a query that count.
const MAX_WORDS: usize = 16;

/// Words of the index that one word of a query may begin.
const MAX_COMPLETIONS: usize = 64;

/// Letters of the shortest word that may begin another.
const MIN_BEGINNING: usize = 3;

/// Bytes of a description that are indexed.
const MAX_TEXT: usize = 8 << 10;

/// Parameters of a tool that are indexed.
const MAX_PARAMETERS: usize = 256;

/// The weight of a word by where it is.
const NAME: f32 = 4.0;
const SUMMARY: f32 = 2.0;
const PARAMETER: f32 = 1.0;
const DESCRIPTION: f32 = 0.3;

/// The usual constants of BM25: how soon repetition stops to count, and how much length counts.
const SATURATION: f32 = 1.2;
const LENGTH: f32 = 0.75;

/// The weight of a beginning of a word beside the word, and of a synonym.
const COMPLETION: f32 = 0.5;
const ALTERNATIVE: f32 = 0.8;

/// A tool as it is searched.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The name on `codemode`.
    pub name: &'a str,
    /// The description.
    pub description: &'a str,
    /// The input schema, of which the names of parameters are taken, two levels deep.
    pub input: Option<&'a Value>,
}

/// A tool that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The index of the entry, in the order in which they were given.
    pub entry: usize,
    /// How well it fits; only to compare within one search.
    pub score: f32,
}

/// A word in an entry.
#[derive(Debug)]
struct Posting {
    entry: u32,
    /// The weight there.
    weight: f32,
    is_in_name: bool,
}

/// An index that does not change. Made when a server's tools change; 2,500 tools take about 30 ms and 4 MB.
#[derive(Debug, Default)]
pub struct Index {
    /// The words, each with the entries that have it, in order of entries.
    words: BTreeMap<Box<str>, Vec<Posting>>,
    entries: Vec<Indexed>,
    average: f32,
}

/// Further facts about an entry.
#[derive(Debug, Default)]
struct Indexed {
    /// The weight of its words together.
    length: f32,
    /// How rare the words of its name are, together.
    name: f32,
    /// The tool's action.
    doing: Doing,
}

/// The score of an entry for a query so far.
#[derive(Debug, Default, Clone)]
struct Fit {
    score: f32,
    /// The best weight for the current word.
    best: f32,
    /// Words of the query that it answers to.
    words: u32,
    /// Words of its name that are asked for: their places in the index, how surely, and how rare they are.
    named: Vec<(usize, f32, f32)>,
}

impl Index {
    /// Indexes tools, at most 2³² of them.
    pub fn new<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let mut index = Self::default();
        for (number, entry) in (0_u32..).zip(entries) {
            let mut weights: BTreeMap<String, f32> = BTreeMap::new();
            let name: HashSet<String> = words(entry.name).collect();
            name.iter().for_each(|word| *weights.entry(word.clone()).or_default() += NAME);
            let mut add = |text: &str, weight: f32| words(text).for_each(|word| *weights.entry(word).or_default() += weight);
            let description = &entry.description[..entry.description.floor_char_boundary(MAX_TEXT)];
            let (summary, rest) = description.split_at(summary(description).len());
            add(summary, SUMMARY);
            add(rest, DESCRIPTION);
            for parameter in parameters(entry.input).take(MAX_PARAMETERS) {
                add(parameter, PARAMETER);
            }
            index.entries.push(Indexed { length: weights.values().sum(), name: 0.0, doing: Doing::of(entry.name, summary) });
            for (word, weight) in weights {
                let is_in_name = name.contains(&word);
                index.words.entry(word.into()).or_default().push(Posting { entry: number, weight, is_in_name });
            }
        }
        let all = index.entries.len();
        for postings in index.words.values() {
            for posting in postings.iter().filter(|posting| posting.is_in_name) {
                if let Some(entry) = index.entries.get_mut(posting.entry as usize) {
                    entry.name += rarity(all, postings.len());
                }
            }
        }
        index.average = index.entries.iter().map(|entry| entry.length).sum::<f32>() / all.max(1) as f32;
        index
    }

    /// The best hits among those that are `visible`, best first, at most `limit` and [`MAX_HITS`]. Equal ones are in order of
    /// entries. A query without a word finds nothing.
    #[must_use]
    pub fn search(&self, query: &str, limit: usize, mut visible: impl FnMut(usize) -> bool) -> Vec<Hit> {
        let mut fits = vec![Fit::default(); self.entries.len()];
        let (mut asked, wish) = (0_u32, Wish::of(&query[..query.floor_char_boundary(MAX_QUERY)]));
        for word in words(&query[..query.floor_char_boundary(MAX_QUERY)]).take(MAX_WORDS) {
            asked += 1;
            self.fit(&mut fits, &word, 1.0);
            alternatives(&word).for_each(|other| self.fit(&mut fits, other, ALTERNATIVE));
            // Each word counts once for an entry, as what fits best.
            for fit in &mut fits {
                fit.score += fit.best;
                fit.words += u32::from(fit.best > 0.0);
                fit.best = 0.0;
            }
        }
        let scored = fits.into_iter().zip(&self.entries).enumerate().filter(|(_, (fit, _))| fit.score > 0.0);
        let scored = scored.map(|(entry, (fit, indexed))| {
            let named = fit.named.iter().map(|(_, surely, rare)| surely * rare).sum::<f32>() / indexed.name.max(f32::MIN_POSITIVE);
            let answered = fit.words as f32 / asked.max(1) as f32;
            Hit { entry, score: fit.score * (1.0 + named) * (1.0 + answered) * wish.worth(indexed.doing) }
        });
        let mut hits: Vec<Hit> = scored.collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.entry.cmp(&b.entry)));
        hits.into_iter().filter(|hit| visible(hit.entry)).take(limit.min(MAX_HITS)).collect()
    }

    /// Counts a word that stands for one of the query as surely as `worth` says: itself, and what it begins.
    fn fit(&self, fits: &mut [Fit], word: &str, worth: f32) {
        let from = (Bound::Included(word), Bound::Unbounded);
        let begun = self.words.range::<str, _>(from).take_while(|(found, _)| found.starts_with(word));
        let longest = if word.len() < MIN_BEGINNING { word.len() } else { usize::MAX };
        for (found, postings) in begun.filter(|(found, _)| found.len() <= longest).take(MAX_COMPLETIONS) {
            let worth = if found.len() == word.len() { worth } else { worth * COMPLETION };
            let rare = rarity(self.entries.len(), postings.len());
            for posting in postings {
                let Some((fit, entry)) = fits.get_mut(posting.entry as usize).zip(self.entries.get(posting.entry as usize)) else {
                    continue;
                };
                let length = entry.length / self.average.max(f32::MIN_POSITIVE);
                let weight = posting.weight;
                let score = rare * weight * (SATURATION + 1.0) / (weight + SATURATION * (1.0 - LENGTH + LENGTH * length));
                fit.best = fit.best.max(worth * score);
                if posting.is_in_name {
                    // The text stands in the index and nowhere else, so its address is its number.
                    let place = found.as_ptr() as usize;
                    match fit.named.iter_mut().find(|(known, ..)| *known == place) {
                        Some((_, surely, _)) => *surely = surely.max(worth),
                        None => fit.named.push((place, worth, rare)),
                    }
                }
            }
        }
    }
}

/// The weight of a word that `having` of `all` entries contain.
fn rarity(all: usize, having: usize) -> f32 {
    let (all, having) = (all as f32, having as f32);
    ((all - having + 0.5) / (having + 0.5)).ln_1p()
}

/// The first sentence of a description, or its first line.
#[must_use]
pub fn summary(description: &str) -> &str {
    let start = description.len() - description.trim_start().len();
    let text = &description[start..];
    let stop = text.char_indices().find(|(at, c)| {
        let after = text[at + c.len_utf8()..].chars().next();
        *c == '\n' || matches!(c, '.' | '!' | '?') && after.is_none_or(char::is_whitespace)
    });
    &description[..start + stop.map_or(text.len(), |(at, _)| at)]
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
        let mut named = found("issue")[..2].to_vec();
        named.sort_unstable();
        assert_eq!(named, [0, 1]);
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

    #[test]
    fn a_summary_is_a_sentence_or_a_line() {
        for (text, first) in
            [("One e.g.x two. Three.", "One e.g.x two"), ("  One\ntwo", "  One"), ("", ""), ("no end", "no end"), ("ü.", "ü")]
        {
            assert_eq!(summary(text), first);
        }
    }
}
