//! What a model reads of an execution: the result, the console, and an honest word where something was cut.

use gnomon_codemode::{Execution, Raw, Severity};
use smol_str::SmolStr;

/// Most characters of a result that are given, some 6,000 tokens: what a model is asked to read is paid for in its context.
const MOST: usize = 24_000;
/// Most characters of the console.
const MOST_LOGS: usize = 8_000;

/// Why there is no result.
pub(super) struct Failure {
    /// For the audit.
    pub word: SmolStr,
    /// For the model.
    pub text: String,
}

/// The text of an answer.
pub(super) fn text_of(result: Result<&Raw, &Failure>, ended: &Execution) -> String {
    let mut text = match result {
        // A text is given as it is, without quotes.
        Ok(value) => match serde_json::from_str::<String>(value.get()) {
            Ok(text) => text,
            Err(_) => value.get().to_owned(),
        },
        Err(failure) => format!("Error: {}", failure.text),
    };
    cut(&mut text, MOST, "Return less: filter, pick fields, count");
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
        cut(&mut logs, MOST_LOGS, "Log less");
        text.push_str("\n\nConsole:\n");
        text.push_str(logs.trim_end());
        if ended.truncated {
            text.push_str("\n--- TRUNCATED: the console takes no more ---");
        }
    }
    text
}

/// Cuts a text, and says so.
fn cut(text: &mut String, most: usize, advice: &str) {
    let Some((end, _)) = text.char_indices().nth(most) else { return };
    let whole = text.chars().count();
    text.truncate(end);
    text.push_str(&format!("\n--- TRUNCATED: {whole} characters, of which these are the first {most}. {advice}. ---"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_codemode::{Line, Outcome};
    use std::time::Duration;

    fn ended(logs: Vec<Line>) -> Execution {
        let none = Duration::ZERO;
        Execution { outcome: Outcome::Lost, logs, truncated: false, host_calls: 0, sandbox_time: none, wall_time: none }
    }

    #[test]
    fn a_text_is_given_without_quotes_and_what_is_cut_says_so() {
        let raw = |json: String| Raw::from_string(json).unwrap();
        assert_eq!(text_of(Ok(&raw("\"a\\nb\"".to_owned())), &ended(Vec::new())), "a\nb");
        assert_eq!(text_of(Ok(&raw("[1,2]".to_owned())), &ended(Vec::new())), "[1,2]");
        let long = text_of(Ok(&raw(format!("\"{}\"", "ä".repeat(MOST + 1)))), &ended(Vec::new()));
        assert!(long.contains("TRUNCATED: 24001 characters") && long.chars().count() < MOST + 200);
        let logs = vec![Line { severity: Severity::Warn, text: "slow".to_owned() }];
        assert_eq!(text_of(Err(&Failure { word: "x".into(), text: "no".to_owned() }), &ended(logs)), "Error: no\n\nConsole:\n[warn] slow");
    }
}
