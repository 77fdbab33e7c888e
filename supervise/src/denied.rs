//! Files that root wrote for itself alone, and that the serving process is to read: which command opens them to it.
//!
//! Nothing is read with root's rights on behalf of a process without them: a path in a configuration could show it any file of this host.
//! Root decides, with the command that is printed here, once; reloading needs no root.

use nix::unistd::{Gid, Group};
use rustix::fs::{Access, access};
use std::{
    io,
    path::{Path, PathBuf},
};

/// A command of root's so that this process, if it serves as a user of its own, can read the file or folder. None where
/// rights are not what is missing.
pub fn command_for(path: &Path, error: &io::Error) -> Option<String> {
    let user = crate::became()?;
    if error.kind() != io::ErrorKind::PermissionDenied {
        return None;
    }
    let closed = first_closed(&std::path::absolute(path).ok()?);
    let group = Group::from_gid(Gid::from_raw(user.gid)).ok().flatten().map_or_else(|| user.gid.to_string(), |group| group.name);
    let rights = match (closed.is_dir(), closed == path) {
        (false, _) => "g+r",
        (true, true) => "g+rx",
        // On the way there.
        (true, false) => "g+x",
    };
    let at = quoted(&closed);
    Some(format!("gnomon serves as {user}; let it read that, as root: chgrp {group} {at} && chmod {rights} {at}"))
}

/// The topmost of the folders on the way that cannot be passed through, else the path itself.
fn first_closed(path: &Path) -> PathBuf {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let closed = above.into_iter().find(|folder| access(*folder, Access::EXEC_OK).is_err());
    closed.unwrap_or(path).to_owned()
}

/// The path, quoted for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word_to_a_shell() {
        for (path, word) in [("/etc/gnomon/a.yml", "/etc/gnomon/a.yml"), ("/a b", "'/a b'"), ("/it's", r"'/it'\''s'"), ("/$(x)", "'/$(x)'")]
        {
            assert_eq!(quoted(Path::new(path)), word);
        }
    }

    #[test]
    fn a_process_that_became_nobody_else_is_told_nothing() {
        assert_eq!(command_for(Path::new("/etc/shadow"), &io::ErrorKind::PermissionDenied.into()), None);
    }
}
