//! The home directories of a host's accounts, each read by a process of its own that runs as their owner.

use crate::scan::{FoundFile, MAX_FILES};
use serde::Serialize;
use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// The most accounts that are looked at.
const MAX_ACCOUNTS: usize = 4096;
/// The most bytes that are taken of a reader.
pub const MAX_ANSWER: u64 = 8 << 20;
/// How long a reader may take. Home directories may be on file systems that hang.
pub const READER_WITHIN: Duration = Duration::from_secs(15);

/// An account with a home directory of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
}

/// An account and what its clients' files list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The account.
    #[serde(flatten)]
    pub account: Account,
    /// The files.
    pub files: Vec<FoundFile>,
    /// Why the home directory was not read.
    pub unread: Option<String>,
}

/// The accounts of `/etc/passwd` whose home directory is there and theirs. Accounts of a directory service are not listed there; name them
/// with their home.
///
/// # Errors
/// The file cannot be read.
pub fn accounts() -> io::Result<Vec<Account>> {
    // A name in an older character set is one account's, and hides no other.
    let passwd = fs::read("/etc/passwd")?;
    Ok(accounts_in(&String::from_utf8_lossy(&passwd), |home| fs::metadata(home).ok().filter(fs::Metadata::is_dir).map(|facts| facts.uid())))
}

/// The accounts of such a file; `owner` says who owns a directory, if it is one.
fn accounts_in(passwd: &str, owner: impl Fn(&Path) -> Option<u32>) -> Vec<Account> {
    let mut accounts: Vec<Account> = Vec::new();
    for line in passwd.lines().take(MAX_ACCOUNTS) {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { continue };
        let (Ok(uid), Ok(gid), home) = (uid.parse(), gid.parse(), PathBuf::from(home)) else { continue };
        // Accounts of services share `/` and others; a directory of somebody else's is nobody's home.
        let is_own = home.is_absolute() && home.components().count() > 1 && owner(&home) == Some(uid);
        if is_own && !accounts.iter().any(|known| known.home == home) {
            accounts.push(Account { name: (*name).to_owned(), uid, gid, home });
        }
    }
    accounts
}

/// Reads the home directory of this account by `reader`, a program and arguments to which the directory is appended and which writes a list of
/// [`FoundFile`] as JSON. It runs as the account where this process may choose (as root), with its primary group and no other.
pub fn person<S: AsRef<OsStr>>(account: Account, program: &Path, arguments: &[S]) -> Person {
    let (files, unread) = match read(&account, program, arguments) {
        Ok(files) => (files, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Person { account, files, unread }
}

/// Starts the reader of an account's home directory, as [`person`] does; its standard output is a pipe.
///
/// # Errors
/// It cannot be started, or not as this account.
pub fn reader<S: AsRef<OsStr>>(account: &Account, program: &Path, arguments: &[S], input: Stdio) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).arg(&account.home).env_clear().current_dir("/");
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::null());
    let own = rustix::process::geteuid();
    if own.is_root() && account.uid != 0 {
        // Also gives up root's other groups.
        command.uid(account.uid).gid(account.gid);
    } else if own.as_raw() != account.uid {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "only root reads the files of others"));
    }
    command.spawn()
}

/// What a reader said, from its bytes. Its owner can change what it says, so the bounds of a reader that nobody touched are held here as well.
///
/// # Errors
/// It said something else, as one does that was ended.
pub fn said(bytes: &[u8]) -> io::Result<Vec<FoundFile>> {
    let read: Result<Vec<FoundFile>, _> = serde_json::from_slice(bytes);
    let mut files = read.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "its reader ended before it had read all of it"))?;
    files.truncate(MAX_FILES);
    files.iter_mut().for_each(FoundFile::within_bounds);
    Ok(files)
}

fn read<S: AsRef<OsStr>>(account: &Account, program: &Path, arguments: &[S]) -> io::Result<Vec<FoundFile>> {
    let mut child = reader(account, program, arguments, Stdio::null())?;
    let Some(mut output) = child.stdout.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let (tell, answer) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = io::Read::read_to_end(&mut io::Read::take(&mut output, MAX_ANSWER), &mut bytes);
        // Whoever asked may have given up.
        let _ = tell.send(read.map(|_| bytes));
    });
    let answer = answer.recv_timeout(READER_WITHIN);
    if answer.is_err() {
        child.kill()?;
        // One that waits for a dead file system cannot be ended and is not waited for.
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("not read within {} s", READER_WITHIN.as_secs())));
    }
    let bytes = answer.map_err(io::Error::other)??;
    // It may have more to say than is taken.
    child.kill()?;
    child.wait()?;
    said(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_those_with_a_home_of_their_own() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\nnobody:x:65534:65534::/nonexistent:/bin/false\n\
                      ada:x:1000:1000::/home/ada:/bin/bash\nother:x:1001:1001::/home/ada:/bin/bash\nci:x:998:998::/var/lib/ci:/bin/false\n\
                      slash:x:5:5::/:/bin/sh\nbroken\nbad:x:a:b::/home/bad:/bin/sh\n";
        let owner = |home: &Path| match home.to_str() {
            Some("/root" | "/usr/sbin" | "/") => Some(0),
            Some("/home/ada") => Some(1000),
            Some("/var/lib/ci") => Some(998),
            _ => None,
        };
        let names: Vec<_> = accounts_in(passwd, owner).into_iter().map(|account| account.name).collect();
        assert_eq!(names, ["root", "ada", "ci"]);
    }

    #[test]
    fn a_reader_that_fails_or_says_something_else_is_told() {
        let own = rustix::process::geteuid().as_raw();
        let account = Account { name: "a".to_owned(), uid: own, gid: rustix::process::getegid().as_raw(), home: "/".into() };
        for (script, expected) in [("exit 1", Some("its reader ended")), ("echo hello", Some("its reader ended")), ("echo '[]'", None)] {
            let person = person(account.clone(), Path::new("/bin/sh"), &["-c", script]);
            assert_eq!(person.unread.is_some(), expected.is_some(), "{script}: {person:?}");
            assert!(person.unread.unwrap_or_default().contains(expected.unwrap_or_default()), "{script}");
        }
    }
}
