//! Error texts for a model: the engine's words, the position in the model's own code, and what to do next.

use super::positions::Positions;
use crate::frame::MAX_MESSAGE;
use crate::limits::{Limit, Limits};

/// The engine's text for a full stack, in an error that can be caught.
const TOO_DEEP: &str = "RangeError: Maximum call stack size exceeded";

/// Characters of a line of code that are shown.
const MOST_OF_A_LINE: usize = 120;

/// Names that models expect and that do not exist here, with their replacements.
const OUTSIDE: [(&str, &str); 33] = [
    ("fetch", NETWORK),
    ("XMLHttpRequest", NETWORK),
    ("WebSocket", NETWORK),
    ("axios", NETWORK),
    ("require", MODULES),
    ("module", MODULES),
    ("exports", MODULES),
    ("process", MODULES),
    ("Deno", MODULES),
    ("Bun", MODULES),
    ("fs", MODULES),
    ("window", MODULES),
    ("document", MODULES),
    ("localStorage", "nothing is kept between executions: return what is needed"),
    ("Buffer", "there are atob, btoa, TextEncoder, TextDecoder and Uint8Array.fromBase64"),
    ("Intl", "there is no internationalisation: toISOString, toFixed and padStart are there"),
    ("performance", "Date.now() is there"),
    ("AbortController", "bound a call with Promise.race and sleep(milliseconds)"),
    ("AbortSignal", "bound a call with Promise.race and sleep(milliseconds)"),
    ("WeakRef", "a Map is there"),
    ("Atomics", "there is one thread"),
    ("SharedArrayBuffer", "there is one thread"),
    ("Worker", "there is one thread: run calls at the same time with Promise.all"),
    ("navigator", NETWORK),
    ("print", "this is JavaScript: console.log(…)"),
    ("len", "this is JavaScript: value.length"),
    ("None", "this is JavaScript: null"),
    ("True", "this is JavaScript: true"),
    ("False", "this is JavaScript: false"),
    ("range", "this is JavaScript: for (let i = 0; i < n; i++)"),
    ("str", "this is JavaScript: String(value)"),
    ("dict", "this is JavaScript: {name: value}"),
    ("asyncio", "this is JavaScript: Promise.all([…])"),
];
const NETWORK: &str = "there is no network here: call tools as codemode.<name>(arguments)";
const MODULES: &str = "there is no file system and no module here: leave import, require and module.exports out, send the async arrow function alone, \
                       and call tools as codemode.<name>(arguments)";

/// An error's text as it leaves: without our own frames, with the model's own lines, a hint where one helps, bounded.
pub fn tidy(text: &str, code: &str, positions: &Positions) -> String {
    let mut tidied = String::new();
    let mut shown = false;
    for (at, line) in text.lines().enumerate() {
        let frame = at > 0 && line.trim_start().starts_with("at ");
        if frame && (line.contains("(prelude:") || line.contains("at prelude:") || line.contains("(web:") || line.contains("(native)")) {
            continue;
        }
        if at > 0 {
            tidied.push('\n');
        }
        match frame.then(|| placed(line, positions)).flatten() {
            Some((line, number)) => {
                tidied.push_str(&line);
                if !std::mem::replace(&mut shown, true)
                    && let Some(written) = code.lines().nth(number.saturating_sub(1)).map(str::trim).filter(|line| !line.is_empty())
                {
                    let written: String = written.chars().take(MOST_OF_A_LINE).collect();
                    tidied.push_str(&format!("\n    {number} | {written}"));
                }
            }
            None => tidied.push_str(line),
        }
        if at == 0
            && let Some(hint) = hint(line, code)
        {
            tidied.push_str(&format!(" ({hint})"));
        }
    }
    match tidied.char_indices().nth(MAX_MESSAGE) {
        Some((cut, _)) => tidied[..cut].to_owned(),
        None => tidied,
    }
}

/// A frame with the model's own line and column, and that line.
fn placed(frame: &str, positions: &Positions) -> Option<(String, usize)> {
    let (before, rest) = frame.split_once("script:")?;
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (line, rest) = rest.split_at(digits(rest));
    let (column, rest) = match rest.strip_prefix(':') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("1", rest),
    };
    let (line, column) = positions.source((line.parse().ok()?, column.parse().ok()?))?;
    Some((format!("{before}script:{line}:{column}{rest}"), line))
}

/// Advice on an error, by the engine's text.
fn hint(error: &str, code: &str) -> Option<String> {
    let (name, message) = error.split_once(": ")?;
    match name {
        _ if message.starts_with("could not load module") => Some(MODULES.to_owned()),
        _ if message.contains("only 65535 allowed") => {
            Some("go through the list with reduce or a loop in place of spreading it: list.reduce((a, b) => Math.max(a, b))".to_owned())
        }
        "ReferenceError" => {
            let unknown = message.split_once(" is not defined")?.0.trim_matches('\'');
            if let Some(argument) = keyword_of(code) {
                return Some(format!("this is Python; in JavaScript named arguments are an object: codemode.<name>({{{argument}: …}})"));
            }
            let known = OUTSIDE.iter().find(|(outside, _)| *outside == unknown).map(|(_, hint)| (*hint).to_owned());
            Some(known.unwrap_or_else(|| {
                if has_keyword(code, unknown) {
                    return format!("this is Python; in JavaScript named arguments are an object: codemode.<name>({{{unknown}: …}})");
                }
                if is_assigned(code, unknown) {
                    return format!("declare it: const {unknown} = …, or let where it changes");
                }
                "nothing has this name here: tools are codemode.<name>(arguments), which codemode.search('words') finds".to_owned()
            }))
        }
        "TypeError" if message == "not a function" => Some(
            "what is called here has no such method: log the value, or await the promise before it; a tool is codemode.<name>(arguments)"
                .to_owned(),
        ),
        "TypeError" if message.starts_with("cannot read propert") => {
            Some("what stands before it has no value: log the answer once to see its shape, or use ?.".to_owned())
        }
        "TypeError" if message.ends_with("not iterable") => {
            Some("only a list can be gone through: log the value, and await the promise if it is one".to_owned())
        }
        "TypeError" if message.contains("circular reference") => Some("return the fields that are needed".to_owned()),
        _ => None,
    }
}

/// The occurrences of a name as a whole word, with the text before it and after.
fn standing<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let in_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    code.match_indices(name).filter(|_| !name.is_empty()).filter_map(move |(at, _)| {
        let (before, after) = (code.get(..at)?, code.get(at + name.len()..)?);
        (!before.ends_with(in_name) && !after.starts_with(in_name)).then(|| (before.trim_end(), after.trim_start()))
    })
}

fn assigns(after: &str) -> bool {
    after.starts_with('=') && !after.starts_with("==") && !after.starts_with("=>")
}

/// True if this name is called with a value, as Python does.
fn has_keyword(code: &str, name: &str) -> bool {
    standing(code, name).any(|(before, after)| before.ends_with(['(', ',']) && assigns(after))
}

/// The first name that a call is given a value by, as in `tool(owner="acme")`: where no function is made that could have a default.
fn keyword_of(code: &str) -> Option<&str> {
    if code.contains("=>") || code.contains("function") {
        return None;
    }
    code.match_indices('(').find_map(|(at, _)| {
        let (before, after) = (code.get(..at)?, code.get(at + 1..)?.trim_start());
        let name = &after[..after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len())];
        let is_call = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        (is_call && !name.is_empty() && assigns(after[name.len()..].trim_start())).then_some(name)
    })
}

fn is_assigned(code: &str, name: &str) -> bool {
    standing(code, name).any(|(before, after)| !before.ends_with('.') && assigns(after))
}

/// The limit that an error names, if it is the engine's or ours. A script that throws such an error blames itself.
pub fn blamed(text: &str, limits: &Limits) -> Option<Limit> {
    if text.starts_with(TOO_DEEP) {
        return Some(Limit::Stack);
    }
    let said = text.strip_prefix("RangeError: ")?;
    [Limit::Calls, Limit::Arguments, Limit::Answer].into_iter().find(|limit| said.starts_with(&limit.text(limits)))
}

/// Whether code could not be compiled because it nests too deeply.
pub fn is_too_deep(text: &str) -> bool {
    text.starts_with(TOO_DEEP)
}

/// The mistake of a program that called nothing and whose result is `json`, if it did nothing at all: its result is code that
/// nothing ran, or `code` was data.
pub fn unrun(json: &str, code: &str) -> Option<&'static str> {
    if code.starts_with(['{', '"']) && serde_json::from_str::<serde_json::Value>(code).is_ok() {
        return Some("TypeError: this is data, which does nothing: send JavaScript, as async () => codemode.search('words')");
    }
    let text: String = serde_json::from_str(json).ok()?;
    let text = text.trim_start();
    let begins = ["async ", "async(", "(async", "function ", "function(", "() =>", "()=>", "export default", "```"];
    let is_code = begins.iter().any(|begin| text.starts_with(begin)) && (text.contains("=>") || text.contains("function"));
    is_code.then_some("TypeError: the result is code that nothing ran: send the function itself as `code`, not a text of it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_a_tool_words_like_a_bound_is_the_tools() {
        let limits = Limits::default();
        let calls = Limit::Calls.text(&limits);
        assert_eq!(blamed("RangeError: Maximum call stack size exceeded\n at x", &limits), Some(Limit::Stack));
        assert_eq!(blamed("ToolError: Maximum call stack size exceeded", &limits), None);
        assert_eq!(blamed(&format!("RangeError: {calls}"), &limits), Some(Limit::Calls));
        assert_eq!(blamed(&format!("Error: {calls}"), &limits), None);
    }
}
