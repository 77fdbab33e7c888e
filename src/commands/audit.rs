//! `gnomon audit`: what was done through the portals, and whether that still stands as it was written.

use anyhow::Result;
use clap::{Args, Subcommand};
use gnomon_audit::{Checkpoint, Expect, PublicKey, Record, SigningKey, SqliteStore, Store as _, verify};
use gnomon_cli::{
    Complaint,
    line::{clean, counted},
    options::{Format, FormatFlag, StateFlag},
    runtime, when,
};
use gnomon_kit::unix_millis;
use gnomon_serve::auditing::{database_in, key_in};
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Records that are read at a time.
const PAGE: u32 = 512;

#[derive(Subcommand)]
pub enum Audit {
    /// Show what was done, the newest last
    Show(Show),
    /// Verify the records against checkpoints kept elsewhere: detects changed, removed, reordered and rewritten records
    Verify(Verify),
    /// Print the public key that checkpoints are verified with; keep it away from this host
    Key(Key),
}

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    format: FormatFlag,
    /// Only since then: a date, a time (RFC 3339), or so long ago (30m, 12h, 7d)
    #[arg(long, value_name = "WHEN", value_parser = when::parse)]
    since: Option<SystemTime>,
    /// Only of this user: name, mail address or id
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only to this server
    #[arg(long, value_name = "ID")]
    server: Option<String>,
    /// Only of this kind: call, start, list, request, login, login_refused, session_start, session_end, change, approval, lost
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only of this execution of Code Mode, with the calls that it made
    #[arg(long, value_name = "ID")]
    execution: Option<String>,
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

#[derive(Args)]
pub struct Verify {
    #[command(flatten)]
    state: StateFlag,
    /// A file of checkpoints that were kept elsewhere: checkpoint lines, or gnomon's events as JSON; repeatable
    #[arg(long, value_name = "FILE", required = true)]
    checkpoints: Vec<PathBuf>,
    /// The public key, as `gnomon audit key` printed it when the audit began, or a file that holds it
    #[arg(long, value_name = "KEY")]
    key: String,
    /// Require records since then to be present, as retention promises
    #[arg(long, value_name = "WHEN", value_parser = when::parse)]
    kept_since: Option<SystemTime>,
}

#[derive(Args)]
pub struct Key {
    #[command(flatten)]
    state: StateFlag,
}

impl Audit {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Show(show) => runtime()?.block_on(show.run()),
            Self::Verify(verify) => runtime()?.block_on(verify.run()),
            Self::Key(key) => key.run(),
        }
    }
}

async fn open(state: &StateFlag) -> Result<SqliteStore, Complaint> {
    let path = database_in(&state.dir()?);
    if let Err(error) = File::open(&path) {
        let next = "name the folder of the gnomon that serves the portal with --state-dir";
        return Err(Complaint::unreadable(path.display(), &path, &error, next));
    }
    SqliteStore::read(&path).await.map_err(|error| Complaint::input(format!("{}: {error}", path.display())))
}

impl Show {
    async fn run(self) -> Result<()> {
        let shown = newest(&self.state, self.limit, |record, at_ms| self.wants(record, at_ms)).await?;
        write(&shown, self.format.format())
    }

    fn wants(&self, record: &Record, at_ms: i64) -> bool {
        let is = |wanted: &Option<String>, values: &[Option<&str>]| {
            wanted.as_ref().is_none_or(|wanted| values.iter().flatten().any(|value| value == wanted))
        };
        self.since.is_none_or(|since| at_ms >= unix_millis(since))
            && is(&self.user, &[record.user_name.as_deref(), record.user_email.as_deref(), record.user_id.as_deref()])
            && is(&self.execution, &[record.execution.as_deref()])
            && is(&self.server, &[record.server.as_deref()])
            && is(&self.kind, &[Some(record.kind.as_str())])
    }
}

/// A record, and its JSON as it stands in the audit.
pub struct Told {
    pub body: String,
    pub record: Record,
}

/// The newest records that are wanted, in order.
pub async fn newest(state: &StateFlag, limit: usize, wants: impl Fn(&Record, i64) -> bool) -> Result<VecDeque<Told>> {
    let mut store = open(state).await?;
    let mut told: VecDeque<Told> = VecDeque::new();
    let (begin, mut end) = (store.anchor().await?.seq, store.head().await?.seq);
    // From the newest back, a page at a time: an audit is long, and little of it is asked for.
    while end > begin && told.len() < limit {
        let from = end.saturating_sub(PAGE.into()).max(begin);
        for entry in store.after(from, PAGE).await?.into_iter().rev().filter(|entry| entry.head.seq <= end) {
            let Ok(record) = serde_json::from_str::<Record>(&entry.body) else { continue };
            if told.len() < limit && wants(&record, entry.columns.at_ms) {
                told.push_front(Told { body: entry.body, record });
            }
        }
        end = from;
    }
    Ok(told)
}

/// Writes them, a line each.
pub fn write(told: &VecDeque<Told>, format: Format) -> Result<()> {
    let mut out = io::stdout().lock();
    for Told { body, record } in told {
        match format {
            Format::Json => writeln!(out, "{body}")?,
            Format::Text => writeln!(out, "{}", line(record))?,
        }
    }
    Ok(())
}

/// A record on one line, for people.
fn line(record: &Record) -> String {
    let user = record.user_email.as_ref().or(record.user_name.as_ref()).or(record.user_id.as_ref());
    let what = record.tool.as_ref().or(record.prompt.as_ref()).or(record.resource.as_ref()).or(record.method.as_ref());
    let mut line = format!("{} {:<13} {}", record.timestamp, record.kind.as_str(), user.map_or("-", |user| user.as_str()));
    let mut add = |text: String| {
        line.push(' ');
        line.push_str(&text);
    };
    if let Some(portal) = &record.portal {
        add(format!("portal {portal}"));
    }
    match (&record.server, what) {
        (Some(server), Some(what)) => add(format!("→ {server} {what}")),
        (None, Some(what)) => add(format!("→ {what}")),
        (_, None) => {}
    }
    if let Some(status) = record.status {
        let word = status.as_str();
        add(match &record.error {
            Some(error) => format!("{word} ({error})"),
            None => word.to_owned(),
        });
    }
    if let Some(duration) = record.duration_ms {
        add(format!("{duration} ms"));
    }
    if let Some(calls) = record.calls {
        add(counted(calls, "call"));
    }
    if let Some(execution) = &record.execution {
        add(format!("execution {execution}"));
    }
    if let Some(policy) = &record.policy_line {
        add(format!("by {policy}"));
    }
    for rule in &record.rules {
        add(format!("rule {rule}"));
    }
    if let Some(message) = &record.message {
        add(format!("– {message}"));
    }
    if let Some(lost) = record.lost {
        add(format!("{lost} records before this one are lost"));
    }
    clean(&line)
}

impl Verify {
    async fn run(self) -> Result<()> {
        let key = public_key(&self.key)?;
        let mut checkpoints = Vec::new();
        for path in &self.checkpoints {
            checkpoints.extend(read(path)?);
        }
        let mut store = open(&self.state).await?;
        let report = verify(&mut store, &checkpoints, &key, Expect { kept_since: self.kept_since }).await?;
        writeln!(io::stdout(), "{report}")?;
        if report.is_sound() {
            return Ok(());
        }
        if report.is_unproven() {
            return Err(Complaint::own("nothing is proven, as no checkpoint of this key and chain was given")
                .next("a gnomon makes its first within audit.checkpoint_seconds of the first record: wait for it, or name the files that have them")
                .into());
        }
        Err(Complaint::input("the audit is not as it was written")
            .next("keep this database and the checkpoints as they are; docs/audit.md says what each finding means")
            .into())
    }
}

fn public_key(text: &str) -> Result<PublicKey, Complaint> {
    if let Some(key) = PublicKey::parse(text) {
        return Ok(key);
    }
    let path = Path::new(text);
    let next = "give the 44 characters that `gnomon audit key` printed, or a file that holds them";
    let held = std::fs::read_to_string(path).map_err(|error| Complaint::unreadable("the key", path, &error, next))?;
    PublicKey::parse(&held).ok_or_else(|| Complaint::input(format!("{text} does not contain a public key of an audit")).next(next))
}

/// The checkpoints of a file: lines of their own, or within the events that carry them.
fn read(path: &Path) -> Result<Vec<Checkpoint>, Complaint> {
    let unreadable = |error: io::Error| Complaint::unreadable(path.display(), path, &error, "name an existing, readable file");
    let mut found = Vec::new();
    for line in BufReader::new(File::open(path).map_err(unreadable)?).lines() {
        let line = line.map_err(unreadable)?;
        let carried = || {
            let event: serde_json::Value = serde_json::from_str(&line).ok()?;
            Checkpoint::parse(event.get("message")?.as_str()?).ok()
        };
        found.extend(Checkpoint::parse(&line).ok().or_else(carried));
    }
    Ok(found)
}

impl Key {
    fn run(self) -> Result<()> {
        let path = key_in(&self.state.dir()?);
        let next = "the key is made when a portal is first served";
        File::open(&path).map_err(|error| Complaint::unreadable(path.display(), &path, &error, next))?;
        let key = SigningKey::read(&path).map_err(Complaint::own)?;
        writeln!(io::stdout(), "{}", key.public())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use gnomon_audit::{AuditOptions, Recorded};
    use std::cell::Cell;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        show: Show,
    }

    /// The tools of the newest records that are wanted, and how many records were looked at for them.
    async fn told(folder: &Path, limit: usize, wants: impl Fn(&Record) -> bool) -> (Vec<String>, usize) {
        let line = Line::try_parse_from(["show", "--state-dir", folder.to_str().unwrap()]).unwrap();
        let looked = Cell::new(0);
        let wanted = |record: &Record, _: i64| {
            looked.set(looked.get() + 1);
            wants(record)
        };
        let told = newest(&line.show.state, limit, wanted).await.unwrap();
        (told.iter().map(|told| told.record.tool.as_ref().unwrap().to_string()).collect(), looked.get())
    }

    #[test]
    fn the_newest_records_are_shown_in_order_and_nothing_before_them_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let page = usize::try_from(PAGE).unwrap();
        let written = 3 * page + 7;
        let tools = |from: usize| (from..=written).map(|n| format!("tool{n}")).collect::<Vec<_>>();
        runtime().unwrap().block_on(async {
            let store = SqliteStore::open(&database_in(folder.path()), 1 << 30).await.unwrap();
            let key = SigningKey::generate().unwrap();
            let (audit, writer) = gnomon_audit::Audit::start(Box::new(store), key, Vec::new(), AuditOptions::default()).await.unwrap();
            for n in 1..=written {
                let record = Record { tool: Some(format!("tool{n}").into()), ..Record::at(SystemTime::now()) };
                assert_eq!(audit.record(record), Recorded::Queued);
            }
            writer.shutdown().await;
            assert_eq!(told(folder.path(), 1, |_| true).await, (tools(written), 1));
            // Across pages as well.
            assert_eq!(told(folder.path(), page + 1, |_| true).await, (tools(written - page), page + 1));
            let (oldest, looked) = told(folder.path(), 1, |record| record.tool.as_deref() == Some("tool1")).await;
            assert_eq!((oldest, looked), (vec!["tool1".to_owned()], written));
            assert_eq!(told(folder.path(), written + 1, |_| true).await, (tools(1), written));
        });
    }
}
