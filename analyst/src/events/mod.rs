//! `gnomon events`: what happened, from the ledger, as lines for people or JSON lines; one detection's
//! story; detections by the day.

mod incidents;
mod show;
mod story;
mod telling;

use crate::{meant::in_ledger, rules::Chosen};
use anyhow::Result;
use clap::{Args, Subcommand};
use gnomon_cli::{
    Complaint, line,
    options::{Format, FormatFlag},
    runtime, when,
};
use gnomon_kit::unix_millis;
use gnomon_ledger::{Condition, EventFilter, MAX_PAGE, Order, Reader, StoredEvent};
use std::{
    io::{self, BufWriter, Write},
    path::Path,
    time::SystemTime,
};

/// The number of events fetched at a time.
const PAGE: usize = 1_000;

/// `gnomon events`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Events {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Subcommand)]
enum Command {
    /// Show everything about one detection, a burst or a daily incident
    Show(show::Show),
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    format: FormatFlag,
    /// Keep printing new events as they arrive
    #[arg(long, short)]
    follow: bool,
    /// Detections grouped by user, server (name and port) and day, the latest first
    #[arg(long, conflicts_with = "follow")]
    incidents: bool,
    /// From then on: 90s, 15m, 1h, 7d ago, or a moment as 2026-11-20T09:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when::parse)]
    since: Option<SystemTime>,
    /// Only before then, in the same form
    #[arg(long, value_name = "WHEN", value_parser = when::parse, conflicts_with = "follow")]
    until: Option<SystemTime>,
    /// At most this many, the newest [default: all; with --follow and without --since: none]
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<usize>,
    /// Only events whose field has this value, as gnomon.action=block; also !=, * for any text, and <, <=, >, >= for numbers;
    /// repeatable, all must hold
    #[arg(long = "where", value_name = "FIELD=VALUE", value_parser = str::parse::<Condition>)]
    conditions: Vec<Condition>,
    /// Only events that this rule matched: its id, the beginning of it, its name or its title
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
}

impl Events {
    /// Does what was asked, and writes to standard output.
    ///
    /// # Errors
    /// The command's error.
    pub fn run(self) -> Result<()> {
        let runtime = runtime()?;
        match self.command {
            Some(Command::Show(show)) => runtime.block_on(show.run()),
            None => {
                let path = self.list.chosen.state().ledger()?;
                runtime.block_on(self.list.run(&path))
            }
        }
    }
}

impl List {
    async fn run(self, ledger: &Path) -> Result<()> {
        let mut reader = Reader::open(ledger).await?;
        let rule = match &self.rule {
            Some(rule) => Some(in_ledger(rule, self.chosen.settle(), &mut reader).await?),
            None => None,
        };
        let filter = EventFilter {
            since_ms: self.since.map(unix_millis),
            until_ms: self.until.map(unix_millis),
            conditions: self.conditions,
            rule,
            limit: PAGE,
            ..EventFilter::default()
        };
        let format = self.format.format();
        if self.incidents {
            return incidents::list(&mut reader, &filter, self.limit, format).await;
        }
        let last = match (self.limit, self.follow && self.since.is_none()) {
            (Some(limit), _) => newest(&mut reader, &filter, limit, format).await?,
            (None, true) => None,
            (None, false) => all(&mut reader, &filter, format).await?,
        };
        if self.follow {
            let mut follow = reader.follow(filter, last).await?;
            loop {
                write(&follow.next().await?, format)?;
            }
        }
        Ok(())
    }
}

/// Shows all events from the oldest on, a page at a time; returns the number of the last.
async fn all(reader: &mut Reader, filter: &EventFilter, format: Format) -> Result<Option<i64>> {
    let mut filter = filter.clone();
    loop {
        let page = reader.events(&filter, Order::OldestFirst).await?;
        write(&page, format)?;
        filter.after = page.last().map(|event| event.seq).or(filter.after);
        if page.len() < filter.limit {
            return Ok(filter.after);
        }
    }
}

/// The newest `limit`, oldest of them first; the number of the last.
async fn newest(reader: &mut Reader, filter: &EventFilter, limit: usize, format: Format) -> Result<Option<i64>> {
    if limit > MAX_PAGE {
        return Err(Complaint::usage(format!("--limit is at most {MAX_PAGE}"))
            .next("leave it out to get all events, or use --since")
            .into());
    }
    let filter = EventFilter { limit, ..filter.clone() };
    let mut page = if limit == 0 { Vec::new() } else { reader.events(&filter, Order::NewestFirst).await? };
    page.reverse();
    write(&page, format)?;
    Ok(page.last().map(|event| event.seq))
}

fn write(events: &[StoredEvent], format: Format) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for event in events {
        match format {
            Format::Json => writeln!(out, "{}", event.json)?,
            Format::Text => writeln!(out, "{}", line::with_id(&event.json))?,
        }
    }
    out.flush()
}
