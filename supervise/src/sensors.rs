//! Keeps a sensor: starts it, and starts it again after it ended, more and more slowly.

use super::{FOLLOWS_WITHIN, Plan, SensorCoverage, hand::Giver, part::Part, say, within};
use anyhow::{Context as _, Result, bail};
use gnomon_kit::Backoff;
use gnomon_link::{ProxyEnd, SensorEnd};
use gnomon_sensord::{Closed, HOLDS};
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
/// One that ended by itself as soon as it was started said why it cannot work: it is tried again after so long, as what it lacked (threads,
/// memory) may be there by then, and at most so rarely, as what it lacks may never be.
const AFTER_FAILURE: Duration = Duration::from_secs(15);
const LONGEST_AFTER_FAILURE: Duration = Duration::from_secs(15 * 60);
/// A sensor that ran for so long had begun to work.
const BEGAN: Duration = Duration::from_secs(2);
/// A sensor that ran for so long was in order, and the pauses begin anew.
const IN_ORDER: Duration = Duration::from_secs(10);

/// The sensors of a service of its own, one for each link. While one runs, it is the one who tells a watchdog that it gets on:
/// what inherits the environment of a service is asked as well, but for the number of the process.
///
/// A sensor whose proxy has gone may stay, for scopes that fail closed, until another proxy connects; that one's sensor refuses in its
/// stead before it ends it. One that stays and is killed is restarted, as no service manager would.
pub struct Sensors {
    closed: Closed,
    /// A sensor that stays, and that the next one is to end.
    relieved: Option<(Part, Instant)>,
}

impl Sensors {
    /// Without sensors.
    ///
    /// # Errors
    /// If memory for the state that they hand on cannot be allocated.
    pub fn new() -> Result<Self> {
        Ok(Self { closed: Closed::new().context("there is no sensor")?, relieved: None })
    }

    /// Starts a sensor for one link, and waits for its end, or, while it stays, for another proxy to connect, as `waits` reports.
    ///
    /// # Errors
    /// If it cannot be started, or reported at once that it cannot work while no scope is to be kept closed. One that had begun to work and
    /// ended, for whatever reason, is no error: the serving process that connects again gets another.
    pub fn keep_one(&mut self, arguments: &[OsString], link: SensorEnd, stop: BorrowedFd<'_>, waits: impl Fn() -> bool) -> Result<()> {
        let mut sensor = self.start(arguments, link)?;
        let (mut since, mut pause) = (Instant::now(), Duration::ZERO);
        let mut next = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE_OPEN);
        loop {
            self.see_off();
            if let Some(status) = sensor.ended()? {
                if let Some((before, _)) = self.relieved.take() {
                    say(format_args!("the sensor ended ({status}): the one before it goes on keeping scopes closed"));
                    (sensor, since) = (before, Instant::now());
                    continue;
                }
                if status.success() {
                    self.closed.clear();
                    return Ok(());
                }
                if !self.closed.is_wanted() {
                    if !was_ended(status) && since.elapsed() < BEGAN {
                        bail!("the sensor ended ({status})");
                    }
                    say(format_args!("the sensor ended ({status}): there is none until the serving process connects again"));
                    return Ok(());
                }
                if since.elapsed() >= IN_ORDER {
                    pause = Duration::ZERO;
                    next.reset();
                }
                say(format_args!("what keeps scopes closed ended ({status}): another takes its place in {pause:?}"));
                sensor = loop {
                    if ends_within(stop, pause) || waits() {
                        return Ok(());
                    }
                    pause = next.failed();
                    match self.start_alone(arguments) {
                        Ok(another) => break another,
                        Err(error) => say(format_args!("{error:#}: the next attempt is in {pause:?}")),
                    }
                };
                since = Instant::now();
            }
            let stops = ends_within(stop, LOOK_AFTER_IT);
            if stops {
                for mut part in self.relieved.take().map(|(part, _)| part).into_iter().chain([sensor]) {
                    end(&mut part)?;
                }
                return Ok(());
            }
            if waits() && holds(sensor.pid()?) {
                self.relieved = Some((sensor, Instant::now()));
                return Ok(());
            }
        }
    }

    fn start(&self, arguments: &[OsString], link: SensorEnd) -> Result<Part> {
        let closed = (Closed::VARIABLE, self.closed.number().into());
        Part::sensor(arguments, &[closed], link).context("the sensor cannot be started")
    }

    /// A sensor without a proxy, that keeps scopes closed.
    fn start_alone(&self, arguments: &[OsString]) -> Result<Part> {
        let (_, nobody) = ProxyEnd::pair()?;
        self.start(arguments, nobody)
    }

    /// Ends the sensor that stayed, if its successor does not: it would refuse for ever.
    fn see_off(&mut self) {
        if let Some((part, since)) = &mut self.relieved {
            if since.elapsed() > IN_ORDER && !self.closed.is_held_beside() {
                part.kill();
            }
            if matches!(part.ended(), Ok(Some(_)) | Err(_)) {
                self.relieved = None;
            }
        }
    }
}

/// True if it did not itself report that it cannot work: a crash of ours has the code 101.
fn was_ended(status: ExitStatus) -> bool {
    status.success() || status.signal().is_some() || status.code() == Some(101)
}

/// Asks a sensor to end, and sees that it does.
fn end(sensor: &mut Part) -> Result<()> {
    let _ = kill_process(sensor.pid()?, Signal::TERM);
    if within(FOLLOWS_WITHIN, || sensor.ended())?.is_none() {
        sensor.kill();
    }
    Ok(())
}

/// True if `stop` is readable within this time.
fn ends_within(stop: BorrowedFd<'_>, time: Duration) -> bool {
    let wait = Timespec::try_from(time).ok();
    let mut stopping = [PollFd::new(&stop, PollFlags::IN)];
    poll(&mut stopping, wait.as_ref()).is_ok() && !stopping[0].revents().is_empty()
}

/// True if a sensor has no proxy any more, and stays all the same.
fn holds(sensor: Pid) -> bool {
    let name = std::fs::read(format!("/proc/{}/comm", sensor.as_raw_nonzero())).unwrap_or_default();
    name.trim_ascii_end() == HOLDS.to_bytes()
}

/// The longest pause while scopes are open that were to be kept closed: a watchdog hears nothing meanwhile either.
const LONGEST_PAUSE_OPEN: Duration = Duration::from_secs(5);
/// The interval at which a sensor that was left alone is polled for its end.
const LOOK_AFTER_IT: Duration = Duration::from_millis(200);

enum SensorState {
    Running {
        sensor: Part,
        since: Instant,
        ended: Option<ExitStatus>,
    },
    /// Started at that moment.
    Pausing(Instant),
}

/// The sensor, as long as there is to be one.
pub struct SensorKeeper {
    arguments: Vec<OsString>,
    giver: Giver,
    pause: Backoff,
    /// The pauses between attempts that fail at once.
    after_failure: Backoff,
    state: SensorState,
}

impl SensorKeeper {
    /// A keeper whose sensor is to be started at once.
    pub fn new(plan: &Plan, own_cgroup: &Path, state_dir: &Path, giver: Giver) -> Self {
        let mut arguments: Vec<OsString> = vec!["sensor".into(), "--own-cgroup".into(), own_cgroup.into()];
        if let SensorCoverage::Below(folder) = &plan.sensor {
            arguments.extend(["--cgroup".into(), folder.into()]);
        }
        arguments.extend(["--exec-socket".into(), (&plan.exec_socket).into(), "--authority".into(), state_dir.join("ca.pem").into()]);
        arguments.extend(["--max-cpu".into(), plan.max_cpu.to_string().into()]);
        arguments.extend(["--disarm-file".into(), plan.switch.path().into()]);
        let (pause, after_failure) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), Backoff::new(AFTER_FAILURE, LONGEST_AFTER_FAILURE));
        Self { arguments, giver, pause, after_failure, state: SensorState::Pausing(Instant::now()) }
    }

    /// True if it has ended with success.
    pub fn has_ended_well(&mut self) -> bool {
        let SensorState::Running { sensor, ended, .. } = &mut self.state else { return false };
        if ended.is_none() {
            *ended = sensor.ended().ok().flatten();
        }
        ended.is_some_and(|status| status.success())
    }

    /// Starts it where that is due. When to look again, if not at the next signal.
    pub fn see_to_it(&mut self) -> Option<Instant> {
        if let SensorState::Running { sensor, since, ended } = &mut self.state
            && let Some(status) = ended.or_else(|| sensor.ended().ok().flatten())
        {
            let ran = since.elapsed();
            if ran >= IN_ORDER {
                self.pause.reset();
                self.after_failure.reset();
            }
            self.state = self.after(status, ran);
        }
        match self.state {
            SensorState::Pausing(until) if until <= Instant::now() => {
                self.state = match self.start() {
                    Ok(sensor) => SensorState::Running { sensor, since: Instant::now(), ended: None },
                    Err(error) => {
                        say(format_args!("the sensor cannot be started: {error:#}"));
                        SensorState::Pausing(self.next_pause())
                    }
                };
                None
            }
            SensorState::Pausing(until) => Some(until),
            SensorState::Running { .. } => None,
        }
    }

    /// Ends the sensor. It ends by itself when its link is closed, unless it would stay for scopes that fail closed: no proxy could serve
    /// them again.
    pub fn stop(self) {
        if let SensorState::Running { mut sensor, ended: None, .. } = self.state
            && let Ok(None) = within(FOLLOWS_WITHIN, || {
                let ended = sensor.ended();
                if matches!(ended, Ok(None))
                    && let Some(pid) = sensor.pid().ok().filter(|pid| holds(*pid))
                {
                    let _ = kill_process(pid, Signal::TERM);
                }
                ended
            })
        {
            say(format_args!("the sensor does not end by itself and is killed"));
            sensor.kill();
        }
    }

    /// Whatever ended it, another is to take its place: scopes and what runs under `gnomon exec` wait for it.
    fn after(&mut self, status: ExitStatus, ran: Duration) -> SensorState {
        let wait = if was_ended(status) || ran >= BEGAN { self.pause.failed() } else { self.after_failure.failed() };
        say(format_args!(
            "the sensor ended ({status}): until the next one nothing is seen but what comes to the proxy, and nothing is redirected; it is \
             started again in {wait:?}"
        ));
        SensorState::Pausing(Instant::now() + wait)
    }

    fn next_pause(&mut self) -> Instant {
        Instant::now() + self.pause.failed()
    }

    fn start(&self) -> Result<Part> {
        let (proxy_end, sensor_end) = ProxyEnd::pair()?;
        let sensor = Part::sensor(&self.arguments, &[], sensor_end)?;
        // Without it the sensor finds no proxy, and ends.
        self.giver.give(proxy_end)?;
        Ok(sensor)
    }
}
