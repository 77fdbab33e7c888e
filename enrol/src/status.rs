//! `gnomon server list` and `server status`: the servers of a running gnomon, whether they are there, and what is made of them.

use super::running::Metrics;
use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    Complaint,
    line::counted,
    options::{ConfigFlag, Format, FormatFlag},
    when,
};
use gnomon_config::{At, Config, Switch};
use serde_json::{Map, Value, json};
use std::{
    io::{self, BufWriter, Write},
    net::SocketAddr,
};

/// Where to look.
#[derive(Args)]
struct Looked {
    #[command(flatten)]
    config: ConfigFlag,
    /// Where the running gnomon serves its metrics [default: `metrics.listen` of the configuration]
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    format: FormatFlag,
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    looked: Looked,
}

#[derive(Args)]
pub struct Status {
    /// Which servers [default: all of the configuration]
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    looked: Looked,
}

/// One server, as the portals that offer it see it.
struct Seen<'a> {
    id: &'a str,
    transport: &'static str,
    portals: Vec<AtPortal>,
    /// Processes that run, of a program.
    instances: Option<u64>,
    /// Entries of its lists that are not offered, by list and why.
    left_out: Vec<(String, String, u64)>,
}

/// One server at one portal.
struct AtPortal {
    portal: String,
    up: bool,
    /// Why it is not there.
    reason: Option<String>,
    /// Since when, in seconds since 1970; none before it was first asked.
    since: Option<u64>,
    /// Since when it has said nothing although it is at calls, in seconds since 1970.
    silent_since: Option<u64>,
    /// What rules withhold of it, and which: lists, `instructions`.
    withheld: Vec<(String, String)>,
    /// Calls of clients by how they ended, and those without an answer by why.
    calls: Vec<(String, u64)>,
    errors: Vec<(String, u64)>,
    sessions: u64,
    /// What it took for one call, on average, in seconds.
    took: Option<f64>,
}

impl List {
    pub(super) fn run(self) -> Result<()> {
        self.looked.told(&[], |seen, width, out| {
            for at in &seen.portals {
                let withheld = at.withheld().map(|withheld| format!("  withheld: {withheld}")).unwrap_or_default();
                writeln!(out, "{:width$}  {}  {}{withheld}", seen.id, at.in_words(), at.portal)?;
            }
            match seen.portals.is_empty() {
                true => writeln!(out, "{:width$}  not offered by any portal that runs", seen.id),
                false => Ok(()),
            }
        })
    }
}

impl Status {
    pub(super) fn run(self) -> Result<()> {
        self.looked.told(&self.ids, |seen, _, out| seen.write(out))
    }
}

impl Looked {
    /// Tells of these servers, or of all.
    fn told(self, ids: &[String], mut text: impl FnMut(&Seen<'_>, usize, &mut dyn Write) -> io::Result<()>) -> Result<()> {
        let config = self.config.load()?;
        let known: Vec<&str> = config.servers.iter().map(|server| server.id.as_str()).collect();
        if let Some(unknown) = ids.iter().find(|id| !known.contains(&id.as_str())) {
            let next = match known.is_empty() {
                true => "the configuration has none; name another with --config".to_owned(),
                false => format!("it has: {}", known.join(", ")),
            };
            return Err(Complaint::usage(format!("the configuration has no server `{unknown}`")).next(next).into());
        }
        let address = match (self.metrics, config.metrics.listen) {
            (Some(address), _) | (None, Switch::On(address)) => address,
            (None, Switch::Off) => {
                let next = "switch it on, or see `gnomon server test`, which asks the servers itself";
                return Err(Complaint::input("the running gnomon cannot be asked: `metrics.listen` is off").next(next).into());
            }
        };
        let metrics = Metrics::at(address)?;
        let seen: Vec<_> = seen(&config, ids, &metrics).collect();
        let mut out = BufWriter::new(io::stdout().lock());
        match self.format.format() {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&seen.iter().map(Seen::json).collect::<Vec<_>>())?)?,
            Format::Text => {
                let width = seen.iter().map(|one| one.id.len()).max().unwrap_or_default();
                seen.iter().try_for_each(|one| text(one, width, &mut out))?;
                if seen.is_empty() {
                    writeln!(out, "the configuration has no servers")?;
                }
            }
        }
        Ok(out.flush()?)
    }
}

fn seen<'a>(config: &'a Config, ids: &'a [String], metrics: &'a Metrics) -> impl Iterator<Item = Seen<'a>> {
    let meant = config.servers.iter().filter(|server| ids.is_empty() || ids.contains(&server.id));
    meant.map(|server| {
        let of = ("server", server.id.as_str());
        let transport = match server.at {
            At::Url(_) => "http",
            At::Program(_) => "program",
            At::Api(_) => "openapi",
        };
        let left_out = metrics.of("gnomon_portal_entries_left_out", of).filter(|series| series.whole() > 0);
        Seen {
            id: &server.id,
            transport,
            portals: metrics
                .of("gnomon_portal_server_up", of)
                .map(|up| AtPortal::of(metrics, of, up.label("portal"), up.whole() > 0))
                .collect(),
            instances: metrics.of("gnomon_server_instances", of).map(|series| series.whole()).next(),
            left_out: left_out.map(|series| (series.label("list").to_owned(), series.label("reason").to_owned(), series.whole())).collect(),
        }
    })
}

impl AtPortal {
    fn of(metrics: &Metrics, of: (&str, &str), portal: &str, up: bool) -> Self {
        let here = |metric: &str| metrics.of(metric, of).filter(|series| series.label("portal") == portal).collect::<Vec<_>>();
        let one = |metric| here(metric).first().map(|series| series.value()).unwrap_or_default();
        let by = |metric, label| {
            let counted = here(metric).into_iter().filter(|series| series.whole() > 0);
            counted.map(|series| (series.label(label).to_owned(), series.whole())).collect()
        };
        let answered = one("gnomon_portal_server_seconds_count");
        let time = |metric| Some(one(metric) as u64).filter(|since| *since > 0);
        Self {
            portal: portal.to_owned(),
            up,
            reason: here("gnomon_portal_server_down").first().map(|series| series.label("reason").to_owned()).filter(|_| !up),
            since: time("gnomon_portal_server_changed_timestamp_seconds"),
            silent_since: time("gnomon_portal_server_silent_timestamp_seconds").filter(|_| up),
            withheld: here("gnomon_portal_server_withheld")
                .iter()
                .map(|series| (series.label("what").to_owned(), series.label("rule").to_owned()))
                .collect(),
            calls: by("gnomon_portal_server_calls_total", "status"),
            errors: by("gnomon_portal_server_errors_total", "reason"),
            sessions: one("gnomon_portal_server_sessions") as u64,
            took: (answered > 0.0).then(|| one("gnomon_portal_server_seconds_sum") / answered),
        }
    }

    /// Whether it is there, since when, and why not.
    fn in_words(&self) -> String {
        let since = self.since.map(|since| format!(" since {}", shown(since))).unwrap_or_default();
        match (&self.reason, self.up) {
            (_, true) => match self.silent_since {
                Some(silent) => format!("up{since}, silent since {} (at calls: frozen, or doing one thing at a time)", shown(silent)),
                None => format!("up{since}"),
            },
            (Some(reason), false) => format!("down{since}: {reason} ({})", meaning(reason)),
            (None, false) if self.since.is_none() => "not known yet".to_owned(),
            (None, false) => format!("down{since}"),
        }
    }

    /// What rules withhold of it, in words.
    fn withheld(&self) -> Option<String> {
        let withheld: Vec<_> = self.withheld.iter().map(|(what, rule)| format!("{what} (rule {rule})")).collect();
        (!withheld.is_empty()).then(|| withheld.join(", "))
    }

    fn json(&self) -> Value {
        let counts = |counts: &[(String, u64)]| counts.iter().map(|(word, count)| (word.clone(), (*count).into())).collect::<Map<_, _>>();
        json!({
            "portal": self.portal, "up": self.up, "reason": self.reason, "since": self.since, "silent_since": self.silent_since,
            "withheld": self.withheld.iter().map(|(what, rule)| json!({"what": what, "rule": rule})).collect::<Vec<_>>(),
            "calls": counts(&self.calls), "errors": counts(&self.errors), "sessions": self.sessions, "mean_seconds": self.took,
        })
    }
}

impl Seen<'_> {
    fn json(&self) -> Value {
        let left_out = self.left_out.iter().map(|(list, reason, count)| json!({"list": list, "reason": reason, "count": count}));
        json!({
            "id": self.id, "transport": self.transport, "instances": self.instances,
            "portals": self.portals.iter().map(AtPortal::json).collect::<Vec<_>>(), "left_out": left_out.collect::<Vec<_>>(),
        })
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} ({})", self.id, self.transport)?;
        if self.portals.is_empty() {
            writeln!(out, "  not offered by any portal that runs: name it in `servers` of one, and restart")?;
        }
        let words = |counts: &[(String, u64)]| counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ");
        for at in &self.portals {
            writeln!(out, "  at {}: {}", at.portal, at.in_words())?;
            if let Some(withheld) = at.withheld() {
                writeln!(out, "    withheld  {withheld}; `gnomon events` says of what")?;
            }
            let took = at.took.map(|took| format!("; {:.3} s on average", took)).unwrap_or_default();
            let calls = if at.calls.is_empty() { "none".to_owned() } else { words(&at.calls) };
            writeln!(out, "    calls     {calls}{took}")?;
            if !at.errors.is_empty() {
                writeln!(out, "    no answer {}", words(&at.errors))?;
            }
            writeln!(out, "    sessions  {}", at.sessions)?;
        }
        if let Some(instances) = self.instances {
            writeln!(out, "  runs {}", counted(instances, "time"))?;
        }
        for (list, reason, count) in &self.left_out {
            // Told with the rule at the portal.
            if reason != "rule" {
                writeln!(out, "  not offered: {count} of its {list} ({reason})")?;
            }
        }
        Ok(())
    }
}

/// A time in seconds since 1970, as it is told.
fn shown(seconds: u64) -> String {
    when::show(i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX))
}

/// What a reason means, in words.
fn meaning(reason: &str) -> &'static str {
    match reason {
        "refused" => "nobody listens at its address",
        "dns" => "its name has no address",
        "tls" => "TLS with it fails",
        "forbidden_address" => "its address is one that gnomon does not connect to",
        "timeout" => "no connection came about in time",
        "frozen" => "it accepts connections and does not answer",
        "unreachable" => "no connection came about",
        "broke_off" => "it closed the connection without an answer",
        "not_started" => "its program could not be started, or keeps ending; the log says why",
        "unauthorized" => "it refused the credentials that gnomon holds for it",
        "http_4xx" | "http_5xx" | "http_other" => "it answers with an HTTP error",
        "protocol" => "its answers are not MCP",
        "too_large" => "its answers are too large",
        "error_answer" => "it answers with an error",
        _ => "the log says more",
    }
}
