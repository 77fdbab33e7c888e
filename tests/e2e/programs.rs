//! Programs that people use, each run directly, only tagged, and redirected: a scenario in `programs/` uses them as a person would and
//! checks the results, which must be the same each time. The servers are real and on loopback; a missing program is a skip.

use crate::{
    exec::GNOMON,
    joined::trusting,
    sensor_stage::{Host, needs, skip},
    support::authority::Authority,
};
use gnomon_testkit::has;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

/// The time limit of one run of a scenario, in seconds. Some of them create a database.
const PATIENCE: &str = "180";
/// The exit code of a scenario whose program is missing.
const MISSING: i32 = 77;

/// How the programs of a scenario are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    TaggedOnly,
    Redirected,
}

/// Whether a scenario's programs make connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    Used,
    Unused,
}

impl Way {
    /// The command that is put in front of a program.
    fn words(self, host: &Host) -> String {
        let socket = host.exec_socket();
        let exec = |flags: &str| format!("{GNOMON} exec --exec-socket {} {flags} --", socket.display());
        match self {
            Self::Direct => String::new(),
            Self::TaggedOnly => exec("--no-redirect"),
            Self::Redirected => exec(""),
        }
    }
}

/// Runs a scenario each way, and checks whether its connections went through the proxy.
async fn scenario(test: &str, name: &str, network: Network) {
    if !needs(test) {
        return;
    }
    let authority = Authority::new("the servers' authority");
    // A rule like the README's, which names a method and no host; it must match nothing here.
    let rules = tempfile::tempdir().unwrap();
    fs::set_permissions(rules.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(rules.path().join("calls.yml"), crate::support::rules::block(1, "mcp.method.name: tools/call").text).unwrap();
    let host = trusting(authority.pem_file(), &["--rules", rules.path().to_str().unwrap()]);
    let mut ways = vec![Way::Redirected, Way::TaggedOnly, Way::Direct];
    let mut strays = 0;
    while let Some(way) = ways.pop() {
        let before = flows(&host);
        let (output, trace) = run(&host, &authority, way, name);
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.code() == Some(MISSING) {
            let why = said.lines().last().unwrap_or("a program is missing");
            // The programs that the scenario did not find.
            let programs: Vec<&str> = why.strip_prefix("no ").into_iter().flat_map(|missing| missing.split(' ')).collect();
            if has(test, &programs) {
                skip(test, why);
            }
            return;
        }
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}, {way:?}: {}\n{trace}{said}{complaints}\n{}", output.status, host.log());
        let (through, expected) = (flows(&host) > before, way == Way::Redirected && network == Network::Used);
        // What another test left behind may knock once at a port that it had before.
        if through && !expected && strays == 0 {
            strays += 1;
            ways.push(way);
            continue;
        }
        assert_eq!(through, expected, "{name}, {way:?}: through the proxy?");
    }
}

/// Runs a scenario once. Returns its output and the trace that it wrote.
fn run(host: &Host, authority: &Authority, way: Way, name: &str) -> (Output, String) {
    let work = tempfile::tempdir().unwrap();
    fs::set_permissions(work.path(), Permissions::from_mode(0o755)).unwrap();
    let (certificate, key) = authority.issue("localhost");
    fs::write(work.path().join("cert.pem"), certificate).unwrap();
    fs::write(work.path().join("key.pem"), key).unwrap();
    let (certificate, key) = authority.issue("127.0.0.1");
    fs::write(work.path().join("address.pem"), certificate).unwrap();
    fs::write(work.path().join("address-key.pem"), key).unwrap();
    fs::copy(Authority::new("an authority of nobody's").pem_file(), work.path().join("stranger.pem")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs").join(name);
    let mut command = Command::new("sh");
    command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(&host.cgroup);
    command.args(["timeout", "-k", "5", PATIENCE, "bash"]).arg(script.with_extension("sh"));
    command.env("UNDER", way.words(host)).env("WORK", work.path()).env("CA", authority.pem_file());
    for variable in ["FREE_PORT", "ANOTHER_PORT"] {
        command.env(variable, gnomon_testkit::free_port().port().to_string());
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output, fs::read_to_string(work.path().join("trace")).unwrap_or_default())
}

/// The count of connections to the proxy, with any outcome.
fn flows(host: &Host) -> u64 {
    let metrics = host.scrape();
    let counts = metrics.lines().filter_map(|line| line.strip_prefix("gnomon_flows_total{")?.split_once("} ")?.1.parse::<u64>().ok());
    counts.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_python_and_node_fetch() {
    scenario("curl_python_and_node_fetch", "web", Network::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn git_pushes_and_clones_over_https_and_ssh() {
    scenario("git_pushes_and_clones_over_https_and_ssh", "git", Network::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_and_npm_fetch_and_install() {
    scenario("pip_and_npm_fetch_and_install", "packages", Network::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_scp_and_sftp_work_with_and_without_a_terminal() {
    scenario("ssh_scp_and_sftp_work_with_and_without_a_terminal", "ssh", Network::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_and_job_control_work_at_a_terminal() {
    scenario("an_editor_and_job_control_work_at_a_terminal", "terminal", Network::Unused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_signals_and_what_is_left_behind_are_the_programs_own() {
    scenario("exit_codes_signals_and_what_is_left_behind_are_the_programs_own", "processes", Network::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_spoken_with_and_without_tls() {
    scenario("postgresql_is_spoken_with_and_without_tls", "postgres", Network::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysqls_protocol_is_spoken_with_and_without_tls() {
    scenario("mysqls_protocol_is_spoken_with_and_without_tls", "mysql", Network::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_spoken_with_and_without_tls() {
    scenario("redis_is_spoken_with_and_without_tls", "redis", Network::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_is_spoken_with_and_without_tls_and_with_a_protocol_of_its_own_asked_for() {
    scenario("mqtt_is_spoken_with_and_without_tls_and_with_a_protocol_of_its_own_asked_for", "mqtt", Network::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ldap_is_spoken_with_and_without_tls_and_with_tls_begun_inside_of_it() {
    scenario("ldap_is_spoken_with_and_without_tls_and_with_tls_begun_inside_of_it", "ldap", Network::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_server_acts_on_what_its_clients_say_and_answers_them() {
    scenario("a_websocket_server_acts_on_what_its_clients_say_and_answers_them", "websocket", Network::Used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_is_seen_to_refuse() {
    scenario("a_server_that_refuses_is_seen_to_refuse", "refused", Network::Unused).await;
}
