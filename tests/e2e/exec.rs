//! `gnomon exec` from outside: the environment, descriptors and exit code of the program that it becomes.

use crate::sensor_stage::skip;
use crate::support::{
    HOST,
    gnomon::{Gnomon, Setup},
    rules::shipped,
    soon,
    upstream::Upstream,
};
use gnomon_host::trust::{CA_VARIABLES, read_certificates};
use gnomon_link::{Access, Bundle, Denial, GnomonEnd, Listener, Long, Redirect, Text, ToExec, ToGnomon, VERSION};
use gnomon_testkit::has;
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Command, Output, Stdio},
    thread::JoinHandle,
    time::Duration,
};
use tempfile::TempDir;

pub const GNOMON: &str = env!("CARGO_BIN_EXE_gnomon");

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An environment for one program: nothing of the test's own variables but PATH.
struct Bench {
    dir: TempDir,
    flags: Vec<String>,
}

impl Bench {
    /// With a proxy that the program is told of by variables.
    fn proxied(gnomon: &Gnomon) -> Self {
        let bench = Self::alone();
        let state = gnomon.state_dir().display().to_string();
        let flags = ["--proxy-env", "--proxy", &gnomon.address.to_string(), "--state-dir", &state].map(str::to_owned);
        Self { flags: flags.into_iter().chain(bench.flags).collect(), ..bench }
    }

    /// Without a gnomon to join.
    fn alone() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        let socket = dir.path().join("exec.sock").display().to_string();
        Self { dir, flags: vec!["--exec-socket".to_owned(), socket] }
    }

    /// With a gnomon that gives this answer to one program. Returns what the program asked for.
    fn joined(answer: ToExec) -> (Self, JoinHandle<ToGnomon>) {
        let bench = Self::alone();
        let listener = Listener::bind(&bench.dir.path().join("exec.sock"), Access::Everybody).unwrap();
        let serving = std::thread::spawn(move || {
            loop {
                let channel: GnomonEnd = listener.accept(Duration::from_secs(20)).unwrap();
                // As root, `gnomon exec` first connects without asking, to find out whether gnomon runs.
                if let Ok(asked) = channel.recv(Duration::from_secs(20)) {
                    channel.send(&answer, &[], Duration::from_secs(5)).unwrap();
                    return asked.message;
                }
            }
        });
        (bench, serving)
    }

    fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new(GNOMON);
        command.arg("exec").args(&self.flags).arg("--").args(program).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.dir.path().join("home"));
        command.env("TMPDIR", self.dir.path()).stdin(Stdio::null());
        command
    }

    async fn run(&self, program: &[&str]) -> Output {
        output_of(self.command(program)).await
    }
}

async fn output_of(mut command: Command) -> Output {
    soon("the program", tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

fn environment(output: &Output) -> BTreeMap<String, String> {
    text(&output.stdout).lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

async fn proxied(setup: Setup) -> (Gnomon, Bench) {
    let gnomon = setup.start().await;
    let bench = Bench::proxied(&gnomon);
    (gnomon, bench)
}

fn joined(bundle: Bundle) -> ToExec {
    ToExec::Joined { cgroup: Long::cut("/gnomon-exec-test"), bundle }
}

#[tokio::test]
async fn the_program_is_told_of_proxy_and_authority_and_keeps_what_it_had() {
    let (gnomon, bench) = proxied(Gnomon::with()).await;
    let corporate = crate::support::authority::Authority::new("of the house");
    let mut command = bench.command(&["env"]);
    command.env("SSL_CERT_FILE", corporate.pem_file()).env("OTHER", "as it was");
    let output = output_of(command).await;
    let found = environment(&output);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((found["HTTPS_PROXY"].as_str(), found["OTHER"].as_str()), (format!("http://{}", gnomon.address).as_str(), "as it was"));
    let bundle = &found["SSL_CERT_FILE"];
    assert!(CA_VARIABLES.iter().all(|variable| &found[variable.name] == bundle), "{found:#?}");
    let certificates = read_certificates(Path::new(bundle)).unwrap();
    assert!(certificates.contains(&gnomon.root) && certificates.contains(corporate.certificate()));
    assert!(text(&output.stderr).contains("only"), "it says what is not seen: {output:?}");
    let known = CA_VARIABLES.len() + 1 + 5 + ["PATH", "HOME", "TMPDIR", "OTHER"].len();
    // Some systems have a shell script or wrapper for env, which adds `_` and its like.
    assert!(found.len() <= known + 1, "{found:#?}");
}

/// Fetches a URL with Java's own HTTP client, and prints the answer.
const FETCH: &str = r#"
public class Fetch {
    public static void main(String[] arguments) throws Exception {
        var connection = new java.net.URL(arguments[0]).openConnection();
        connection.setDoOutput(true);
        connection.setRequestProperty("content-type", "application/json");
        connection.getOutputStream().write(arguments[1].getBytes());
        System.out.print(new String(connection.getInputStream().readAllBytes()));
    }
}
"#;

#[tokio::test]
async fn java_trusts_the_authority_under_exec() {
    if Command::new("javac").arg("--version").output().is_err() {
        return skip("java_trusts_the_authority_under_exec", "no JDK");
    }
    let upstream = Upstream::start(&["http/1.1"]).await;
    let setup = Gnomon::with().rules(shipped()).resolve(HOST, upstream.address).trust(upstream.authority.pem_file());
    let (gnomon, bench) = proxied(setup).await;
    let program = bench.dir.path().join("Fetch.java");
    fs::write(&program, FETCH).unwrap();
    // Java ignores the variables that name a proxy.
    let (host, port) = (gnomon.address.ip(), gnomon.address.port());
    let script = format!(
        r#"exec java -Dhttps.proxyHost={host} -Dhttps.proxyPort={port} "$0" https://{HOST}/rpc '{}'"#,
        crate::support::request::call(1, "any_tool")
    );
    let output = bench.run(&["sh", "-c", &script, program.to_str().unwrap()]).await;
    assert!(output.status.success() && text(&output.stdout).contains("done by the upstream"), "{output:?}");
}

#[tokio::test]
async fn a_real_client_under_exec_is_read() {
    if !has("a_real_client_under_exec_is_read", &["curl"]) {
        return;
    }
    let upstream = Upstream::start(&["h2", "http/1.1"]).await;
    let setup = Gnomon::with().rules(shipped()).resolve(HOST, upstream.address).trust(upstream.authority.pem_file());
    let (gnomon, bench) = proxied(setup).await;
    let message = crate::support::request::call(1, "any_tool").to_string();
    let url = format!("https://{HOST}/rpc");
    let output = bench.run(&["curl", "-sS", "-H", "content-type: application/json", "-d", &message, &url]).await;
    assert!(text(&output.stdout).contains("done by the upstream"), "{output:?}");
    assert_eq!(gnomon.finish().await[0]["gen_ai.tool.name"], json!("any_tool"));
}

#[tokio::test]
async fn exit_codes_are_the_programs_own_or_those_of_shells() {
    let (_gnomon, bench) = proxied(Gnomon::with()).await;
    for code in [0, 7] {
        assert_eq!(bench.run(&["sh", "-c", &format!("exit {code}")]).await.status.code(), Some(code));
    }
    let missing = bench.run(&["no-such-program"]).await;
    assert!(missing.status.code() == Some(127) && text(&missing.stderr).contains("no-such-program: not found"), "{missing:?}");
    let file = bench.dir.path().join("data");
    fs::write(&file, "no program").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let refused = bench.run(&[file.to_str().unwrap()]).await;
    assert!(refused.status.code() == Some(126) && text(&refused.stderr).contains("cannot be executed"), "{refused:?}");
    assert_eq!(bench.run(&["sh", "-c", "kill -TERM $$"]).await.status.signal(), Some(15));
    // An unknown flag is an error, not the name of a program.
    let wrong = Command::new(GNOMON).args(["exec", "--no-such-flag", "true"]).output().unwrap();
    assert!(wrong.status.code() == Some(2) && text(&wrong.stderr).contains("--no-such-flag"), "{wrong:?}");
}

#[tokio::test]
async fn the_program_is_the_process_that_was_started_with_its_descriptors_and_terminal() {
    let (_gnomon, bench) = proxied(Gnomon::with()).await;
    let child = bench.command(&["sh", "-c", "echo $$; cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id().to_string();
    let output = soon(
        "the program",
        tokio::task::spawn_blocking(move || {
            let mut child = child;
            child.stdin.take().unwrap().write_all(b"said to it").unwrap();
            child.wait_with_output().unwrap()
        }),
    )
    .await
    .unwrap();
    assert_eq!(text(&output.stdout), format!("{pid}\nsaid to it"));

    let flags = bench.flags.join(" ");
    let file = bench.dir.path().join("kept");
    let line = format!("exec 7>{}; {GNOMON} exec {flags} -- sh -c 'echo kept >&7'", file.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).env("HOME", bench.dir.path().join("home"));
    assert!(output_of(shell).await.status.success());
    assert_eq!(fs::read_to_string(file).unwrap(), "kept\n");

    if !has("the_program_is_the_process_that_was_started_with_its_descriptors_and_terminal", &["script", "ps"]) {
        return;
    }
    let line = format!("{GNOMON} exec {flags} -- sh -c 'test -t 0 && test -t 1 && tty && ps -o stat= -p $$'");
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("HOME", bench.dir.path().join("home")).stdin(Stdio::null());
    let output = output_of(script).await;
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("/dev/pts/") && said.contains('+'), "in the foreground of its terminal: {output:?}");
}

#[tokio::test]
async fn an_exec_below_an_exec_finds_the_same_bundle() {
    let (_gnomon, bench) = proxied(Gnomon::with()).await;
    let outer = environment(&bench.run(&["env"]).await);
    let inner: Vec<&str> = [GNOMON, "exec"].into_iter().chain(bench.flags.iter().map(String::as_str)).chain(["--", "env"]).collect();
    let inner = environment(&bench.run(&inner).await);
    assert_eq!(outer["SSL_CERT_FILE"], inner["SSL_CERT_FILE"]);
    assert_eq!(fs::read_dir(Path::new(&inner["SSL_CERT_FILE"]).parent().unwrap()).unwrap().count(), 2, "one for all, one for Java");
    assert_eq!(outer["JAVA_TOOL_OPTIONS"], inner["JAVA_TOOL_OPTIONS"]);
}

#[tokio::test]
async fn without_gnomon_the_program_is_not_started_and_the_next_step_is_told() {
    let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = stranger.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = stranger.accept().await {
            use tokio::io::AsyncWriteExt as _;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let bench = Bench::alone();
    let state = bench.dir.path().display().to_string();
    for (proxy, cause) in [(at.as_str(), "is not gnomon"), ("127.0.0.1:1", "no proxy answers")] {
        let mut command = Command::new(GNOMON);
        command.arg("exec").args(&bench.flags).args(["--proxy-env", "--state-dir", &state, "--proxy", proxy, "--", "echo", "started"]);
        let output = output_of(command).await;
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(125), ""), "{said}");
        assert!(said.contains("next: "), "{said}");
        // Without privileges it may already fail at the socket; that cause is reported first.
        assert!(said.contains(cause) || said.contains("no running gnomon"), "{said}");
    }
}

#[tokio::test]
async fn a_program_that_joined_is_given_the_bundle_and_no_proxy() {
    let certificates = crate::support::authority::Authority::new("gnomon's, say");
    let path = certificates.pem_file().display().to_string();
    let (bench, asked) = Bench::joined(joined(Bundle::At(Long::cut(&path))));
    let output = bench.run(&["env"]).await;
    let found = environment(&output);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(CA_VARIABLES.iter().all(|variable| found[variable.name] == path), "{found:#?}");
    assert!(!found.contains_key("HTTPS_PROXY"));
    let ToGnomon::Join { argv0, redirect, .. } = asked.join().unwrap();
    assert_eq!((argv0.as_str(), redirect), ("env", Redirect::On));
}

#[tokio::test]
async fn a_program_that_is_only_tagged_is_given_nothing() {
    let (mut bench, asked) = Bench::joined(joined(Bundle::None));
    bench.flags.push("--no-redirect".to_owned());
    let found = environment(&bench.run(&["env"]).await);
    assert!(CA_VARIABLES.iter().all(|variable| !found.contains_key(variable.name)), "{found:#?}");
    let ToGnomon::Join { redirect, .. } = asked.join().unwrap();
    assert_eq!(redirect, Redirect::Off);
}

#[tokio::test]
async fn a_refusal_is_shown_with_its_next_step_and_ends_in_125() {
    let denied = ToExec::Denied { version: VERSION, why: Denial::Full, detail: Text::cut("no place"), next: Text::cut("wait a while") };
    let (bench, asked) = Bench::joined(denied);
    let output = bench.run(&["echo", "started"]).await;
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(125), ""));
    assert!(said.contains("no place") && said.contains("next: wait a while"), "{said}");
    asked.join().unwrap();
}

#[tokio::test]
async fn under_sudo_the_program_runs_as_the_person() {
    if !is_root() {
        return skip("under_sudo_the_program_runs_as_the_person", "needs root");
    }
    let (bench, asked) = Bench::joined(joined(Bundle::None));
    fs::set_permissions(bench.dir.path(), Permissions::from_mode(0o755)).unwrap();
    let mut command = bench.command(&["sh", "-c", "id -u; id -ru; id -G; echo $HOME $USER $LOGNAME"]);
    command.env("SUDO_UID", "65534").current_dir("/");
    let output = output_of(command).await;
    assert_eq!(text(&output.stdout), "65534\n65534\n65534\n/nonexistent nobody nobody", "{output:?}");
    asked.join().unwrap();
}
