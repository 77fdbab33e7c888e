//! Policy as it is written: every value with its place, nothing checked but types and key names. A configuration embeds
//! [`PolicySource`] under its own key.

use serde::Deserialize;
use serde_saphyr::Spanned;
use std::fmt::Write;

/// Texts with their places.
pub(crate) type Texts = Option<Spanned<Vec<Spanned<String>>>>;

/// The entries of a policy, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct PolicySource(pub(crate) Vec<Spanned<Entry>>);

impl PolicySource {
    /// True if no entry is written: no caller may do anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Entry {
    pub(crate) allow: Option<Spanned<Clause>>,
    pub(crate) deny: Option<Spanned<Clause>>,
}

/// The conditions of an entry. Each key that is given must hold; of a list one suffices.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Clause {
    pub(crate) portals: Texts,
    pub(crate) servers: Texts,
    pub(crate) tools: Texts,
    pub(crate) prompts: Texts,
    pub(crate) resources: Texts,
    pub(crate) hints: Option<Spanned<HintsSource>>,
    pub(crate) users: Texts,
    pub(crate) groups: Texts,
    pub(crate) domains: Texts,
    pub(crate) clients: Texts,
    pub(crate) scopes: Texts,
    pub(crate) acr: Texts,
    pub(crate) amr: Texts,
    pub(crate) methods: Texts,
    pub(crate) networks: Texts,
    pub(crate) countries: Texts,
    pub(crate) device: Option<Spanned<DeviceSource>>,
    pub(crate) process: Option<Spanned<ProcessSource>>,
    pub(crate) when: Option<Spanned<String>>,
    pub(crate) reason: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HintsSource {
    pub(crate) read_only: Option<bool>,
    pub(crate) destructive: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DeviceSource {
    pub(crate) certificate: Option<Spanned<String>>,
    pub(crate) sha256: Texts,
    pub(crate) subject: Texts,
    pub(crate) san: Texts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProcessSource {
    pub(crate) executable: Texts,
    pub(crate) sha256: Texts,
    pub(crate) user: Texts,
    pub(crate) cgroup: Texts,
    pub(crate) unit: Texts,
}

/// The longest text of an entry in events and explanations, characters.
const MAX_TEXT: usize = 240;

impl Clause {
    /// The entry in one line of YAML.
    pub(crate) fn text(&self, effect: &str) -> String {
        let mut line = String::new();
        let lists = [
            ("portals", &self.portals),
            ("servers", &self.servers),
            ("tools", &self.tools),
            ("prompts", &self.prompts),
            ("resources", &self.resources),
        ];
        lists.iter().for_each(|(key, texts)| list(&mut line, key, texts));
        if let Some(hints) = &self.hints {
            let mut inner = String::new();
            let words = [("read_only", hints.value.read_only), ("destructive", hints.value.destructive)];
            words
                .iter()
                .filter_map(|(key, word)| word.map(|word| (key, word)))
                .for_each(|(key, word)| pair(&mut inner, key, &word.to_string()));
            pair(&mut line, "hints", &format!("{{ {inner} }}"));
        }
        let lists = [
            ("users", &self.users),
            ("groups", &self.groups),
            ("domains", &self.domains),
            ("clients", &self.clients),
            ("scopes", &self.scopes),
            ("acr", &self.acr),
            ("amr", &self.amr),
            ("methods", &self.methods),
            ("networks", &self.networks),
            ("countries", &self.countries),
        ];
        lists.iter().for_each(|(key, texts)| list(&mut line, key, texts));
        if let Some(device) = &self.device {
            let mut inner = String::new();
            if let Some(word) = &device.value.certificate {
                pair(&mut inner, "certificate", &word.value);
            }
            let lists = [("sha256", &device.value.sha256), ("subject", &device.value.subject), ("san", &device.value.san)];
            lists.iter().for_each(|(key, texts)| list(&mut inner, key, texts));
            pair(&mut line, "device", &format!("{{ {inner} }}"));
        }
        if let Some(process) = &self.process {
            let mut inner = String::new();
            let process = &process.value;
            let lists = [
                ("executable", &process.executable),
                ("sha256", &process.sha256),
                ("user", &process.user),
                ("cgroup", &process.cgroup),
                ("unit", &process.unit),
            ];
            lists.iter().for_each(|(key, texts)| list(&mut inner, key, texts));
            pair(&mut line, "process", &format!("{{ {inner} }}"));
        }
        if let Some(when) = &self.when {
            pair(&mut line, "when", &quoted(&when.value));
        }
        let text = format!("{effect}: {{ {line} }}");
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

/// An entry's text as it stands in events and explanations.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn pair(line: &mut String, key: &str, value: &str) {
    let comma = if line.is_empty() { "" } else { ", " };
    let _ = write!(line, "{comma}{key}: {value}");
}

fn list(line: &mut String, key: &str, texts: &Texts) {
    if let Some(texts) = texts {
        let texts: Vec<String> = texts.value.iter().map(|text| quoted(&text.value)).collect();
        pair(line, key, &format!("[{}]", texts.join(", ")));
    }
}

/// A YAML scalar: plain where that is plainly a text.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '/'));
    if plain { text.to_owned() } else { crate::yaml::quoted(text) }
}
