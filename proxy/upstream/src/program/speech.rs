//! A program's standard error: logged, within bounds, and without secrets.

use super::lines::{Line, Lines};
use gnomon_observe::without_secrets;
use smol_str::SmolStr;
use std::time::{Duration, Instant};
use tokio::io::AsyncRead;

/// Longest line in the log, bytes. Readers hold more, so that a secret is seen whole where a line is cut.
pub(super) const SHOWN: usize = 2048;
/// Lines that may come at once.
const BURST: u32 = 200;
/// The most lines in a second.
const RATE: u32 = 20;
/// The most lines that may follow the one that says why a program ended: traces of its stack, its version.
const TRACE: u32 = 60;
/// The text in place of a secret.
const INSTEAD: &str = "[secret]";
/// Longest word that is left out where a line is cut within it.
const HALF: usize = 512;

/// Turns lines into what may be seen.
pub(super) struct Veil {
    /// The longest first: one may be part of another.
    secrets: Vec<String>,
}

impl Veil {
    pub(super) fn new(mut secrets: Vec<String>) -> Self {
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// The number of bytes of a line that must be read.
    pub(super) fn reach(&self) -> usize {
        SHOWN + self.secrets.first().map_or(0, String::len)
    }

    /// A line for the log: one line, without control characters, without secrets: those that are configured, and what else has the form of
    /// one. What begins after [`SHOWN`] bytes of the line as it came is left out.
    pub(super) fn line(&self, line: &[u8]) -> String {
        let text = String::from_utf8_lossy(line);
        let (mut shown, mut at) = (String::with_capacity(text.len().min(SHOWN)), 0);
        while at < text.len().min(SHOWN) {
            let rest = &text[at..];
            if let Some(secret) = self.secrets.iter().find(|secret| rest.starts_with(secret.as_str())) {
                shown.push_str(INSTEAD);
                at += secret.len();
                continue;
            }
            let Some(c) = rest.chars().next() else { break };
            shown.push(if c.is_control() { ' ' } else { c });
            at += c.len_utf8();
        }
        let rest = text.get(at..).unwrap_or_default();
        if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
            // Half of a secret does not look like one.
            let begin = shown.rfind(char::is_whitespace).filter(|begin| shown.len() - begin <= HALF);
            shown.truncate(begin.unwrap_or(shown.len()));
        }
        let mut shown = without_secrets(&shown).into_owned();
        if !rest.is_empty() {
            shown.push('…');
        }
        shown
    }
}

/// A program's last output: the line with the reason, if there is one, else the last.
#[derive(Default)]
struct LastWords {
    last: Option<String>,
    /// The clearest line of late, and how many came behind it.
    cause: Option<(Clarity, String, u32)>,
}

/// How clearly a line says why a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Clarity {
    /// The line contains a word for errors.
    Mentions,
    /// The line begins with the name of an error.
    Names,
}

impl Clarity {
    fn of(line: &str) -> Option<Self> {
        const WORDS: [&str; 10] =
            ["ERR_", "Error", "error:", "Exception", "panicked at", "denied", "EACCES", "ENOENT", "not found", "No such file"];
        let line = line.trim_start();
        let first = line.split([':', ' ', '[']).next().unwrap_or_default();
        let named = first.len() > "Error".len() || line.starts_with("Error: ") || line.starts_with("Error [");
        if named && (first.ends_with("Error") || first.ends_with("Exception")) {
            return Some(Self::Names);
        }
        // Frames of a stack and the line of code say where it failed, not why.
        let is_code = line.starts_with("at ") || line.starts_with("throw ") || line.starts_with("File \"") || line.starts_with("raise ");
        (!is_code && WORDS.iter().any(|word| line.contains(word))).then_some(Self::Mentions)
    }
}

impl LastWords {
    fn hear(&mut self, line: String) {
        if let Some((.., behind)) = &mut self.cause {
            *behind += 1;
        }
        self.cause.take_if(|(.., behind)| *behind > TRACE);
        if let Some(clarity) = Clarity::of(&line)
            && self.cause.as_ref().is_none_or(|(known, ..)| clarity >= *known)
        {
            self.cause = Some((clarity, line.trim().to_owned(), 0));
        }
        self.last = Some(line);
    }

    fn told(self) -> Option<String> {
        self.cause.map(|(_, line, _)| line).or(self.last)
    }
}

/// Writes all of it to the log; the line that says why it ended, when there are no more.
pub(super) async fn overhear<R: AsyncRead + Unpin>(id: SmolStr, veil: Veil, mut lines: Lines<R>) -> Option<String> {
    let (mut last, mut left, mut since, mut dropped) = (LastWords::default(), BURST, Instant::now(), 0_u64);
    while let Ok(Some(line)) = lines.next().await {
        let (Line::Whole(line) | Line::Cut(line)) = line;
        let shown = veil.line(&line);
        if shown.trim().is_empty() {
            continue;
        }
        let earned = u32::try_from(since.elapsed().as_secs()).unwrap_or(u32::MAX).saturating_mul(RATE);
        if earned > 0 {
            left = left.saturating_add(earned).min(BURST);
            since += Duration::from_secs(u64::from(earned / RATE));
        }
        if left == 0 {
            dropped += 1;
        } else {
            left -= 1;
            if dropped > 0 {
                tracing::info!(server = %id, "{dropped} lines of its standard error were too many");
                dropped = 0;
            }
            tracing::info!(server = %id, "says: {shown}");
        }
        last.hear(shown);
    }
    last.told()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(said: &str) -> Option<String> {
        let mut words = LastWords::default();
        said.lines().filter(|line| !line.trim().is_empty()).for_each(|line| words.hear(line.to_owned()));
        words.told()
    }

    #[test]
    fn of_what_a_program_said_at_its_end_the_line_is_told_that_says_why() {
        let node = "node:internal/modules/package_json_reader:316\n  throw new ERR_MODULE_NOT_FOUND(packageName, fileURLToPath(base), null);\n        ^\n\nError [ERR_MODULE_NOT_FOUND]: Cannot find package 'sdk' imported from /x/index.js\n    at packageResolve (node:internal/modules/esm/resolve:873:81) {\n  code: 'ERR_MODULE_NOT_FOUND'\n}\n\nNode.js v20.20.2\n";
        assert_eq!(told(node).unwrap(), "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'sdk' imported from /x/index.js");
        let python = "Traceback (most recent call last):\n  File \"/x/s.py\", line 1, in <module>\n    import mcp\nModuleNotFoundError: No module named 'mcp'\n";
        assert_eq!(told(python).unwrap(), "ModuleNotFoundError: No module named 'mcp'");
        assert_eq!(
            told("/x/pyenv: line 4: /root/.pyenv: Permission denied\nbye").unwrap(),
            "/x/pyenv: line 4: /root/.pyenv: Permission denied"
        );
        assert_eq!(told("starting\nbye").unwrap(), "bye");
        assert_eq!(told(""), None);
        // What it overcame long ago is not why.
        let long_ago = format!("Error: once\n{}", "working\n".repeat(100));
        assert_eq!(told(&long_ago).unwrap(), "working");
    }

    #[test]
    fn what_has_the_form_of_a_secret_does_not_pass_though_nobody_configured_it() {
        let veil = Veil::new(vec!["hunter2".to_owned()]);
        let (token, other) = ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "Kk9mWt4LsBd7RnYp2HcJf5GxEa3");
        let said = format!("hunter2 {token} https://ada:pw1@h.example/x?token=abc123 Authorization: Bearer {other}");
        let shown = veil.line(said.as_bytes());
        assert!(shown.starts_with("[secret] *** https://***@h.example/x?token=***"), "{shown}");
        for secret in ["hunter2", token, "pw1", "abc123", other] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert_eq!(veil.line(b"listening on port 3000"), "listening on port 3000");
        // Nor half of one, where the line is cut; a word that ends there stays.
        let shown = veil.line(format!("{} {token} and more", "x".repeat(SHOWN - 20)).as_bytes());
        assert!(shown.ends_with("x…") && !shown.contains("ghp_"), "{shown}");
        let shown = veil.line(format!("{} end and more", "x".repeat(SHOWN - 4)).as_bytes());
        assert!(shown.ends_with("x end…"), "{shown}");
    }

    #[test]
    fn secrets_never_pass_whole_in_part_or_across_a_cut() {
        let veil = Veil::new(vec![String::new(), "hunter2".to_owned(), "hunter2-long".to_owned()]);
        assert_eq!(veil.line(b"a hunter2 b hunter2-long\tc\x1b[31m"), "a [secret] b [secret] c [31m");
        // The last secret begins before the cut and ends behind it; what comes after it is not shown.
        let long = format!("{}hunter2-long and more", "x".repeat(SHOWN - 3));
        let shown = veil.line(&long.as_bytes()[..veil.reach()]);
        assert!(shown.ends_with("x[secret]") || shown.ends_with("x[secret]…"), "{shown}");
        // Where secrets before it make the line shorter, no more of it is shown for that.
        let many = format!("{}{}", "hunter2".repeat(SHOWN / 7 + 1), "hunter2-long");
        let shown = veil.line(&many.as_bytes()[..veil.reach().min(many.len())]);
        assert!(!shown.contains("hunt"), "{shown}");
    }
}
