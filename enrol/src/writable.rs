//! Whether a program may write where it is to: as whom it runs, it is often nobody that the folder knows.

use anyhow::Result;
use gnomon_cli::{Complaint, line::word};
use gnomon_confine::Account;
use gnomon_serve::programs;
use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Holds that whoever a program runs as may change these files and folders; the kernel is asked, as that user.
///
/// # Errors
/// It may not, and what would let it.
pub(super) fn may_write(account: Option<Account>, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let path = std::path::absolute(path)?;
        if !path.exists() {
            let next = "create it for the user that the program runs as; access can only be granted to what exists";
            return Err(Complaint::usage(format!("--write names {}, which does not exist", path.display())).next(next).into());
        }
        if asked(account, "-w", &path) == Some(false) {
            let whom =
                account.map_or_else(|| "gnomon's user".to_owned(), |account| format!("user {}, which the program runs as,", account.uid));
            let cause = format!("{whom} may not write to {}", path.display());
            return Err(Complaint::input(cause).next(given(account, &path, programs::found("setfacl").is_some())).into());
        }
    }
    Ok(())
}

/// What lets it write there: an entry of an access control list where this host has a program for that, which leaves the owner who it is.
fn given(account: Option<Account>, path: &Path, has_lists: bool) -> String {
    let at = word(&path.display().to_string());
    let Some(Account { uid, .. }) = account else { return format!("`chmod u+w {at}` allows it, or name another folder") };
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    let closed = above
        .into_iter()
        .rev()
        .find(|folder| asked(account, "-x", folder) == Some(false))
        .map(|folder| word(&folder.display().to_string()));
    let rights = if path.is_dir() { format!("u:{uid}:rwX,d:u:{uid}:rwX") } else { format!("u:{uid}:rw") };
    let (passes, writes) = match has_lists {
        true => (closed.map(|folder| format!("setfacl -m u:{uid}:x {folder}")), format!("setfacl -R -m {rights} {at}")),
        false => (closed.map(|folder| format!("chmod o+x {folder}")), format!("chown -R {uid} {at}")),
    };
    let passes = passes.map(|passes| format!("`{passes}` lets it pass, and ")).unwrap_or_default();
    format!("{passes}`{writes}` allows it to write; --user names another user")
}

/// What a test of the shell says as that user; none where it cannot be asked.
fn asked(account: Option<Account>, test: &str, path: &Path) -> Option<bool> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"[ "$1" "$2" ]"#, "sh", test]).arg(path).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    match command.status().ok()?.code()? {
        0 => Some(true),
        1 => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::Uid;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn who_may_not_write_where_a_program_is_to_is_told_what_lets_it_and_then_it_does() {
        if !Uid::effective().is_root() {
            return;
        }
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let (account, folder) = (Some(Account { uid: 61_999, gid: 61_999 }), dir.path().join("it's data"));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(&folder).unwrap();
        let told = format!("{:?}", may_write(account, std::slice::from_ref(&folder)).unwrap_err().downcast::<Complaint>().unwrap());
        assert!(told.contains("user 61999") && told.contains("--user"), "{told}");
        assert!(given(account, &folder, true).starts_with("`setfacl -R -m u:61999:rwX,d:u:61999:rwX '"));
        let chown = given(account, &folder, false);
        let status = Command::new("/bin/sh").args(["-c", chown.split('`').nth(1).unwrap()]).status().unwrap();
        assert!(status.success());
        may_write(account, std::slice::from_ref(&folder)).unwrap();
        // What cannot be passed through is told as well.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(may_write(account, std::slice::from_ref(&folder)).is_err());
        assert!(given(account, &folder, true).contains(&format!("`setfacl -m u:61999:x {}`", dir.path().display())));
        assert!(may_write(None, &[dir.path().join("none")]).is_err());
    }
}
