//! The record of one act. Flat dotted names, as everywhere; what is not known is left out.
//!
//! Arguments and results are recorded only if so configured, and are redacted before they come here.

use gnomon_observe::without_secrets;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;
use std::{
    borrow::Cow,
    fmt::Write as _,
    time::{Duration, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The longest text of one field, bytes; a longer one is cut and ends in `…`.
pub const MAX_TEXT: usize = 4 << 10;
/// The longest record, bytes of JSON. One that is longer loses arguments and result, which is noted in it.
pub const MAX_RECORD: usize = 64 << 10;
/// The most names (groups, findings, rules) of one field; beyond it the rest is left out, which is noted.
pub const MAX_NAMES: usize = 256;

/// The longest text in a list, bytes.
const MAX_NAME: usize = 128;

/// Bounds on values that strangers choose.
#[derive(Clone, Copy)]
struct Bounds {
    /// Bytes of a text.
    text: usize,
    /// Texts in a list.
    names: usize,
}

/// The bounds of every record.
const USUAL: Bounds = Bounds { text: MAX_TEXT, names: MAX_NAMES };
/// The bounds of a record that is still too long: escaped, which makes a text up to six times as long, all of them fit.
const LEAST: Bounds = Bounds { text: 128, names: 8 };

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
    /// The server asks its client for input before it answers: it has not come to its end.
    #[serde(rename = "input_required")]
    InputRequired,
    /// The server answered with an error.
    #[serde(rename = "error")]
    Error,
    /// Refused here, by policy or by a rule.
    #[serde(rename = "refused")]
    Refused,
    /// It did not get to the server, or was turned away there: it was not carried out.
    #[serde(rename = "unavailable")]
    Unavailable,
    /// It left for the server and no answer came: it may have been carried out.
    #[serde(rename = "unanswered")]
    Unanswered,
    /// The client went away.
    #[serde(rename = "cancelled")]
    Cancelled,
}

impl Status {
    /// The word for it, as in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::InputRequired => "input_required",
            Self::Error => "error",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Unanswered => "unanswered",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The sort of value that a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// One text, of [`MAX_TEXT`] at most.
    Text,
    /// [`MAX_NAMES`] texts at most.
    Names,
    /// A whole number.
    Number,
    /// One of few words.
    Word,
    /// Yes, or left out.
    Mark,
    /// JSON of a stranger: the first to be left out of a record that is too long.
    Json,
}

/// What is concealed of a field, as it may hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concealed {
    /// Nothing: it has gnomon's own words, digests and numbers, what the configuration says, or what was proven.
    Nothing,
    /// A client or a server chose the text, which may be an address: its user info and secret parameters.
    Address,
    /// It was redacted before it came here.
    Redacted,
}

/// One row of the table of fields.
#[derive(Debug)]
pub struct RecordField {
    /// The flat dotted name.
    pub name: &'static str,
    /// The sort of its value.
    pub sort: Sort,
    /// The parts of its value that are concealed.
    pub concealed: Concealed,
    /// Its meaning.
    pub doc: &'static str,
}

/// The bounds of a field's type. Every type of a field must have them.
trait Bounded {
    const SORT: Sort;

    /// True if the value is left out of the record.
    fn is_unknown(&self) -> bool;

    /// Cuts texts and lists that are too long. Whether there was something to cut.
    fn bound(&mut self, bounds: Bounds) -> bool;
}

impl Bounded for String {
    const SORT: Sort = Sort::Text;

    fn is_unknown(&self) -> bool {
        false
    }

    fn bound(&mut self, bounds: Bounds) -> bool {
        cut(self, bounds.text).is_some_and(|shorter| {
            *self = shorter;
            true
        })
    }
}

impl Bounded for Option<SmolStr> {
    const SORT: Sort = Sort::Text;

    fn is_unknown(&self) -> bool {
        self.is_none()
    }

    fn bound(&mut self, bounds: Bounds) -> bool {
        self.as_mut().is_some_and(|text| shorten(text, bounds.text))
    }
}

impl Bounded for Vec<SmolStr> {
    const SORT: Sort = Sort::Names;

    fn is_unknown(&self) -> bool {
        self.is_empty()
    }

    fn bound(&mut self, bounds: Bounds) -> bool {
        let mut shortened = self.len() > bounds.names;
        self.truncate(bounds.names);
        for text in self {
            shortened |= shorten(text, MAX_NAME);
        }
        shortened
    }
}

/// Implements [`Bounded`] for types that are never shortened: of fixed length, or left out as a whole where too long.
macro_rules! short {
    ($($sort:ident: $type:ty, $unknown:expr;)+) => {
        $(impl Bounded for $type {
            const SORT: Sort = Sort::$sort;

            fn is_unknown(&self) -> bool {
                let unknown: fn(&Self) -> bool = $unknown;
                unknown(self)
            }

            fn bound(&mut self, _: Bounds) -> bool {
                false
            }
        })+
    };
}

short! {
    Word: RecordKind, |_| false;
    Word: Option<Status>, Option::is_none;
    Number: Option<u64>, Option::is_none;
    Number: Option<u32>, Option::is_none;
    Mark: Option<bool>, Option::is_none;
    Json: Option<Value>, Option::is_none;
}

/// Removes the secrets of addresses from a text.
fn conceal(text: &mut SmolStr) {
    if let Cow::Owned(plain) = without_secrets(text) {
        *text = plain.into();
    }
}

/// Conceals what a row of the table says.
macro_rules! concealed {
    (Nothing $field:expr) => {};
    (Redacted $field:expr) => {};
    (Address $field:expr) => {
        $field.iter_mut().for_each(conceal)
    };
}

macro_rules! fields {
    ($($id:ident: $type:ty = $name:literal $concealed:tt $doc:literal;)+) => {
        /// One act. `Record { kind: RecordKind::Call, user_name: Some("anna".into()), ..Record::at(now) }`.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Record {
            $(#[doc = concat!("`", $name, "`: ", $doc)] #[serde(rename = $name, skip_serializing_if = "Bounded::is_unknown")] pub $id: $type,)+
        }

        /// All fields, in the order in which records have them.
        pub const RECORD_FIELDS: &[RecordField] =
            &[$(RecordField { name: $name, sort: <$type as Bounded>::SORT, concealed: Concealed::$concealed, doc: $doc }),+];

        impl Record {
            /// Removes what addresses carry of secrets, as in events.
            fn conceal(&mut self) {
                $(concealed!($concealed self.$id);)+
            }

            /// Cuts every text and list that is too long, and notes it.
            fn bound(&mut self, bounds: Bounds) {
                let mut shortened = false;
                $(shortened |= Bounded::bound(&mut self.$id, bounds);)+
                if shortened {
                    self.shortened = Some(true);
                }
            }
        }
    };
}

// A row is all that a field needs: its place in the record, its bounds, what is concealed of it and its line of docs/reference/audit.md are
// made of it.
fields! {
    timestamp: String = "@timestamp" Nothing "Time of the act, RFC 3339 with milliseconds, UTC.";
    kind: RecordKind = "gnomon.audit.kind" Nothing "The kind of act: `call`, `start` (it is about to leave for its server), `list`, `request`, `login`, `login_refused`, `session_start`, `session_end`, `change`, `approval` (reserved), `lost`.";
    user_id: Option<SmolStr> = "user.id" Nothing "The person or service, as proven: the subject.";
    user_name: Option<SmolStr> = "user.name" Nothing "Its name.";
    user_email: Option<SmolStr> = "user.email" Nothing "Its address of mail.";
    groups: Vec<SmolStr> = "user.group.names" Nothing "Its groups.";
    auth_method: Option<SmolStr> = "gnomon.auth.method" Nothing "How it was proven.";
    auth_client: Option<SmolStr> = "gnomon.auth.client" Nothing "The OAuth client's id.";
    source_address: Option<SmolStr> = "source.address" Nothing "Where from.";
    source_country: Option<SmolStr> = "source.geo.country_iso_code" Nothing "The country of that address, where it is known.";
    device_sha256: Option<SmolStr> = "gnomon.device.sha256" Nothing "The client certificate: its digest.";
    device_subject: Option<SmolStr> = "gnomon.device.subject" Nothing "Its subject.";
    process_executable: Option<SmolStr> = "process.executable.path" Nothing "The program, where the sensor attests it.";
    process_sha256: Option<SmolStr> = "process.executable.hash.sha256" Nothing "The digest of its file.";
    process_user: Option<SmolStr> = "process.user.name" Nothing "The user that it runs as.";
    client_name: Option<SmolStr> = "mcp.client.name" Address "What the client calls itself.";
    client_version: Option<SmolStr> = "mcp.client.version" Address "Its version, by its own word.";
    portal: Option<SmolStr> = "gnomon.portal.id" Nothing "The portal.";
    server: Option<SmolStr> = "gnomon.server.id" Nothing "The server.";
    server_url: Option<SmolStr> = "url.full" Address "The server's address without the query.";
    session: Option<SmolStr> = "gnomon.session" Nothing "A digest of the session's id, not the id: that is a credential.";
    protocol_version: Option<SmolStr> = "mcp.protocol.version" Address "The revision of MCP that the client speaks.";
    method: Option<SmolStr> = "mcp.method.name" Address "What was asked for.";
    tool: Option<SmolStr> = "gen_ai.tool.name" Address "The tool that was called.";
    prompt: Option<SmolStr> = "gen_ai.prompt.name" Address "The prompt that was got.";
    resource: Option<SmolStr> = "mcp.resource.uri" Address "The resource that was read.";
    task: Option<SmolStr> = "mcp.task.id" Address "The task that a call began, or that was asked for.";
    execution: Option<SmolStr> = "gnomon.execution.id" Address "The execution in Code Mode that it is or belongs to.";
    code_sha256: Option<SmolStr> = "gnomon.code.sha256" Nothing "Of an execution: a digest of its code.";
    snippet: Option<SmolStr> = "gnomon.snippet.name" Nothing "The saved snippet that was saved or used, or whose code asked for this.";
    snippet_version: Option<u32> = "gnomon.snippet.version" Nothing "Its version.";
    snippet_sha256: Option<SmolStr> = "gnomon.snippet.sha256" Nothing "The SHA-256 by which it was approved.";
    calls: Option<u64> = "gnomon.code.calls" Nothing "Of an execution: how many calls its code asked for.";
    policy_line: Option<SmolStr> = "gnomon.policy.line" Nothing "The entry of policy that decided, `file:line:column`.";
    policy_text: Option<SmolStr> = "gnomon.policy.text" Nothing "Its text.";
    rules: Vec<SmolStr> = "rule.id" Nothing "The rules that refused.";
    findings: Vec<SmolStr> = "gnomon.dlp.findings" Nothing "Sensitive data that was found. Reserved: nothing fills it yet.";
    approval: Option<SmolStr> = "gnomon.approval" Nothing "Who approved. Reserved: nothing fills it yet.";
    start: Option<u64> = "gnomon.audit.start" Nothing "With `writes: before_call`: the number of the record of kind `start`, which was durable before the call left.";
    status: Option<Status> = "gnomon.status" Nothing "How it ended: `ok`, `input_required` (the server asks for input before it answers: how the call ends is in a later record, of the request that brings the input, or `cancelled` where none does), `error`, `refused`, `unavailable` (it did not get to the server: it was not carried out), `unanswered` (it left for the server and no answer came: it may have been carried out) or `cancelled`.";
    error: Option<SmolStr> = "error.type" Address "The kind of error (`cancelled` with `stopped`: gnomon stopped while it was under way).";
    duration_ms: Option<u64> = "gnomon.duration_ms" Nothing "Milliseconds, whole.";
    upstream_duration_ms: Option<u64> = "gnomon.upstream.duration_ms" Nothing "The server's share of them.";
    attempts: Option<u32> = "gnomon.upstream.attempts" Nothing "How often it was sent, where that was more than once: a server that answers that it does not know the session (HTTP 404) is asked once more in a new one, and one of 2026-07-28 that asks a client of the older era for input is called again with that; with `writes: before_call` each time has a record of kind `start`.";
    request_bytes: Option<u64> = "http.request.body.size" Nothing "Bytes of the request.";
    response_bytes: Option<u64> = "http.response.body.size" Nothing "Bytes of the answer.";
    arguments: Option<Value> = "gnomon.arguments" Redacted "Arguments, only where `portals[].record` says so, redacted.";
    result: Option<Value> = "gnomon.result" Redacted "The result, likewise.";
    message: Option<SmolStr> = "message" Address "Of other kinds: why somebody was not let in; what was changed, and by whom.";
    refused: Option<u64> = "gnomon.audit.refused" Nothing "Of kind `login_refused`, without an address: so many more were refused than are recorded one by one. Of what a caller was refused, or what got to no server: so many more of theirs before it, as 64 in ten seconds are recorded one by one.";
    lost: Option<u64> = "gnomon.audit.lost" Nothing "Of kind `lost`: so many records could not be written before this one.";
    shortened: Option<bool> = "gnomon.audit.shortened" Nothing "Something was too long and was cut or left out.";
}

/// The reference page of all fields, Markdown.
#[must_use]
pub fn record_reference() -> String {
    let mut page = format!(
        "# Fields of the audit\n\n\
         Generated from the table in `ledger/audit`; edit it there. [audit.md](../audit.md) says when records are made, and by whom they can be \
         changed.\n\n\
         One JSON object for each act, flat names, what is not known left out. A text has {} KiB at most, a list {MAX_NAMES} names of {MAX_NAME} \
         bytes, a record {} KiB: what is longer is cut, and the record says `gnomon.audit.shortened`.\n\n\
         | field | type | meaning |\n|---|---|---|\n",
        MAX_TEXT >> 10,
        MAX_RECORD >> 10,
    );
    for RecordField { name, sort, doc, .. } in RECORD_FIELDS {
        let sort = match sort {
            Sort::Text => "text",
            Sort::Names => "list",
            Sort::Number => "number",
            Sort::Word => "word",
            Sort::Mark => "yes",
            Sort::Json => "JSON",
        };
        let _ = writeln!(page, "| `{name}` | {sort} | {doc} |");
    }
    page
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
        self.bound(USUAL);
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
        self.bound(LEAST);
        serde_json::to_string(&self).unwrap_or_default()
    }

    pub(crate) fn at_ms(&self) -> i64 {
        OffsetDateTime::parse(&self.timestamp, &Rfc3339)
            .map_or(0, |time| i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
    }
}

/// Cuts a text, and says whether it did.
fn shorten(text: &mut SmolStr, most: usize) -> bool {
    cut(text, most).is_some_and(|shorter| {
        *text = shorter.into();
        true
    })
}

/// A text that is too long, cut at a character.
fn cut(text: &str, most: usize) -> Option<String> {
    if text.len() <= most {
        return None;
    }
    let end = (0..=most - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Some(format!("{}…", &text[..end]))
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
