//! Has home directories read, each by a process that runs as its owner, and hands what it says to the serving half unread.
//!
//! One after the other, on a thread of its own. A reader that takes too long is ended; one that cannot be ended, as its file system does not
//! answer, is left behind, and its home is not read again until it has gone.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::Child;
use std::sync::mpsc::{self, Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use gnomon_link::{Long, Name, SensorEnd, ToProxy};
use gnomon_local::{Account, READER_WITHIN, accounts, reader};

use crate::{PATIENCE, ServiceError, cost, os};

/// How often it is looked whether a reader has ended.
const LOOK: Duration = Duration::from_millis(20);
/// The pause between two readers, so that all of them together take little of a core.
const PAUSE: Duration = Duration::from_millis(200);
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

/// Starts the thread. It receives tokens of requests, and ends when the sender is dropped or `ending` is closed.
pub(crate) fn start<'scope, 'env>(
    threads: &'scope Scope<'scope, 'env>,
    link: &'env SensorEnd,
    by: HomeReader,
    ending: OwnedFd,
) -> Result<SyncSender<u64>, ServiceError> {
    let (requests, waiting) = sync_channel(1);
    let mut homes = Homes { link, by, ending, left: Vec::new() };
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
}

/// Whether to go on.
enum Next {
    On,
    Over,
}

impl Homes<'_> {
    fn serve(&mut self, waiting: &Receiver<u64>) {
        while let Ok(token) = waiting.recv() {
            self.left.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
            for account in accounts_soon() {
                if self.left.iter().any(|(uid, _)| *uid == account.uid) {
                    continue;
                }
                if let Next::Over = self.read(token, account) {
                    return;
                }
            }
            if let Err(error) = self.link.send(&ToProxy::Done { token }, &[], PATIENCE) {
                tracing::debug!("that homes were read was not taken: {error}");
            }
        }
    }

    fn read(&mut self, token: u64, account: Account) -> Next {
        let mut child = match reader(&account, &self.by.program, &self.by.arguments) {
            Ok(child) => child,
            Err(error) => {
                tracing::warn!("the home directory of {} is not read: {error}", account.name);
                return Next::On;
            }
        };
        if let Some(pipe) = child.stdout.take() {
            let home = ToProxy::Home {
                token,
                uid: account.uid,
                name: Name::cut(&account.name),
                home: Long::lossy(account.home.as_os_str().as_bytes()),
            };
            if let Err(error) = self.link.send(&home, &[pipe.as_fd()], PATIENCE) {
                tracing::debug!("what a home's reader says was not taken: {error}");
            }
        }
        let began = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
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
                return Next::On;
            }
        }
        if cost::is_over(&self.ending, PAUSE) { Next::Over } else { Next::On }
    }
}

/// The accounts, unless a home is on a file system that does not answer: then none, and a thread that waits for it.
fn accounts_soon() -> Vec<Account> {
    let (tell, told) = mpsc::channel();
    let look = move || {
        // Whoever asked may have given up.
        let _ = tell.send(accounts());
    };
    let found = Builder::new().name("accounts".to_owned()).spawn(look).map_err(|error| error.to_string());
    let found = found.and_then(|_| match told.recv_timeout(ACCOUNTS_WITHIN) {
        Ok(accounts) => accounts.map_err(|error| error.to_string()),
        Err(_) => Err(format!("a home directory did not answer within {} s", ACCOUNTS_WITHIN.as_secs())),
    });
    found.unwrap_or_else(|error| {
        tracing::warn!("no home directory is read: {error}");
        Vec::new()
    })
}
