//! `gnomon policy`: what the policy of a portal says of a call, and by which line.

use anyhow::Result;
use clap::{Args, Subcommand};
use gnomon_access::{Asked, AuthMethod, Caller, Capability, Device, Explanation, Finding, Hints, Names, Process, arguments};
use gnomon_cli::{
    Complaint,
    options::{ConfigFlag, Format, FormatFlag},
};
use serde_json::json;
use smol_str::SmolStr;
use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
};

#[derive(Subcommand)]
pub enum Policy {
    /// Say whether somebody may call something, and print the line that decides
    Explain(Box<Explain>),
}

#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    format: FormatFlag,
    /// The portal [default: the only one]
    #[arg(long, value_name = "ID")]
    portal: Option<String>,
    /// The caller: the user's name or mail address
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A group that they are in; repeatable. Without any, groups are not known
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// The domain of their organisation [default: the domain of the mail address]
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// The OAuth client that asks for them
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// How they authenticated
    #[arg(long, value_name = "METHOD", value_parser = ["none", "oidc", "introspection", "token", "mtls"])]
    method: Option<String>,
    /// A scope that their token was granted for; repeatable
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// The authentication context of their log-in (`acr`)
    #[arg(long, value_name = "ACR")]
    acr: Option<String>,
    /// An authentication method of their log-in (`amr`); repeatable
    #[arg(long, value_name = "AMR")]
    amr: Vec<String>,
    /// The caller's address
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// The country of that address, as `DE`
    #[arg(long, value_name = "CODE")]
    country: Option<String>,
    /// A name (subject alternative name) in their client certificate; repeatable
    #[arg(long, value_name = "NAME")]
    device: Vec<String>,
    /// The program that asks, by its path
    #[arg(long, value_name = "PATH")]
    executable: Option<String>,
    /// The server
    #[arg(long, value_name = "ID")]
    server: Option<String>,
    /// The tool, by the server's own name, or as the portal shows it (`SERVER_TOOL`)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["prompt", "resource"])]
    tool: Option<String>,
    /// The prompt instead
    #[arg(long, value_name = "NAME", conflicts_with = "resource")]
    prompt: Option<String>,
    /// The resource instead, by the server's own URI
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
    /// The call's arguments, JSON
    #[arg(long, value_name = "JSON")]
    args: Option<String>,
    /// The server annotates the tool as read-only
    #[arg(long)]
    read_only: bool,
    /// The server annotates the tool as destructive
    #[arg(long)]
    destructive: bool,
}

impl Policy {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Explain(explain) => explain.run(),
        }
    }
}

impl Explain {
    fn run(self) -> Result<()> {
        let config = self.config.load()?;
        let portal = match (&self.portal, config.portals.as_slice()) {
            (None, [only]) => only,
            (None, []) => return Err(Complaint::input("the configuration names no portal").next("name one with --config").into()),
            (None, several) => {
                let ids: Vec<&str> = several.iter().map(|portal| portal.id.as_str()).collect();
                return Err(Complaint::usage("there are several portals")
                    .next(format!("name one with --portal: {}", ids.join(", ")))
                    .into());
            }
            (Some(id), all) => all.iter().find(|portal| portal.id == *id).ok_or_else(|| {
                let ids: Vec<&str> = all.iter().map(|portal| portal.id.as_str()).collect();
                Complaint::usage(format!("no portal is called `{id}`")).next(format!("there are: {}", ids.join(", ")))
            })?,
        };
        let (capability, name) = match (&self.tool, &self.prompt, &self.resource) {
            (Some(tool), ..) => (Capability::Tool, tool),
            (_, Some(prompt), _) => (Capability::Prompt, prompt),
            (.., Some(resource)) => (Capability::Resource, resource),
            (None, None, None) => return Err(Complaint::usage("say what is asked for").next("give --tool, --prompt or --resource").into()),
        };
        let (server, name) = match (&self.server, name.split_once('_')) {
            (Some(server), _) => (server.as_str(), name.as_str()),
            // As the portal shows it: ids hold no `_`.
            (None, Some((server, own))) if portal.servers.iter().any(|id| id == server) => (server, own),
            (None, _) => {
                let next = format!("give --server, one of: {}", portal.servers.join(", "));
                return Err(Complaint::usage(format!("`{name}` does not say which server")).next(next).into());
            }
        };
        if !portal.servers.iter().any(|id| id == server) {
            let next = format!("it offers: {}", portal.servers.join(", "));
            return Err(Complaint::usage(format!("portal `{}` does not offer `{server}`", portal.id)).next(next).into());
        }
        let given = self.args.as_ref().map(|text| arguments(text.as_bytes())).transpose();
        let given =
            given.map_err(|error| Complaint::usage(format!("--args: {error}")).next("give a JSON object, as '{\"path\": \"/srv\"}'"))?;
        let hint = |set: bool| set.then_some(true);
        let asked = Asked {
            portal: &portal.id,
            server,
            capability,
            name,
            hints: Hints { read_only: hint(self.read_only), destructive: hint(self.destructive) },
            arguments: given.as_ref(),
        };
        let explanation = portal.policy.explain(&self.caller(), &asked);
        let mut out = io::stdout().lock();
        match self.format.format() {
            Format::Text => writeln!(out, "{explanation}")?,
            Format::Json => writeln!(out, "{}", to_json(&explanation))?,
        }
        Ok(())
    }

    fn caller(&self) -> Caller {
        let text = |value: &Option<String>| value.as_deref().map(SmolStr::new);
        let names = |values: &[String]| if values.is_empty() { Names::Unknown } else { values.iter().map(SmolStr::new).collect() };
        let email = self.user.as_deref().filter(|user| user.contains('@')).map(|user| SmolStr::new(user.to_lowercase()));
        let domain = email.as_ref().and_then(|email| email.rsplit('@').next()).map(SmolStr::new);
        Caller {
            user: text(&self.user),
            groups: names(&self.group),
            domain: text(&self.domain).or(domain),
            email,
            acr: text(&self.acr),
            amr: names(&self.amr),
            client: text(&self.client),
            country: text(&self.country),
            device: (!self.device.is_empty())
                .then(|| Device { names: self.device.iter().map(|name| SmolStr::new(name.to_lowercase())).collect(), ..Device::default() }),
            process: self.executable.as_ref().map(|path| Process { executable: Some(path.into()), ..Process::default() }),
            method: match self.method.as_deref() {
                Some("oidc") => AuthMethod::Oidc,
                Some("introspection") => AuthMethod::Introspection,
                Some("token") => AuthMethod::Token,
                Some("mtls") => AuthMethod::Mtls,
                _ => AuthMethod::None,
            },
            scopes: names(&self.scope),
            ..Caller::anonymous(self.address)
        }
    }
}

fn to_json(explanation: &Explanation) -> serde_json::Value {
    let entries = explanation.entries.iter().map(|entry| {
        let (finding, key, why) = match &entry.finding {
            Finding::Matched => ("matched", None, None),
            Finding::MatchedByMissing { key, why } => ("matched_by_missing", Some(*key), Some(why)),
            Finding::Unmatched { key, why } => ("unmatched", Some(*key), Some(why)),
        };
        json!({"line": entry.line.to_string(), "text": &*entry.line.text, "effect": entry.effect, "finding": finding, "key": key, "why": why})
    });
    let decision = &explanation.decision;
    json!({
        "decision": if decision.is_allow() { "allow" } else { "deny" },
        "line": decision.line().map(ToString::to_string),
        "reason": decision.line().and_then(|line| line.reason.as_deref()),
        "entries": entries.collect::<Vec<_>>(),
    })
}
