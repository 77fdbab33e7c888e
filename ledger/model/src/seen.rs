//! The fields of events that sums read: one type for all sums, so that they agree on client, server and action.

use crate::{Detection, HostPort, inventory::UNREACHED};
use gnomon_observe::Action;
use serde::Deserialize;
use std::borrow::Cow;

/// A stored event, read without a copy where nothing is escaped.
#[derive(Deserialize)]
pub(crate) struct Seen<'a> {
    #[serde(rename = "event.id", borrow)]
    pub id: Option<Cow<'a, str>>,
    #[serde(rename = "event.kind", borrow)]
    pub kind: Option<Cow<'a, str>>,
    #[serde(rename = "gnomon.incident.id", borrow)]
    burst: Option<Cow<'a, str>>,
    /// Events of one call share it.
    #[serde(rename = "gnomon.observation.id", borrow)]
    pub call: Option<Cow<'a, str>>,
    #[serde(rename = "gnomon.calls")]
    calls: Option<u64>,
    #[serde(rename = "mcp.method.name", borrow)]
    pub method: Option<Cow<'a, str>>,
    #[serde(rename = "user.name", borrow)]
    user_name: Option<Cow<'a, str>>,
    #[serde(rename = "user.id", borrow)]
    user_id: Option<Cow<'a, str>>,
    #[serde(rename = "source.address", borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(rename = "server.address", borrow)]
    server: Option<Cow<'a, str>>,
    #[serde(rename = "gnomon.local.server", borrow)]
    local: Option<Cow<'a, str>>,
    #[serde(rename = "server.port")]
    server_port: Option<u16>,
    #[serde(rename = "destination.address", borrow)]
    destination: Option<Cow<'a, str>>,
    #[serde(rename = "destination.port")]
    destination_port: Option<u16>,
    #[serde(rename = "error.type", borrow)]
    error: Option<Cow<'a, str>>,
    #[serde(rename = "http.response.status_code")]
    status: Option<u64>,
    #[serde(rename = "gnomon.batch.index")]
    pub batch: Option<u64>,
    #[serde(rename = "gnomon.action", borrow)]
    action: Option<Cow<'a, str>>,
    #[serde(rename = "gnomon.confidence", borrow)]
    pub confidence: Option<Cow<'a, str>>,
    #[serde(rename = "gnomon.detection.class", borrow)]
    pub class: Option<Cow<'a, str>>,
    #[serde(rename = "gnomon.sanctioned")]
    pub sanctioned: Option<bool>,
    #[serde(rename = "rule.id", borrow)]
    pub rule: Option<Cow<'a, str>>,
    #[serde(rename = "rule.name", borrow)]
    pub rule_name: Option<Cow<'a, str>>,
    #[serde(rename = "rule.level", borrow)]
    pub level: Option<Cow<'a, str>>,
    #[serde(rename = "process.executable.path", borrow)]
    program: Option<Cow<'a, str>>,
    #[serde(rename = "mcp.client.name", borrow)]
    client: Option<Cow<'a, str>>,
    #[serde(rename = "user_agent.original", borrow)]
    user_agent: Option<Cow<'a, str>>,
    #[serde(rename = "gen_ai.tool.name", borrow)]
    pub tool: Option<Cow<'a, str>>,
    #[serde(rename = "gnomon.flow.outcome", borrow)]
    pub flow: Option<Cow<'a, str>>,
    #[serde(rename = "gnomon.bypass.reason", borrow)]
    pub bypass: Option<Cow<'a, str>>,
    #[serde(rename = "http.request.body.size")]
    pub bytes: Option<u64>,
}

impl<'a> Seen<'a> {
    /// The number of calls it counts for.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.unwrap_or(1)
    }

    /// Parses a line of JSON; none if it is not an event.
    pub(crate) fn of(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// The user's name, else number, else the client's address.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user_name.as_deref().or(self.user_id.as_deref()).or(self.source.as_deref())
    }

    /// The server by its name, else address, and its port.
    pub(crate) fn server(&self) -> Option<HostPort<'_>> {
        let named = self.server.as_deref().map(|host| HostPort::new(host, self.server_port));
        named
            .or_else(|| Some(HostPort::new(self.local.as_deref()?, None)))
            .or_else(|| Some(HostPort::new(self.destination.as_deref()?, self.destination_port)))
    }

    /// The port of that server, also where it is that of HTTPS.
    pub(crate) fn port(&self) -> Option<u16> {
        match (&self.server, &self.local) {
            (Some(_), _) => self.server_port,
            (None, Some(_)) => None,
            (None, None) => self.destination_port,
        }
    }

    /// True if no server was reached: it could not be dialled.
    pub(crate) fn is_unreached(&self) -> bool {
        self.status.is_none() && self.error.as_deref() == Some(UNREACHED)
    }

    /// True if it only tells what became of a call that another event is of.
    pub(crate) fn is_outcome(&self) -> bool {
        self.kind.as_deref() == Some("outcome")
    }

    /// The program, else the client's own name, marked as such.
    pub(crate) fn program(&self) -> Option<Cow<'_, str>> {
        let claimed =
            || self.client.as_deref().or(self.user_agent.as_deref()).map(|name| format!("claims: \"{}\"", name.replace('"', "'")));
        self.program.as_deref().map(Cow::Borrowed).or_else(|| claimed().map(Cow::Owned))
    }

    /// The detection as today's incidents count it; none without a rule.
    pub(crate) fn detection(&self) -> Option<Detection<'_>> {
        Some(Detection {
            user: self.user().unwrap_or_default(),
            server: self.server().unwrap_or_default(),
            rule: self.rule.as_deref()?,
            level: self.level.as_deref()?.parse().ok()?,
            class: self.class.as_deref()?.parse().ok()?,
            burst: self.burst.as_deref()?,
        })
    }

    /// True if a rule matched.
    pub(crate) fn is_detection(&self) -> bool {
        matches!(self.kind.as_deref(), Some("alert" | "signal"))
    }

    /// True if it was refused, redirected or changed.
    pub(crate) fn is_stopped(&self) -> bool {
        self.action.as_deref().and_then(|action| action.parse().ok()).is_some_and(Action::interferes)
    }
}
