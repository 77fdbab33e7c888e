//! A rule's metadata: name, level, origin, and its response to a match.

use gnomon_observe::{Action, Class, FieldRef, Level, Phase};
use smol_str::SmolStr;
use std::fmt;

/// The author of a rule, which decides precedence when rules disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Shipped with the product.
    Vendor,
    /// The administrator of this installation wrote it.
    Admin,
}

/// The text of one rule file: one or more YAML documents.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's path, as errors should name it.
    pub name: String,
    /// Its content.
    pub text: String,
    /// The author.
    pub origin: Origin,
}

/// A rule's place in its [`RuleSet`](crate::RuleSet). It says nothing about another set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIndex(pub(crate) u16);

impl RuleIndex {
    /// The place in [`RuleSet::rules`](crate::RuleSet::rules).
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for RuleIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The manner in which an action is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The usual way; of a redirect: the message is refused in the protocol's own words, which name
    /// the place to go to.
    #[default]
    Explain,
    /// HTTP 307 with a `Location`.
    Location,
    /// For `allow`: the connection is passed on unread. Decided at the ClientHello at the latest.
    Bypass,
}

/// Enforced, or in shadow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// Verdicts are carried out.
    #[default]
    Enforce,
    /// The traffic passes, and the action that would have been taken is recorded (`gnomon.would`).
    Shadow,
}

/// The response to a match: `gnomon.response`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The action.
    pub action: Action,
    /// The manner of a redirect or of an allow.
    pub mode: Mode,
    /// The target of a redirect: the name of a portal or an http(s) URL. Always a URL with [`Mode::Location`].
    pub to: Option<SmolStr>,
    /// The line of text for the client.
    pub message: Option<SmolStr>,
}

impl Default for Response {
    /// Write it down and let it pass.
    fn default() -> Self {
        Self { action: Action::Log, mode: Mode::default(), to: None, message: None }
    }
}

/// A loaded rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its UUID, lower case, unique in the set.
    pub id: SmolStr,
    /// A short name, by which filters and overrides may call it.
    pub name: Option<SmolStr>,
    /// Its title.
    pub title: SmolStr,
    /// Its maturity: stable, test, experimental, deprecated or unsupported.
    pub status: Option<SmolStr>,
    /// Its description: what it looks for, and why.
    pub description: Option<SmolStr>,
    /// References, mostly URLs.
    pub references: Vec<SmolStr>,
    /// What matches it and is usually no finding (Sigma's `falsepositives`).
    pub false_positives: Vec<SmolStr>,
    /// Sigma tags such as `attack.t1102`.
    pub tags: Vec<SmolStr>,
    /// The severity of a match; `medium` when the rule does not say.
    pub level: Level,
    /// The class of a match; `mcp` when the rule does not say.
    pub class: Class,
    /// The author.
    pub origin: Origin,
    /// The response to a match.
    pub response: Response,
    /// Enforced, or in shadow.
    pub enforcement: Enforcement,
    /// The phase at which all its fields and those of its filters are final.
    pub phase: Phase,
    /// The fields it names, each once, in the order of first mention; those of filters not.
    pub fields: Vec<FieldRef>,
    /// Its categories of the OWASP MCP Top 10.
    pub owasp: Vec<SmolStr>,
    /// Its techniques of MITRE ATLAS.
    pub atlas: Vec<SmolStr>,
    /// The filters that narrow it, as places in [`RuleSet::filters`](crate::RuleSet::filters).
    pub filters: Vec<usize>,
    /// The administrator's override of it.
    pub change: Option<Change>,
    /// The file it was read from.
    pub file: SmolStr,
    /// The line of the file on which it begins, from 1.
    pub line: u32,
}

impl Rule {
    /// True if the rule itself names this field; its filters do not count.
    #[must_use]
    pub fn names(&self, field: gnomon_observe::Field) -> bool {
        self.fields.contains(&FieldRef::Field(field))
    }

    /// The effect of a match on the bytes: the rule's action, or in shadow no more than a note. An `allow` in shadow exempts no call.
    #[must_use]
    pub fn acts(&self) -> Action {
        match self.enforcement {
            Enforcement::Enforce => self.response.action,
            Enforcement::Shadow => Action::Log,
        }
    }
}

/// An administrator's change to a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its own level.
    pub level: Level,
    /// Its own action.
    pub action: Action,
    /// Why it was changed.
    pub reason: SmolStr,
    /// The file of the override.
    pub file: SmolStr,
    /// The line, from 1.
    pub line: u32,
}

/// Active or disabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// The rule is judged.
    #[default]
    Active,
    /// The rule is loaded, so that its errors are reported, but not judged.
    Disabled,
}
