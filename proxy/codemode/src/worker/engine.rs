//! The JavaScript engine: one runtime, one program, one thread.
//!
//! It is synchronous: jobs run until there are none, then calls go out, then the process waits for an answer. Nothing else could
//! make a promise settle (there are no timers), so one that is still pending with no call in flight never will, and is reported at
//! once. Bounds are checked between jobs as well as by the engine's interrupt handler, which native loops do not ask; those are
//! the parent's to kill.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use rquickjs::context::{EvalOptions, intrinsic};
use rquickjs::promise::PromiseState;
use rquickjs::{Context, Ctx, Exception, Function, Object, Persistent, Promise, Runtime};

use super::MAX_MESSAGE;
use super::channel::Channel;
use super::clock::Clock;
use super::normalise::{expression, normalise};
use crate::frame::{Answer, End, FromWorker, ToWorker, message};
use crate::limits::{Limit, Limits};
use crate::names::MAX_NAME;
use crate::outcome::Severity;
use crate::sys::{Bounded, Heap};

/// All but what measures time finely or shows the collector at work.
type Intrinsics = (
    intrinsic::Date,
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::Proxy,
    intrinsic::MapSet,
    intrinsic::TypedArrays,
    intrinsic::Promise,
);

const PRELUDE: &str = include_str!("prelude.js");

/// What a line of the console costs beside its text, so that empty lines are bounded too.
pub const LINE: usize = 16;

/// How long the zygote's own engine may live: its clock is started anew in each worker.
const UNUSED: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What the engine says of its stack, in an error that can be caught.
const TOO_DEEP: &str = "Maximum call stack size exceeded";

/// What waits to be sent.
#[derive(Default)]
struct Outbox {
    limits: Limits,
    calls: VecDeque<(u32, String, String)>,
    made: u32,
    lines: Vec<(Severity, String)>,
    written: usize,
    truncated: bool,
}

/// An engine with the prelude in it, as the zygote makes it. Its field order matters: what is kept of the runtime goes before it.
pub struct Engine {
    run: Persistent<Function<'static>>,
    answer: Persistent<Function<'static>>,
    seed: Persistent<Function<'static>>,
    outbox: Rc<RefCell<Outbox>>,
    clock: Rc<Clock>,
    heap: Rc<Heap>,
    context: Context,
    runtime: Runtime,
}

impl Engine {
    /// # Errors
    /// The prelude does not run, which is a bug.
    pub fn new() -> Result<Self, rquickjs::Error> {
        let heap = Rc::new(Heap::default());
        heap.bound(Limits::default().heap);
        let runtime = Runtime::new_with_alloc(Bounded(Rc::clone(&heap)))?;
        let clock = Rc::new(Clock::start(UNUSED));
        let asked = Rc::clone(&clock);
        runtime.set_interrupt_handler(Some(Box::new(move || asked.is_over())));
        let context = Context::custom::<Intrinsics>(&runtime)?;
        let outbox = Rc::new(RefCell::new(Outbox::default()));
        let (run, answer, seed) = context.with(|ctx| prelude(&ctx, &outbox))?;
        Ok(Self { run, answer, seed, outbox, clock, heap, context, runtime })
    }

    /// Runs `code` and says so on `channel`.
    ///
    /// # Errors
    /// The parent is gone or speaks another protocol.
    pub fn run(&self, code: &str, limits: &Limits, channel: &mut Channel) -> io::Result<()> {
        self.heap.bound(limits.heap);
        self.runtime.set_max_stack_size(limits.stack);
        self.clock.restart(limits.sandbox_time);
        self.outbox.borrow_mut().limits = limits.clone();
        let end = self.context.with(|ctx| self.execute(&ctx, code, channel))?;
        let end = match &end {
            // The interrupt cannot be told from what it interrupted.
            _ if self.clock.is_over() => End::Limit(Limit::SandboxTime),
            Ended::Value(json) if json.len() > limits.result => End::Limit(Limit::Result),
            Ended::Value(json) => End::Value(json),
            Ended::Limit(limit) => End::Limit(*limit),
            Ended::Thrown(_) if self.heap.exhausted() => End::Limit(Limit::Heap),
            Ended::Thrown(text) => match blamed(text, limits) {
                Some(limit) => End::Limit(limit),
                None => End::Thrown(text),
            },
        };
        self.send_lines(channel)?;
        let truncated = self.outbox.borrow().truncated;
        channel.send(&FromWorker::Done { end, truncated })
    }

    fn execute<'js>(&self, ctx: &Ctx<'js>, code: &str, channel: &mut Channel) -> io::Result<Ended> {
        let program = match self.compile(ctx, code, channel)? {
            Ok(program) => program,
            Err(text) if text.contains(TOO_DEEP) => return Ok(Ended::Limit(Limit::Nesting)),
            Err(text) => return Ok(Ended::Thrown(text)),
        };
        let mut seed = [0; 4];
        getrandom::fill(&mut seed).map_err(|_| io::ErrorKind::Unsupported)?;
        let begun = self.seed.clone().restore(ctx).and_then(|reseed| reseed.call::<_, ()>((u32::from_le_bytes(seed),)));
        let begun = begun.and_then(|()| self.run.clone().restore(ctx)?.call::<_, Promise<'js>>((program,)));
        let promise = match begun {
            Ok(promise) => promise,
            Err(error) => return Ok(Ended::Thrown(describe(ctx, &error))),
        };
        let mut in_flight = 0;
        loop {
            while !self.clock.is_over() && ctx.execute_pending_job() {}
            if self.clock.is_over() {
                return Ok(Ended::Thrown(String::new()));
            }
            match promise.state() {
                PromiseState::Pending => {}
                PromiseState::Resolved | PromiseState::Rejected => {
                    return Ok(match promise.result::<String>() {
                        Some(Ok(told)) => Ended::from_told(told),
                        Some(Err(error)) => Ended::Thrown(describe(ctx, &error)),
                        None => Ended::Thrown(String::new()),
                    });
                }
            }
            in_flight += self.send_calls(channel, in_flight)?;
            if in_flight == 0 {
                let text = "Error: the script waits for a promise that never settles: no tool call is in progress, and there are no timers";
                return Ok(Ended::Thrown(text.to_owned()));
            }
            self.send_lines(channel)?;
            channel.send(&FromWorker::Wait)?;
            self.clock.stop();
            let frame = channel.receive()?;
            self.clock.go();
            let Ok(ToWorker::Answer { id, answer }) = message(&frame) else { return Err(io::ErrorKind::InvalidData.into()) };
            in_flight -= 1;
            let (kind, body) = match answer {
                Answer::Value(body) => (0, body),
                Answer::Failed(body) | Answer::Limit(body) => (1, body),
                Answer::Unknown(body) => (2, body),
            };
            let taken = self.answer.clone().restore(ctx).and_then(|take| take.call::<_, ()>((id, kind, body)));
            if let Err(error) = taken {
                return Ok(Ended::Thrown(describe(ctx, &error)));
            }
        }
    }

    /// Makes a function of the code; nothing of it runs yet. Most code is one expression, which the engine can tell by itself.
    fn compile<'js>(&self, ctx: &Ctx<'js>, code: &str, channel: &mut Channel) -> io::Result<Result<Function<'js>, String>> {
        if let Some(expression) = expression(code) {
            let wrapped = format!("(async()=>{{return ({expression}\n)}})");
            match ctx.eval_with_options(wrapped, options()) {
                Ok(program) => return Ok(Ok(program)),
                Err(_) => drop(ctx.catch()),
            }
        }
        channel.send(&FromWorker::Reading)?;
        let normalised = normalise(code);
        channel.send(&FromWorker::Read)?;
        Ok(match normalised {
            Ok(program) => ctx.eval_with_options(program, options()).map_err(|error| describe(ctx, &error)),
            Err(unreadable) => Err(format!("SyntaxError: {unreadable}")),
        })
    }

    /// Sends what may be in flight beside what is; how many that were.
    fn send_calls(&self, channel: &mut Channel, in_flight: u32) -> io::Result<u32> {
        let mut sent = 0;
        let mut outbox = self.outbox.borrow_mut();
        while in_flight + sent < outbox.limits.in_flight
            && let Some((id, name, arguments)) = outbox.calls.pop_front()
        {
            channel.send(&FromWorker::Call { id, name: &name, arguments: &arguments })?;
            sent += 1;
        }
        Ok(sent)
    }

    fn send_lines(&self, channel: &mut Channel) -> io::Result<()> {
        let lines = std::mem::take(&mut self.outbox.borrow_mut().lines);
        lines.iter().try_for_each(|(severity, text)| channel.send(&FromWorker::Log { severity: *severity, text }))
    }
}

/// How a program ended, before bounds are looked at.
enum Ended {
    Value(String),
    Limit(Limit),
    Thrown(String),
}

impl Ended {
    /// Of what the prelude's `run` resolves to.
    fn from_told(mut told: String) -> Self {
        let text = told.split_off(told.len().min(1));
        match told.as_str() {
            "v" => Self::Value(text),
            _ => Self::Thrown(tidy(&text)),
        }
    }
}

type Kept = Persistent<Function<'static>>;

fn prelude(ctx: &Ctx<'_>, outbox: &Rc<RefCell<Outbox>>) -> Result<(Kept, Kept, Kept), rquickjs::Error> {
    let calls = Rc::clone(outbox);
    let ask = Function::new(ctx.clone(), move |ctx: Ctx<'_>, name: String, arguments: String| {
        let mut outbox = calls.borrow_mut();
        if name.len() > MAX_NAME {
            return Err(Exception::throw_type(&ctx, "there is no tool with so long a name"));
        }
        let limit = if outbox.made >= outbox.limits.calls {
            Limit::Calls
        } else if arguments.len() > outbox.limits.arguments {
            Limit::Arguments
        } else {
            outbox.made += 1;
            let id = outbox.made;
            outbox.calls.push_back((id, name, arguments));
            return Ok(id);
        };
        Err(Exception::throw_range(&ctx, &limit.text(&outbox.limits)))
    })?;
    let lines = Rc::clone(outbox);
    let write = Function::new(ctx.clone(), move |severity: u8, mut text: String| {
        let mut outbox = lines.borrow_mut();
        let room = outbox.limits.logs.saturating_sub(outbox.written);
        if room < LINE {
            outbox.truncated = true;
            return;
        }
        if text.len() > room - LINE {
            outbox.truncated = true;
            text.truncate(text.floor_char_boundary(room - LINE));
        }
        outbox.written += text.len() + LINE;
        let severity = match severity {
            0 => Severity::Log,
            1 => Severity::Warn,
            _ => Severity::Error,
        };
        outbox.lines.push((severity, text));
    })?;
    let mut named = options();
    named.filename = Some("prelude".to_owned());
    let begin: Function<'_> = ctx.eval_with_options(PRELUDE, named)?;
    let made: Object<'_> = begin.call((ask, write))?;
    let kept = |name| made.get::<_, Function<'_>>(name).map(|function| Persistent::save(ctx, function));
    Ok((kept("run")?, kept("answer")?, kept("seed")?))
}

fn options() -> EvalOptions {
    let mut options = EvalOptions::default();
    options.global = true;
    options.strict = true;
    options.filename = Some("script".to_owned());
    options
}

/// What the engine threw outside of the prelude's reach: code that does not compile, memory that ran out.
fn describe(ctx: &Ctx<'_>, error: &rquickjs::Error) -> String {
    let thrown = ctx.catch();
    let exception = thrown.into_object().and_then(Exception::from_object);
    match exception {
        Some(exception) => {
            let name = exception.as_object().get::<_, String>("name").unwrap_or_else(|_| "Error".to_owned());
            let stack = exception.stack().unwrap_or_default();
            tidy(&format!("{name}: {}\n{stack}", exception.message().unwrap_or_default()))
        }
        None => error.to_string(),
    }
}

/// An error's text as it leaves: without our own frames, with a hint where one helps, bounded.
fn tidy(text: &str) -> String {
    let mut tidied = String::new();
    for (at, line) in text.lines().enumerate() {
        let ours = at > 0
            && line.trim_start().starts_with("at ")
            && (line.contains("(prelude:") || line.contains("at prelude:") || line.contains("(native)"));
        if !ours {
            tidied.push_str(if at > 0 { "\n" } else { "" });
            tidied.push_str(line);
        }
    }
    if let Some(name) = tidied.strip_prefix("ReferenceError: ").and_then(|rest| rest.split_once(" is not defined")).map(|(name, _)| name)
        && OUTSIDE.contains(&name)
    {
        let hint = " (there is no network, no file system, no module and no timer here: call tools as codemode.<name>(arguments))";
        tidied.insert_str("ReferenceError: ".len() + name.len() + " is not defined".len(), hint);
    }
    match tidied.char_indices().nth(MAX_MESSAGE) {
        Some((cut, _)) => tidied[..cut].to_owned(),
        None => tidied,
    }
}

/// What models expect to be there, and is not.
const OUTSIDE: [&str; 14] = [
    "fetch",
    "require",
    "process",
    "setTimeout",
    "setInterval",
    "setImmediate",
    "XMLHttpRequest",
    "WebSocket",
    "Deno",
    "Bun",
    "Buffer",
    "window",
    "document",
    "module",
];

/// Which bound an error tells of, if it is one of ours or the engine's. A script that throws such a text itself says so of itself.
fn blamed(text: &str, limits: &Limits) -> Option<Limit> {
    if text.contains(TOO_DEEP) {
        return Some(Limit::Stack);
    }
    [Limit::Calls, Limit::Arguments, Limit::Answer].into_iter().find(|limit| text.contains(&limit.text(limits)))
}
