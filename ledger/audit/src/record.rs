//! The record of one act. Flat dotted names, as everywhere; what is not known is left out.
//!
//! Arguments and results are recorded only where somebody configured it, and redacted before they come here.

use gnomon_observe::without_secrets;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;
use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The longest text of one field, bytes; a longer one is cut and ends in `…`.
pub const MAX_TEXT: usize = 4 << 10;
/// The longest record, bytes of JSON. One that is longer loses arguments and result, which is noted in it.
pub const MAX_RECORD: usize = 64 << 10;
/// The most names (groups, findings, rules) of one field; beyond it the rest is left out, which is noted.
pub const MAX_NAMES: usize = 256;

/// The length to which texts are cut where a record is still too long: escaped, all of them fit.
const LEAST_TEXT: usize = 128;

/// The kind of an act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordKind {
    /// A tool was called, a prompt or resource was got.
    #[default]
    #[serde(rename = "call")]
    Call,
    /// A call or request is about to leave for its server; how it ended is in a record of its own, which names this one.
    #[serde(rename = "start")]
    Start,
    /// A list was asked for.
    #[serde(rename = "list")]
    List,
    /// Another request of the protocol.
    #[serde(rename = "request")]
    Request,
    /// A caller was authenticated.
    #[serde(rename = "login")]
    Login,
    /// A caller was refused.
    #[serde(rename = "login_refused")]
    LoginRefused,
    /// A session began.
    #[serde(rename = "session_start")]
    SessionStart,
    /// A session ended.
    #[serde(rename = "session_end")]
    SessionEnd,
    /// Configuration or policy changed.
    #[serde(rename = "change")]
    Change,
    /// A person approved or refused.
    #[serde(rename = "approval")]
    Approval,
    /// Records were lost before this one; how many is in `gnomon.audit.lost`.
    #[serde(rename = "lost")]
    Lost,
}

impl RecordKind {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RecordKind::Call => "call",
            RecordKind::Start => "start",
            RecordKind::List => "list",
            RecordKind::Request => "request",
            RecordKind::Login => "login",
            RecordKind::LoginRefused => "login_refused",
            RecordKind::SessionStart => "session_start",
            RecordKind::SessionEnd => "session_end",
            RecordKind::Change => "change",
            RecordKind::Approval => "approval",
            RecordKind::Lost => "lost",
        }
    }
}

/// The result of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// The server answered.
    #[serde(rename = "ok")]
    Ok,
    /// The server answered with an error.
    #[serde(rename = "error")]
    Error,
    /// It was refused here, by policy or by a rule.
    #[serde(rename = "refused")]
    Refused,
    /// The server did not answer.
    #[serde(rename = "unavailable")]
    Unavailable,
    /// The client went away.
    #[serde(rename = "cancelled")]
    Cancelled,
}

/// One act. `Record { kind: RecordKind::Call, user_name: Some("anna".into()), ..Record::at(now) }`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the documentation; docs/audit.md has the table")]
#[serde(default)]
pub struct Record {
    #[serde(rename = "@timestamp")]
    pub timestamp: String,
    #[serde(rename = "gnomon.audit.kind")]
    pub kind: RecordKind,
    #[serde(rename = "user.id", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<SmolStr>,
    #[serde(rename = "user.name", skip_serializing_if = "Option::is_none")]
    pub user_name: Option<SmolStr>,
    #[serde(rename = "user.email", skip_serializing_if = "Option::is_none")]
    pub user_email: Option<SmolStr>,
    #[serde(rename = "user.group.names", skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<SmolStr>,
    #[serde(rename = "gnomon.auth.method", skip_serializing_if = "Option::is_none")]
    pub auth_method: Option<SmolStr>,
    #[serde(rename = "gnomon.auth.client", skip_serializing_if = "Option::is_none")]
    pub auth_client: Option<SmolStr>,
    #[serde(rename = "source.address", skip_serializing_if = "Option::is_none")]
    pub source_address: Option<SmolStr>,
    #[serde(rename = "source.geo.country_iso_code", skip_serializing_if = "Option::is_none")]
    pub source_country: Option<SmolStr>,
    #[serde(rename = "gnomon.device.sha256", skip_serializing_if = "Option::is_none")]
    pub device_sha256: Option<SmolStr>,
    #[serde(rename = "gnomon.device.subject", skip_serializing_if = "Option::is_none")]
    pub device_subject: Option<SmolStr>,
    #[serde(rename = "process.executable.path", skip_serializing_if = "Option::is_none")]
    pub process_executable: Option<SmolStr>,
    #[serde(rename = "process.executable.hash.sha256", skip_serializing_if = "Option::is_none")]
    pub process_sha256: Option<SmolStr>,
    #[serde(rename = "process.user.name", skip_serializing_if = "Option::is_none")]
    pub process_user: Option<SmolStr>,
    #[serde(rename = "mcp.client.name", skip_serializing_if = "Option::is_none")]
    pub client_name: Option<SmolStr>,
    #[serde(rename = "mcp.client.version", skip_serializing_if = "Option::is_none")]
    pub client_version: Option<SmolStr>,

    #[serde(rename = "gnomon.portal.id", skip_serializing_if = "Option::is_none")]
    pub portal: Option<SmolStr>,
    #[serde(rename = "gnomon.server.id", skip_serializing_if = "Option::is_none")]
    pub server: Option<SmolStr>,
    #[serde(rename = "url.full", skip_serializing_if = "Option::is_none")]
    pub server_url: Option<SmolStr>,
    /// Of the session's id: see [`session_digest`].
    #[serde(rename = "gnomon.session", skip_serializing_if = "Option::is_none")]
    pub session: Option<SmolStr>,
    #[serde(rename = "mcp.protocol.version", skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<SmolStr>,
    #[serde(rename = "mcp.method.name", skip_serializing_if = "Option::is_none")]
    pub method: Option<SmolStr>,
    #[serde(rename = "gen_ai.tool.name", skip_serializing_if = "Option::is_none")]
    pub tool: Option<SmolStr>,
    #[serde(rename = "gen_ai.prompt.name", skip_serializing_if = "Option::is_none")]
    pub prompt: Option<SmolStr>,
    #[serde(rename = "mcp.resource.uri", skip_serializing_if = "Option::is_none")]
    pub resource: Option<SmolStr>,
    /// The task that a call began, or that was asked for.
    #[serde(rename = "mcp.task.id", skip_serializing_if = "Option::is_none")]
    pub task: Option<SmolStr>,
    #[serde(rename = "gnomon.execution.id", skip_serializing_if = "Option::is_none")]
    pub execution: Option<SmolStr>,

    /// Of the code that was run: see [`text_digest`].
    #[serde(rename = "gnomon.code.sha256", skip_serializing_if = "Option::is_none")]
    pub code_sha256: Option<SmolStr>,
    /// Calls that the code asked for.
    #[serde(rename = "gnomon.code.calls", skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,

    #[serde(rename = "gnomon.policy.line", skip_serializing_if = "Option::is_none")]
    pub policy_line: Option<SmolStr>,
    #[serde(rename = "gnomon.policy.text", skip_serializing_if = "Option::is_none")]
    pub policy_text: Option<SmolStr>,
    #[serde(rename = "rule.id", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<SmolStr>,
    #[serde(rename = "gnomon.dlp.findings", skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<SmolStr>,
    #[serde(rename = "gnomon.approval", skip_serializing_if = "Option::is_none")]
    pub approval: Option<SmolStr>,

    /// The number of the record of its beginning, where one was written.
    #[serde(rename = "gnomon.audit.start", skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    #[serde(rename = "gnomon.status", skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    #[serde(rename = "error.type", skip_serializing_if = "Option::is_none")]
    pub error: Option<SmolStr>,
    #[serde(rename = "gnomon.duration_ms", skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    #[serde(rename = "gnomon.upstream.duration_ms", skip_serializing_if = "Option::is_none")]
    pub upstream_duration_ms: Option<u64>,
    /// The number of times it was sent to its server, where that was more than once.
    #[serde(rename = "gnomon.upstream.attempts", skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    #[serde(rename = "http.request.body.size", skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<u64>,
    #[serde(rename = "http.response.body.size", skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,

    #[serde(rename = "gnomon.arguments", skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    #[serde(rename = "gnomon.result", skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// A description, of records of other kinds: the change, the reason for a refused log-in.
    #[serde(rename = "message", skip_serializing_if = "Option::is_none")]
    pub message: Option<SmolStr>,
    #[serde(rename = "gnomon.audit.lost", skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    #[serde(rename = "gnomon.audit.shortened", skip_serializing_if = "Option::is_none")]
    pub shortened: Option<bool>,
}

impl Record {
    /// A record of this time, otherwise empty.
    #[must_use]
    pub fn at(time: SystemTime) -> Self {
        Self { timestamp: timestamp(time), ..Self::default() }
    }

    /// Its JSON, within [`MAX_RECORD`], without what addresses carry of secrets.
    pub(crate) fn encode(&mut self) -> String {
        self.conceal();
        self.bound(MAX_TEXT);
        let json = serde_json::to_string(&self).unwrap_or_default();
        if json.len() <= MAX_RECORD {
            return json;
        }
        self.arguments = None;
        self.result = None;
        self.shortened = Some(true);
        let json = serde_json::to_string(&self).unwrap_or_default();
        if json.len() <= MAX_RECORD {
            return json;
        }
        // Escapes make a text up to six times as long.
        for list in [&mut self.groups, &mut self.rules, &mut self.findings] {
            list.truncate(8);
        }
        self.bound(LEAST_TEXT);
        serde_json::to_string(&self).unwrap_or_default()
    }

    /// Whatever a request or an answer says may be an address, whose user and secret parameters are not written, as in events.
    fn conceal(&mut self) {
        let said = [
            &mut self.client_name,
            &mut self.client_version,
            &mut self.server_url,
            &mut self.protocol_version,
            &mut self.method,
            &mut self.tool,
            &mut self.prompt,
            &mut self.resource,
            &mut self.task,
            &mut self.execution,
            &mut self.error,
            &mut self.message,
        ];
        for text in said.into_iter().flatten() {
            if let Cow::Owned(plain) = without_secrets(text) {
                *text = plain.into();
            }
        }
    }

    fn bound(&mut self, most: usize) {
        let texts = [
            &mut self.user_id,
            &mut self.user_name,
            &mut self.user_email,
            &mut self.auth_method,
            &mut self.auth_client,
            &mut self.source_address,
            &mut self.source_country,
            &mut self.device_sha256,
            &mut self.device_subject,
            &mut self.process_executable,
            &mut self.process_sha256,
            &mut self.process_user,
            &mut self.client_name,
            &mut self.client_version,
            &mut self.portal,
            &mut self.server,
            &mut self.server_url,
            &mut self.session,
            &mut self.protocol_version,
            &mut self.method,
            &mut self.tool,
            &mut self.prompt,
            &mut self.resource,
            &mut self.task,
            &mut self.execution,
            &mut self.policy_line,
            &mut self.policy_text,
            &mut self.approval,
            &mut self.error,
            &mut self.message,
        ];
        let mut shortened = false;
        for text in texts.into_iter().flatten() {
            shortened |= cut(text, most);
        }
        for list in [&mut self.groups, &mut self.rules, &mut self.findings] {
            shortened |= list.len() > MAX_NAMES;
            list.truncate(MAX_NAMES);
            for text in list.iter_mut() {
                shortened |= cut(text, 128);
            }
        }
        if shortened {
            self.shortened = Some(true);
        }
    }

    pub(crate) fn at_ms(&self) -> i64 {
        OffsetDateTime::parse(&self.timestamp, &Rfc3339)
            .map_or(0, |time| i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
    }
}

/// Cuts a text at a character, and says whether it did.
fn cut(text: &mut SmolStr, most: usize) -> bool {
    if text.len() <= most {
        return false;
    }
    let end = (0..=most - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    *text = SmolStr::from(format!("{}…", &text[..end]));
    true
}

/// RFC 3339 in UTC, milliseconds.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let at = OffsetDateTime::UNIX_EPOCH + since;
    at.format(&format).unwrap_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned())
}

/// SHA-256 of a text, 64 hexadecimal digits.
#[must_use]
pub fn text_digest(text: &str) -> SmolStr {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes())).into()
}

/// A digest of a session's id for records: the id is a credential while the session lives, so readers of the audit must not see it.
#[must_use]
pub fn session_digest(session: &str) -> SmolStr {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, session.as_bytes());
    hex::encode(&hash.as_ref()[..12]).into()
}
