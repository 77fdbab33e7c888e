//! What code in other languages has a shell or the system do: the literals that it gives to functions which execute, open or write files.
//! It is searched, not parsed: a literal that is made up at run time is not seen.

use super::effort::Effort;

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
/// What a byte of a text costs, and what each text does, as it is searched for each function.
const BYTE_COSTS: usize = 4;
const TEXT_COSTS: usize = 256;

/// One such call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Script(String),
    Words(Vec<String>),
    Reads(String),
    Writes(String),
}

/// The calls within a text.
pub(super) fn calls(text: &str, effort: &mut Effort) -> Vec<Call> {
    let mut found = Vec::new();
    // Most words are no code: without one of these nothing is called.
    if !text.contains(['"', '\'', '`', '!', '%']) || !effort.takes(BYTE_COSTS * text.len() + TEXT_COSTS) {
        return found;
    }
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
        for literals in given(text, name, effort) {
            match literals.as_slice() {
                [] => {}
                [script] => found.push(Call::Script(script.clone())),
                words => found.push(Call::Words(words.to_vec())),
            }
        }
    }
    for name in OPENERS.split_ascii_whitespace() {
        for literals in given(text, name, effort) {
            let Some(path) = literals.first() else { continue };
            let writes = name == "open" && literals.get(1).is_some_and(|mode| mode.len() <= 3 && mode.starts_with(['w', 'a', 'x']));
            found.push(if writes { Call::Writes(path.clone()) } else { Call::Reads(path.clone()) });
        }
    }
    for name in WRITERS.split_ascii_whitespace() {
        found.extend(given(text, name, effort).into_iter().filter_map(|literals| literals.into_iter().next()).map(Call::Writes));
    }
    if found.len() > MOST_CALLS {
        effort.leaves_out();
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
fn given(text: &str, name: &str, effort: &mut Effort) -> Vec<Vec<String>> {
    let begins = |at: usize| text.get(..at).and_then(|before| before.chars().next_back()).is_none_or(|c| !c.is_alphanumeric() && c != '_');
    let mut found = Vec::new();
    for (at, name) in text.match_indices(name).filter(|(at, _)| begins(*at)) {
        if found.len() >= MOST_CALLS {
            effort.leaves_out();
            break;
        }
        if !effort.takes(name.len()) {
            break;
        }
        let literals = literals(text.get(at + name.len()..).unwrap_or_default(), effort);
        found.extend(Some(literals).filter(|literals| !literals.is_empty()));
    }
    found
}

/// The literals at the beginning, between nothing but brackets, commas and white space.
fn literals(mut rest: &str, effort: &mut Effort) -> Vec<String> {
    let mut found = Vec::new();
    // A function that is only named is not called.
    if !rest.trim_start().starts_with(['(', '"', '\'', '`']) {
        return found;
    }
    while found.len() < MOST_LITERALS {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '(' | '[' | ',' | 'r' | 'b' | 'f' | 'u'));
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) else { break };
        let read = literal(rest.get(1..).unwrap_or_default(), quote);
        let left = read.as_ref().map_or(0, |(_, after)| after.len());
        if !effort.takes(rest.len().saturating_sub(left)) {
            break;
        }
        let Some((literal, after)) = read else { break };
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
            assert_eq!(calls(text, &mut Effort::for_length(text.len())), expected, "{text}");
        }
    }
}
