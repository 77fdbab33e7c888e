//! The pages of tools (`ui://`), by the tools that name them.

use super::Exposed;
use smol_str::{SmolStr, ToSmolStr};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The tools that have pages, and what their pages may call.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    /// By the id of the server, and the page's own URI.
    pub tools: HashMap<(SmolStr, SmolStr), Vec<Arc<Exposed>>>,
    /// By the servers' own names: of servers that have pages.
    called: HashMap<SmolStr, Vec<Arc<Exposed>>>,
    servers: HashSet<SmolStr>,
}

impl Pages {
    /// The pages of these tools.
    pub fn of(all: &[Arc<Exposed>]) -> Self {
        let mut pages = Self::default();
        for exposed in all {
            if let Some(page) = exposed.page.as_deref().and_then(plain) {
                pages.tools.entry((exposed.server.clone(), page)).or_default().push(exposed.clone());
                pages.servers.insert(exposed.server.clone());
            }
        }
        for exposed in all {
            if exposed.audience.pages && pages.has_any(&exposed.server) {
                pages.called.entry(exposed.entry.name.clone()).or_default().push(exposed.clone());
            }
        }
        pages
    }

    pub fn has_any(&self, server: &str) -> bool {
        self.servers.contains(server)
    }

    /// The tools that a page may mean by this name, which is its server's own.
    pub fn may_call(&self, name: &str) -> &[Arc<Exposed>] {
        self.called.get(name).map_or(&[], Vec::as_slice)
    }
}

/// A page's URI as it is compared with others, without what servers read past; none where it could be read as another.
pub(crate) fn plain(uri: &str) -> Option<SmolStr> {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = path.split_once("://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let is_odd = |part: &str| part.is_empty() || matches!(part, "." | "..") || part.contains(['%', '\\']);
    if rest.split('/').any(is_odd) || rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return None;
    }
    let (host, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Some(format!("{}://{}{below}", scheme.to_ascii_lowercase(), host.to_ascii_lowercase()).to_smolstr())
}

/// Whether a URI is that of a page.
pub(crate) fn is_page(uri: &str) -> bool {
    uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("ui://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_however_its_uri_is_written_or_not_at_all() {
        for uri in ["ui://w/D", "UI://W/D", "ui://w/D/", "ui://w/D?x=1", "ui://w/D#y"] {
            assert_eq!(plain(uri).as_deref(), Some("ui://w/D"), "{uri}");
        }
        for uri in ["ui://w/%44", "ui://w/x/../D", "ui://w//D", "ui://w\\D", "ui://w/D ", "ui:w"] {
            assert_eq!(plain(uri), None, "{uri}");
        }
    }
}
