//! Why a portal refuses by itself what it is asked: a closed set, counted for each portal.
//!
//! What a server refuses is no part of it, nor what is no request of the protocol (HTTP 400 and the like).

use gnomon_upstream::rpc::{INTERNAL_ERROR, MISSING_CAPABILITY};
use prometheus::{IntCounterVec, Opts, Registry};
use smol_str::SmolStr;

/// Why a portal refused something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Policy does not allow it.
    Policy,
    /// There is no such tool, prompt, resource, task or method.
    Unknown,
    /// The configuration does not offer it.
    NotOffered,
    /// Its arguments are none that it takes.
    Arguments,
    /// A rule forbids it, or withholds its answer.
    Rule,
    /// The protocol has no word for it between this client and this server, or the client has not declared what it needs.
    Protocol,
    /// Its caller has their share of calls, scripts or memory, or their script has used up its own.
    Share,
    /// The audit cannot be written.
    Audit,
    /// Its caller is not proven to be anybody who may come in.
    LogIn,
    /// It came by a name that is not the portal's, or from a web page of another origin.
    Origin,
    /// Its server has not been there since the portal's start.
    Unavailable,
}

impl Ground {
    const ALL: [Self; 11] = [
        Self::Policy,
        Self::Unknown,
        Self::NotOffered,
        Self::Arguments,
        Self::Rule,
        Self::Protocol,
        Self::Share,
        Self::Audit,
        Self::LogIn,
        Self::Origin,
        Self::Unavailable,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Unknown => "unknown",
            Self::NotOffered => "not_offered",
            Self::Arguments => "arguments",
            Self::Rule => "rule",
            Self::Protocol => "protocol",
            Self::Share => "share",
            Self::Audit => "audit",
            Self::LogIn => "log_in",
            Self::Origin => "origin",
            Self::Unavailable => "unavailable",
        }
    }

    /// The ground of a refusal that the audit has under this word: a name of ours, or an error's code.
    pub(crate) fn of(word: &str) -> Self {
        match word {
            "policy" | "withdrawn" | "unfulfilled" => Self::Policy,
            "rule" | "withheld" => Self::Rule,
            "invalid_arguments" | "unfit_answer" | "malformed" => Self::Arguments,
            "not_offered" | "off" => Self::NotOffered,
            "untranslatable" => Self::Protocol,
            "codemode_share" | "snippets_share" | "sandbox_time" | "depth" | "no_room" | "unread" | "not_kept" => Self::Share,
            "audit" => Self::Audit,
            "unknown_caller" => Self::LogIn,
            // Among others `unknown_state` and `unknown_tool`.
            _ => word.parse().map_or(Self::Unknown, Self::of_code),
        }
    }

    /// The ground of an error with this code, as far as the code tells it.
    #[must_use]
    pub fn of_code(code: i32) -> Self {
        match code {
            INTERNAL_ERROR => Self::Unavailable,
            MISSING_CAPABILITY => Self::Protocol,
            _ => Self::Unknown,
        }
    }
}

/// The counter of all portals.
pub(crate) fn counter(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let help = "What a portal refused by itself, by reason: policy, unknown (no such tool, prompt, resource, task or method), \
                not_offered (by the configuration), arguments, rule, protocol (it has no word for it between this client and this \
                server), share (of calls, scripts or memory, taken by its caller), audit (it cannot be written), log_in, origin (a \
                name or a web page that may not call it) or unavailable (its server was never there).";
    let counter = IntCounterVec::new(Opts::new("gnomon_portal_refusals_total", help), &["portal", "reason"])?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

/// The counts of one portal.
#[derive(Clone, Debug)]
pub struct RefusalCounts {
    counter: IntCounterVec,
    portal: SmolStr,
}

impl RefusalCounts {
    /// All of them, at 0 unless they were counted before: the first refusal is an increase.
    pub(crate) fn of(counter: &IntCounterVec, portal: &str) -> Self {
        for ground in Ground::ALL {
            counter.with_label_values(&[portal, ground.as_str()]);
        }
        Self { counter: counter.clone(), portal: portal.into() }
    }

    /// Counts a refusal.
    pub fn count(&self, ground: Ground) {
        self.counter.with_label_values(&[&*self.portal, ground.as_str()]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CallError;

    #[test]
    fn the_word_of_the_audit_for_a_refusal_tells_its_ground() {
        for (word, ground) in [
            (CallError::Withdrawn.kind(), Ground::Policy),
            (CallError::Unfulfilled("x").kind(), Ground::Policy),
            (CallError::Unfit(String::new()).kind(), Ground::Arguments),
            (CallError::Untranslatable("x").kind(), Ground::Protocol),
            (CallError::NoRoom.kind(), Ground::Share),
            (CallError::Unread.kind(), Ground::Share),
            (CallError::NotKept.kind(), Ground::Share),
            ("unknown_state", Ground::Unknown),
            ("audit", Ground::Audit),
            ("-32602", Ground::Unknown),
            ("-32601", Ground::Unknown),
            ("-32021", Ground::Protocol),
            ("-32603", Ground::Unavailable),
        ] {
            assert_eq!(Ground::of(word), ground, "{word}");
        }
    }
}
