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
//!
//! Files may hold Sigma *filter* documents too: exceptions, combined as pySigma does (rule **and** filter). Overrides
//! ([`Adjustments`]) change level, response and activity of rules by other authors.
//!
//! # Sigma as it is read here
//!
//! Supported: detections (mappings, lists, keywords, `null`, numbers, truths), the wildcards `*`
//! and `?`, the modifiers `contains startswith endswith re (i m s) cidr exists cased all neq lt lte
//! gt gte windash fieldref`, and conditions with `and or not`, parentheses, `1 of`, `all of` and
//! lists. Everything else of Sigma is refused by name as not supported yet. An error is a line
//! `file:line:column: cause; fix`, and all errors of all files are reported at once.
//!
//! `tests/rsigma.rs` holds matches against rsigma, an independent implementation, and names each
//! difference. What is worth knowing:
//!
//! - Texts ignore case unless `cased`: ASCII letters fold to ASCII letters, others by Unicode's
//!   one-to-one lower case. Regular expressions mind case unless `i`; without letters or escapes
//!   outside ASCII in them, `\w \d \s \b` mean ASCII and `.` a byte.
//! - A list matches if any element does; with `all` each pattern needs some element.
//! - What is absent matches `null` and `exists: false` and nothing else. `neq` denies a value that
//!   is there: on what is absent it is false. `fieldref|neq` to a field that is absent is true.
//! - Numbers match texts that are the same number, and texts match the decimal digits of numbers.
//! - Keywords are searched in every text of the request, never in the answer or in what gnomon
//!   wrote itself, so a keyword rule is decided with the request.
//!
//! # When rules disagree
//!
//! The strictest action wins: block, redirect, log. A matching `allow` of the administrator's sets
//! the vendor's interfering rules aside, not the administrator's own; a vendor's `allow` sets
//! nothing aside. An unreadable field exempts nothing, and where it could turn a request that
//! passes into one that does not, the judge says so instead of guessing ([`Answer::Undecidable`]).
//!
//! ```
//! use gnomon_engine::{Answer, Origin, RuleSet, Source};
//! use gnomon_observe::{Action, Field, Observation, Phase};
//!
//! let text = "
//! title: Tool call to a server that is not sanctioned
//! id: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10
//! logsource: {product: mcp, category: mcp_traffic}
//! detection:
//!     call:
//!         mcp.method.name: tools/call
//!     sanctioned:
//!         gnomon.sanctioned: true
//!     condition: call and not sanctioned
//! gnomon:
//!     response: {action: block, message: not allowed here}
//! ";
//! let source = Source { name: "calls.yml".into(), text: text.into(), origin: Origin::Admin };
//! let rules = RuleSet::compile(&[source])?;
//!
//! let mut seen = Observation::new();
//! let mut progress = rules.start();
//! seen.set(Field::Sanctioned, false);
//! // The method is in the message: until then the request must be held.
//! assert_eq!(rules.judge(&seen, Phase::Head, &mut progress), Answer::Needs(Phase::Message));
//! seen.set(Field::McpMethod, "tools/call");
//! let answer = rules.judge(&seen, Phase::Message, &mut progress);
//! assert!(matches!(answer, Answer::Decided(verdict) if verdict.action == Action::Block));
//! # Ok::<(), gnomon_engine::LoadErrors>(())
//! ```
#![deny(missing_docs)]

mod assemble;
mod condition;
mod detection;
mod entries;
mod error;
mod explain;
mod expr;
mod extension;
mod filter;
mod item;
mod judge;
mod lint;
mod load;
mod modifiers;
mod overrides;
mod pattern;
mod progress;
mod readings;
mod rule;
mod set;
mod sigma_logs;
mod slow;
mod text;
mod texts;
mod truth;
mod verdict;
mod wanted;
mod yaml;

pub use assemble::Adjustments;
pub use error::{LoadError, LoadErrors};
pub use explain::{Explained, Finding, explain};
pub use expr::NamedServers;
pub use filter::{Filter, FilterStatus, Targets};
pub use lint::Lint;
pub use progress::Progress;
pub use rule::{Activity, Change, Enforcement, Mode, Origin, Response, Rule, RuleIndex, Source};
pub use set::RuleSet;
pub use texts::{TextMatcher, TextPatterns};
pub use verdict::{Answer, Expectation, Judgement, Subject, TestResult, Verdict};
pub use wanted::{Arguments, NeededEvidence};
