//! Whether a gnomon serves from the state folder, and whether it moves: by the lock on its ledger, by what the sensor says, and by what
//! its own metrics say where it has any. Asks that one listener of gnomon's, on this host, and nobody else.

use gnomon_config::{Config, Switch};
use gnomon_host::doctor::{Check, CheckStatus};
use gnomon_http::client::{Answer, Bounds, ClientError, get_blocking};
use gnomon_sensord::status::Status;
use std::{
    fs,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::Path,
    thread,
    time::Duration,
};

/// The longest that an answer of the metrics is waited for, to its last byte.
const ANSWERS: Duration = Duration::from_secs(3);
/// Enough for the metrics of thousands of servers.
const BOUNDS: Bounds = Bounds { answer: 64 << 20, patience: ANSWERS };
/// A writer that has events to write and wrote none within this time stands still.
const STALLS: Duration = Duration::from_secs(2);
/// The file whose lock the writer of a ledger holds, with its process in it.
const LOCK: &str = "ledger.lock";

const SERVICE: &str = "sudo systemctl status gnomon, and what it said last: sudo journalctl -u gnomon -n 50";

/// `covers` is true if a sensor is to report to it.
pub(super) fn examine(config: &Config, dir: &Path, sensors_folder: &Path, covers: bool) -> Vec<Check> {
    let serving = serving(dir, sensors_folder);
    let Switch::On(metrics) = config.metrics.listen else { return vec![serving] };
    let asked = || page(metrics, "/metrics");
    match serving.state {
        CheckStatus::Ok => {}
        // Only the sensor serves: there is nobody to ask.
        CheckStatus::Fail => return vec![serving],
        CheckStatus::NotApplicable | CheckStatus::Warn => {
            return match asked() {
                Ok(page) if is_ours(&page) => [Some(elsewhere(dir, metrics)), lost(&page)].into_iter().flatten().collect(),
                Ok(_) | Err(_) => vec![serving],
            };
        }
    }
    match asked() {
        Ok(first) => {
            let blind = covers.then(|| blind(&first)).flatten();
            [Some(serving), blind, stalled(&first, asked), in_force(&first), lost(&first)].into_iter().flatten().collect()
        }
        Err(error) => {
            let seen = format!("{}, and does not answer on {metrics}: {error}", serving.seen);
            vec![
                Check::new("serving", TITLE, CheckStatus::Fail, seen)
                    .next(format!("if it does not begin to answer, start it again: {SERVICE}")),
            ]
        }
    }
}

const TITLE: &str = "a gnomon serves";

/// True if the page is of a gnomon with a ledger.
fn is_ours(page: &str) -> bool {
    sum(page, "gnomon_ledger_queue_events").is_some()
}

/// A gnomon that runs without the state in this folder.
fn elsewhere(dir: &Path, metrics: SocketAddr) -> Check {
    let seen = format!(
        "the one that answers on {metrics} does not have its state in {}: that was moved away, removed or replaced while it ran, or it has it elsewhere",
        dir.display()
    );
    Check::new("serving", TITLE, CheckStatus::Warn, seen).next(format!(
        "if it was moved, put it back or start gnomon again: until then nothing that it sees is kept. If it is elsewhere: gnomon doctor --state-dir FOLDER. {SERVICE}"
    ))
}

/// The process that holds the lock of this state folder.
pub(super) fn process(dir: &Path) -> Option<u32> {
    let lock = dir.join(LOCK);
    let there = fs::metadata(&lock).ok()?;
    holder(&fs::read_to_string("/proc/locks").ok()?, &there, &said(&lock))?.parse().ok()
}

/// By the sensor and the lock.
fn serving(dir: &Path, sensors_folder: &Path) -> Check {
    let id = "serving";
    if let Some(since) = Status::read(sensors_folder).ok().flatten().and_then(|sensor| sensor.alone_since) {
        let seen = format!(
            "the sensor alone, since {} UTC: the serving half is away, connections of scopes that fail closed are refused, others go direct",
            gnomon_cli::when::show(i64::try_from(since).unwrap_or(i64::MAX).saturating_mul(1000))
        );
        return Check::new(id, TITLE, CheckStatus::Fail, seen).next(SERVICE);
    }
    let lock = dir.join(LOCK);
    match fs::metadata(&lock) {
        Ok(there) => match fs::read_to_string("/proc/locks").map(|locks| holder(&locks, &there, &said(&lock))) {
            Ok(Some(pid)) => Check::ok(id, TITLE, format!("process {pid} serves, with its state in {}", dir.display())),
            Ok(None) => {
                Check::new(id, TITLE, CheckStatus::Warn, format!("none does with its state in {}, where one did before", dir.display()))
                    .next(format!("start it; as a service: {SERVICE}"))
            }
            Err(error) => Check::not_applicable(id, TITLE, format!("/proc/locks: {error}")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Check::not_applicable(id, TITLE, format!("none has begun with its state in {} yet", dir.display()))
        }
        Err(error) => Check::not_applicable(id, TITLE, format!("{}: {error}", lock.display())),
    }
}

/// The process that the lock file names.
fn said(lock: &Path) -> String {
    let mut text = String::new();
    // Without it the lock is known by its device.
    drop(fs::File::open(lock).and_then(|file| file.take(16).read_to_string(&mut text)));
    text.trim().to_owned()
}

/// The process that holds a lock on this file, from `/proc/locks` (proc_locks(5)). Some file systems show another device there than
/// stat(2) does, so the inode with the process that the file names will do as well.
fn holder(locks: &str, file: &fs::Metadata, named: &str) -> Option<String> {
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let (device, inode) = (format!("{major:02x}:{minor:02x}:"), format!(":{}", file.ino()));
    locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip_while(|field| *field != "FLOCK").skip(3);
        let (pid, place) = (fields.next()?, fields.next()?);
        (place.ends_with(&inode) && (place.starts_with(&device) || pid == named)).then(|| pid.to_owned())
    })
}

/// A page of the metrics' listener.
fn page(listens: SocketAddr, path: &str) -> io::Result<String> {
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let url = format!("http://{}{path}", SocketAddr::new(ip, listens.port()));
    let read = async |answer: Answer| Ok::<_, ClientError>((answer.status(), answer.whole().await?));
    let (status, body) = get_blocking(&url, BOUNDS, read).map_err(io::Error::other)?;
    match status.is_success() {
        true => Ok(String::from_utf8_lossy(&body).into_owned()),
        false => Err(io::Error::other(format!("it answered with the HTTP status {}", status.as_u16()))),
    }
}

/// The sum of a metric's series.
fn sum(page: &str, name: &str) -> Option<f64> {
    let values = page.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next() == Some(name)).then(|| value.trim().parse::<f64>().ok())?
    });
    values.reduce(|sum, value| sum + value)
}

/// Events that wait while none is written.
fn stalled(first: &str, again: impl Fn() -> io::Result<String>) -> Option<Check> {
    let (waits, written) = ("gnomon_ledger_queue_events", "gnomon_events_written_total");
    let waiting = |page: &str| sum(page, waits).filter(|waits| *waits > 0.0);
    waiting(first)?;
    thread::sleep(STALLS);
    let second = again().ok()?;
    let still = waiting(&second).filter(|_| sum(first, written) == sum(&second, written))?;
    let seen = format!("{still} events wait to be written, and none was within {} s: the ledger stands still", STALLS.as_secs());
    Some(Check::new("ledger.writing", "the ledger is written", CheckStatus::Fail, seen).next(
        "look at the disk (room above, iostat, dmesg), and at whoever reads the pipe or file of JSON lines (events.jsonl, --events): the ledger waits for it",
    ))
}

/// What a gnomon that runs refused when it was changed.
fn in_force(page: &str) -> Option<Check> {
    let refused = [
        ("gnomon_rules_last_reload_successful", "rules", "gnomon rules check"),
        ("gnomon_config_last_reload_successful", "configuration of portals", "gnomon config check"),
    ];
    let refused: Vec<_> = refused.into_iter().filter(|(metric, _, _)| sum(page, metric) == Some(0.0)).collect();
    let names: Vec<&str> = refused.iter().map(|(_, name, _)| *name).collect();
    let commands: Vec<&str> = refused.iter().map(|(_, _, command)| *command).collect();
    (!refused.is_empty()).then(|| {
        let seen = format!("the {} on disk: refused; those from before stay in force", names.join(" and the "));
        Check::new("serving.in_force", "what is on disk is in force", CheckStatus::Fail, seen)
            .next(format!("{} says why; once the files are mended they are read by themselves", commands.join(", and ")))
    })
}

/// A gnomon to which no sensor reports.
fn blind(page: &str) -> Option<Check> {
    (sum(page, "gnomon_sensor_up") == Some(0.0)).then(|| {
        let seen = "none does: the one that serves sees what comes to its proxy, and redirects nothing".to_owned();
        Check::new("serving.sensor", "a sensor reports", CheckStatus::Warn, seen)
            .next("what it said: sudo journalctl -u gnomon-sensor -u gnomon -n 50. If it is to run without one: gnomon doctor --sensor off")
    })
}

/// Events that were lost since it began.
fn lost(page: &str) -> Option<Check> {
    let lost = sum(page, "gnomon_events_dropped_total").filter(|lost| *lost > 0.0)?;
    let seen = format!("{lost} were not, since this gnomon began");
    Some(
        Check::new("events.kept", "events are kept", CheckStatus::Warn, seen)
            .next("docs/alerts.md, GnomonEventsDropped, says what each reason means"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_cli::runtime;
    use gnomon_ledger::{Ledger, LedgerOptions};
    use std::{
        cell::Cell,
        io::{BufRead as _, BufReader, Write as _},
        net::TcpListener,
    };

    #[test]
    fn who_serves_is_known_by_the_lock_while_it_lives_and_that_none_does_is_told() {
        let (dir, nowhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let look = || serving(dir.path(), nowhere.path());
        assert_eq!(look().state, CheckStatus::NotApplicable, "a first start is still to come");
        runtime().unwrap().block_on(async {
            let (_ledger, writer) = Ledger::open(LedgerOptions::new(dir.path().join("ledger.sqlite"))).await.unwrap();
            let serves = look();
            assert!(serves.state == CheckStatus::Ok && serves.seen.contains(&std::process::id().to_string()), "{serves:?}");
            assert_eq!(process(dir.path()), Some(std::process::id()));
            writer.shutdown().await;
        });
        let gone = look();
        assert!(gone.state == CheckStatus::Warn && gone.next.is_some() && process(dir.path()).is_none(), "{gone:?}");
    }

    #[test]
    fn a_gnomon_whose_state_folder_was_moved_away_is_told_by_what_its_metrics_say() {
        let nowhere = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let answers = listener.local_addr().unwrap();
        let pages = ["gnomon_ledger_queue_events 0\ngnomon_events_dropped_total{reason=\"database_failed\"} 7\n", "node_load1 0.5\n"];
        let serve = thread::spawn(move || {
            for page in pages {
                let (mut stream, _) = listener.accept().unwrap();
                // All of the question, as what is left unread would reset the connection.
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{page}").unwrap();
            }
        });
        let mut config = Config::default();
        config.metrics.listen = Switch::On(answers);
        let look = || examine(&config, nowhere.path(), nowhere.path(), true);
        let moved = look();
        let told =
            |at: usize, what: &str| moved[at].state == CheckStatus::Warn && moved[at].seen.contains(what) && moved[at].next.is_some();
        assert!(moved.len() == 2 && told(0, "was moved away") && told(1, "7 were not"), "{moved:?}");
        let of_another = look();
        assert!(of_another.len() == 1 && of_another[0].state == CheckStatus::NotApplicable, "{of_another:?}");
        serve.join().unwrap();
    }

    #[test]
    fn a_lock_is_found_by_its_device_or_by_the_process_that_its_file_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::metadata(dir.path()).unwrap();
        let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
        let line = |place: String| format!("1: POSIX  ADVISORY  WRITE 1 {place} 0 EOF\n2: FLOCK  ADVISORY  WRITE 42 {place} 0 EOF\n");
        let own = line(format!("{major:02x}:{minor:02x}:{}", file.ino()));
        assert_eq!(holder(&own, &file, "").as_deref(), Some("42"));
        let other = line(format!("fe:fe:{}", file.ino()));
        assert_eq!((holder(&other, &file, "42").as_deref(), holder(&other, &file, "43")), (Some("42"), None));
    }

    #[test]
    fn events_that_wait_while_none_is_written_fail_and_those_that_go_on_do_not() {
        let page = |waiting: u32, written: u32| {
            format!(
                "# HELP x\ngnomon_ledger_queue_events {waiting}\ngnomon_events_written_total {written}\ngnomon_events_dropped_total{{reason=\"closed\"}} 0\n"
            )
        };
        let asked = Cell::new(0);
        let again = |answer: String| {
            asked.set(asked.get() + 1);
            Ok(answer)
        };
        assert_eq!(stalled(&page(0, 3), || again(page(0, 3))), None);
        assert_eq!(asked.get(), 0);
        assert_eq!(stalled(&page(5, 3), || again(page(5, 9))), None);
        assert_eq!(stalled(&page(5, 3), || again(page(9, 3))).unwrap().state, CheckStatus::Fail);
        assert_eq!(lost(&page(0, 0)), None);
        assert!(
            lost("gnomon_events_dropped_total{reason=\"a\"} 1\ngnomon_events_dropped_total{reason=\"b\"} 2\n")
                .unwrap()
                .seen
                .starts_with("3 ")
        );
    }

    #[test]
    fn what_was_refused_while_the_last_good_goes_on_is_told() {
        assert_eq!(in_force("gnomon_rules_last_reload_successful 1\n"), None);
        let refused = in_force("gnomon_rules_last_reload_successful 0\ngnomon_config_last_reload_successful 1\n").unwrap();
        assert!(refused.seen.contains("the rules on disk: refused") && refused.next.unwrap().contains("gnomon rules check"));
    }

    #[test]
    fn a_gnomon_to_which_no_sensor_reports_is_told() {
        assert_eq!(blind("gnomon_sensor_up 1\n"), None);
        let told = blind("gnomon_sensor_up 0\n").unwrap();
        assert!(told.state == CheckStatus::Warn && told.next.is_some(), "{told:?}");
    }

    #[test]
    fn whoever_takes_a_connection_and_does_not_answer_is_waited_for_no_longer_than_said() {
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let began = std::time::Instant::now();
        page(mute.local_addr().unwrap(), "/metrics").unwrap_err();
        assert!(began.elapsed() < 2 * ANSWERS);
    }
}
