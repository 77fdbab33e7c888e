//! What the arguments of a tool call mean to whoever gets them: decoded texts, the addresses that their URLs lead to, numbers that are
//! valid as what they look like, the commands that they execute, the files that they read and write, the kind of the tool.
//!
//! It is worked out only where a rule asks for it, and adds to what the arguments say: rules on the arguments as they were written see
//! those. Nothing here decides; a reading that no server would follow costs an alarm at most, and a hidden one must not be missed.

mod addresses;
mod code;
mod commands;
mod decoded;
mod effort;
mod encoded;
mod files;
mod numbers;
mod passing;
mod programs;
mod shapes;
mod shell;
mod smuggled;
mod tools;
mod unseen;
mod urls;

pub use passing::Passing;

use effort::Effort;
use gnomon_observe::{Field, Lookup, Observation, Value};
use smol_str::SmolStr;
use std::{collections::BTreeSet, net::IpAddr};
use tools::{Arguments, Kinds};

/// The fields that are filled here, from the call's arguments.
pub const MEANING: [Field; 8] = [
    Field::ArgumentsDecoded,
    Field::ArgumentsAddresses,
    Field::ArgumentsNumbers,
    Field::ArgumentsCommands,
    Field::ArgumentsInjected,
    Field::ArgumentsReads,
    Field::ArgumentsWrites,
    Field::ArgumentsSmuggled,
];

/// Fills the fields of [`MEANING`], and the kind of the tool. They are unreadable where the arguments are.
pub fn describe(seen: &mut Observation, arguments: &Arguments) {
    let name = match seen.get(Field::ToolName) {
        Lookup::Value(Value::Str(name)) => name.clone(),
        Lookup::Value(_) | Lookup::Absent => SmolStr::default(),
        Lookup::Unreadable => {
            seen.set_unreadable(Field::ToolKind);
            SmolStr::default()
        }
    };
    let kinds = Kinds::of(&name, arguments);
    set(seen, Field::ToolKind, if name.is_empty() { Vec::new() } else { kinds.names() });
    match seen.get(Field::ToolArguments) {
        Lookup::Absent => return,
        Lookup::Unreadable => return MEANING.into_iter().for_each(|field| seen.set_unreadable(field)),
        Lookup::Value(_) => {}
    }
    let decoded: Vec<SmolStr> = arguments.iter().flat_map(|(_, value)| decoded::readings(value)).collect();
    let mut effort = Effort::for_length(decoded.iter().map(|text| text.len()).sum());
    let addresses: BTreeSet<IpAddr> = decoded.iter().flat_map(|text| addresses::of_urls(text, &mut effort)).collect();
    let mut addresses: Vec<SmolStr> = addresses.into_iter().map(|ip| SmolStr::new(ip.to_string())).collect();
    addresses.sort_unstable();
    set(seen, Field::ArgumentsAddresses, addresses);
    leaves_out(seen, &[Field::ArgumentsAddresses], effort);
    set(seen, Field::ArgumentsNumbers, numbers::kinds(&decoded));
    set(seen, Field::ArgumentsSmuggled, arguments.iter().flat_map(|(_, value)| smuggled::in_urls(value)).collect());
    let mut effort = Effort::for_length(arguments.iter().map(|(_, value)| value.len()).sum());
    set(seen, Field::ArgumentsInjected, injected(arguments, kinds, &mut effort));
    leaves_out(seen, &[Field::ArgumentsInjected], effort);
    let commands::Executed { lines, mut files, mut effort } = commands::executed(arguments, kinds);
    files.of_arguments(arguments, kinds);
    set(seen, Field::ArgumentsCommands, lines);
    leaves_out(seen, &[Field::ArgumentsCommands], effort);
    if files.is_partial() {
        effort.leaves_out();
    }
    set(seen, Field::ArgumentsReads, files.read);
    set(seen, Field::ArgumentsWrites, files.written);
    leaves_out(seen, &[Field::ArgumentsReads, Field::ArgumentsWrites], effort);
    seen.set(Field::ArgumentsDecoded, decoded);
}

fn set(seen: &mut Observation, field: Field, values: Vec<SmolStr>) {
    if !values.is_empty() {
        seen.set(field, values);
    }
}

/// Where something was left out of fields, what they have is there, and that anything else is not is not known.
fn leaves_out(seen: &mut Observation, fields: &[Field], effort: Effort) {
    if !effort.is_partial() {
        return;
    }
    for field in fields {
        match seen.get(*field) {
            Lookup::Value(_) => seen.set_partial(*field),
            Lookup::Absent | Lookup::Unreadable => seen.set_unreadable(*field),
        }
    }
}

/// Commands in arguments of a tool that is given none.
fn injected(arguments: &Arguments, kinds: Kinds, effort: &mut Effort) -> Vec<SmolStr> {
    if kinds.editor || kinds.prose || kinds.code {
        return Vec::new();
    }
    let taken = |path: &str, value: &str| tools::is_command(path, kinds) || tools::is_text(path) || tools::is_sql(value);
    let others = arguments.iter().filter(|(path, value)| !taken(path, value));
    others.flat_map(|(_, value)| commands::injected(&decoded::decoded(value), effort)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_observe::FieldRef;

    fn of(arguments: &[&str]) -> Observation {
        let mut seen = Observation::new();
        seen.set(Field::ToolArguments, arguments.iter().map(SmolStr::new).collect::<Vec<_>>());
        let arguments: Vec<(SmolStr, SmolStr)> = arguments.iter().map(|value| ("x".into(), SmolStr::new(value))).collect();
        describe(&mut seen, &arguments);
        seen
    }

    #[test]
    fn a_call_without_arguments_has_no_meaning_of_them_and_one_whose_arguments_are_unreadable_has_an_unreadable_one() {
        let mut seen = Observation::new();
        describe(&mut seen, &[]);
        assert!(MEANING.iter().all(|field| seen.get(*field) == Lookup::Absent));
        seen.set_unreadable(Field::ToolArguments);
        describe(&mut seen, &[]);
        assert!(MEANING.iter().all(|field| seen.get(*field) == Lookup::Unreadable));
    }

    #[test]
    fn addresses_are_found_behind_every_encoding_and_told_once() {
        let seen = of(&["http%3A%2F%2F2852039166%2Flatest", "aHR0cDovLzE2OS4yNTQuMTY5LjI1NC9sYXRlc3QvbWV0YS1kYXRh", "4539 1488 0343 6467"]);
        assert_eq!(seen.get(Field::ArgumentsAddresses), Lookup::Value(&Value::List(vec!["169.254.169.254".into()])));
        assert_eq!(seen.get(Field::ArgumentsNumbers), Lookup::Value(&Value::List(vec!["payment_card".into()])));
    }

    #[test]
    fn whatever_a_text_is_what_it_means_is_bounded_by_it() {
        let parts = [
            "$(",
            "`",
            "'",
            "\"",
            "\\",
            ";",
            "|",
            "&&",
            "<<E",
            "\n",
            ">",
            "<",
            "{a,b}",
            "a=$a$a",
            "$a",
            "sh -c ",
            "os.system(",
            "open(",
            "base64",
            "%25",
            "\\x41",
            "/../",
            "~",
            "é",
            "\u{e0041}",
            "Y3VybCBodHRwOi8vMjAzLjAuMTEzLjg",
            "://",
            "xargs ",
            "find . -exec ",
            "sudo ",
            "C:\\",
            "$'\\",
            "!",
            " ",
        ];
        let mut state = 7_u64;
        for round in 0..2_000 {
            let mut text = String::new();
            for _ in 0..round % 60 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(parts[(state >> 33) as usize % parts.len()]);
            }
            for tool in ["bash", "run_python", "find_customer", "write_file"] {
                let mut seen = Observation::new();
                seen.set(Field::ToolName, tool);
                seen.set(Field::ToolArguments, vec![SmolStr::new(&text)]);
                describe(
                    &mut seen,
                    &[("command".into(), SmolStr::new(&text)), ("code".into(), SmolStr::new(&text)), ("url".into(), SmolStr::new(&text))],
                );
                assert!(seen.bytes() < 16 * 1024 + 400 * (text.len() + 1), "{text}: {}", seen.bytes());
            }
        }
    }

    fn called(tool: &str, name: &str, text: &str) -> Observation {
        let mut seen = Observation::new();
        seen.set(Field::ToolName, tool);
        seen.set(Field::ToolArguments, vec![SmolStr::new(text)]);
        describe(&mut seen, &[(name.into(), text.into())]);
        seen
    }

    #[test]
    fn what_is_not_looked_at_is_not_known_to_be_absent() {
        use Field::{ArgumentsAddresses, ArgumentsCommands, ArgumentsInjected, ArgumentsReads, ArgumentsWrites};
        // URLs without an end, code in every word, more commands than are read, more files, variables that make more of themselves.
        for (tool, name, text, fields) in [
            ("fetch", "url", "http:".repeat(10_000), &[ArgumentsAddresses][..]),
            ("run_shell", "command", "python -c \\\"\\\" ".repeat(4_000), &[ArgumentsCommands, ArgumentsReads, ArgumentsWrites]),
            ("run_shell", "command", "a;".repeat(300), &[ArgumentsCommands, ArgumentsReads]),
            ("run_shell", "command", (0..600).map(|number| format!("cat /{number} ")).collect(), &[ArgumentsReads]),
            ("run_shell", "command", format!("a={}; echo {}", "x".repeat(4_000), "$a ".repeat(100)), &[ArgumentsCommands]),
            ("run_python", "code", "system('a')\n".repeat(100), &[ArgumentsCommands, ArgumentsReads]),
            ("find_customer", "email", "a;".repeat(300), &[ArgumentsInjected]),
        ] {
            let seen = called(tool, name, &text);
            for field in fields {
                let is_open = seen.is_partial(&FieldRef::Field(*field)) || seen.get(*field) == Lookup::Unreadable;
                assert!(is_open, "{field:?} of {}", &text[..20]);
            }
        }
    }

    #[test]
    fn of_what_is_looked_at_all_is_known_however_long_it_is() {
        let page = "see https://a.example/b?c=d and `c`, (e); f's \"g\" & 1.5 % of http://10.0.0.1/\n".repeat(60_000 / 80);
        let script = "for f in a b c; do\n  cp \"$f\" /srv/files/$f && echo \"copied $f\" | tee -a log\ndone\n".repeat(40);
        let code = "import subprocess\nsubprocess.run(['ls', '-l'])\nwith open('a') as f: print(f.read())\n".repeat(20);
        for (tool, name, text) in
            [("fetch", "url", &page), ("create_page", "title", &page), ("bash", "command", &script), ("run_python", "code", &code)]
        {
            let seen = called(tool, name, text);
            for field in MEANING.into_iter().filter(|field| name != "url" || *field != Field::ArgumentsInjected) {
                assert!(!seen.is_partial(&FieldRef::Field(field)) && seen.get(field) != Lookup::Unreadable, "{field:?} of {tool}");
            }
        }
    }

    #[test]
    fn plain_arguments_are_their_own_meaning() {
        let seen = of(&["a plain sentence", "7"]);
        assert_eq!(seen.get(Field::ArgumentsDecoded), Lookup::Value(&Value::List(vec!["a plain sentence".into(), "7".into()])));
        assert_eq!((seen.get(Field::ArgumentsAddresses), seen.get(Field::ArgumentsNumbers)), (Lookup::Absent, Lookup::Absent));
    }
}
