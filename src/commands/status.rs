//! `gnomon status`: what is watched on this machine, for whoever works on it. Needs no privilege; it reads the system's
//! configuration and what the running sensor says of itself, and asks nobody.

use crate::commands::run::EXEC_SOCKET;
use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    Complaint,
    line::{clean, one_line},
    options::{ConfigFlag, Format, FormatFlag, SwitchFlag},
};
use gnomon_config::{Config, Portal, scopes::Fail};
use gnomon_exec::SOCKET_VARIABLE;
use gnomon_host::{doctor::is_listened_on, switch::Arming};
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

/// The records that are kept, and those that never are: the same on every machine, and tested elsewhere. docs/privacy.md says it at length.
const KEPT: &str = "who called which MCP server and tool, when, from which program, with its command line; which programs connect to known hosts, or to what a rule names; \
                    MCP servers that are started on this machine, by whom and by which agent, with their command line; \
                    entries for MCP servers, hooks, skills and plugins in the configuration files of home directories, without their secrets; \
                    programs' connections that were to be read and could not be, or went direct";
const NEVER: &str = "bodies, arguments of tools and answers (unless a portal records them in its audit), what servers say of themselves and their tools, passwords, tokens, \
                     API keys, cookies, queries of requests' URLs, key strokes, screens, files";
/// What is kept all the same.
const BUT: &str = "paths of URLs and the headers that a rule names are kept, without what is marked as a secret or has the form of one";
/// What does not expire.
const STAYS: &str = "the list of servers, tools and client programs that were seen, of servers that run on this machine with their users, and what people decided about servers, events and snippets";
/// What a portal's audit has of each call, list, session and log-in.
const AUDITED: &str = "person, mail, groups, address, country, device, program and call";

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
    /// The file that was looked for.
    disarm_file: PathBuf,
    config: Result<Config, Complaint>,
    proxy: ProxyPort,
}

/// The port of the proxy, as the kernel's table shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProxyPort {
    ListenedOn,
    Deserted,
}

impl ProxyPort {
    fn of(config: Option<&Config>) -> Self {
        if config.is_none_or(|config| is_listened_on(config.proxy.listen.port())) { Self::ListenedOn } else { Self::Deserted }
    }
}

impl Status {
    pub fn run(self) -> Result<()> {
        let folder = self.exec_socket.parent().unwrap_or(&self.exec_socket);
        let running = status::Status::read(folder);
        let running = running.map_err(|error| Complaint::own(format!("what the sensor says cannot be read: {error}")))?;
        let file = self.switch.switch();
        let (switch, disarm_file) = (KillSwitch::of(running.as_ref(), file.look()), file.path().to_owned());
        let config = self.config.of_the_system().map_or_else(|| Ok(Config::default()), |path| Ok(Config::load(&path)?));
        let proxy = ProxyPort::of(config.as_ref().ok());
        let found = Found { running, switch, disarm_file, config, proxy };
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
            "watched": self.running.as_ref().is_some_and(|running| running.alone_since.is_none()),
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
            "proxy_listens": config.map(|_| self.proxy == ProxyPort::ListenedOn),
            "never_opened": config.map(|config| &config.proxy.bypass),
            "kept": KEPT,
            "kept_days": config.map(|config| config.events.retention.days),
            "kept_for_good": STAYS,
            "never_kept": NEVER,
            "kept_as_it_is": BUT,
            "audit": config.and_then(audit),
            "contact": config.and_then(|config| config.contact.as_ref()),
            "configuration_error": self.config.as_ref().err().map(ToString::to_string),
        })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let alone = self.running.as_ref().and_then(|running| running.alone_since);
        match (&self.running, alone) {
            (Some(running), Some(since)) => {
                writeln!(
                    out,
                    "gnomon {}: only its sensor runs, and the part that reads and judges is away since {}",
                    running.version,
                    when(since)
                )?;
                writeln!(out, "  sees      nothing that would be written down")?;
                writeln!(out, "  reads     nothing: connections of scopes that fail closed are refused, others go direct")?;
            }
            (Some(running), None) => {
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
            (None, _) => writeln!(out, "no sensor watches this machine now")?,
        }
        match &self.config {
            Ok(config) => {
                let deserted = if self.proxy == ProxyPort::Deserted { ", where nobody listens now" } else { "" };
                writeln!(out, "  proxy     {}{deserted}; never opened: {}", config.proxy.listen, list(&config.proxy.bypass))?;
                let judged = match (&self.switch, alone) {
                    (_, Some(_)) => "none is judged now; once that part is back: ",
                    (KillSwitch::Armed, None) => "",
                    (KillSwitch::Disarmed(_), None) => "none refuses now; once armed again: ",
                    (KillSwitch::Unknown(_), None) => "unless it is disarmed: ",
                };
                writeln!(out, "  rules     {judged}{}", mode_in_words(config))?;
                for scope in &config.sensor.scopes {
                    let now = match (alone, scope.fail) {
                        (None, _) => "",
                        (Some(_), Fail::Closed) => "; refused now",
                        (Some(_), Fail::Open) => "; direct now",
                    };
                    writeln!(out, "  scope     {} ({}): {}{now}", clean(&scope.name), scope.r#match, scope.mode.as_str())?;
                }
                writeln!(out, "  keeps     {KEPT}")?;
                writeln!(
                    out,
                    "            for {} days, and at most {} GiB",
                    config.events.retention.days, config.events.retention.max_gib
                )?;
                writeln!(out, "            without end: {STAYS}")?;
                if !config.portals.is_empty() {
                    writeln!(out, "  audit     of portals, for {} days: {AUDITED}{}", config.audit.days, payloads(config))?;
                }
            }
            Err(error) => writeln!(out, "  the configuration cannot be read: {}", one_line(&error.to_string()))?,
        }
        writeln!(out, "  never     {NEVER}")?;
        writeln!(out, "            but {BUT}")?;
        match &self.switch {
            KillSwitch::Armed if self.running.is_some() => writeln!(out, "  switch    armed")?,
            KillSwitch::Armed => {
                writeln!(
                    out,
                    "  switch    armed, as {} is not there; a gnomon that was started with another --disarm-file goes by that one",
                    clean(&self.disarm_file.display().to_string())
                )?;
            }
            KillSwitch::Disarmed(reason) => {
                writeln!(out, "  switch    disarmed: nothing is redirected, and no rule refuses; {}", clean(reason))?
            }
            KillSwitch::Unknown(why) => {
                writeln!(out, "  switch    {} cannot be looked at: {why}", clean(&self.disarm_file.display().to_string()))?;
            }
        }
        let contact = self.config.as_ref().ok().and_then(|config| config.contact.as_deref());
        writeln!(out, "  ask       {}", contact.map_or_else(|| "the administrator of this machine".to_owned(), clean))
    }
}

/// What the audit of this machine's portals has; none where there is no portal.
fn audit(config: &Config) -> Option<Value> {
    let recording = config
        .portals
        .iter()
        .map(|portal| json!({"portal": portal.id, "arguments": portal.record.arguments, "results": portal.record.results}));
    (!config.portals.is_empty()).then(
        || json!({"kept": AUDITED, "days": config.audit.days, "max_gib": config.audit.max_gib, "portals": recording.collect::<Vec<_>>()}),
    )
}

/// The portals that record more than that, as the end of a sentence.
fn payloads(config: &Config) -> String {
    let of = |what: &str, records: fn(&Portal) -> bool| {
        let portals: Vec<String> = config.portals.iter().filter(|portal| records(portal)).map(|portal| clean(&portal.id)).collect();
        if portals.is_empty() { String::new() } else { format!("; {what} at {}", portals.join(", ")) }
    };
    of("arguments", |portal| portal.record.arguments) + &of("results", |portal| portal.record.results)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which no sensor runs, and nothing is disarmed.
    fn nobody() -> Found {
        let config = Ok(Config::default());
        Found { running: None, switch: KillSwitch::Armed, disarm_file: "/run/gnomon/disarmed".into(), config, proxy: ProxyPort::ListenedOn }
    }

    #[test]
    fn while_it_is_disarmed_or_may_be_no_rule_is_said_to_refuse() {
        let text = |switch| {
            let mut text = Vec::new();
            Found { switch, ..nobody() }.write(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        let armed = text(KillSwitch::Armed);
        assert!(armed.contains("  rules     what a rule refuses is refused"), "{armed}");
        assert!(
            armed.contains("  switch    armed, as /run/gnomon/disarmed is not there; a gnomon that was started with another"),
            "{armed}"
        );
        let disarmed = text(KillSwitch::Disarmed("maintenance".to_owned()));
        assert!(disarmed.contains("  rules     none refuses now; once armed again: what a rule refuses is refused"), "{disarmed}");
        let unknown = text(KillSwitch::Unknown(io::ErrorKind::PermissionDenied.into()));
        assert!(unknown.contains("  rules     unless it is disarmed: "), "{unknown}");
        assert!(unknown.contains("  switch    /run/gnomon/disarmed cannot be looked at: permission denied"), "{unknown}");
    }

    fn told(config: &str) -> (String, Value) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gnomon.yml");
        std::fs::write(&file, config).unwrap();
        let config = Config::load(&file).map_err(Complaint::from);
        let found = Found { config, ..nobody() };
        let mut text = Vec::new();
        found.write(&mut text).unwrap();
        (String::from_utf8(text).unwrap(), found.json())
    }

    #[test]
    fn who_works_on_a_machine_is_told_what_is_kept_of_them_and_for_how_long() {
        let (text, json) = told("events: {retention: {days: 7}}\n");
        for kept in [KEPT, STAYS, NEVER, BUT, "for 7 days"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert!(!text.contains("  audit ") && json["audit"].is_null(), "{text}");
        let (text, json) = told(
            "audit: {days: 30}\nservers: [{id: a, url: 'http://127.0.0.1:1/mcp'}]\nportals:\n  - {id: plain, listen: '127.0.0.1:8445', servers: [a], policy: [{allow: {servers: [a]}}]}\n  \
             - {id: full, listen: '127.0.0.1:8446', servers: [a], policy: [{allow: {servers: [a]}}], record: [arguments, results]}\n",
        );
        assert!(text.contains("  audit     of portals, for 30 days: person, mail, groups"), "{text}");
        assert!(text.contains("call; arguments at full; results at full\n"), "{text}");
        assert_eq!(json["audit"]["portals"][0], json!({"portal": "plain", "arguments": false, "results": false}));
    }

    #[test]
    fn that_no_sensor_watches_or_that_the_configuration_cannot_be_read_is_said_and_who_can_be_asked() {
        let (text, json) = told("contact: security@corp.example\n");
        assert!(text.starts_with("no sensor watches this machine now\n") && json["watched"] == json!(false), "{text}");
        assert!(text.ends_with("  ask       security@corp.example\n"), "{text}");
        let config = Err(Complaint::own("permission denied"));
        let mut text = Vec::new();
        Found { config, ..nobody() }.write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("  the configuration cannot be read: permission denied") && text.contains(NEVER), "{text}");
        assert!(text.ends_with("  ask       the administrator of this machine\n"), "{text}");
    }

    #[test]
    fn a_sensor_that_is_alone_is_told_as_that_and_nobody_as_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gnomon.yml");
        let scopes = "sensor: {scopes: [{name: a, match: {unit: a.service}, mode: enforce, fail: closed}, {name: b, match: {unit: b.service}, mode: intercept}]}\n";
        std::fs::write(&file, scopes).unwrap();
        let running =
            json!({"version": "1", "pid": 1, "since": 0, "cgroup": "/sys/fs/cgroup", "armed": true, "redirecting": 2, "alone_since": 60});
        let running = Some(serde_json::from_value(running).unwrap());
        let config = Config::load(&file).map_err(Complaint::from);
        let found = Found { running, config, proxy: ProxyPort::Deserted, ..nobody() };
        let mut text = Vec::new();
        found.write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for said in [
            "is away since 1970-01-01T00:01:00Z\n",
            "  reads     nothing:",
            "where nobody listens now",
            "none is judged now",
            "enforce; refused now",
            "intercept; direct now",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains("watches this machine"), "{text}");
        let json = found.json();
        assert_eq!((&json["watched"], &json["proxy_listens"], &json["sensor"]["alone_since"]), (&json!(false), &json!(false), &json!(60)));
    }
}
