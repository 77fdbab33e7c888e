//! `gnomon review`: what people decided about MCP servers and snippets of Code Mode, and the way there.

mod snippet;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use gnomon_cli::decisions;
use gnomon_cli::{
    Complaint,
    line::{clean, counted},
    options::{ConfigFlag, Format, FormatFlag, StateFlag, ledger_in},
    runtime, when,
};
use gnomon_kit::unix_millis;
use gnomon_ledger::{
    Contact, DecidedBy, Decision, LOCAL_FILE, LOCAL_PACKAGE, NamedServer, ReadError, Reader, ReviewEntry, ReviewedServer, ServerRecord,
    ServerStatus, Withdrawal,
};
use gnomon_observe::Review as ReviewState;
use nix::unistd::{Uid, User};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufWriter, Write},
    path::Path,
    time::SystemTime,
};

/// The port of a server of which nothing else is known.
const HTTPS: u16 = 443;

/// `gnomon review`.
#[derive(Subcommand)]
pub enum Review {
    /// List servers and the decisions about them, undecided ones first
    List(List),
    /// Show one server and the decisions about it
    Show(Show),
    /// Mark a server as in review
    Start(Start),
    /// Allow a server until a date: it is sanctioned until then
    Approve(Approve),
    /// Forbid a server: it is not sanctioned, and rules can refuse it
    Deny(Deny),
    /// Saved snippets of Code Mode: list, show, approve, deny
    #[command(subcommand)]
    Snippet(snippet::Snippet),
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    format: FormatFlag,
    /// Only servers in this state
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
    server: Server,
}

#[derive(Args)]
pub struct Start {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    server: Server,
    /// The reviewer
    #[arg(long, value_name = "NAME")]
    owner: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args)]
pub struct Approve {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    server: Server,
    /// The person responsible for it
    #[arg(long, value_name = "NAME")]
    owner: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Until when: 2027-05-31 (that day included, UTC), 90d from now, or a moment
    #[arg(long, value_name = "DATE", value_parser = when::until)]
    until: SystemTime,
}

#[derive(Args)]
pub struct Deny {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    server: Server,
    /// The person responsible for the decision
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// When to look again [default: never]
    #[arg(long, value_name = "DATE", value_parser = when::until)]
    until: Option<SystemTime>,
}

#[derive(Args)]
struct Server {
    /// HOST or HOST:PORT; without a port, the one that was seen, else 443
    #[arg(value_name = "SERVER", value_parser = named)]
    server: NamedServer,
}

/// A state to filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shown {
    Unreviewed,
    InReview,
    Approved,
    Denied,
    Expired,
}

impl Shown {
    fn of(state: Option<ReviewState>) -> Self {
        match state {
            None => Shown::Unreviewed,
            Some(ReviewState::InReview) => Shown::InReview,
            Some(ReviewState::Approved) => Shown::Approved,
            Some(ReviewState::Denied) => Shown::Denied,
            Some(ReviewState::Expired) => Shown::Expired,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Shown::Unreviewed => "unreviewed",
            Shown::InReview => "in_review",
            Shown::Approved => "approved",
            Shown::Denied => "denied",
            Shown::Expired => "expired",
        }
    }

    /// The sort order: states that wait for a decision come first.
    const fn rank(self) -> u8 {
        match self {
            Shown::Expired => 0,
            Shown::Unreviewed => 1,
            Shown::InReview => 2,
            Shown::Denied => 3,
            Shown::Approved => 4,
        }
    }
}

impl Review {
    /// Does what was asked, and writes to standard output.
    ///
    /// # Errors
    /// The command's error.
    pub fn run(self) -> Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Start(Start { state, config, server, owner, reason }) => {
                decide((&state, &config), &server, ReviewState::InReview, Some(owner), reason, None)
            }
            Self::Approve(Approve { state, config, server, owner, reason, until }) => {
                decide((&state, &config), &server, ReviewState::Approved, Some(owner), Some(reason), Some(until))
            }
            Self::Deny(Deny { state, config, server, owner, reason, until }) => {
                decide((&state, &config), &server, ReviewState::Denied, owner, Some(reason), until)
            }
            Self::Snippet(snippet) => snippet.run(),
        }
    }
}

/// A server as far as it is known: by traffic, by decision, or both.
struct Known {
    server: ReviewedServer,
    seen: Vec<ServerRecord>,
    decision: Option<Decision>,
    state: Shown,
}

impl Known {
    fn messages(&self) -> u64 {
        self.seen.iter().map(|seen| seen.calls).sum()
    }

    /// How it was seen, in words: never, in use, merely listed, or tried in vain.
    fn told(&self) -> String {
        let Some(last) = self.last_seen_ms() else { return "never seen".to_owned() };
        let contact = self.seen.iter().map(|seen| seen.contact).min().unwrap_or(Contact::Used);
        let use_of = match contact {
            Contact::Used => counted(self.messages(), "message"),
            Contact::Listed => "listed, not seen in use".to_owned(),
            Contact::Unreached => {
                format!("tried and never reached, {}", counted(self.seen.iter().map(|seen| seen.unreached).sum(), "message"))
            }
        };
        format!("{use_of}, last {}", when::show(last))
    }

    fn last_seen_ms(&self) -> Option<i64> {
        self.seen.iter().map(|seen| seen.last_seen_ms).max()
    }

    fn is_sanctioned_by_traffic(&self) -> bool {
        self.seen.iter().any(|seen| seen.status == ServerStatus::Sanctioned)
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "server": self.server, "state": self.state.word(), "decision": self.decision,
            "messages": self.messages(), "last_seen_ms": self.last_seen_ms(), "endpoints": self.seen,
        })
    }
}

impl List {
    fn run(self) -> Result<()> {
        let dir = self.state.dir()?;
        let (decided, runtime) = (self.config.load()?.decided(&dir), runtime()?);
        let decisions::Known { reviews, stale } = runtime.block_on(decisions::known(&decided))?;
        // Without the database it is not known which snippets wait, as is said below.
        let snippets = if stale.as_ref().is_some_and(decisions::Stale::is_all) {
            Vec::new()
        } else {
            runtime.block_on(snippet::listed(&decided, self.only))?
        };
        let mut known = known(&reviews, inventory(&dir)?);
        // A server that the configuration sanctions and that was never reviewed needs no review.
        known.retain(|known| known.state != Shown::Unreviewed || !known.is_sanctioned_by_traffic());
        known.retain(|known| self.only.is_none_or(|only| known.state == only));
        known.sort_by_key(|known| (known.state.rank(), std::cmp::Reverse(known.last_seen_ms())));
        let mut out = BufWriter::new(io::stdout().lock());
        if let (Format::Text, Some(stale)) = (self.format.format(), &stale) {
            writeln!(out, "{}", stale.head())?;
        }
        match self.format.format() {
            Format::Json => {
                let all: Vec<_> = known.iter().map(Known::to_json).chain(snippets.iter().map(snippet::to_json)).collect();
                writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
            }
            Format::Text if known.is_empty() && snippets.is_empty() => {
                writeln!(out, "no server waits for a review, and none was decided about")?
            }
            Format::Text => {
                known.iter().try_for_each(|known| row(&mut out, known))?;
                snippets.iter().try_for_each(|kept| snippet::row(&mut out, kept))?;
            }
        }
        if let (Format::Text, Some(stale)) = (self.format.format(), &stale) {
            stale.differences().iter().try_for_each(|(server, there)| elsewhere(&mut out, server, there.as_ref()))?;
        }
        end(out, stale)
    }
}

fn row(out: &mut impl Write, known: &Known) -> io::Result<()> {
    let decision = known.decision.as_ref();
    let owner = decision.and_then(|decision| decision.owner.as_deref()).unwrap_or("-");
    let until =
        decision.and_then(|decision| decision.until_ms).map_or_else(String::new, |until| format!("  until {} UTC", when::show(until)));
    let reason = decision.and_then(|decision| decision.reason.as_deref()).map(|reason| format!("  {}", clean(reason))).unwrap_or_default();
    let seen = known.told();
    writeln!(out, "{:<10}  {}  {seen}  {}{until}{reason}", known.state.word(), clean(&known.server.to_string()), clean(owner))
}

impl Show {
    fn run(self) -> Result<()> {
        let dir = self.state.dir()?;
        let (decided, runtime) = (self.config.load()?.decided(&dir), runtime()?);
        let decisions::Known { reviews, stale } = runtime.block_on(decisions::known(&decided))?;
        let seen = inventory(&dir)?;
        let server = settle(&self.server.server, &seen)?;
        // Only the database has earlier decisions.
        let is_all = stale.as_ref().is_some_and(decisions::Stale::is_all);
        let history = if is_all { Vec::new() } else { runtime.block_on(decided.reviews_of(&server))? };
        let Some(known) = known_of(&server, &reviews, seen, &history) else {
            let unknown = Complaint::usage(format!("{server} was neither seen nor decided about"));
            return Err(stale.map_or(unknown.next("`gnomon inventory` lists what was seen"), |stale| stale.complaint()).into());
        };
        let mut out = BufWriter::new(io::stdout().lock());
        match self.format.format() {
            Format::Json => {
                let mut json = known.to_json();
                json["history"] = if is_all { serde_json::Value::Null } else { serde_json::to_value(&history)? };
                writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
            }
            Format::Text => {
                if let Some(stale) = &stale {
                    writeln!(out, "{}", stale.head())?;
                }
                row(&mut out, &known)?;
                for (_, there) in stale.iter().flat_map(|stale| stale.differences()).filter(|(differs, _)| *differs == server) {
                    elsewhere(&mut out, &server, there.as_ref())?;
                }
                for seen in &known.seen {
                    let name = seen.name.as_deref().unwrap_or("-");
                    let path = if seen.path.is_empty() { "(host)" } else { seen.path.as_str() };
                    writeln!(out, "  endpoint {}  calls itself {}  tools: {}", clean(path), clean(name), clean(&seen.tools.join(", ")))?;
                    writeln!(out, "  clients: {}", clean(&seen.clients.join(", ")))?;
                }
                for entry in history {
                    match entry {
                        ReviewEntry::Decided(decision) => writeln!(out, "  {}", told(&decision))?,
                        ReviewEntry::Withdrawn(withdrawal) => writeln!(out, "  {}", taken_back(&withdrawal))?,
                    }
                }
            }
        }
        end(out, stale)
    }
}

/// Writes the decision on a server in a database that is not the one this host has read.
fn elsewhere(out: &mut impl Write, server: &ReviewedServer, there: Option<&Decision>) -> io::Result<()> {
    let there = there.map_or_else(|| "nothing was decided".to_owned(), told);
    writeln!(out, "in the database  {}  {there}", clean(&server.to_string()))
}

/// Ends a list that may not be what stands now.
fn end(mut out: impl Write, stale: Option<decisions::Stale>) -> Result<()> {
    out.flush()?;
    stale.map_or(Ok(()), |stale| Err(stale.complaint().into()))
}

/// `2026-11-20 09:00:00 ada: approved until 2027-05-31 00:00:00, owner team-x: needed for the build`
fn told(decision: &Decision) -> String {
    let by = who(&decision.by);
    let until = decision.until_ms.map_or_else(String::new, |until| format!(" until {} UTC", when::show(until)));
    let owner = decision.owner.as_deref().map_or_else(String::new, |owner| format!(", owner {owner}"));
    let reason = decision.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    clean(&format!("{} {by}: {}{until}{owner}{reason}", when::show(decision.at_ms), decision.state))
}

/// `2026-11-20 09:00:00 ada: withdrawn: it is no longer in reviews.jsonl`
fn taken_back(withdrawal: &Withdrawal) -> String {
    let reason = withdrawal.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    clean(&format!("{} {}: {}{reason}", when::show(withdrawal.at_ms), who(&withdrawal.by), withdrawal.state))
}

fn who(by: &DecidedBy) -> String {
    by.user.clone().unwrap_or_else(|| by.login_uid.unwrap_or(by.uid).to_string())
}

fn decide(
    (state_flag, config): (&StateFlag, &ConfigFlag),
    server: &Server,
    state: ReviewState,
    owner: Option<String>,
    reason: Option<String>,
    until: Option<SystemTime>,
) -> Result<()> {
    let dir = state_flag.dir()?;
    let seen = inventory(&dir)?;
    let server = settle(&server.server, &seen)?;
    let is_seen = seen.iter().any(|seen| seen.address == server.host && seen.port == Some(server.port));
    let decision =
        Decision { at_ms: unix_millis(SystemTime::now()), by: caller(), server, state, owner, reason, until_ms: until.map(unix_millis) };
    let (decided, runtime) = (config.load()?.decided(&dir), runtime()?);
    runtime.block_on(decided.review(&decision))?;
    writeln!(io::stdout(), "{}: {}", decision.server, told(&decision))?;
    if !is_seen {
        writeln!(io::stdout(), "{}", never_seen(&decision.server))?;
    }
    Ok(runtime.block_on(decisions::heeded(&decided))?)
}

/// Said of a decision that may be about a name that is misspelt.
fn never_seen(server: &ReviewedServer) -> String {
    format!(
        "{server} was never seen on this host: the decision is kept for when it is; `gnomon inventory` and `gnomon review list` name what was seen"
    )
}

/// A server as somebody names it.
fn named(text: &str) -> Result<NamedServer, String> {
    if [LOCAL_PACKAGE, LOCAL_FILE].iter().any(|begins| text.starts_with(begins)) {
        return Err("local servers have no review, which is about a name and a port; \
                    `gnomon inventory --local` lists them, and a rule on gnomon.local.server tells or ignores one (docs/local-servers.md)"
            .to_owned());
    }
    text.parse().map_err(|error: gnomon_ledger::NoServer| error.to_string())
}

/// The port, where it was left out.
fn settle(named: &NamedServer, seen: &[ServerRecord]) -> Result<ReviewedServer, Complaint> {
    let mut ports: Vec<u16> = seen.iter().filter(|seen| seen.address == named.host).filter_map(|seen| seen.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let port = match (named.port, ports.as_slice()) {
        (Some(port), _) => port,
        (None, []) => HTTPS,
        (None, [port]) => *port,
        (None, several) => {
            let several = several.iter().map(|port| format!("{}:{port}", named.host)).collect::<Vec<_>>().join(", ");
            return Err(Complaint::usage(format!("{} was seen at several ports: {several}", named.host)).next("name one of them"));
        }
    };
    Ok(ReviewedServer { host: named.host.clone(), port })
}

/// The servers in the inventory; empty if there is no ledger yet.
fn inventory(state_dir: &Path) -> Result<Vec<ServerRecord>> {
    let read = runtime()?.block_on(async { Reader::open(&ledger_in(state_dir)).await?.inventory().await });
    match read {
        // Decisions are about servers with an address.
        Ok(servers) => Ok(servers.into_iter().filter(|server| !server.is_local()).collect()),
        Err(ReadError::Missing { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn known(reviews: &[Decision], seen: Vec<ServerRecord>) -> Vec<Known> {
    let now_ms = unix_millis(SystemTime::now());
    let mut by_server: BTreeMap<ReviewedServer, Vec<ServerRecord>> = BTreeMap::new();
    for decision in reviews {
        by_server.entry(decision.server.clone()).or_default();
    }
    for record in seen {
        let server = ReviewedServer { host: record.address.clone(), port: record.port.unwrap_or_default() };
        by_server.entry(server).or_default().push(record);
    }
    let judged = |(server, seen): (ReviewedServer, Vec<ServerRecord>)| {
        let decision = reviews.iter().find(|decision| decision.server == server).cloned();
        let state = Shown::of(decision.as_ref().map(|decision| decision.state_at(now_ms)));
        Known { server, seen, decision, state }
    };
    by_server.into_iter().map(judged).collect()
}

/// The state of one server, also if all its decisions were withdrawn.
fn known_of(server: &ReviewedServer, reviews: &[Decision], seen: Vec<ServerRecord>, history: &[ReviewEntry]) -> Option<Known> {
    let found = known(reviews, seen).into_iter().find(|known| known.server == *server);
    let withdrawn = || Known { server: server.clone(), seen: Vec::new(), decision: None, state: Shown::Unreviewed };
    found.or_else(|| (!history.is_empty()).then(withdrawn))
}

/// The calling user: with the login uid, which sudo does not change.
pub fn caller() -> DecidedBy {
    let uid = Uid::effective().as_raw();
    // All bits set: no login, as for a service.
    let login_uid = fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| text.trim().parse().ok()).filter(|uid| *uid != u32::MAX);
    let user = User::from_uid(Uid::from_raw(login_uid.unwrap_or(uid))).ok().flatten().map(|user| user.name);
    DecidedBy { user, login_uid, uid }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_local_server_it_is_said_that_it_has_no_review_and_of_one_never_seen_how_to_list_those_that_were() {
        for local in ["pkg:npm/x", "file:/usr/bin/mcp"] {
            assert!(named(local).unwrap_err().contains("local servers have no review"));
        }
        assert!(named("a b").unwrap_err().contains("names no server"));
        assert_eq!(named("a.example:8443"), Ok(NamedServer { host: "a.example".to_owned(), port: Some(8443) }));
        let said = never_seen(&ReviewedServer { host: "nosuch.example".to_owned(), port: 443 });
        assert!(said.contains("nosuch.example:443 was never seen") && said.contains("gnomon review list"), "{said}");
    }

    #[test]
    fn a_server_whose_only_decision_was_withdrawn_is_known_and_unreviewed() {
        let server = ReviewedServer { host: "a.example".to_owned(), port: 443 };
        assert!(known_of(&server, &[], Vec::new(), &[]).is_none());
        let by = DecidedBy { user: None, login_uid: None, uid: 0 };
        let withdrawn = ReviewEntry::Withdrawn(Withdrawal { at_ms: 1, by, state: "withdrawn", reason: None });
        let known = known_of(&server, &[], Vec::new(), &[withdrawn]).unwrap();
        assert_eq!((known.server, known.state), (server, Shown::Unreviewed));
    }
}
