//! What a program writes to standard error: it goes to the log, within bounds, and secrets do not.

use super::lines::{Line, Lines};
use smol_str::SmolStr;
use std::time::{Duration, Instant};
use tokio::io::AsyncRead;

/// Longest line in the log, bytes. Readers hold more, so that a secret is seen whole where a line is cut.
pub(super) const SHOWN: usize = 2048;
/// Lines that may come at once.
const BURST: u32 = 200;
/// The most lines in a second.
const RATE: u32 = 20;
/// The text in place of a secret.
const INSTEAD: &str = "[secret]";

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

    /// How many bytes of a line must be looked at.
    pub(super) fn reach(&self) -> usize {
        SHOWN + self.secrets.first().map_or(0, String::len)
    }

    /// A line for the log: one line, without control characters, without secrets. What begins after [`SHOWN`] bytes of the
    /// line as it came is left out.
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
        if at < text.len() {
            shown.push('…');
        }
        shown
    }
}

/// Writes all of it to the log; the last line, when there are no more.
pub(super) async fn overhear<R: AsyncRead + Unpin>(id: SmolStr, veil: Veil, mut lines: Lines<R>) -> Option<String> {
    let (mut last, mut left, mut since, mut dropped) = (None, BURST, Instant::now(), 0_u64);
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
        last = Some(shown);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

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
