//! `gnomon report`: a week on one page, as text, HTML or JSON.

mod html;
mod looked;
mod text;

use anyhow::{Context, Result};
use clap::Args;
use gnomon_cli::decisions::{self, Known, Stale};
use gnomon_cli::{
    Complaint,
    line::counted,
    options::{ConfigFlag, Format, FormatFlag, StateFlag, ledger_in},
    rule_files, when,
};
use gnomon_kit::unix_millis;
use gnomon_ledger::{Contact, DayUsage, Decided, Decision, HostPort, NewName, Reader, ReviewedServer, ServerRecord, ServerStatus, Usage};
use gnomon_observe::Review as State;
use looked::Looked;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Days of a week.
const WEEK: usize = 7;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// Most entries of each list on the page; JSON has them all.
pub const SHOWN: usize = 20;

/// `gnomon report`.
#[derive(Args)]
pub struct Report {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    format: FormatFlag,
    /// The last seven days, today included [default]
    #[arg(long)]
    week: bool,
    /// The seven days that end with this one: a moment, or 7d ago
    #[arg(long, value_name = "WHEN", value_parser = when::parse, conflicts_with = "week")]
    until: Option<SystemTime>,
    /// Write a page of HTML to this file, or to standard output with `-`
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

/// Decisions that are pending.
#[derive(Debug, Default, Serialize)]
pub struct Debt {
    /// Shadow servers that were not reviewed, the longest known first.
    pub unreviewed: Vec<Waiting>,
    /// Servers in review.
    pub in_review: Vec<Waiting>,
    /// Servers whose approval ran out.
    pub expired: Vec<Waiting>,
}

/// A server that waits for a decision.
#[derive(Debug, Serialize)]
pub struct Waiting {
    pub server: ReviewedServer,
    /// The time of the first sighting, or of the review's beginning, milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// MCP messages to it.
    #[serde(rename = "messages")]
    pub calls: u64,
    /// Whether it was used, or is merely listed; `used` of one that was never seen, too.
    pub contact: Contact,
    pub owner: Option<String>,
}

impl Waiting {
    /// `3 messages`, or why there are none.
    pub fn used(&self) -> String {
        match self.contact {
            Contact::Listed => "listed, not seen in use".to_owned(),
            Contact::Unreached => "never reached".to_owned(),
            Contact::Used => counted(self.calls, "message"),
        }
    }
}

/// The page before it is laid out.
#[derive(Debug, Serialize)]
pub struct Page {
    /// The name of the host whose ledger was read, as it calls itself.
    pub host: String,
    pub from_ms: i64,
    pub until_ms: i64,
    pub made_ms: i64,
    pub usage: Usage,
    /// The seven days before, for the trend.
    pub before: Vec<DayUsage>,
    /// Servers that were first seen in the week, and in use.
    pub new_servers: Vec<ServerRecord>,
    /// Those that a configuration lists since, and nobody was seen to use.
    pub newly_listed: Vec<ServerRecord>,
    /// Tools that servers known before began to offer.
    pub new_tools: Vec<NewName>,
    pub debt: Debt,
    /// When the decisions that the debt is reckoned by were read, milliseconds since the Unix epoch, where they cannot be read now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decisions_as_of_ms: Option<i64>,
    #[serde(flatten)]
    pub looked: Looked,
}

impl Page {
    /// MCP messages of the week: sanctioned, shadow.
    pub fn calls(&self) -> (u64, u64) {
        sum(&self.usage.days)
    }

    pub fn calls_before(&self) -> (u64, u64) {
        sum(&self.before)
    }
}

fn sum(days: &[DayUsage]) -> (u64, u64) {
    (days.iter().map(|day| day.sanctioned).sum(), days.iter().map(|day| day.shadow).sum())
}

/// The percentage of calls that went to shadow servers; none if there were no calls.
pub fn shadow_percent((sanctioned, shadow): (u64, u64)) -> Option<u64> {
    let all = sanctioned.saturating_add(shadow);
    // One call in a thousand is not nothing: rounded up.
    (all > 0).then(|| u64::try_from((u128::from(shadow) * 100).div_ceil(u128::from(all))).unwrap_or(100))
}

impl Report {
    /// Does what was asked, and writes to standard output.
    ///
    /// # Errors
    /// The command's error.
    pub fn run(self) -> Result<()> {
        let dir = self.state.dir()?;
        let until = self.until.unwrap_or_else(SystemTime::now);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut config = self.config.load()?;
        config.rules.settle(&dir);
        let looked = Looked::by(rule_files::load(&config.rules).as_ref());
        let (page, stale) = runtime.block_on(gather(&dir, &config.decided(&dir), unix_millis(until), looked))?;
        match (&self.html, self.format.format()) {
            (Some(file), _) => write_html(file, &html::render(&page))?,
            (None, Format::Json) => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&page)?)?,
            (None, Format::Text) => text::write(&mut io::stdout().lock(), &page)?,
        }
        stale.map_or(Ok(()), |stale| Err(stale.complaint().into()))
    }
}

fn write_html(file: &Path, page: &str) -> Result<()> {
    if file == Path::new("-") {
        return Ok(io::stdout().write_all(page.as_bytes())?);
    }
    // The page names people: not readable by other users.
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(file);
    let written = open.and_then(|mut file| file.write_all(page.as_bytes()));
    written.map_err(|error| Complaint::usage(format!("cannot write {}: {error}", file.display())).next("name a file you may write").into())
}

async fn gather(state_dir: &Path, decided: &Decided, until_ms: i64, looked: Looked) -> Result<(Page, Option<Stale>)> {
    let mut reader = Reader::open(&ledger_in(state_dir)).await?;
    let end_ms = (until_ms.div_euclid(DAY_MS) + 1) * DAY_MS;
    let from_ms = end_ms - WEEK as i64 * DAY_MS;
    let mut usage = reader.usage(from_ms, WEEK).await?;
    let before = reader.usage(from_ms - WEEK as i64 * DAY_MS, WEEK).await?.days;
    let servers = reader.inventory().await?;
    let known = |name: &NewName| {
        servers.iter().any(|s| (&s.address, s.port, &s.path) == (&name.address, name.port, &name.path) && s.first_seen_ms < from_ms)
    };
    let mut new_tools = reader.new_tools(from_ms, end_ms).await?;
    new_tools.retain(known);
    let Known { reviews, stale } = decisions::known(decided).await.context("reading what was decided about servers")?;
    let debt = debt(&servers, &reviews, until_ms);
    leave_out_unreached(&mut usage, &servers);
    let is_new = |server: &ServerRecord| (from_ms..end_ms).contains(&server.first_seen_ms) && server.contact != Contact::Unreached;
    let (newly_listed, new_servers) = servers.into_iter().filter(is_new).partition(|server| server.contact == Contact::Listed);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let made_ms = unix_millis(SystemTime::now());
    let decisions_as_of_ms = stale.as_ref().map(|stale| stale.as_of_ms);
    let page = Page {
        host,
        from_ms,
        until_ms: end_ms,
        made_ms,
        usage,
        before,
        new_servers,
        newly_listed,
        new_tools,
        debt,
        decisions_as_of_ms,
        looked,
    };
    Ok((page, stale))
}

/// Takes servers that nobody ever reached from those in use: messages for them may have been counted before it was known.
fn leave_out_unreached(usage: &mut Usage, servers: &[ServerRecord]) {
    let mut contacts: BTreeMap<String, Contact> = BTreeMap::new();
    for server in servers.iter().filter(|server| !server.is_local()) {
        let contact = contacts.entry(HostPort::new(&server.address, server.port).to_string()).or_insert(server.contact);
        *contact = server.contact.min(*contact);
    }
    for name in contacts.into_iter().filter(|(_, contact)| *contact == Contact::Unreached).map(|(name, _)| name) {
        if let Some(messages) = usage.shadow_servers.take(&name) {
            *usage.unreached_servers.names.entry(name).or_default() += messages;
        }
    }
}

fn debt(servers: &[ServerRecord], reviews: &[Decision], now_ms: i64) -> Debt {
    let mut debt = Debt::default();
    for decision in reviews {
        let server = &decision.server;
        let here = || servers.iter().filter(|s| s.address == server.host && s.port == Some(server.port));
        let calls = here().map(|s| s.calls).sum();
        let contact = here().map(|s| s.contact).min().unwrap_or(Contact::Used);
        let waiting = |since_ms| Waiting { server: server.clone(), since_ms, calls, contact, owner: decision.owner.clone() };
        match decision.state_at(now_ms) {
            State::InReview => debt.in_review.push(waiting(decision.at_ms)),
            State::Expired => debt.expired.push(waiting(decision.until_ms.unwrap_or(decision.at_ms))),
            State::Approved | State::Denied => {}
        }
    }
    // Of one that nobody ever reached there is nothing to decide.
    let waits =
        |record: &&ServerRecord| record.status == ServerStatus::Shadow && !record.is_local() && record.contact != Contact::Unreached;
    for record in servers.iter().filter(waits) {
        let server = ReviewedServer { host: record.address.clone(), port: record.port.unwrap_or_default() };
        if reviews.iter().any(|decision| decision.server == server) {
            continue;
        }
        match debt.unreviewed.iter_mut().find(|waiting| waiting.server == server) {
            Some(waiting) => {
                waiting.calls += record.calls;
                waiting.contact = waiting.contact.min(record.contact);
                waiting.since_ms = waiting.since_ms.min(record.first_seen_ms);
            }
            None => {
                let (since_ms, calls, contact) = (record.first_seen_ms, record.calls, record.contact);
                debt.unreviewed.push(Waiting { server, since_ms, calls, contact, owner: None });
            }
        }
    }
    for list in [&mut debt.unreviewed, &mut debt.in_review, &mut debt.expired] {
        list.sort_by_key(|waiting| waiting.since_ms);
    }
    debt
}

/// What the numbers of the days count.
pub const COUNTED: &str = "Messages are MCP's of every method, each once; those that reached no server are apart. Detections are one for each call and rule that stands for it; \
stopped are calls, and messages and connections that could not be read, that were refused, redirected or changed, each once. `gnomon events --incidents` counts both alike, of detections";

/// The servers that could not be dialled, and how many messages were for them.
pub fn unreached(page: &Page) -> u64 {
    page.usage.unreached_servers.total()
}

/// The status of a server in the inventory.
pub fn status(server: &ServerRecord) -> &'static str {
    match server.status {
        ServerStatus::Sanctioned => "sanctioned",
        ServerStatus::Shadow => "shadow",
    }
}

/// The day of a moment, as 2026-11-20.
pub fn day(at_ms: i64) -> String {
    when::show(at_ms).split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
