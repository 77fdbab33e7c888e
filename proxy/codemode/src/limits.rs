//! The limits of one execution, and the texts for the model when one was exceeded.
//!
//! Each bound is held twice: by the worker, which can say where the script was, and by the parent, which believes nothing that
//! the worker says. What they do not bound: what a host call does on the other side, and the kernel's own memory for a process
//! (about 0.3 MiB).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The largest heap that can be asked for, in bytes: what a worker's address space is cut to leaves room for this and no more.
pub const MAX_HEAP: usize = 512 << 20;

/// The largest stack that can be asked for, in bytes.
pub const MAX_STACK: usize = 16 << 20;

/// The longest time that can be asked for.
pub const MAX_TIME: Duration = Duration::from_secs(3600);

/// The longest answer to `codemode.tools()` that is passed on, in bytes. It is larger than other answers, as a catalogue of
/// 2,500 tools with their schemas is 2 to 4 MB, and is the host's own text.
pub const MAX_CATALOGUE: usize = 8 << 20;

/// Bounds of one execution. All sizes are in bytes of UTF-8, and at most [`MAX_CATALOGUE`] where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The processor time of the script, at most [`MAX_TIME`], as the next. Waiting does not count, neither for host calls nor for a busy host.
    pub sandbox_time: Duration,
    /// The most time for the whole execution, host calls included, from the moment a worker has it.
    pub wall_time: Duration,
    /// The engine's heap, at most [`MAX_HEAP`].
    pub heap: usize,
    /// The engine's stack, at most [`MAX_STACK`].
    pub stack: usize,
    /// Host calls in all, those to unknown names included.
    pub calls: u32,
    /// Host calls at the same time; more of them wait.
    pub in_flight: u32,
    /// Arguments of one host call, as JSON.
    pub arguments: usize,
    /// The longest answer of one tool, as JSON. Answers to [reserved names](crate::RESERVED) may be [`MAX_CATALOGUE`] long.
    pub answer: usize,
    /// The script's own result, as JSON.
    pub result: usize,
    /// The longest console output; the rest is cut and the execution says so.
    pub logs: usize,
    /// The code as the model wrote it.
    pub code: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sandbox_time: Duration::from_secs(5),
            // Clients of the official SDK for TypeScript give up after 60 s, and would not hear what was wrong.
            wall_time: Duration::from_secs(50),
            heap: 64 << 20,
            stack: 512 << 10,
            calls: 100,
            in_flight: 16,
            arguments: 256 << 10,
            answer: 4 << 20,
            result: 1 << 20,
            logs: 16 << 10,
            code: 64 << 10,
        }
    }
}

/// The limit that ended an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Limit {
    /// [`Limits::sandbox_time`].
    SandboxTime,
    /// [`Limits::wall_time`].
    WallTime,
    /// [`Limits::heap`].
    Heap,
    /// [`Limits::stack`]: the script called itself too deeply.
    Stack,
    /// The code nests too deeply to be read.
    Nesting,
    /// [`Limits::calls`].
    Calls,
    /// [`Limits::arguments`].
    Arguments,
    /// [`Limits::answer`].
    Answer,
    /// [`Limits::result`].
    Result,
    /// [`Limits::code`].
    Code,
}

impl Limits {
    /// The limits as far as a worker can hold them: its address space, its stack and the longest frame set bounds of their own.
    pub(crate) fn held(&self) -> Self {
        Self {
            sandbox_time: self.sandbox_time.min(MAX_TIME),
            wall_time: self.wall_time.min(MAX_TIME),
            heap: self.heap.min(MAX_HEAP),
            stack: self.stack.min(MAX_STACK),
            calls: self.calls,
            in_flight: self.in_flight.max(1),
            arguments: self.arguments.min(MAX_CATALOGUE),
            answer: self.answer.min(MAX_CATALOGUE),
            result: self.result.min(MAX_CATALOGUE),
            logs: self.logs.min(MAX_CATALOGUE),
            code: self.code.min(MAX_CATALOGUE),
        }
    }
}

impl Limit {
    /// The name in metrics and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SandboxTime => "sandbox_time",
            Self::WallTime => "wall_time",
            Self::Heap => "heap",
            Self::Stack => "stack",
            Self::Nesting => "nesting",
            Self::Calls => "calls",
            Self::Arguments => "arguments",
            Self::Answer => "answer",
            Self::Result => "result",
            Self::Code => "code",
        }
    }

    /// The text for the model: what happened, and what to do differently.
    #[must_use]
    pub fn text(self, limits: &Limits) -> String {
        match self {
            Self::SandboxTime => format!(
                "The script computed for more than {} (waiting is not counted). Look for a loop that does not end; do less \
                 work per execution, or let a tool do the filtering.",
                seconds(limits.sandbox_time)
            ),
            Self::WallTime => format!(
                "The execution took longer than {} in all. Make fewer calls, make them at the same time with Promise.all, or split the \
                 work over several executions.",
                seconds(limits.wall_time)
            ),
            Self::Heap => format!(
                "The script used more than {} of memory. Keep only the fields you need, and ask tools for fewer items at a time.",
                size(limits.heap)
            ),
            Self::Stack => "The script called itself too deeply, or what it returned nests too deeply. Use a loop in place of the recursion, and return \
                            something flatter.".to_owned(),
            Self::Nesting => "The code nests too deeply to be read. Write it flatter, as several statements.".to_owned(),
            Self::Calls => format!(
                "The script made more than {} tool calls. Use a tool that takes several items at once, narrow the list first, or \
                 continue in another execution.",
                limits.calls
            ),
            Self::Arguments => format!(
                "The arguments of a tool call are longer than {} as JSON. Pass an identifier in place of the content, or less of it.",
                size(limits.arguments)
            ),
            Self::Answer => {
                format!("A tool answered with more than {}. Ask it for less: a filter, a page, fewer fields.", size(limits.answer))
            }
            Self::Result => format!(
                "The script returned more than {} as JSON. Return only what you need: pick fields, slice the list, or count.",
                size(limits.result)
            ),
            Self::Code => format!("The code is longer than {}. Send a shorter script; data belongs into tools.", size(limits.code)),
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_in_the_unit_it_was_set_in() {
        let limits = Limits { heap: 3 << 20, arguments: 1000, sandbox_time: Duration::from_millis(1500), ..Limits::default() };
        assert!(Limit::Heap.text(&limits).contains("3 MiB"));
        assert!(Limit::Arguments.text(&limits).contains("1000 bytes"));
        assert!(Limit::Result.text(&limits).contains("1 MiB"));
        assert!(Limit::SandboxTime.text(&limits).contains("1.5 s"));
    }
}
