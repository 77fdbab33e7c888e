//! What the package promises, tested on a running Debian system: it observes within a minute, each half restarts without the other, an
//! upgrade keeps the ledger, and purge leaves the host as it was.
//!
//! It cannot test the names of programs: the kernel half uses process ids of the first process namespace, and this system has a namespace
//! of its own, so its events say that the process is not known. `tests/e2e` tests names.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::guest::Guest;
use super::journal;
use super::pages;
use super::root::Root;
use super::snapshot::Snapshot;

/// The programs that must be installed, with their Debian packages.
const NEEDED: [(&str, &str); 4] =
    [("mmdebstrap", "mmdebstrap"), ("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux"), ("unshare", "util-linux")];

/// A TLS server that is an MCP server by its name only, and a shell function that calls it.
const SERVER: &str = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=mcp.shadow.example \
                      -addext subjectAltName=DNS:mcp.shadow.example -keyout /root/server.key -out /root/server.pem 2>/dev/null\n\
                      systemd-run --quiet --unit=shadow-server openssl s_server -quiet -www -accept 127.0.0.1:4433 \
                      -cert /root/server.pem -key /root/server.key";
const CALL: &str =
    "curl -sS --cacert /root/server.pem --resolve mcp.shadow.example:4433:127.0.0.1 -o /dev/null https://mcp.shadow.example:4433/mcp";

const EVENTS: &str = "gnomon events --json --limit 1000 --state-dir /var/lib/gnomon";

/// A rule that ships (`shadow_mcp_host`), and a detection of gnomon's own (an approval that expired).
const OF_RUNBOOK: [&str; 2] = ["0aaf7526-3a8f-45e6-abdd-28ee5d0a7d4a", "2a6f5d0e-6f0b-4b0d-9b6e-3d5c1c1f7a41"];

/// A server on standard input and output, and a portal that offers it. `systemd-nspawn` denies Landlock, so the confinement of the server
/// is not tested here but in `tests/e2e/confined.rs`.
const SHELL_SERVER: &str = include_str!("server.sh");
const SHELL_PORTAL: &str = "servers: [{id: shell, command: [/bin/sh, /usr/local/lib/server.sh], confine: best_effort}]
portals: [{id: main, listen: '127.0.0.1:8090', servers: [shell], policy: [{allow: {servers: [shell]}}]}]
";

/// Tests everything on one release.
///
/// # Errors
/// The promise that was not kept.
pub fn run(home: &Path, suite: &str, deb: &Path, next: &Path) -> Result<()> {
    if let Some(why) = cannot() {
        return skip(&format!("package-{suite}"), &why);
    }
    let root = Root::unpack(home, suite)?;
    let guest = Guest::boot(root.path(), home)?;
    let told = |what: &str| println!("{suite}: {what}");
    guest.sh(SERVER)?;
    guest.until(CALL)?;
    let before = Snapshot::take(&guest)?;

    let began = Instant::now();
    guest.sh(&install(deb)?)?;
    told(&format!("installed, in {:.1} s", began.elapsed().as_secs_f64()));
    observes(&guest, "first").context("after the installation")?;
    told(&format!("observes: the first event is seen {:.1} s after `apt-get install` began", began.elapsed().as_secs_f64()));
    has_the_runbook_that_alerts_link_to(&guest)?;
    told("the runbook is there");
    has_no_privilege(&guest)?;
    either_restarts_alone(&guest)?;
    told("either half restarts alone");
    lets_people_run_programs_through_the_proxy(&guest)?;
    told("gnomon exec joins it");
    reads_the_units_that_the_configuration_names(&guest)?;
    told("a unit in a scope is read");
    runs_a_server_of_its_portal(&guest)?;
    told("a program is run as a server, confined");
    journal::tells_why_events_do_not_leave(&guest, |path| observes(&guest, path)).context("the journal")?;
    told("the journal tells why events do not leave");

    guest.sh("gnomon ca install --state-dir /var/lib/gnomon && echo '# kept' >> /etc/gnomon/gnomon.yml")?;
    let kept = count(&guest)?;
    guest.sh(&install(next)?)?;
    observes(&guest, "upgraded").context("after the upgrade")?;
    ensure!(count(&guest)? > kept, "the upgrade lost events");
    guest.sh("grep -q '# kept' /etc/gnomon/gnomon.yml").context("the upgrade replaced a configuration that was changed")?;
    told("upgraded, with its ledger");

    guest.sh("apt-get purge -y gnomon")?;
    guest.until("! systemctl is-active --quiet gnomon-sensor.service gnomon.service && ! ls -d /sys/fs/cgroup/gnomon.slice 2>/dev/null")?;
    Snapshot::take(&guest)?.must_be(&before).context("after purge")?;
    told("purged without a trace");
    Ok(())
}

fn install(deb: &Path) -> Result<String> {
    let name = deb.file_name().context("a package without a name")?.to_string_lossy();
    Ok(format!("apt-get install -y /packages/{name}"))
}

/// One more call is recorded as an event.
fn observes(guest: &Guest, path: &str) -> Result<()> {
    guest.until("systemctl is-active --quiet gnomon.service gnomon-sensor.service")?;
    let before = count(guest)?;
    guest
        .until(&format!("{CALL}/{path}\n[ \"$({EVENTS} | grep -cF mcp.shadow.example)\" -gt {before} ]"))
        .context("a TLS connection is not recorded as an event")?;
    Ok(())
}

fn count(guest: &Guest) -> Result<usize> {
    let said = guest.sh(&format!("{EVENTS} | grep -cF mcp.shadow.example || true"))?;
    said.trim().parse().with_context(|| format!("`{said}` is not a number"))
}

/// The page, with a chapter for rules that ship and for what gnomon finds by itself.
fn has_the_runbook_that_alerts_link_to(guest: &Guest) -> Result<()> {
    let page = format!("/{}/reference/runbook.html", pages::FOLDER);
    for id in OF_RUNBOOK {
        guest.sh(&format!("grep -qF 'id=\"{id}\"' {page}")).with_context(|| format!("{page} has no chapter for {id}"))?;
    }
    Ok(())
}

fn has_no_privilege(guest: &Guest) -> Result<()> {
    let status = guest.sh("cat /proc/$(systemctl show -P MainPID gnomon.service)/status")?;
    let has = |line: &str| status.lines().any(|found| found.split_whitespace().collect::<Vec<_>>().join(" ") == line);
    for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
        ensure!(has(&format!("{set}: 0000000000000000")), "the serving half has capabilities:\n{status}");
    }
    ensure!(has("NoNewPrivs: 1") && !status.contains("Uid:\t0"), "the serving half can gain rights:\n{status}");
    guest.sh("[ \"$(stat -c %a:%U /var/lib/gnomon/ca.key)\" = 600:gnomon ] && [ \"$(stat -c %U:%a /run/gnomon)\" = root:755 ]")?;
    Ok(())
}

fn either_restarts_alone(guest: &Guest) -> Result<()> {
    for (killed, other) in [("gnomon.service", "gnomon-sensor.service"), ("gnomon-sensor.service", "gnomon.service")] {
        let pid = |unit: &str| guest.sh(&format!("systemctl show -P MainPID {unit}"));
        let (one, untouched) = (pid(killed)?, pid(other)?);
        guest.sh(&format!("systemctl kill -s SIGKILL {killed}"))?;
        guest.until(&format!("p=$(systemctl show -P MainPID {killed}); [ \"$p\" != 0 ] && [ \"$p\" != {} ]", one.trim()))?;
        observes(guest, "again").with_context(|| format!("after the end of {killed}"))?;
        ensure!(pid(other)? == untouched, "{other} was restarted because {killed} ended");
    }
    Ok(())
}

/// The kernel redirects an ordinary user's program to the proxy: its call is read, and the event names the program. The server reads the
/// call and never answers it.
fn lets_people_run_programs_through_the_proxy(guest: &Guest) -> Result<()> {
    guest.sh("cp /root/server.pem /etc/gnomon/server.pem && printf '  upstream_ca: [server.pem]\\n' >> /etc/gnomon/gnomon.yml && \
         systemctl restart gnomon.service")?;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let call = format!(
        "setpriv --reuid=nobody --regid=nogroup --clear-groups gnomon exec -- curl -sS --resolve mcp.shadow.example:4433:127.0.0.1 \
         --max-time 3 -o /dev/null -H 'content-type: application/json' -d '{body}' https://mcp.shadow.example:4433/exec || [ $? = 28 ]"
    );
    guest.until(&call)?;
    guest.until(&format!(
        "{EVENTS} | grep -F tools/list | grep -F '\"gnomon.confidence\":\"confirmed\"' | grep -qF '\"gnomon.correlation\":\"owner\"'"
    ))?;
    guest.sh("rm /etc/gnomon/server.pem && sed -i /upstream_ca/d /etc/gnomon/gnomon.yml && systemctl restart gnomon.service")?;
    Ok(())
}

/// A service that knows nothing of gnomon, in a scope of the configuration: its calls are read, and those of other units are not.
fn reads_the_units_that_the_configuration_names(guest: &Guest) -> Result<()> {
    guest.sh(
        "cp /root/server.pem /etc/gnomon/server.pem && cat >> /etc/gnomon/gnomon.yml <<'END'\n  upstream_ca: [server.pem]\n\
         sensor: {scopes: [{name: agents, match: {unit: agent.service}, mode: intercept, ports: [4433]}]}\nEND\n\
         cat /root/server.pem /var/lib/gnomon/ca.pem > /root/both.pem\n\
         cat > /root/agent <<'END'\nwhile sleep 0.2; do curl -sS --max-time 3 --cacert /root/both.pem --resolve mcp.shadow.example:4433:127.0.0.1 -o /dev/null \
         -H 'content-type: application/json' -d '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/list\"}' \
         https://mcp.shadow.example:4433/unit; done\nEND\n\
         systemctl restart gnomon.service && systemd-run --quiet --unit=agent.service sh /root/agent",
    )?;
    guest
        .until(&format!("{EVENTS} | grep -F resources/list | grep -F '\"gnomon.confidence\":\"confirmed\"' | grep -qF '\"gnomon.correlation\":\"owner\"'"))
        .context("what a unit in a scope says is not read")?;
    guest.sh("setpriv --reuid=nobody --regid=nogroup --clear-groups gnomon status | grep -qF 'agents (unit agent.service): intercept'")?;
    guest.sh("gnomon rules check /usr/share/gnomon/rules/shadow-mcp | grep -q 'all as expected'")?;
    guest.sh("gnomon doctor | grep -qF 'agents (unit agent.service), intercept: one cgroup matches'")?;
    guest.sh(
        "systemctl stop agent.service && rm /etc/gnomon/server.pem && sed -i -e /upstream_ca/d -e /^sensor:/d /etc/gnomon/gnomon.yml && \
         systemctl restart gnomon.service",
    )?;
    Ok(())
}

/// A server on standard input and output: the confinement of gnomon's own unit must allow starting and confining it.
fn runs_a_server_of_its_portal(guest: &Guest) -> Result<()> {
    guest.sh(&format!(
        "cat > /usr/local/lib/server.sh <<'END'\n{SHELL_SERVER}END\n\
         cat >> /etc/gnomon/gnomon.yml <<'END'\n{SHELL_PORTAL}END\n\
         systemctl restart gnomon.service"
    ))?;
    let meta = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"shell_say","arguments":{{}},"_meta":{meta}}}}}"#);
    guest
        .until(&format!(
            "curl -sS --max-time 5 -H 'content-type: application/json' -H 'accept: application/json, text/event-stream' \
             -H 'mcp-protocol-version: 2026-07-28' -H 'mcp-method: tools/call' -H 'mcp-name: shell_say' -d '{body}' \
             http://127.0.0.1:8090/mcp | grep -qF 'said from a shell'"
        ))
        .context("a program that is a server does not answer")?;
    // The unit allows ten starts in ten minutes, and this test needs more.
    guest.sh("sed -i -e /^servers:/d -e /^portals:/d /etc/gnomon/gnomon.yml && rm /usr/local/lib/server.sh && \
         systemctl reset-failed gnomon.service && systemctl restart gnomon.service")?;
    Ok(())
}

/// Why the test cannot run on this machine.
fn cannot() -> Option<String> {
    if std::fs::read_to_string("/proc/self/status").is_ok_and(|status| !status.contains("\nUid:\t0\t0")) {
        return Some("needs root".to_owned());
    }
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    NEEDED.iter().find(|(program, _)| !there(program)).map(|(program, package)| format!("needs {program}: apt-get install {package}"))
}

fn skip(name: &str, why: &str) -> Result<()> {
    let line = format!("SKIPPED {name}: {why}");
    println!("{line}");
    if let Some(file) = std::env::var_os("GNOMON_SKIPS") {
        writeln!(OpenOptions::new().append(true).create(true).open(file)?, "{line}")?;
    }
    Ok(())
}
