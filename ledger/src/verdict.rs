//! What people made of events: one JSON line each, in a file beside the database. Events are never changed, and whoever
//! judges them is seldom the process that writes the database.

use crate::Verdict;
use gnomon_observe::SCHEMA_VERSION;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// The longest such file that is read, bytes: some ten thousand verdicts.
const MAX_BYTES: u64 = 8 << 20;

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(rename = "v")]
    version: i64,
    at_ms: i64,
    #[serde(flatten)]
    verdict: Verdict,
}

/// Notes a verdict beside the database at `ledger`, durably.
///
/// # Errors
/// The file cannot be written.
pub fn note_verdict(verdict: &Verdict, ledger: &Path) -> io::Result<()> {
    let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    let mut line = serde_json::to_vec(&Line { version: SCHEMA_VERSION, at_ms, verdict: verdict.clone() })?;
    line.push(b'\n');
    let mut file = OpenOptions::new().append(true).create(true).mode(0o640).open(beside(ledger))?;
    // One write: lines of several people do not mix.
    file.write_all(&line)?;
    file.sync_all()
}

/// The verdicts beside the database at `ledger`, oldest first, with their time in milliseconds since 1970; of a file longer
/// than 8 MiB the newest. Lines that cannot be read are left out.
///
/// # Errors
/// The file is there and cannot be read.
pub fn verdicts(ledger: &Path) -> io::Result<Vec<(i64, Verdict)>> {
    let mut file = match fs::File::open(beside(ledger)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let older = file.metadata()?.len().saturating_sub(MAX_BYTES);
    file.seek(SeekFrom::Start(older))?;
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text)?;
    // Where it begins within a line, that line is one that cannot be read.
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    Ok(lines.map(|line| (line.at_ms, line.verdict)).collect())
}

fn beside(ledger: &Path) -> PathBuf {
    ledger.with_file_name("verdicts.jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VerdictKind;

    #[test]
    fn verdicts_are_kept_in_order_and_half_a_line_spoils_none() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger.sqlite");
        assert!(verdicts(&ledger).unwrap().is_empty());
        let verdict = |event: &str| Verdict {
            event: event.to_owned(),
            kind: VerdictKind::Confirmed,
            owner: "ada".to_owned(),
            reason: "a\nb".to_owned(),
            until: None,
            file: None,
        };
        note_verdict(&verdict("one"), &ledger).unwrap();
        OpenOptions::new().append(true).open(beside(&ledger)).unwrap().write_all(b"{\"v\":1,\n").unwrap();
        note_verdict(&verdict("two"), &ledger).unwrap();
        let found: Vec<_> = verdicts(&ledger).unwrap().into_iter().map(|(_, verdict)| verdict).collect();
        assert_eq!(found, [verdict("one"), verdict("two")]);
        // Of more than is read, the newest count.
        let filler = vec![b'\n'; usize::try_from(MAX_BYTES).unwrap()];
        OpenOptions::new().append(true).open(beside(&ledger)).unwrap().write_all(&filler).unwrap();
        note_verdict(&verdict("three"), &ledger).unwrap();
        let found: Vec<_> = verdicts(&ledger).unwrap().into_iter().map(|(_, verdict)| verdict).collect();
        assert_eq!(found, [verdict("three")]);
    }
}
