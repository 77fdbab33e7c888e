//! The user that a program is run as: under sudo the calling user, not root.

use gnomon_cli::Complaint;
use nix::unistd::{Uid, User, initgroups, setresgid, setresuid};
use std::{
    env,
    ffi::{CString, OsString},
    path::{Path, PathBuf},
};

/// The person who called sudo.
#[derive(Debug)]
pub struct Person(User);

impl Person {
    /// The calling user that sudo names (sudo(8), `SUDO_UID`), if this is root and they are not. The variables are trusted because the
    /// caller is root, who can become any user.
    ///
    /// # Errors
    /// The host knows no such user.
    pub fn behind_sudo() -> Result<Option<Self>, Complaint> {
        let named = env::var("SUDO_UID").ok().filter(|_| Uid::effective().is_root());
        let Some(uid) = named.and_then(|uid| uid.parse().ok()).filter(|uid| *uid != 0) else { return Ok(None) };
        match User::from_uid(Uid::from_raw(uid)) {
            Ok(Some(user)) => Ok(Some(Self(user))),
            Ok(None) => Err(Complaint::own(format!("sudo names user {uid} as its caller, and this host has no such user"))
                .next("unset SUDO_UID to run the program as root")),
            Err(error) => Err(Complaint::own(format!("looking for user {uid}: {error}"))),
        }
    }

    /// Becomes this user, with their groups; cannot be undone. Only for a process with a single thread.
    ///
    /// # Errors
    /// The system refused.
    pub fn take_up(&self) -> Result<(), Complaint> {
        let failed = |error: nix::Error| Complaint::own(format!("cannot become {}: {error}", self.0.name));
        let name = CString::new(self.0.name.as_bytes()).map_err(|_| Complaint::own("a user's name has a NUL"))?;
        initgroups(&name, self.0.gid).map_err(failed)?;
        setresgid(self.0.gid, self.0.gid, self.0.gid).map_err(failed)?;
        setresuid(self.0.uid, self.0.uid, self.0.uid).map_err(failed)
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        &self.0.dir
    }

    /// The environment variables that describe the user.
    pub fn variables(&self) -> [(&'static str, OsString); 3] {
        let name = || OsString::from(&self.0.name);
        [("HOME", PathBuf::from(&self.0.dir).into()), ("USER", name()), ("LOGNAME", name())]
    }
}
