//! The state folder and what a start reads of it: authority, configuration with its rules, ledger, audit. Everything is read and nothing
//! made, within a bound of time; a database is asked what a start asks it, not read through.

use anyhow::{Error, Result};
use gnomon_audit::{SqliteStore, Store as _};
use gnomon_cli::{Complaint, line::counted, loaded, options::ledger_in, runtime, when};
use gnomon_config::Config;
use gnomon_host::doctor::{Check, CheckStatus};
use gnomon_ledger::{EventFilter, Order, ReadError, Reader};
use gnomon_serve::{
    auditing::database_in,
    checking::{self, Serves},
};
use gnomon_tls::{CaError, CertificateAuthority};
use std::{
    fs, io,
    path::Path,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};
use time::OffsetDateTime;

/// The longest that a database is asked.
const PATIENCE: Duration = Duration::from_secs(4);
/// An authority that ends within these days is told, as the alert does.
const ENDS_SOON_DAYS: i64 = 30;

/// What `gnomon config check` says.
pub(super) fn configuration(config: &mut Config, dir: Option<&Path>) -> Check {
    let (id, title) = ("configuration", "configuration and rules");
    let unread = dir.map(|dir| loaded::settle(&mut config.rules, dir)).unwrap_or_default();
    let name = config.file.as_ref().map_or_else(|| "the defaults".to_owned(), |file| file.display().to_string());
    match checking::check(config, Serves::Everything) {
        Ok(checked) => {
            let told: String = unread.iter().map(|unread| format!("; {}", unread.told())).collect();
            Check::ok(id, title, format!("{name}: good, {}{told}", counted(checked.rules.rules().len() as u64, "rule")))
        }
        Err(error) => {
            let fix = error.downcast_ref::<Complaint>().and_then(|complaint| complaint.next.clone());
            let fix = fix.unwrap_or_else(|| "mend it".to_owned());
            let then = "gnomon config check says it in full. A gnomon that runs goes on with what it read last; a start is refused, or goes on \
                        with the rules that were last in force where rules alone are bad";
            Check::new(id, title, CheckStatus::Fail, told(&error)).next(format!("{fix}; {then}"))
        }
    }
}

fn told(error: &Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The authority, as a start reads it.
pub(super) fn authority(dir: &Path) -> Check {
    let (id, title) = ("authority", "certificate authority");
    let days = |until: OffsetDateTime| (until - OffsetDateTime::now_utc()).whole_days();
    match CertificateAuthority::load(dir) {
        Ok(Some(ca)) if days(ca.not_after()) < ENDS_SOON_DAYS => {
            let seen = format!("{} ends on {}: gnomon does not start after that", ca.subject(), ca.not_after().date());
            Check::new(id, title, CheckStatus::Warn, seen).next("make another and bring it to the clients before: docs/clients.md")
        }
        Ok(Some(ca)) => Check::ok(id, title, format!("{}, valid to {}", ca.subject(), ca.not_after().date())),
        Ok(None) => Check::not_applicable(id, title, format!("there is none in {}; a start makes it", dir.display())),
        Err(error @ CaError::Io { .. }) if is_denied(&error) => Check::not_applicable(id, title, error.to_string()),
        Err(error) => Check::new(id, title, CheckStatus::Fail, error.to_string()).next("gnomon does not start until that is done"),
    }
}

fn is_denied(error: &CaError) -> bool {
    matches!(error, CaError::Io { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied)
}

/// The answer of a database, which may be long in coming where its disk is in trouble; then its thread is left behind.
enum Answer<T> {
    Came(Result<T>),
    Late,
}

fn asked<T: Send + 'static>(ask: impl FnOnce() -> Result<T> + Send + 'static) -> Answer<T> {
    let (tell, told) = channel();
    // If nobody listens any more, it was late.
    let spawned = thread::Builder::new().name("doctor".to_owned()).spawn(move || drop(tell.send(ask())));
    match spawned.map(|_| told.recv_timeout(PATIENCE)) {
        Ok(Ok(answer)) => Answer::Came(answer),
        Ok(Err(RecvTimeoutError::Timeout)) => Answer::Late,
        Ok(Err(RecvTimeoutError::Disconnected)) => Answer::Came(Err(Error::msg("its reader ended without an answer"))),
        Err(error) => Answer::Came(Err(error.into())),
    }
}

/// The ledger: it is opened as `gnomon events` opens it, and asked for the newest event and the inventory.
pub(super) fn ledger(dir: &Path) -> Check {
    let (id, title, path) = ("ledger", "ledger", ledger_in(dir));
    let at = path.clone();
    let answer = asked(move || {
        runtime()?.block_on(async {
            let mut reader = Reader::open(&at).await?;
            let newest = reader.events(&EventFilter { limit: 1, ..EventFilter::default() }, Order::NewestFirst).await?;
            let servers = reader.inventory().await?.len();
            Ok((newest.first().map(|event| event.at_ms), servers))
        })
    });
    match answer {
        Answer::Came(Ok((newest, servers))) => {
            let newest = newest
                .map_or_else(|| "it has no event yet".to_owned(), |at_ms| format!("its newest event is of {} UTC", when::show(at_ms)));
            Check::ok(
                id,
                title,
                format!("{} can be read: {newest}, {} in the inventory", path.display(), counted(servers as u64, "server")),
            )
        }
        Answer::Came(Err(error)) => match error.downcast_ref::<ReadError>() {
            Some(ReadError::Missing { .. }) => Check::not_applicable(id, title, format!("there is none in {} yet", dir.display())),
            Some(denied @ ReadError::NotReadable { .. }) => Check::not_applicable(id, title, denied.to_string()),
            // Its text has the cause and the remedy.
            Some(known) => Check::new(id, title, CheckStatus::Fail, known.to_string()).next(MOVE),
            None => Check::new(id, title, CheckStatus::Fail, told(&error)).next(MOVE),
        },
        Answer::Late => slow(id, title, &path),
    }
}

/// The audit of portals, which must be there to be asked.
pub(super) fn audit(dir: &Path) -> Option<Check> {
    let (id, title, path) = ("audit", "audit of the portals", database_in(dir));
    match fs::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Check::not_applicable(id, title, format!("{}: {error}", path.display()))),
        Ok(_) => {}
    }
    let at = path.clone();
    let answer = asked(move || runtime()?.block_on(async { Ok(SqliteStore::read(&at).await?.head().await?) }));
    Some(match answer {
        Answer::Came(Ok(head)) => Check::ok(id, title, format!("{} can be read: its newest record is number {}", path.display(), head.seq)),
        Answer::Came(Err(error)) => Check::new(id, title, CheckStatus::Fail, format!("{}: {}", path.display(), told(&error))).next(MOVE),
        Answer::Late => slow(id, title, &path),
    })
}

/// What to do about a database that cannot be read.
const MOVE: &str = "where there is no room, make some. Where it is damaged, stop gnomon, move it away together with the files beside it that have its \
                    name and -wal or -shm (they hold what is newest), and start gnomon, which begins anew";

fn slow(id: &str, title: &'static str, path: &Path) -> Check {
    let seen = format!("{} did not answer within {} s", path.display(), PATIENCE.as_secs());
    Check::new(id, title, CheckStatus::Warn, seen).next("look at the disk (iostat, dmesg), and at who holds the file: fuser -v")
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_ledger::{Event, Ledger, LedgerOptions};
    use std::os::unix::fs::FileExt as _;

    /// A state folder with an authority and a ledger of one event.
    fn state() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        CertificateAuthority::load_or_create(dir.path()).unwrap();
        runtime().unwrap().block_on(async {
            let (ledger, writer) = Ledger::open(LedgerOptions::new(ledger_in(dir.path()))).await.unwrap();
            let _ = ledger.record(Event::now(gnomon_observe::Observation::new()));
            ledger.flush().await.unwrap();
            writer.shutdown().await;
        });
        dir
    }

    #[test]
    fn a_ledger_that_is_damaged_fails_with_what_to_do_and_one_that_is_whole_says_how_new_it_is() {
        let dir = state();
        let whole = ledger(dir.path());
        assert!(whole.state == CheckStatus::Ok && whole.seen.contains("its newest event is of"), "{whole:?}");
        let file = fs::OpenOptions::new().write(true).open(ledger_in(dir.path())).unwrap();
        file.write_all_at(&[0x5a; 64], 0).unwrap();
        let damaged = ledger(dir.path());
        assert!(damaged.state == CheckStatus::Fail && damaged.next.as_ref().is_some_and(|next| next.contains("-wal")), "{damaged:?}");
        assert_eq!(ledger(tempfile::tempdir().unwrap().path()).state, CheckStatus::NotApplicable);
    }

    #[test]
    fn an_audit_that_is_damaged_fails() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(audit(dir.path()), None);
        fs::write(database_in(dir.path()), [0x5a; 8192]).unwrap();
        assert_eq!(audit(dir.path()).unwrap().state, CheckStatus::Fail);
    }

    #[test]
    fn half_an_authority_fails_and_none_is_no_matter() {
        let dir = state();
        assert_eq!(authority(dir.path()).state, CheckStatus::Ok);
        fs::remove_file(dir.path().join("ca.pem")).unwrap();
        let half = authority(dir.path());
        assert!(half.state == CheckStatus::Fail && half.seen.contains("put the certificate back"), "{half:?}");
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        assert_eq!(authority(dir.path()).state, CheckStatus::NotApplicable);
    }

    #[test]
    fn rules_that_would_be_refused_fail_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("gnomon.yml"), "rules: {dirs: [rules]}\n").unwrap();
        fs::create_dir(dir.path().join("rules")).unwrap();
        let checked = || configuration(&mut Config::load(&dir.path().join("gnomon.yml")).unwrap(), Some(dir.path()));
        assert_eq!(checked().state, CheckStatus::Ok);
        fs::write(dir.path().join("rules/bad.yml"), ": bad [").unwrap();
        let bad = checked();
        assert!(bad.state == CheckStatus::Fail && bad.seen.contains("bad.yml") && bad.next.is_some(), "{bad:?}");
    }
}
