//! The catalogue of hosts: MCP servers, model APIs, and their vendors.
//!
//! A name matches exactly, or through a `*` that stands for whole labels; never by substring, so
//! `mcp.corp.example.evil.example` is not `mcp.corp.example`. Lookups hash the name once per label
//! and allocate nothing. Names are compared as ASCII without regard to case: internationalised
//! names must be given in their `xn--` form (RFC 5890), which is what TLS and HTTP carry.

use std::collections::HashMap;

use crate::csv::{self, CatalogueError, Row};

/// Longest host name in bytes, without the trailing dot (RFC 1035 section 2.3.4).
pub const MAX_HOST_BYTES: usize = 253;

const SHIPPED: &str = include_str!("../catalogue/mcp_hosts.csv");

/// The class of a host. The text form is the value of `gnomon.server.catalogue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostClass {
    /// `mcp`: the host is there to serve MCP.
    Mcp,
    /// `mcp-path`: serves MCP under a path and other things besides; the host alone says little.
    McpPath,
    /// `llm-api`: a model's programming interface.
    LlmApi,
    /// `llm-chat`: a model's chat portal for people.
    LlmChat,
    /// `registry`: a directory of MCP servers.
    Registry,
    /// `ignore`: an administrator's word that a shipped entry is not to be used.
    Ignore,
}

impl HostClass {
    /// The text form used in CSV and in `gnomon.server.catalogue`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::McpPath => "mcp-path",
            Self::LlmApi => "llm-api",
            Self::LlmChat => "llm-chat",
            Self::Registry => "registry",
            Self::Ignore => "ignore",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Mcp, Self::McpPath, Self::LlmApi, Self::LlmChat, Self::Registry, Self::Ignore].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One row of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// The class of the host.
    pub kind: HostClass,
    /// The operator; may be empty.
    pub vendor: Box<str>,
    /// The path of the service on the host; `/` when not known or everywhere.
    pub path: Box<str>,
    /// Public document the row comes from; may be empty in an administrator's file.
    pub source: Box<str>,
}

/// Known hosts, parsed once and then only read.
#[derive(Debug, Clone, Default)]
pub struct HostCatalogue {
    /// Rows by host pattern as written: `mcp.example.com` or `*.example.com`.
    ///
    /// Rows of one host are sorted so that the first answers for the host as a whole.
    by_host: HashMap<Box<str>, Vec<HostEntry>>,
    /// `prefix.*.suffix` patterns, by suffix. The star is exactly one label.
    by_suffix: HashMap<Box<str>, Vec<OneLabel>>,
}

/// The text before the star of a `prefix.*.suffix` pattern, and the pattern's rows.
type OneLabel = (Box<str>, Vec<HostEntry>);

// === impl HostCatalogue ===

impl HostCatalogue {
    /// The catalogue that ships with gnomon.
    ///
    /// # Errors
    /// None in a build whose tests passed; the file is compiled in.
    pub fn shipped() -> Result<Self, CatalogueError> {
        Self::from_csv(SHIPPED)
    }

    /// Reads a catalogue: columns `host` and `kind`, and optionally `path`, `vendor`, `sources`.
    ///
    /// A host is a name (`mcp.example.com`), `*.` and a name (any label or labels below it, not
    /// the name itself), or a name with one `*` as a whole label in the middle (exactly one label).
    ///
    /// # Errors
    /// The first line that breaks the format, a bound or a column's values.
    pub fn from_csv(text: &str) -> Result<Self, CatalogueError> {
        let mut catalogue = Self::default();
        for row in csv::rows(text, &["host", "kind"], &["path", "vendor", "sources"])? {
            let (pattern, entry) = parse_row(&row)?;
            catalogue.entries_mut(&pattern).push(entry);
        }
        catalogue.sort();
        Ok(catalogue)
    }

    /// This catalogue with `overrides` on top: where both name the same host (as written), only
    /// the rows of `overrides` remain.
    #[must_use]
    pub fn merge(mut self, overrides: Self) -> Self {
        self.by_host.extend(overrides.by_host);
        for (suffix, patterns) in overrides.by_suffix {
            let own = self.by_suffix.entry(suffix).or_default();
            for (prefix, entries) in patterns {
                own.retain(|(known, _)| *known != prefix);
                own.push((prefix, entries));
            }
        }
        self
    }

    /// The row for a host as a whole.
    ///
    /// `host` may carry a port, a trailing dot and upper-case letters. The exact name goes before
    /// wildcards, and a longer wildcard before a shorter one. Where a host has several rows, one
    /// that speaks for the whole host goes before `mcp-path`.
    #[must_use]
    pub fn lookup(&self, host: &str) -> Option<&HostEntry> {
        answer(self.find(host)?.first())
    }

    /// The row for a path on a host: the one with the longest path that `path` lies on or below, at a segment border, else that of
    /// [`lookup`](Self::lookup).
    #[must_use]
    pub fn lookup_at(&self, host: &str, path: &str) -> Option<&HostEntry> {
        let entries = self.find(host)?;
        let below = entries.iter().filter(|entry| lies_below(path, &entry.path));
        answer(below.max_by_key(|entry| entry.path.len()).or(entries.first()))
    }

    /// Number of host patterns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_host.len() + self.by_suffix.values().map(Vec::len).sum::<usize>()
    }

    /// True if the catalogue has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, host: &str) -> Option<&[HostEntry]> {
        // Room for `*.` in front, so that a wildcard's key is a slice of the same buffer.
        let mut buffer = [0_u8; MAX_HOST_BYTES + 2];
        let name = bare_name(host);
        if name.is_empty() || name.len() > MAX_HOST_BYTES {
            return None;
        }
        let lower = &mut buffer[2..2 + name.len()];
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        let end = 2 + name.len();

        let exact = std::str::from_utf8(&buffer[2..end]).ok()?;
        if let Some(entries) = self.by_host.get(exact) {
            return Some(entries);
        }
        let mut border = 2;
        while let Some(label) = buffer[border..end].iter().position(|&byte| byte == b'.') {
            if label == 0 {
                return None; // An empty label: not a name.
            }
            // The suffix begins after this dot; what stands before it is the star's label or labels.
            let dot = border + label;
            let suffix = std::str::from_utf8(&buffer[dot + 1..end]).ok()?;
            let head = std::str::from_utf8(&buffer[2..dot]).ok()?;
            if let Some(entries) = self.one_label(head, suffix) {
                return Some(entries);
            }
            border = dot + 1;
            // Write the star over the byte before the dot for the length of one hash lookup.
            let kept = buffer[dot - 1];
            buffer[dot - 1] = b'*';
            let found = std::str::from_utf8(&buffer[dot - 1..end]).ok().and_then(|key| self.by_host.get(key));
            buffer[dot - 1] = kept;
            if let Some(entries) = found {
                return Some(entries);
            }
        }
        None
    }

    /// `prefix.*.suffix`, where `head` is everything before `.suffix`.
    fn one_label(&self, head: &str, suffix: &str) -> Option<&[HostEntry]> {
        let patterns = self.by_suffix.get(suffix)?;
        let (prefix, _label) = head.rsplit_once('.')?;
        let (_, entries) = patterns.iter().find(|(known, _)| **known == *prefix)?;
        Some(entries)
    }

    fn entries_mut(&mut self, pattern: &str) -> &mut Vec<HostEntry> {
        let Some((prefix, suffix)) = pattern.split_once(".*.") else {
            return self.by_host.entry(pattern.into()).or_default();
        };
        let patterns = self.by_suffix.entry(suffix.into()).or_default();
        let index = patterns.iter().position(|(known, _)| **known == *prefix).unwrap_or_else(|| {
            patterns.push((prefix.into(), Vec::new()));
            patterns.len() - 1
        });
        &mut patterns[index].1
    }

    fn sort(&mut self) {
        let one_label = self.by_suffix.values_mut().flatten().map(|(_, entries)| entries);
        for entries in self.by_host.values_mut().chain(one_label) {
            entries.sort_by_key(|entry| (entry.kind == HostClass::McpPath, entry.path.len()));
        }
    }
}

fn answer(entry: Option<&HostEntry>) -> Option<&HostEntry> {
    entry.filter(|entry| entry.kind != HostClass::Ignore)
}

fn lies_below(path: &str, root: &str) -> bool {
    let root = root.trim_end_matches('/');
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

/// The name without port, trailing dot or the brackets of an IPv6 literal.
fn bare_name(host: &str) -> &str {
    if let Some(literal) = host.strip_prefix('[') {
        return literal.split_once(']').map_or("", |(address, _)| address);
    }
    let name = match host.split_once(':') {
        // Two colons or more without brackets: an IPv6 address, which has no port here.
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn parse_row(row: &Row) -> Result<(String, HostEntry), CatalogueError> {
    let host = row.get(0).trim_end_matches('.').to_ascii_lowercase();
    if !is_pattern(&host) {
        let expected = "a host name, optionally with `*` as its first label or as one label within";
        return Err(row.refuse("host", row.get(0), expected));
    }
    let kind = HostClass::parse(row.get(1))
        .ok_or_else(|| row.refuse("kind", row.get(1), "mcp, mcp-path, llm-api, llm-chat, registry or ignore"))?;
    let path = if row.get(2).is_empty() { "/" } else { row.get(2) };
    if !path.starts_with('/') {
        return Err(row.refuse("path", path, "a path that begins with /"));
    }
    let (path, vendor, source) = (path.into(), row.get(3).into(), row.get(4).into());
    Ok((host, HostEntry { kind, vendor, path, source }))
}

/// A name, a literal address, `*.name` or `name.*.name`. A star needs a name of two labels after
/// it (one after a leading star would claim a whole top-level domain).
fn is_pattern(host: &str) -> bool {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let is_name = |name: &str| name.split('.').all(is_label);
    let tail = match host.strip_prefix("*.").or_else(|| host.split_once(".*.").map(|(_, tail)| tail)) {
        Some(tail) if tail.contains('.') => tail,
        Some(_) => return false,
        None => return host.len() <= MAX_HOST_BYTES && is_name(host),
    };
    let head = host.strip_suffix(tail).and_then(|head| head.strip_suffix("*.")).unwrap_or(host);
    host.len() <= MAX_HOST_BYTES && is_name(tail) && (head.is_empty() || head.strip_suffix('.').is_some_and(is_name))
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(allowed)
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;
