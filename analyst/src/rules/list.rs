//! `gnomon rules list`.

use super::{Chosen, Loaded};
use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    line::{clean, counted},
    options::{Format, FormatFlag},
    when,
};
use gnomon_engine::{Activity, Enforcement, Filter, FilterStatus, Origin, Rule, RuleSet, Targets};
use gnomon_kit::unix_millis;
use serde_json::{Value, json};
use std::io::{self, BufWriter, Write};

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    format: FormatFlag,
    /// List exceptions (Sigma filters) instead, those that have expired included
    #[arg(long)]
    filters: bool,
}

impl List {
    pub fn run(self) -> Result<()> {
        let loaded = Loaded::of(&self.chosen.settle()?)?;
        let mut out = BufWriter::new(io::stdout().lock());
        let all = || loaded.set.rules().iter().chain(loaded.set.disabled());
        match (self.format.format(), self.filters) {
            (Format::Json, false) => {
                let rules: Vec<_> = all().map(|rule| json(&loaded, rule)).collect();
                writeln!(out, "{}", serde_json::to_string_pretty(&rules)?)?;
            }
            (Format::Json, true) => {
                let filters: Vec<_> = loaded.set.filters().iter().map(filter_json).collect();
                writeln!(out, "{}", serde_json::to_string_pretty(&filters)?)?;
            }
            (Format::Text, false) => {
                all().try_for_each(|rule| row(&mut out, &loaded, rule))?;
                summary(&mut out, &loaded.set)?;
            }
            (Format::Text, true) => loaded.set.filters().iter().try_for_each(|filter| filter_row(&mut out, filter))?,
        }
        Ok(out.flush()?)
    }
}

fn row(out: &mut impl Write, loaded: &Loaded, rule: &Rule) -> io::Result<()> {
    let words = (rule.level.as_str(), rule.class.as_str(), rule.response.action.as_str(), rule.phase.as_str());
    let (level, class, action, phase) = words;
    let mut notes = Vec::new();
    if loaded.activity(rule) == Activity::Disabled {
        notes.push("disabled".to_owned());
    } else if rule.change.is_some() {
        notes.push("changed".to_owned());
    }
    if rule.enforcement == Enforcement::Shadow {
        notes.push("in shadow".to_owned());
    }
    if !rule.filters.is_empty() {
        notes.push(counted(rule.filters.len() as u64, "exception"));
    }
    let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join(", ")) };
    let status = rule.status.as_deref().unwrap_or("-");
    let title = clean(&rule.title);
    writeln!(out, "{}  {level:<13}  {class:<6}  {action:<8}  {phase:<8}  {status:<12}  {title}{notes}", rule.id)
}

fn summary(out: &mut impl Write, set: &RuleSet) -> io::Result<()> {
    let expired = set.filters().iter().filter(|filter| filter.status == FilterStatus::Expired).count();
    let all = counted(set.filters().len() as u64, "exception");
    match (set.filters().len(), expired) {
        (0, _) => Ok(()),
        (_, 0) => writeln!(out, "{all}: gnomon rules list --filters"),
        (_, expired) => writeln!(out, "{all}, {expired} of them expired: gnomon rules list --filters"),
    }
}

fn filter_row(out: &mut impl Write, filter: &Filter) -> io::Result<()> {
    let until = filter.expires.map_or_else(|| "for good".to_owned(), |end| format!("until {}", when::show(unix_millis(end))));
    let owner = clean(filter.owner.as_deref().unwrap_or("-"));
    let (title, file) = (clean(&filter.title), clean(&filter.file));
    writeln!(out, "{:<8}  {until:<25}  {owner:<12}  {title}  ({file}:{})", standing(filter), filter.line)?;
    match &filter.reason {
        Some(reason) => writeln!(out, "{:10}{}", "", clean(reason)),
        None => Ok(()),
    }
}

pub fn standing(filter: &Filter) -> &'static str {
    match filter.status {
        FilterStatus::Acts(_) => "acts",
        FilterStatus::Idle => "idle",
        FilterStatus::Expired => "expired",
    }
}

pub fn json(loaded: &Loaded, rule: &Rule) -> Value {
    let filters = rule.filters.iter().filter_map(|place| loaded.set.filters().get(*place));
    json!({
        "id": rule.id,
        "name": rule.name,
        "title": rule.title,
        "description": rule.description,
        "level": rule.level,
        "status": rule.status,
        "enabled": loaded.activity(rule) == Activity::Active,
        "class": rule.class,
        "action": rule.response.action,
        "mode": match rule.enforcement { Enforcement::Enforce => "enforce", Enforcement::Shadow => "shadow" },
        "phase": rule.phase,
        "origin": match rule.origin { Origin::Vendor => "vendor", Origin::Admin => "admin" },
        "fields": rule.fields.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "tags": rule.tags,
        "owasp": rule.owasp,
        "atlas": rule.atlas,
        "references": rule.references,
        "falsepositives": rule.false_positives,
        "filters": filters.map(filter_json).collect::<Vec<_>>(),
        "change": rule.change.as_ref().map(|change| json!({
            "level": change.level, "action": change.action, "reason": change.reason, "file": change.file, "line": change.line,
        })),
        "file": rule.file,
        "line": rule.line,
    })
}

fn filter_json(filter: &Filter) -> Value {
    json!({
        "id": filter.id,
        "title": filter.title,
        "rules": match &filter.targets { Targets::Any => json!("any"), Targets::Named(names) => json!(names) },
        "standing": standing(filter),
        "owner": filter.owner,
        "reason": filter.reason,
        "event": filter.event,
        "expires": filter.expires.map(|end| when::show(unix_millis(end))),
        "fields": filter.fields.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "file": filter.file,
        "line": filter.line,
    })
}
