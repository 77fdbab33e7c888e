//! The host that answers a script's calls.

use std::future::{Future, ready};
use std::time::Duration;

use crate::{CallEnd, Names, Raw};

/// Names on `codemode` that are no tools: `tools()`, `search(query, options)`, `describe(name)`, `result(id, from)`,
/// `withMeta(name, arguments)`, `save(name, code, options)` and `forget(name, options)`, and two that the language asks any object for.
/// They come before tools of the same name, and every program has the first seven; a host that does not offer one refuses it.
pub const RESERVED: [&str; 9] = ["tools", "search", "describe", "result", "withMeta", "save", "forget", "then", "toJSON"];

/// A program to run.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// JavaScript or TypeScript as the model wrote it; the usual shapes are accepted (see the crate's README).
    pub code: &'a str,
    /// The tools that may be called. The worker never learns them: a name that is not among them
    /// is no tool, and its host hears of it by [`Host::unknown`].
    pub names: &'a Names,
}

/// The use of a program's code.
#[derive(Debug, Clone, Copy, Default)]
pub enum Task<'a> {
    /// Run; a function is called with `codemode`.
    #[default]
    Run,
    /// Run, with these arguments as the function's second.
    RunWith(&'a Raw),
    /// Parsed only, not run: its value is `true`, or it is an error of syntax.
    Read,
}

/// A script's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// `codemode.<name>(arguments)`, of a name in [`Program::names`]. The arguments are what was passed, `{}` if nothing was.
    Tool(&'a str),
    /// `codemode.tools()`. The arguments of this and the next two are an array of what was passed.
    Tools,
    /// `codemode.search(query, options)`.
    Search,
    /// `codemode.describe(name)`.
    Describe,
    /// `codemode.result(id, from)`.
    Result,
    /// `codemode.save(name, code, options)`. The arguments of this and the next are an array of what was passed.
    Save,
    /// `codemode.forget(name, options)`.
    Forget,
    /// `codemode.withMeta(name, arguments)`, of a name in [`Program::names`]: as [`Self::Tool`], but the answer is an object, with
    /// `value` where the tool answered or `error`, a text, where it failed, and `meta`, what came beside it; with `perhapsDone` where its
    /// server gave no answer.
    WithMeta(&'a str),
}

impl<'a> Asked<'a> {
    /// The meaning of a name on `codemode`.
    pub(crate) fn from_name(name: &str, names: &'a Names) -> Option<Self> {
        match name {
            "tools" => Some(Self::Tools),
            "search" => Some(Self::Search),
            "describe" => Some(Self::Describe),
            "result" => Some(Self::Result),
            "save" => Some(Self::Save),
            "forget" => Some(Self::Forget),
            _ => names.meant(name).map(Self::Tool),
        }
    }

    /// The tool that is called.
    pub(crate) fn tool(self) -> Option<&'a str> {
        match self {
            Self::Tool(name) | Self::WithMeta(name) => Some(name),
            Self::Tools | Self::Search | Self::Describe | Self::Result | Self::Save | Self::Forget => None,
        }
    }
}

/// The reason that a call has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFailure {
    /// A text for the model.
    pub text: String,
    /// What came of the call: [`CallEnd::Failed`] or [`CallEnd::Lost`].
    pub end: CallEnd,
}

impl From<String> for CallFailure {
    fn from(text: String) -> Self {
        Self { text, end: CallEnd::Failed }
    }
}

/// How the answer to [`Asked::WithMeta`] begins where the call has no value, by what came of it.
pub const FAILED_WITH_META: &str = "{\"error\":";
/// The same where its server gave no answer.
pub const LOST_WITH_META: &str = "{\"perhapsDone\":true,\"error\":";

/// Answers a script's calls.
pub trait Host: Sync {
    /// Answers one call. Several run at the same time, at most [`Limits::in_flight`](crate::Limits::in_flight); they are dropped
    /// with the execution. `arguments` is well-formed JSON within its bound and otherwise whatever a stranger wrote.
    ///
    /// # Errors
    /// What is told to the model; the script sees it as a thrown `ToolError`.
    fn call(&self, asked: Asked<'_>, arguments: &Raw) -> impl Future<Output = Result<Box<Raw>, CallFailure>> + Send;

    /// Called when a script calls a name which is not among [`Program::names`], so that a host that records calls records this one too.
    /// Returns the text for the script in place of the nearest name, if any.
    fn unknown(&self, _name: &str) -> impl Future<Output = Option<String>> + Send {
        ready(None)
    }

    /// The time that this execution's calls have waited for an approval, a call that still waits included. The execution is
    /// suspended meanwhile: this does not count towards its [`wall_time`](crate::Limits::wall_time).
    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}
