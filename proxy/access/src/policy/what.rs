//! The part of an entry that says of what it speaks: portals, servers, capabilities, hints.

use super::truth::Truth;
use crate::{
    Asked, Capability, Hints,
    glob::Glob,
    uri::{self, Plain},
};

/// The longest name or URI that patterns are compared with, bytes. A longer one is ambiguous.
pub(crate) const MAX_NAME: usize = 2048;

/// The object of an entry. `None` is all of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct What {
    pub(crate) portals: Option<Vec<Glob>>,
    pub(crate) servers: Option<Vec<Glob>>,
    pub(crate) tools: Option<Vec<Glob>>,
    pub(crate) prompts: Option<Vec<Glob>>,
    pub(crate) resources: Option<Vec<Glob>>,
    pub(crate) hints: Hints,
}

/// The effect of an entry. A name that can be read in two ways counts against the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

impl Effect {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        }
    }
}

impl What {
    pub(crate) fn portal(&self, asked: &Asked<'_>) -> Truth {
        within(self.portals.as_deref(), asked.portal)
    }

    pub(crate) fn server(&self, asked: &Asked<'_>) -> Truth {
        within(self.servers.as_deref(), asked.server)
    }

    /// True if it covers everything that its servers have.
    pub(crate) fn is_all(&self) -> bool {
        self.tools.is_none() && self.prompts.is_none() && self.resources.is_none() && self.hints == Hints::default()
    }

    /// Matches the capability. Naming some kinds leaves the other kinds out, and hints exist for tools only.
    pub(crate) fn capability(&self, asked: &Asked<'_>, effect: Effect) -> Truth {
        let named = self.tools.is_some() || self.prompts.is_some() || self.resources.is_some();
        let patterns = match asked.capability {
            Capability::Tool => self.tools.as_deref(),
            Capability::Prompt => self.prompts.as_deref(),
            Capability::Resource | Capability::ResourceTemplate => self.resources.as_deref(),
        };
        let Some(patterns) = patterns else {
            let about_tools = self.hints != Hints::default();
            return Truth::of(!named && (!about_tools || asked.capability == Capability::Tool));
        };
        if patterns.iter().any(Glob::is_everything) {
            return Truth::True;
        }
        if asked.name.len() > MAX_NAME {
            return Truth::Missing;
        }
        match asked.capability {
            Capability::Tool | Capability::Prompt => Truth::of(patterns.iter().any(|glob| glob.matches(asked.name))),
            Capability::Resource => match uri::plain(asked.name) {
                Plain::Uri(uri) => Truth::of(patterns.iter().any(|glob| glob.matches(&uri))),
                Plain::Ambiguous => Truth::Missing,
            },
            // A template is only ever listed; what is read is a URI, judged then. So an allow takes what some expansion could
            // match, a deny what all do.
            Capability::ResourceTemplate => Truth::of(match effect {
                Effect::Allow => patterns.iter().any(|glob| glob.may_match_template(asked.name)),
                Effect::Deny => patterns.iter().any(|glob| glob.must_match_template(asked.name)),
            }),
        }
    }

    pub(crate) fn hints(&self, asked: &Asked<'_>) -> Truth {
        let one = |wanted: Option<bool>, found: Option<bool>| match wanted {
            None => Truth::True,
            Some(wanted) => Truth::about(found, |found| found == wanted),
        };
        one(self.hints.read_only, asked.hints.read_only).and(one(self.hints.destructive, asked.hints.destructive))
    }
}

fn within(patterns: Option<&[Glob]>, name: &str) -> Truth {
    Truth::of(patterns.is_none_or(|patterns| patterns.iter().any(|glob| glob.matches(name))))
}
