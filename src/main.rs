//! The one command that people run: which AI agents talk to which MCP servers, and what they may do.
//!
//! Wiring only: each file of `commands` declares the arguments of one subcommand and turns them into
//! options of a library. What is done is done in the libraries.

mod commands;

use clap::{Parser, Subcommand};
use gnomon_cli::{Complaint, Fault};
use gnomon_config::ConfigError;
use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

/// A connection's tasks run on whichever thread is free, so memory is often freed on another than it was made on. This
/// allocator hands it back without a lock; the C library's cost a request a quarter more CPU when they were compared
/// (`cargo xtask bench intercept`, when events were still freed on the ledger's thread).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "gnomon",
    version,
    about = "See which AI agents talk to which MCP servers, decide what they may do, and bring them to the sanctioned ones",
    after_help = "Exit codes: 0 done, 1 gnomon or the system failed, 2 called wrongly, 3 bad input (configuration, rules, recording);\n\
                  gnomon exec: the program's own, or 125 gnomon failed, 126 not executable, 127 not found.\n\
                  The log goes to standard error; RUST_LOG sets how much of it (warn, info, debug)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watch this host, with one line for each detection; as root with the sensor in the kernel
    Run(commands::run::Run),
    /// Run one program with its connections read and judged
    Exec(commands::exec::Exec),
    /// See what gnomon does, on a server and an agent of its own; nothing of this host or the network is touched
    Demo(commands::demo::Demo),
    /// Run the inline proxy alone
    Proxy(commands::proxy::Proxy),
    /// Serve the sanctioned portal alone: one URL for all MCP servers that a caller may use
    Portal(commands::portal::Portal),
    /// Check this host: what gnomon can see and do here, and how to fix what it cannot
    Doctor(commands::doctor::Doctor),
    /// Show what is watched on this machine, and the contact for questions
    Status(commands::status::Status),
    /// Stop all interference at once: nothing is redirected, and no rule refuses (needs root)
    Disarm(commands::disarm::Disarm),
    /// End `gnomon disarm`: rules and scopes are in force again (needs root)
    Arm(commands::disarm::Arm),
    /// Show what happened
    Events(gnomon_analyst::Events),
    /// Show the MCP servers that were seen
    Inventory(gnomon_analyst::Inventory),
    /// Show the MCP servers that clients on this host are set up with, before any of them runs
    #[command(subcommand)]
    Local(gnomon_analyst::Local),
    /// Decide about MCP servers: look into them, approve, deny
    #[command(subcommand)]
    Review(gnomon_analyst::Review),
    /// One week on one page: sanctioned and shadow use, new servers, open decisions
    Report(gnomon_analyst::Report),
    /// Judge recordings (HAR 1.2, or gnomon's own events) as if they were live
    Replay(commands::replay::Replay),
    /// Show, install and remove the certificate authority
    #[command(subcommand)]
    Ca(commands::ca::Ca),
    /// Check, show, explain and draft rules
    #[command(subcommand)]
    Rules(gnomon_analyst::Rules),
    /// Classify a detection as benign or confirmed; a benign one becomes an exception
    Triage(gnomon_analyst::Triage),
    /// Show what was done through the portals, and verify that the record was not altered
    #[command(subcommand)]
    Audit(commands::audit::Audit),
    /// Show the scripts that were run in Code Mode
    #[command(subcommand, name = "codemode")]
    CodeMode(commands::codemode::CodeMode),
    /// Explain how a portal's policy decides about a call
    #[command(subcommand)]
    Policy(commands::policy::Policy),
    /// Register what portals offer
    #[command(subcommand)]
    Server(gnomon_enrol::Server),
    /// Create service tokens for agents
    #[command(subcommand)]
    Token(commands::token::Token),
    /// Check and show the configuration
    #[command(subcommand)]
    Config(commands::config::Config),
    /// The privileged part of `gnomon run`
    #[command(hide = true)]
    Sensor(commands::sensor::Sensor),
    /// Keeps one server of the portal
    #[command(hide = true)]
    Confine(commands::confine::Confine),
    /// Sees to the gnomon of one program
    #[command(hide = true)]
    ExecHost(commands::exec_host::ExecHost),
    /// What executions of Code Mode are forked from
    #[command(hide = true)]
    SandboxZygote(commands::sandbox_zygote::SandboxZygote),
    /// Write the reference pages
    #[command(subcommand, hide = true)]
    Reference(commands::reference::Reference),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    gnomon_config::remedies_from(gnomon_supervise::denied::command_for);
    log_to_stderr();
    let done = match cli.command {
        Command::Run(run) => run.run(),
        Command::Exec(exec) => exec.run(),
        Command::ExecHost(host) => host.run(),
        Command::Confine(confine) => confine.run(),
        Command::Demo(demo) => demo.run(),
        Command::Proxy(proxy) => proxy.run(),
        Command::Portal(portal) => portal.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Status(status) => status.run(),
        Command::Disarm(disarm) => disarm.run(),
        Command::Arm(arm) => arm.run(),
        Command::Events(events) => events.run(),
        Command::Inventory(inventory) => inventory.run(),
        Command::Local(local) => local.run(),
        Command::Review(review) => review.run(),
        Command::Report(report) => report.run(),
        Command::Replay(replay) => replay.run(),
        Command::Ca(ca) => ca.run(),
        Command::Rules(rules) => rules.run(),
        Command::Triage(triage) => triage.run(),
        Command::Audit(audit) => audit.run(),
        Command::CodeMode(codemode) => codemode.run(),
        Command::Policy(policy) => policy.run(),
        Command::Config(config) => config.run(),
        Command::Server(server) => server.run(),
        Command::Token(token) => token.run(),
        Command::Sensor(sensor) => sensor.run(),
        Command::SandboxZygote(zygote) => return zygote.run(),
        Command::Reference(reference) => reference.run(),
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => tell(&error),
    };
    gnomon_log::flush();
    code
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(gnomon_log::LogWriter::default).with_target(false);
    // A log file holds no codes of a terminal.
    let log = log.with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()));
    // Only a second subscriber could make this fail.
    let _ = log.try_init();
}

/// Whoever reads our output has seen enough (`gnomon events | head`).
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Prints an error: its cause, and the next step, one line each.
fn tell(error: &anyhow::Error) -> ExitCode {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let _ = if depth == 0 { writeln!(text, "gnomon: {cause}") } else { writeln!(text, "  because: {cause}") };
    }
    let complaint = error.downcast_ref::<Complaint>().map(|complaint| (complaint.fault, &complaint.next));
    // What is wrong with a configuration is as good as a complaint, whichever command read it.
    let complaint = complaint.or_else(|| error.downcast_ref::<ConfigError>().map(|wrong| (Fault::Input, &wrong.next)));
    if let Some((_, Some(next))) = complaint {
        let _ = writeln!(text, "  next: {next}");
    }
    gnomon_log::write(&text);
    complaint.map_or(Fault::Own, |(fault, _)| fault).into()
}
