//! The kinds of entries that servers list.

use gnomon_access::Capability;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Can be called.
    Tool,
    /// Can be asked for.
    Prompt,
    /// Can be read.
    Resource,
    /// Makes resources' URIs.
    Template,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Tool, Self::Prompt, Self::Resource, Self::Template];

    /// The method that lists them.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            Self::Tool => "tools/list",
            Self::Prompt => "prompts/list",
            Self::Resource => "resources/list",
            Self::Template => "resources/templates/list",
        }
    }

    /// The key of the list in its result.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource => "resources",
            Self::Template => "resourceTemplates",
        }
    }

    /// The key that names an entry.
    #[must_use]
    pub fn named_by(self) -> &'static str {
        match self {
            Self::Tool | Self::Prompt => "name",
            Self::Resource => "uri",
            Self::Template => "uriTemplate",
        }
    }

    /// The capability that a server has who has such entries.
    #[must_use]
    pub fn capability(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource | Self::Template => "resources",
        }
    }

    /// The kind in policy.
    #[must_use]
    pub fn asked(self) -> Capability {
        match self {
            Self::Tool => Capability::Tool,
            Self::Prompt => Capability::Prompt,
            Self::Resource => Capability::Resource,
            Self::Template => Capability::ResourceTemplate,
        }
    }

    /// Most bytes that are kept of one server's list.
    #[must_use]
    pub fn most_bytes(self) -> usize {
        match self {
            Self::Tool => 8 << 20,
            Self::Resource => 4 << 20,
            Self::Prompt | Self::Template => 2 << 20,
        }
    }

    /// The word for an entry of this kind.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::Template => "resource template",
        }
    }

    /// The kinds whose lists changed where a server says this.
    #[must_use]
    pub fn changed_by(method: &str) -> &'static [Self] {
        match method {
            "notifications/tools/list_changed" => &[Self::Tool],
            "notifications/prompts/list_changed" => &[Self::Prompt],
            "notifications/resources/list_changed" => &[Self::Resource, Self::Template],
            _ => &[],
        }
    }

    /// The kind that a method lists.
    #[must_use]
    pub fn listed_by(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == method)
    }
}
