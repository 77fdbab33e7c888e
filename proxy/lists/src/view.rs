//! What a portal shows of its servers: names, and which server each leads to.
//!
//! A name leads only where a list led: what no list shows cannot be called.

pub(crate) mod pages;

use crate::{
    identifiers::{Identifier, identifiers},
    labels::{self, Labels},
};
use bytes::Bytes;
use gnomon_codemode::{Entry as SearchEntry, Index};
use gnomon_relay::{
    held::Upstream,
    names::{Prefix, exposed_name},
    uris::{self, Audience},
};
use gnomon_upstream::{
    catalogue::{Entry, Kind, Lists, Origin},
    members::Members,
    rpc::quoted,
};
use pages::Pages;
use smol_str::SmolStr;
use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, OnceLock},
};

/// An entry as the portal shows it.
#[derive(Debug)]
pub struct Exposed {
    /// The name or URI that clients know it by.
    pub name: SmolStr,
    /// The description for scripts, JSON; its name in it may be the server's own.
    pub text: Bytes,
    /// A shorter description, where there is one.
    pub brief: Option<Bytes>,
    /// The server: an index into the portal's servers.
    pub server: usize,
    /// The server's own entry.
    pub entry: Arc<Entry>,
    /// The page of a tool, by its server's own URI.
    pub page: Option<SmolStr>,
    /// Who may see it.
    pub audience: Audience,
}

impl Exposed {
    /// The form in lists, JSON.
    #[must_use]
    pub fn listed(&self) -> Bytes {
        match (&self.entry.origin, Members::read(&self.text)) {
            // Clients hold servers to output schemas; what a document says of results is for reading.
            (Origin::Document(_), Ok(members)) => members.with(&[("name", Some(&quoted(&self.name))), ("outputSchema", None)]),
            _ => self.text.clone(),
        }
    }
}

/// Everything that a portal shows.
#[derive(Debug, Default)]
pub struct View {
    entries: [Vec<Arc<Exposed>>; 4],
    names: [HashMap<SmolStr, Arc<Exposed>>; 4],
    generations: Vec<u64>,
    pages: Pages,
    index: OnceLock<Index>,
    identifiers: OnceLock<Box<[Identifier]>>,
}

impl View {
    /// The view of these servers' lists, shown as the labels say, which go by the servers' ids.
    #[must_use]
    pub fn of(servers: &[Arc<Upstream>], prefix: Prefix, labels: &HashMap<SmolStr, Labels>) -> Self {
        let (mut view, unlabelled) = (Self::default(), Labels::default());
        for (server, upstream) in servers.iter().enumerate() {
            let lists = upstream.lists();
            view.generations.push(lists.generation);
            for kind in Kind::ALL {
                view.add(kind, server, &upstream.id, &lists, prefix, labels.get(&upstream.id).unwrap_or(&unlabelled));
            }
        }
        view.pages = Pages::of(view.all(Kind::Tool));
        view
    }

    /// The pages of tools.
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    fn add(&mut self, kind: Kind, server: usize, id: &str, lists: &Lists, prefix: Prefix, labels: &Labels) {
        for (plain, entry, label) in labels.shown(kind, id, lists.of(kind)) {
            let name = match prefix {
                Prefix::Never => plain,
                Prefix::Always => exposed_name(kind, id, &plain),
            };
            // Of what may be thousands, a text that only scripts read is not copied for the sake of its name.
            let described = label.is_some_and(|label| label.description.is_some());
            let (text, brief) = match entry.origin {
                Origin::Document(_) if !described => (entry.text.clone(), entry.brief.clone()),
                Origin::Document(_) | Origin::Server => (labels::written(kind, &name, entry, label), None),
            };
            let page = if kind == Kind::Tool { uris::page(&entry.text) } else { None };
            let text = match (prefix, &page) {
                (Prefix::Always, Some(_)) => uris::tool(id, &text).unwrap_or(text),
                (Prefix::Always, None) | (Prefix::Never, _) => text,
            };
            let audience = uris::audience(&entry.text);
            let exposed = Arc::new(Exposed { name: name.clone(), text, brief, server, entry: entry.clone(), page, audience });
            if let hash_map::Entry::Vacant(place) = self.names[kind as usize].entry(name) {
                place.insert(exposed.clone());
                self.entries[kind as usize].push(exposed);
            }
        }
    }

    /// Whether the servers' lists are still those that it was made of.
    #[must_use]
    pub fn is_current(&self, servers: &[Arc<Upstream>]) -> bool {
        self.generations.len() == servers.len()
            && self.generations.iter().zip(servers).all(|(generation, server)| *generation == server.lists().generation)
    }

    /// The names of tools as JavaScript could have them; made when they are first asked for.
    pub fn identifiers(&self) -> &[Identifier] {
        self.identifiers.get_or_init(|| identifiers(self.all(Kind::Tool).iter().map(|exposed| &exposed.name)))
    }

    /// Finds tools by words; made when it is first asked for.
    pub fn index(&self) -> &Index {
        self.index.get_or_init(|| self.index_with(std::iter::empty()))
    }

    /// An index of the tools, in their order, and of these after them: names, and descriptions as tools have them, JSON.
    pub fn index_with<'a>(&'a self, more: impl Iterator<Item = (&'a SmolStr, &'a Bytes)>) -> Index {
        let tools = self.all(Kind::Tool).iter().map(|exposed| (&exposed.name, exposed.brief.as_ref().unwrap_or(&exposed.text)));
        let entries: Vec<(&SmolStr, serde_json::Value)> =
            tools.chain(more).map(|(name, text)| (name, serde_json::from_slice(text).unwrap_or_default())).collect();
        Index::new(entries.iter().map(|(name, entry)| SearchEntry {
            name,
            description: entry["description"].as_str().unwrap_or_default(),
            input: entry.get("inputSchema"),
        }))
    }

    /// All entries of a kind, in order.
    #[must_use]
    pub fn all(&self, kind: Kind) -> &[Arc<Exposed>] {
        &self.entries[kind as usize]
    }

    /// The entry of that name.
    #[must_use]
    pub fn named(&self, kind: Kind, name: &str) -> Option<&Arc<Exposed>> {
        self.names[kind as usize].get(name)
    }
}
