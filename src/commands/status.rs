//! `gnomon status`: what is watched on this machine, for whoever works on it. Needs no privilege; it reads the system's
//! configuration and what the running sensor says of itself, and asks nobody.

use crate::commands::run::EXEC_SOCKET;
use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    Complaint,
    line::clean,
    options::{ConfigFlag, Format, FormatFlag, SwitchFlag},
};
use gnomon_config::Config;
use gnomon_exec::SOCKET_VARIABLE;
use gnomon_host::switch::Arming;
use gnomon_inspect::Enforcement;
use gnomon_sensord::status;
use serde_json::{Value, json};
use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    switch: SwitchFlag,
    /// The socket of the running gnomon; its state is published beside it
    #[arg(long, env = SOCKET_VARIABLE, hide_env_values = true, value_name = "PATH", default_value = EXEC_SOCKET)]
    exec_socket: PathBuf,
    #[command(flatten)]
    format: FormatFlag,
}

/// The records that are kept, and those that never are: the same on every machine, and tested elsewhere.
const KEPT: &str = "who called which MCP server and tool, when, from which program; which programs connect to known hosts";
const NEVER: &str = "bodies, arguments of tools and answers (unless a portal records them in its audit), passwords, tokens, cookies, queries of requests' URLs";

/// The position of the kill switch.
enum KillSwitch {
    Armed,
    Disarmed(String),
    Unknown(io::Error),
}

impl KillSwitch {
    /// The position that the sensor obeys, also where people may not look into the folder of the file.
    fn of(running: Option<&status::Status>, looked: io::Result<Arming>) -> Self {
        match (running, looked) {
            (Some(running), _) if running.armed => Self::Armed,
            (Some(running), _) => Self::Disarmed(running.reason.clone().unwrap_or_default()),
            (None, Ok(Arming::Armed)) => Self::Armed,
            (None, Ok(Arming::Disarmed(found))) => Self::Disarmed(found.reason),
            (None, Err(error)) => Self::Unknown(error),
        }
    }
}

/// All facts of the status.
struct Found {
    running: Option<status::Status>,
    switch: KillSwitch,
    config: Result<Config, Complaint>,
}

impl Status {
    pub fn run(self) -> Result<()> {
        let folder = self.exec_socket.parent().unwrap_or(&self.exec_socket);
        let running = status::Status::read(folder);
        let running = running.map_err(|error| Complaint::own(format!("what the sensor says cannot be read: {error}")))?;
        let switch = self.switch.switch();
        let switch = KillSwitch::of(running.as_ref(), switch.look());
        let config = self.config.of_the_system().map_or_else(|| Ok(Config::default()), |path| Ok(Config::load(&path)?));
        let found = Found { running, switch, config };
        let mut out = BufWriter::new(io::stdout().lock());
        match self.format.format() {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&found.json())?)?,
            Format::Text => found.write(&mut out)?,
        }
        Ok(out.flush()?)
    }
}

impl Found {
    fn json(&self) -> Value {
        let config = self.config.as_ref().ok();
        json!({
            "watched": self.running.is_some(),
            "sensor": self.running,
            "armed": match &self.switch {
                KillSwitch::Armed => Some(true),
                KillSwitch::Disarmed(_) => Some(false),
                KillSwitch::Unknown(_) => None,
            },
            "disarmed_reason": match &self.switch {
                KillSwitch::Disarmed(reason) => Some(reason),
                KillSwitch::Armed | KillSwitch::Unknown(_) => None,
            },
            "rules_mode": config.map(mode),
            "scopes": config.map(|config| config.to_json()["sensor"]["scopes"].clone()),
            "proxy": config.map(|config| config.proxy.listen.to_string()),
            "never_opened": config.map(|config| &config.proxy.bypass),
            "kept": KEPT,
            "kept_days": config.map(|config| config.events.retention.days),
            "never_kept": NEVER,
            "contact": config.and_then(|config| config.contact.as_ref()),
            "configuration_error": self.config.as_ref().err().map(ToString::to_string),
        })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.running {
            Some(running) => {
                writeln!(out, "gnomon {} watches this machine since {}", running.version, when(running.since))?;
                let whole = running.cgroup.components().count() <= 5 && !running.cgroup.to_string_lossy().contains("slice");
                let whose = if whole { "all programs".to_owned() } else { format!("programs in {}", running.cgroup.display()) };
                writeln!(out, "  sees      TLS connections of {whose}: which program, which server name")?;
                let programs = match running.redirecting {
                    0 => "no program now".to_owned(),
                    1 => "one program or group of programs now".to_owned(),
                    count => format!("{count} programs or groups of programs now"),
                };
                writeln!(out, "  reads     what is sent through it: {programs}, and whoever uses its proxy")?;
            }
            None => writeln!(out, "no sensor watches this machine now")?,
        }
        match &self.config {
            Ok(config) => {
                writeln!(out, "  proxy     {}; never opened: {}", config.proxy.listen, list(&config.proxy.bypass))?;
                writeln!(out, "  rules     {}", mode_in_words(config))?;
                for scope in &config.sensor.scopes {
                    writeln!(out, "  scope     {} ({}): {}", clean(&scope.name), scope.matches, scope.mode.as_str())?;
                }
                writeln!(out, "  keeps     {KEPT}")?;
                writeln!(
                    out,
                    "            for {} days, and at most {} GiB",
                    config.events.retention.days, config.events.retention.max_gib
                )?;
            }
            Err(error) => writeln!(out, "  the configuration cannot be read: {}", clean(&error.to_string()))?,
        }
        writeln!(out, "  never     {NEVER}")?;
        match &self.switch {
            KillSwitch::Armed => writeln!(out, "  switch    armed")?,
            KillSwitch::Disarmed(reason) => writeln!(out, "  switch    disarmed: nothing is redirected or refused; {}", clean(reason))?,
            KillSwitch::Unknown(why) => writeln!(out, "  switch    cannot be looked at: {why}")?,
        }
        let contact = self.config.as_ref().ok().and_then(|config| config.contact.as_deref());
        writeln!(out, "  ask       {}", contact.map_or_else(|| "the administrator of this machine".to_owned(), clean))
    }
}

fn mode(config: &Config) -> &'static str {
    match config.rules.mode {
        Enforcement::Enforce => "enforce",
        Enforcement::Shadow => "shadow",
    }
}

fn mode_in_words(config: &Config) -> &'static str {
    match config.rules.mode {
        Enforcement::Enforce => "what a rule refuses is refused; the answer says which rule",
        Enforcement::Shadow => "only write down; nothing is refused",
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// The time in the zone of this machine, where that is known.
fn when(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let time = time.map(|time| time.to_offset(UtcOffset::UTC)).and_then(|time| time.format(&Rfc3339).ok());
    time.unwrap_or_else(|| seconds.to_string())
}
