//! What code in other languages has a shell or the system do: the literals that it gives to functions which execute, open or write files.
//! It is searched, not parsed: a literal that is made up at run time is not seen.

/// Functions that run what they are given, as a script or as words.
const EXECUTORS: [&str; 26] = [
    "os.system",
    "os.popen",
    "subprocess.run",
    "subprocess.call",
    "subprocess.Popen",
    "subprocess.check_output",
    "subprocess.check_call",
    "subprocess.getoutput",
    "Popen",
    "execSync",
    "execFileSync",
    "spawnSync",
    "spawn",
    "shell_exec",
    "passthru",
    "system",
    "popen",
    "do shell script",
    "os.execute",
    "exec.Command",
    "Command::new",
    "ProcessBuilder",
    "getRuntime().exec",
    "Start-Process",
    "child_process.exec",
    "sh.exec",
];
/// Functions that open files.
const OPENERS: &str = "open readFile readFileSync read_text Path createReadStream File.read IO.read file_get_contents ReadAllText \
    read_csv os.ReadFile ioutil.ReadFile readfile";
/// Functions that write them.
const WRITERS: &str = "writeFile writeFileSync appendFileSync file_put_contents WriteAllText os.WriteFile File.write";
/// The most calls that are read of one text.
const MOST_CALLS: usize = 64;
/// The most literals of one call.
const MOST_LITERALS: usize = 64;

/// One such call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Script(String),
    Words(Vec<String>),
    Reads(String),
    Writes(String),
}

/// The calls within a text.
pub(super) fn calls(text: &str) -> Vec<Call> {
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(command) =
            line.trim_start().strip_prefix('!').filter(|command| command.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/'))
        {
            found.push(Call::Script(command.to_owned()));
        }
    }
    let has_magic = ["%%bash", "%%sh", "%%script"].iter().find_map(|magic| text.trim_start().strip_prefix(magic));
    found.extend(has_magic.and_then(|rest| rest.split_once('\n')).map(|(_, script)| Call::Script(script.to_owned())));
    for name in EXECUTORS {
        for literals in given(text, name) {
            match literals.as_slice() {
                [] => {}
                [script] => found.push(Call::Script(script.clone())),
                words => found.push(Call::Words(words.to_vec())),
            }
        }
    }
    for name in OPENERS.split_ascii_whitespace() {
        for literals in given(text, name) {
            let Some(path) = literals.first() else { continue };
            let writes = name == "open" && literals.get(1).is_some_and(|mode| mode.len() <= 3 && mode.starts_with(['w', 'a', 'x']));
            found.push(if writes { Call::Writes(path.clone()) } else { Call::Reads(path.clone()) });
        }
    }
    for name in WRITERS.split_ascii_whitespace() {
        found.extend(given(text, name).filter_map(|literals| literals.into_iter().next()).map(Call::Writes));
    }
    let mut once: Vec<Call> = Vec::new();
    for call in found.into_iter().take(MOST_CALLS) {
        // `os.system` is `system` as well.
        if !once.contains(&call) {
            once.push(call);
        }
    }
    once
}

/// The literals that each call of the function begins with.
fn given<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = Vec<String>> + 't {
    let begins =
        move |at: usize| text.get(..at).and_then(|before| before.chars().next_back()).is_none_or(|c| !c.is_alphanumeric() && c != '_');
    text.match_indices(name)
        .filter(move |(at, _)| begins(*at))
        .take(MOST_CALLS)
        .filter_map(move |(at, name)| text.get(at + name.len()..))
        .map(literals)
}

/// The literals at the beginning, between nothing but brackets, commas and white space.
fn literals(mut rest: &str) -> Vec<String> {
    let mut found = Vec::new();
    // A function that is only named is not called.
    if !rest.trim_start().starts_with(['(', '"', '\'', '`']) {
        return found;
    }
    while found.len() < MOST_LITERALS {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '(' | '[' | ',' | 'r' | 'b' | 'f' | 'u'));
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) else { break };
        let Some((literal, after)) = literal(rest.get(1..).unwrap_or_default(), quote) else { break };
        found.push(literal);
        rest = after;
    }
    found
}

/// Up to the quote that closes it, and what is behind.
fn literal(text: &str, quote: char) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((out, text.get(at + c.len_utf8()..).unwrap_or_default())),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, c)) => out.push(c),
                None => return None,
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_that_are_executed_or_opened_are_found_and_others_are_not() {
        let script = |text: &str| Call::Script(text.to_owned());
        let reads = |text: &str| Call::Reads(text.to_owned());
        for (text, expected) in [
            ("os.system('id')", vec![script("id")]),
            ("x = subprocess.run([\"ls\", '-l'], check=True)", vec![Call::Words(vec!["ls".into(), "-l".into()])]),
            ("do shell script \"echo \\\"a\\\"\"", vec![script("echo \"a\"")]),
            ("!pip list\nprint(1)", vec![script("pip list")]),
            ("%%bash\nid\n", vec![script("id\n")]),
            ("open('/a/b').read()", vec![reads("/a/b")]),
            ("open('/a/b', 'w')", vec![Call::Writes("/a/b".into())]),
            ("fs.readFileSync(\"/a\")", vec![reads("/a")]),
            ("print('os.system is bad'); reopen('x'); filesystem('y'); popen", vec![]),
            ("os.system('", vec![]),
        ] {
            assert_eq!(calls(text), expected, "{text}");
        }
    }
}
