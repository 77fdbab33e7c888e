//! A PostgreSQL server of the tests' own. One is shared by all that do not stop it; each test has a database to itself.

use crate::authority::Authority;
use gnomon_ledger_model::{DecidedBy, DecisionEntry, Topic};
use gnomon_ledger_postgres::PostgresUrl;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// Who the server runs as where the tests run as root, as it refuses to be root.
const NOBODY: u32 = 65534;
/// Starts and stops the server as it is told; ends it, and removes its folder, when nobody is left who could tell it anything: also where
/// the tests were killed.
const GUARD: &str = r#"
trap '' INT TERM HUP
dir=$1; shift
start() { "$@" </dev/null >>"$dir/log" 2>&1 & server=$!; }
stop() { kill -QUIT "$server"; wait "$server"; } 2>/dev/null
start "$@"
while read -r word; do
    case $word in stop) stop ;; start) start "$@" ;; esac
    echo "$word"
done
stop
rm -rf "$dir"
"#;

pub struct Server {
    dir: PathBuf,
    pub port: u16,
    guard: Mutex<(Option<ChildStdin>, BufReader<ChildStdout>, Child)>,
}

/// Says so if not, for the test whose thread this is.
fn installed() -> bool {
    gnomon_testkit::has(std::thread::current().name().unwrap_or("postgres"), &["initdb", "postgres"])
}

impl Server {
    /// The one that is shared; none where PostgreSQL is not installed.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Server> = OnceLock::new();
        if !installed() {
            return None;
        }
        let server = SHARED.get_or_init(Self::started);
        server.ready().await;
        Some(server)
    }

    /// One for a test that stops it.
    pub async fn own() -> Option<Self> {
        if !installed() {
            return None;
        }
        let server = Self::started();
        server.ready().await;
        Some(server)
    }

    fn started() -> Self {
        let dir = tempfile::tempdir().unwrap().keep();
        let authority = Authority::new("the server's authority");
        let (certificate, key) = authority.issue("localhost");
        for (name, text) in [("ca.pem", &authority.pem), ("cert.pem", &certificate), ("key.pem", &key)] {
            fs::write(dir.join(name), text).unwrap();
        }
        let is_root = fs::metadata(&dir).unwrap().uid() == 0;
        let run = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir("/").env("LC_ALL", "C");
            if is_root {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        if is_root {
            for file in [&dir, &dir.join("key.pem")] {
                chown(file, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        fs::set_permissions(dir.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let data = dir.join("data");
        let mut initdb = run(&gnomon_testkit::find("initdb").unwrap());
        initdb.args(["-A", "trust", "-U", "admin", "--no-sync", "--no-locale", "-E", "UTF8", "-D"]).arg(&data);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // A role that needs a password everywhere; others are let in, with TLS and without: it is for gnomon to insist on TLS.
        let rules = "local all secretive scram-sha-256\nlocal all all trust\nhost all all 127.0.0.1/32 trust\nhost all all ::1/128 trust\n";
        fs::write(data.join("pg_hba.conf"), rules).unwrap();
        let port = gnomon_testkit::free_port().port();
        let mut guard = run(Path::new("/bin/sh"));
        guard.args(["-c", GUARD, "guard"]).arg(&dir).arg(gnomon_testkit::find("postgres").unwrap());
        guard.arg("-D").arg(&data).arg("-k").arg(&dir).args(["-p", &port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "fsync=off", "ssl=on", "max_connections=100"] {
            guard.args(["-c", setting]);
        }
        for (setting, file) in [("ssl_cert_file", "cert.pem"), ("ssl_key_file", "key.pem")] {
            guard.arg("-c").arg(format!("{setting}={}", dir.join(file).display()));
        }
        let mut guard = guard.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (words, answers) = (guard.stdin.take(), BufReader::new(guard.stdout.take().unwrap()));
        Self { dir, port, guard: Mutex::new((words, answers, guard)) }
    }

    fn tell(&self, word: &str) {
        let mut guard = self.guard.lock().unwrap();
        writeln!(guard.0.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        guard.1.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), word);
    }

    /// Ends the server as a power failure would.
    pub fn stop(&self) {
        self.tell("stop");
    }

    pub async fn start(&self) {
        self.tell("start");
        self.ready().await;
    }

    /// Makes it a standby, which nothing comes to any more.
    pub async fn follow(&self) {
        self.stop();
        fs::write(self.dir.join("data/standby.signal"), "").unwrap();
        self.start().await;
    }

    async fn ready(&self) {
        let patience = Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.options("postgres").connect().await {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(Instant::now() < patience, "{error}\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().socket(&self.dir).port(self.port).username("admin");
        options.database(database).ssl_mode(PgSslMode::Disable)
    }

    /// The folder of its socket.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// The certificate of its authority.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// As its administrator.
    pub async fn admin(&self, database: &str) -> PgConnection {
        self.options(database).connect().await.unwrap()
    }

    /// A new database.
    pub async fn database(&self, settings: &str) -> Result<String, sqlx::Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("journal_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let sql = format!("CREATE DATABASE {name} {settings}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.admin("postgres").await).await?;
        Ok(name)
    }
}

impl Drop for Server {
    /// The guard ends the server as it hears no more, and is waited for, so that nothing is left when the test ends.
    fn drop(&mut self) {
        if let Ok(guard) = self.guard.get_mut() {
            guard.0.take();
            let _ = guard.2.wait();
        }
    }
}

/// A database of a test's own, empty.
pub struct Database {
    pub server: &'static Server,
    pub name: String,
}

impl Database {
    /// None where PostgreSQL is not installed.
    pub async fn new() -> Option<Self> {
        let server = Server::shared().await?;
        Some(Self { server, name: server.database("").await.unwrap() })
    }

    pub fn url(&self) -> PostgresUrl {
        self.url_of("admin")
    }

    /// As this user and, after a colon, with this password.
    pub fn url_of(&self, user: &str) -> PostgresUrl {
        self.url_text(user).parse().unwrap()
    }

    pub fn url_text(&self, user: &str) -> String {
        format!("postgres://{user}@:{}/{}?host={}", self.server.port, self.name, self.server.folder().display())
    }

    /// Over TCP, to this name of the host.
    pub fn network(&self, host: &str, settings: &str) -> String {
        format!("postgres://admin@{host}:{}/{}?{settings}", self.server.port, self.name)
    }

    pub async fn admin(&self) -> PgConnection {
        self.server.admin(&self.name).await
    }

    /// Runs SQL as the administrator.
    pub async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.admin().await).await.unwrap();
    }
}

pub fn entry(subject: &str, body: &str) -> DecisionEntry {
    let by = DecidedBy { user: Some("ada".to_owned()), login_uid: None, uid: 0 };
    let (subject, body) = (subject.to_owned(), Some(body.to_owned()));
    DecisionEntry { topic: Topic::Review, subject, at_ms: 7, by, reason: None, body, origin: None }
}

/// What a future gives, and how long that took.
pub async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = future.await;
    (value, start.elapsed())
}
