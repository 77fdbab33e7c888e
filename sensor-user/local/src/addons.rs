//! What clients load besides MCP servers: hooks, which they run by themselves, and skills and plugins, which instruct the model and bring
//! scripts along. Told is that one is there, what a hook runs, and a digest of all of it; never what stands in it.

use crate::{
    at_most::AtMost,
    launch::{Launch, launch},
    listed::{Unread, document},
};
use gnomon_packs::{AddonKind, ConfigFormat};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The most add-ons that are kept of one file or folder.
pub const MAX_ADDONS: usize = 256;
/// The longest name and reason that are kept, in bytes.
const MAX_TEXT: usize = 256;
/// How deep a file nests the commands of an event.
const MAX_DEPTH: usize = 3;

/// A hook, skill or plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addon {
    /// What it is.
    #[serde(with = "kind")]
    pub kind: AddonKind,
    /// Of a hook its event and what it is narrowed to, of the others the folder's name.
    pub name: String,
    /// SHA-256, hexadecimal: of a hook's entry, of the whole folder. Absent where it was not read.
    pub sha256: Option<String>,
    /// False where the folder is larger than what is read: of the rest, names and sizes are in the digest.
    pub whole: bool,
    /// What a hook runs; absent of one that asks a server or a model.
    pub runs: Option<Launch>,
    /// Why it was not read.
    pub unread: Option<String>,
}

pub(crate) mod kind {
    use gnomon_packs::AddonKind;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(kind: &AddonKind, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(kind.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<AddonKind, D::Error> {
        AddonKind::named(&String::deserialize(from)?).ok_or_else(|| D::Error::custom("not an add-on"))
    }
}

impl Addon {
    pub(crate) fn folder(kind: AddonKind, name: &str) -> Self {
        Self { kind, name: bounded(name), sha256: None, whole: true, runs: None, unread: None }
    }

    /// The same within the bounds that hold for what was read here: somebody else may have written it.
    pub(crate) fn within_bounds(&mut self) {
        self.name = bounded(&self.name);
        self.sha256 = self.sha256.as_deref().map(bounded);
        self.unread = self.unread.as_deref().map(bounded);
        if let Some(runs) = &mut self.runs {
            runs.within_bounds();
        }
    }
}

type Hooks = AtMost<Addon, MAX_ADDONS>;

/// Commands by event, as one text or as words (`notify` of Codex), alone or in groups that
/// narrow them (`matcher`).
fn hooks(document: &Value, key: &str) -> Hooks {
    let mut found = Hooks::new();
    match document.get(key) {
        Some(Value::Object(events)) => {
            for (event, entries) in events {
                of_event(event, entries, "", MAX_DEPTH, &mut found);
            }
        }
        Some(command) => add(key, runs(command), command, &mut found),
        None => {}
    }
    found
}

/// The hooks that stand under a key of a file, [`MAX_ADDONS`] at most.
///
/// # Errors
/// [`Unread`].
pub fn hooks_in(format: ConfigFormat, key: &str, bytes: &[u8]) -> Result<AtMost<Addon, MAX_ADDONS>, Unread> {
    document(format, bytes).map(|document| hooks(&document, key))
}

fn of_event(event: &str, entries: &Value, narrowed: &str, depth: usize, found: &mut Hooks) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let one = std::slice::from_ref(entries);
    for entry in entries.as_array().map_or(one, Vec::as_slice).iter().filter_map(Value::as_object) {
        let narrowed = entry.get("matcher").and_then(Value::as_str).filter(|text| !matches!(*text, "" | "*")).unwrap_or(narrowed);
        if let Some(within) = entry.get("hooks") {
            of_event(event, within, narrowed, depth, found);
            continue;
        }
        let name = if narrowed.is_empty() { event.to_owned() } else { format!("{event} {narrowed}") };
        let says = |keys: &[&str]| keys.iter().find_map(|key| entry.get(*key)).filter(|value| !value.is_null());
        let runs = says(&["command", "cmd", "bash"]).and_then(runs);
        // Others ask a server or a model.
        if runs.is_some() || says(&["url", "prompt", "tool"]).is_some() {
            add(&name, runs, &Value::Object(entry.clone()), found);
        }
    }
}

fn runs(command: &Value) -> Option<Launch> {
    match command {
        Value::String(line) if !line.trim().is_empty() => launch(&["sh", "-c", line]),
        Value::Array(words) => launch(&words.iter().filter_map(Value::as_str).collect::<Vec<_>>()),
        _ => None,
    }
}

fn add(name: &str, runs: Option<Launch>, entry: &Value, found: &mut Hooks) {
    if !found.has_more() && (runs.is_some() || entry.is_object()) {
        let sha256 = hex::encode(Sha256::digest(entry.to_string()));
        found.push(Addon { kind: AddonKind::Hook, name: bounded(name), sha256: Some(sha256), whole: true, runs, unread: None });
    }
}

fn bounded(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(format: ConfigFormat, key: &str, text: &str) -> Vec<(String, String)> {
        let found = hooks_in(format, key, text.as_bytes()).unwrap();
        found.into_kept().into_iter().map(|hook| (hook.name, hook.runs.map(|runs| runs.place(None)).unwrap_or_default())).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, runs)| ((*name).to_owned(), (*runs).to_owned())).collect()
    }

    #[test]
    fn each_client_s_way_of_listing_hooks_is_read() {
        let claude = r#"{"model":"x","hooks":{"PreToolUse":[{"matcher":"Bash","hooks":[{"type":"command","command":"python3 /srv/check.py --strict"},
            {"type":"command","command":"npx -y prettier@3.0.0 --check"}]}],"Stop":[{"hooks":[{"type":"command","command":"a; b"}]}]}}"#;
        assert_eq!(
            told(ConfigFormat::Json, "hooks", claude),
            pairs(&[("PreToolUse Bash", "file:/srv/check.py"), ("PreToolUse Bash", "pkg:npm/prettier"), ("Stop", "file:sh")])
        );
        let cursor = r#"{"version":1,"hooks":{"beforeShellExecution":[{"command":"./audit.sh"}]}}"#;
        assert_eq!(told(ConfigFormat::Json, "hooks", cursor), pairs(&[("beforeShellExecution", "file:./audit.sh")]));
        let codex =
            "notify = ['/usr/bin/notify-send', 'Codex']\n[[hooks.Stop]]\n[[hooks.Stop.hooks]]\ntype = 'command'\ncommand = 'uvx speak'\n";
        assert_eq!(told(ConfigFormat::Toml, "notify", codex), pairs(&[("notify", "file:/usr/bin/notify-send")]));
        assert_eq!(told(ConfigFormat::Toml, "hooks", codex), pairs(&[("Stop", "pkg:pypi/speak")]));
        let asks = r#"{"hooks":{"Stop":[{"hooks":[{"type":"prompt","prompt":"Is it done?"}]}]}}"#;
        assert_eq!(told(ConfigFormat::Json, "hooks", asks), pairs(&[("Stop", "")]));
        for none in [r#"{}"#, r#"{"hooks":{}}"#, r#"{"hooks":5}"#, r#"{"hooks":{"Stop":[{"hooks":[{"type":"command"}]}]}}"#, "[1]"] {
            assert!(told(ConfigFormat::Json, "hooks", none).is_empty(), "{none}");
        }
    }

    #[test]
    fn another_command_option_or_timeout_is_another_digest_and_no_command_is_kept() {
        let of = |command: &str, timeout: u32| {
            let text = format!(r#"{{"hooks":{{"Stop":[{{"hooks":[{{"command":"{command}","timeout":{timeout}}}]}}]}}}}"#);
            let found = hooks_in(ConfigFormat::Json, "hooks", text.as_bytes()).unwrap();
            assert!(!serde_json::to_string(&found[..]).unwrap().contains("hunter2"), "{found:?}");
            found[0].sha256.clone().unwrap()
        };
        let first = of("curl -H token:hunter2 https://h/x", 5);
        assert_eq!(first, of("curl -H token:hunter2 https://h/x", 5));
        assert_ne!(first, of("curl -H token:hunter2 https://h/y", 5));
        assert_ne!(first, of("curl -H token:hunter2 https://h/x", 6));
    }

    #[test]
    fn a_file_of_many_hooks_or_deep_groups_is_bounded() {
        let many: Vec<String> = (0..2000).map(|n| format!(r#"{{"command":"x{n}"}}"#)).collect();
        let text = format!(r#"{{"hooks":{{"Stop":[{}]}}}}"#, many.join(","));
        let found = hooks_in(ConfigFormat::Json, "hooks", text.as_bytes()).unwrap();
        assert_eq!((found.len(), found.has_more()), (MAX_ADDONS, true));
        let deep = format!(r#"{{"hooks":{{"Stop":{}{{"command":"x"}}{}}}}}"#, r#"[{"hooks":"#.repeat(100), "}]".repeat(100));
        assert!(told(ConfigFormat::Json, "hooks", &deep).is_empty());
    }
}
