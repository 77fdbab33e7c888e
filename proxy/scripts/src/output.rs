//! The text of an execution for a model: the result, outcomes of calls that it cannot know, the console, and a note
//! where something was cut.

use super::kept::MINUTES;
use gnomon_codemode::{CallEnd, Called, Execution, Raw, Severity};
use smol_str::SmolStr;

/// Most characters of a result that are given, some 6,000 tokens: what a model is asked to read is paid for in its context.
const MOST: usize = 24_000;
/// Most characters of the console.
const MOST_LOGS: usize = 8_000;
/// Most calls that are listed, where equal ones in a row count once.
const MOST_CALLS: usize = 40;

/// The reason that there is no result.
pub(super) struct Failure {
    /// The word for the audit.
    pub word: SmolStr,
    /// The text for the model.
    pub text: String,
}

/// The text of an answer. A result that is cut goes to `keep`, which may give a name to ask for it by.
pub(super) fn text_of(result: Result<&Raw, &Failure>, ended: &Execution, keep: impl FnOnce(&str) -> Option<SmolStr>) -> String {
    let mut text = match result {
        Ok(value) => plain(value.get()).unwrap_or_else(|| value.get().to_owned()),
        Err(failure) => format!("Error: {}", failure.text),
    };
    cut(&mut text, MOST, |_| match result.ok().and_then(|value| keep(value.get())) {
        Some(id) => format!(
            "All of it is kept for {MINUTES} minutes, for scripts of either tool: codemode.result('{id}') is the value, \
             codemode.result('{id}', {MOST}) its text from there on"
        ),
        None => "Return less: filter, pick fields, count".to_owned(),
    });
    let called = || calls(&ended.called);
    match result {
        Err(_) if !ended.called.is_empty() => {
            text.push_str(&format!("\n\nCalls before that: {}. What is ok was done: do not do it again.", called()));
            if ended.called.iter().any(|called| called.end == CallEnd::Lost) {
                text.push_str(" Check what is perhaps done before you repeat it.");
            }
        }
        Ok(_) if ended.is_undefined => {
            text.push_str("\n\nThe script returned nothing: `return` what is to be known.");
            if !ended.called.is_empty() {
                text.push_str(&format!(" Its calls: {}.", called()));
            }
        }
        Ok(_) => {
            let of = |end| ended.called.iter().filter(|called| called.end == end).cloned().collect::<Vec<_>>();
            for (said, called) in [("Not waited for", of(CallEnd::Unanswered)), ("Check before you repeat", of(CallEnd::Lost))] {
                if !called.is_empty() {
                    text.push_str(&format!("\n\n{said}: {}.", calls(&called)));
                }
            }
        }
        Err(_) => {}
    }
    if result.is_ok() && !ended.remark.is_empty() {
        text.push_str(&format!("\n\n{}", ended.remark));
    }
    if !ended.logs.is_empty() {
        let mut logs = String::new();
        for line in &ended.logs {
            logs.push_str(match line.severity {
                Severity::Log => "",
                Severity::Warn => "[warn] ",
                Severity::Error => "[error] ",
            });
            logs.push_str(&line.text);
            logs.push('\n');
        }
        cut(&mut logs, MOST_LOGS, |_| "Log less".to_owned());
        text.push_str("\n\nConsole:\n");
        text.push_str(logs.trim_end());
        if ended.truncated {
            text.push_str("\n--- TRUNCATED: the console takes no more ---");
        }
    }
    text
}

/// A text as it is, without quotes.
pub(super) fn plain(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// Calls with their outcomes; equal ones in a row are listed once.
fn calls(called: &[Called]) -> String {
    let mut runs: Vec<(&Called, usize)> = Vec::new();
    for call in called {
        match runs.last_mut() {
            Some((last, times)) if last.tool == call.tool && last.end == call.end => *times += 1,
            _ => runs.push((call, 1)),
        }
    }
    let further = runs.len().saturating_sub(MOST_CALLS);
    let told = runs.iter().take(MOST_CALLS).map(|(call, times)| {
        let end = match call.end {
            CallEnd::Answered => "ok",
            CallEnd::Failed => "failed",
            CallEnd::Lost => "without an answer, perhaps done",
            CallEnd::Unanswered => "unanswered, perhaps done",
        };
        let times = if *times > 1 { format!(" ×{times}") } else { String::new() };
        format!("{} {end}{times}", call.tool)
    });
    let mut told = told.collect::<Vec<_>>().join("; ");
    if further > 0 {
        told.push_str(&format!("; and {further} more"));
    }
    told
}

/// Cuts a text, and says so.
fn cut(text: &mut String, most: usize, advice: impl FnOnce(&str) -> String) {
    let Some((end, _)) = text.char_indices().nth(most) else { return };
    let whole = text.chars().count();
    let advice = advice(text);
    text.truncate(end);
    text.push_str(&format!("\n--- TRUNCATED: {whole} characters, of which these are the first {most}. {advice}. ---"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_codemode::{Line, ScriptOutcome};
    use std::time::Duration;

    fn ended(logs: Vec<Line>) -> Execution {
        let none = Duration::ZERO;
        let (called, is_undefined) = (Vec::new(), false);
        Execution {
            outcome: ScriptOutcome::Lost,
            logs,
            truncated: false,
            host_calls: 0,
            called,
            is_undefined,
            remark: String::new(),
            sandbox_time: none,
            wall_time: none,
        }
    }

    fn called(ends: &[(&str, CallEnd)]) -> Vec<Called> {
        (1..).zip(ends).map(|(id, (tool, end))| Called { id, tool: (*tool).into(), end: *end }).collect()
    }

    #[test]
    fn a_text_is_given_without_quotes_and_what_is_cut_says_so() {
        let raw = |json: String| Raw::from_string(json).unwrap();
        let told = |result: Result<&Raw, &Failure>, ended: &Execution| text_of(result, ended, |_| None);
        assert_eq!(told(Ok(&raw("\"a\\nb\"".to_owned())), &ended(Vec::new())), "a\nb");
        assert_eq!(told(Ok(&raw("[1,2]".to_owned())), &ended(Vec::new())), "[1,2]");
        let long = raw(format!("\"{}\"", "ä".repeat(MOST + 1)));
        let text = told(Ok(&long), &ended(Vec::new()));
        assert!(text.contains("TRUNCATED: 24001 characters") && text.chars().count() < MOST + 200);
        let text = text_of(Ok(&long), &ended(Vec::new()), |json| (json.len() > MOST).then(|| "gnomon.x".into()));
        assert!(text.ends_with("codemode.result('gnomon.x') is the value, codemode.result('gnomon.x', 24000) its text from there on. ---"));
        let logs = vec![Line { severity: Severity::Warn, text: "slow".to_owned() }];
        assert_eq!(told(Err(&Failure { word: "x".into(), text: "no".to_owned() }), &ended(logs)), "Error: no\n\nConsole:\n[warn] slow");
    }

    #[test]
    fn a_failure_is_told_with_the_calls_before_it() {
        let no = Failure { word: "x".into(), text: "no".to_owned() };
        let ends = [("post", CallEnd::Answered), ("post", CallEnd::Answered), ("get", CallEnd::Failed), ("slow", CallEnd::Unanswered)];
        let execution = Execution { called: called(&ends), ..ended(Vec::new()) };
        let text = text_of(Err(&no), &execution, |_| None);
        let told = "post ok ×2; get failed; slow unanswered, perhaps done";
        assert_eq!(text, format!("Error: no\n\nCalls before that: {told}. What is ok was done: do not do it again."));
        let raw = Raw::from_string("null".to_owned()).unwrap();
        let text = text_of(Ok(&raw), &Execution { is_undefined: true, ..execution }, |_| None);
        assert!(
            text.starts_with("null\n\nThe script returned nothing: `return`") && text.ends_with(&format!("Its calls: {told}.")),
            "{text}"
        );
        let text = text_of(Ok(&raw), &Execution { called: called(&ends), ..ended(Vec::new()) }, |_| None);
        assert_eq!(text, "null\n\nNot waited for: slow unanswered, perhaps done.");
        let early = Execution { remark: "A call was still under way.".to_owned(), ..ended(Vec::new()) };
        assert_eq!(text_of(Ok(&raw), &early, |_| None), "null\n\nA call was still under way.");
        let many = called(&(0..100).map(|n| if n % 2 == 0 { ends[0] } else { ends[2] }).collect::<Vec<_>>());
        assert!(calls(&many).ends_with("; and 60 more"));
    }
}
