//! The prelude in an engine: what it is given of this side, and what it gives.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use rquickjs::{Ctx, Exception, Function, Object, Persistent};

use super::channel::Channel;
use super::options::options;
use crate::frame::FromWorker;
use crate::limits::{Limit, Limits};
use crate::names::MAX_NAME;
use crate::outcome::Severity;

const PRELUDE: &str = include_str!("prelude.js");
const PROMISES: &str = include_str!("promises.js");
const RESULTS: &str = include_str!("results.js");
const DOUBTS: &str = include_str!("doubts.js");
const SLIPS: &str = include_str!("slips.js");
const LOCALE: &str = include_str!("locale.js");

/// The cost of a line of the console beside its text, so that empty lines are bounded too.
pub const LINE: usize = 16;

/// The calls and the output of the script.
#[derive(Default)]
pub struct Outbox {
    pub limits: Limits,
    pub calls: VecDeque<(u32, String, String)>,
    pub made: u32,
    written: usize,
    pub truncated: bool,
    /// The limit that ended the program, even if it caught the error.
    pub ended: Option<Limit>,
    channel: Option<Channel>,
}

impl Outbox {
    pub fn open(&mut self, limits: &Limits, channel: Channel) {
        self.limits = limits.clone();
        self.channel = Some(channel);
    }

    /// # Errors
    /// The parent is gone.
    pub fn send(&mut self, message: &FromWorker<'_>) -> io::Result<()> {
        self.channel.as_mut().ok_or(io::ErrorKind::NotConnected)?.send(message)
    }

    /// # Errors
    /// The parent is gone, or speaks another protocol.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        self.channel.as_mut().ok_or(io::ErrorKind::NotConnected)?.receive()
    }

    fn ask(&mut self, name: String, arguments: String) -> Result<u32, Limit> {
        if self.made >= self.limits.calls {
            self.ended = Some(Limit::Calls);
            return Err(Limit::Calls);
        }
        if arguments.len() > self.limits.arguments {
            return Err(Limit::Arguments);
        }
        self.made += 1;
        self.calls.push_back((self.made, name, arguments));
        Ok(self.made)
    }

    /// A line is on its way at once: a worker that is killed later has said it.
    fn write(&mut self, severity: u8, mut text: String) {
        let room = self.limits.logs.saturating_sub(self.written);
        if room < LINE {
            self.truncated = true;
            return;
        }
        if text.len() > room - LINE {
            self.truncated = true;
            text.truncate(text.floor_char_boundary(room - LINE));
        }
        self.written += text.len() + LINE;
        let severity = match severity {
            0 => Severity::Log,
            1 => Severity::Warn,
            _ => Severity::Error,
        };
        // A parent that cannot be reached is noticed at the end.
        let _ = self.send(&FromWorker::Log { severity, text: &text });
    }
}

type Kept = Persistent<Function<'static>>;

/// The prelude's functions.
pub struct Bindings {
    pub run: Kept,
    pub tell: Kept,
    pub answer: Kept,
    pub seed: Kept,
    pub due: Kept,
    pub fire: Kept,
    pub owes: Kept,
    pub rejected: Kept,
    pub remarked: Kept,
}

impl Bindings {
    /// Runs the prelude. Milliseconds are counted from `begun`.
    ///
    /// # Errors
    /// If the prelude fails, which is a bug.
    pub fn make(ctx: &Ctx<'_>, outbox: &Rc<RefCell<Outbox>>, begun: Instant) -> Result<Self, rquickjs::Error> {
        super::web::furnish(ctx)?;
        let calls = Rc::clone(outbox);
        let ask = Function::new(ctx.clone(), move |ctx: Ctx<'_>, mut name: String, arguments: String| {
            // No tool has so long a name, nor one with such an end: the call is sent all the same, so that the host records it.
            if name.len() > MAX_NAME {
                name.truncate(name.floor_char_boundary(MAX_NAME - '…'.len_utf8()));
                name.push('…');
            }
            let mut outbox = calls.borrow_mut();
            outbox.ask(name, arguments).map_err(|limit| Exception::throw_range(&ctx, &limit.text(&outbox.limits)))
        })?;
        let lines = Rc::clone(outbox);
        let write = Function::new(ctx.clone(), move |severity: u8, text: String| lines.borrow_mut().write(severity, text))?;
        let now = Function::new(ctx.clone(), move || milliseconds(begun))?;
        let part = |text: &str| -> Result<Function<'_>, rquickjs::Error> {
            let mut named = options();
            named.filename = Some("prelude".to_owned());
            ctx.eval_with_options(text, named)
        };
        part(LOCALE)?.call::<_, ()>(())?;
        let made: Object<'_> = part(PRELUDE)?.call((ask, write, now, part(PROMISES)?, part(RESULTS)?, part(DOUBTS)?, part(SLIPS)?))?;
        let kept = |name| made.get::<_, Function<'_>>(name).map(|function| Persistent::save(ctx, function));
        Ok(Self {
            run: kept("run")?,
            tell: kept("tell")?,
            answer: kept("answer")?,
            seed: kept("seed")?,
            due: kept("due")?,
            fire: kept("fire")?,
            owes: kept("owes")?,
            rejected: kept("rejected")?,
            remarked: kept("remarked")?,
        })
    }
}

/// Whole ones, as the language counts time.
pub fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1000.0).floor()
}
