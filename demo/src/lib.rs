//! `gnomon demo`: what gnomon does, shown on a server and an agent of its own, with nothing of the network or the host.
//!
//! Everything is done by the commands that people use, started from here, on files in a folder that is removed at the end: so
//! it shows the product and not a play of it. As root the kernel half takes part; otherwise the agent's environment names the proxy.
#![deny(missing_docs)]

mod act;
mod agent;
mod server;
mod week;

pub use agent::run as agent;

pub use act::Road;
use act::{Scene, Theatre, itself, said};
use anyhow::{Context as _, Result, ensure};
use server::{NAME, Server};
use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
};
pub use week::week;

/// The alert rules that ship; the demonstration quotes the one that would fire.
const ALERTS: &str = include_str!("../../deploy/prometheus/gnomon.rules.yml");
/// The name of that alert.
const ALERT: &str = "GnomonShadowMcpCall";
/// The id of the shipped rule that raises it here: a message to an unsanctioned server.
const RULE: &str = "a06d0be7-29e6-427c-8e90-673c481c5fac";

/// Whether the last gnomon stays until it is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// The gnomon ends, and its folder is removed.
    Remove,
    /// It serves until it is stopped.
    Stay,
}

/// Plays it.
///
/// # Errors
/// Something did not happen as it should.
pub fn run(road: Road, afterwards: Afterwards) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("gnomon-demo-").tempdir().context("making a folder")?;
    // The process that serves is another user where we are root.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let authority = folder.path().join("server");
    fs::create_dir(&authority)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let server = runtime.block_on(Server::start(&authority))?;
    let theatre = Theatre { folder: folder.path(), server: &server, road };

    tell(&format!(
        "An agent calls a tool of {NAME}, which nobody sanctioned. Server and agent are gnomon's own, on loopback.\n{}",
        match road {
            Road::Kernel => "As root: the kernel half redirects the agent's connections and says whose they are.",
            Road::Variables => "The agent is told of the proxy. As root the kernel half would redirect it, and say whose it is.",
        }
    ))?;

    heading("1. Observed: nothing is touched, and it is known")?;
    let seen = theatre.play("observed", None)?;
    show(&seen)?;
    ensure!(seen.calls == 1 && seen.id.is_some(), "the call should have reached the server and been detected");

    heading("2. Blocked, by a rule of forty lines (rules/packs/examples/example_block_tool_calls.yml)")?;
    let blocked = theatre.play("blocked", Some("example_block_tool_calls.yml"))?;
    show(&blocked)?;
    ensure!(blocked.calls == 0, "the call should not have reached the server");

    heading("3. Redirected: the agent is told where to go (rules/packs/examples/example_redirect_explain.yml)")?;
    let redirected = theatre.play("redirected", Some("example_redirect_explain.yml"))?;
    show(&redirected)?;
    ensure!(redirected.calls == 0, "the call should not have reached the server");

    heading("The alert that Prometheus raises on the first call (deploy/prometheus/gnomon.rules.yml)")?;
    tell(&indented(&alert(seen.id.as_deref().unwrap_or_default())?))?;
    heading("The story behind it: gnomon events show ID")?;
    if let Some(id) = &seen.id {
        // As for a user of the host's own folder: with a flag, each command that it proposes has that too.
        let words: [OsString; 3] = ["events".into(), "show".into(), id.into()];
        tell(&indented(&said(itself(words).env("GNOMON_STATE_DIR", &seen.state))?))?;
    }
    if afterwards == Afterwards::Stay {
        let gnomon = theatre.stay("observed")?;
        heading("It stays until you press Ctrl-C")?;
        tell(&format!(
            "metrics     http://{}/metrics\nproxy       {}\nevents      gnomon events --state-dir {}",
            gnomon.metrics,
            gnomon.proxy,
            gnomon.state.display()
        ))?;
        gnomon.wait()?;
    }
    Ok(())
}

fn show(scene: &Scene) -> Result<()> {
    tell("What the agent was told:")?;
    tell(&indented(&scene.agent))?;
    tell(&format!("The server's tool was called {}.", if scene.calls == 0 { "never".to_owned() } else { format!("{}×", scene.calls) }))?;
    tell("What gnomon recorded:")?;
    tell(&indented(&scene.events))
}

/// The alert of the rules file, with what Prometheus would put in for this host and incident, which goes by its detection as well.
fn alert(incident: &str) -> Result<String> {
    let file: serde_json::Value = serde_saphyr::from_str(ALERTS).context("the alert rules that ship")?;
    let groups = file["groups"].as_array().context("groups")?;
    let mut rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
    let alert = rules.find(|rule| rule["alert"] == ALERT).with_context(|| format!("there is no alert {ALERT}"))?;
    let note = |name: &str| alert["annotations"][name].as_str().unwrap_or_default();
    let summary = note("summary").replace("{{ $labels.instance }}", "this host");
    // What varies is at their ends.
    let [command, runbook] = ["command", "runbook_url"].map(|name| note(name).split("{{").next().unwrap_or_default());
    Ok(format!("{ALERT}: {summary}\ncommand: {command}{incident}\nrunbook_url: {runbook}{RULE}"))
}

fn heading(text: &str) -> Result<()> {
    tell(&format!("\n== {text}"))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n")
}

fn tell(text: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}
