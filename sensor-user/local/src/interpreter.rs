//! What an interpreter runs, by its options: code that stands in the arguments, a module, or a script. It knows the options that take a value;
//! one that it does not know is taken to be alone.

/// Interpreters that are called with a script's path, beside shells.
const INTERPRETERS: [&str; 7] = ["node", "nodejs", "perl", "ruby", "php", "python", "pypy"];
const SHELLS: [&str; 8] = ["sh", "bash", "zsh", "dash", "ash", "ksh", "mksh", "fish"];

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs<'a> {
    /// Code in the arguments, as the word at this place where it is one of its own.
    Code(usize),
    /// A module of Python's.
    Module(&'a str),
    /// The script at this place.
    Script(usize),
    /// Nothing that the arguments name.
    Nothing,
}

/// The interpreter that a program is by its file's name, whatever its version: `python3.12` is `python`.
pub(crate) fn interpreter(stem: &str) -> Option<&'static str> {
    let plain = stem.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    INTERPRETERS.into_iter().find(|known| *known == plain)
}

/// True if a program is a shell by its file's name.
pub(crate) fn is_shell(stem: &str) -> bool {
    SHELLS.contains(&stem)
}

/// The options of an interpreter. Letters may stand together behind one `-`.
struct Options {
    /// Letters behind which code stands.
    code: &'static str,
    /// Letters that take a value: the rest of the word, else the next one.
    value: &'static str,
    /// Letters whose value, if any, is the rest of the word.
    attached: &'static str,
    /// The letter behind which a module stands, and the one behind which a script does.
    module: Option<char>,
    file: Option<char>,
    long_code: &'static [&'static str],
    long_value: &'static [&'static str],
}

const NONE: Options = Options { code: "", value: "", attached: "", module: None, file: None, long_code: &[], long_value: &[] };

/// Of node: https://nodejs.org/api/cli.html; of the others, their manual pages.
fn options(stem: &str) -> Options {
    match interpreter(stem) {
        Some("node" | "nodejs") => Options {
            code: "ep",
            value: "rC",
            long_code: &["--eval", "--print"],
            long_value: &[
                "--require",
                "--import",
                "--loader",
                "--experimental-loader",
                "--conditions",
                "--env-file",
                "--env-file-if-exists",
                "--input-type",
                "--title",
                "--icu-data-dir",
                "--openssl-config",
                "--disable-warning",
                "--redirect-warnings",
                "--unhandled-rejections",
                "--dns-result-order",
                "--watch-path",
                "--localstorage-file",
            ],
            ..NONE
        },
        Some("perl") => Options { code: "eE", value: "I", attached: "MmiC0xFdDl", ..NONE },
        Some("ruby") => Options { code: "e", value: "rIEC", attached: "KWxiF0T", ..NONE },
        Some("php") => Options { code: "rRBE", value: "dcz", file: Some('f'), long_code: &["--run"], ..NONE },
        Some(_) => Options { code: "c", value: "WX", module: Some('m'), long_value: &["--check-hash-based-pycs"], ..NONE },
        None => Options { code: "c", value: "oO", long_value: &["--rcfile", "--init-file"], ..NONE },
    }
}

/// What an interpreter or shell of this name runs with these arguments, which follow it.
pub(crate) fn runs<'a>(stem: &str, rest: &[&'a str]) -> Runs<'a> {
    let known = options(stem);
    let at_script = |at: usize| if at < rest.len() { Runs::Script(at) } else { Runs::Nothing };
    let mut at = 0;
    while let Some(word) = rest.get(at) {
        let Some(letters) = word.strip_prefix('-') else { return Runs::Script(at) };
        at += 1;
        match letters.strip_prefix('-') {
            Some("") => return at_script(at),
            Some(_) => {
                let (name, value) = word.split_once('=').map_or((*word, None), |(name, value)| (name, Some(value)));
                if known.long_code.contains(&name) {
                    return Runs::Code(at);
                }
                at += usize::from(value.is_none() && known.long_value.contains(&name));
            }
            // Standard input.
            None if letters.is_empty() => return Runs::Nothing,
            None => match of_letters(letters, &known) {
                Letters::Alone => {}
                Letters::TakesNext => at += 1,
                Letters::Code => return Runs::Code(at),
                Letters::File => return at_script(at),
                Letters::Module("") => return rest.get(at).map_or(Runs::Nothing, |name| Runs::Module(name)),
                Letters::Module(name) => return Runs::Module(name),
            },
        }
    }
    Runs::Nothing
}

enum Letters<'a> {
    Alone,
    TakesNext,
    Code,
    File,
    /// Empty where the next word names it.
    Module(&'a str),
}

fn of_letters<'a>(letters: &'a str, known: &Options) -> Letters<'a> {
    for (at, letter) in letters.char_indices() {
        let rest = letters.get(at + letter.len_utf8()..).unwrap_or_default();
        match letter {
            _ if known.code.contains(letter) => return Letters::Code,
            _ if known.module == Some(letter) => return Letters::Module(rest),
            _ if known.file == Some(letter) && rest.is_empty() => return Letters::File,
            _ if known.value.contains(letter) => return if rest.is_empty() { Letters::TakesNext } else { Letters::Alone },
            _ if known.attached.contains(letter) => return Letters::Alone,
            _ => {}
        }
    }
    Letters::Alone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_each_interpreter_reads_them_alone_and_put_together() {
        for (line, expected) in [
            ("python -um mcp_server_git", Runs::Module("mcp_server_git")),
            ("python3.12 -Immcp_server_git", Runs::Module("mcp_server_git")),
            ("python -Xdev -W ignore -m a", Runs::Module("a")),
            ("python -uc code x", Runs::Code(1)),
            ("python -u - x", Runs::Nothing),
            ("python -m", Runs::Nothing),
            ("node --experimental-loader ./a.js ./b.js", Runs::Script(2)),
            ("node --env-file=/dev/null -- b.js", Runs::Script(2)),
            ("node22 -pe code", Runs::Code(1)),
            ("perl5.36 -MJSON -we code", Runs::Code(2)),
            ("perl -Mmine mcp.pl", Runs::Script(1)),
            ("php8.2 -f mcp.php", Runs::Script(1)),
            ("bash -eo pipefail mcp.sh -c x", Runs::Script(2)),
            ("bash -lc line", Runs::Code(1)),
            ("sh", Runs::Nothing),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(runs(words[0], &words[1..]), expected, "{line}");
        }
        assert_eq!((interpreter("nodejs20"), interpreter("node_exporter"), interpreter("sh")), (Some("nodejs"), None, None));
    }
}
