//! curl, redirected: what it does and how it exits is what it would without us.

use super::*;
use gnomon_testkit::has;
use std::{path::Path, process::Output};
use tokio::process::Command;

/// Runs curl on [`HOST`] at this address, trusting the authority in this file.
async fn curl(authority: &Path, at: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--cacert"]).arg(authority);
    command.args(["--resolve", &format!("{HOST}:{}:127.0.0.1", at.port())]).args(arguments);
    command.arg(format!("https://{HOST}:{}/upload", at.port()));
    soon("curl to end", command.kill_on_drop(true).output()).await.unwrap()
}

/// What curl says with these arguments at the server itself, and on the way through gnomon.
async fn both_ways(upstream: &Upstream, setup: Setup, arguments: &[&str]) -> (Output, Output) {
    let (gnomon, kernel) = gnomon(setup, upstream).await;
    let direct = curl(upstream.authority.pem_file(), upstream.address, arguments).await;
    let road = kernel.road(&gnomon, upstream.address);
    (direct, curl(&gnomon.state_dir().join("ca.pem"), road, arguments).await)
}

const SUMMARY: [&str; 4] = ["-o", "/dev/null", "-w", "%{http_code} %{size_upload}"];

#[tokio::test]
async fn an_upload_that_expects_100_continue_goes_as_its_server_says() {
    let name = "an_upload_that_expects_100_continue_goes_as_its_server_says";
    if !has(name, &["curl"]) {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 2 << 20]).unwrap();
    let data = format!("@{}", file.path().display());
    for version in ["--http1.1", "--http2"] {
        for (status, sent) in [(413, 0), (200, 2 << 20)] {
            let upstream = Upstream::answering(BOTH, move |received| {
                if status == 413 { Some(Answer::status(413)) } else { received.end.map(|_| Answer::status(200)) }
            })
            .await;
            let arguments = [&SUMMARY[..], &[version, "-H", "Expect: 100-continue", "--data-binary", &data]].concat();
            let (direct, redirected) = both_ways(&upstream, Gnomon::with(), &arguments).await;
            let said = String::from_utf8_lossy(&redirected.stdout).into_owned();
            assert_eq!(said, format!("{status} {sent}"), "{version}: {redirected:?}");
            assert_eq!((direct.status.code(), direct.stdout), (redirected.status.code(), redirected.stdout), "{version}");
            upstream.requests(|all| {
                assert_eq!(all.len(), 2, "{version}");
                assert!(all.iter().all(|request| request.headers["expect"] == "100-continue" && request.raw.len() == sent), "{version}");
            });
        }
    }
}

#[tokio::test]
async fn a_rule_that_has_to_see_an_upload_asks_for_it_itself() {
    let name = "a_rule_that_has_to_see_an_upload_asks_for_it_itself";
    if !has(name, &["curl"]) {
        return;
    }
    for (tool, passes) in [("blocked_tool", false), ("any_tool", true)] {
        let upstream = Upstream::start(H1).await;
        let message = call(1, tool).to_string();
        let arguments = ["-H", "Expect: 100-continue", "-H", "content-type: application/json", "--data-binary", &message];
        let setup = Gnomon::with().rules([block(1, "gen_ai.tool.name: blocked_tool")]);
        let (_, redirected) = both_ways(&upstream, setup, &arguments).await;
        let said = String::from_utf8_lossy(&redirected.stdout).into_owned();
        assert_eq!(said.contains("done by the upstream"), passes, "{redirected:?}");
        assert_eq!(upstream.paths().len(), 1 + usize::from(passes));
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_to_be_trusted_is_a_failure_and_no_page() {
    let name = "a_certificate_that_is_not_to_be_trusted_is_a_failure_and_no_page";
    if !has(name, &["curl"]) {
        return;
    }
    let (trusted, upstream) = (Upstream::start(BOTH).await, Upstream::start(BOTH).await);
    for version in ["--http1.1", "--http2", "--no-alpn"] {
        let (gnomon, kernel) = gnomon(Gnomon::with(), &trusted).await;
        let direct = curl(trusted.authority.pem_file(), upstream.address, &[version]).await;
        let redirected = curl(&gnomon.state_dir().join("ca.pem"), kernel.road(&gnomon, upstream.address), &[version]).await;
        // 60: the certificate is not good; 35: the handshake failed, which OpenSSL also makes of a signature by another authority of that name.
        assert!(matches!(direct.status.code(), Some(35 | 60)), "{version}: {direct:?}");
        assert_eq!(redirected.status.code(), Some(35), "{version}: {redirected:?}");
        assert!(direct.stdout.is_empty() && redirected.stdout.is_empty(), "{version}: {redirected:?}");
        assert!(upstream.paths().is_empty());
    }
}
