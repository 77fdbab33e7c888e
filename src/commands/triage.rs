//! `gnomon triage`: an analyst's verdict on a detection. A benign one becomes an exception: a Sigma filter file, so that it
//! can be seen, reviewed and taken elsewhere, and ends by itself.

use crate::{
    commands::{
        review::caller,
        rules::{Chosen, matched},
    },
    complaint::Complaint,
    config,
    line::clean,
    rule_files::RuleText,
    scaffold::{Exception, NARROW, Named},
    stored::{self, Event},
};
use anyhow::Result;
use clap::{Args, ValueEnum};
use gnomon_engine::{Lint, Origin, RuleSet, Source};
use gnomon_kit::unix_millis;
use gnomon_ledger::{Verdict, VerdictKind};
use gnomon_observe::Class;
use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

#[derive(Args)]
pub struct Triage {
    #[command(flatten)]
    chosen: Chosen,
    /// The event's id, or the beginning of it
    #[arg(value_name = "EVENT-ID")]
    event: String,
    /// What it was
    #[arg(value_enum)]
    verdict: Judged,
    /// The day after which, or the moment at which, the exception ends: 2026-12-31, 2026-12-31T18:00:00Z
    #[arg(long, value_name = "DATE", required_if_eq("verdict", "benign"))]
    until: Option<String>,
    /// Why, in one line
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who answers for it [default: whoever runs this]
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Silence this rule too, which matched the same call: its id, or how that begins; `class` for all of the event's class
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    also: Vec<String>,
    /// Leave these out of what must be the same (user.name, server.address, gen_ai.tool.name)
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    wider: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Judged {
    /// No finding: the rule that decided makes an exception of it
    Benign,
    /// A finding: noted beside the event
    Confirmed,
}

impl Triage {
    pub fn run(self) -> Result<()> {
        let ledger = self.chosen.state().ledger()?;
        let event = stored::event(&ledger, &self.event)?;
        let owner = self.owner.clone().unwrap_or_else(whoever);
        let written = match self.verdict {
            Judged::Benign => Some(self.except(&event, &owner)?),
            Judged::Confirmed if !self.also.is_empty() => {
                return Err(Complaint::usage("--also is for what is benign").into());
            }
            Judged::Confirmed => None,
        };
        let id = stored::text(&event, "event.id").unwrap_or_default();
        let verdict = Verdict {
            event: id.clone(),
            kind: match self.verdict {
                Judged::Benign => VerdictKind::Benign,
                Judged::Confirmed => VerdictKind::Confirmed,
            },
            owner,
            reason: self.reason.clone(),
            until: self.until.clone(),
            file: written.as_ref().map(|written| written.path.display().to_string()),
        };
        let decided = self.chosen.settle()?.decided(&self.chosen.state().dir()?);
        if let Err(error) = stored::runtime()?.block_on(decided.judge(&verdict, caller(), unix_millis(SystemTime::now()))) {
            // No exception without somebody who answers for it.
            if let Some(Written { path, .. }) = &written {
                let _ = fs::remove_file(path);
            }
            return Err(error.into());
        }
        let mut out = io::stdout().lock();
        match written {
            Some(Written { path, silenced }) => {
                writeln!(out, "{} written: a running gnomon takes it up within seconds", path.display())?;
                writeln!(
                    out,
                    "what it excepts: {}",
                    self.fields(&event)?.iter().map(|field| shown(&event, field)).collect::<Vec<_>>().join(", ")
                )?;
                writeln!(out, "which of it is silenced:")?;
                silenced.rules.iter().try_for_each(|rule| writeln!(out, "  {rule}"))?;
                if !silenced.stay.is_empty() {
                    writeln!(out, "what matched as well, and goes on being told (--also ID silences it too):")?;
                    silenced.stay.iter().try_for_each(|rule| writeln!(out, "  {rule}"))?;
                }
                writeln!(
                    out,
                    "until {}; see it with `gnomon rules list --filters`, end it by deleting the file",
                    self.until.as_deref().unwrap_or("-")
                )?;
            }
            None => writeln!(out, "{id} is noted as confirmed")?,
        }
        Ok(())
    }

    /// What must be the same.
    fn fields(&self, event: &Event) -> Result<Vec<String>, Complaint> {
        if let Some(unknown) = self.wider.iter().find(|field| !NARROW.contains(&field.as_str())) {
            return Err(Complaint::usage(format!("`{unknown}` is not among what an exception is narrowed by"))
                .next(format!("--wider takes {}; `gnomon rules new --exception` begins one to edit", NARROW.join(", "))));
        }
        let kept = NARROW.iter().filter(|field| event.contains_key(**field) && !self.wider.iter().any(|wider| wider == *field));
        let fields: Vec<String> = kept.map(|field| (*field).to_owned()).collect();
        if fields.is_empty() {
            return Err(Complaint::usage("nothing would be left that must be the same: the rules would be off")
                .next("leave out less with --wider, or switch a rule off in overrides.yml"));
        }
        Ok(fields)
    }

    /// Which rules the exception is for. The event stands for one finding: the rule that decided, and with a rule of class `mcp`,
    /// which says that MCP is spoken there, the weaker signs of the same. What else the call was found to be is told on.
    fn silenced(&self, event: &Event, rules: &RuleSet) -> Result<Silenced, Complaint> {
        let (decided, others) = matched(event)?;
        let (deciding, class) = (rules.find(&decided), stored::text(event, "gnomon.detection.class").unwrap_or_default());
        let named = |id: String| {
            let loaded = rules.find(&id).map(|rule| rule.title.to_string());
            Named { title: loaded.or_else(|| stored::text(event, "rule.name").filter(|_| id == decided)), id }
        };
        let all = self.also.iter().any(|also| also == CLASS);
        let mut asked: Vec<&String> = self.also.iter().filter(|also| *also != CLASS).collect();
        let mut silenced = Silenced { rules: vec![named(decided.clone())], stay: Vec::new() };
        for id in others {
            let loaded = rules.find(&id);
            let same = loaded.is_some_and(|rule| rule.class.as_str() == class);
            let weaker = loaded.zip(deciding).is_some_and(|(rule, deciding)| rule.level <= deciding.level);
            let named_here = asked.iter().position(|asked| asked.len() >= 4 && id.starts_with(&asked.to_ascii_lowercase()));
            let taken =
                named_here.map(|place| asked.swap_remove(place)).is_some() || same && (all || class == Class::Mcp.as_str() && weaker);
            if taken { silenced.rules.push(named(id)) } else { silenced.stay.push(named(id)) }
        }
        match asked.first() {
            None => Ok(silenced),
            Some(unknown) => Err(Complaint::usage(format!("`{unknown}` is none of the other rules that matched this event"))
                .next(format!("gnomon events show {} names them", stored::text(event, "event.id").unwrap_or_default()))),
        }
    }

    fn except(&self, event: &Event, owner: &str) -> Result<Written> {
        let config = self.chosen.settle()?;
        let fields = self.fields(event)?;
        let mut read = RuleText::of(&config.rules)?;
        let silenced = self.silenced(event, &read.compile(Lint::Skip)?)?;
        let Some(folder) = config.rules.triage_dir() else {
            return Err(Complaint::usage("there is no folder for exceptions").next("name one as rules.triage in the configuration").into());
        };
        let until = self.until.as_deref();
        let Silenced { rules, stay } = &silenced;
        let exception = Exception { event, fields: &fields, rules, stay, owner: Some(owner), reason: Some(&self.reason), until };
        let id: String =
            stored::text(event, "event.id").unwrap_or_default().chars().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect();
        let path = folder.join(format!("mf_triage_{id}.yml"));
        if path.exists() {
            return Err(Complaint::usage(format!("{} is there already", path.display())).next("edit it, or delete it first").into());
        }
        let text = exception.text();
        // Bad rules would keep the exception from acting, so all are compiled with it before it is written.
        read.sources.push(Source { name: path.display().to_string(), text: text.clone(), origin: Origin::Admin });
        let set = read.compile(Lint::Skip)?;
        let acts = set
            .filters()
            .iter()
            .any(|filter| filter.file == path.display().to_string() && matches!(filter.standing, gnomon_engine::Standing::Acts(_)));
        if !acts {
            return Err(Complaint::usage("the exception would do nothing: its time is over, or none of its rules is loaded").into());
        }
        let in_state = self.chosen.state().dir().is_ok_and(|state| folder == config::triage_in(&state));
        write(&path, &text, in_state)?;
        Ok(Written { path, silenced })
    }
}

/// Of `--also`: all rules of the event's class that matched.
const CLASS: &str = "class";

/// The rules that matched an event.
struct Silenced {
    /// Those that an exception is for; the one that decided comes first.
    rules: Vec<Named>,
    stay: Vec<Named>,
}

/// An exception that was written.
struct Written {
    path: PathBuf,
    silenced: Silenced,
}

/// Whole or not at all, and for the serving process to read, which may be another user. Root writes here: where that user may write as
/// well (`in_state`) the folder must be one and no link to another, and what is written is a new file.
fn write(path: &Path, text: &str, in_state: bool) -> Result<(), Complaint> {
    let failed = |error: io::Error| Complaint::own(format!("cannot write {}: {error}", path.display()));
    let folder = path.parent().unwrap_or(Path::new("."));
    if !in_state && !folder.exists() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let put = || {
        if in_state {
            match rustix::fs::mkdir(folder, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let follow = if in_state { OFlags::NOFOLLOW } else { OFlags::empty() };
        let folder = rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::CLOEXEC | follow, Mode::empty())?;
        let name = path.file_name().unwrap_or_default();
        let draft = format!(".{}.{}", name.to_string_lossy(), std::process::id());
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = fs::File::from(rustix::fs::openat(&folder, &draft, new, Mode::from_raw_mode(0o644))?);
        let mut put = || {
            // Whatever the mask of whoever calls.
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            Ok(rustix::fs::renameat(&folder, &draft, &folder, name)?)
        };
        put().inspect_err(|_: &io::Error| {
            let _ = rustix::fs::unlinkat(&folder, &draft, AtFlags::empty());
        })
    };
    put().map_err(failed)
}

fn whoever() -> String {
    let caller = caller();
    caller.user.unwrap_or_else(|| caller.login_uid.unwrap_or(caller.uid).to_string())
}

fn shown(event: &Event, field: &str) -> String {
    format!("{field} = {}", clean(&stored::text(event, field).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_root_writes_in_the_state_folder_goes_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let folder = dir.path().join("triage.d");
        symlink(&elsewhere, &folder).unwrap();
        let path = folder.join("a.yml");
        assert!(write(&path, "text", true).is_err());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        // A folder that an administrator names may be a link.
        write(&path, "text", false).unwrap();
        assert_eq!(fs::read_to_string(elsewhere.join("a.yml")).unwrap(), "text");

        fs::remove_file(&folder).unwrap();
        let draft = folder.join(format!(".a.yml.{}", std::process::id()));
        write(&path, "first", true).unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "theirs").unwrap();
        symlink(&target, &draft).unwrap();
        assert!(write(&path, "second", true).is_err());
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), fs::read_to_string(&path).unwrap().as_str()), ("theirs", "first"));
        fs::remove_file(&draft).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        write(&path, "third", true).unwrap();
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), fs::read_to_string(&path).unwrap().as_str()), ("theirs", "third"));
    }
}
