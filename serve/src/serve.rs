//! A running gnomon: everything wired together, started in an order in which nothing is announced
//! before it works, and stopped so that no acknowledged event is lost.

use crate::{
    checking::{Serves, check_listener},
    hangup,
    narrating::Narration,
    roads::{Parts, Roads},
    rule_changes::RuleChanges,
    serving::{Serving, Start},
    starting::Core,
};
use anyhow::Result;
use gnomon_cli::options::ServeFlags;
use gnomon_config::{Config, Jsonl};
use gnomon_resident::Idle;
use gnomon_supervise::service;
use std::{fs, path::Path, time::Duration};

/// How long threads that block on a file or a system call are waited for at the end.
const LAST: Duration = Duration::from_secs(2);
/// When everything that happens once has happened: servers were asked for their lists.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// How often what was freed is handed back to the system.
const HANDED_BACK: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT, by this configuration; it was settled by `flags`, which hold over what is read again too.
///
/// # Errors
/// Why it could not start, or what broke while it ran.
pub fn run(flags: &ServeFlags, config: &Config, state_dir: &Path, narration: Narration, parts: Parts) -> Result<()> {
    let serves = if let Parts::Portals = parts { Serves::Portals } else { Serves::Everything };
    if serves == Serves::Everything {
        check_listener(config)?;
    }
    // Huge pages would hold four times the memory that is used. Where they cannot be refused they only cost memory.
    let _ = nix::sys::prctl::set_thp_disable(true);
    // Paths are absolute, so that messages can be pasted elsewhere.
    let state_dir = &std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    // Two streams of lines in one output could not be told apart.
    let narration = if config.events.jsonl == Jsonl::Stdout { Narration::Silent } else { narration };
    // Before there are other threads, which have it from this one.
    hangup::hold()?;
    // From here on nothing waits for whoever reads the log.
    gnomon_log::write_apart()?;
    let idle = Idle::every(HANDED_BACK);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().on_thread_park(move || idle.waits()).build()?;
    let ended = runtime.block_on(until_stopped(Start { flags, config, state_dir, narration, serves }, parts));
    // All records are written. A thread that hangs in a system call ends with the process.
    runtime.shutdown_timeout(LAST);
    ended
}

async fn until_stopped(start: Start<'_>, parts: Parts) -> Result<()> {
    let Start { config, state_dir, serves, .. } = start;
    // Created to be watched, so that the first exception acts at once. Where it cannot be made, it acts a little later.
    if let Some(folder) = &config.rules.state_triage {
        let _ = fs::create_dir_all(folder);
    }
    // Before the rules are read, so that no change is missed.
    let changes = RuleChanges::of(&config.rules);
    let core = Core::open(config, state_dir, serves).await?;
    let roads = Roads::open(&core, config, state_dir, parts).await?;
    let mut serving = Serving::start(start, core, roads, changes).await?;
    service::ready();
    drop(tokio::spawn(settle()));
    let broke = serving.until_asked().await;
    serving.stop(broke.as_ref()).await;
    broke.map_or(Ok(()), |complaint| Err(complaint.into()))
}

/// Frees memory that only the start needed, some time after it.
async fn settle() {
    tokio::time::sleep(SETTLED_AFTER).await;
    match tokio::task::spawn_blocking(gnomon_resident::give_back_code).await {
        Ok(Ok(bytes)) => tracing::debug!(bytes, "gave back code that only the start needed"),
        Ok(Err(error)) => tracing::debug!("code that only the start needed stays mapped: {error}"),
        Err(_) => {}
    }
}
