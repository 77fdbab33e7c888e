//! The small closed vocabularies of judgement: phases, actions, confidence, classes, levels.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// A word that is not in a closed vocabulary.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("`{word}` is not a known {what}; use one of: {allowed}")]
pub struct UnknownWord {
    /// The kind of word that was expected.
    pub what: &'static str,
    /// The word that was found.
    pub word: String,
    /// The words that are known, separated by `, `.
    pub allowed: String,
}

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident, $what:literal, [$($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)?]) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant),+
        }
        impl $name {
            /// All of them, in ascending order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// The word used in rules, events and labels.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok($name::$variant),)+
                    _ => Err(UnknownWord { what: $what, word: word.to_owned(), allowed: [$($word),+].join(", ") }),
                }
            }
        }
    };
}

vocabulary! {
    /// The time at which evidence arrives. A field belongs to the phase at whose end it is final: present, or
    /// known absent.
    Phase, "phase", [
        /// The connection: addresses, process, user.
        Connect = "connect",
        /// The TLS ClientHello: SNI, ALPN. On plain HTTP it falls together with `Head`.
        Hello = "hello",
        /// The HTTP request line and headers.
        Head = "head",
        /// One JSON-RPC message of the request body, or the end of the body.
        Message = "message",
        /// The answer: status, headers, one JSON-RPC message of its body.
        Response = "response",
    ]
}

/// The effect of an action on the message that it is carried out on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// All of it passes.
    Passes,
    /// The message passes with parts replaced.
    Changes,
    /// Nothing of the message passes; its sender gets an error.
    Refuses,
}

/// What an effect means to those who hold messages back, forward them and count them. Who carries it out takes it apart member by member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consequences {
    /// The original must be held until the action is ruled out, as it does not pass unchanged.
    pub held: bool,
    /// Parts are replaced before it passes.
    pub changed: bool,
    /// Nothing of it passes.
    pub refused: bool,
}

impl Effect {
    /// The only place that asks which effect this is: one that is new does not compile until it is decided here.
    #[must_use]
    pub const fn consequences(self) -> Consequences {
        match self {
            Self::Passes => Consequences { held: false, changed: false, refused: false },
            Self::Changes => Consequences { held: true, changed: true, refused: false },
            Self::Refuses => Consequences { held: true, changed: false, refused: true },
        }
    }
}

/// Whether an action is implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Support {
    /// Rules may ask for it.
    Supported,
    /// The word is kept for it, and no rule may ask for it.
    Reserved,
}

/// One row defines everything about an action: code that must know whether an action stops a message reads its `Effect`, never its name.
macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $word:literal $effect:ident $support:ident $done:literal;)+) => {
        vocabulary! {
            /// The response to a match, from mildest to strictest.
            Action, "action", [$($(#[$doc])* $variant = $word),+]
        }

        impl Action {
            /// The effect on the message.
            #[must_use]
            pub const fn effect(self) -> Effect {
                match self { $(Self::$variant => Effect::$effect),+ }
            }

            /// The message's fate under this action, in one word.
            #[must_use]
            pub const fn done(self) -> &'static str {
                match self { $(Self::$variant => $done),+ }
            }

            const fn support(self) -> Support {
                match self { $(Self::$variant => Support::$support),+ }
            }
        }
    };
}

actions! {
    /// Let it pass; an administrator's `allow` stands above vendor rules.
    Allow = "allow" Passes Supported "passed";
    /// Let it pass and write it down. The default.
    Log = "log" Passes Supported "passed";
    /// Let it pass with parts replaced.
    Redact = "redact" Changes Reserved "redacted";
    /// Answer with the way to the sanctioned portal.
    Redirect = "redirect" Refuses Supported "redirected";
    /// Refuse it.
    Block = "block" Refuses Supported "blocked";
}

impl Action {
    /// True if this action keeps the original from passing unchanged, so that bytes must be held until it is ruled out. Such calls count
    /// as stopped.
    #[must_use]
    pub const fn interferes(self) -> bool {
        self.effect().consequences().held
    }

    /// True if nothing of the original passes.
    #[must_use]
    pub const fn refuses(self) -> bool {
        self.effect().consequences().refused
    }

    /// The actions that rules may ask for: all that are implemented.
    pub fn supported() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|action| action.support() == Support::Supported)
    }
}

vocabulary! {
    /// Confidence that this was MCP.
    Confidence, "confidence", [
        /// Host, path or SNI alone.
        Suspected = "suspected",
        /// MCP headers, an SSE endpoint event, an earlier confirmed exchange of the same client
        /// and endpoint, or a malformed body that resembles JSON-RPC.
        Probable = "probable",
        /// An MCP message was parsed.
        Confirmed = "confirmed",
    ]
}

vocabulary! {
    /// The class of a detection.
    Class, "class", [
        /// Use of the Model Context Protocol.
        Mcp = "mcp",
        /// Use of a model API.
        Llm = "llm",
        /// Sensitive data.
        Dlp = "dlp",
        /// An attack or its preparation.
        Threat = "threat",
        /// A rule of the organisation.
        Policy = "policy",
        /// gnomon itself.
        Health = "health",
    ]
}

vocabulary! {
    /// The severity of a match, as in Sigma 2.1.0.
    Level, "level", [
        /// Worth knowing, never an alert.
        Informational = "informational",
        /// Review now and then.
        Low = "low",
        /// Review soon.
        Medium = "medium",
        /// Review at once.
        High = "high",
        /// Act at once.
        Critical = "critical",
    ]
}

vocabulary! {
    /// A kind of evidence that was seen.
    Evidence, "evidence", [
        /// The server's name.
        Host = "host",
        /// The URL path.
        Path = "path",
        /// Request headers.
        Header = "header",
        /// The request body.
        Body = "body",
        /// The answer.
        Response = "response",
        /// Plaintext read from a TLS library.
        Plaintext = "plaintext",
        /// A process's standard streams.
        Stdio = "stdio",
        /// A process start.
        Process = "process",
        /// A configuration file.
        Config = "config",
    ]
}

vocabulary! {
    /// The channel on which a call was seen.
    Channel, "channel", [
        /// HTTP over TLS.
        Https = "https",
        /// HTTP without TLS.
        Http = "http",
        /// Standard input and output of a local server.
        Stdio = "stdio",
        /// A client's configuration file.
        Config = "config",
        /// A process start.
        Process = "process",
    ]
}

vocabulary! {
    /// The means by which a request was tied to the process that made it.
    Correlation, "correlation", [
        /// Not tied.
        None = "none",
        /// By the kernel's socket owner, which no program can forge.
        Owner = "owner",
    ]
}

vocabulary! {
    /// People's decision about a server.
    Review, "review state", [
        /// Under review.
        InReview = "in_review",
        /// It may be used until its approval expires.
        Approved = "approved",
        /// It may not be used.
        Denied = "denied",
        /// It might be used until its approval expired.
        Expired = "expired",
    ]
}

/// A set of [`Evidence`], ordered as the enum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EvidenceSet(u16);

impl EvidenceSet {
    /// An empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }
    /// Adds one.
    pub fn insert(&mut self, evidence: Evidence) {
        self.0 |= 1 << evidence as u16;
    }
    /// True if it contains this evidence.
    #[must_use]
    pub const fn contains(self, evidence: Evidence) -> bool {
        self.0 & (1 << evidence as u16) != 0
    }
    /// True if it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// Both together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// The members, in the enum's order.
    pub fn iter(self) -> impl Iterator<Item = Evidence> {
        Evidence::ALL.iter().copied().filter(move |e| self.contains(*e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stricter_actions_compare_greater() {
        assert!(Action::Block > Action::Redirect && Action::Redirect > Action::Redact);
        assert!(Action::Redact > Action::Log && Action::Log > Action::Allow);
        assert!(Action::ALL.is_sorted_by_key(|action| action.effect() as u8), "what does more to a message is the stricter");
    }

    #[test]
    fn what_passes_whole_is_not_stopped_and_what_is_refused_is() {
        assert!(!Action::Log.interferes() && Action::Redact.interferes() && Action::Redirect.interferes());
        assert!(!Action::Redact.refuses() && Action::Redirect.refuses() && Action::Block.refuses());
        for action in Action::ALL {
            assert_eq!(action.done() == "passed", !action.interferes(), "{action}");
        }
    }

    #[test]
    fn an_unknown_word_names_the_known_ones() {
        let error = "drop".parse::<Action>().unwrap_err().to_string();
        let all: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(error, format!("`drop` is not a known action; use one of: {}", all.join(", ")));
    }

    #[test]
    fn evidence_keeps_the_order_of_the_enum() {
        let mut set = EvidenceSet::new();
        set.insert(Evidence::Body);
        set.insert(Evidence::Host);
        assert_eq!(set.iter().map(Evidence::as_str).collect::<Vec<_>>(), ["host", "body"]);
    }
}
