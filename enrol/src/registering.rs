//! Writes a server into a configuration file, whose comments and order stay as people wrote them.
//!
//! The text is changed, not written anew: so the change is made where that is plain (a list of servers in block style, or none
//! yet), and the result is read again. It must say the same as before and one server more, or nothing is written.

use gnomon_cli::Complaint;
use gnomon_config::Config;
use serde_json::Value;
use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

/// The text with an entry for `servers` in it; none where it has a shape that only people can change. The entry's lines begin
/// without an indent: `- id: …`.
pub fn with_entry(text: &str, entry: &str) -> Option<String> {
    // As whoever wrote the file ends lines.
    let lines_end_in_both = text.split_inclusive('\n').next().is_some_and(|first| first.ends_with("\r\n"));
    if lines_end_in_both {
        let plain = text.replace("\r\n", "\n");
        // A file that ends its lines in both ways is people's to change.
        return (!plain.contains('\r') && plain.replace('\n', "\r\n") == text)
            .then(|| with_entry(&plain, entry).map(|new| new.replace('\n', "\r\n")))
            .flatten();
    }
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = lines.iter().position(|line| key_of(line) == Some("servers"));
    let Some(at) = at else {
        let apart = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        return Some(format!("{text}{apart}servers:\n{}", indented(entry, 2)));
    };
    let value = lines[at].split_once(':').map(|(_, value)| value.split(" #").next().unwrap_or_default().trim())?;
    let before: String = lines[..at].concat();
    match value {
        "[]" => Some(format!("{before}servers:\n{}{}", indented(entry, 2), lines[at + 1..].concat())),
        "" => {
            // The list goes on while lines are indented, or begin an entry.
            let rest = &lines[at + 1..];
            let belongs = |line: &str| line.starts_with([' ', '-']) && !line.starts_with("---");
            let says = |line: &str| !matches!(line.trim_start().as_bytes().first(), None | Some(b'#'));
            let length = rest.iter().position(|line| says(line) && !belongs(line)).unwrap_or(rest.len());
            let last = rest[..length].iter().rposition(|line| says(line))?;
            let first = rest.iter().find(|line| says(line))?;
            let indent = first.len() - first.trim_start().len();
            let (list, after) = rest.split_at(last + 1);
            let list = list.concat();
            let apart = if list.ends_with('\n') { "" } else { "\n" };
            Some(format!("{before}{}{list}{apart}{}{}", lines[at], indented(entry, indent), after.concat()))
        }
        _ => None,
    }
}

/// The key that a line begins, if it stands at the outermost level.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    let key = key.trim_matches(['"', '\'']);
    (!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')).then_some(key)
}

fn indented(entry: &str, by: usize) -> String {
    entry.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// True if a configuration equals another but for one server more.
///
/// # Errors
/// The new text is no configuration.
pub fn adds_one_server(old: &Config, text: &str, path: &Path) -> Result<bool, Complaint> {
    let (old, mut new) = (old.to_json(), Config::parse(text, path)?.to_json());
    let added = new.get_mut("servers").and_then(Value::as_array_mut).and_then(Vec::pop);
    Ok(added.is_some() && old == new)
}

/// Puts a file in place of another at once: whoever reads sees the old one or the new one. Owner and mode stay; `expected` is
/// what must still stand there, none where there is no file yet.
///
/// # Errors
/// Those of the system, or somebody else changed the file.
pub fn replace(path: &Path, text: &[u8], expected: Option<&[u8]>, mode: u32) -> io::Result<()> {
    // A link stays one: what it leads to is replaced.
    let path: PathBuf = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text)?;
    match fs::metadata(&path) {
        Ok(old) => {
            new.as_file().set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
            let ours = new.as_file().metadata()?;
            if (ours.uid(), ours.gid()) != (old.uid(), old.gid()) {
                chown(new.path(), Some(old.uid()), Some(old.gid()))?;
            }
        }
        Err(_) => new.as_file().set_permissions(Permissions::from_mode(mode))?,
    }
    new.as_file().sync_all()?;
    if expected.is_some() && fs::read(&path).ok().as_deref() != expected {
        return Err(io::Error::other("somebody else changed it in the meantime"));
    }
    new.persist(&path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "- id: new\n  url: 'https://new.example/mcp'";

    fn added(text: &str) -> Option<String> {
        let path = Path::new("/etc/gnomon/gnomon.yml");
        let old = Config::parse(text, path).unwrap();
        with_entry(text, ENTRY).filter(|new| adds_one_server(&old, new, path).is_ok_and(|fits| fits))
    }

    #[test]
    fn an_entry_is_added_to_what_people_wrote_and_nothing_else_changes() {
        let entry = "  - id: new\n    url: 'https://new.example/mcp'\n";
        assert_eq!(added("").as_deref(), Some(&*format!("servers:\n{entry}")));
        assert_eq!(added("# mine\ncontact: me").as_deref(), Some(&*format!("# mine\ncontact: me\nservers:\n{entry}")));
        assert_eq!(added("servers: []   # none yet\ncontact: me\n").as_deref(), Some(&*format!("servers:\n{entry}contact: me\n")));
        let old = "# all\nservers:   # ours\n  # the first\n  - id: docs\n    url: 'https://docs.example/mcp'  # a\n\n# portals\nportals:\n  - {id: main, servers: [docs]}\n";
        let new = old.replace("# a\n", &format!("# a\n{entry}"));
        assert_eq!(added(old), Some(new));
        let old = "servers:\n- {id: docs, url: 'https://docs.example/mcp'}";
        assert_eq!(added(old), Some(format!("{old}\n{}", indented(ENTRY, 0))));
    }

    #[test]
    fn a_file_whose_lines_end_as_on_windows_keeps_them_so() {
        let old = "# mine\r\nservers:\r\n  - id: docs\r\n    url: 'https://docs.example/mcp'\r\ncontact: me\r\n";
        let new = "# mine\r\nservers:\r\n  - id: docs\r\n    url: 'https://docs.example/mcp'\r\n  - id: new\r\n    url: 'https://new.example/mcp'\r\ncontact: me\r\n";
        assert_eq!(added(old).as_deref(), Some(new));
        assert_eq!(added("contact: me\r\nservers:\n  - {id: docs, url: 'https://docs.example/mcp'}\n"), None);
    }

    #[test]
    fn what_only_people_can_change_is_left_to_them() {
        assert_eq!(added("{contact: me, servers: []}"), None);
        assert_eq!(added("servers: [{id: docs, url: 'https://docs.example/mcp'}]\n"), None);
        assert_eq!(added("servers: [\n  {id: docs, url: 'https://docs.example/mcp'}]\n"), None);
    }

    #[test]
    fn a_file_is_replaced_whole_keeps_its_mode_and_is_left_alone_where_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("gnomon.yml"), dir.path().join("link.yml"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, b"new", Some(b"old"), 0o644).unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), file.metadata().unwrap().mode() & 0o777), ("new", 0o640));
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert!(replace(&file, b"newer", Some(b"old"), 0o644).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }
}
