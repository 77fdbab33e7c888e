//! Detections by user, server (name and port) and day: a table for people, JSON lines for programs.

use anyhow::Result;
use gnomon_cli::{
    line::{clean, counted, with_id},
    options::Format,
    when,
};
use gnomon_ledger::{DailyIncident, EventFilter, HostPort, Reader, StoredEvent};
use std::io::{self, BufWriter, Write};

/// The most rules and programs in a line.
const SHOWN: usize = 2;
/// The most detections of an incident that are shown.
pub const SHOWN_DETECTIONS: usize = 20;

pub async fn list(reader: &mut Reader, filter: &EventFilter, limit: Option<usize>, format: Format) -> Result<()> {
    let mut found = reader.daily_incidents(filter).await?;
    found.incidents.truncate(limit.unwrap_or(usize::MAX));
    let mut out = BufWriter::new(io::stdout().lock());
    match format {
        Format::Json => {
            for incident in &found.incidents {
                writeln!(out, "{}", serde_json::to_string(incident)?)?;
            }
        }
        Format::Text if found.incidents.is_empty() => writeln!(out, "no detections in that time")?,
        Format::Text => {
            for incident in &found.incidents {
                writeln!(out, "{}", row(incident))?;
            }
        }
    }
    out.flush()?;
    if found.left_out > 0 {
        writeln!(
            io::stderr(),
            "gnomon: {} detections more are not shown: there are too many users and servers; use --where",
            found.left_out
        )?;
    }
    Ok(())
}

/// `i20261120-0123456789ab  high  confirmed  ada → mcp.example.com  12 detections (3 stopped)  09:00:00–10:12:44  /usr/bin/node  [rule]`
fn row(incident: &DailyIncident) -> String {
    let level = incident.level.map_or("-", |level| level.as_str());
    let confidence = incident.confidence.map_or("-", |confidence| confidence.as_str());
    let (from, until) = (when::show(incident.first_seen_ms), when::show(incident.last_seen_ms));
    let until = until.split(' ').next_back().unwrap_or_default();
    let rules = some(incident.rules.iter().map(|rule| rule.name.as_deref().unwrap_or(&rule.id)), incident.rules.len());
    format!(
        "{id}  {level:<13}  {confidence:<9}  {user} → {server}  {count}{stopped}  {from}–{until}  {programs}  [{rules}]",
        id = incident.id,
        user = who(incident),
        server = whither(incident),
        count = counted(incident.detections, "detection"),
        stopped = if incident.stopped > 0 { format!(" ({} stopped)", incident.stopped) } else { String::new() },
        programs = some(incident.programs.iter().map(String::as_str), incident.programs.len()),
    )
}

/// The incident in full, with its first detections.
pub fn tell(out: &mut impl Write, incident: &DailyIncident, detections: &[StoredEvent]) -> io::Result<()> {
    writeln!(out, "Incident {}: {} → {} on {}", incident.id, who(incident), whither(incident), incident.day)?;
    let mut fact = |name: &str, text: String| if text.is_empty() { Ok(()) } else { writeln!(out, "  {name:<11} {text}") };
    fact("detections", format!("{}, of them {} stopped, in {}", incident.detections, incident.stopped, counted(incident.alerts, "burst")))?;
    fact("first, last", format!("{} – {} UTC", when::show(incident.first_seen_ms), when::show(incident.last_seen_ms)))?;
    fact("sure", incident.confidence.map_or("-", |confidence| confidence.as_str()).to_owned())?;
    fact("level", incident.level.map_or("-", |level| level.as_str()).to_owned())?;
    fact("classes", incident.classes.iter().map(|(class, count)| format!("{class} {count}")).collect::<Vec<_>>().join(", "))?;
    let standing = match incident.sanctioned {
        Some(true) => "sanctioned",
        Some(false) => "not sanctioned",
        None => "",
    };
    fact("server", standing.to_owned())?;
    fact("programs", cleaned(&incident.programs))?;
    fact("tools", cleaned(&incident.tools))?;
    fact("bytes out", incident.bytes_out.to_string())?;
    for rule in &incident.rules {
        fact("rule", format!("{} [{}] {}", clean(rule.name.as_deref().unwrap_or("-")), rule.id, counted(rule.detections, "time")))?;
    }
    if !detections.is_empty() {
        writeln!(out, "\n  The first {}:", counted(detections.len() as u64, "detection"))?;
        for event in detections {
            writeln!(out, "  {}", with_id(&event.json))?;
        }
    }
    if let Some(last) = &incident.last_event {
        writeln!(out, "\n  gnomon events show {}   # the story of the last", clean(last))?;
    }
    Ok(())
}

fn who(incident: &DailyIncident) -> String {
    incident.user.as_deref().map_or_else(|| "?".to_owned(), clean)
}

fn whither(incident: &DailyIncident) -> String {
    incident.server.as_deref().map_or_else(|| "?".to_owned(), |host| clean(&HostPort::new(host, incident.port).to_string()))
}

fn cleaned(names: &[String]) -> String {
    names.iter().map(|name| clean(name)).collect::<Vec<_>>().join(", ")
}

fn some<'a>(names: impl Iterator<Item = &'a str>, all: usize) -> String {
    let mut text = names.take(SHOWN).map(clean).collect::<Vec<_>>().join(", ");
    if all > SHOWN {
        text.push_str(&format!(", and {} more", all - SHOWN));
    }
    if text.is_empty() { "-".to_owned() } else { text }
}
