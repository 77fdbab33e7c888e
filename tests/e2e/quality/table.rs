//! Counts and prints the findings.

use super::{
    corpus::{Case, Corpus, Expected},
    verdict::{Sureness, evidence, shortfall},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Kinds of evidence, in the order of the columns.
const KINDS: [&str; 5] = ["host", "path", "header", "body", "response"];

/// A case and its results.
pub struct Row {
    pub case: Case,
    pub live: Vec<Value>,
    /// `None` where the case cannot be written as a recording.
    pub replayed: Option<Vec<Value>>,
    pub baseline: Found,
}

/// Whether any of the ten expressions matches a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Yes,
    No,
}

/// A case whose result differs from the corpus.
pub struct Short {
    pub id: String,
    pub why: String,
}

/// Prints the tables, and returns the cases that differ.
pub fn print(rows: &[Row]) -> Vec<Short> {
    println!("\nper corpus       cases  as expected  found     false+ | replayed  as expected | ten expressions: found     false+");
    for corpus in Corpus::ALL {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.case.corpus == corpus).collect();
        println!("{}", line(&corpus.to_string(), &rows));
    }
    println!("{}", line("all", &rows.iter().collect::<Vec<_>>()));

    println!("\npositives by the evidence that their events name (one case may have several kinds)");
    println!("                 positives   host   path header   body response  | ten expressions");
    for corpus in Corpus::ALL {
        let positives: Vec<&Row> = rows.iter().filter(|row| row.case.corpus == corpus && row.case.expected.is_positive()).collect();
        if positives.is_empty() {
            continue;
        }
        let mut counts = BTreeMap::<&str, usize>::new();
        for row in &positives {
            let found: BTreeSet<String> = evidence(&row.live);
            KINDS.into_iter().filter(|kind| found.contains(*kind)).for_each(|kind| *counts.entry(kind).or_default() += 1);
        }
        let count = |kind| counts.get(kind).copied().unwrap_or(0);
        let [host, path, header, body, response] = KINDS.map(count);
        let baseline = baseline(&positives);
        println!("{corpus:<17}{:>9} {host:>6} {path:>6} {header:>6} {body:>6} {response:>8}  | {baseline:>15}", positives.len());
    }

    println!("\nevasions by category");
    let evasions: Vec<&Row> = rows.iter().filter(|row| row.case.corpus == Corpus::Evasions).collect();
    let categories: BTreeSet<&str> = evasions.iter().map(|row| category(&row.case.id)).collect();
    for wanted in categories {
        let of: Vec<&Row> = evasions.iter().copied().filter(|row| category(&row.case.id) == wanted).collect();
        println!("{}", line(wanted, &of));
    }
    let later: Vec<&str> = rows.iter().filter(|row| row.case.expected == Expected::Later).map(|row| row.case.id.as_str()).collect();
    println!("\nnot judged yet (WebSocket): {}", later.join(", "));
    let untold = rows.iter().filter(|row| row.replayed.is_none() && row.case.expected != Expected::Later);
    println!("not replayed:");
    untold.for_each(|row| println!("  {}: {}", row.case.id, super::replayed::untold(&row.case).unwrap_or_default()));

    let names = |wanted: Found, of: fn(Expected) -> bool| -> Vec<&str> {
        let differ = rows.iter().filter(|row| row.case.corpus != Corpus::RealHttp && of(row.case.expected) && row.baseline == wanted);
        differ.map(|row| row.case.id.as_str()).collect()
    };
    println!("\nthe ten expressions miss, of the evasions: {}", names(Found::No, Expected::is_positive).join(", "));
    println!("and mistake: {}", names(Found::Yes, Expected::is_negative).join(", "));
    let missed = rows.iter().filter(|row| row.case.corpus == Corpus::RealHttp && row.baseline == Found::No);
    let mut by_kind = BTreeMap::<String, usize>::new();
    missed.for_each(|row| *by_kind.entry(kind(&row.case)).or_default() += 1);
    println!("and miss, of the real exchanges:");
    by_kind.iter().for_each(|(kind, count)| println!("  {count:>3} {kind}"));

    let short: Vec<Short> = rows.iter().flat_map(shortfalls).collect();
    println!("\nshort: {}", short.len());
    short.iter().for_each(|short| println!("  {}: {}", short.id, short.why));
    short
}

fn line(name: &str, rows: &[&Row]) -> String {
    let judged: Vec<&&Row> = rows.iter().filter(|row| row.case.expected != Expected::Later).collect();
    let right = judged.iter().filter(|row| shortfall(&row.case, &row.live).is_none()).count();
    let replayed: Vec<(&Case, &[Value])> = judged.iter().filter_map(|row| Some((&row.case, row.replayed.as_deref()?))).collect();
    let replayed_right = replayed.iter().filter(|(case, events)| shortfall(case, events).is_none()).count();
    let positives: Vec<&Row> = judged.iter().filter(|row| row.case.expected.is_positive()).map(|row| **row).collect();
    let negatives: Vec<&Row> = judged.iter().filter(|row| row.case.expected.is_negative()).map(|row| **row).collect();
    let found = positives.iter().filter(|row| Sureness::of(&row.live) >= Sureness::Probable).count();
    let wrong = negatives.iter().filter(|row| Sureness::of(&row.live) >= Sureness::Probable).count();
    format!(
        "{name:<17}{:>5} {right:>7}/{:<4} {:>9} {:>9} | {:>8} {replayed_right:>7}/{:<4} | {:>22} {:>9}",
        rows.len(),
        judged.len(),
        format!("{found}/{}", positives.len()),
        format!("{wrong}/{}", negatives.len()),
        replayed.len(),
        replayed.len(),
        format!("{}/{}", baseline(&positives), positives.len()),
        format!("{}/{}", baseline(&negatives), negatives.len()),
    )
}

fn baseline(rows: &[&Row]) -> usize {
    rows.iter().filter(|row| row.baseline == Found::Yes).count()
}

/// The HTTP method and the MCP method of the request.
fn kind(case: &Case) -> String {
    let message: Option<Value> = serde_json::from_slice(&case.body).ok();
    let method = message.as_ref().map(|message| message["method"].as_str().unwrap_or("an answer"));
    format!("{} {}", case.method, method.unwrap_or_default())
}

fn category(id: &str) -> &str {
    id.split('-').next().unwrap_or(id)
}

/// What differs live, in replay, and between the two.
fn shortfalls(row: &Row) -> Vec<Short> {
    let id = &row.case.id;
    let short = |why: String| Short { id: id.clone(), why };
    let mut all: Vec<Short> = shortfall(&row.case, &row.live).map(|why| short(format!("live: {why}"))).into_iter().collect();
    if let Some(replayed) = &row.replayed {
        all.extend(shortfall(&row.case, replayed).map(|why| short(format!("replayed: {why}"))));
        let (live, again) = (Sureness::of(&row.live), Sureness::of(replayed));
        if live != again {
            all.push(short(format!("live says {live:?}, replay says {again:?}")));
        }
    }
    all
}
