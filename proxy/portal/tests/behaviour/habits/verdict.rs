//! What a script came to, beside what its author meant.

use super::case::Case;
use serde_json::Value;

/// The end of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What was meant, at once.
    Right,
    /// Not that, and the answer says so, with what to do; or what the script itself logs of it is there to be read.
    Told,
    /// Not that, and nothing says so.
    Silent,
}

/// What an answer consists of.
pub struct Read<'a> {
    pub text: &'a str,
    pub failed: bool,
    console: &'a str,
}

impl<'a> Read<'a> {
    pub fn of(text: &'a str, failed: bool) -> Self {
        let console = text.split_once("\n\nConsole:\n").map_or("", |(_, console)| console);
        Self { text, failed, console }
    }

    /// What stands behind the value that was meant, if that is what the answer begins with.
    fn behind(&self, meant: &str) -> Option<&'a str> {
        let rest = match serde_json::from_str::<Value>(meant) {
            Ok(meant) => {
                let mut values = serde_json::Deserializer::from_str(self.text).into_iter::<Value>();
                let same = values.next()?.ok().filter(|value| same(value, &meant));
                same.map(|_| &self.text[values.byte_offset()..])
            }
            Err(_) => self.text.strip_prefix(meant),
        };
        rest.filter(|rest| rest.is_empty() || rest.starts_with("\n\n"))
    }

    /// Whether anything in it says that something may be amiss.
    fn warns(&self) -> bool {
        let before = self.text.split_once("\n\nConsole:\n").map_or(self.text, |(before, _)| before);
        // The portal's own remarks stand behind the value, after an empty line.
        let remarks = ["The script returned nothing", "still under way", "was dropped at the end", "TRUNCATED", "Not waited for", "Note: "];
        remarks.iter().any(|remark| before.contains(remark)) || self.console.contains("[warn] codemode.")
    }
}

/// Whether two results are the same; numbers by their values.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other)),
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

/// Whether all members of `meant` are in `given`.
fn within(given: &Value, meant: &Value) -> bool {
    match (given, meant) {
        (Value::Null, Value::Object(meant)) => meant.is_empty(),
        (Value::Object(given), Value::Object(meant)) => {
            meant.iter().all(|(key, meant)| given.get(key).is_some_and(|given| within(given, meant)))
        }
        _ => same(given, meant),
    }
}

/// Whether what was changed is what was to be, in whatever order.
pub fn is_done(case: &Case, done: &[(String, Value)]) -> bool {
    let mut left: Vec<&(String, Value)> = done.iter().collect();
    case.done.iter().all(|(tool, meant)| {
        let found = left.iter().position(|(known, given)| known == tool && within(given, meant));
        found.map(|at| left.remove(at)).is_some()
    }) && left.is_empty()
}

/// Whether the answer is what was meant.
fn is_meant(case: &Case, read: &Read<'_>) -> bool {
    let gives = case.gives.as_ref().is_none_or(|meant| read.behind(meant).is_some());
    !read.failed && gives && case.shows.iter().all(|line| read.console.contains(line.as_str()))
}

/// What a script came to.
pub fn of(case: &Case, read: &Read<'_>, done: &[(String, Value)]) -> Verdict {
    if is_meant(case, read) && is_done(case, done) {
        Verdict::Right
    } else if read.failed || read.warns() || !case.says.is_empty() && case.says.iter().all(|phrase| read.text.contains(phrase.as_str())) {
        Verdict::Told
    } else {
        Verdict::Silent
    }
}
