//! The configuration file as it is written: every value with its place, nothing checked but types
//! and key names.

use gnomon_access::yaml::cause;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_saphyr::{Location, Spanned};
use std::{collections::BTreeMap, fmt};

/// Longest configuration file, bytes.
pub const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    pub proxy: Proxy,
    pub sanctioned: Vec<Spanned<String>>,
    pub rules: Rules,
    pub events: Events,
    pub metrics: Metrics,
    pub sensor: Sensor,
    pub contact: Option<String>,
    pub state: Option<Spanned<String>>,
    pub countries: Option<String>,
    pub servers: Vec<Server>,
    pub portals: Vec<Portal>,
    pub audit: Audit,
    pub codemode: CodeMode,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodeMode {
    pub sandbox_seconds: Option<Spanned<u64>>,
    pub wall_seconds: Option<Spanned<u64>>,
    pub heap_mib: Option<Spanned<u64>>,
    pub stack_kib: Option<Spanned<u64>>,
    pub calls: Option<Spanned<u64>>,
    pub in_flight: Option<Spanned<u64>>,
    pub arguments_kib: Option<Spanned<u64>>,
    pub result_kib: Option<Spanned<u64>>,
    pub logs_kib: Option<Spanned<u64>>,
    pub code_kib: Option<Spanned<u64>>,
    pub workers: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    pub checkpoints: Vec<String>,
    pub checkpoint_seconds: Option<Spanned<u64>>,
    pub writes: Option<Spanned<String>>,
    pub days: Option<Spanned<u64>>,
    pub max_gib: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sensor {
    pub max_cpu_percent: Option<Spanned<u64>>,
    pub scopes: Vec<Scope>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    pub name: Spanned<String>,
    #[serde(rename = "match")]
    pub matches: Match,
    pub mode: Option<Spanned<String>>,
    pub ports: Option<Spanned<Vec<u64>>>,
    pub quic: Option<Spanned<String>>,
    pub fail: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    pub cgroup: Option<Spanned<String>>,
    pub user: Option<Spanned<String>>,
    pub unit: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    pub listen: Option<Spanned<String>>,
    pub bypass: Vec<Spanned<String>>,
    pub upstream_ca: Vec<String>,
    pub resolve: Vec<Spanned<String>>,
    pub users: Vec<User>,
    pub window_bytes: Option<Spanned<u64>>,
    pub max_connections: Option<Spanned<u64>>,
    pub max_connections_per_user: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: Spanned<String>,
    pub password: Spanned<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    pub mode: Option<Spanned<String>>,
    pub packs: Option<Spanned<Names>>,
    pub dirs: Vec<String>,
    pub hosts: Vec<String>,
    pub overrides: Option<String>,
    pub triage: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    pub jsonl: Option<Spanned<String>>,
    pub otlp: Otlp,
    pub syslog: Syslog,
    pub retention: Retention,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Otlp {
    pub endpoint: Option<Spanned<String>>,
    pub headers: Vec<Spanned<String>>,
    pub ca: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Syslog {
    pub endpoint: Option<Spanned<String>>,
    pub ca: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    pub days: Option<Spanned<u64>>,
    pub max_gib: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    pub listen: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub id: Spanned<String>,
    #[serde(default)]
    pub url: Option<Spanned<String>>,
    #[serde(default)]
    pub transport: Option<Spanned<String>>,
    #[serde(default)]
    pub auth: ServerAuth,
    #[serde(default)]
    pub openapi: Option<Spanned<OpenApi>>,
    #[serde(default)]
    pub command: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    pub pin: Option<Spanned<Pin>>,
    #[serde(default)]
    pub env: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub cwd: Option<String>,
    #[serde(default)]
    pub read: Vec<String>,
    #[serde(default)]
    pub write: Vec<String>,
    #[serde(default)]
    pub network: Option<Spanned<String>>,
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub confine: Option<Spanned<String>>,
    #[serde(default)]
    pub limits: ServerLimits,
    #[serde(default)]
    pub tools: BTreeMap<String, Spanned<Label>>,
    #[serde(default)]
    pub prompts: BTreeMap<String, Spanned<Label>>,
}

/// How a server's tools and prompts are shown.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Labels {
    pub tools: BTreeMap<String, Spanned<Label>>,
    pub prompts: BTreeMap<String, Spanned<Label>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Label {
    pub alias: Option<Spanned<String>>,
    pub description: Option<Spanned<String>>,
    pub enabled: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenApi {
    pub file: String,
    #[serde(default)]
    pub sha256: Option<Spanned<String>>,
    #[serde(default)]
    pub base: Option<Spanned<String>>,
    #[serde(default)]
    pub allow: Vec<Spanned<String>>,
    #[serde(default)]
    pub writes: Vec<Spanned<String>>,
    #[serde(default)]
    pub credentials: BTreeMap<String, Spanned<String>>,
}

/// What a server is told that is a program.
#[derive(Debug)]
pub struct ServerProgram {
    pub command: Vec<Spanned<String>>,
    pub pin: Option<Spanned<Pin>>,
    pub env: BTreeMap<String, Spanned<String>>,
    pub cwd: Option<String>,
    pub read: Vec<String>,
    pub write: Vec<String>,
    pub network: Option<Spanned<String>>,
    pub user: Option<String>,
    pub confine: Option<Spanned<String>>,
    pub limits: ServerLimits,
}

impl ServerProgram {
    /// Whether anything but a command stands there.
    pub fn is_said(&self) -> bool {
        let named = self.pin.is_some() || self.cwd.is_some() || self.network.is_some() || self.user.is_some() || self.confine.is_some();
        named || !self.env.is_empty() || !self.read.is_empty() || !self.write.is_empty() || self.limits.is_said()
    }
}

impl ServerLimits {
    fn is_said(&self) -> bool {
        self.memory_mib.is_some() || self.tasks.is_some() || self.instances.is_some()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    pub memory_mib: Option<Spanned<u64>>,
    pub tasks: Option<Spanned<u64>>,
    pub instances: Option<Spanned<u64>>,
}

/// A word, or what it is pinned to.
#[derive(Debug)]
pub enum Pin {
    Word(String),
    Fields(PinFields),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PinFields {
    pub sha256: Option<Spanned<String>>,
    pub files: BTreeMap<String, Spanned<String>>,
    pub package: Option<Spanned<String>>,
    pub lockfile: Option<String>,
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrFields;
        impl<'de> Visitor<'de> for WordOrFields {
            type Value = Pin;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`unpinned`, or what it is pinned to")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Pin, E> {
                Ok(Pin::Word(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pin, A::Error> {
                PinFields::deserialize(MapAccessDeserializer::new(map)).map(Pin::Fields)
            }
        }
        deserializer.deserialize_any(WordOrFields)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerAuth {
    pub bearer: Option<Spanned<String>>,
    pub headers: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portal {
    pub id: Spanned<String>,
    #[serde(default)]
    pub listen: Option<Spanned<String>>,
    #[serde(default)]
    pub path: Option<Spanned<String>>,
    #[serde(default)]
    pub hosts: Vec<Spanned<String>>,
    #[serde(default)]
    pub origins: Vec<Spanned<String>>,
    #[serde(default)]
    pub url: Option<Spanned<String>>,
    #[serde(default)]
    pub tls: Option<Spanned<Tls>>,
    #[serde(default)]
    pub auth: Option<Spanned<gnomon_access::AuthSource>>,
    pub servers: Vec<Spanned<String>>,
    #[serde(default)]
    pub overrides: BTreeMap<String, Spanned<Labels>>,
    #[serde(default)]
    pub prefix: Option<Spanned<String>>,
    #[serde(default)]
    pub code_mode: Option<Spanned<String>>,
    #[serde(default)]
    pub record: Vec<Spanned<String>>,
    #[serde(default)]
    pub policy: Option<Spanned<gnomon_access::PolicySource>>,
    #[serde(default)]
    pub sessions: Sessions,
    #[serde(default)]
    pub max_request_bytes: Option<Spanned<u64>>,
    #[serde(default)]
    pub max_connections: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub cert: Option<String>,
    pub key: Option<String>,
    pub ca: Option<Spanned<String>>,
    pub client_ca: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    pub max: Option<Spanned<u64>>,
    pub idle_seconds: Option<Spanned<u64>>,
}

/// One name, several separated by commas, or a list of them.
#[derive(Debug)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Names;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`builtin`, `none` or a list of pack names")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Names, E> {
                Ok(Names(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// What is wrong at a place of the file.
#[derive(Debug)]
pub struct Wrong {
    pub place: Option<Location>,
    pub cause: String,
}

/// Reads the file.
///
/// # Errors
/// The first thing that is not YAML, not a known key, or of the wrong type.
pub fn read(text: &str) -> Result<File, Wrong> {
    // A file of nothing but comments is a configuration of nothing but defaults.
    if text.lines().all(|line| matches!(line.trim_start().as_bytes().first(), None | Some(b'#'))) {
        return Ok(File::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        Wrong { place: error.location(), cause: cause(error) }
    })
}
