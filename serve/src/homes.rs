//! The configuration files of MCP clients in the home directories of this host: each server that they list is told when it comes, changes
//! and goes, and is in the inventory with who has it.
//!
//! The sensor starts the readers, and this process reads what they say. What was told is kept in the state folder, so that a restart tells
//! nothing again.

use crate::apart::apart;
use gnomon_inspect::{Inspector, judge_local, normal_host};
use gnomon_link::Homes;
use gnomon_local::{Addon, Change, FoundFile, Kept, Listed, ListedServer, MAX_ANSWER, READER_WITHIN, Reached, Sign, What, describe, said};
use gnomon_observe::{Channel, Field, Observation};
use gnomon_record::{Recorder, this_host};
use gnomon_watch::{Home, Watch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smol_str::SmolStr;
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, sleep, timeout},
};
use url::Url;

/// The time from the start to the first look, and between attempts while there is no sensor.
const FIRST: Duration = Duration::from_secs(5);
/// Longest that the next home is waited for.
const HOME_WITHIN: Duration = Duration::from_secs(60);
/// Longest that what a reader says is waited for: the sensor ends it before.
const SAID_WITHIN: Duration = READER_WITHIN.saturating_add(Duration::from_secs(5));
/// Most bytes of the file that keeps what was told.
const LONGEST: u64 = 64 << 20;

/// Reads homes again and again.
pub struct Homing {
    pub watch: Arc<Watch>,
    pub inspector: Arc<Inspector>,
    pub recorder: Arc<Recorder>,
    pub state_dir: PathBuf,
    pub homes: Homes,
    pub every: Duration,
}

impl Homing {
    /// Until it is aborted.
    pub async fn run(self) {
        let mut known = Known { kept: kept(&self.state_dir), is_read: BTreeMap::new() };
        self.watch.listed(known.kept.places());
        sleep(FIRST).await;
        loop {
            let next = Instant::now() + self.every;
            if let Ok(homes) = self.watch.read_homes(self.homes).await {
                // Of all of them, so that one that is gone is not counted.
                known.is_read.clear();
                self.look(homes, HOME_WITHIN, &mut known).await;
                self.follow(next, &mut known).await;
            } else {
                sleep(FIRST).await;
            }
        }
    }

    /// Looks at what changes, until then.
    async fn follow(&self, end: Instant, known: &mut Known) {
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let looked = match self.watch.read_changed_homes(self.homes).await {
                Ok(homes) => self.look(homes, left, known).await,
                Err(_) => Looked::AtNone,
            };
            if let Looked::AtNone = looked {
                sleep(left.min(FIRST)).await;
            }
        }
    }

    /// Looks at these homes, of which the first may take so long.
    async fn look(&self, mut homes: Receiver<Home>, mut within: Duration, known: &mut Known) -> Looked {
        let (before, mut looked) = (known.kept.clone(), Looked::AtNone);
        while let Ok(Some(home)) = timeout(within, homes.recv()).await {
            (within, looked) = (HOME_WITHIN, Looked::AtSome);
            let Home { uid, name, home, said } = home;
            let of = (uid, home.clone());
            let files = match apart(move || read(File::from(said), SAID_WITHIN)).await.and_then(|files| files) {
                Ok(files) => files,
                Err(error) => {
                    known.is_read.insert(of, false);
                    tracing::warn!("the configuration files of {name} below {} are not known: {error}", home.display());
                    continue;
                }
            };
            known.is_read.insert(of, true);
            for change in known.kept.take(uid, &home, files) {
                self.recorder.report(judge_local(&self.inspector, observe(uid, &name, &change)));
            }
        }
        let read = known.is_read.values().filter(|is_read| **is_read).count();
        self.watch.homes_known(read, known.is_read.len() - read);
        if known.kept != before {
            self.watch.listed(known.kept.places());
            if let Err(error) = keep(&self.state_dir, &known.kept) {
                tracing::warn!("what configuration files list is told again after a restart, as it cannot be kept: {error}");
            }
        }
        looked
    }
}

/// What is known of the homes.
struct Known {
    kept: Kept,
    /// Of each that was looked at since all were: whether its reader said what there is.
    is_read: BTreeMap<(u32, PathBuf), bool>,
}

/// Whether anything was read.
enum Looked {
    AtSome,
    AtNone,
}

/// What a reader says, within a time: it is ended within seconds, but its owner can have kept the end that it writes to.
fn read(mut pipe: File, within: Duration) -> io::Result<Vec<FoundFile>> {
    let end = Instant::now() + within;
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&timeout))? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("what its reader says did not end within {} s", within.as_secs())));
        }
        match pipe.read(&mut piece)? {
            0 => return said(&bytes),
            read => bytes.extend_from_slice(piece.get(..read).unwrap_or_default()),
        }
        if bytes.len() as u64 > MAX_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("its reader says more than {MAX_ANSWER} bytes")));
        }
    }
}

/// A change as evidence.
fn observe(uid: u32, name: &str, change: &Change) -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::Channel, Channel::Config.as_str());
    seen.set(Field::Vantage, "config");
    seen.set(Field::HostName, this_host());
    seen.set(Field::UserId, uid.to_string());
    seen.set(Field::UserName, name);
    seen.set(Field::ConfigClient, change.client.as_str());
    seen.set(Field::ConfigPath, change.path.as_str());
    seen.set(Field::ConfigChange, change.what.as_str());
    seen.set_some(Field::ConfigEntry, Some(change.entry.as_str()).filter(|entry| !entry.is_empty()));
    seen.set_some(Field::Message, change.why.as_deref());
    match change.kind {
        _ if change.what == What::Unread => {}
        Some(kind) => seen.set(Field::ConfigKind, kind.as_str()),
        None => {
            seen.set(Field::ConfigKind, "server");
            seen.set(Field::LocalKnownBy, Sign::Config.as_str());
        }
    }
    seen.set_some(Field::LocalServer, change.place.as_deref());
    match &change.now {
        Some(Listed::Server(server)) => of_server(&mut seen, server),
        Some(Listed::Addon(addon)) => of_addon(&mut seen, addon),
        None => {}
    }
    seen
}

fn of_addon(seen: &mut Observation, addon: &Addon) {
    seen.set_some(Field::ConfigHash, addon.sha256.as_deref());
    seen.set_some(Field::ConfigRuns, addon.runs.as_ref().map(|runs| runs.place(None)));
    let partly = (!addon.whole).then_some("it is larger than what is read: its digest has the rest by names and sizes");
    seen.set_some(Field::Message, addon.unread.as_deref().or(partly));
}

fn of_server(seen: &mut Observation, server: &ListedServer) {
    match &server.reached {
        Reached::Url(url) => {
            if let Ok(parsed) = Url::parse(url)
                && let Some(host) = parsed.host_str()
            {
                seen.set(Field::ServerAddress, normal_host(host));
                seen.set_some(Field::ServerPort, parsed.port_or_known_default());
                seen.set(Field::UrlPath, parsed.path());
            }
            seen.set(Field::UrlFull, url.as_str());
        }
        Reached::Stdio(launch) => describe(seen, launch, None),
    }
    let secrets: Vec<SmolStr> = server.secrets.iter().map(|secret| SmolStr::new(format!("{} {}", secret.place, secret.kind))).collect();
    seen.set_some(Field::ConfigSecrets, Some(secrets).filter(|secrets| !secrets.is_empty()));
}

fn file_in(state_dir: &Path) -> PathBuf {
    state_dir.join("homes.json")
}

/// What was told before; nothing where that is not known.
fn kept(state_dir: &Path) -> Kept {
    let file = file_in(state_dir);
    let read = || -> io::Result<Kept> {
        let mut bytes = Vec::new();
        File::open(&file)?.take(LONGEST).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    match read() {
        Ok(kept) => kept,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
        Err(error) => {
            tracing::warn!("{}: {error}; what configuration files list is told anew", file.display());
            Kept::default()
        }
    }
}

fn keep(state_dir: &Path, kept: &Kept) -> io::Result<()> {
    let draft = state_dir.join("homes.draft");
    let _ = fs::remove_file(&draft);
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&draft)?;
    written.write_all(&serde_json::to_vec(kept)?)?;
    written.sync_all()?;
    fs::rename(&draft, file_in(state_dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::pipe;

    #[test]
    fn an_end_of_a_reader_s_pipe_that_its_owner_kept_holds_up_nobody() {
        let (from, mut to) = pipe().unwrap();
        to.write_all(b"[]").unwrap();
        let began = Instant::now();
        let error = read(File::from(std::os::fd::OwnedFd::from(from)), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(20));
        let (from, mut to) = pipe().unwrap();
        to.write_all(b"[]").unwrap();
        drop(to);
        assert!(read(File::from(std::os::fd::OwnedFd::from(from)), Duration::from_secs(20)).unwrap().is_empty());
    }
}
