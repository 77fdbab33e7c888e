//! As whom the serving process runs.

use nix::unistd::User as Account;
use std::{fmt, os::unix::fs::MetadataExt as _, path::Path};

/// The account made for it.
const OURS: &str = "gnomon";
/// Where there is none.
const NOBODY: (&str, u32) = ("nobody", 65534);

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl User {
    fn named(name: &str) -> Option<Self> {
        Account::from_name(name).ok().flatten().map(Self::from)
    }

    fn numbered(uid: u32) -> Option<Self> {
        Account::from_uid(uid.into()).ok().flatten().map(Self::from)
    }
}

impl From<Account> for User {
    fn from(account: Account) -> Self {
        Self { name: account.name, uid: account.uid.as_raw(), gid: account.gid.as_raw() }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.uid)
    }
}

/// The user `gnomon`; else the one who owns the state folder, or the folder that it will be made in, unless that is root;
/// else `nobody`.
pub fn serving(state_dir: &Path) -> User {
    let ours = || User::named(OURS).filter(|user| user.uid != 0);
    let owner = || {
        let found = state_dir.ancestors().find_map(|folder| folder.metadata().ok())?;
        (found.uid() != 0).then(|| User::numbered(found.uid()).unwrap_or(User { name: "?".to_owned(), uid: found.uid(), gid: found.gid() }))
    };
    let nobody = || User::named(NOBODY.0).unwrap_or(User { name: NOBODY.0.to_owned(), uid: NOBODY.1, gid: NOBODY.1 });
    ours().or_else(owner).unwrap_or_else(nobody)
}
