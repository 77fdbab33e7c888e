//! Acknowledged means kept.

use super::*;
use gnomon_ledger::{DropReason, LedgerError, OpenError, ReadError};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

/// The folder that the child of the crash test writes to; its presence makes the test the child.
const CHILD: &str = "GNOMON_LEDGER_TEST_CHILD";

#[tokio::test]
async fn events_are_kept_in_the_order_recorded_and_alike_in_file_and_database() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    for number in 0..5_000 {
        record(&ledger, call("mcp.example.com", number));
    }
    ledger.flush().await.unwrap();
    assert_eq!((ledger.acknowledged(), ledger.dropped().total(), ledger.queued()), (5_000, 0, 0));
    writer.shutdown().await;

    let stored = state.all().await;
    let written = std::fs::read_to_string(state.jsonl()).unwrap();
    assert_eq!(stored.iter().map(|e| e.json.as_str()).collect::<Vec<_>>(), written.lines().collect::<Vec<_>>());
    for (number, event) in (0_i64..).zip(&stored) {
        assert_eq!(event.seq, number + 1);
        assert_eq!(parse(event)["jsonrpc.request.id"], number.to_string());
    }
}

#[tokio::test]
async fn every_line_conforms_to_the_schema_and_survives_a_round_trip() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    // Every stored field at once, and text in many scripts.
    let mut full = Observation::new();
    for info in gnomon_observe::FIELDS.iter().filter(|info| info.is_stored()) {
        full.set_json(info.name, &serde_json::from_str(info.sample).unwrap()).unwrap();
    }
    full.set_member(gnomon_observe::Family::RequestHeader, "mcp-name", "echo");
    record(&ledger, full.clone());
    let mut foreign = call("bücher.example", 1);
    foreign.set(Field::ToolName, "読む \u{0} \u{2028} \n \"\\ 👩‍💻");
    record(&ledger, foreign.clone());
    record(&ledger, Observation::new());
    ledger.flush().await.unwrap();
    writer.shutdown().await;

    let validator = jsonschema::validator_for(&gnomon_observe::json_schema()).unwrap();
    let stored = state.all().await;
    assert_eq!(stored.len(), 3);
    for event in &stored {
        let json = parse(event);
        assert!(validator.is_valid(&json), "{:?}", validator.iter_errors(&json).map(|e| e.to_string()).collect::<Vec<_>>());
        let back = Observation::from_json(json.as_object().unwrap()).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), event.json);
    }
    assert_eq!(parse(&stored[0]), serde_json::to_value(&full).unwrap());
    assert_eq!(parse(&stored[1])["gen_ai.tool.name"], foreign.text(Field::ToolName).unwrap());
}

#[tokio::test]
async fn a_reopened_ledger_goes_on_where_it_stopped() {
    let state = State::new();
    for round in 0..3 {
        let (ledger, writer) = state.open().await;
        record(&ledger, call("mcp.example.com", round));
        // No flush: shutting down writes what is queued.
        writer.shutdown().await;
        assert_eq!(ledger.acknowledged(), 1);
        assert_eq!(ledger.record(Event::now(Observation::new())), Recorded::Dropped(DropReason::Closed));
        assert_eq!(ledger.flush().await, Ok(()), "everything that was let in is durable");
    }
    assert_eq!(state.all().await.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(std::fs::read_to_string(state.jsonl()).unwrap().lines().count(), 3);
}

/// Not a test of its own: the process that the next test kills. It says on standard output how far
/// it was acknowledged, and never stops.
#[tokio::test]
async fn child_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let (ledger, _writer) = Ledger::open(options(Path::new(&dir))).await.unwrap();
    let mut number = 0;
    loop {
        for _ in 0..97 {
            let _ = ledger.record(Event::now(call("mcp.example.com", number)));
            number += 1;
        }
        ledger.flush().await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {}", ledger.acknowledged()).unwrap();
        out.flush().unwrap();
        // More is on its way when the kill comes.
        for _ in 0..31 {
            let _ = ledger.record(Event::now(call("mcp.example.com", number)));
            number += 1;
        }
    }
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let state = State::new();
    let mut acknowledged_before = 0;
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::child_that_is_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD, state.dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let acknowledged: usize =
            said.filter_map(|line| Some(line.rsplit_once("acknowledged ")?.1.parse().unwrap())).nth(3 + round).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let expected = acknowledged_before + acknowledged;

        // What a torn line looks like, in case the kill was too kind to leave one.
        std::fs::OpenOptions::new().append(true).open(state.jsonl()).unwrap().write_all(b"{\"torn").unwrap();
        let (_ledger, writer) = state.open().await;
        writer.shutdown().await;
        let stored = state.all().await;
        assert!(stored.len() >= expected, "{} of {expected} in the database", stored.len());
        let written = std::fs::read_to_string(state.jsonl()).unwrap();
        let mut in_file = std::collections::HashSet::new();
        for line in written.lines() {
            let json: serde_json::Value = serde_json::from_str(line).expect("every line is whole");
            in_file.insert(json["event.id"].as_str().unwrap().to_owned());
        }
        let acknowledged = &stored[acknowledged_before..expected];
        assert!(acknowledged.iter().all(|event| in_file.contains(parse(event)["event.id"].as_str().unwrap())));
        acknowledged_before = stored.len();
    }
}

#[tokio::test]
async fn a_second_writer_is_refused_and_told_who_holds_the_ledger() {
    let state = State::new();
    let (_ledger, writer) = state.open().await;
    let error = Ledger::open(state.options()).await.unwrap_err();
    assert!(matches!(&error, LedgerError::Busy { pid: Some(pid), .. } if *pid == std::process::id()), "{error}");
    let dir = state.dir.path().display();
    let pid = std::process::id();
    assert_eq!(error.to_string(), format!("another gnomon (pid {pid}) is writing to {dir}; stop it or use another --state-dir"));
    writer.shutdown().await;
    state.open().await.1.shutdown().await;
}

#[tokio::test]
async fn a_database_of_a_newer_gnomon_or_of_another_program_is_refused() {
    let state = State::new();
    state.open().await.1.shutdown().await;
    let sql = |path: PathBuf, sql: &'static str| async move {
        use sqlx::{ConnectOptions, Connection};
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let mut conn = options.connect().await.unwrap();
        sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    };
    sql(state.path(), "PRAGMA user_version = 7").await;
    let error = Ledger::open(state.options()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Open(OpenError::NewerSchema { found: 7, .. })), "{error}");
    assert!(error.to_string().contains("upgrade gnomon"));
    assert!(matches!(Reader::open(&state.path()).await.unwrap_err(), ReadError::Schema { found: 7, .. }));

    let other = State::new();
    sql(other.path(), "CREATE TABLE bookmarks (url TEXT)").await;
    assert!(matches!(Ledger::open(other.options()).await.unwrap_err(), LedgerError::Open(OpenError::NotALedger { .. })));

    let damaged = State::new();
    std::fs::write(damaged.path(), "not a database, but long enough to look like one".repeat(100)).unwrap();
    assert!(matches!(Ledger::open(damaged.options()).await.unwrap_err(), LedgerError::Open(OpenError::Damaged { .. })));
}

#[tokio::test]
async fn what_cannot_be_opened_says_which_file_and_what_to_do() {
    let nowhere = Path::new("/nonexistent/gnomon/ledger.sqlite");
    let error = Ledger::open(LedgerOptions::new(nowhere)).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot write /nonexistent/gnomon/ledger.lock") && error.contains("--state-dir"), "{error}");
    let error = Reader::open(nowhere).await.unwrap_err();
    assert!(matches!(error, ReadError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn a_ledger_that_is_empty_cut_or_anothers_says_so_and_what_to_do() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    (0..2_000).for_each(|number| record(&ledger, call("mcp.example.com", number)));
    writer.shutdown().await;
    let cut = |length| std::fs::File::options().write(true).open(state.path()).unwrap().set_len(length).unwrap();
    let read = async || match Reader::open(&state.path()).await {
        Ok(mut reader) => reader.events(&EventFilter::default(), Order::OldestFirst).await.unwrap_err(),
        Err(error) => error,
    };
    let length = std::fs::metadata(state.path()).unwrap().len();
    for length in [length - 16_384, 40_000, 16_384, 1_000, 60] {
        cut(length);
        let error = read().await;
        assert!(matches!(error, ReadError::Damaged { .. }), "{length}: {error}");
        let text = error.to_string();
        assert!(text.contains("was truncated") && text.contains("move it away"), "{length}: {text}");
    }
    cut(0);
    let error = read().await;
    assert!(matches!(error, ReadError::Empty { .. }) && error.to_string().contains("was truncated"), "{error}");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(state.path());
    let mut other = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::raw_sql("CREATE TABLE bookmarks (url TEXT)").execute(&mut other).await.unwrap();
    sqlx::Connection::close(other).await.unwrap();
    let error = read().await;
    assert!(matches!(error, ReadError::NotALedger { .. }) && error.to_string().contains("--state-dir"), "{error}");
}

#[tokio::test]
async fn files_are_closed_to_others() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    record(&ledger, Observation::new());
    ledger.flush().await.unwrap();
    for entry in std::fs::read_dir(state.dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o137, 0, "{:?}", entry.path());
    }
    writer.shutdown().await;
}
