//! A configuration as a file that would say the same.

use super::{
    Config, Jsonl, Packs, Portal, Server, Switch,
    scopes::{Match, Scope},
};
use gnomon_inspect::Enforcement;
use gnomon_portal::Durability;
use serde_json::{Value, json};
use std::path::PathBuf;

impl Config {
    /// The whole configuration, defaults included, in the shape of the file.
    pub fn to_json(&self) -> Value {
        let paths = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let users = self.proxy.users.iter().map(|user| json!({"name": user.name, "password": user.password.to_string()}));
        json!({
            "proxy": {
                "listen": self.proxy.listen.to_string(),
                "bypass": self.proxy.bypass,
                "upstream_ca": paths(&self.proxy.upstream_ca),
                "resolve": self.proxy.resolve.iter().map(|resolve| resolve.spelling.as_str()).collect::<Vec<_>>(),
                "users": users.collect::<Vec<_>>(),
                "window_bytes": self.proxy.window_bytes,
                "max_connections": self.proxy.max_connections,
                "max_connections_per_user": self.max_connections_per_user(usize::MAX),
            },
            "sanctioned": self.sanctioned,
            "rules": {
                "mode": match self.rules.mode {
                    Enforcement::Enforce => "enforce",
                    Enforcement::Shadow => "shadow",
                },
                "packs": match &self.rules.packs {
                    Packs::Builtin => json!("builtin"),
                    Packs::None => json!("none"),
                    Packs::Named(names) => json!(names),
                },
                "dirs": paths(&self.rules.dirs),
                "hosts": paths(&self.rules.hosts),
                "overrides": self.rules.overrides.as_ref().map(|path| path.display().to_string()),
                "triage": self.rules.triage.as_ref().map(|path| path.display().to_string()),
            },
            "events": {
                "jsonl": match &self.events.jsonl {
                    Jsonl::Off => "off".to_owned(),
                    Jsonl::Stdout => "-".to_owned(),
                    Jsonl::File(path) => path.display().to_string(),
                },
                "otlp": match &self.events.otlp {
                    None => json!({"endpoint": "off"}),
                    Some(otlp) => json!({
                        "endpoint": otlp.endpoint.to_string(),
                        "headers": otlp.headers.iter().map(ToString::to_string).collect::<Vec<_>>(),
                        "ca": paths(&otlp.ca),
                    }),
                },
                "syslog": match &self.events.syslog {
                    None => json!({"endpoint": "off"}),
                    Some(syslog) => json!({"endpoint": syslog.endpoint.to_string(), "ca": paths(&syslog.ca)}),
                },
                "retention": {"days": self.events.days, "max_gib": self.events.max_gib},
            },
            "metrics": {"listen": match self.metrics {
                Switch::Off => "off".to_owned(),
                Switch::On(address) => address.to_string(),
            }},
            "sensor": {"max_cpu_percent": self.max_cpu_percent, "scopes": self.scopes.iter().map(scope).collect::<Vec<_>>()},
            "contact": self.contact,
            "state": self.state.as_ref().map(ToString::to_string),
            "countries": self.countries.as_ref().map(|path| path.display().to_string()),
            "servers": self.servers.iter().map(Server::to_json).collect::<Vec<_>>(),
            "portals": self.portals.iter().map(Portal::to_json).collect::<Vec<_>>(),
            "codemode": self.codemode.to_json(),
            "audit": {
                "checkpoints": paths(&self.audit.checkpoints),
                "checkpoint_seconds": self.audit.checkpoint_seconds,
                "writes": match self.audit.durability {
                    Durability::Soon => "soon",
                    Durability::BeforeAnswer => "before_answer",
                    Durability::BeforeCall => "before_call",
                },
                "days": self.audit.days,
                "max_gib": self.audit.max_gib,
            },
        })
    }
}

fn scope(scope: &Scope) -> Value {
    let matches = match &scope.matches {
        Match::Cgroup(pattern) => json!({"cgroup": pattern.to_string()}),
        Match::User(user) => json!({"user": user}),
        Match::Unit(unit) => json!({"unit": unit}),
    };
    json!({
        "name": scope.name,
        "match": matches,
        "mode": scope.mode.as_str(),
        "ports": scope.ports,
        "quic": scope.quic.as_str(),
        "fail": scope.fail.as_str(),
    })
}
