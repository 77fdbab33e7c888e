//! The protocol of a worker without its sockets: which messages it may send, and when.
//!
//! A worker that keeps to it can be slow or say nonsense in its own name. One that does not is broken into or broken, as no script
//! reaches the code that speaks.

use std::time::Duration;

use tokio::time::Instant;

use crate::Raw;
use crate::frame::{End, FromWorker, MAX_MESSAGE, MAX_REMARK};
use crate::limits::{Limit, Limits};
use crate::outcome::{CallEnd, Called, Line, ScriptOutcome, Violation};
use crate::worker::LINE;

/// The delay after its limit at which a worker is killed that does not stop by itself: native loops never check the time.
const GRACE: Duration = Duration::from_millis(40);

/// The protocol of one execution.
pub struct Session<'a> {
    limits: &'a Limits,
    begun: Instant,
    /// Since when the script computes.
    busy: Option<Instant>,
    consumed: Duration,
    reading: Reading,
    calls: u32,
    answers: u32,
    waits: u32,
    ticks: u32,
    /// The time at which a worker that rests is to be woken.
    alarm: Option<Instant>,
    /// The tools that were called, in order.
    pub called: Vec<Called>,
    /// True if it returned nothing.
    pub is_undefined: bool,
    /// A remark beside its value.
    pub remark: String,
    pub lines: Vec<Line>,
    written: usize,
    pub truncated: bool,
}

/// The progress of the normaliser.
#[derive(PartialEq, Eq)]
enum Reading {
    /// Not started.
    Not,
    Now,
    /// The program may be running.
    Over,
}

/// The consequence of a frame.
pub enum Heard {
    Nothing,
    Call { id: u32, name: String, arguments: Box<Raw> },
    Done(ScriptOutcome),
}

impl<'a> Session<'a> {
    pub fn begin(limits: &'a Limits) -> Self {
        let begun = Instant::now();
        Self {
            limits,
            begun,
            busy: Some(begun),
            consumed: Duration::ZERO,
            reading: Reading::Not,
            calls: 0,
            answers: 0,
            waits: 0,
            ticks: 0,
            alarm: None,
            called: Vec::new(),
            is_undefined: false,
            remark: String::new(),
            lines: Vec::new(),
            written: 0,
            truncated: false,
        }
    }

    pub fn hear(&mut self, frame: FromWorker<'_>) -> Result<Heard, Violation> {
        if self.is_waiting() {
            return Err(Violation::Protocol("it spoke while it waited"));
        }
        let fresh = self.reading == Reading::Not;
        let was = std::mem::replace(&mut self.reading, Reading::Over);
        match frame {
            FromWorker::Reading if fresh => self.reading = Reading::Now,
            FromWorker::Read if was == Reading::Now => {}
            FromWorker::Reading | FromWorker::Read => return Err(Violation::Protocol("it read its code twice")),
            _ if was == Reading::Now => return Err(Violation::Protocol("it spoke while it read its code")),
            FromWorker::Log { severity, text } => {
                self.written += text.len() + LINE;
                if self.written > self.limits.logs {
                    return Err(Violation::Protocol("it wrote more than its console holds"));
                }
                self.lines.push(Line { severity, text: text.to_owned() });
            }
            FromWorker::Call { id, name, arguments } => return self.call(id, name, arguments),
            FromWorker::Wait => {
                // Each wait takes one answer.
                if self.waits >= self.calls + self.ticks {
                    return Err(Violation::Protocol("it waited for nothing"));
                }
                self.wait();
            }
            FromWorker::Rest { milliseconds } => {
                self.wait();
                if self.is_waiting() {
                    self.alarm = Some(Instant::now() + Duration::from_millis(milliseconds.max(1).into()));
                }
            }
            FromWorker::Done { remark, .. } if remark.len() > MAX_REMARK => {
                return Err(Violation::Protocol("it sends more beside its result than is allowed"));
            }
            FromWorker::Done { end, truncated, remark } => {
                self.truncated = truncated;
                self.remark = remark.to_owned();
                return self.done(end).map(Heard::Done);
            }
        }
        Ok(Heard::Nothing)
    }

    fn wait(&mut self) {
        self.waits += 1;
        if self.is_waiting() {
            self.consumed = self.sandbox_time();
            self.busy = None;
        }
    }

    fn call(&mut self, id: u32, name: &str, arguments: &str) -> Result<Heard, Violation> {
        if self.calls >= self.limits.calls || self.calls - self.answers >= self.limits.in_flight {
            return Err(Violation::Protocol("it made more calls than it may"));
        }
        self.calls += 1;
        if id != self.calls {
            return Err(Violation::Protocol("its calls are not numbered in order"));
        }
        if arguments.len() > self.limits.arguments {
            return Err(Violation::Protocol("its arguments are longer than is allowed"));
        }
        match Raw::from_string(arguments.to_owned()) {
            Ok(arguments) => Ok(Heard::Call { id, name: name.to_owned(), arguments }),
            Err(_) => Err(Violation::Protocol("its arguments are not JSON")),
        }
    }

    fn done(&mut self, end: End<'_>) -> Result<ScriptOutcome, Violation> {
        match end {
            End::Value(json) if json.len() > self.limits.result => Err(Violation::Protocol("its result is longer than is allowed")),
            End::Value(json) => {
                self.is_undefined = json.is_empty();
                let json = if json.is_empty() { "null" } else { json };
                Raw::from_string(json.to_owned()).map(ScriptOutcome::Value).map_err(|_| Violation::Protocol("its result is not JSON"))
            }
            End::Thrown(text) => Ok(ScriptOutcome::Thrown { message: text.chars().take(MAX_MESSAGE).collect() }),
            End::Limit(limit) => Ok(ScriptOutcome::Limit(limit)),
        }
    }

    /// A tool is asked. Its answer is not known yet.
    pub fn asks(&mut self, id: u32, tool: &str) {
        self.called.push(Called { id, tool: tool.into(), end: CallEnd::Unanswered });
    }

    /// An answer is on its way to the worker, whose clock runs again if it waited for one.
    pub fn answered(&mut self, id: u32, end: CallEnd) {
        self.answers += 1;
        if let Some(called) = self.called.iter_mut().rev().find(|called| called.id == id) {
            called.end = end;
        }
        self.goes_on();
    }

    /// A worker that rests is woken.
    pub fn ticked(&mut self) {
        self.ticks += 1;
        self.goes_on();
    }

    fn goes_on(&mut self) {
        if !self.is_waiting() {
            self.alarm = None;
            if self.busy.is_none() {
                self.busy = Some(Instant::now());
            }
        }
    }

    fn is_waiting(&self) -> bool {
        self.waits > self.answers + self.ticks
    }

    /// The time at which a worker that rests is to be woken.
    pub fn alarm(&self) -> Option<Instant> {
        self.alarm
    }

    /// The current deadline, and the limit that it enforces. `suspended` is the time of suspension so far.
    pub fn deadline(&self, suspended: Duration) -> (Instant, Limit) {
        let wall = (self.begun + self.limits.wall_time + suspended, Limit::WallTime);
        match self.busy {
            Some(since) => {
                let sandbox = (since + self.limits.sandbox_time.saturating_sub(self.consumed) + GRACE, Limit::SandboxTime);
                if sandbox.0 < wall.0 { sandbox } else { wall }
            }
            None => wall,
        }
    }

    /// The worker has taken so little of a processor until now: what it did not get of a busy host is given to it once more, within the wall
    /// clock.
    pub fn has_spent(&mut self, processor: Duration) {
        if self.busy.is_some() {
            self.busy = Some(Instant::now());
            self.consumed = processor;
        }
    }

    /// True if it ended while compiling, before any of the script ran: the code may be too much for the compiler.
    pub fn is_reading(&self) -> bool {
        self.reading == Reading::Now
    }

    pub fn calls(&self) -> u32 {
        self.calls
    }

    pub fn sandbox_time(&self) -> Duration {
        self.consumed + self.busy.map(|since| since.elapsed()).unwrap_or_default()
    }

    pub fn wall_time(&self) -> Duration {
        self.begun.elapsed()
    }
}
