//! `gnomon doctor`: what gnomon can see and do on this host, and what to do about the rest.

mod serving;
mod state;

use crate::commands::run::EXEC_SOCKET;
use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    Complaint,
    line::one_line,
    options::{ConfigFlag, Format, FormatFlag, StateFlag},
    runtime,
};
use gnomon_config::{Config, Jsonl, Switch, scopes::Scope};
use gnomon_exec::SOCKET_VARIABLE;
use gnomon_host::{
    cgroup::Hierarchy,
    doctor::{Attached, Check, CheckStatus, Feature, Options, Port, Room, examine, worst},
};
use gnomon_ledger::journal_in;
use gnomon_sensor::{Features, Status};
use gnomon_supervise::SensorCoverage;
use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

#[derive(Args)]
pub struct Doctor {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    format: FormatFlag,
    /// Which connections the kernel half sees, as gnomon is started with: `host` (all), `off`, or those below the cgroup with this folder [default: host]
    #[arg(long, env = "GNOMON_SENSOR", hide_env_values = true, value_name = "WHERE", value_parser = str::parse::<SensorCoverage>)]
    sensor: Option<SensorCoverage>,
    /// The socket of the running gnomon; its state is published beside it
    #[arg(long, env = SOCKET_VARIABLE, hide_env_values = true, value_name = "PATH", default_value = EXEC_SOCKET)]
    exec_socket: PathBuf,
}

impl Doctor {
    pub fn run(self) -> Result<()> {
        let mut config = self.config.load()?;
        let mut options = Options { ports: vec![Port { name: "proxy", address: config.proxy.listen }], ..Options::default() };
        if let Switch::On(address) = config.metrics.listen {
            options.ports.push(Port { name: "metrics", address });
        }
        // Without a place for the state there is no authority either.
        let dir = self.state.dir().ok();
        options.serving = dir.as_deref().and_then(serving::process);
        options.rooms.extend(dir.iter().map(|dir| Room { name: "state", path: dir.clone() }));
        if let Jsonl::File(path) = &config.events.jsonl {
            options.rooms.push(Room { name: "events.jsonl", path: path.clone() });
        }
        options.authority = dir.as_ref().map(|dir| dir.join("ca.pem")).filter(|path| path.exists());
        let covered = self.sensor.unwrap_or_default();
        let covers = !matches!(covered, SensorCoverage::Off);
        let uncovered = covered.check().err();
        match (covered, Hierarchy::find()) {
            _ if uncovered.is_some() => {}
            (SensorCoverage::Below(folder), _) => ask_the_kernel(&mut options, &folder),
            (SensorCoverage::Host, Ok(hierarchy)) => ask_the_kernel(&mut options, hierarchy.mount()),
            (SensorCoverage::Off, _) | (_, Err(_)) => {}
        }
        let mut checks = examine(&options);
        checks.extend(uncovered.map(|why| {
            let next = why.next.unwrap_or_default();
            Check::new("sensor.folder", "the folder that the sensor looks below", CheckStatus::Fail, why.cause).next(next)
        }));
        checks.extend(config.sensor.scopes.iter().map(scope));
        checks.push(state::configuration(&mut config, dir.as_deref()));
        if let Some(dir) = dir {
            let sensors_folder = self.exec_socket.parent().unwrap_or(&self.exec_socket);
            checks.push(state::authority(&dir));
            checks.push(state::ledger(&dir));
            checks.extend(state::audit(&dir));
            checks.push(decisions(&config, &dir)?);
            checks.extend(serving::examine(&config, &dir, sensors_folder, covers));
        }
        let mut out = BufWriter::new(io::stdout().lock());
        match self.format.format() {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&checks)?)?,
            Format::Text => list(&mut out, &checks)?,
        }
        out.flush()?;
        if worst(&checks) == CheckStatus::Fail {
            return Err(Complaint::own("something on this host prevents gnomon from working as configured")
                .next("see the lines marked `fail` above; each names the fix")
                .into());
        }
        Ok(())
    }
}

/// Checks that decisions about servers can be read, and written where several gnomons share them.
fn decisions(config: &Config, dir: &Path) -> Result<Check> {
    let check = |state, seen, next| Check { id: "decisions".to_owned(), title: "decisions", state, seen, next };
    let journal = config.state.as_ref().map_or_else(|| journal_in(dir).display().to_string(), ToString::to_string);
    if fs::read_dir(dir).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        return Ok(check(CheckStatus::NotApplicable, format!("{} is not for this user to read", dir.display()), None));
    }
    let (decided, runtime) = (config.decided(dir), runtime()?);
    Ok(match runtime.block_on(decided.check()).map(|()| runtime.block_on(decided.check_keeping())) {
        Ok(Ok(())) if config.state.is_some() => check(CheckStatus::Ok, format!("{journal} can be read and written"), None),
        Ok(Ok(())) => check(CheckStatus::Ok, format!("{journal} can be read"), None),
        Ok(Err(error)) => {
            let next = "fix that; until then earlier decisions stay in force, and no new ones can be made";
            check(CheckStatus::Fail, format!("{journal} can be read and not written: {error}"), Some(next.to_owned()))
        }
        Err(error) => {
            let next = "fix that; until then what was read last stays in force, and new decisions have no effect on this host";
            check(CheckStatus::Fail, error.to_string(), Some(next.to_owned()))
        }
    })
}

/// The cgroups that a configured scope matches now.
fn scope(scope: &Scope) -> Check {
    let found = match scope.r#match.pattern() {
        None => Err("there is no such user".to_owned()),
        Some(pattern) => Hierarchy::find().and_then(|hierarchy| hierarchy.matching(&pattern)).map_err(|error| error.to_string()),
    };
    let (state, found, next) = match found {
        Ok(cgroups) if cgroups.is_empty() => {
            let next = "start the service, or find the name of its cgroup with systemd-cgls";
            (CheckStatus::Warn, "no cgroup matches now".to_owned(), Some(next.to_owned()))
        }
        Ok(cgroups) if cgroups.len() == 1 => (CheckStatus::Ok, "one cgroup matches".to_owned(), None),
        Ok(cgroups) => (CheckStatus::Ok, format!("{} cgroups match", cgroups.len()), None),
        Err(why) => (CheckStatus::Warn, why, None),
    };
    let seen = format!("{} ({}), {}: {found}", scope.name, scope.r#match, scope.mode.as_str());
    Check { id: format!("scope.{}", scope.name), title: "scope", state, seen, next }
}

/// Asks what only bpf(2) tells. Nothing stays loaded or attached.
fn ask_the_kernel(options: &mut Options, cgroup: &Path) {
    let attached = gnomon_sensor::attached(cgroup);
    options.bpf = Some(attached.as_ref().map(|_| ()).map_err(ToString::to_string));
    let ours = |program: gnomon_sensor::Attached| {
        let alone = program.beside == gnomon_sensor::Beside::Refused;
        Attached { hook: program.hook.to_owned(), name: program.name, id: program.id, alone, above: None }
    };
    let above = gnomon_sensor::overridden_by_ours(cgroup).unwrap_or_default().into_iter().map(|(hook, program)| Attached {
        hook: hook.to_owned(),
        name: "a program".to_owned(),
        id: program.id,
        alone: true,
        above: Some(program.at.display().to_string()),
    });
    let all = attached.map(|all| all.into_iter().map(ours).chain(above).collect());
    options.attached = Some(all.map_err(|error| error.to_string()));
    options.features = Features::probe(cgroup)
        .iter()
        .map(|(feature, status)| {
            let name = feature.name();
            let (state, reason) = match status {
                // Trying loads a program and does not attach it.
                Status::Ok if matches!(feature, gnomon_sensor::Feature::Program(_)) => (CheckStatus::Ok, format!("{name} can be loaded")),
                Status::Ok => (CheckStatus::Ok, format!("{name} works")),
                Status::Unsupported(why) => (CheckStatus::Warn, format!("{name} is not in this kernel: {why}")),
                Status::Broken(why) => (CheckStatus::Warn, format!("{name} does not work: {why}")),
                Status::NotApplicable => (CheckStatus::NotApplicable, format!("{name} was not tried")),
            };
            Feature { name: name.to_owned(), state, reason }
        })
        .collect();
}

fn list(out: &mut impl Write, checks: &[Check]) -> io::Result<()> {
    for check in checks {
        let word = match check.state {
            CheckStatus::Ok => "ok",
            CheckStatus::NotApplicable => "-",
            CheckStatus::Warn => "warn",
            CheckStatus::Fail => "fail",
        };
        writeln!(out, "{word:<5} {}: {}", check.title, one_line(&check.seen))?;
        if let Some(next) = &check.next {
            writeln!(out, "      next: {}", one_line(next))?;
        }
    }
    Ok(())
}
