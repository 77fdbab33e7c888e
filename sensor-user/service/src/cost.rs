//! Measures the sensor's processor time, and detaches its most expensive program where that is too much.
//!
//! Now and then the kernel is asked to count run times for a moment, as counting costs time itself. Above the bound twice in a
//! row, the program that looks at packets is detached: server names and TLS libraries of what is not redirected are not seen then. It is attached
//! again after a pause. The other programs run a few times for a connection, and they stay whatever they take: what redirects must
//! not end because of load, or load would be a bypass.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use gnomon_link::{FeatureState, SensorEnd, ToProxy, UNASKED};
use gnomon_sensor::{Program, Sensor};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

use crate::kernel::{CPU_BOUND, Kernel, KernelError, Taken};
use crate::{CostBound, PATIENCE, ServiceError, os};

/// The program that may be detached: it runs for every packet that programs send.
const DEAR: Program = Program::Hello;
/// The number of measurements in a row above the bound.
const TWICE: u32 = 2;

/// Measures periodically, until `ending` hangs up.
pub(crate) fn start<'scope, 'env>(
    threads: &'scope Scope<'scope, 'env>,
    kernel: &'env Kernel,
    link: &'env SensorEnd,
    cgroup: &Path,
    bound: CostBound,
    ending: OwnedFd,
) -> Result<(), ServiceError> {
    let cgroup = File::open(cgroup).map_err(os("open the cgroup that is seen"))?;
    let mut watchdog = Watchdog { kernel, link, cgroup, bound, above: 0, shed: None };
    let body = move || {
        while !is_over(&ending, watchdog.bound.every) {
            match measure(kernel, &ending, watchdog.bound.over) {
                Ok(Some(taken)) => watchdog.weigh(taken),
                Ok(None) => return,
                Err(error) => {
                    let why = format!("what the sensor takes of the processor is not known, and not bounded: {error}");
                    tracing::warn!("{why}");
                    return kernel.say(CPU_BOUND, FeatureState::Broken, &why);
                }
            }
        }
    };
    Builder::new().name("cost".to_owned()).spawn_scoped(threads, body).map_err(os::<io::Error>("start a thread"))?;
    Ok(())
}

struct Watchdog<'env> {
    kernel: &'env Kernel,
    link: &'env SensorEnd,
    cgroup: File,
    bound: CostBound,
    /// The number of measurements above the bound in a row.
    above: u32,
    /// Since when that program is detached.
    shed: Option<Instant>,
}

impl Watchdog<'_> {
    fn weigh(&mut self, taken: Taken) {
        self.kernel.took(taken);
        let percent = (taken.kernel + taken.process) as f64 / 1e4;
        match self.shed {
            Some(since) if since.elapsed() >= self.bound.rest => self.attach_again(),
            Some(_) => {}
            None => {
                self.above = if percent > self.bound.percent { self.above + 1 } else { 0 };
                if self.above == TWICE {
                    self.shed(percent);
                }
            }
        }
    }

    fn shed(&mut self, percent: f64) {
        let rest = self.bound.rest.as_secs();
        let why = format!("detached for {rest} s: the sensor took {percent:.2} % of a core, and {} % is the bound", self.bound.percent);
        // Also where it was never attached: there is nothing else to detach.
        (self.above, self.shed) = (0, Some(Instant::now()));
        match self.kernel.detach_one(DEAR) {
            Ok(true) => {
                tracing::warn!("{}: {why}", DEAR.name());
                self.kernel.say(DEAR.name(), FeatureState::Broken, &why);
                self.tell();
            }
            Ok(false) | Err(KernelError::Detached) => {}
            Err(error) => tracing::error!("{} stays, and should go: {error}", DEAR.name()),
        }
    }

    fn attach_again(&mut self) {
        self.shed = None;
        match self.kernel.attach_one(DEAR, self.cgroup.as_fd()) {
            Ok(true) => {
                tracing::warn!("{}: attached again", DEAR.name());
                self.kernel.unsay(DEAR.name());
                self.tell();
            }
            Ok(false) | Err(KernelError::Detached) => {}
            Err(error) => tracing::error!("{} is not attached again: {error}", DEAR.name()),
        }
    }

    /// Reports it to the serving half, which makes it an event, or else in the log.
    fn tell(&self) {
        let _ = self.link.send(&ToProxy::Features { token: UNASKED, features: self.kernel.features() }, &[], PATIENCE);
    }
}

/// `None` when it is time to stop.
fn measure(kernel: &Kernel, ending: &OwnedFd, over: Duration) -> Result<Option<Taken>, gnomon_sensor::SensorError> {
    let counting = Sensor::count_run_time()?;
    let (before, own, began) = (kernel.run_time(), own_time(), Instant::now());
    if is_over(ending, over) {
        return Ok(None);
    }
    let (spent, own) = (kernel.run_time().saturating_sub(before), own_time().saturating_sub(own));
    drop(counting);
    let share = |time: Duration| (1e6 * time.as_secs_f64() / began.elapsed().as_secs_f64()) as u64;
    Ok(Some(Taken { kernel: share(spent), process: share(own) }))
}

fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

pub(crate) fn is_over(ending: &OwnedFd, wait: Duration) -> bool {
    let wait = Timespec::try_from(wait).ok();
    let mut fds = [PollFd::new(ending, PollFlags::IN)];
    poll(&mut fds, wait.as_ref()).is_ok() && !fds[0].revents().is_empty()
}
