//! Local MCP servers: what a command line starts, and which servers, hooks, skills and plugins clients are set up with.
//!
//! All of it is claimed by users of the host, who may be hostile: everything is bounded, nothing is run, and no secret that stands in a
//! file or an argument is kept.

mod addons;
mod at_most;
mod fields;
mod folder;
mod interpreter;
mod kept;
mod known;
mod launch;
mod listed;
mod people;
mod scan;
mod secrets;
mod source;
mod watch;

pub use addons::{Addon, MAX_ADDONS, hooks_in};
pub use at_most::AtMost;
pub use fields::describe;
pub use kept::{Change, Kept, Listed, MAX_KEPT, MAX_KEPT_OF_ONE, What};
pub use known::{Known, LocalServer, Part, Sign, Started};
pub use launch::{Launch, PackageClaim, launch};
pub use listed::{ListedServer, MAX_FILE, MAX_SERVERS, Reached, Unread, listed};
pub use people::{Account, MAX_ANSWER, Person, READER_WITHIN, accounts, person, reader, said};
pub use scan::{FoundFile, MAX_FILES, limit_this_process, scan};
pub use secrets::{MAX_NAMES, SecretAt, without_secret_segments};
pub use watch::{WHOLE, Watched};
