//! The names that a portal shows, and the server that each leads to.
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
    sync::{Arc, OnceLock, Weak},
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
    /// The id of the server.
    pub server: SmolStr,
    /// The place of the server among those of the view.
    pub(crate) place: usize,
    /// The server's own entry.
    pub entry: Arc<Entry>,
    /// The page of a tool, by its server's own URI.
    pub page: Option<SmolStr>,
    /// The audience that may see it.
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
#[derive(Default)]
pub struct View {
    entries: [Vec<Arc<Exposed>>; 4],
    names: [HashMap<SmolStr, Arc<Exposed>>; 4],
    /// The servers that it is of, and which of their lists. Weak: a view keeps no server that is no longer offered.
    servers: Vec<(Weak<Upstream>, u64)>,
    labels: Weak<HashMap<SmolStr, Labels>>,
    pages: Pages,
    index: OnceLock<Index>,
    identifiers: OnceLock<Box<[Identifier]>>,
}

impl View {
    /// The view of these servers' lists, shown as the labels say, which go by the servers' ids.
    #[must_use]
    pub fn of(servers: &[Arc<Upstream>], prefix: Prefix, labels: &Arc<HashMap<SmolStr, Labels>>) -> Self {
        let (mut view, unlabelled) = (Self { labels: Arc::downgrade(labels), ..Self::default() }, Labels::default());
        for (place, upstream) in servers.iter().enumerate() {
            let lists = upstream.lists();
            view.servers.push((Arc::downgrade(upstream), lists.generation));
            for kind in Kind::ALL {
                view.add(kind, (place, &upstream.id), &lists, prefix, labels.get(&upstream.id).unwrap_or(&unlabelled));
            }
        }
        view.pages = Pages::of(view.all(Kind::Tool));
        view
    }

    /// The pages of tools.
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    fn add(&mut self, kind: Kind, (place, id): (usize, &SmolStr), lists: &Lists, prefix: Prefix, labels: &Labels) {
        for (plain, entry, label) in labels.shown(kind, id, lists.of(kind)) {
            let name = match prefix {
                Prefix::Never => plain,
                Prefix::Always => exposed_name(kind, id, &plain),
            };
            // Of possibly thousands of entries, a text that only scripts read is not copied just for its name.
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
            let (server, known) = (id.clone(), name.clone());
            let exposed = Arc::new(Exposed { name: known, text, brief, server, place, entry: entry.clone(), page, audience });
            if let hash_map::Entry::Vacant(free) = self.names[kind as usize].entry(name) {
                free.insert(exposed.clone());
                self.entries[kind as usize].push(exposed);
            }
        }
    }

    /// True if the servers, their lists and the labels are those that it was made of.
    #[must_use]
    pub fn is_current(&self, servers: &[Arc<Upstream>], labels: &Arc<HashMap<SmolStr, Labels>>) -> bool {
        let is = |((known, generation), server): (&(Weak<Upstream>, u64), &Arc<Upstream>)| {
            std::ptr::eq(known.as_ptr(), Arc::as_ptr(server)) && *generation == server.lists().generation
        };
        std::ptr::eq(self.labels.as_ptr(), Arc::as_ptr(labels))
            && self.servers.len() == servers.len()
            && self.servers.iter().zip(servers).all(is)
    }

    /// The server of an entry, unless it is no longer there.
    #[must_use]
    pub fn upstream(&self, exposed: &Exposed) -> Option<Arc<Upstream>> {
        self.servers.get(exposed.place)?.0.upgrade()
    }

    /// The number of servers it is of.
    pub(crate) fn width(&self) -> usize {
        self.servers.len()
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
