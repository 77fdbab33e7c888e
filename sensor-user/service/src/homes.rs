//! Has home directories read, each by a process that runs as its owner, and hands what it says to the serving half unread.
//!
//! One after the other, on a thread of its own. Each reader hands over a watch of what it read, and a home in which something changes is read
//! again. A reader that takes too long is ended; one that cannot be ended, as its file system does not
//! answer, is left behind, and its home is not read again until it has gone.

use std::collections::BTreeSet;
use std::fs::read_link;
use std::io::{self, IoSliceMut, pipe};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use gnomon_link::{Long, Name, SensorEnd, ToProxy};
use gnomon_local::{Account, READER_WITHIN, WHOLE, accounts, reader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg, socketpair};

use crate::{PATIENCE, ServiceError, cost, os};

/// How often it is looked whether a reader has ended.
const LOOK: Duration = Duration::from_millis(20);
/// The pause between two readers, so that all of them together take little of a core.
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked whether something changed in a home.
const NOTICE: Duration = Duration::from_millis(500);
/// What is changed is read after so long, as changes come in several.
const SETTLED: Duration = Duration::from_millis(300);
/// A home is read again after so long at the earliest, however often it changes.
const AGAIN: Duration = Duration::from_secs(10);
/// The most homes that are watched; others are read when all are.
const MOST_WATCHED: usize = 256;
/// The time within which it must be known which accounts have a home.
const ACCOUNTS_WITHIN: Duration = Duration::from_secs(15);

/// The program that reads a home: its path, and arguments to which the directory is appended.
#[derive(Clone, Debug)]
pub struct HomeReader {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A request.
pub(crate) struct Reading {
    /// Comes back with the answers.
    pub token: u64,
    pub which: Which,
}

/// The homes that a request is about.
pub(crate) enum Which {
    All,
    /// Those that change, once they do.
    Changed,
}

/// Starts the thread. It receives requests, and ends when the sender is dropped or `ending` is closed.
pub(crate) fn start<'scope, 'env>(
    threads: &'scope Scope<'scope, 'env>,
    link: &'env SensorEnd,
    by: HomeReader,
    ending: OwnedFd,
) -> Result<SyncSender<Reading>, ServiceError> {
    let (requests, waiting) = sync_channel(1);
    let mut homes = Homes { link, by, ending, left: Vec::new(), watched: None, unwatched: BTreeSet::new(), asked: None };
    let body = move || homes.serve(&waiting);
    Builder::new().name("homes".to_owned()).spawn_scoped(threads, body).map_err(os::<io::Error>("start a thread"))?;
    Ok(requests)
}

struct Homes<'env> {
    link: &'env SensorEnd,
    by: HomeReader,
    ending: OwnedFd,
    /// Readers that could not be ended, and whose home they are in.
    left: Vec<(u32, Child)>,
    /// None before the first time that homes were read.
    watched: Option<Vec<Watched>>,
    /// Whose homes are read but not watched: each is told once.
    unwatched: BTreeSet<u32>,
    /// The token of a request for what changes.
    asked: Option<u64>,
}

/// A home that was read, and is watched since before it was.
struct Watched {
    account: Account,
    changes: OwnedFd,
    began: Instant,
}

/// How much of a home its watch has.
enum Parts {
    All,
    Some,
}

/// Whether to go on.
enum Next {
    On,
    Over,
}

impl Homes<'_> {
    fn serve(&mut self, requests: &Receiver<Reading>) {
        loop {
            let request = match self.asked {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => requests.recv_timeout(NOTICE),
            };
            let next = match request {
                Ok(reading) => self.take_up(&reading),
                Err(RecvTimeoutError::Timeout) => self.notice(),
                Err(RecvTimeoutError::Disconnected) => Next::Over,
            };
            if let Next::Over = next {
                return;
            }
        }
    }

    fn take_up(&mut self, reading: &Reading) -> Next {
        if let Some(token) = self.asked.take() {
            self.done(token);
        }
        match reading.which {
            Which::Changed if self.watched.is_some() => {
                self.asked = Some(reading.token);
                Next::On
            }
            Which::All | Which::Changed => {
                self.watched = Some(Vec::new());
                let accounts = accounts_soon().unwrap_or_else(|error| {
                    tracing::warn!("no home directory is read: {error}");
                    let all = Account { name: "every account".to_owned(), uid: 0, gid: 0, home: "/".into() };
                    self.tell_unread(reading.token, &all);
                    Vec::new()
                });
                self.read_all(reading.token, accounts)
            }
        }
    }

    /// Reads the homes in which something changed.
    fn notice(&mut self) -> Next {
        let (Some(token), Some(watched)) = (self.asked, &mut self.watched) else { return Next::On };
        let changed: Vec<Account> = watched.iter().filter(|home| home.has_changed()).map(|home| home.account.clone()).collect();
        if changed.is_empty() {
            return Next::On;
        }
        if cost::is_over(&self.ending, SETTLED) {
            return Next::Over;
        }
        watched.retain(|home| !changed.contains(&home.account));
        self.asked = None;
        self.read_all(token, changed)
    }

    fn read_all(&mut self, token: u64, accounts: Vec<Account>) -> Next {
        self.left.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        for account in accounts {
            if self.left.iter().any(|(uid, _)| *uid == account.uid) {
                self.tell_unread(token, &account);
                continue;
            }
            if let Next::Over = self.read(token, account) {
                return Next::Over;
            }
        }
        self.done(token);
        Next::On
    }

    fn is_not_watched(&mut self, account: &Account, why: &str) {
        if self.unwatched.insert(account.uid) {
            tracing::warn!(
                "the home directory of {} is not watched as a whole: {why}; what changes beyond that is told when all homes are read next",
                account.name
            );
        }
    }

    fn tell(&self, token: u64, account: &Account, said: BorrowedFd<'_>) {
        let home = ToProxy::Home {
            token,
            uid: account.uid,
            name: Name::cut(&account.name),
            home: Long::lossy(account.home.as_os_str().as_bytes()),
        };
        if let Err(error) = self.link.send(&home, &[said], PATIENCE) {
            tracing::debug!("what a home's reader says was not taken: {error}");
        }
    }

    /// Tells of a home that has no reader, as of one whose reader says nothing.
    fn tell_unread(&self, token: u64, account: &Account) {
        match pipe() {
            Ok((said, _)) => self.tell(token, account, said.as_fd()),
            Err(error) => tracing::debug!("that a home is not read cannot be told: {error}"),
        }
    }

    fn done(&self, token: u64) {
        if let Err(error) = self.link.send(&ToProxy::Done { token }, &[], PATIENCE) {
            tracing::debug!("that homes were read was not taken: {error}");
        }
    }

    fn read(&mut self, token: u64, account: Account) -> Next {
        let began = Instant::now();
        let started = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(io::Error::from);
        let started =
            started.and_then(|(ours, theirs)| Ok((ours, reader(&account, &self.by.program, &self.by.arguments, Stdio::from(theirs))?)));
        let (handed, mut child) = match started {
            Ok(started) => started,
            Err(error) => {
                tracing::warn!("the home directory of {} is not read: {error}", account.name);
                self.tell_unread(token, &account);
                return Next::On;
            }
        };
        if let Some(pipe) = child.stdout.take() {
            self.tell(token, &account, pipe.as_fd());
        }
        let ended = loop {
            match child.try_wait() {
                Ok(None) => {}
                ended => break ended,
            }
            let is_over = cost::is_over(&self.ending, LOOK);
            if is_over || began.elapsed() > READER_WITHIN {
                // An error means that it has ended by itself.
                let _ = child.kill();
                if cost::is_over(&self.ending, LOOK) {
                    return Next::Over;
                }
                if let Ok(None) = child.try_wait() {
                    tracing::warn!("the reader of the home directory of {} cannot be ended", account.name);
                    self.left.push((account.uid, child));
                }
                self.is_not_watched(&account, "its reader was ended, as it took too long");
                return Next::On;
            }
        };
        let watched = self.watched.get_or_insert_default();
        if watched.len() >= MOST_WATCHED {
            self.is_not_watched(&account, &format!("{MOST_WATCHED} homes are watched already"));
        } else if let Some((changes, parts)) = watch_of(&handed) {
            watched.push(Watched { account: account.clone(), changes, began });
            match parts {
                Parts::All => _ = self.unwatched.remove(&account.uid),
                Parts::Some => {
                    self.is_not_watched(&account, "it has too many folders, or its owner has no more watches (fs.inotify.max_user_watches)")
                }
            }
        } else if let Some(ended) = ended.ok().flatten().filter(|ended| !ended.success()) {
            self.is_not_watched(&account, &format!("its reader ended before it had read it ({ended})"));
        } else {
            self.is_not_watched(&account, "its owner may have no more of them (fs.inotify.max_user_instances)");
        }
        if cost::is_over(&self.ending, PAUSE) { Next::Over } else { Next::On }
    }
}

impl Watched {
    /// Whether something changed in it, and it may be read again.
    fn has_changed(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.began.elapsed() >= AGAIN && poll(&mut [PollFd::new(&self.changes, PollFlags::IN)], Some(&now)).is_ok_and(|changed| changed > 0)
    }
}

/// The watch that a reader hands over. Its owner can change what it does, so it may be any file: one that is none is looked at no further, and
/// closed where nobody waits for it, as a file system of theirs may not answer.
fn watch_of(handed: &OwnedFd) -> Option<(OwnedFd, Parts)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut says = [0];
    recvmsg(handed, &mut [IoSliceMut::new(&mut says)], &mut control, flags).ok()?;
    let descriptors = control.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let (mut watches, others): (Vec<OwnedFd>, Vec<OwnedFd>) = descriptors.flatten().partition(is_watch);
    if !others.is_empty() {
        // Without a thread they are closed here.
        let _ = Builder::new().name("closing".to_owned()).spawn(move || drop(others));
    }
    let parts = if says == [WHOLE] { Parts::All } else { Parts::Some };
    watches.pop().map(|watch| (watch, parts))
}

fn is_watch(descriptor: &OwnedFd) -> bool {
    read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).is_ok_and(|to| to == Path::new("anon_inode:inotify"))
}

/// The accounts, unless a home is on a file system that does not answer: then why not, and a thread that waits for it.
fn accounts_soon() -> Result<Vec<Account>, String> {
    let (tell, told) = mpsc::channel();
    let look = move || {
        // Whoever asked may have given up.
        let _ = tell.send(accounts());
    };
    let found = Builder::new().name("accounts".to_owned()).spawn(look).map_err(|error| error.to_string());
    found.and_then(|_| match told.recv_timeout(ACCOUNTS_WITHIN) {
        Ok(accounts) => accounts.map_err(|error| error.to_string()),
        Err(_) => Err(format!("a home directory did not answer within {} s", ACCOUNTS_WITHIN.as_secs())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::inotify;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::fs::File;
    use std::io::IoSlice;

    #[test]
    fn only_a_watch_is_taken_of_a_reader_whatever_else_it_hands_over() {
        let watch = || inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        let file = || OwnedFd::from(File::open("/proc/self/status").unwrap());
        for (handed, is_taken) in [(vec![watch()], true), (vec![file()], false), (vec![file(), watch()], true), (vec![], false)] {
            let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
            if !handed.is_empty() {
                let descriptors: Vec<_> = handed.iter().map(|descriptor| descriptor.as_fd()).collect();
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
                sendmsg(&theirs, &[IoSlice::new(b"w")], &mut control, SendFlags::empty()).unwrap();
            }
            assert_eq!(watch_of(&ours).is_some(), is_taken, "{handed:?}");
        }
    }
}
