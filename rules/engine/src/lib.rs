//! Sigma rules, compiled to phases and judged.
//!
//! A rule file is a valid [Sigma 2.1.0](https://github.com/SigmaHQ/sigma-specification) detection
//! rule plus one top-level block, `gnomon:`, for what Sigma has no word for: what to do about a
//! match, and examples that must match or must not. [`RuleSet::compile`] reads the text of such
//! files; [`RuleSet::judge`] judges one [`Observation`](gnomon_observe::Observation) as its
//! evidence arrives, phase by phase.
//!
//! The decision behind it: **three-valued logic instead of waiting**. An item whose field is not
//! final yet is *unknown*, and a rule is judged with what there is. A request is held only as long
//! as something unknown could still change what happens to its bytes; and because the answer
//! depends only on what is known, walking the phases ends in the same action as judging the whole
//! observation at once ([`RuleSet::one_shot`]), which is what makes a replay believable.
//!
//! It does no I/O, speaks no HTTP, keeps no state between
//! observations (no correlations), and does not allocate while judging.
#![deny(missing_docs)]

mod condition;
mod detection;
mod error;
mod expr;
mod extension;
mod item;
mod judge;
mod load;
mod modifiers;
mod pattern;
mod progress;
mod rule;
mod set;
mod slow;
mod text;
mod truth;
mod verdict;
mod wanted;
mod yaml;

pub use error::{LoadError, LoadErrors};
pub use progress::Progress;
pub use rule::{Mode, Origin, Response, Rule, RuleIndex, Source};
pub use set::RuleSet;
pub use verdict::{Answer, Expectation, Outcome, TestResult, Verdict};
pub use wanted::{Arguments, Wanted};
