//! The rule packs: named folders of rule files, and whether each is on without being asked for.
//!
//! Files are handed out as text; see the crate documentation for why nothing is parsed here.

use include_dir::{Dir, include_dir};

static SHADOW_MCP: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/shadow-mcp");
static EXAMPLES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/examples");
static BASELINE_CLOUDFLARE: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/baseline-cloudflare");

static PACKS: [Pack; 3] = [
    Pack { name: "shadow-mcp", enabled_by_default: Enablement::Enabled, dir: &SHADOW_MCP },
    Pack { name: "examples", enabled_by_default: Enablement::Disabled, dir: &EXAMPLES },
    Pack { name: "baseline-cloudflare", enabled_by_default: Enablement::Disabled, dir: &BASELINE_CLOUDFLARE },
];

/// Whether a pack's rules judge traffic before any configuration names the pack.
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
    /// Whether the pack is on without being asked for.
    pub enabled_by_default: Enablement,
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
