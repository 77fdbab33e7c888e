//! The output of `gnomon demo` as a page, and an excerpt of it as a picture of a terminal. Times, ids and ports are replaced by fixed ones, so that runs
//! can be compared; nothing else is changed.

use anyhow::{Context, Result, ensure};
use std::{fmt::Write as _, path::Path, process::Command};

/// The page.
pub const PAGE: &str = "docs/demo.md";

const HEAD: &str = "\
# What `gnomon demo` shows

Two seconds, offline, on a server and an agent of its own. This is what it prints without the kernel half (`gnomon demo --proxy-env`), with
times, ids and ports made even; as root it also says which program and user it was. `gnomon demo --stay` leaves the last gnomon up, with its
metrics.

";

/// Page and picture with the current output.
///
/// # Errors
/// The demonstration fails.
pub fn pages(gnomon: &Path) -> Result<[(&'static str, String); 2]> {
    let output = Command::new(gnomon).args(["demo", "--proxy-env"]).env_remove("HTTPS_PROXY").output().context("gnomon demo")?;
    ensure!(output.status.success(), "gnomon demo failed: {}", String::from_utf8_lossy(&output.stderr));
    let told = even(&String::from_utf8_lossy(&output.stdout));
    Ok([(PAGE, format!("{HEAD}{}", block(&told))), (super::pictures::RECORDING, super::pictures::recording(&excerpt(&told)))])
}

fn block(text: &str) -> String {
    format!("```text\n{}\n```\n", text.trim_end())
}

/// The first two steps and the alert: what was seen, what was refused, and the notification.
fn excerpt(told: &str) -> String {
    let mut sections = told.split("\n== ");
    let mut text = String::new();
    for section in sections.by_ref().filter(|section| section.starts_with(['1', '2']) || section.starts_with("The alert")) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "== {}\n", section.trim_end());
    }
    text
}

/// Replaces what differs between runs.
fn even(told: &str) -> String {
    let mut ids = Vec::new();
    let lines = told.lines().map(|line| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for place in 0..words.len() {
            let word = words[place].clone();
            let previous = place.checked_sub(1).map(|place| words[place].as_str());
            let next = words.get(place + 1).map(String::as_str);
            words[place] = match word.as_str() {
                day if is_like(day, "0000-00-00") => "2026-11-20".to_owned(),
                time if is_like(time, "00:00:00") => "09:00:00".to_owned(),
                time if is_like(time, "00:00:00.000") => "09:00:00.000".to_owned(),
                port if previous == Some("port") && port.parse::<u16>().is_ok_and(|port| port > 1024) => "50000".to_owned(),
                count if next == Some("ms") && count.parse::<u32>().is_ok() => "1".to_owned(),
                word => with_even_id(word, &mut ids),
            };
        }
        words.join(" ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether `word` has digits where the pattern has zeros, and equals it elsewhere.
fn is_like(word: &str, pattern: &str) -> bool {
    word.len() == pattern.len() && word.bytes().zip(pattern.bytes()).all(|(b, p)| if p == b'0' { b.is_ascii_digit() } else { b == p })
}

/// Replaces an id of this run (UUID version 7) by its number in order of appearance.
fn with_even_id(word: &str, ids: &mut Vec<String>) -> String {
    let digits = word.trim_matches(|c: char| !c.is_ascii_hexdigit());
    let is_id = digits.len() == 36 && digits.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && digits.as_bytes()[14] == b'7';
    if !is_id {
        return word.to_owned();
    }
    let number = ids.iter().position(|known| known == digits).unwrap_or_else(|| {
        ids.push(digits.to_owned());
        ids.len() - 1
    });
    word.replace(digits, &format!("019a9f3e-4b7c-7000-8000-{:012}", number + 1))
}
