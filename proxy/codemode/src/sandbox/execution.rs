//! One execution: frames, calls and the clock, all concurrently, in the future of its caller.

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
use crate::frame::{Answer, ToWorker, Work, decode, encode, longest_from_worker};
use crate::host::{Asked, CallFailure, FAILED_WITH_META, Host, LOST_WITH_META, Program, Task};
use crate::limits::{Limit, Limits, MAX_CATALOGUE};
use crate::names::Names;
use crate::outcome::{CallEnd, Execution, ScriptOutcome, Violation};
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
    /// The worker sent its result.
    Done(ScriptOutcome),
    /// The socket closed.
    Gone,
    /// A limit was reached.
    Limit(Limit),
    /// The worker broke the protocol.
    Violation(Violation),
}

/// An execution that was never begun.
pub fn refused(outcome: ScriptOutcome) -> Execution {
    Execution {
        outcome,
        logs: Vec::new(),
        truncated: false,
        host_calls: 0,
        called: Vec::new(),
        is_undefined: false,
        remark: String::new(),
        sandbox_time: Duration::ZERO,
        wall_time: Duration::ZERO,
    }
}

pub async fn run<H: Host>(worker: Worker, (program, task): (Program<'_>, Task<'_>), limits: &Limits, host: &H) -> Execution {
    let (mut socket, process) = worker.split();
    let mut session = Session::begin(limits);
    let stop = converse((&mut socket, &process), &mut session, (program, task), limits, host).await;
    let sandbox_time = session.sandbox_time();
    let outcome = end(stop, process, &session).await;
    Execution {
        outcome,
        host_calls: session.calls(),
        sandbox_time,
        wall_time: session.wall_time(),
        truncated: session.truncated,
        is_undefined: session.is_undefined,
        remark: session.remark,
        called: session.called,
        logs: session.lines,
    }
}

async fn converse<H: Host>(
    (socket, process): (&mut tokio::net::UnixStream, &Process),
    session: &mut Session<'_>,
    (program, task): (Program<'_>, Task<'_>),
    limits: &Limits,
    host: &H,
) -> Stop {
    let longest = longest_from_worker(limits);
    let (mut from, mut to) = socket.split();
    let mut heard = Vec::new();
    let mut outgoing = Outgoing::default();
    let task = match task {
        Task::Run => Work::Run,
        Task::RunWith(arguments) => Work::RunWith(arguments.get()),
        Task::Read => Work::Read,
    };
    outgoing.push(&ToWorker::Run { limits: limits.clone(), code: program.code, task });
    let mut calls = FuturesUnordered::new();
    let mut suggestions = SUGGESTIONS;
    loop {
        let (deadline, limit) = session.deadline(host.suspended());
        tokio::select! {
            // Frames are read before the deadline is checked: this task may be late itself.
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
                                let asked = asked(&name, arguments, program.names);
                                match &asked {
                                    Ok((asked, _)) => asked.tool().into_iter().for_each(|tool| session.asks(id, tool)),
                                    Err(_) => suggestions = suggestions.saturating_sub(1),
                                }
                                calls.push(answer(host, program.names, limits, id, asked, suggest));
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
            Some((id, end, frame)) = calls.next(), if !calls.is_empty() && outgoing.bytes < MAX_OUTGOING => {
                session.answered(id, end);
                outgoing.add(frame);
            }
            () = wake(session.alarm()) => {
                session.ticked();
                outgoing.push(&ToWorker::Tick);
            }
            written = outgoing.write(&mut to), if !outgoing.frames.is_empty() => {
                if written.is_err() {
                    // The worker is gone; the reading side reports how.
                    outgoing = Outgoing::default();
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                if let (Limit::SandboxTime, Some(spent)) = (limit, process.spent())
                    && spent < limits.sandbox_time
                {
                    session.has_spent(spent);
                    continue;
                }
                // The deadline may have moved by a suspension since.
                if session.deadline(host.suspended()).0 <= Instant::now() {
                    return Stop::Limit(limit);
                }
            }
        }
    }
}

/// Waits until a worker that rests is to be woken; for ever if none does.
async fn wake(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => tokio::time::sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}

/// The outcome by the end of the process.
async fn end(stop: Stop, process: Process, session: &Session<'_>) -> ScriptOutcome {
    match stop {
        Stop::Done(outcome) => match process.end().await {
            Ended::Killed(signal) if signal != libc::SIGKILL => ScriptOutcome::Violation(Violation::Signal(signal)),
            _ => outcome,
        },
        Stop::Limit(limit) => {
            process.kill();
            process.end().await;
            ScriptOutcome::Limit(limit)
        }
        Stop::Violation(violation) => {
            process.kill();
            process.end().await;
            ScriptOutcome::Violation(violation)
        }
        Stop::Gone => match process.end().await {
            Ended::Killed(libc::SIGSEGV) if session.is_reading() => ScriptOutcome::Limit(Limit::Nesting),
            Ended::Killed(libc::SIGXCPU) => ScriptOutcome::Limit(Limit::SandboxTime),
            // Not by us: the kernel was out of memory, or an administrator is about.
            Ended::Killed(libc::SIGKILL) | Ended::Unknown => ScriptOutcome::Lost,
            // A compiler that gives up aborts or panics, and both end as a break-out would.
            Ended::Killed(_) | Ended::Exited(_) if session.is_reading() => ScriptOutcome::Unreadable,
            Ended::Killed(signal) => ScriptOutcome::Violation(Violation::Signal(signal)),
            Ended::Exited(UNCONFINED) => {
                tracing::error!("a worker could not be confined and ran nothing");
                ScriptOutcome::Lost
            }
            Ended::Exited(status) => ScriptOutcome::Violation(Violation::Exit(status)),
        },
    }
}

/// Whether an unknown name is worth a search.
#[derive(Clone, Copy)]
enum Suggest {
    Nearest,
    Nothing,
}

/// A script's request with its arguments, or the unknown name.
type Asks<'a> = Result<(Asked<'a>, Box<Raw>), String>;

fn asked<'a>(name: &str, arguments: Box<Raw>, names: &'a Names) -> Asks<'a> {
    if name != "withMeta" {
        return Asked::from_name(name, names).map(|asked| (asked, arguments)).ok_or_else(|| name.to_owned());
    }
    // The tool's name and its arguments, as they would be without.
    let mut given: Vec<Box<Raw>> = serde_json::from_str(arguments.get()).unwrap_or_default();
    let name: String = given.first().and_then(|name| serde_json::from_str(name.get()).ok()).unwrap_or_default();
    let arguments = if given.len() > 1 { given.swap_remove(1) } else { Raw::from_string("{}".to_owned()).unwrap_or_default() };
    names.meant(&name).map(|name| (Asked::WithMeta(name), arguments)).ok_or(name)
}

/// Lets the host answer one call: its number, what came of it, and its frame. No frame only if it cannot be one, which its bounds
/// rule out.
async fn answer<H: Host>(
    host: &H,
    names: &Names,
    limits: &Limits,
    id: u32,
    asked: Asks<'_>,
    suggest: Suggest,
) -> (u32, CallEnd, Option<Vec<u8>>) {
    let (asked, arguments) = match asked {
        Ok(asked) => asked,
        Err(name) => {
            let text = unknown(host, names, &name, suggest).await;
            return (id, CallEnd::Failed, encode(&ToWorker::Answer { id, answer: Answer::Unknown(&text) }));
        }
    };
    let most = if asked.tool().is_some() { limits.answer } else { MAX_CATALOGUE };
    let (end, frame) = match host.call(asked, &arguments).await {
        Ok(value) if value.get().len() > most => {
            let text = Limit::Answer.text(&Limits { answer: most, ..limits.clone() });
            (CallEnd::Answered, encode(&ToWorker::Answer { id, answer: Answer::Limit(&text) }))
        }
        Ok(value) => {
            let end = match asked {
                Asked::WithMeta(_) if value.get().starts_with(FAILED_WITH_META) => CallEnd::Failed,
                Asked::WithMeta(_) if value.get().starts_with(LOST_WITH_META) => CallEnd::Lost,
                _ => CallEnd::Answered,
            };
            (end, encode(&ToWorker::Answer { id, answer: Answer::Value(value.get()) }))
        }
        Err(CallFailure { text, end }) => {
            let text: String = text.chars().take(MAX_ERROR).collect();
            (end, encode(&ToWorker::Answer { id, answer: Answer::Failed(&text) }))
        }
    };
    (id, end, frame)
}

/// The error text for an unknown name.
async fn unknown<H: Host>(host: &H, names: &Names, name: &str, suggest: Suggest) -> String {
    let shown: String = name.chars().take(crate::MAX_NAME).collect();
    if let Some(text) = host.unknown(name).await {
        return text;
    }
    let nearest = if let Suggest::Nearest = suggest { names.nearest(name) } else { None };
    match nearest {
        Some(nearest) => format!(
            "codemode.{shown} is not a function; did you mean codemode.{nearest}? See codemode.describe('{nearest}') before you call it"
        ),
        None => format!("codemode.{shown} is not a function; search for what there is with codemode.search('words')"),
    }
}

/// Frames on their way to the worker: the first, and an answer for each call in flight.
#[derive(Default)]
struct Outgoing {
    frames: VecDeque<Vec<u8>>,
    /// The sum of their bytes.
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
