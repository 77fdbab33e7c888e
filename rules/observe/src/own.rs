//! Detections that gnomon makes by itself, of what no single event shows. They look like those of rules
//! (`rule.id` and so on), so alerts, filters and incidents treat them alike.

use crate::{Action, Class, Field, Level, Observation};

/// A detection of gnomon's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnRule {
    /// Its id, for ever.
    pub id: &'static str,
    /// Its title.
    pub name: &'static str,
    /// Its severity.
    pub level: Level,
    /// Its class.
    pub class: Class,
    /// Its meaning, and the remedy.
    pub doc: &'static str,
    /// The command that leads on from its events, and what that prints.
    pub next: (&'static str, &'static str),
    /// What makes it and is usually no finding.
    pub false_positives: &'static [&'static str],
}

/// An approval ran out.
pub const APPROVAL_EXPIRED: OwnRule = OwnRule {
    id: "2a6f5d0e-6f0b-4b0d-9b6e-3d5c1c1f7a41",
    name: "Approval of an MCP server expired",
    level: Level::Medium,
    class: Class::Policy,
    doc: "The server was approved until now (`gnomon review`), and is not sanctioned any more. Look at it again: \
          `gnomon review show SERVER`, then approve or deny.",
    next: ("gnomon review show SERVER", "who approved it, until when and why"),
    false_positives: &["A server that is still wanted, whose approval nobody renewed in time"],
};

/// A user sent a server far more than is usual on this host.
pub const UNUSUAL_VOLUME: OwnRule = OwnRule {
    id: "7c0d4b0e-1f64-4a3d-8a55-0b1e6f2d9c38",
    name: "Unusual volume to an MCP server",
    level: Level::Medium,
    class: Class::Policy,
    doc: "One user's requests to one server, or their bytes, within an hour are more than four times what 95 of 100 hours of the last 28 days \
          stay within, and more than 100 requests or 1 MiB. Nothing is judged before the host has a week of history. See what was sent: \
          `gnomon events --where server.address=SERVER --since 2h`.",
    next: ("gnomon events --where server.address=SERVER --where user.name=USER --since 2h", "what was called"),
    false_positives: &[
        "An import, a migration or a test that was meant to send so much",
        "A new task of an agent, or an account that more people or programs use than before",
    ],
};

/// A worker of Code Mode did what no script can make it do.
pub const SANDBOX_VIOLATION: OwnRule = OwnRule {
    id: "b5b1f0c2-6d0f-4f0e-9a52-7f7c7a6b1d94",
    name: "Code Mode worker broke out of its bounds",
    level: Level::Critical,
    class: Class::Threat,
    doc: "A script of Code Mode made its worker use a forbidden system call, die in an unusual way, or speak against its protocol: the \
          engine is broken, or was broken into. The worker is dead and had no files, network or secrets. See whose script it was: \
          `gnomon audit show`, by the execution's id; and keep `gnomon events show` of this one for its analysis.",
    next: ("gnomon audit show --execution EXECUTION", "whose script it was, and the calls that it made"),
    false_positives: &[
        "A fault of the engine that a harmless script ran into; it is worth a report all the same",
        "A signal that an administrator sent to the worker",
    ],
};

/// All of them.
pub const OWN_RULES: &[OwnRule] = &[APPROVAL_EXPIRED, UNUSUAL_VOLUME, SANDBOX_VIOLATION];

impl OwnRule {
    /// Writes this detection into an observation. It stops nothing.
    pub fn stamp(&self, seen: &mut Observation) {
        seen.set(Field::RuleId, self.id);
        seen.set(Field::RuleName, self.name);
        seen.set(Field::RuleLevel, self.level.as_str());
        seen.set(Field::DetectionClass, self.class.as_str());
        seen.set(Field::RulesMatched, vec![self.id.into()]);
        seen.set(Field::Action, Action::Log.as_str());
    }
}
