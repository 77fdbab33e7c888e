//! An audit in a temporary folder, and what an attacker with its files can do.

use gnomon_audit::{
    Audit, AuditOptions, Checkpoint, Expect, FileSink, Head, PublicKey, Record, RecordKind, Report, SigningKey, SqliteStore, Store,
    StoredRecord, Writer, verify,
};
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

pub struct Stage {
    pub folder: tempfile::TempDir,
}

pub fn record(user: &str, tool: &str) -> Record {
    Record {
        kind: RecordKind::Call,
        user_name: Some(user.into()),
        server: Some("code".into()),
        tool: Some(tool.into()),
        ..Record::at(SystemTime::now())
    }
}

impl Stage {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn key(&self) -> SigningKey {
        SigningKey::open(&self.path("audit.key")).unwrap()
    }

    pub async fn open(&self, options: AuditOptions) -> (Audit, Writer) {
        let store = SqliteStore::open(&self.path("audit.sqlite"), 1 << 30).await.unwrap();
        let options = AuditOptions { clock: Some(self.path("audit.clock")), ..options };
        let away = FileSink::new(self.path("away.jsonl"));
        Audit::start(Box::new(store), self.key(), vec![Box::new(away)], options).await.unwrap()
    }

    /// So many runs of so many records each, with a checkpoint at the end of each run.
    pub async fn play(&self, runs: usize, records: usize) {
        for _ in 0..runs {
            let (audit, writer) = self.open(AuditOptions::default()).await;
            for n in 0..records {
                audit.record_durably(record("anna", &format!("tool-{n}"))).await.unwrap();
            }
            writer.shutdown().await;
        }
    }

    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        let lines = std::fs::read_to_string(self.path("away.jsonl")).unwrap();
        lines.lines().map(|line| Checkpoint::parse(line).unwrap()).collect()
    }

    pub fn public(&self) -> PublicKey {
        self.key().public()
    }

    pub async fn verify(&self) -> Report {
        self.verify_with(&self.checkpoints(), Expect::default()).await
    }

    pub async fn verify_with(&self, checkpoints: &[Checkpoint], expect: Expect) -> Report {
        let mut store = SqliteStore::read(&self.path("audit.sqlite")).await.unwrap();
        verify(&mut store, checkpoints, &self.public(), expect).await.unwrap()
    }

    pub async fn database(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.path("audit.sqlite")).connect().await.unwrap()
    }

    /// What somebody with the file does to it.
    pub async fn attack(&self, sql: &'static str) {
        let mut conn = self.database().await;
        conn.execute(sqlx::raw_sql(sql)).await.unwrap();
        conn.close().await.unwrap();
    }

    pub async fn entries(&self) -> Vec<StoredRecord> {
        SqliteStore::read(&self.path("audit.sqlite")).await.unwrap().after(0, 10_000).await.unwrap()
    }

    /// Puts these bodies in place of the records from this head on, chained as they must be.
    pub async fn rewrite(&self, mut head: Head, bodies: &[String]) {
        let mut conn = self.database().await;
        conn.execute(sqlx::raw_sql("DROP TRIGGER record_stays")).await.unwrap();
        for body in bodies {
            head = head.then(body);
            let update = sqlx::query("UPDATE record SET body = ?, hash = ? WHERE seq = ?");
            update.bind(body).bind(head.hash.0.to_vec()).bind(i64::try_from(head.seq).unwrap()).execute(&mut conn).await.unwrap();
        }
    }
}

/// Waits until something is so.
pub async fn until(mut so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(std::time::Instant::now() < deadline, "it did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
