//! The JavaScript engine: one runtime, one program, one thread.
//!
//! It is synchronous: jobs run until there are none, then calls go out, then the process waits for an answer, or for its parent's
//! word that a timer is due. Nothing else can make a promise settle, so one that is pending with neither never will, and is reported
//! at once. Bounds are checked between jobs as well as by the engine's interrupt handler, which native loops do not ask; those are
//! the parent's to kill.
//!
//! A program ends when its function has ended and so have its calls: a call that is not awaited is sent and waited for before the result is
//! reported, which may hold its value.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rquickjs::context::intrinsic;
use rquickjs::promise::PromiseState;
use rquickjs::{Context, Ctx, Exception, Function, Promise, Runtime};

use super::bindings::{Bindings, Outbox, milliseconds};
use super::channel::Channel;
use super::clock::Clock;
use super::exact::exact;
use super::normalise::{expression, program, unwrapped};
use super::options::options;
use super::positions::{Placed, spot};
use super::told::{blamed, is_too_deep, tidy, unrun};
use crate::frame::MAX_REMARK;
use crate::frame::{Answer, End, FromWorker, ToWorker, Work, message};
use crate::limits::{Limit, Limits};
use crate::sys::{Bounded, Heap};

/// The built-ins, but those that measure time finely or show the collector at work.
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

/// The lifetime of the zygote's own engine: its clock is restarted in each worker.
const UNUSED: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The longest wait for timers that a program left behind: those that end a race are longer.
const LINGER: Duration = Duration::from_secs(10);

/// An engine with the prelude in it, as the zygote makes it. Its field order matters: what is kept of the runtime goes before it.
pub struct Engine {
    bindings: Bindings,
    outbox: Rc<RefCell<Outbox>>,
    clock: Rc<Clock>,
    begun: Instant,
    heap: Rc<Heap>,
    context: Context,
    runtime: Runtime,
}

/// How far a program is.
enum Stage {
    /// The function runs.
    Runs,
    /// The function has ended; what it began has not.
    Lingers,
    /// The result is being written down, for which promises in it may have to settle.
    Tells,
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
        let begun = Instant::now();
        let bindings = context.with(|ctx| Bindings::make(&ctx, &outbox, begun))?;
        Ok(Self { bindings, outbox, clock, begun, heap, context, runtime })
    }

    /// Does with `code` what is asked, and says so on `channel`.
    ///
    /// # Errors
    /// The parent is gone or speaks another protocol.
    pub fn run(&self, (code, task): (&str, Work<'_>), limits: &Limits, channel: Channel) -> io::Result<()> {
        self.heap.bound(limits.heap);
        self.runtime.set_max_stack_size(limits.stack);
        self.clock.restart(limits.sandbox_time);
        self.outbox.borrow_mut().open(limits, channel);
        let rejected = self.bindings.rejected.clone();
        // Only here, in a process that ends without giving anything back: it holds a function of the engine that holds it.
        self.runtime.set_host_promise_rejection_tracker(Some(Box::new(move |ctx, promise, reason, handled| {
            let _ = rejected.clone().restore(&ctx).and_then(|rejected| rejected.call::<_, ()>((promise, reason, handled)));
        })));
        let code = unwrapped(code);
        let end = self.context.with(|ctx| self.execute(&ctx, (&code, task)))?;
        let end = match &end {
            // The interrupt cannot be told from what it interrupted.
            _ if self.clock.is_over() => End::Limit(Limit::SandboxTime),
            Ended::Value(json) if json.len() > limits.result => End::Limit(Limit::Result),
            Ended::Value(json) => match unrun(json, &code).filter(|_| self.outbox.borrow().made == 0) {
                Some(text) => End::Thrown(text),
                None => End::Value(json),
            },
            Ended::Limit(limit) => End::Limit(*limit),
            Ended::Thrown(_) if self.heap.exhausted() => End::Limit(Limit::Heap),
            Ended::Thrown(text) => match blamed(text, limits) {
                Some(limit) => End::Limit(limit),
                None => End::Thrown(text),
            },
        };
        let remark = match end {
            End::Value(_) => {
                self.context.with(|ctx| self.bindings.remarked.clone().restore(&ctx)?.call::<_, String>(())).unwrap_or_default()
            }
            _ => String::new(),
        };
        let remark = &remark[..remark.floor_char_boundary(MAX_REMARK)];
        let mut outbox = self.outbox.borrow_mut();
        let truncated = outbox.truncated;
        outbox.send(&FromWorker::Done { end, truncated, remark })
    }

    fn execute<'js>(&self, ctx: &Ctx<'js>, (code, task): (&str, Work<'_>)) -> io::Result<Ended> {
        let mut placed = Placed::default();
        let program = match self.compile(ctx, code, &mut placed)? {
            Ok(program) => program,
            Err(text) if is_too_deep(&text) => return Ok(Ended::Limit(Limit::Nesting)),
            Err(text) => return Ok(Ended::Thrown(text)),
        };
        let given;
        let arguments = match task {
            Work::Run => "",
            // As in answers: what numbers do not hold is a text.
            Work::RunWith(arguments) => {
                given = exact(arguments);
                given.as_deref().unwrap_or(arguments)
            }
            Work::Read => return Ok(Ended::Value("true".to_owned())),
        };
        let told = |text: &str| tidy(text, code, &placed.positions);
        let thrown = |error: &rquickjs::Error| Ended::Thrown(told(&describe(ctx, error)));
        let mut seed = [0; 4];
        getrandom::fill(&mut seed).map_err(|_| io::ErrorKind::Unsupported)?;
        let begun = self.bindings.seed.clone().restore(ctx).and_then(|reseed| reseed.call::<_, ()>((u32::from_le_bytes(seed),)));
        let begun = begun.and_then(|()| self.bindings.run.clone().restore(ctx)?.call::<_, Promise<'js>>((program, arguments)));
        let mut promise = match begun {
            Ok(promise) => promise,
            Err(error) => return Ok(thrown(&error)),
        };
        let mut stage = Stage::Runs;
        let mut in_flight = 0;
        let is_over = || self.clock.is_over() || self.outbox.borrow().ended.is_some();
        loop {
            while !is_over() && ctx.execute_pending_job() {}
            if self.clock.is_over() {
                return Ok(Ended::Thrown(String::new()));
            }
            // A script may catch the error of a limit; the limit holds all the same.
            if let Some(limit) = self.outbox.borrow().ended {
                return Ok(Ended::Limit(limit));
            }
            if !matches!(stage, Stage::Lingers) && promise.state() != PromiseState::Pending {
                match promise.result::<String>() {
                    Some(Ok(said)) if said == "d" => stage = Stage::Lingers,
                    Some(Ok(said)) => return Ok(Ended::from_told(said, told)),
                    Some(Err(error)) => return Ok(thrown(&error)),
                    None => return Ok(Ended::Thrown(String::new())),
                }
            }
            let step = || -> Result<(bool, bool), rquickjs::Error> {
                let fired = self.bindings.fire.clone().restore(ctx)?.call::<_, bool>(())?;
                let owes = self.bindings.owes.clone().restore(ctx)?;
                Ok((fired, fired || owes.call::<_, bool>((LINGER.as_millis() as f64,))?))
            };
            let owes = match step() {
                Ok((true, _)) => continue,
                Ok((false, owes)) => owes,
                Err(error) => return Ok(thrown(&error)),
            };
            if matches!(stage, Stage::Lingers) && !owes {
                promise = match self.bindings.tell.clone().restore(ctx).and_then(|tell| tell.call::<_, Promise<'js>>(())) {
                    Ok(promise) => promise,
                    Err(error) => return Ok(thrown(&error)),
                };
                stage = Stage::Tells;
                continue;
            }
            in_flight += self.send_calls(in_flight)?;
            let due = match self.bindings.due.clone().restore(ctx).and_then(|due| due.call::<_, f64>(())) {
                Ok(due) => (due >= 0.0).then_some(due),
                Err(error) => return Ok(thrown(&error)),
            };
            if in_flight == 0 && due.is_none() {
                let text = "Error: the script waits for a promise that never settles: no tool call is in progress, and no timer runs";
                return Ok(Ended::Thrown(text.to_owned()));
            }
            if let Some((id, kind, body)) = self.wait(due)? {
                in_flight -= 1;
                let exact = exact(&body).unwrap_or_default();
                let signs = signs(&body);
                let taken = self.bindings.answer.clone().restore(ctx).and_then(|take| take.call::<_, ()>((id, kind, body, exact, signs)));
                if let Err(error) = taken {
                    return Ok(thrown(&error));
                }
            }
        }
    }

    /// Makes a function of the code; nothing of it runs yet. Most code is one expression, which the engine can tell by itself.
    fn compile<'js>(&self, ctx: &Ctx<'js>, code: &str, placed: &mut Placed) -> io::Result<Result<Function<'js>, String>> {
        if let Some(expression) = expression(code) {
            let mut whole = Placed::default();
            whole.add("(async()=>{return (\n");
            whole.take(expression, spot(code, expression.as_ptr() as usize - code.as_ptr() as usize));
            whole.add("\n)})");
            match ctx.eval_with_options(whole.text.as_str(), options()) {
                Ok(program) => {
                    *placed = whole;
                    return Ok(Ok(program));
                }
                Err(_) => drop(ctx.catch()),
            }
        }
        self.outbox.borrow_mut().send(&FromWorker::Reading)?;
        let read = program(code);
        self.outbox.borrow_mut().send(&FromWorker::Read)?;
        Ok(match read {
            Ok(read) => {
                *placed = read;
                let compiled = ctx.eval_with_options(placed.text.as_str(), options());
                compiled.map_err(|error| tidy(&describe(ctx, &error), code, &placed.positions))
            }
            Err(unreadable) => Err(format!("SyntaxError: {unreadable}")),
        })
    }

    /// Sends what may be in flight beside what is; how many that were.
    fn send_calls(&self, in_flight: u32) -> io::Result<u32> {
        let mut sent = 0;
        let mut outbox = self.outbox.borrow_mut();
        while in_flight + sent < outbox.limits.in_flight
            && let Some((id, name, arguments)) = outbox.calls.pop_front()
        {
            outbox.send(&FromWorker::Call { id, name: &name, arguments: &arguments })?;
            sent += 1;
        }
        Ok(sent)
    }

    /// Waits for an answer, or until a timer is due: the number of the call, how it went, and its text.
    fn wait(&self, due: Option<f64>) -> io::Result<Option<(u32, u8, String)>> {
        let mut outbox = self.outbox.borrow_mut();
        outbox.send(&match due {
            // A timer's own bound is what the language can count.
            Some(due) => FromWorker::Rest { milliseconds: (due - milliseconds(self.begun)).clamp(1.0, f64::from(i32::MAX)) as u32 },
            None => FromWorker::Wait,
        })?;
        let frame = outbox.receive()?;
        Ok(match message(&frame) {
            Ok(ToWorker::Tick) => None,
            Ok(ToWorker::Answer { id, answer }) => {
                let (kind, body) = match answer {
                    Answer::Value(body) => (0, body),
                    Answer::Failed(body) => (1, body),
                    Answer::Unknown(body) => (2, body),
                    Answer::Limit(body) => (3, body),
                };
                Some((id, kind, body.to_owned()))
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

/// How a program ended, before bounds are looked at.
enum Ended {
    /// Empty for nothing at all.
    Value(String),
    Limit(Limit),
    Thrown(String),
}

impl Ended {
    /// The end that the prelude resolves to.
    fn from_told(mut said: String, told: impl Fn(&str) -> String) -> Self {
        let text = said.split_off(said.len().min(1));
        match said.as_str() {
            "v" | "n" => Self::Value(text),
            _ => Self::Thrown(told(&text)),
        }
    }
}

/// The words for what is not there that an answer has itself, a bit for each, in the order of doubts.js: here they are found in no time.
fn signs(body: &str) -> u8 {
    let bit = |(at, sign): (usize, &str)| u8::from(body.contains(sign)) << at;
    ["undefined", "NaN", "Invalid Date"].into_iter().enumerate().map(bit).sum()
}

/// The text of what the engine threw outside of the prelude's reach: code that does not compile, memory that ran out.
fn describe(ctx: &Ctx<'_>, error: &rquickjs::Error) -> String {
    let thrown = ctx.catch();
    let exception = thrown.into_object().and_then(Exception::from_object);
    match exception {
        Some(exception) => {
            let name = exception.as_object().get::<_, String>("name").unwrap_or_else(|_| "Error".to_owned());
            let stack = exception.stack().unwrap_or_default();
            format!("{name}: {}\n{stack}", exception.message().unwrap_or_default())
        }
        None => error.to_string(),
    }
}
