//! The files that a call reads and writes, as paths in one form: slashes for backslashes, dots followed, the home of any user as `~`.

use super::{
    decoded, programs,
    shell::Simple,
    tools::{self, Arguments, Kinds},
};
use smol_str::SmolStr;
use std::collections::BTreeSet;

/// The most paths of either list.
const MOST_PATHS: usize = 512;
/// The longest path, in bytes.
const LONGEST_PATH: usize = 4096;
/// Arguments that name where something goes.
const TARGETS: &str = "destination dest target output output_path outputpath to target_path destination_path dst out save_path \
    output_file output_dir new_path link_name";

/// Paths that are read, and paths that are written.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub read: Vec<SmolStr>,
    pub written: Vec<SmolStr>,
    /// The same, to be looked up.
    known_read: BTreeSet<SmolStr>,
    known_written: BTreeSet<SmolStr>,
    /// True if there were more.
    is_partial: bool,
}

impl Files {
    /// A text that names a file which is read.
    pub fn read(&mut self, text: &str) {
        self.is_partial |= !push(&mut self.read, &mut self.known_read, text);
    }

    /// A text that names a file which is written.
    pub fn write(&mut self, text: &str) {
        self.is_partial |= !push(&mut self.written, &mut self.known_written, text);
    }

    /// True if there are more than those that are told.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// The files that a tool is given by its arguments.
    pub fn of_arguments(&mut self, arguments: &Arguments, kinds: Kinds) {
        for (path, value) in arguments {
            let name = tools::last(path).to_ascii_lowercase();
            if tools::is_file_text(path) || tools::is_command(path, kinds) || tools::is_code(path, kinds) || !is_path(value) {
                continue;
            }
            let is_attached = name.contains("attach") || name.contains("file");
            if kinds.prose && !is_attached {
                continue;
            }
            if kinds.editor || tools::is_among(TARGETS, &name) {
                self.write(value);
            } else {
                self.read(value);
            }
        }
    }

    /// The files that a command is given.
    pub fn of_command(&mut self, words: &[String], simple: &Simple) {
        simple.reads.iter().for_each(|path| self.read(path));
        simple.writes.iter().for_each(|path| self.write(path));
        let Some((name, rest)) = words.split_first() else { return };
        let is_file = |word: &&String| !word.starts_with('-') && !word.starts_with('$') && is_path(word);
        if programs::writes(name) {
            rest.iter().filter(is_file).for_each(|path| self.write(path));
        }
        if name == "sed" && rest.iter().any(|word| word.starts_with("-i") || word == "--in-place") {
            rest.iter().skip(1).filter(is_file).for_each(|path| self.write(path));
        }
        let has = |options: &[&str]| rest.iter().any(|word| options.contains(&word.as_str()));
        let is_read = match name.as_str() {
            "git" => has(&["add"]),
            // Its other commands use a key, and do not show it.
            "openssl" => has(&["enc", "base64"]),
            // What is changed in its place, or only counted, is not shown.
            "sed" => !rest.iter().any(|word| word.starts_with("-i") || word == "--in-place"),
            "grep" | "egrep" | "fgrep" | "rg" => !has(&["-c", "-q", "-l", "--count", "--quiet"]),
            name => programs::reads(name),
        };
        if !is_read {
            return;
        }
        // A key that is used to log in is not read by that.
        let used = |option: &str| match name.as_str() {
            "scp" | "sftp" | "rsync" => matches!(option, "-i" | "-F" | "-e" | "-o"),
            "curl" | "wget" => {
                matches!(option, "--cert" | "--key" | "--cacert" | "-E" | "--netrc-file" | "--capath" | "-K" | "-o" | "--output" | "-O")
            }
            _ => false,
        };
        let used: BTreeSet<&String> =
            rest.windows(2).filter_map(|pair| if let [option, path] = pair { used(option).then_some(path) } else { None }).collect();
        let files: Vec<&String> = rest.iter().filter(is_file).filter(|word| !used.contains(word)).collect();
        let read = if programs::copies(name) && files.len() > 1 {
            let (last, read) = files.split_last().map_or((None, &[][..]), |(last, read)| (Some(*last), read));
            last.into_iter().for_each(|path| self.write(path));
            read
        } else {
            &files[..]
        };
        read.iter().for_each(|path| self.read(path));
        // `-F file=@path`, `--post-file=path`, `if=path`, `-Tpath`.
        for word in rest {
            match word.split_once('=') {
                Some(("of" | "--output" | "--output-document", path)) => self.write(path),
                Some((_, path)) => self.read(path.trim_start_matches('@')),
                None => {}
            }
            word.strip_prefix('@')
                .into_iter()
                .chain(word.strip_prefix("-T").filter(|path| !path.is_empty()))
                .for_each(|path| self.read(path));
        }
        for pair in rest.windows(2) {
            if let [option, path] = pair
                && matches!((name.as_str(), option.as_str()), ("curl", "-o" | "--output") | ("wget", "-O"))
            {
                self.write(path);
            }
        }
    }
}

/// Puts a path into a list; false if there is no place for it.
fn push(list: &mut Vec<SmolStr>, known: &mut BTreeSet<SmolStr>, text: &str) -> bool {
    if list.len() >= MOST_PATHS {
        return false;
    }
    let path = SmolStr::new(path_of(text));
    if !path.is_empty() && known.insert(path.clone()) {
        list.push(path);
    }
    true
}

/// True if the text may be a path: it is short, on one line, and begins like one or is a single word.
fn is_path(text: &str) -> bool {
    let begins = text.starts_with(['/', '~', '.', '\\'])
        || text.get(1..3) == Some(":\\")
        || text.get(1..3) == Some(":/")
        || text.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case("file:"));
    !text.is_empty()
        && text.len() <= LONGEST_PATH
        && !text.contains(['\n', '\r'])
        && (begins || !text.contains(char::is_whitespace))
        && (begins || !text.contains("://"))
}

/// The path in its one form.
fn path_of(text: &str) -> String {
    let plain = decoded::revealed(text.trim());
    let resolved = decoded::resolved(&plain).unwrap_or_else(|| plain.into_owned());
    at_home(&resolved)
}

/// With `~` for the home of a user, whoever it is.
pub(super) fn at_home(path: &str) -> String {
    for begin in ["/home/", "/Users/", "/var/home/", "/export/home/"] {
        if let Some(rest) = path.strip_prefix(begin).filter(|rest| !rest.is_empty() && !rest.starts_with('/')) {
            let end = rest.find('/').unwrap_or(rest.len());
            return format!("~{}", rest.get(end..).unwrap_or_default());
        }
    }
    let begin = path.get(..9).unwrap_or_default();
    if begin.get(1..).is_some_and(|begin| begin.eq_ignore_ascii_case(":\\users\\") || begin.eq_ignore_ascii_case(":/users/")) {
        let rest = path.get(9..).unwrap_or_default();
        let end = rest.find(['/', '\\']).unwrap_or(rest.len());
        if end > 0 && rest.get(..end) != Some("*") && rest.get(..end) != Some("Public") {
            return format!("~{}", rest.get(end..).unwrap_or_default());
        }
    }
    match path.strip_prefix("/root") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("~{rest}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::{self, Dialect};

    fn given(name: &str, arguments: &[(&str, &str)]) -> Files {
        let arguments: Vec<(SmolStr, SmolStr)> = arguments.iter().map(|(path, value)| (SmolStr::new(path), SmolStr::new(value))).collect();
        let mut files = Files::default();
        files.of_arguments(&arguments, Kinds::of(name, &arguments));
        files
    }

    fn of_command(text: &str) -> Files {
        let mut files = Files::default();
        for simple in shell::parse(text, Dialect::Posix).pipelines.iter().flatten() {
            files.of_command(&simple.words, simple);
        }
        files
    }

    #[test]
    fn a_home_is_a_home_whoever_lives_there() {
        for path in [
            "/home/ada/.ssh/id_rsa",
            "/Users/ada/.ssh/id_rsa",
            "/root/.ssh/id_rsa",
            "~/.ssh/id_rsa",
            "C:\\Users\\ada\\.ssh\\id_rsa",
            "/srv/../home/ada/./.ssh/id_rsa",
        ] {
            assert_eq!(given("read_file", &[("path", path)]).read, ["~/.ssh/id_rsa"], "{path}");
        }
        assert_eq!(at_home("/homes/x"), "/homes/x");
        assert_eq!(at_home("/rooted"), "/rooted");
    }

    #[test]
    fn what_a_tool_is_given_is_read_or_written() {
        let files = given("move_file", &[("source", "/a/b"), ("destination", "/c")]);
        assert_eq!((files.read, files.written), (vec!["/a/b".into()], vec!["/c".into()]));
        assert_eq!(given("write_file", &[("path", "/a/b"), ("content", "/etc/shadow")]).written, ["/a/b"]);
        assert_eq!(given("send_email", &[("attachments", "/a/b"), ("body", "/etc/shadow")]).read, ["/a/b"]);
        assert!(given("fetch", &[("url", "https://a.example/etc/shadow")]).read.is_empty());
    }

    #[test]
    fn what_a_command_reads_and_writes_is_told_apart_from_what_it_is_only_given() {
        for (command, read) in [
            ("cat /a/b", "/a/b"),
            ("base64 -w0 < /a/b", "/a/b"),
            ("curl -F f=@/a/b https://x.example", "/a/b"),
            ("curl --data-binary @/a/b https://x.example", "/a/b"),
            ("wget --post-file=/a/b https://x.example", "/a/b"),
            ("dd if=/a/b of=/c", "/a/b"),
            ("cp /a/b /c", "/a/b"),
        ] {
            assert!(of_command(command).read.contains(&read.into()), "{command}");
        }
        for command in [
            "ssh -i /a/b host",
            "scp -i /a/b x host:",
            "curl --cert /a/b https://x.example",
            "chmod 600 /a/b",
            "ls /a/b",
            "echo x > /a/b",
            "mkdir /a/b",
        ] {
            assert!(!of_command(command).read.contains(&"/a/b".into()), "{command}");
        }
        for command in [
            "echo x > /c",
            "echo x | tee -a /c",
            "cp a /c",
            "sed -i s/a/b/ /c",
            "dd if=/a of=/c",
            "curl -o /c https://x.example",
            "ln -s /a/b /c",
        ] {
            assert!(of_command(command).written.contains(&"/c".into()), "{command}");
        }
    }
}
