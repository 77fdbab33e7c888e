//! One execution: frames, calls and the clock, all at the same time, in the future of whoever asked for it.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::session::{Heard, Session};
use super::worker::{Ended, Process, Worker};
use crate::Raw;
use crate::frame::{Answer, ToWorker, decode, encode, longest_from_worker};
use crate::host::{Asked, Host, Program};
use crate::limits::{Limit, Limits, MAX_CATALOGUE};
use crate::names::Names;
use crate::outcome::{Execution, Outcome, Violation};
use crate::zygote::UNCONFINED;

/// Unknown names that are answered with the nearest known one; looking takes time with the number of tools, and a script that has
/// not understood by then does not want to.
const SUGGESTIONS: u32 = 4;

/// Characters of a host's error that reach the script.
const MAX_ERROR: usize = 8_000;

/// Bytes of answers that wait for the worker before the host is let finish more calls: a script that asks for the catalogue sixteen
/// times at once must not have sixteen of them here.
const MAX_OUTGOING: usize = 1 << 20;

/// How the worker's side of it ended.
enum Stop {
    /// It said so.
    Done(Outcome),
    /// Its socket closed.
    Gone,
    /// It needs more than it may take.
    Limit(Limit),
    /// It said what it may not.
    Violation(Violation),
}

/// An execution that was never begun.
pub fn refused(outcome: Outcome) -> Execution {
    Execution { outcome, logs: Vec::new(), truncated: false, host_calls: 0, sandbox_time: Duration::ZERO, wall_time: Duration::ZERO }
}

pub async fn run<H: Host>(worker: Worker, program: Program<'_>, limits: &Limits, host: &H) -> Execution {
    let (mut socket, process) = worker.split();
    let mut session = Session::begin(limits);
    let stop = converse(&mut socket, &mut session, program, limits, host).await;
    let sandbox_time = session.sandbox_time();
    let outcome = end(stop, process, &session).await;
    Execution {
        outcome,
        host_calls: session.calls(),
        sandbox_time,
        wall_time: session.wall_time(),
        truncated: session.truncated,
        logs: session.lines,
    }
}

async fn converse<H: Host>(
    socket: &mut tokio::net::UnixStream,
    session: &mut Session<'_>,
    program: Program<'_>,
    limits: &Limits,
    host: &H,
) -> Stop {
    let longest = longest_from_worker(limits);
    let (mut from, mut to) = socket.split();
    let mut heard = Vec::new();
    let mut outgoing = Outgoing::default();
    outgoing.push(&ToWorker::Run { limits: limits.clone(), code: program.code });
    let mut calls = FuturesUnordered::new();
    let mut suggestions = SUGGESTIONS;
    loop {
        let (deadline, limit) = session.deadline(host.suspended());
        tokio::select! {
            // What it said counts before the clock: this task may be late itself.
            biased;
            read = from.read_buf(&mut heard) => match read {
                Ok(0) | Err(_) => return Stop::Gone,
                Ok(_) => {
                    let mut taken = 0;
                    loop {
                        let (frame, length) = match decode(&heard[taken..], longest) {
                            Ok(Some(decoded)) => decoded,
                            Ok(None) => break,
                            Err(_) => return Stop::Violation(Violation::Protocol("a frame cannot be read")),
                        };
                        match session.hear(frame) {
                            Ok(Heard::Nothing) => {}
                            Ok(Heard::Call { id, name, arguments }) => {
                                let suggest = if suggestions > 0 { Suggest::Nearest } else { Suggest::Nothing };
                                if Asked::from_name(&name, program.names).is_none() {
                                    suggestions = suggestions.saturating_sub(1);
                                }
                                calls.push(answer(host, program.names, limits, id, name, arguments, suggest));
                            }
                            Ok(Heard::Done(_)) if heard.len() > taken + length => {
                                return Stop::Violation(Violation::Protocol("it spoke after its end"));
                            }
                            Ok(Heard::Done(outcome)) => return Stop::Done(outcome),
                            Err(violation) => return Stop::Violation(violation),
                        }
                        taken += length;
                    }
                    heard.drain(..taken);
                }
            },
            Some(frame) = calls.next(), if !calls.is_empty() && outgoing.bytes < MAX_OUTGOING => {
                session.answered();
                outgoing.add(frame);
            }
            written = outgoing.write(&mut to), if !outgoing.frames.is_empty() => {
                if written.is_err() {
                    // It is gone, and how is told by the other direction.
                    outgoing = Outgoing::default();
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                // It may have been suspended since.
                if session.deadline(host.suspended()).0 <= Instant::now() {
                    return Stop::Limit(limit);
                }
            }
        }
    }
}

/// What the end of the process makes of it.
async fn end(stop: Stop, process: Process, session: &Session<'_>) -> Outcome {
    match stop {
        Stop::Done(outcome) => match process.end().await {
            Ended::Killed(signal) if signal != libc::SIGKILL => Outcome::Violation(Violation::Signal(signal)),
            _ => outcome,
        },
        Stop::Limit(limit) => {
            process.kill();
            process.end().await;
            Outcome::Limit(limit)
        }
        Stop::Violation(violation) => {
            process.kill();
            process.end().await;
            Outcome::Violation(violation)
        }
        Stop::Gone => match process.end().await {
            Ended::Killed(libc::SIGSEGV) if session.is_reading() => Outcome::Limit(Limit::Nesting),
            Ended::Killed(libc::SIGXCPU) => Outcome::Limit(Limit::SandboxTime),
            // Not by us: the kernel was out of memory, or an administrator is about.
            Ended::Killed(libc::SIGKILL) | Ended::Unknown => Outcome::Lost,
            Ended::Killed(signal) => Outcome::Violation(Violation::Signal(signal)),
            Ended::Exited(UNCONFINED) => {
                tracing::error!("a worker could not be confined and ran nothing");
                Outcome::Lost
            }
            Ended::Exited(status) => Outcome::Violation(Violation::Exit(status)),
        },
    }
}

/// Whether an unknown name is worth a search.
#[derive(Clone, Copy)]
enum Suggest {
    Nearest,
    Nothing,
}

/// Lets the host answer one call; its frame. `None` only if it cannot be a frame, which its bounds rule out.
async fn answer<H: Host>(
    host: &H,
    names: &Names,
    limits: &Limits,
    id: u32,
    name: String,
    arguments: Box<Raw>,
    suggest: Suggest,
) -> Option<Vec<u8>> {
    let Some(asked) = Asked::from_name(&name, names) else {
        let shown: String = name.chars().take(crate::MAX_NAME).collect();
        let nearest = if let Suggest::Nearest = suggest { names.nearest(&name) } else { None };
        let text = match nearest {
            Some(nearest) => format!("codemode.{shown} is not a function; did you mean codemode.{nearest}?"),
            None => format!("codemode.{shown} is not a function; search for what there is"),
        };
        return encode(&ToWorker::Answer { id, answer: Answer::Unknown(&text) });
    };
    let most = if let Asked::Tool(_) = asked { limits.answer } else { MAX_CATALOGUE };
    match host.call(asked, &arguments).await {
        Ok(value) if value.get().len() > most => {
            let text = Limit::Answer.text(&Limits { answer: most, ..limits.clone() });
            encode(&ToWorker::Answer { id, answer: Answer::Limit(&text) })
        }
        Ok(value) => encode(&ToWorker::Answer { id, answer: Answer::Value(value.get()) }),
        Err(text) => {
            let text: String = text.chars().take(MAX_ERROR).collect();
            encode(&ToWorker::Answer { id, answer: Answer::Failed(&text) })
        }
    }
}

/// Frames on their way to the worker: the first, and an answer for each call in flight.
#[derive(Default)]
struct Outgoing {
    frames: VecDeque<Vec<u8>>,
    /// Their bytes.
    bytes: usize,
    /// Bytes of the first one that are written.
    written: usize,
}

impl Outgoing {
    fn push(&mut self, message: &ToWorker<'_>) {
        self.add(encode(message));
    }

    fn add(&mut self, frame: Option<Vec<u8>>) {
        self.bytes += frame.as_ref().map_or(0, Vec::len);
        self.frames.extend(frame);
    }

    /// Writes some; safe to drop at any point.
    async fn write(&mut self, to: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<()> {
        let Some(frame) = self.frames.front() else { return Ok(()) };
        self.written += to.write(&frame[self.written..]).await?;
        if self.written == frame.len() {
            self.bytes -= frame.len();
            self.frames.pop_front();
            self.written = 0;
        }
        Ok(())
    }
}
