//! Authentication of callers, and authorisation of their requests.
//!
//! A [`Caller`] is the proven identity of a request's sender; [`Asked`] is what it asks for; a [`Policy`] decides, and issues a [`Permit`]
//! for what it allows, without which nothing of a caller's is sent to a server. Lists, calls and everything built on calls ask the same
//! function, so that what is hidden is uncallable by every road; being listed ([`Listing`]) is no permit.
//!
//! ```
//! use gnomon_access::{Asked, Caller, Policy};
//!
//! let policy = Policy::parse("
//!   - allow: { servers: [code], tools: ['read_*'], groups: [finance] }
//!   - deny:  { tools: ['*_secret'], reason: 'ask the data office' }
//! ".trim_start_matches('\n'), "policy.yml")?;
//! let mut anna = Caller::anonymous("10.1.2.3".parse()?);
//! anna.groups = vec!["finance"].into();
//! assert!(policy.decide(&anna, &Asked::tool("main", "code", "read_file")).is_allow());
//! assert!(!policy.decide(&anna, &Asked::tool("main", "code", "read_secret")).is_allow());
//! println!("{}", policy.explain(&anna, &Asked::tool("main", "code", "push_commit")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

mod arguments;
mod asked;
mod auth;
mod caller;
mod glob;
mod line_ref;
mod permit;
mod policy;
mod uri;
pub mod yaml;

pub use arguments::{ArgumentsError, MAX_DEPTH, arguments};
pub use asked::{Asked, Capability, Hints};
pub use auth::{
    Algorithm, AuthConfig, AuthSource, Authenticator, CertificateClient, Challenge, ClaimNames, ClaimPath, Countries, CountriesError,
    FRESH, Fetch, FetchError, Fetched, INTROSPECTED_FOR, Introspection, MAX_DATABASE, MAX_DOCUMENT, MAX_QUESTIONS, MAX_REMEMBERED,
    MAX_SERVICE_TOKENS, MAX_TOKEN, NewToken, NoRandomness, OidcConfig, PAUSE, REMEMBERED_FOR, Rejection, STALE, Secrets, ServiceToken,
    TOKEN_PREFIX, UnverifiedEmail, generate_token,
};
pub use caller::{AuthMethod, Caller, Device, MAX_NAMES, Names, Peer, Process};
pub use glob::{Flavour, Glob};
pub use line_ref::LineRef;
pub use permit::{Approval, Charge, Obligations, Permit, Redaction, RefusedByRule};
pub use policy::{
    Decision, Explained, Explanation, Finding, Listing, MAX_ENTRIES, MAX_POLICY_BYTES, MAX_VALUES, MAX_WHEN, MAX_WHEN_TEXT,
    MAX_WHEN_VALUES, Policy, PolicyError, PolicySource, Problem,
};
