//! Runs JavaScript that a model wrote, in a process that can do nothing but answer.
//!
//! Code Mode lets a model write a few lines of code over its tools instead of calling them one by one. An attacker who can put text
//! before the model writes that code, so it is treated as hostile: one execution is one process, forked from a [zygote](zygote)
//! that has given up files, network, privileges and, in the worker, all but seventeen system calls, and ends with it. The only way
//! out is a socket on which it asks for calls; every byte of it is bounded, parsed and counted again on this side.
//!
//! This crate knows nothing of MCP, servers or who is asking: a [`Host`] answers the calls, and whether a call may be made is the
//! host's decision. It prefers confinement to speed: an engine inside the caller's process would save half a millisecond and
//! share its memory with every secret there.
//!
//! ```no_run
//! use gnomon_codemode::{Asked, CallFailure, Host, Limits, Names, Program, Raw, Sandbox, SandboxConfig, ScriptOutcome};
//!
//! struct Shop;
//! impl Host for Shop {
//!     async fn call(&self, asked: Asked<'_>, _arguments: &Raw) -> Result<Box<Raw>, CallFailure> {
//!         match asked {
//!             Asked::Tool("shop_price") => Raw::from_string("12".into()).map_err(|e| e.to_string().into()),
//!             _ => Err("there is nothing like this here".to_owned().into()),
//!         }
//!     }
//! }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // The command must call `zygote::run` first thing, as `gnomon sandbox-zygote` does.
//! let sandbox = Sandbox::start(SandboxConfig::new("/proc/self/exe", ["sandbox-zygote"])).await?;
//! let names = Names::new(["shop_price"]);
//! let program = Program { code: "async () => 2 * await codemode.shop_price({ item: 'sundial' })", names: &names };
//! let execution = sandbox.execute(program, &Limits::default(), &Shop).await?;
//! assert!(matches!(execution.outcome, ScriptOutcome::Value(value) if value.get() == "24"));
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod declare;
mod frame;
mod host;
mod layers;
mod limits;
mod names;
mod outcome;
mod pair;
mod sandbox;
mod search;
mod sys;
mod worker;
pub mod zygote;

pub use declare::{MAX_TYPES, declare, signature, together};
pub use frame::{FromWorker, Malformed, decode};
pub use host::{Asked, CallFailure, FAILED_WITH_META, Host, LOST_WITH_META, Program, RESERVED, Task};
pub use layers::{LayerState, Layers};
pub use limits::{Limit, Limits, MAX_CATALOGUE, MAX_HEAP, MAX_STACK, MAX_TIME};
pub use names::{MAX_NAME, Names};
pub use outcome::{CallEnd, Called, Execution, Line, ScriptOutcome, Severity, Violation};
pub use sandbox::{ExecuteError, Sandbox, SandboxConfig, StartError};
pub use search::{Entry, Hit, Index, MAX_HITS, MAX_QUERY, summary};
pub use worker::{Unreadable, normalise};

/// JSON that was checked to be JSON and is otherwise left as it was written.
pub type Raw = serde_json::value::RawValue;
