//! One sensor after another: the next one applies the scopes that the previous one kept closed, and then ends it.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal};

use crate::closed::Note;
use crate::kernel::Kernel;
use crate::scopes::Teeth;
use crate::{HOLDS, Options};

/// The time within which the previous sensor must end.
const GOES_WITHIN: Duration = Duration::from_secs(3);

/// Puts in force the scopes that the previous sensor kept closed, unless gnomon is disarmed.
pub(crate) fn take_over(kernel: &Kernel, options: &Options) {
    let Some(closed) = &options.closed else { return };
    let Note { scopes, .. } = closed.read();
    if scopes.is_empty() {
        return;
    }
    let disarmed = options.switch.look().is_ok_and(|arming| !arming.is_armed());
    let turned = if disarmed { kernel.turn(Teeth::Drawn) } else { Ok(()) };
    if let Err(error) = turned.and_then(|()| kernel.inherit(&scopes)) {
        tracing::error!("scopes that fail closed are open until the serving half asks for them: {error}");
    }
}

/// Ends the sensor that stayed, once this one refuses in its stead. One that cannot be ended is left to the process that started it; if
/// this sensor cannot refuse, that one stays.
pub(crate) fn relieve(kernel: &Kernel, options: &Options) {
    let Some(closed) = &options.closed else { return };
    let note = closed.read();
    let holder = note.holder;
    if holder == 0 {
        return;
    }
    let is_needed = !kernel.refuses() && is_sibling_that_holds(holder);
    if is_needed != note.is_needed
        && let Err(error) = closed.write(&Note { is_needed, ..note })
    {
        tracing::warn!("{error}");
    }
    if is_needed {
        tracing::error!("scopes that fail closed are kept so by the sensor before this one, which refuses all their connections");
        return;
    }
    let Some(pid) = i32::try_from(holder).ok().and_then(Pid::from_raw) else { return };
    // The pid may have been reused: whether it is the sibling we took over from is checked after pidfd_open.
    let Some(process) = pidfd_open(pid, PidfdFlags::empty()).ok().filter(|_| is_sibling_that_holds(holder)) else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        let wait = Timespec::try_from(GOES_WITHIN).ok();
        let sent = pidfd_send_signal(&process, signal);
        if sent.is_ok() && poll(&mut [PollFd::new(&process, PollFlags::IN)], wait.as_ref()).is_ok_and(|ended| ended > 0) {
            return;
        }
    }
}

fn is_sibling_that_holds(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let parent = getppid().map(|parent| parent.as_raw_nonzero().to_string());
    field("Name:") == HOLDS.to_str().ok() && parent.is_some() && field("PPid:").map(ToOwned::to_owned) == parent
}
