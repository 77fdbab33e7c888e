//! gnomon as root: three processes. This one only starts the other two and hands signals on; the *sensor* keeps the
//! kernel half, and the *serving* process does everything else, as a user without rights.
//!
//! It is started before any thread and any runtime, and the parts are this same program again: each gets its end of the
//! link as its standard input, which needs no number of a descriptor and no `unsafe` to take up.
//!
//! What it deliberately does not do: start a part again. A sensor that ends takes its programs out of the kernel with it,
//! so traffic flows; the serving process goes on with what comes to the proxy, and says so. A serving process that ends
//! ends everything, with its exit code: starting gnomon again is the business of whoever started it.

mod cgroup;
mod part;
mod privilege;
mod state;
mod user;

use crate::complaint::Complaint;
use anyhow::{Context, Result};
use gnomon_link::{ProxyEnd, SensorEnd};
use part::Part;
use rustix::process::{Signal, kill_process};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitStatus,
    str::FromStr,
    time::{Duration, Instant},
};

pub use part::{Serving, sensor_end};
pub use privilege::can_drop;

/// How long one part may take to end when the other has.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(3);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Where the kernel half looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// At the whole host.
    #[default]
    Host,
    /// Nowhere.
    Off,
    /// Below the cgroup with this folder.
    Below(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "host" => Ok(Self::Host),
            "off" => Ok(Self::Off),
            folder if folder.starts_with('/') => Ok(Self::Below(folder.into())),
            other => Err(format!("`{other}` is neither `host`, `off` nor the whole path of a cgroup's folder")),
        }
    }
}

/// What the parts are started with.
#[derive(Debug)]
pub struct Plan {
    /// The arguments of this process, which the serving process gets as well.
    pub arguments: Vec<OsString>,
    pub state_dir: PathBuf,
    pub sensor: Place,
    /// Where `gnomon exec` joins.
    pub exec_socket: PathBuf,
}

/// Runs until the serving process has ended. Its exit code.
///
/// # Errors
/// A part cannot be started, or the state folder not be handed over.
pub fn run(plan: &Plan) -> Result<u8> {
    let state_dir = std::path::absolute(&plan.state_dir).unwrap_or_else(|_| plan.state_dir.clone());
    let user = user::serving(&state_dir);
    state::hand_over(&state_dir, &user)?;
    // Before the first child, so that no signal is missed.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD]).context("listening for signals")?;
    // Left when this ends, after the parts have.
    let own = match plan.sensor {
        Place::Off => None,
        _ => or_without("no cgroup can be made for gnomon itself", cgroup::Own::enter()),
    };
    let (proxy_end, mut sensor) = match &own {
        None => (None, None),
        Some(own) => {
            let (proxy_end, sensor_end) = ProxyEnd::pair().context("making the link between the parts")?;
            let sensor = or_without("the sensor cannot be started", start_sensor(plan, own.path(), &state_dir, sensor_end));
            (sensor.is_some().then_some(proxy_end), sensor)
        }
    };
    let mut serving = Part::serving(&plan.arguments, &user, proxy_end).map_err(|error| {
        Complaint::own(format!("the serving process cannot be started: {error}")).next("gnomon proxy runs in one process")
    })?;
    let status = oversee(&mut signals, &mut serving, &mut sensor)?;
    if let Some(sensor) = sensor {
        stop(sensor);
    }
    Ok(code(status))
}

fn start_sensor(plan: &Plan, own_cgroup: &Path, state_dir: &Path, link: SensorEnd) -> Result<Part> {
    let mut arguments: Vec<OsString> = vec!["sensor".into(), "--own-cgroup".into(), own_cgroup.into()];
    if let Place::Below(folder) = &plan.sensor {
        arguments.extend(["--cgroup".into(), folder.into()]);
    }
    arguments.extend(["--exec-socket".into(), (&plan.exec_socket).into(), "--authority".into(), state_dir.join("ca.pem").into()]);
    Ok(Part::sensor(&arguments, link)?)
}

/// Hands signals on until the serving process ends.
fn oversee(signals: &mut Signals, serving: &mut Part, sensor: &mut Option<Part>) -> Result<ExitStatus> {
    loop {
        if let Some(status) = serving.ended()? {
            return Ok(status);
        }
        if let Some(ended) = sensor.as_mut().and_then(|sensor| sensor.ended().ok().flatten()) {
            *sensor = None;
            // It ends well when the serving process hangs up, which is then about to end itself.
            let followed = if ended.success() { within(FOLLOWS_WITHIN, || serving.ended())? } else { None };
            if let Some(status) = followed {
                return Ok(status);
            }
            say(format_args!(
                "the sensor ended ({ended}): from now on nothing is seen but what comes to the proxy, and nothing is redirected; \
                 start gnomon again to have it back"
            ));
        }
        for signal in signals.wait() {
            if let Some(signal) = Signal::from_named_raw(signal).filter(|signal| *signal != Signal::CHILD) {
                // It may have ended just now, which the next round finds.
                let _ = kill_process(serving.pid()?, signal);
            }
        }
    }
}

/// It ends by itself when its link is closed.
fn stop(mut sensor: Part) {
    if let Ok(None) = within(FOLLOWS_WITHIN, || sensor.ended()) {
        say(format_args!("the sensor does not end by itself and is killed"));
        sensor.kill();
    }
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

/// What a shell would say.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The sensor is worth a warning, never an end.
fn or_without<T>(what: &str, tried: Result<T>) -> Option<T> {
    tried.inspect_err(|error| say(format_args!("running without the sensor: {what}: {error:#}"))).ok()
}

fn say(what: std::fmt::Arguments<'_>) {
    // Standard error may be gone; there is nobody else to tell.
    let _ = writeln!(io::stderr(), "gnomon: {what}");
}
