//! Arguments that are JSON themselves. A server that converts arguments to the types of its parameters (the Python SDK does) reads such a text
//! as what it holds, so rules on arguments see both: the text, and the values in it under their paths. What Python reads beyond JSON (`NaN`,
//! `Infinity`, control characters) is read; where a text begins as JSON and breaks before its end, what else is in it is not known.

use gnomon_engine::Arguments;
use gnomon_observe::{Family, Field, Observation};
use gnomon_wire::jsonrpc::{ArgumentCapture, Limits, Malformed, Message, Scanner, Truncation};
use smol_str::{SmolStr, format_smolstr};

/// How deep JSON stands in JSON.
const DEPTH: usize = 2;
/// The most bytes of paths and values that are read so of one call, and the most values.
const BOUND: ArgumentCapture = ArgumentCapture::On { max_bytes: 256 << 10, max_leaves: 16 << 10 };
/// Before a text, what makes it the arguments of a call.
const OPENING: &[u8] = br#"{"jsonrpc":"2.0","method":"tools/call","params":{"arguments":"#;
/// Behind it.
const CLOSING: &[u8] = b"}}";
/// Objects that the opening leaves open.
const AROUND: usize = 2;

/// Adds what stands within the arguments of a call. Where that is too much, what rules would find there is not known.
pub(super) fn add(seen: &mut Observation, message: &Message, wanted: &Arguments) {
    let (all, named): (bool, &[SmolStr]) = match wanted {
        Arguments::Unwanted => return,
        Arguments::Named(named) => (false, named),
        Arguments::All { named } => (true, named),
    };
    if message.arguments_truncated.is_cut() {
        return;
    }
    let mut read = Read { found: Vec::new(), truncated: Truncation::default() };
    message.arguments.iter().for_each(|(path, value)| read.text(path, value, DEPTH));
    if read.truncated.is_cut() {
        seen.set_partial(Field::ToolArguments);
        seen.set_family_unreadable(Family::Argument);
    }
    if read.found.is_empty() {
        return;
    }
    for (path, value) in &read.found {
        if named.binary_search(path).is_ok() {
            seen.set_member(Family::Argument, path.clone(), value.clone());
        }
    }
    if all {
        let values = message.arguments.iter().chain(&read.found).map(|(_, value)| value.clone());
        seen.set(Field::ToolArguments, values.collect::<Vec<_>>());
    }
}

struct Read {
    /// Paths and values.
    found: Vec<(SmolStr, SmolStr)>,
    truncated: Truncation,
}

impl Read {
    fn text(&mut self, above: &SmolStr, text: &str, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        if !text.trim_start().starts_with(['{', '[']) {
            return;
        }
        let (within, truncation) = within(text);
        let is_cut = truncation.is_cut() || within.arguments_truncated.is_cut();
        self.truncated = if is_cut { Truncation::Cut } else { self.truncated };
        for (path, value) in within.arguments {
            let path = if path.is_empty() { above.clone() } else { format_smolstr!("{above}.{path}") };
            self.text(&path, &value, depth);
            self.found.push((path, value));
        }
    }
}

/// The text read as the arguments of a call, as far as it can be: the same reader, so that the same oddities are looked past. Cut, where it
/// begins as JSON and its first value does not end.
fn within(text: &str) -> (Message, Truncation) {
    let mut scanner = Scanner::new(Limits { arguments: BOUND, ..Limits::default() });
    let mut read = None;
    let mut keep = |message: &Message| read = Some(message.clone());
    let fed = [OPENING, text.as_bytes()].into_iter().try_for_each(|part| scanner.feed(part, &mut keep));
    let ends = scanner.depth() <= AROUND;
    let is_json = fed == Err(Malformed::DepthExceeded) || begins_as_json(text);
    let truncation = if ends || !is_json { Truncation::Whole } else { Truncation::Cut };
    let fed = fed.and_then(|()| scanner.feed(CLOSING, &mut keep));
    if fed.and_then(|()| scanner.finish(&mut keep).map(drop)).is_err() {
        let partial = scanner.partial().cloned();
        return (read.or(partial).unwrap_or_default(), truncation);
    }
    (read.unwrap_or_default(), truncation)
}

/// True if the first name or value in it is in double quotes. Much that is no JSON begins with a bracket: links, dates, templates.
fn begins_as_json(text: &str) -> bool {
    text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '[' | '{')).starts_with('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_observe::{FieldRef, Lookup, Value};

    fn seen(arguments: &[(&str, &str)], named: &[&str]) -> Observation {
        let message = Message {
            arguments: arguments.iter().map(|(path, value)| (SmolStr::new(path), SmolStr::new(value))).collect(),
            ..Message::default()
        };
        let mut seen = Observation::new();
        seen.set(Field::ToolArguments, message.arguments.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>());
        add(&mut seen, &message, &Arguments::All { named: named.iter().map(SmolStr::new).collect() });
        seen
    }

    fn texts(seen: &Observation) -> Vec<SmolStr> {
        match seen.get(Field::ToolArguments) {
            Lookup::Value(Value::List(list)) => list.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_argument_that_is_json_is_seen_as_what_it_holds_under_its_path() {
        for (value, path) in [
            (r#"{"file":"\/etc\/passwd"}"#, "options.file"),
            (r#"  {"file":"/etc/pass\u0077d"}"#, "options.file"),
            (r#"["/etc/passwd"]"#, "options"),
            (r#"{"a":"{\"file\":\"/etc/passwd\"}"}"#, "options.a.file"),
        ] {
            let seen = seen(&[("options", value)], &[path]);
            assert!(texts(&seen).iter().any(|text| text == "/etc/passwd"), "{value}: {seen:?}");
            assert!(texts(&seen).iter().any(|text| text == value), "{value}");
            let member = seen.look_up(&FieldRef::Member(Family::Argument, path.into()));
            assert_eq!(member, Lookup::Value(&Value::Str("/etc/passwd".into())), "{value}");
        }
        let plain = seen(&[("text", "[a] plain {text}"), ("n", "7")], &["text"]);
        assert_eq!(texts(&plain).len(), 2, "{plain:?}");
    }

    #[test]
    fn whatever_a_lenient_reader_reads_in_an_argument_that_is_json_is_seen() {
        let escaped = r#""file":"/etc/p\u0061sswd""#;
        for odd in [
            format!(r#"{{"a":NaN,{escaped}}}"#),
            format!(r#"{{{escaped},"a":NaN}}"#),
            format!(r#"{{"a":[1,NaN,Infinity],{escaped}}}"#),
            format!(r#"{{"a":Infinity,{escaped}}}"#),
            format!(r#"{{"a":-Infinity,{escaped}}}"#),
            format!(r#"{{"a": [-Infinity , {{"b":NaN }} ] ,{escaped} }}"#),
            format!("{{\"a\":\"\t\",{escaped}}}"),
            format!("{{\"a\":{}1{},{escaped}}}", "[".repeat(500), "]".repeat(500)),
        ] {
            let seen = seen(&[("options", &odd)], &["options.file"]);
            let member = seen.look_up(&FieldRef::Member(Family::Argument, "options.file".into()));
            assert_eq!(member, Lookup::Value(&Value::Str("/etc/passwd".into())), "{odd}");
            assert!(texts(&seen).iter().any(|text| text == "/etc/passwd"), "{odd}");
        }
    }

    #[test]
    fn what_begins_as_json_and_cannot_be_read_to_its_end_is_not_known_and_what_only_looks_like_it_is_text() {
        let file = |seen: &Observation| seen.look_up(&FieldRef::Member(Family::Argument, "x.file".into())) == Lookup::Unreadable;
        let deep = "[".repeat(5000);
        for broken in [
            r#"{"a":NaNa,"file":"x"}"#,
            r#"{"a":01,"file":"x"}"#,
            r#"{"a":+1,"file":"x"}"#,
            r#"{"a":.5,"file":"x"}"#,
            r#"{"a":0x1,"file":"x"}"#,
            r#"{"a":True,"file":"x"}"#,
            r#"{"a":'b',"file":"x"}"#,
            r#"{"a":1,file:"x"}"#,
            r#"{"a":1,}"#,
            r#"{"a":"\x","file":"x"}"#,
            r#"{"a":1,/**/"file":"x"}"#,
            r#"{"a":1,"fil"#,
            r#"["a",b]"#,
            r#"[{"a":undefined}]"#,
            &deep,
        ] {
            assert!(file(&seen(&[("x", broken)], &["x.file"])), "{broken}");
            let nested = serde_json::json!({ "y": broken }).to_string();
            assert!(broken == deep || file(&seen(&[("x", &nested)], &["x.file"])), "{nested}");
        }
        for plain in [
            "[a] b",
            "[12:30] Ann: hi",
            "[1] see there",
            "[[link]]",
            "{{name}}",
            "{a}",
            "[x](y)",
            "[0, 1)",
            "[\"a\"] and more",
            "{}",
            "[",
            "{ x: 1 }",
        ] {
            assert!(!file(&seen(&[("x", plain)], &["x.file"])), "{plain}");
        }
    }

    #[test]
    fn what_holds_more_than_is_read_is_not_known() {
        let many = format!("[{}1]", "1,".repeat(20_000));
        let seen = seen(&[("x", &many)], &["y"]);
        assert_eq!(seen.look_up(&FieldRef::Member(Family::Argument, "y".into())), Lookup::Unreadable);
        assert!(texts(&seen).len() <= 16 << 10 | 1);
    }
}
