//! `gnomon triage`: an analyst's verdict on a detection. A benign one becomes an exception: a Sigma filter file, so that it
//! can be seen, reviewed and taken elsewhere, and ends by itself.
//!
//! The verdict is kept before its exception acts, and before one is taken back: a failure in between leaves a verdict whose exception the
//! same command writes, or takes back, when it is repeated; never an exception without an owner.

mod covered;
mod file;

use crate::{
    meant::{Called, meant},
    review::caller,
    rules::{Chosen, matched},
    scaffold::{Exception, NARROW, Named, WHO, narrow},
    stored::{self, Event},
};
use anyhow::Result;
use clap::{Args, ValueEnum};
use covered::Covered;
use file::ExceptionFile;
use gnomon_cli::{
    Complaint, decisions,
    line::{clean, one_line, word},
    rule_files::RuleText,
    runtime,
};
use gnomon_config::Config;
use gnomon_engine::{FilterStatus, Finding, Lint, Origin, RuleSet, Source, explain};
use gnomon_kit::unix_millis;
use gnomon_ledger::{Decided, Verdict, VerdictKind};
use gnomon_observe::Class;
use std::{
    io::{self, Write},
    path::Path,
    time::SystemTime,
};

/// `gnomon triage`.
#[derive(Args)]
pub struct Triage {
    #[command(flatten)]
    chosen: Chosen,
    /// The event's id, or the beginning of it
    #[arg(value_name = "EVENT-ID")]
    event: String,
    /// The classification
    #[arg(value_enum)]
    verdict: Judged,
    /// The day after which, or the moment at which, the exception ends: 2026-12-31, 2026-12-31T18:00:00Z
    #[arg(long, value_name = "DATE", required_if_eq("verdict", "benign"))]
    until: Option<String>,
    /// Why, in one line
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The person responsible for it [default: the user that runs this]
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Except from this rule too, which matched the same call: its id, the beginning of it, its name or its title; `class` for all of the event's
    /// class
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    also: Vec<String>,
    /// Fields that the exception does not compare, of those that --dry-run shows (user.name, server.address, gen_ai.tool.name,
    /// mcp.resource.uri, gnomon.config.path …); without server.address the port is not compared either
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    wider: Vec<String>,
    /// Say what would be silenced, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Judged {
    /// Not a finding: an exception to the rule that decided is written
    Benign,
    /// A finding: recorded with the event
    Confirmed,
}

impl Triage {
    /// Does what was asked, and writes to standard output.
    ///
    /// # Errors
    /// The command's error.
    pub fn run(self) -> Result<()> {
        let event = stored::event(&self.chosen.state().ledger()?, &self.event)?;
        self.decide(&event, &mut io::stdout().lock())?;
        if self.dry_run {
            return Ok(());
        }
        let decided = self.chosen.settle()?.decided(&self.chosen.state().dir()?);
        Ok(runtime()?.block_on(decisions::heeded(&decided))?)
    }

    fn decide(&self, event: &Event, out: &mut impl Write) -> Result<()> {
        let config = self.chosen.settle()?;
        let decided = config.decided(&self.chosen.state().dir()?);
        match self.verdict {
            Judged::Benign => self.except(event, &config, &decided, out),
            Judged::Confirmed if !self.also.is_empty() => Err(Complaint::usage("--also is for benign detections only").into()),
            Judged::Confirmed if self.dry_run => Err(Complaint::usage("--dry-run is for benign detections only").into()),
            Judged::Confirmed => self.confirm(event, &config, &decided, out),
        }
    }

    fn except(&self, event: &Event, config: &Config, decided: &Decided, out: &mut impl Write) -> Result<()> {
        let Exempted { file, text, silenced } = self.exempted(event, config)?;
        let is_there = match file.read() {
            None => {
                file.can_be_written()?;
                false
            }
            // The command was interrupted after all was done, or is repeated.
            Some(there) if file::same(&there, &text) => true,
            Some(_) => {
                let there = format!("{} is there already", file.path.display());
                return Err(Complaint::usage(there).next("edit it, or delete it first").into());
            }
        };
        self.tell_reach(event, &silenced, out)?;
        if self.dry_run {
            return Ok(writeln!(out, "nothing was written")?);
        }
        out.flush()?;
        self.keep(event, decided, VerdictKind::Benign, Some(&file))?;
        if is_there {
            writeln!(out, "{} is there already, as it would be written", file.path.display())?;
        } else {
            file.write(&text)
                .map_err(|error| error.next("the verdict is kept, and nothing is excepted: mend that, and repeat the command"))?;
            writeln!(out, "{} written: a running gnomon takes it up within seconds", file.path.display())?;
        }
        writeln!(out, "until {}; see it with `gnomon rules list --filters`, and undo it with:", self.until.as_deref().unwrap_or("-"))?;
        Ok(writeln!(out, "  rm {}", word(&file.path.display().to_string()))?)
    }

    /// Says how far the exception reaches: what it compares, and for each rule how many of its events of the last days it covers.
    fn tell_reach(&self, event: &Event, silenced: &Silenced, out: &mut impl Write) -> Result<()> {
        let fields = self.fields(event)?;
        let excepted = fields.iter().map(|field| shown(event, field)).collect::<Vec<_>>().join(", ");
        let everybody = if fields.iter().any(|field| WHO.contains(&field.as_str())) { "" } else { ", whoever it is" };
        writeln!(out, "what it excepts: {excepted}{everybody}")?;
        writeln!(out, "which of it is silenced, and how many of each rule's own events of the last {} days that is:", covered::DAYS)?;
        let ledger = self.chosen.state().ledger()?;
        for rule in &silenced.rules {
            let reach = match Covered::count(&ledger, rule, event, &fields) {
                Ok(covered) => covered.told(),
                Err(error) => format!("not known, as the ledger cannot be read: {}", one_line(&format!("{error:#}"))),
            };
            writeln!(out, "  {rule}: {reach}")?;
        }
        if !silenced.stay.is_empty() {
            writeln!(out, "what matched as well, and goes on being told (--also ID silences it too):")?;
            silenced.stay.iter().try_for_each(|rule| writeln!(out, "  {rule}"))?;
        }
        Ok(())
    }

    /// Notes that it is a finding, and takes back what excepted it.
    fn confirm(&self, event: &Event, config: &Config, decided: &Decided, out: &mut impl Write) -> Result<()> {
        let before = self.keep(event, decided, VerdictKind::Confirmed, None)?;
        let id = stored::text(event, "event.id").unwrap_or_default();
        writeln!(out, "{id} is noted as confirmed")?;
        let file = ExceptionFile::of(event, self.chosen.state(), config);
        let there = file.as_ref().and_then(|file| file.read().map(|text| (file, text)));
        match &there {
            Some((file, text)) if file::is_as_written(text) => {
                let kept = "the verdict is kept, and the exception still acts: mend that, and repeat the command";
                file.remove().map_err(|error| error.next(kept))?;
                writeln!(out, "{} is taken back: a running gnomon tells of such calls again within seconds", file.path.display())?;
            }
            Some((file, _)) => {
                writeln!(out, "{} was written or changed by hand and stays; take it back with:", file.path.display())?;
                writeln!(out, "  rm {}", word(&file.path.display().to_string()))?;
            }
            None => {
                let elsewhere = before.filter(|before| before.kind == VerdictKind::Benign).and_then(|before| before.file);
                if let Some(elsewhere) = elsewhere.filter(|file| !Path::new(file).exists()) {
                    let elsewhere = word(&elsewhere);
                    writeln!(out, "the exception is not on this host, or is gone; on the host where it was written: rm {elsewhere}")?;
                }
            }
        }
        self.tell_others(event, config, there.as_ref().map(|(file, _)| *file), out)
    }

    /// Reports other exceptions that a call like the event matches.
    fn tell_others(&self, event: &Event, config: &Config, own: Option<&ExceptionFile>, out: &mut impl Write) -> Result<()> {
        let loaded = RuleText::of(&config.rules).and_then(|read| Ok((read.compile(Lint::Skip)?, read)));
        let (set, read) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return Ok(writeln!(out, "whether another exception is for it is not known, as rules cannot be read: {error}")?),
        };
        let Some(rule) = stored::text(event, "rule.id").and_then(|id| set.find(&id)) else { return Ok(()) };
        let asked = set.filters().iter().flat_map(|filter| &filter.fields);
        let Ok(seen) = stored::observation(event, asked) else { return Ok(()) };
        for filter in rule.filters.iter().filter_map(|place| set.filters().get(*place)) {
            let source = read.sources.iter().find(|source| source.name == filter.file);
            let told = source.and_then(|source| explain(&source.text, filter.line, &seen));
            let is_own = own.is_some_and(|own| own.path.display().to_string() == filter.file);
            if is_own || !matches!(filter.status, FilterStatus::Acts(_)) || told.is_none_or(|told| told.finding != Finding::False) {
                continue;
            }
            let of = filter.event.as_ref().map(|event| format!(", written for event {event}")).unwrap_or_default();
            writeln!(out, "such calls are still excepted by {} ({}{of}); end that with:", clean(&filter.file), clean(&filter.title))?;
            writeln!(out, "  rm {}", word(&filter.file))?;
        }
        Ok(())
    }

    /// Keeps the verdict, unless it equals the last one; returns the last one.
    fn keep(&self, event: &Event, decided: &Decided, kind: VerdictKind, file: Option<&ExceptionFile>) -> Result<Option<Verdict>> {
        let verdict = Verdict {
            event: stored::text(event, "event.id").unwrap_or_default(),
            kind,
            owner: self.owner.clone().unwrap_or_else(whoever),
            reason: self.reason.clone(),
            until: self.until.clone(),
            file: file.map(|file| file.path.display().to_string()),
        };
        runtime()?.block_on(async {
            let before = decided.verdicts_on(&verdict.event).await?.pop().map(|(_, verdict)| verdict);
            if before.as_ref() != Some(&verdict) {
                decided.judge(&verdict, caller(), unix_millis(SystemTime::now())).await?;
            }
            Ok(before)
        })
    }

    /// The fields whose values must match.
    fn fields(&self, event: &Event) -> Result<Vec<String>, Complaint> {
        if let Some(unknown) = self.wider.iter().find(|field| !NARROW.contains(&field.as_str())) {
            return Err(Complaint::usage(format!("`{unknown}` is not among what an exception is narrowed by"))
                .next(format!("--wider takes {}; `gnomon rules new --exception` begins one to edit", NARROW.join(", "))));
        }
        narrow(event, &self.wider)
    }

    /// The rules that the exception is for. The event stands for one finding: the rule that decided, and with a rule of class `mcp`, which
    /// says that MCP is spoken there, the weaker signs of the same. The call's other findings are still reported.
    fn silenced(&self, event: &Event, rules: &RuleSet) -> Result<Silenced, Complaint> {
        let (decided, others) = matched(event)?;
        let (deciding, class) = (rules.find(&decided), stored::text(event, "gnomon.detection.class").unwrap_or_default());
        let named = |id: String| {
            let loaded = rules.find(&id).map(|rule| rule.title.to_string());
            Named { title: loaded.or_else(|| stored::text(event, "rule.name").filter(|_| id == decided)), id }
        };
        let all = self.also.iter().any(|also| also == CLASS);
        let asked = self.asked(event, &others, rules)?;
        let mut silenced = Silenced { rules: vec![named(decided.clone())], stay: Vec::new() };
        for id in others {
            let loaded = rules.find(&id);
            let same = loaded.is_some_and(|rule| rule.class.as_str() == class);
            let weaker = loaded.zip(deciding).is_some_and(|(rule, deciding)| rule.level <= deciding.level);
            let taken = asked.contains(&id) || same && (all || class == Class::Mcp.as_str() && weaker);
            if taken { silenced.rules.push(named(id)) } else { silenced.stay.push(named(id)) }
        }
        Ok(silenced)
    }

    /// The ids of the rules that `--also` names, each one of the others that matched.
    fn asked(&self, event: &Event, others: &[String], rules: &RuleSet) -> Result<Vec<String>, Complaint> {
        let called = others.iter().map(|id| rules.find(id).map_or(Called { id, name: None, title: "" }, Called::from));
        let called: Vec<Called<'_>> = called.collect();
        let shown = format!("`gnomon events show {}` names them", stored::text(event, "event.id").unwrap_or_default());
        let named = self.also.iter().filter(|also| *also != CLASS);
        let id = |also: &String| {
            let unknown = || format!("`{}` is none of the other rules that matched this event", clean(also));
            let found = meant(also, called.iter().copied()).map_err(|unclear| unclear.complaint(also, unknown, &shown))?;
            Ok(found.id.to_owned())
        };
        named.map(id).collect()
    }

    /// The exception as it would be written; it is known to act.
    fn exempted(&self, event: &Event, config: &Config) -> Result<Exempted> {
        let fields = self.fields(event)?;
        let mut read = RuleText::of(&config.rules)?;
        let Some(file) = ExceptionFile::of(event, self.chosen.state(), config) else {
            return Err(Complaint::usage("there is no folder for exceptions").next("name one as rules.triage in the configuration").into());
        };
        let name = file.path.display().to_string();
        let silenced = self.silenced(event, &read.compile(Lint::Skip)?)?;
        let (owner, until) = (self.owner.clone().unwrap_or_else(whoever), self.until.as_deref());
        let Silenced { rules, stay } = &silenced;
        let exception = Exception { event, fields: &fields, rules, stay, owner: Some(&owner), reason: Some(&self.reason), until };
        let text = file::sealed(exception.text());
        // Bad rules would keep the exception from acting, so all are compiled with it before it is written.
        read.sources.retain(|source| source.name != name);
        read.sources.push(Source { name: name.clone(), text: text.clone(), origin: Origin::Admin });
        let set = read.compile(Lint::Skip)?;
        let acts = set.filters().iter().any(|filter| filter.file == name && matches!(filter.status, FilterStatus::Acts(_)));
        if !acts {
            return Err(Complaint::usage("the exception would do nothing: its time is over, or none of its rules is loaded").into());
        }
        Ok(Exempted { file, text, silenced })
    }
}

/// Value of `--also`: all rules of the event's class that matched.
const CLASS: &str = "class";

/// The rules that matched an event.
struct Silenced {
    /// The rules that an exception is for; the one that decided comes first.
    rules: Vec<Named>,
    stay: Vec<Named>,
}

/// An exception before it is written.
struct Exempted {
    file: ExceptionFile,
    text: String,
    silenced: Silenced,
}

fn whoever() -> String {
    let caller = caller();
    caller.user.unwrap_or_else(|| caller.login_uid.unwrap_or(caller.uid).to_string())
}

fn shown(event: &Event, field: &str) -> String {
    format!("{field} = {}", clean(&stored::text(event, field).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
