//! A request as policy sees it: always the upstream's own names, never those that a portal shows.

use serde_json::Value;
use std::fmt;

/// The kinds of things that a server offers. A tool and a prompt of the same name are two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// A tool.
    Tool,
    /// A prompt.
    Prompt,
    /// A resource, by its URI.
    Resource,
    /// A template of resources, by its URI template (RFC 6570).
    ResourceTemplate,
}

impl Capability {
    /// The word for people and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Capability::Tool => "tool",
            Capability::Prompt => "prompt",
            Capability::Resource => "resource",
            Capability::ResourceTemplate => "resource template",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A server's own hints about a tool. They are worth as much as the server is trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `annotations.readOnlyHint`.
    pub read_only: Option<bool>,
    /// `annotations.destructiveHint`.
    pub destructive: Option<bool>,
}

impl Hints {
    /// The hints as a server says them. What is said to be both read-only and destructive is destructive and not read-only: MCP gives
    /// the second no meaning then, and whoever allows what only reads does not mean it.
    #[must_use]
    pub fn said(read_only: Option<bool>, destructive: Option<bool>) -> Self {
        let read_only = if destructive == Some(true) { read_only.map(|_| false) } else { read_only };
        Self { read_only, destructive }
    }
}

/// A request to be decided on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The portal's id.
    pub portal: &'a str,
    /// The server's id.
    pub server: &'a str,
    /// The kind of capability.
    pub capability: Capability,
    /// The upstream's own name or URI.
    pub name: &'a str,
    /// The server's hints about it.
    pub hints: Hints,
    /// The arguments of the call; `None` is a call without any, and a question about a list. Read them with
    /// [`arguments`](crate::arguments), which refuses what two parsers could read in two ways.
    pub arguments: Option<&'a Value>,
}

impl<'a> Asked<'a> {
    /// A tool, without hints and arguments.
    #[must_use]
    pub const fn tool(portal: &'a str, server: &'a str, name: &'a str) -> Self {
        let hints = Hints { read_only: None, destructive: None };
        Self { portal, server, capability: Capability::Tool, name, hints, arguments: None }
    }
}
