//! Arguments that are JSON themselves. A server that converts arguments to the types of its parameters (the Python SDK does) reads such a text
//! as what it holds, so rules on arguments see both: the text, and the values in it under their paths.

use gnomon_engine::Arguments;
use gnomon_observe::{Family, Field, Observation};
use gnomon_wire::jsonrpc::{ArgumentCapture, Limits, Message, Scanner, Truncation};
use smol_str::{SmolStr, format_smolstr};

/// How deep JSON stands in JSON.
const DEPTH: usize = 2;
/// The most bytes of paths and values that are read so of one call, and the most values.
const BOUND: ArgumentCapture = ArgumentCapture::On { max_bytes: 256 << 10, max_leaves: 16 << 10 };
/// Before a text, what makes it the arguments of a call.
const OPENING: &[u8] = br#"{"jsonrpc":"2.0","method":"tools/call","params":{"arguments":"#;
/// Behind it.
const CLOSING: &[u8] = b"}}";

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
        let within = within(text);
        self.truncated = if within.arguments_truncated.is_cut() { Truncation::Cut } else { self.truncated };
        for (path, value) in within.arguments {
            let path = if path.is_empty() { above.clone() } else { format_smolstr!("{above}.{path}") };
            self.text(&path, &value, depth);
            self.found.push((path, value));
        }
    }
}

/// The text read as the arguments of a call, as far as it can be: the same reader, so that the same oddities are looked past.
fn within(text: &str) -> Message {
    let mut scanner = Scanner::new(Limits { arguments: BOUND, ..Limits::default() });
    let mut read = None;
    let mut keep = |message: &Message| read = Some(message.clone());
    let fed = [OPENING, text.as_bytes(), CLOSING].into_iter().try_for_each(|part| scanner.feed(part, &mut keep));
    if fed.and_then(|()| scanner.finish(&mut keep).map(drop)).is_err() {
        let partial = scanner.partial().cloned();
        return read.or(partial).unwrap_or_default();
    }
    read.unwrap_or_default()
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
    fn what_holds_more_than_is_read_is_not_known() {
        let many = format!("[{}1]", "1,".repeat(20_000));
        let seen = seen(&[("x", &many)], &["y"]);
        assert_eq!(seen.look_up(&FieldRef::Member(Family::Argument, "y".into())), Lookup::Unreadable);
        assert!(texts(&seen).len() <= 16 << 10 | 1);
    }
}
