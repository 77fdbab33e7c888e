//! The process that runs one program. By the time anything here runs, it can do nothing but compute and use its socket.

mod bindings;
mod channel;
mod clock;
mod engine;
mod exact;
mod foreign;
mod normalise;
mod options;
mod positions;
mod told;
mod web;

use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::frame::ToWorker;
use crate::sys;
pub use bindings::LINE;
use channel::Channel;
pub use engine::Engine;
pub use normalise::{Unreadable, normalise};

/// The act of a test's worker in place of running code: it sees the code and the socket after all confinement. Answers whether it
/// took the code for its own.
#[doc(hidden)]
pub type Rehearsal = fn(&str, &UnixStream) -> bool;

/// A worker ends with this if its parent is gone or speaks another protocol.
const DESERTED: i32 = 72;

/// A worker ends with this if the code around the engine failed.
const BROKEN: i32 = 73;

/// Runs the one program that comes on the socket, and ends.
pub fn work(socket: UnixStream, engine: Engine, rehearsal: Rehearsal) -> ! {
    // Neither is ever dropped: the process ends instead, which is faster, and closing a descriptor is not on its list.
    let mut channel = Channel::new(socket);
    // A panic must not get back into the zygote's code, which this process has a copy of.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let frame = channel.receive().ok()?;
        let Ok(ToWorker::Run { limits, code, task }) = crate::frame::message(&frame) else { return None };
        if rehearsal(code, channel.socket()) {
            return Some(());
        }
        engine.run((code, task), &limits, channel).ok()
    }));
    sys::exit(match ended {
        Ok(Some(())) => 0,
        Ok(None) => DESERTED,
        Err(_) => BROKEN,
    })
}
