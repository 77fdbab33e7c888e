//! Passwords that do not stand in the URL: `PGPASSWORD`, then a passfile, as libpq has them.
//!
//! The driver reads passfiles too, but logs lines that it does not understand, passwords and all.

use std::{
    env, fmt,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// A passfile is a few lines.
const MAX_BYTES: u64 = 1 << 20;

/// A password, which is not printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(pub(crate) String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The password from the environment or a file, if there is one. `key` is what a line begins with: host, port, database, user.
pub(crate) fn found(passfile: Option<&Path>, key: &[&str; 4]) -> Result<Option<Password>, String> {
    if let Ok(password) = env::var("PGPASSWORD")
        && passfile.is_none()
    {
        return Ok(Some(Password(password)));
    }
    // One that is named must be there; the one that everybody has by name alone need not.
    if let Some(named) = passfile.map(Path::to_owned).or_else(|| env::var_os("PGPASSFILE").map(Into::into)) {
        return in_file(&named, key).map_err(|cause| format!("{}: {cause}", named.display()));
    }
    let Some(home) = env::home_dir() else { return Ok(None) };
    let file = home.join(".pgpass");
    if !file.is_file() {
        return Ok(None);
    }
    in_file(&file, key).map_err(|cause| format!("{}: {cause}", file.display()))
}

fn in_file(file: &Path, key: &[&str; 4]) -> Result<Option<Password>, String> {
    let unreadable = |error: io::Error| format!("{error}; make it readable for the user gnomon runs as");
    let opened = gnomon_files::open(file).map_err(unreadable)?;
    if opened.metadata().map_err(unreadable)?.permissions().mode() & 0o77 != 0 {
        return Err("others may read it; chmod 600 it, as libpq wants it too".to_owned());
    }
    let mut text = String::new();
    opened.take(MAX_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text.lines().find_map(|line| in_line(line, key)).map(Password))
}

/// The password of `host:port:database:user:password`, where `*` is any and a backslash takes the next character as it is.
fn in_line(line: &str, key: &[&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for wanted in key {
        let (raw, field, after) = field(rest);
        if raw != "*" && field != *wanted {
            return None;
        }
        rest = after?;
    }
    Some(field(rest).1)
}

/// The text up to a colon as it is and without backslashes, and what stands after the colon.
fn field(text: &str) -> (&str, String, Option<&str>) {
    let mut plain = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => plain.extend(chars.next().map(|(_, next)| next)),
            ':' => {
                let (before, after) = text.split_at(at);
                return (before, plain, after.strip_prefix(':'));
            }
            char => plain.push(char),
        }
    }
    (text, plain, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};

    const KEY: [&str; 4] = ["db", "5432", "decisions", "ada"];

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passfile");
        let read = |text: &str| {
            write(&file, text).unwrap();
            set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            in_file(&file, &KEY).unwrap().map(|Password(password)| password)
        };
        assert_eq!(
            read("# db:5432:decisions:ada:no\nother:*:*:*:no\n\nhalf:a:line\n*:5432:*:ada:yes\ndb:*:*:*:no\n").as_deref(),
            Some("yes")
        );
        assert_eq!(read("db:5432:decisions:ada:a\\:b\\\\c").as_deref(), Some("a:b\\c"));
        assert_eq!(read("\\*:*:*:*:no\n*:*:*:eve:no").as_deref(), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passfile");
        write(&file, "*:*:*:*:s3cret").unwrap();
        set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let error = found(Some(&file), &KEY).unwrap_err();
        assert!(error.contains("chmod 600") && !error.contains("s3cret"), "{error}");
        assert!(found(Some(dir.path()), &KEY).unwrap_err().contains("it is not a regular file"));
        assert!(found(Some(&dir.path().join("none")), &KEY).unwrap_err().contains("make it readable"));
        assert_eq!(format!("{:?}", Password("s3cret".to_owned())), "Password(…)");
    }
}
