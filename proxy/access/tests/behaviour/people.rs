//! Callers for the tests.

use gnomon_access::{Asked, AuthMethod, Caller, Capability, Device, Hints, Policy, Process};
use serde_json::Value;

pub fn anonymous() -> Caller {
    Caller::anonymous("10.1.2.3".parse().unwrap())
}

/// A person about whom the provider told everything; device and process are unknown.
pub fn person(user: &str, groups: &[&str]) -> Caller {
    let email = format!("{user}@example.org");
    Caller {
        subject: format!("https://login.example|{user}").into(),
        user: Some(user.into()),
        email: Some(email.into()),
        groups: groups.iter().copied().collect(),
        domain: Some("example.org".into()),
        acr: Some("loa2".into()),
        amr: vec!["pwd", "otp"].into(),
        client: Some("claude".into()),
        country: Some("DE".into()),
        method: AuthMethod::Oidc,
        scopes: vec!["mcp"].into(),
        ..anonymous()
    }
}

pub fn laptop(name: &str) -> Device {
    Device { sha256: "ab".repeat(32).into(), subject: Some(name.into()), names: vec![format!("{name}.corp.example").into()] }
}

pub fn program(path: &str) -> Process {
    Process {
        executable: Some(path.into()),
        sha256: Some("cd".repeat(32).into()),
        user: Some("anna".into()),
        cgroup: Some("/system.slice/agent.service".into()),
        unit: Some("agent.service".into()),
    }
}

pub fn on(device: Device, mut caller: Caller) -> Caller {
    caller.device = Some(device);
    caller
}

pub fn with(process: Process, mut caller: Caller) -> Caller {
    caller.process = Some(process);
    caller
}

pub fn policy(text: &str) -> Policy {
    Policy::parse(text, "gnomon.yml").unwrap_or_else(|error| panic!("{text}\n{error}"))
}

pub fn asked<'a>(capability: Capability, server: &'a str, name: &'a str) -> Asked<'a> {
    Asked { portal: "main", server, capability, name, hints: Hints::default(), arguments: None }
}

pub fn tool<'a>(server: &'a str, name: &'a str) -> Asked<'a> {
    asked(Capability::Tool, server, name)
}

pub fn call<'a>(server: &'a str, name: &'a str, arguments: &'a Value) -> Asked<'a> {
    Asked { arguments: Some(arguments), ..tool(server, name) }
}

pub fn hinted<'a>(asked: Asked<'a>, read_only: Option<bool>, destructive: Option<bool>) -> Asked<'a> {
    Asked { hints: Hints { read_only, destructive }, ..asked }
}
