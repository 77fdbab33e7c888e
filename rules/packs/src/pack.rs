//! The rule packs: named folders of rule files, and whether each is on without being asked for.
//!
//! Files are handed out as text; see the crate documentation for why nothing is parsed here.

use include_dir::{Dir, include_dir};

static SHADOW_MCP: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/shadow-mcp");
static DETECTIONS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/detections");
static USER_AGENTS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/user-agents");
static LOCAL_SERVERS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/local-servers");
static LLM_DIRECT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/llm-direct");
static EXAMPLES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/examples");
static BASELINE_CLOUDFLARE: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/baseline-cloudflare");

static PACKS: [Pack; 7] = [
    Pack { name: "shadow-mcp", enabled_by_default: Enablement::Enabled, dir: &SHADOW_MCP, finds: None },
    Pack {
        name: "detections",
        enabled_by_default: Enablement::Disabled,
        dir: &DETECTIONS,
        finds: Some("hostile or secret contents of calls and answers"),
    },
    Pack { name: "user-agents", enabled_by_default: Enablement::Enabled, dir: &USER_AGENTS, finds: None },
    Pack { name: "local-servers", enabled_by_default: Enablement::Enabled, dir: &LOCAL_SERVERS, finds: None },
    Pack {
        name: "llm-direct",
        enabled_by_default: Enablement::Disabled,
        dir: &LLM_DIRECT,
        finds: Some("who asks models of vendors directly"),
    },
    Pack { name: "examples", enabled_by_default: Enablement::Disabled, dir: &EXAMPLES, finds: None },
    Pack { name: "baseline-cloudflare", enabled_by_default: Enablement::Disabled, dir: &BASELINE_CLOUDFLARE, finds: None },
];

/// The state of a pack that no configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enablement {
    /// Loaded unless configuration turns it off.
    Enabled,
    /// Loaded only where configuration turns it on.
    Disabled,
}

/// A named folder of rule files.
#[derive(Debug)]
pub struct Pack {
    /// Folder name, and the name configuration uses.
    pub name: &'static str,
    /// Its state without any configuration.
    pub enabled_by_default: Enablement,
    /// What it finds, of a pack that is off by default and worth turning on.
    pub finds: Option<&'static str>,
    dir: &'static Dir<'static>,
}

impl Pack {
    /// The rule files as `(path, text)`, sorted by path.
    ///
    /// The path starts with the pack's name (`shadow-mcp/shadow_mcp_host.yml`), so an error that
    /// quotes it says where to look. Files that do not end in `.yml` are left out.
    pub fn files(&self) -> impl Iterator<Item = (String, &'static str)> + '_ {
        let mut files: Vec<_> = self
            .dir
            .files()
            .filter(|file| file.path().extension().is_some_and(|ext| ext == "yml"))
            .filter_map(|file| {
                let path = format!("{}/{}", self.name, file.path().display());
                Some((path, file.contents_utf8()?))
            })
            .collect();
        files.sort_unstable();
        files.into_iter()
    }
}

/// All packs that ship, enabled or not.
#[must_use]
pub fn packs() -> &'static [Pack] {
    &PACKS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn rules() -> Vec<(String, &'static str)> {
        packs().iter().flat_map(Pack::files).collect()
    }

    fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }

    #[test]
    fn what_finds_shadow_use_clients_that_are_no_agents_and_local_servers_is_on_without_being_asked_for() {
        let on = packs().iter().filter(|pack| pack.enabled_by_default == Enablement::Enabled);
        assert_eq!(on.map(|pack| pack.name).collect::<Vec<_>>(), ["shadow-mcp", "user-agents", "local-servers"]);
    }

    /// What people are told of (docs/privacy.md): whose connections become records, and what no event has.
    #[test]
    fn no_rule_that_is_on_by_default_names_a_program_or_a_person_and_none_that_ships_a_header_with_arguments() {
        for pack in packs() {
            for (path, text) in pack.files() {
                let detection = text.split_once("\ndetection:\n").unwrap().1.lines().take_while(|line| line.starts_with(' '));
                let names = |prefix: &str| detection.clone().any(|line| line.trim_start_matches([' ', '-', '\'']).starts_with(prefix));
                assert!(!names("http.request.header.mcp-param"), "{path}");
                let of_people = ["process.", "user.", "container.", "k8s."].into_iter().find(|prefix| names(prefix));
                assert!(pack.enabled_by_default == Enablement::Disabled || of_people.is_none(), "{path}: {of_people:?}");
            }
        }
    }

    #[test]
    fn every_rule_file_on_disk_is_embedded() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut on_disk = Vec::new();
        for folder in std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
            let Ok(files) = std::fs::read_dir(&folder) else { continue };
            for file in files.map(|entry| entry.unwrap().path()) {
                if file.extension().is_some_and(|ext| ext == "yml") {
                    on_disk.push(file.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        on_disk.sort();
        let mut embedded: Vec<_> = rules().into_iter().map(|(path, _)| path).collect();
        embedded.sort();
        assert_eq!(on_disk, embedded);
        assert_eq!(embedded.len(), 108);
    }

    #[test]
    fn rule_files_are_named_as_sigma_asks_and_carry_their_own_proof() {
        for (path, text) in rules() {
            let name = path.rsplit('/').next().unwrap();
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            let stem = name.strip_suffix(".yml").unwrap();
            assert!((10..=70).contains(&name.len()) && stem.chars().all(plain), "{path}");
            assert!(text.contains("\n    product: mcp\n    category: mcp_traffic\n"), "{path}");
            assert_eq!(text.matches("\ngnomon:\n").count(), 1, "{path}");
            assert!(text.matches("expect: match\n").count() >= 1, "{path}");
            assert!(text.matches("expect: no_match\n").count() >= 2, "{path}");
        }
    }

    /// Each technique of ATLAS 5.6 that a rule names: its name there was compared with what the rule looks for.
    const TECHNIQUES: [&str; 18] = [
        "AML.T0010.005", // AI Supply Chain Compromise: AI Agent Tool
        "AML.T0011.002", // User Execution: Poisoned AI Agent Tool
        "AML.T0034.002", // Cost Harvesting: Agentic Resource Consumption
        "AML.T0051",     // LLM Prompt Injection
        "AML.T0051.001", // LLM Prompt Injection: Indirect
        "AML.T0053",     // AI Agent Tool Invocation
        "AML.T0068",     // LLM Prompt Obfuscation
        "AML.T0072",     // Reverse Shell
        "AML.T0081",     // Modify AI Agent Configuration
        "AML.T0083",     // Credentials from AI Agent Configuration
        "AML.T0084",     // Discover AI Agent Configuration
        "AML.T0084.001", // Discover AI Agent Configuration: Tool Definitions
        "AML.T0086",     // Exfiltration via AI Agent Tool Invocation
        "AML.T0098",     // AI Agent Tool Credential Harvesting
        "AML.T0101",     // Data Destruction via AI Agent Tool Invocation
        "AML.T0105",     // Escape to Host
        "AML.T0109",     // AI Supply Chain Rug Pull
        "AML.T0110",     // AI Agent Tool Poisoning
    ];

    #[test]
    fn each_shipped_detection_names_its_risks_and_its_techniques_or_why_none_fits() {
        let mut named = HashSet::new();
        for (path, text) in rules() {
            if ["examples/", "baseline-cloudflare/"].iter().any(|pack| path.starts_with(pack)) {
                continue;
            }
            assert_eq!(text.matches("\n    owasp: [MCP").count(), 1, "{path}");
            let without = text.matches("\n    # atlas: none fits. ").count();
            let techniques = text.lines().filter_map(|line| line.strip_prefix("    atlas: [")?.strip_suffix(']')).collect::<Vec<_>>();
            assert_eq!(techniques.len() + without, 1, "{path}");
            for technique in techniques.iter().copied().flat_map(|list| list.split(", ")) {
                assert!(TECHNIQUES.contains(&technique), "{path}: {technique}");
                named.insert(technique);
            }
        }
        assert_eq!(named.len(), TECHNIQUES.len(), "{named:?}");
    }

    #[test]
    fn rule_ids_are_random_uuids_and_no_title_stands_twice() {
        let (mut ids, mut titles) = (HashSet::new(), HashSet::new());
        for (path, text) in rules() {
            let id = field(text, "id").unwrap();
            assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "{path}: {id}");
            assert!(ids.insert(id), "{path}: {id}");
            assert!(titles.insert(field(text, "title").unwrap()), "{path}");
        }
    }

    #[test]
    fn rules_that_are_on_by_default_only_log() {
        for pack in packs().iter().filter(|pack| pack.enabled_by_default == Enablement::Enabled) {
            for (path, text) in pack.files() {
                assert!(!text.contains("\n    response:"), "{path} does more than log");
            }
        }
    }
}
