//! Access policy: entries that allow and deny; nothing is allowed unless an entry says so.
//!
//! **Deny wins over allow; a fact that is missing never makes an `allow` match and always makes a `deny` match.** A caller that
//! hides a fact (no client certificate, a token without groups) so never gets further than one that shows it. The price is
//! that a `deny` hits callers whose fact is simply not known; `gnomon policy explain` says so.
//!
//! Judging is pure: no I/O, no clock, nothing remembered.

mod compile;
mod cost;
mod error;
mod explain;
mod source;
mod truth;
mod what;
mod when;
mod who;

pub(crate) use compile::sha256;
pub use compile::{MAX_ENTRIES, MAX_VALUES};
pub use error::{PolicyError, Problem};
pub(crate) use error::{Report, unread};
pub use explain::{Explained, Explanation, Finding};
pub use source::PolicySource;
pub use when::{MAX_TEXT as MAX_WHEN_TEXT, MAX_VALUES as MAX_WHEN_VALUES, MAX_WHEN};

use crate::yaml::hint;
use crate::{Asked, Caller, LineRef, Permit};
use serde::Deserialize;
use truth::Truth;
use what::{Effect, What};
use when::When;
use who::Condition;

/// The longest policy file, bytes.
pub const MAX_POLICY_BYTES: usize = 1 << 20;

/// A decision of policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Allowed, by the first entry that does.
    Allow(Permit),
    /// Denied.
    Deny {
        /// The entry that denies it; none where none allows it.
        line: Option<LineRef>,
    },
}

impl Decision {
    /// True for `Allow`.
    #[must_use]
    pub const fn is_allow(&self) -> bool {
        matches!(self, Decision::Allow(_))
    }

    /// The entry that decided.
    #[must_use]
    pub const fn line(&self) -> Option<&LineRef> {
        match self {
            Decision::Allow(permit) => permit.line(),
            Decision::Deny { line } => line.as_ref(),
        }
    }
}

/// Whether a caller may know of something. It is no permit: whoever asks a server about the thing needs one of
/// [`Policy::decide_about`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Listing {
    /// It is on the caller's lists.
    Shown,
    /// It is not.
    Hidden {
        /// The entry that denies it; none where none allows it.
        line: Option<LineRef>,
    },
}

impl Listing {
    /// True for `Shown`.
    #[must_use]
    pub const fn is_shown(&self) -> bool {
        matches!(self, Listing::Shown)
    }
}

#[derive(Debug)]
struct Entry {
    line: LineRef,
    /// The whole policy, as one line of YAML.
    whole: Box<str>,
    effect: Effect,
    what: What,
    who: Vec<Condition>,
    when: Option<When>,
}

/// The question that entries are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// May this call be made, with these arguments?
    Call,
    /// Could some call of it be made?
    SomeCall,
    /// Could anything of this server be used?
    Server,
    /// Does an entry name it among `resources`? What denies is not asked.
    ByName,
}

impl Entry {
    /// Matches the entry. A part that does not hold ends it; one that is missing only weakens it.
    fn matches(&self, caller: &Caller, asked: &Asked<'_>, question: Question) -> Truth {
        let has_a_say = match (question, self.effect) {
            (Question::Call | Question::SomeCall, _) | (Question::Server, Effect::Allow) => true,
            // What denies a part of a server, or some calls, leaves the rest of it.
            (Question::Server, Effect::Deny) => self.what.is_all() && self.when.is_none(),
            (Question::ByName, effect) => effect == Effect::Allow && self.what.resources.is_some(),
        };
        if !has_a_say {
            return Truth::False;
        }
        let mut truth = self.what.server(asked).and(self.what.portal(asked));
        if truth == Truth::False {
            return Truth::False;
        }
        if question != Question::Server {
            truth = truth.and(self.what.capability(asked, self.effect)).and(self.what.hints(asked));
        }
        for condition in &self.who {
            if truth == Truth::False {
                return Truth::False;
            }
            truth = truth.and(condition.holds(caller));
        }
        match (&self.when, truth) {
            (None, _) | (_, Truth::False) => truth,
            (Some(when), _) => truth.and(match (question, self.effect) {
                (Question::Call | Question::ByName, _) => when.judge(asked.arguments, caller).0,
                // Some arguments may satisfy it, and some may not.
                (Question::SomeCall | Question::Server, Effect::Allow) => Truth::True,
                (Question::SomeCall | Question::Server, Effect::Deny) => Truth::False,
            }),
        }
    }
}

/// A compiled policy.
#[derive(Debug, Default)]
pub struct Policy {
    entries: Vec<Entry>,
}

/// A file may hold the list alone, or under `policy:`.
#[derive(Deserialize)]
struct Keyed {
    policy: PolicySource,
}

impl Policy {
    /// Reads a policy from YAML: a list of entries, or a mapping whose `policy` is one.
    ///
    /// # Errors
    /// Everything that is wrong with it, with places.
    pub fn parse(text: &str, file: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY_BYTES {
            let mut report = Report::new(file);
            report.at::<()>(serde_saphyr::Location::UNKNOWN, format!("larger than {MAX_POLICY_BYTES} bytes"));
            return report.finish(Self::default());
        }
        let keyed = text.lines().any(|line| line.starts_with("policy:"));
        let source = if keyed {
            serde_saphyr::from_str::<Keyed>(text).map(|keyed| keyed.policy)
        } else {
            serde_saphyr::from_str::<PolicySource>(text)
        };
        Self::compile(&source.map_err(|error| unread(file, &error))?, file)
    }

    /// Compiles the policy of a larger file, which has kept its places.
    ///
    /// # Errors
    /// Everything that is wrong with it, with places.
    pub fn compile(source: &PolicySource, file: &str) -> Result<Self, PolicyError> {
        let mut report = Report::new(file);
        let entries = compile::entries(source, file, &mut report);
        report.finish(Self { entries })
    }

    /// Its entries in order, each as one line of YAML, whatever its length. Two policies with the same are the same.
    pub fn written(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| &*entry.whole)
    }

    /// Decides on a call. `arguments` of `None` are no arguments.
    pub fn decide(&self, caller: &Caller, asked: &Asked<'_>) -> Decision {
        self.decision(caller, asked, Question::Call)
    }

    /// Decides on a request about a thing that is no call of it and has none of a call's arguments, as the completion of an argument, or
    /// what became of a task that a call began: allowed where some call of the thing would be.
    pub fn decide_about(&self, caller: &Caller, asked: &Asked<'_>) -> Decision {
        self.decision(caller, asked, Question::SomeCall)
    }

    /// Whether a caller may know of a thing: `Shown` if some arguments would be allowed. What is not listed is not callable; what is listed
    /// is judged again when it is called.
    pub fn may_list(&self, caller: &Caller, asked: &Asked<'_>) -> Listing {
        match self.judge(caller, asked, Question::SomeCall) {
            Ok(_) => Listing::Shown,
            Err(line) => Listing::Hidden { line: line.cloned() },
        }
    }

    /// True if an entry that names `resources` allows this one, beside entries that allow all that a server has. What denies it does so
    /// all the same: ask [`Policy::decide`] as well.
    #[must_use]
    pub fn allows_by_name(&self, caller: &Caller, asked: &Asked<'_>) -> bool {
        self.judge(caller, asked, Question::ByName).is_ok()
    }

    /// True if there could be anything at this server that the caller may use: some entry allows them something there, and none denies
    /// them the server as a whole. For servers whose lists are not known yet; otherwise ask [`Policy::may_list`].
    #[must_use]
    pub fn may_reach(&self, caller: &Caller, portal: &str, server: &str) -> bool {
        self.reach(caller, portal, server).is_some()
    }

    /// The same, as the permit to ask that server for what is a caller's own as a whole (their tasks). What comes back is judged
    /// thing by thing.
    #[must_use]
    pub fn reach(&self, caller: &Caller, portal: &str, server: &str) -> Option<Permit> {
        let asked = Asked::tool(portal, server, "");
        // Several entries together may allow the use of a server: none of them is the one that does.
        self.judge(caller, &asked, Question::Server).is_ok().then(|| Permit::new(None))
    }

    fn decision(&self, caller: &Caller, asked: &Asked<'_>, question: Question) -> Decision {
        match self.judge(caller, asked, question) {
            Ok(line) => Decision::Allow(Permit::new(Some(line.clone()))),
            Err(line) => Decision::Deny { line: line.cloned() },
        }
    }

    /// The one decision: the first entry that allows it, or the entry that denies it, if one does.
    fn judge(&self, caller: &Caller, asked: &Asked<'_>, question: Question) -> Result<&LineRef, Option<&LineRef>> {
        let mut allowed = None;
        for entry in &self.entries {
            if entry.effect == Effect::Allow && allowed.is_some() {
                continue;
            }
            match (entry.effect, entry.matches(caller, asked, question)) {
                (Effect::Deny, Truth::True | Truth::Missing) => return Err(Some(&entry.line)),
                (Effect::Allow, Truth::True) => allowed = Some(&entry.line),
                _ => {}
            }
        }
        allowed.ok_or(None)
    }

    /// The servers that entries name without a pattern, each with its entry: a name that no server has is a mistake
    /// that shows only when compared with the registered servers.
    pub fn named_servers(&self) -> impl Iterator<Item = (String, &LineRef)> {
        self.entries.iter().flat_map(|entry| {
            let globs = entry.what.servers.iter().flatten();
            globs.filter_map(|glob| glob.literal()).map(|name| (name, &entry.line))
        })
    }

    /// Mistakes in names of servers: entries that name one that is not among these.
    #[must_use]
    pub fn unknown_servers(&self, known: &[&str]) -> Vec<Problem> {
        let unknown = self.named_servers().filter(|(name, _)| !known.contains(&name.as_str()));
        unknown
            .map(|(name, line)| Problem {
                file: line.file.to_string(),
                line: line.line,
                column: line.column,
                message: format!("no server is called `{name}`{}", hint(&name, known)),
            })
            .collect()
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if it has no entries: no caller may do anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
