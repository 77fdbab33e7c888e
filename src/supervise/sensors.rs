//! Keeps a sensor: starts it, and starts it again after it was killed, more and more slowly.

use super::{FOLLOWS_WITHIN, Place, Plan, hand::Giver, part::Part, say, within};
use anyhow::{Context as _, Result, bail};
use gnomon_link::{ProxyEnd, SensorEnd};
use gnomon_sensord::HOLDS;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process},
};
use std::{
    ffi::OsString,
    os::{fd::BorrowedFd, unix::process::ExitStatusExt as _},
    path::Path,
    process::ExitStatus,
    time::{Duration, Instant},
};

/// The first pause; each one after that is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A sensor that ran for so long was in order, and the pauses begin anew.
const IN_ORDER: Duration = Duration::from_secs(10);

/// Starts a sensor for one link, and waits for its end. While it runs, it is the one who tells a watchdog that it gets on:
/// what inherits the environment of a service is asked as well, but for the number of the process.
///
/// A sensor whose proxy has gone may stay, for scopes that fail closed, until there is another to be served, as `waits` tells.
///
/// # Errors
/// It cannot be started, or said that it cannot work. That it was killed is no error.
pub fn keep_one(arguments: &[OsString], link: SensorEnd, stop: BorrowedFd<'_>, waits: impl Fn() -> bool) -> Result<()> {
    let mut sensor = Part::sensor(arguments, link).context("the sensor cannot be started")?;
    let status = loop {
        if let Some(status) = sensor.ended()? {
            break status;
        }
        let wait = Timespec::try_from(LOOK_AFTER_IT).ok();
        let mut stopping = [PollFd::new(&stop, PollFlags::IN)];
        let stops = poll(&mut stopping, wait.as_ref()).is_ok() && !stopping[0].revents().is_empty();
        if stops || waits() && holds(sensor.pid()?) {
            let _ = kill_process(sensor.pid()?, Signal::TERM);
            if within(FOLLOWS_WITHIN, || sensor.ended())?.is_none() {
                sensor.kill();
            }
            return Ok(());
        }
    };
    // A crash of ours has the code 101.
    if status.success() || status.signal().is_some() || status.code() == Some(101) {
        if !status.success() {
            say(format_args!("the sensor was killed ({status}): there is none until the serving process connects again"));
        }
        return Ok(());
    }
    bail!("the sensor ended ({status})")
}

/// Whether a sensor serves nobody any more, and stays all the same.
fn holds(sensor: Pid) -> bool {
    let name = std::fs::read(format!("/proc/{}/comm", sensor.as_raw_nonzero())).unwrap_or_default();
    name.trim_ascii_end() == HOLDS.to_bytes()
}

/// How often it is looked whether a sensor has ended that nobody keeps.
const LOOK_AFTER_IT: Duration = Duration::from_millis(200);

enum State {
    Running {
        sensor: Part,
        since: Instant,
        ended: Option<ExitStatus>,
    },
    /// To be started then.
    Pausing(Instant),
    /// Not to be started any more.
    Over,
}

/// The sensor, as long as there is to be one.
pub struct SensorKeeper {
    arguments: Vec<OsString>,
    giver: Giver,
    pause: Duration,
    state: State,
}

impl SensorKeeper {
    /// A keeper whose sensor is to be started at once.
    pub fn new(plan: &Plan, own_cgroup: &Path, state_dir: &Path, giver: Giver) -> Self {
        let mut arguments: Vec<OsString> = vec!["sensor".into(), "--own-cgroup".into(), own_cgroup.into()];
        if let Place::Below(folder) = &plan.sensor {
            arguments.extend(["--cgroup".into(), folder.into()]);
        }
        arguments.extend(["--exec-socket".into(), (&plan.exec_socket).into(), "--authority".into(), state_dir.join("ca.pem").into()]);
        arguments.extend(["--max-cpu".into(), plan.max_cpu.to_string().into()]);
        arguments.extend(["--disarm-file".into(), plan.switch.path().into()]);
        Self { arguments, giver, pause: FIRST_PAUSE, state: State::Pausing(Instant::now()) }
    }

    /// Whether it has ended with success.
    pub fn has_ended_well(&mut self) -> bool {
        let State::Running { sensor, ended, .. } = &mut self.state else { return false };
        if ended.is_none() {
            *ended = sensor.ended().ok().flatten();
        }
        ended.is_some_and(|status| status.success())
    }

    /// Starts it where that is due. When to look again, if not at the next signal.
    pub fn see_to_it(&mut self) -> Option<Instant> {
        if let State::Running { sensor, since, ended } = &mut self.state
            && let Some(status) = ended.or_else(|| sensor.ended().ok().flatten())
        {
            if since.elapsed() >= IN_ORDER {
                self.pause = FIRST_PAUSE;
            }
            self.state = self.after(status);
        }
        match self.state {
            State::Pausing(until) if until <= Instant::now() => {
                self.state = match self.start() {
                    Ok(sensor) => State::Running { sensor, since: Instant::now(), ended: None },
                    Err(error) => {
                        say(format_args!("the sensor cannot be started: {error:#}"));
                        State::Pausing(self.next_pause())
                    }
                };
                None
            }
            State::Pausing(until) => Some(until),
            State::Running { .. } | State::Over => None,
        }
    }

    /// It ends by itself when its link is closed.
    pub fn stop(self) {
        if let State::Running { mut sensor, ended: None, .. } = self.state
            && let Ok(None) = within(FOLLOWS_WITHIN, || sensor.ended())
        {
            say(format_args!("the sensor does not end by itself and is killed"));
            sensor.kill();
        }
    }

    fn after(&mut self, status: ExitStatus) -> State {
        let without = "from now on nothing is seen but what comes to the proxy, and nothing is redirected";
        // A crash of ours has the code 101; with any other it said why it cannot work, or was told to end.
        if status.signal().is_some() || status.code() == Some(101) {
            say(format_args!("the sensor was killed ({status}): {without}; it is started again in {:?}", self.pause));
            State::Pausing(self.next_pause())
        } else {
            say(format_args!("the sensor ended ({status}): {without}"));
            State::Over
        }
    }

    fn next_pause(&mut self) -> Instant {
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        until
    }

    fn start(&self) -> Result<Part> {
        let (proxy_end, sensor_end) = ProxyEnd::pair()?;
        let sensor = Part::sensor(&self.arguments, sensor_end)?;
        // Without it the sensor finds nobody there, and ends.
        self.giver.give(proxy_end)?;
        Ok(sensor)
    }
}
