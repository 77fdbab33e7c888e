//! `gnomon review snippet`: saved snippets of Code Mode, what they say, and what people decided about them.
//!
//! A snippet is a stranger's text and code, and looking at it is the point: nothing of it reaches a terminal that acts on it, each line
//! of it stands behind a number, and a decision is about the SHA-256 of what was shown.

use super::{Shown, caller, who};
use anyhow::Result;
use clap::{Args, Subcommand};
use gnomon_cli::{
    Complaint, decisions,
    line::clean,
    options::{ConfigFlag, Format, FormatFlag, StateFlag},
    runtime, when,
};
use gnomon_kit::unix_millis;
use gnomon_ledger::{Decided, DecisionError, KeptSnippet, SnippetDecision};
use gnomon_observe::Review as ReviewState;
use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write},
    time::SystemTime,
};

/// Digits of a SHA-256 that name a snippet.
const MIN_DIGITS: usize = 8;
/// Digits of it that are shown in a row.
const SHOWN_DIGITS: usize = 16;

/// `gnomon review snippet`.
#[derive(Subcommand)]
pub enum Snippet {
    /// List snippets and the decisions about them, undecided ones first
    List(List),
    /// Show one snippet: its code, its description, and the decisions about it
    Show(Show),
    /// Approve a snippet: the callers it is meant for may call it
    Approve(Approve),
    /// Deny a snippet; an approved one can no longer be called
    Deny(Deny),
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    format: FormatFlag,
    /// Only snippets in this state
    #[arg(long = "in", value_name = "STATE")]
    only: Option<Shown>,
}

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    snippet: Named,
}

#[derive(Args)]
pub struct Approve {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    snippet: Named,
    /// The person responsible for it
    #[arg(long, value_name = "NAME")]
    owner: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Until when: 2027-05-31 (that day included, UTC), 90d from now, or a moment [default: for good]
    #[arg(long, value_name = "DATE", value_parser = when::until)]
    until: Option<SystemTime>,
}

#[derive(Args)]
pub struct Deny {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    snippet: Named,
    /// The person responsible for the decision
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Args)]
struct Named {
    /// NAME@VERSION, or the first digits of its SHA-256, eight at least
    #[arg(value_name = "SNIPPET")]
    snippet: String,
}

impl Snippet {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Approve(Approve { state, config, snippet, owner, reason, until }) => {
                decide((&state, &config), &snippet, ReviewState::Approved, (Some(owner), reason), until)
            }
            Self::Deny(Deny { state, config, snippet, owner, reason }) => {
                decide((&state, &config), &snippet, ReviewState::Denied, (owner, reason), None)
            }
        }
    }
}

/// The snippets of the journal, and what in it makes no sense.
async fn read(decided: &Decided) -> Result<(Vec<KeptSnippet>, Vec<DecisionError>)> {
    Ok(decided.snippets().await?)
}

/// The state of a snippet at this moment.
fn state_of(kept: &KeptSnippet) -> Shown {
    Shown::of(kept.state_at(unix_millis(SystemTime::now())))
}

/// The snippets in a state, those that wait for a decision first.
fn in_order(mut snippets: Vec<KeptSnippet>, only: Option<Shown>) -> Vec<KeptSnippet> {
    snippets.retain(|kept| only.is_none_or(|only| state_of(kept) == only));
    snippets.sort_by_key(|kept| (state_of(kept).rank(), kept.at_ms));
    snippets
}

/// The snippets for `gnomon review list`; empty if none was ever saved.
pub(super) async fn listed(decided: &Decided, only: Option<Shown>) -> Result<Vec<KeptSnippet>> {
    Ok(in_order(read(decided).await?.0, only))
}

/// `unreviewed  snippet weekly-report@2  portal main  for group:adas  by token ada  2026-11-20 09:00:00  sha256 0123456789abcdef`
pub(super) fn row(out: &mut impl Write, kept: &KeptSnippet) -> io::Result<()> {
    let snippet = &kept.snippet;
    let rest = format!(
        "snippet {}@{}  portal {}  for {}  by {}  {}  sha256 {}",
        snippet.name,
        snippet.version,
        snippet.portal,
        snippet.audience,
        snippet.owner,
        when::show(kept.at_ms),
        &kept.digest.get(..SHOWN_DIGITS).unwrap_or(&kept.digest)
    );
    writeln!(out, "{:<10}  {}", state_of(kept).word(), clean(&rest))
}

pub(super) fn to_json(kept: &KeptSnippet) -> serde_json::Value {
    serde_json::json!({
        "snippet": kept.snippet, "sha256": kept.digest, "state": state_of(kept).word(), "decision": kept.decision, "at_ms": kept.at_ms,
    })
}

impl List {
    fn run(self) -> Result<()> {
        let dir = self.state.dir()?;
        let (snippets, unreadable) = runtime()?.block_on(read(&self.config.load()?.decided(&dir)))?;
        let snippets = in_order(snippets, self.only);
        let mut out = BufWriter::new(io::stdout().lock());
        match self.format.format() {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&snippets.iter().map(to_json).collect::<Vec<_>>())?)?,
            Format::Text if snippets.is_empty() => writeln!(out, "no snippet waits for a review, and none was decided about")?,
            Format::Text => snippets.iter().try_for_each(|kept| row(&mut out, kept))?,
        }
        out.flush()?;
        match unreadable.first() {
            None => Ok(()),
            Some(first) => Err(Complaint::own(format!("{first}; {} in all are left out, and are in force nowhere", unreadable.len()))
                .next("somebody changed the journal of decisions: find out who may write there")
                .into()),
        }
    }
}

impl Show {
    fn run(self) -> Result<()> {
        let dir = self.state.dir()?;
        let (decided, runtime) = (self.config.load()?.decided(&dir), runtime()?);
        let (snippets, _) = runtime.block_on(read(&decided))?;
        let kept = one(&snippets, &self.snippet.snippet)?;
        let history = runtime.block_on(decided.decisions_on_snippet(&kept.digest))?;
        let mut out = BufWriter::new(io::stdout().lock());
        match self.format.format() {
            Format::Json => {
                let mut json = to_json(kept);
                json["history"] = serde_json::to_value(&history)?;
                writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
            }
            Format::Text => {
                row(&mut out, kept)?;
                writeln!(out, "  sha256 {}", kept.digest)?;
                for decision in &history {
                    writeln!(out, "  {}", told(decision))?;
                }
                let same = |other: &&KeptSnippet| other.snippet.is_of_one_line(&kept.snippet) && other.digest != kept.digest;
                for other in snippets.iter().filter(same) {
                    write!(out, "  other version: ")?;
                    row(&mut out, other)?;
                }
                numbered(&mut out, "description, which models read", &kept.snippet.description)?;
                numbered(&mut out, "parameters", &serde_json::to_string_pretty(&kept.snippet.parameters)?)?;
                numbered(&mut out, "code", &kept.snippet.code)?;
            }
        }
        Ok(out.flush()?)
    }
}

/// A stranger's text of several lines: each behind its number, so that none looks like one of ours.
fn numbered(out: &mut impl Write, title: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {title}:")?;
    text.split('\n').enumerate().try_for_each(|(number, line)| writeln!(out, "  {:>4} | {}", number + 1, escaped(line)))
}

/// A line with what a terminal acts on, what turns the order of others, and what is not shown at all, as `\u{1b}`.
fn escaped(line: &str) -> String {
    let is_hidden = |c: char| {
        c != '\t' && c.is_control()
            || matches!(c,
                '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    let mut shown = String::with_capacity(line.len());
    for c in line.chars() {
        if is_hidden(c) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The snippet that is meant.
fn one<'a>(snippets: &'a [KeptSnippet], text: &str) -> Result<&'a KeptSnippet, Complaint> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    let is_digest = digits.len() >= MIN_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let called = |kept: &&KeptSnippet| format!("{}@{}", kept.snippet.name, kept.snippet.version) == text;
    let meant: Vec<&KeptSnippet> = snippets.iter().filter(|kept| called(kept) || is_digest && kept.digest.starts_with(&digits)).collect();
    match meant.as_slice() {
        [one] => Ok(one),
        [] => Err(Complaint::usage(format!("there is no snippet `{}`", clean(text)))
            .next("`gnomon review snippet list` lists them; name one as NAME@VERSION, or by the first digits of its SHA-256")),
        several => {
            let digests: Vec<&str> = several.iter().map(|kept| kept.digest.as_str()).collect();
            Err(Complaint::usage(format!("several snippets are called `{}`: {}", clean(text), digests.join(", ")))
                .next("name one of them by the first digits of its SHA-256"))
        }
    }
}

/// `2026-11-20 09:00:00 ada: approved until 2027-05-31 00:00:00 UTC, owner team-x: read line by line`
fn told(decision: &SnippetDecision) -> String {
    let until = decision.until_ms.map_or_else(String::new, |until| format!(" until {} UTC", when::show(until)));
    let owner = decision.owner.as_deref().map_or_else(String::new, |owner| format!(", owner {owner}"));
    let reason = decision.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    clean(&format!("{} {}: {}{until}{owner}{reason}", when::show(decision.at_ms), who(&decision.by), decision.state))
}

fn decide(
    (state_flag, config): (&StateFlag, &ConfigFlag),
    named: &Named,
    state: ReviewState,
    (owner, reason): (Option<String>, String),
    until: Option<SystemTime>,
) -> Result<()> {
    let dir = state_flag.dir()?;
    let (decided, runtime) = (config.load()?.decided(&dir), runtime()?);
    let (snippets, _) = runtime.block_on(read(&decided))?;
    let kept = one(&snippets, &named.snippet)?;
    let (at_ms, until_ms) = (unix_millis(SystemTime::now()), until.map(unix_millis));
    let decision = SnippetDecision { at_ms, by: caller(), digest: kept.digest.clone(), state, owner, reason: Some(reason), until_ms };
    runtime.block_on(decided.review_snippet(&decision))?;
    let name = clean(&format!("{}@{}", kept.snippet.name, kept.snippet.version));
    writeln!(io::stdout(), "{name} sha256 {}: {}", kept.digest, told(&decision))?;
    Ok(runtime.block_on(decisions::heeded(&decided))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_snippet_reaches_the_terminal_as_other_than_letters_behind_a_number() {
        let mut out = Vec::new();
        let text = "a\u{1b}[2J\r\n  unreviewed  snippet b@1\n\u{202e}c\u{200b}\td\u{e0041}";
        numbered(&mut out, "code", text).unwrap();
        let shown = "  code:\n     1 | a\\u{1b}[2J\\u{d}\n     2 |   unreviewed  snippet b@1\n     3 | \\u{202e}c\\u{200b}\td\\u{e0041}\n";
        assert_eq!(String::from_utf8(out).unwrap(), shown);
    }
}
