//! A made-up week in a state folder, so that `gnomon report`, `inventory` and `events` can be looked at before a fleet has one of its own.
//!
//! Nothing of it was seen. The rules are those that ship, by their files; names are of RFC 2606.

use anyhow::{Context as _, Result, bail};
use gnomon_ledger::{Decided, DecidedBy, Decision, Event, Ledger, LedgerOptions, Recorded, ReviewedServer};
use gnomon_observe::{Field, Observation, Review};
use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Seconds of a day.
const DAY: u64 = 86_400;
/// Days that are filled: the week that is shown, and the week before for comparison.
const DAYS: u64 = 14;
/// The pack that the rules are from.
const PACK: &str = "shadow-mcp";
/// Kept for longer than any picture of it is: the moment may lie long ago.
const RETENTION: Duration = Duration::from_secs(100 * 365 * DAY);

/// A server of the week.
struct WeekServer {
    host: &'static str,
    name: &'static str,
    sanctioned: bool,
    tools: &'static [&'static str],
    /// Tools that it offers from the shown week on.
    new_tools: &'static [&'static str],
    /// Calls of each user on each of the fourteen days, oldest first.
    calls: [u8; DAYS as usize],
    users: &'static [(&'static str, &'static str)],
    /// The file of the rule that decides about a call, in the pack; none of a sanctioned server.
    rule: Option<&'static str>,
    /// Whether it was denied in review, the evening before its first day, and calls are refused.
    denied: bool,
}

const NODE: &str = "/usr/bin/node";
const PYTHON: &str = "/usr/bin/python3.11";
const CODEX: &str = "/usr/local/bin/codex";

const PLACES: [WeekServer; 8] = [
    WeekServer {
        host: "mcp.corp.example",
        name: "Company portal",
        sanctioned: true,
        tools: &["search_docs", "create_ticket", "query_warehouse", "read_calendar"],
        new_tools: &["approve_expense"],
        calls: [9, 11, 12, 10, 9, 0, 1, 14, 17, 19, 22, 24, 2, 1],
        users: &[("ada", NODE), ("bo", CODEX), ("chen", NODE), ("dina", PYTHON)],
        rule: None,
        denied: false,
    },
    WeekServer {
        host: "tickets.corp.example",
        name: "Tickets",
        sanctioned: true,
        tools: &["find_ticket", "comment"],
        new_tools: &[],
        calls: [4, 3, 5, 4, 4, 0, 0, 5, 6, 4, 5, 6, 0, 0],
        users: &[("ada", NODE), ("emil", NODE)],
        rule: None,
        denied: false,
    },
    WeekServer {
        host: "mcp.notes.example",
        name: "Sample notes",
        sanctioned: false,
        tools: &["save_note", "find_note"],
        new_tools: &["share_note"],
        calls: [8, 9, 7, 9, 8, 1, 0, 7, 5, 4, 3, 2, 0, 0],
        users: &[("bo", CODEX), ("emil", NODE)],
        rule: Some("shadow_mcp_message.yml"),
        denied: false,
    },
    WeekServer {
        host: "mcp.crm.example",
        name: "crm-server",
        sanctioned: false,
        tools: &["export_contacts", "find_contact"],
        new_tools: &[],
        calls: [0, 0, 0, 2, 3, 0, 0, 3, 4, 3, 2, 2, 0, 0],
        users: &[("dina", PYTHON)],
        rule: Some("shadow_mcp_message.yml"),
        denied: false,
    },
    WeekServer {
        host: "design.example",
        name: "Design canvas",
        sanctioned: false,
        tools: &["read_frame"],
        new_tools: &[],
        calls: [0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 3, 4, 1, 0],
        users: &[("chen", NODE)],
        rule: Some("shadow_mcp_message.yml"),
        denied: false,
    },
    WeekServer {
        host: "files.transfer.example",
        name: "drop",
        sanctioned: false,
        tools: &["upload"],
        new_tools: &[],
        calls: [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 1, 0, 0],
        users: &[("emil", NODE)],
        rule: Some("mcp_server_denied.yml"),
        denied: true,
    },
    WeekServer {
        host: "warehouse.corp.example",
        name: "Warehouse",
        sanctioned: true,
        tools: &["query"],
        new_tools: &[],
        calls: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0],
        users: &[("dina", PYTHON)],
        rule: Some("portal_bypass.yml"),
        denied: false,
    },
    WeekServer {
        host: "browser.tools.example",
        name: "browser-tools",
        sanctioned: false,
        tools: &["open_page", "run_script"],
        new_tools: &[],
        calls: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1],
        users: &[("ada", NODE)],
        rule: Some("shadow_mcp_message.yml"),
        denied: false,
    },
];

/// Connections of the shown week that were not read, and how often.
const UNREAD: [(&str, &str, u64); 2] = [("bypassed", "bank.example", 12), ("ca_rejected", "pinned.example", 3)];

/// Fills the ledger of `state`, a folder that is made and has no ledger yet, with fourteen days that end with the day of `until`.
///
/// # Errors
/// There is a ledger already, or it cannot be written.
pub async fn week(state: &Path, until: SystemTime) -> Result<()> {
    let file = state.join("ledger.sqlite");
    if file.exists() {
        bail!("{} has a ledger already, in which made-up events would stand beside real ones: name a new folder", state.display());
    }
    fs::create_dir_all(state).with_context(|| format!("making {}", state.display()))?;
    let (ledger, writer) = Ledger::open(LedgerOptions { retention: RETENTION, ..LedgerOptions::new(file) }).await?;
    let seconds = until.duration_since(UNIX_EPOCH).context("a moment before 1970")?.as_secs();
    let first = UNIX_EPOCH + Duration::from_secs((seconds / DAY + 1).saturating_sub(DAYS) * DAY);
    let mut written = Written { ledger: &ledger, lost: 0 };
    for day in 0..DAYS {
        let morning = first + Duration::from_secs(day * DAY + 8 * 3600);
        for place in &PLACES {
            place.fill(&mut written, day, morning)?;
        }
        // The queue is bounded: a day at a time fits into it.
        ledger.flush().await?;
    }
    for place in PLACES.iter().filter(|place| place.denied) {
        let day = place.calls.iter().position(|calls| *calls > 0).unwrap_or_default() as u64;
        let evening = first + Duration::from_secs(day * DAY) - Duration::from_secs(6 * 3600);
        let denial = Decision {
            at_ms: i64::try_from(evening.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis())?,
            by: DecidedBy { user: Some("sam".to_owned()), login_uid: None, uid: 1000 },
            server: ReviewedServer { host: place.host.to_owned(), port: 443 },
            state: Review::Denied,
            owner: Some("security".to_owned()),
            reason: Some("takes files that anybody may fetch".to_owned()),
            until_ms: None,
        };
        Decided::of(state).review(&denial).await.context("writing down a review of the made-up week")?;
    }
    let last_morning = first + Duration::from_secs((DAYS - 1) * DAY + 8 * 3600);
    for (outcome, host, times) in UNREAD {
        for n in 0..times {
            let mut seen = Observation::new();
            seen.set(Field::FlowOutcome, outcome);
            seen.set(Field::ServerAddress, host);
            seen.set(Field::ServerPort, 443_i64);
            seen.set(Field::UserName, "ada");
            written.add(seen, last_morning + Duration::from_secs(n * 60));
        }
    }
    ledger.flush().await?;
    let lost = written.lost;
    writer.shutdown().await;
    if lost > 0 {
        bail!("{lost} events of the made-up week were not written");
    }
    Ok(())
}

struct Written<'a> {
    ledger: &'a Ledger,
    lost: u64,
}

impl Written<'_> {
    fn add(&mut self, seen: Observation, at: SystemTime) {
        self.lost += u64::from(self.ledger.record(Event::at(seen, at)) != Recorded::Queued);
    }
}

impl WeekServer {
    /// A day at this server: each user's calls, an hour's worth apart, and the list of its tools on the first day of use.
    fn fill(&self, written: &mut Written<'_>, day: u64, morning: SystemTime) -> Result<()> {
        let at = usize::try_from(day)?;
        let calls = self.calls[at];
        if calls == 0 {
            return Ok(());
        }
        let rule = self.rule.map(rule).transpose()?;
        let shown = day >= DAYS / 2;
        let offered: Vec<&'static str> = self.tools.iter().chain(if shown { self.new_tools } else { &[] }).copied().collect();
        for (n, (user, program)) in (0_u64..).zip(self.users) {
            let mut list = self.call(user, program, "tools/list");
            list.set(Field::Tools, offered.iter().map(|tool| (*tool).into()).collect::<Vec<_>>());
            list.set(Field::McpServerName, self.name);
            let begun = morning + Duration::from_secs(n * 600);
            written.add(list, begun);
            for call in 0..u64::from(calls) {
                let mut seen = self.call(user, program, "tools/call");
                seen.set(Field::ToolName, offered[usize::try_from(call)? % offered.len()]);
                seen.set(Field::HttpStatus, if self.denied { 403_i64 } else { 200_i64 });
                if let Some(rule) = &rule {
                    seen.set(Field::EventKind, if call == 0 { "alert" } else { "signal" });
                    seen.set(Field::RuleId, rule.id.as_str());
                    seen.set(Field::RuleName, rule.title.as_str());
                    seen.set(Field::RuleLevel, rule.level.as_str());
                    seen.set(Field::DetectionClass, "mcp");
                    seen.set(Field::Action, if self.denied { "block" } else { "log" });
                }
                written.add(seen, begun + Duration::from_secs(60 + call * 900));
            }
        }
        Ok(())
    }

    fn call(&self, user: &str, program: &str, method: &str) -> Observation {
        let mut seen = Observation::new();
        seen.set(Field::EventKind, "event");
        seen.set(Field::ServerAddress, self.host);
        seen.set(Field::ServerPort, 443_i64);
        seen.set(Field::UrlPath, "/mcp");
        seen.set(Field::McpMethod, method);
        seen.set(Field::Sanctioned, self.sanctioned);
        if self.denied {
            seen.set(Field::ServerReview, Review::Denied.as_str());
        }
        seen.set(Field::UserName, user);
        seen.set(Field::Executable, program);
        seen.set(Field::Confidence, "confirmed");
        seen
    }
}

/// What an event says of a shipped rule.
struct Rule {
    id: String,
    title: String,
    level: String,
}

fn rule(file: &str) -> Result<Rule> {
    let mut files = gnomon_packs::packs().iter().filter(|pack| pack.name == PACK).flat_map(gnomon_packs::Pack::files);
    let (_, text) = files.find(|(path, _)| path.ends_with(file)).with_context(|| format!("there is no rule {file}"))?;
    let rule: serde_json::Value = serde_saphyr::from_str(text).with_context(|| format!("reading {file}"))?;
    let text = |name: &str| rule[name].as_str().map(str::to_owned).with_context(|| format!("{file} has no {name}"));
    Ok(Rule { id: text("id")?, title: text("title")?, level: text("level")? })
}
