//! The user that the serving process runs as.

use nix::unistd::{Group, User as Account};
use std::{fmt, fs, ops::RangeInclusive, os::unix::fs::MetadataExt as _, path::Path};

/// The account made for it.
const OURS: &str = "gnomon";
/// User numbers where there is no user `gnomon`: a number that no account has and no process runs as, so that its files are ours alone.
/// Systems assign none of these (Debian Policy 9.2.2; systemd's UIDS-GIDS: unused from 65536 to 524287, and subordinate users begin at
/// 100000), the second range for user namespaces that end at 65535. The first one that is free is taken.
const NUMBERS: [RangeInclusive<u32>; 2] = [70_866..=70_881, 64_866..=64_881];
/// The user of everything that has no user: other programs run as it, and could read the key.
pub const NOBODY: u32 = 65534;

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

    /// A user who is only a number.
    fn number(uid: u32, gid: u32) -> Self {
        Self { name: uid.to_string(), uid, gid }
    }

    /// A number of our own, as a user and a group of one.
    fn free() -> Option<Self> {
        let busy = busy();
        let free = |number: &u32| {
            let account = Self::numbered(*number).is_some() || Group::from_gid((*number).into()).ok().flatten().is_some();
            !account && !busy.contains(number) && is_mapped("uid_map", *number) && is_mapped("gid_map", *number)
        };
        NUMBERS.into_iter().flatten().find(free).map(|number| Self::number(number, number))
    }
}

impl From<Account> for User {
    fn from(account: Account) -> Self {
        Self { name: account.name, uid: account.uid.as_raw(), gid: account.gid.as_raw() }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name == self.uid.to_string() { write!(f, "user {}", self.uid) } else { write!(f, "{} ({})", self.name, self.uid) }
    }
}

/// The user `gnomon`; else the one who owns the state folder, or the folder that it will be made in, unless that is root or
/// `nobody`; else a number of our own. `None` if all of those are taken.
pub fn serving(state_dir: &Path) -> Option<User> {
    let ours = || User::named(OURS).filter(|user| user.uid != 0);
    let owner = || {
        let found = state_dir.ancestors().find_map(|folder| folder.metadata().ok())?;
        let (uid, gid) = (found.uid(), found.gid());
        (uid != 0 && uid != NOBODY).then(|| User::numbered(uid).unwrap_or_else(|| User::number(uid, gid)))
    };
    ours().or_else(owner).or_else(User::free)
}

/// True if there is an unprivileged user to switch to: in a user namespace of one user there is not.
pub fn can_be_another() -> bool {
    NUMBERS.into_iter().flatten().any(|number| is_mapped("uid_map", number) && is_mapped("gid_map", number))
}

/// True if this user namespace maps this id (user_namespaces(7)).
fn is_mapped(map: &str, number: u32) -> bool {
    let map = fs::read_to_string(format!("/proc/self/{map}")).unwrap_or_default();
    let reach = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        let (first, count) = (numbers.next().unwrap_or(0), numbers.nth(1).unwrap_or(0));
        (first..first + count).contains(&number.into())
    };
    map.lines().any(reach)
}

/// The users whose processes run now.
fn busy() -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut users: Vec<u32> = processes
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|entry| Some(entry.metadata().ok()?.uid()))
        .collect();
    users.sort_unstable();
    users.dedup();
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_our_own_is_nobodys_account_and_not_that_of_everything_without_a_user() {
        let Some(user) = User::free() else { return };
        assert!(NUMBERS.iter().any(|range| range.contains(&user.uid)));
        assert!(user.uid != NOBODY && User::numbered(user.uid).is_none());
        assert_eq!(user.to_string(), format!("user {}", user.uid));
    }

    #[test]
    fn who_owns_the_state_goes_on_unless_that_is_nobody() {
        if User::named(OURS).is_some() || !rustix::process::geteuid().is_root() {
            return;
        }
        let state = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(state.path(), Some(1234), Some(1235)).unwrap();
        assert_eq!(serving(state.path()).unwrap(), User::number(1234, 1235));
        std::os::unix::fs::chown(state.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        assert_ne!(serving(state.path()).unwrap().uid, NOBODY);
    }
}
