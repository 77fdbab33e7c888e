//! Reloading while gnomon runs: rules, and the configuration of portals. If the new one is invalid, or a file does not answer, the one
//! before stays in force.
//!
//! Files are read on threads of their own and not for long: a pipe or a folder on a network that hangs holds up neither traffic nor a stop.

use crate::{
    changes::{By, Change, Changes, of_rules},
    checking::{self, Serves},
    last_rules,
    regulated::Regulated,
    rule_changes::RuleChanges,
};
use anyhow::{Context as _, Result, bail};
use gnomon_cli::{Complaint, options::ServeFlags, rule_files::RuleText};
use gnomon_config::{self as config, Config};
use gnomon_engine::Lint;
use gnomon_inspect::Inspector;
use gnomon_record::{Metrics, Recorder, Reload};
use parking_lot::Mutex;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

/// How often the clock is looked at while an exception is to end.
const CLOCK: Duration = Duration::from_secs(10);
/// The timeout of reading files.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most readings that wait for files which do not answer: each has a thread.
const MOST_HANGING: usize = 4;

/// Readings that have not ended.
static READING: AtomicUsize = AtomicUsize::new(0);

/// Reads files apart from everything else, within bounds.
async fn apart<T: Send + 'static>(read: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    apart_within(PATIENCE, read).await
}

async fn apart_within<T: Send + 'static>(patience: Duration, read: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    if READING.fetch_add(1, Ordering::Relaxed) >= MOST_HANGING {
        READING.fetch_sub(1, Ordering::Relaxed);
        bail!("files that were to be read before still do not answer");
    }
    let (tell, told) = oneshot::channel();
    let reading = move || {
        let _ = tell.send(read());
        READING.fetch_sub(1, Ordering::Relaxed);
    };
    // Not one of the runtime's, which a stop waits for.
    thread::Builder::new().name("reading".to_owned()).spawn(reading).context("starting a thread")?;
    match timeout(patience, told).await {
        Ok(read) => read.context("the reading ended by a defect")?,
        Err(_) => bail!(
            "files that the configuration names did not answer within {} s; look for pipes, and for folders on a network that is away",
            patience.as_secs()
        ),
    }
}

/// A reload that was asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Numbers them, from 1.
    pub number: u64,
    /// Who asked.
    pub by: By,
}

/// The log of reloads. Two parts answer each that is asked for, whichever is done first: the last line must not read as if all were well
/// where one was refused.
#[derive(Clone, Debug, Default)]
pub struct ReloadLog(Arc<Mutex<Refused>>);

/// The newest refusal.
#[derive(Debug, Default)]
struct Refused {
    ask: u64,
    part: &'static str,
}

impl ReloadLog {
    /// Says how a part of a reload ended; `ask` is none where nobody asked.
    fn say(&self, ask: Option<u64>, part: &'static str, outcome: Reload, told: &str) {
        let mut refused = self.0.lock();
        let beside = match (ask, outcome) {
            (Some(ask), Reload::Failure) => {
                *refused = Refused { ask, part };
                String::new()
            }
            (Some(ask), Reload::Success) if refused.ask == ask && refused.part != part => {
                format!("gnomon: but {} not reloaded, for the reason above\n", refused.part)
            }
            (Some(_) | None, _) => String::new(),
        };
        // In one piece, so that whoever reads along sees all of it.
        gnomon_log::write(&format!("gnomon: {told}\n{beside}"));
    }
}

/// The rules of a running gnomon.
pub struct RuleKeeping {
    /// The paths.
    pub rules: config::Rules,
    /// The rules in force, as they were read.
    pub read: RuleText,
    /// The state folder, where they are kept.
    pub state_dir: PathBuf,
    /// The inspector that they are put in force in.
    pub inspector: Arc<Inspector>,
    /// The recorder that counts reloads.
    pub recorder: Arc<Recorder>,
    /// The record of changes.
    pub told: Changes,
    /// The log of reloads.
    pub log: ReloadLog,
}

impl RuleKeeping {
    /// Puts rules in force when they change, when that is asked for, and without an exception when it ends.
    pub async fn run(mut self, mut changes: RuleChanges, mut asked: watch::Receiver<Ask>) {
        loop {
            tokio::select! {
                ask = asker(&mut asked) => self.reload(&ask.by, Some(ask.number)).await,
                () = changes.next() => self.reload(&By::Files, None).await,
                () = comes(self.inspector.rules().next_expiry()) => self.expire(),
            }
        }
    }

    /// Puts the rules as they stand on disk into force; the old ones stay when those are bad.
    async fn reload(&mut self, by: &By, ask: Option<u64>) {
        let (named, state_dir, metrics) = (self.rules.clone(), self.state_dir.clone(), self.recorder.metrics());
        let loaded = apart(move || {
            let now = RuleText::of(&named)?;
            let rules = now.compile(Lint::Skip)?;
            last_rules::keep(&state_dir, &now);
            Ok((now, rules))
        });
        // The log has the result either way, for the sender of the signal or the author of the file.
        let (outcome, told) = match loaded.await {
            Ok((now, rules)) => {
                self.told.tell(by, of_rules((&self.read, &self.inspector.rules()), (&now, &rules)));
                self.read = now;
                metrics.rules_replaced(&rules);
                let count = rules.rules().len();
                self.inspector.replace_rules(Arc::new(rules));
                let hint = match self.inspector.rules().warnings().len() {
                    0 => String::new(),
                    warnings => format!("; {warnings} warnings, which `gnomon rules check` shows"),
                };
                (Reload::Success, format!("rules reloaded: {count} are in force; requests that are under way keep theirs{hint}"))
            }
            Err(error) => {
                self.told.tell(by, vec![Change::failed(&format!("rules were not reloaded: {error:#}"))]);
                (Reload::Failure, format!("rules not reloaded, those from before stay in force:\n{}", told(&error)))
            }
        };
        metrics.rules_reloaded(outcome);
        self.log.say(ask, "rules were", outcome, &told);
    }

    /// An exception has ended: the rules in force without it, also where their files are bad by now.
    fn expire(&self) {
        // They compiled before, and an expiry causes no error.
        let Ok(rules) = self.read.compile(Lint::Skip) else { return };
        let metrics: &Metrics = self.recorder.metrics();
        metrics.rules_replaced(&rules);
        self.inspector.replace_rules(Arc::new(rules));
        self.told.tell(&By::Clock, vec![Change::expired()]);
        gnomon_log::say(format_args!("an exception has expired and no longer acts: `gnomon rules list --filters` shows them"));
    }
}

/// The error, and what to do.
fn told(error: &anyhow::Error) -> String {
    let next = error.downcast_ref::<Complaint>().and_then(|complaint| complaint.next.as_ref());
    format!("{error:#}{}", next.map(|next| format!("\n  next: {next}")).unwrap_or_default())
}

/// The configuration of a running gnomon.
pub struct Regulating {
    /// The configuration at the start.
    pub begun: Config,
    /// The flags that override the file.
    pub flags: ServeFlags,
    /// The parts that serve.
    pub serves: Serves,
    /// The portals.
    pub regulated: Regulated,
    /// The recorder that counts reloads.
    pub recorder: Arc<Recorder>,
    /// The record of changes.
    pub told: Changes,
    /// The log of reloads.
    pub log: ReloadLog,
}

impl Regulating {
    /// Puts the portals' policies, log-ins and servers as they stand in the configuration into force, each time that is asked; the
    /// old ones stay where anything is wrong that would keep gnomon from starting. An identity provider may be waited for, so nothing else waits for this.
    pub async fn run(self, mut asked: watch::Receiver<Ask>) {
        if self.begun.file.is_none() {
            return;
        }
        let mut in_force = self.begun.clone();
        loop {
            let Ask { number, by } = asker(&mut asked).await;
            let (outcome, told) = match self.reload(&in_force).await {
                Ok((now, told, changed)) => {
                    self.told.tell(&by, changed);
                    in_force = now;
                    (Reload::Success, told)
                }
                Err(error) => {
                    self.told.tell(&by, vec![Change::failed(&format!("the configuration was not reloaded: {error:#}"))]);
                    let told = format!(
                        "the configuration was not reloaded, the portals' servers, log-ins and policies from before stay in force:\n{error:#}"
                    );
                    (Reload::Failure, told)
                }
            };
            self.recorder.metrics().configuration_reloaded(outcome);
            self.log.say(Some(number), "the configuration was", outcome, &told);
        }
    }

    async fn reload(&self, in_force: &Config) -> Result<(Config, String, Vec<Change>)> {
        let file = self.begun.file.clone().context("there is no configuration file to read again")?;
        let (flags, serves) = (self.flags.clone(), self.serves);
        let (regulated, begun, before) = (self.regulated.clone(), self.begun.clone(), in_force.clone());
        let prepared = apart(move || {
            let (now, _) = flags.settle_again(&file)?;
            checking::check(&now, serves)?;
            checking::credentials(&now)?;
            regulated.prepare(&begun, &before, now)
        });
        Ok(self.regulated.by(&self.begun, in_force, prepared.await?).await)
    }
}

/// Waits for the next request of a reload.
async fn asker(asked: &mut watch::Receiver<Ask>) -> Ask {
    match asked.changed().await {
        Ok(()) => asked.borrow_and_update().clone(),
        Err(_) => std::future::pending().await,
    }
}

/// Waits until the clock reaches `moment`. Polled, as clocks are adjusted.
async fn comes(moment: Option<SystemTime>) {
    let Some(moment) = moment else { return std::future::pending().await };
    while let Ok(left) = moment.duration_since(SystemTime::now()) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(CLOCK)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn what_does_not_answer_is_given_up_and_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let named = pipe.clone();
        let error = apart_within(Duration::from_secs(1), move || Ok(fs::read(named)?)).await.unwrap_err().to_string();
        assert!(error.contains("did not answer within 1 s"), "{error}");
        assert_eq!(apart(|| Ok(1)).await.unwrap(), 1);
        // The thread ends with the pipe.
        drop(fs::OpenOptions::new().write(true).open(&pipe).unwrap());
    }
}
