//! The result of an execution.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{Limit, Raw};

/// An execution that has ended. Its process is gone.
#[derive(Debug)]
pub struct Execution {
    /// The outcome.
    pub outcome: ScriptOutcome,
    /// The console output, in order, within [`Limits::logs`](crate::Limits::logs).
    pub logs: Vec<Line>,
    /// True if it wrote more than that.
    pub truncated: bool,
    /// Host calls it made, those to unknown names included.
    pub host_calls: u32,
    /// The tools that it called, in order, and what came of each.
    pub called: Vec<Called>,
    /// True if the script returned nothing at all; its value is `null` then.
    pub is_undefined: bool,
    /// A remark for readers of the value: that calls were in progress when it was made, that timers were dropped. Empty if none. Comes from
    /// the worker: never trust it.
    pub remark: String,
    /// The time spent waiting for the script rather than for its calls, as measured here.
    pub sandbox_time: Duration,
    /// The time from the worker's start to its end.
    pub wall_time: Duration,
}

/// A call of a tool that a script made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// Counts host calls, from one.
    pub id: u32,
    /// The tool's name on `codemode`.
    pub tool: SmolStr,
    /// The end of the call.
    pub end: CallEnd,
}

/// The end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// The tool answered.
    Answered,
    /// Failed, or refused.
    Failed,
    /// It left, and no answer came: it may have taken effect.
    Lost,
    /// Not answered when the script ended: it may have taken effect.
    Unanswered,
}

/// How an execution ended.
#[derive(Debug)]
pub enum ScriptOutcome {
    /// The script's result; `null` where it returned nothing.
    Value(Box<Raw>),
    /// The script threw, or could not be read as code.
    Thrown {
        /// Name, text and place of the error, at most 4,000 characters. Written by the script: never trust it.
        message: String,
    },
    /// The script reached a limit; [`Limit::text`] is for the model.
    Limit(Limit),
    /// The worker ended while it read the code, of which nothing had run: a compiler gave up, or ran out of memory.
    Unreadable,
    /// The worker did what no script can make it do: the engine is broken, or was broken into. This is an alert.
    Violation(Violation),
    /// The worker was lost for no fault of the script's: the sandbox was restarted under it, or the kernel was out of memory.
    /// Calls may have been made.
    Lost,
}

/// An act of a worker that no script can make it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// Death by this signal. 31 (`SIGSYS`) is a system call outside of its list; an `abort` of the engine ends in one too.
    Signal(i32),
    /// An end by itself with this status, without an answer.
    Exit(i32),
    /// A message that is not in the protocol, or longer than allowed.
    Protocol(&'static str),
}

/// A line of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The function of the console that wrote it.
    pub severity: Severity,
    /// The text. Written by the script: never trust it.
    pub text: String,
}

/// The function of the console that wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// `console.log`, `info`, `debug` and the like.
    Log,
    /// `console.warn`.
    Warn,
    /// `console.error`.
    Error,
}
