//! gnomon as root: three processes. This one only starts the other two and hands signals on; the *sensor* keeps the
//! kernel half, and the *serving* process does everything else, as a user without rights.
//!
//! It has no runtime, and but for the thread that writes its log no other thread; the parts are re-executions of this program: each gets a socket as its
//! standard input, which needs no number of a descriptor and no `unsafe` to take up.
//!
//! A sensor that ends takes its programs out of the kernel with it, so traffic flows; the serving process goes on with
//! what comes to the proxy, and another sensor is started, more and more slowly where it cannot work. A serving process that ends ends
//! everything, with its exit code: restarting it is deliberately left to the service manager.
#![deny(missing_docs)]

mod cgroup;
mod coverage;
pub mod denied;
mod hand;
mod part;
mod privilege;
mod sensors;
pub mod service;
mod state;
mod user;

use anyhow::{Context, Result};
use gnomon_cli::Complaint;
use gnomon_host::switch::Switch;
use gnomon_log::say;
use part::Part;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, kill_process},
};
use sensors::SensorKeeper;
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};
use std::{
    ffi::OsString,
    io,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::ExitStatus,
    time::{Duration, Instant},
};

pub use coverage::{SensorCoverage, check_folder};
pub use hand::Handed;
pub use part::{Serving, became, sensor_end};
pub use privilege::can_drop;
pub use sensors::Sensors;

/// The time for which one part's end is awaited when the other has ended.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(3);
/// The interval at which the other part is polled.
const LOOK: Duration = Duration::from_millis(10);

/// Signals, and a descriptor that can be read when there are some.
type Signals = SignalDelivery<UnixStream, SignalOnly>;

/// The options of the parts.
#[derive(Debug)]
pub struct Plan {
    /// The arguments of this process, which the serving process gets as well.
    pub arguments: Vec<OsString>,
    /// Variables of the serving process, which has other defaults as it is not root.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// The state folder of the serving process.
    pub state_dir: PathBuf,
    /// The part of the host that the kernel half looks at.
    pub sensor: SensorCoverage,
    /// The socket that `gnomon exec` joins.
    pub exec_socket: PathBuf,
    /// The bound on the sensor's processor time, in percent of one core.
    pub max_cpu: u32,
    /// The kill switch, which each part obeys by itself.
    pub switch: Switch,
}

/// Runs until the serving process has ended. Its exit code.
///
/// # Errors
/// A part cannot be started, or the state folder not be handed over.
pub fn run(plan: &Plan) -> Result<u8> {
    let state_dir = std::path::absolute(&plan.state_dir).unwrap_or_else(|_| plan.state_dir.clone());
    let user = user::serving(&state_dir).ok_or_else(|| {
        Complaint::own("there is no user gnomon, and all user numbers in its place are taken")
            .next("make one: useradd --system --no-create-home --shell /usr/sbin/nologin gnomon")
    })?;
    state::hand_over(&state_dir, &user)?;
    // Before the first child, so that no signal is missed.
    let (woken, wake) = UnixStream::pair().context("making a pipe for signals")?;
    let mut signals = Signals::with_pipe(woken, wake, SignalOnly, [SIGTERM, SIGINT, SIGHUP, SIGCHLD]).context("listening for signals")?;
    // It has to hand on signals, whoever reads what it says.
    gnomon_log::write_apart().context("starting a thread")?;
    // Left when this ends, after the parts have.
    let own = match plan.sensor {
        SensorCoverage::Off => None,
        _ => or_without("no cgroup can be made for gnomon itself", cgroup::Own::enter()),
    };
    let (mut sensor, links) = match &own {
        None => (None, None),
        Some(own) => {
            let (giver, links) = hand::pair()?;
            (Some(SensorKeeper::new(plan, own.path(), &state_dir, giver)), Some(links))
        }
    };
    let mut serving = Part::serving(&plan.arguments, &plan.environment, &user, links).map_err(|error| {
        Complaint::own(format!("the serving process cannot be started: {error}")).next("gnomon proxy runs in one process")
    })?;
    let status = oversee(&mut signals, &mut serving, sensor.as_mut())?;
    if let Some(sensor) = sensor {
        sensor.stop();
    }
    Ok(code(status))
}

/// Hands signals on, and sees to the sensor, until the serving process ends.
fn oversee(signals: &mut Signals, serving: &mut Part, mut sensor: Option<&mut SensorKeeper>) -> Result<ExitStatus> {
    loop {
        if let Some(status) = serving.ended()? {
            return Ok(status);
        }
        let look_again = match &mut sensor {
            None => None,
            Some(sensor) => {
                // It exits with 0 when the serving process hangs up, which is then about to end itself.
                if sensor.has_ended_well()
                    && let Some(status) = within(FOLLOWS_WITHIN, || serving.ended())?
                {
                    return Ok(status);
                }
                sensor.see_to_it()
            }
        };
        wait(signals, look_again);
        for signal in signals.pending() {
            if let Some(signal) = Signal::from_named_raw(signal).filter(|signal| *signal != Signal::CHILD) {
                // It may have just ended, which the next round notices.
                let _ = kill_process(serving.pid()?, signal);
            }
        }
    }
}

/// Waits until there are signals, or it is time to look again.
fn wait(signals: &Signals, look_again: Option<Instant>) {
    let left = look_again.map(|at| at.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    // An interruption is a signal, and that is what is waited for.
    let _ = poll(&mut [PollFd::new(signals.get_read(), PollFlags::IN)], left.as_ref());
}

/// Looks again and again, as the end of one child within a time has no event.
fn within<T>(time: Duration, mut look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    let start = Instant::now();
    loop {
        match look()? {
            None if start.elapsed() < time => std::thread::sleep(LOOK),
            found => return Ok(found),
        }
    }
}

/// The exit code of a shell.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The sensor is worth a warning, never an end.
fn or_without<T>(what: &str, tried: Result<T>) -> Option<T> {
    tried.inspect_err(|error| say(format_args!("running without the sensor: {what}: {error:#}"))).ok()
}
