//! Databases of SQLite that gnomon writes: the ledger, the journal of decisions, the audit. How their files are made, what a connection is
//! set to, what a failure means, and a connection ([`Database`]) that is opened anew after a failure and knows whether its file is still in
//! its place.
//!
//! **No descriptor of a database is closed beside its connections.** Whoever closes one gives up all locks that this process has on
//! the file (fcntl(2)), those of SQLite's own connections too, and another process would write in the middle of a transaction. So what
//! is there is looked at by its name, and what is made here stays open for ever.
//!
//! Tables and queries are its users'; what is known of a database as a file, without a driver, is in `gnomon-files`.
#![deny(missing_docs)]

mod failure;
mod file;

pub use failure::{Failure, code, is_damaged, is_full};
pub use file::{Folder, create, may_read};

use file::set_aside;
use gnomon_files::sqlite::{DatabasePlace, Displaced, log_of};
use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{
    mem,
    path::{Path, PathBuf},
    time::Duration,
};

/// The size of a page, bytes. Large pages suit rows of a kilobyte or two: less of each page stays empty, and a commit writes fewer of them.
pub const PAGE_BYTES: u32 = 16384;
/// How long a connection of [`durable`] waits for a lock of another.
const LOCKED: Duration = Duration::from_secs(2);

/// What all connections have in common: so long they wait for a lock of another, no statement is logged, and closing has no work of its own.
#[must_use]
pub fn plain(path: &Path, locked: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).busy_timeout(locked).optimize_on_close(false, None).disable_statement_logging()
}

/// For a database that this process alone writes, and of which a power cut takes nothing that was committed: a write-ahead log, and this
/// many KiB of pages in memory.
#[must_use]
pub fn durable(path: &Path, cache_kib: u32) -> SqliteConnectOptions {
    plain(path, LOCKED)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode only FULL syncs the log at every commit.
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", format!("-{cache_kib}"))
}

/// A database in memory, in place of one that is given up.
async fn nothing() -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new().in_memory(true).disable_statement_logging().connect().await
}

/// A file's application id, which says whose it is, and its schema version; both are 0 where nobody set them.
///
/// # Errors
/// The database's.
pub async fn identity(conn: &mut SqliteConnection) -> Result<(i64, i64), sqlx::Error> {
    sqlx::query_as("SELECT application_id, user_version FROM pragma_application_id, pragma_user_version").fetch_one(conn).await
}

/// A database that is open, and of which nobody knows yet whether it is ours.
#[derive(Debug)]
pub struct Opened {
    conn: SqliteConnection,
    options: SqliteConnectOptions,
    path: PathBuf,
}

impl Opened {
    /// Makes the file if need be, in a folder of this process's own, and opens it to write. A log that was left without its database is moved aside,
    /// and told of: what was written last may be in it alone.
    ///
    /// # Errors
    /// The file cannot be made or written, or is no database.
    pub async fn to_write(path: &Path, options: SqliteConnectOptions) -> Result<Self, Failure> {
        if let Some(aside) = set_aside(path).map_err(|error| Failure::File(error).explained(path))? {
            let (database, log, aside) = (path.display(), log_of(path), aside.display());
            tracing::error!(
                "{database} is missing or empty, and its log is there: another is begun, and the log is kept as {aside}; to read what it has, put it beside the file that it belongs to, under the name {}",
                log.display()
            );
        }
        create(path, Folder::Own).map_err(|error| Failure::File(error).explained(path))?;
        Self::with(path, options).await
    }

    /// Opens what is there, as these options say.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn with(path: &Path, options: SqliteConnectOptions) -> Result<Self, Failure> {
        let conn = options.connect().await.map_err(|error| Failure::from(error).explained(path))?;
        Ok(Self { conn, options, path: path.to_owned() })
    }

    /// The connection.
    pub fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.conn
    }

    /// The database, once it is known to be ours and something was read of it: only then is its log beside it.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn settled(self) -> Result<Database, Failure> {
        let Self { conn, options, path } = self;
        let place = DatabasePlace::of(&path).map_err(Failure::File)?;
        Ok(Database { conn, options, health: Health::Sound, place: Some(place) })
    }
}

/// The health of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Sound,
    /// Something failed. A transaction that could not be ended, as on a full disk, may still be open: nothing could be begun any
    /// more, what is written next would be a part of it, look committed and never be.
    Suspect,
}

/// A database that this process uses over one connection at a time.
#[derive(Debug)]
pub struct Database {
    conn: SqliteConnection,
    options: SqliteConnectOptions,
    health: Health,
    /// None once it has given way.
    place: Option<DatabasePlace>,
}

impl Database {
    /// The connection, or another one where it cannot be relied upon.
    ///
    /// # Errors
    /// No other can be opened: the disk is full, or the file is no longer in its place.
    pub async fn sound(&mut self) -> Result<&mut SqliteConnection, Failure> {
        if self.health == Health::Suspect {
            // Else what is in its place would be written to.
            self.look()?;
            // The new one first: the last to close would fold the log, for which there may be no room.
            let fresh = self.options.connect().await.map_err(|error| Failure::from(error).explained(self.options.get_filename()))?;
            // Errors of the old connection are ignored: its transaction ends with it.
            let _ = mem::replace(&mut self.conn, fresh).close().await;
            self.health = Health::Sound;
        }
        Ok(&mut self.conn)
    }

    /// The connection as it is.
    pub fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.conn
    }

    /// Notes that a write failed: [`Database::sound`] opens another connection.
    pub fn is_suspect(&mut self) {
        self.health = Health::Suspect;
    }

    /// Whether whoever opens the path finds all that was written.
    ///
    /// # Errors
    /// It was moved, replaced or cut short.
    pub fn look(&self) -> Result<(), Displaced> {
        self.place.as_ref().map_or(Err(Displaced::File), DatabasePlace::look)
    }

    /// Notes that pages were just given back: the file may become as short as the database is now.
    pub fn shrinks(&self) {
        self.place.iter().for_each(DatabasePlace::shrinks);
    }

    /// Makes way for another database at the path ([`DatabasePlace::give_way`]), and is closed: from then on it is in no place, and empty.
    ///
    /// # Errors
    /// [`Failure::File`] where file or log cannot be changed, and nothing was done. It can be tried again.
    pub async fn give_way(&mut self) -> Result<(), Failure> {
        self.place.as_ref().map_or(Ok(()), DatabasePlace::give_way).map_err(Failure::File)?;
        // It is closed before another is opened: as it ends it removes what is beside it, by name.
        let _ = mem::replace(&mut self.conn, nothing().await?).close().await;
        self.place = None;
        Ok(())
    }

    /// Closes it: the last connection folds the log into the file.
    ///
    /// # Errors
    /// The database's. What is not folded is in the log, which the next opening reads.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        self.conn.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::MetadataExt as _};

    /// The locks on a file that this host knows of.
    fn locks(path: &Path) -> usize {
        let inode = format!(":{} ", fs::metadata(path).unwrap().ino());
        fs::read_to_string("/proc/locks").unwrap().lines().filter(|line| line.contains(&inode)).count()
    }

    #[tokio::test]
    async fn looking_at_a_database_gives_up_no_lock_of_its_connections() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        create(&path, Folder::OfAnother).unwrap();
        let mut conn = plain(&path, LOCKED).connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE a (b)").execute(&mut conn).await.unwrap();
        let writing = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let held = locks(&path);
        assert!(held > 0, "no lock is seen");
        create(&path, Folder::OfAnother).unwrap();
        create(&path, Folder::Own).unwrap();
        may_read(&path, Folder::Own).unwrap();
        assert_eq!(locks(&path), held);
        drop(writing);
        // What would: so the test sees what it is about.
        let mut conn = plain(&path, LOCKED).connect().await.unwrap();
        let _writing = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
        drop(fs::File::open(&path).unwrap());
        assert_eq!(locks(&path), 0);
    }

    #[tokio::test]
    async fn after_a_failure_another_connection_is_used_which_has_nothing_of_what_was_not_committed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        let mut opened = Opened::to_write(&path, durable(&path, 64)).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        sqlx::raw_sql("CREATE TABLE a (b)").execute(opened.conn()).await.unwrap();
        let mut database = opened.settled().unwrap();
        sqlx::raw_sql("BEGIN; INSERT INTO a VALUES (1)").execute(database.conn()).await.unwrap();
        database.is_suspect();
        let conn = database.sound().await.unwrap();
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM a").fetch_one(conn).await.unwrap();
        assert_eq!(rows, 0);
        database.is_suspect();
        fs::rename(&path, dir.path().join("b.sqlite")).unwrap();
        fs::write(&path, []).unwrap();
        assert!(matches!(database.sound().await, Err(Failure::Displaced(Displaced::File))), "what is in its place is not written to");
        database.give_way().await.unwrap();
        assert_eq!(database.look(), Err(Displaced::File));
    }

    #[tokio::test]
    async fn a_log_that_was_left_without_its_database_is_kept_under_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        for left in 1..=2 {
            let mut opened = Opened::to_write(&path, durable(&path, 64)).await.unwrap();
            sqlx::raw_sql("CREATE TABLE a (b); INSERT INTO a VALUES (1)").execute(opened.conn()).await.unwrap();
            let (log, moved) = (log_of(&path), dir.path().join("moved.sqlite"));
            let written = fs::read(&log).unwrap();
            fs::copy(&path, &moved).unwrap();
            drop(opened.conn.close().await);
            // As after a crash, and the file alone is moved away.
            fs::remove_file(&path).unwrap();
            fs::write(&log, &written).unwrap();
            let opened = Opened::to_write(&path, durable(&path, 64)).await.unwrap();
            opened.conn.close().await.unwrap();
            let aside = dir.path().join(format!("a.sqlite-wal-left-{left}"));
            assert_eq!(fs::read(&aside).unwrap(), written);
            // Together they are whole.
            fs::copy(&aside, log_of(&moved)).unwrap();
            let mut conn = plain(&moved, LOCKED).connect().await.unwrap();
            let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM a").fetch_one(&mut conn).await.unwrap();
            assert_eq!(rows, 1);
            conn.close().await.unwrap();
            fs::remove_file(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn a_damaged_file_is_told_from_one_that_cannot_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        fs::write(&path, "not a database, but long enough to look like one".repeat(100)).unwrap();
        let failure = Opened::to_write(&path, durable(&path, 64)).await.unwrap_err();
        assert!(failure.is_damaged(), "{failure}");
        let none = std::io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        let failure = Failure::File(none).explained(&path);
        assert!(!failure.is_damaged() && failure.to_string().contains("LimitNOFILE"), "{failure}");
    }
}
