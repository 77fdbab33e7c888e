//! The state folder goes to the serving process: it alone writes there.

use super::{
    say,
    user::{NOBODY, User},
};
use gnomon_cli::Complaint;
use std::{
    fs::{self, DirBuilder, DirEntry, Metadata},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, lchown},
    path::Path,
};

/// The files that tell a state folder of ours.
const OURS: [&str; 2] = ["ca.key", "ledger.sqlite"];

/// How deep folders of the state folder are handed over.
const DEEPEST: usize = 16;

/// Makes the folder if it is missing, and gives it and its files to the user if their owner is root, or `nobody`, as whom gnomon once
/// served.
///
/// Nothing is given away that might not be ours: the folder must be new, or hold state of ours and be closed to others.
///
/// # Errors
/// If the folder belongs to another user, or cannot be reached by the user.
pub fn hand_over(state_dir: &Path, user: &User) -> Result<(), Complaint> {
    let shown = state_dir.display();
    let failed = |error: io::Error| {
        Complaint::own(format!("the state folder {shown} cannot be handed to {user}: {error}")).next("name another with --state-dir")
    };
    match DirBuilder::new().recursive(true).mode(0o755).create(state_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let folder = fs::symlink_metadata(state_dir).map_err(failed)?;
    if folder.uid() == 0 || folder.uid() == NOBODY {
        give(state_dir, &folder, user)?.map_err(failed)?;
        if folder.uid() == NOBODY {
            say(format_args!(
                "the state folder {shown} was nobody's ({NOBODY}), and is {user}'s now: programs that run as nobody could read the key of the \
                 authority, so remove ca.key and ca.pem for a new one if there are such that you do not trust"
            ));
        }
    } else if folder.uid() != user.uid {
        let cause = format!("the state folder {shown} belongs to user {}, and gnomon serves as {user}", folder.uid());
        return Err(Complaint::input(cause).next(format!("chown it to {}, or name another with --state-dir", user.name)));
    }
    match state_dir.ancestors().skip(1).find(|above| above.metadata().is_ok_and(|found| !can_pass(&found, user))) {
        None => Ok(()),
        Some(closed) => Err(Complaint::input(format!("{} cannot be entered by {user}, the user that gnomon serves as", closed.display()))
            .next("name a state folder that this user can reach with --state-dir")),
    }
}

/// The files first, so that the user has no access while their owner changes; and before that root takes the folder, so that its former
/// owner cannot put others in their place.
fn give(state_dir: &Path, folder: &Metadata, user: &User) -> Result<io::Result<()>, Complaint> {
    let owned = [0, folder.uid()];
    let entries: Vec<_> = match lchown(state_dir, Some(0), Some(0)).and_then(|()| fs::read_dir(state_dir)) {
        Ok(entries) => entries.flatten().collect(),
        Err(error) => return Ok(Err(error)),
    };
    let ours = entries.is_empty() || entries.iter().any(|entry| OURS.iter().any(|name| entry.file_name() == *name));
    if !folder.is_dir() || !ours || folder.mode() & 0o022 != 0 {
        let _ = lchown(state_dir, Some(folder.uid()), Some(folder.gid()));
        if folder.is_dir() && ours {
            let cause = format!("others may write to {} (mode {:o}): it is not handed over", state_dir.display(), folder.mode() & 0o7777);
            return Err(Complaint::input(cause).next(format!("chmod 0755 {}, or name another with --state-dir", state_dir.display())));
        }
        let cause = format!("{} is root's or nobody's and does not look like a state folder: it is not handed over", state_dir.display());
        return Err(Complaint::input(cause).next("name an empty folder, or one that does not exist, with --state-dir"));
    }
    Ok(hand(state_dir, entries, &owned, user, DEEPEST))
}

/// Hands over the content of a folder that is root's now, and then the folder itself. Folders in it are handed over if `nobody` owned them
/// too; root's stay root's.
fn hand(folder: &Path, entries: Vec<DirEntry>, owned: &[u32], user: &User, depth: usize) -> io::Result<()> {
    for (path, found) in entries.into_iter().filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))) {
        // A second name of a file may be anywhere.
        if found.is_file() && owned.contains(&found.uid()) && found.nlink() == 1 {
            lchown(&path, Some(user.uid), Some(user.gid))?;
        } else if found.is_dir() && found.uid() == NOBODY && owned.contains(&NOBODY) && depth > 0 {
            lchown(&path, Some(0), Some(0))?;
            hand(&path, fs::read_dir(&path)?.flatten().collect(), owned, user, depth - 1)?;
        }
    }
    lchown(folder, Some(user.uid), Some(user.gid))
}

/// Whether a folder may be passed through.
fn can_pass(folder: &Metadata, user: &User) -> bool {
    let bit = if folder.uid() == user.uid {
        0o100
    } else if folder.gid() == user.gid {
        0o010
    } else {
        0o001
    };
    folder.mode() & bit != 0
}
