//! Who the server is, and what is told to nobody.

use crate::{
    authority::Authority,
    stage::{Database, timed},
};
use gnomon_ledger_model::Decisions as _;
use gnomon_ledger_postgres::{PostgresDecisions, PostgresUrl};
use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn refusal(url: &str) -> String {
    PostgresDecisions::open(url.parse().unwrap()).await.unwrap_err().to_string()
}

/// Whether all connections of gnomon's to the database have TLS; there is one.
async fn all_in_tls(database: &Database) -> bool {
    let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'gnomon' AND datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(&mut database.admin().await).await.unwrap()
}

#[tokio::test]
async fn over_a_network_a_server_is_spoken_with_that_its_authority_vouches_for() {
    let Some(database) = Database::new().await else { return };
    let roots = format!("sslrootcert={}", database.server.authority().display());
    for mode in ["", "&sslmode=verify-full"] {
        let url: PostgresUrl = database.network("localhost", &format!("{roots}{mode}")).parse().unwrap();
        let mut decisions = PostgresDecisions::open(url).await.unwrap();
        assert_eq!(decisions.newest().await.unwrap(), 0);
        assert!(all_in_tls(&database).await);
    }
    // The same server under a name that its certificate does not have.
    let error = refusal(&database.network("127.0.0.1", &roots)).await;
    assert!(
        error.contains("certificate not valid for name") && error.contains("name the host as the server's certificate has it"),
        "{error}"
    );
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.pem");
    fs::write(&other, Authority::new("another authority").pem).unwrap();
    for settings in ["", &format!("sslrootcert={}", other.display())] {
        let error = refusal(&database.network("localhost", settings)).await;
        assert!(error.contains("UnknownIssuer") && error.contains("sslrootcert="), "{error}");
    }
    for (file, why) in [("/nowhere", "No such file"), ("/dev/null", "it is not a regular file")] {
        let error = refusal(&database.network("localhost", &format!("sslrootcert={file}"))).await;
        assert!(error.contains(&format!("sslrootcert {file}: {why}")) && error.contains("name a file"), "{error}");
    }
    let error = database.network("localhost", &format!("{roots}&sslmode=require")).parse::<PostgresUrl>().unwrap_err().to_string();
    assert!(error.starts_with("sslmode=require does not make sure that the server is the one that was meant"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_learns_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://ada:s3cret@localhost:{}/d", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 8];
        stream.read_exact(&mut asked).await.unwrap();
        stream.write_all(b"N").await.unwrap();
        let mut more = Vec::new();
        stream.read_to_end(&mut more).await.unwrap();
        (asked, more)
    });
    let error = refusal(&url).await;
    assert!(error.contains("turn on `ssl`") && !error.contains("s3cret"), "{error}");
    assert_eq!(server.await.unwrap(), (*b"\0\0\0\x08\x04\xd2\x16\x2f", vec![]));
}

/// The variable in which this test tells itself, in a process of its own, where to go.
const CHILD: &str = "GNOMON_TEST_POSTGRES";

#[tokio::test]
async fn the_environment_weakens_nothing() {
    if let Ok(urls) = std::env::var(CHILD) {
        let (trusted, untrusted) = urls.split_once(' ').unwrap();
        // The host, the user and the database are the URL's, and TLS is what it is.
        let mut decisions = PostgresDecisions::open(trusted.parse().unwrap()).await.unwrap();
        decisions.newest().await.unwrap();
        let error = refusal(untrusted).await;
        assert!(error.contains("UnknownIssuer"), "{error}");
        println!("done {CHILD}");
        return;
    }
    let Some(database) = Database::new().await else { return };
    // Plain connections are let in by this server: gnomon alone insists.
    let ca = database.server.authority();
    let urls = [database.network("localhost", &format!("sslrootcert={}", ca.display())), database.network("localhost", "")].join(" ");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "trust::the_environment_weakens_nothing", "--nocapture"])
        .env(CHILD, urls)
        .env("PGSSLMODE", "disable")
        .env("PGSSLROOTCERT", &ca)
        .envs([("PGHOST", "192.0.2.1"), ("PGHOSTADDR", "192.0.2.1"), ("PGPORT", "1"), ("PGUSER", "nobody"), ("PGDATABASE", "nothing")])
        .env("PGOPTIONS", "-c statement_timeout=0 -c search_path=public -c default_transaction_isolation=serializable")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(&format!("done {CHILD}")), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_password_is_used_and_never_shown() {
    let Some(database) = Database::new().await else { return };
    // The role is the server's, and the rule for it names it.
    let mut admin = database.admin().await;
    sqlx::raw_sql("CREATE ROLE secretive LOGIN SUPERUSER PASSWORD 's3cret/@:'").execute(&mut admin).await.unwrap();
    let right = database.url_of("secretive:s3cret%2F%40%3A");
    let decisions = PostgresDecisions::open(right.clone()).await.unwrap();
    assert!(!format!("{decisions:?} {right:?} {right}").contains("s3cret"));
    let dir = tempfile::tempdir().unwrap();
    let passfile = dir.path().join("passfile");
    fs::write(&passfile, format!("nonsense s3cret\n*:*:{}:secretive:s3cret/@\\:\n", database.name)).unwrap();
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
    let in_file = format!("{}&passfile={}", database.url_text("secretive"), passfile.display());
    PostgresDecisions::open(in_file.parse().unwrap()).await.unwrap();
    // A wrong one; one that SASLprep does not allow, a part of which the driver would show; and none.
    for (user, why) in [
        ("secretive:s3cret-wrong", "password authentication failed"),
        ("secretive:s3cret%07", "SASLprep"),
        ("secretive", "password authentication failed"),
    ] {
        let (error, took) = timed(PostgresDecisions::open(database.url_of(user))).await;
        let error = error.unwrap_err();
        let all = format!("{error} {error:?}");
        assert!(all.contains(why) && !all.contains("s3cret") && !all.contains('\u{7}') && !all.contains("u{7}"), "{all}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
}
