//! The sensor obeys the kill switch by itself: a thread polls the file, whatever the proxy and the other threads do, and publishes the
//! state. The same thread releases inherited scopes that the proxy does not claim.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::{Builder, Scope};
use std::time::Instant;

use gnomon_host::switch::{Arming, Switch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::closed::LAPSES;
use crate::kernel::Kernel;
use crate::scopes::Teeth;
use crate::status::{Published, Status, seconds};
use crate::{Options, ServiceError, os};

/// Applies the state of the file at once, and whenever it changes, until `ending` is closed.
pub(crate) fn start<'scope, 'env>(
    threads: &'scope Scope<'scope, 'env>,
    kernel: &'env Kernel,
    options: &Options,
    (cgroup, welcomed): (&Path, Instant),
    ending: OwnedFd,
) -> Result<(), ServiceError> {
    let folder = options.exec.as_ref().and_then(|exec| exec.socket.parent());
    let mut obeying = Obeying {
        switch: options.switch.clone(),
        held: Teeth::In,
        status: Status::of(cgroup),
        published: folder.map(Published::in_folder),
    };
    // Before anything can be redirected.
    obeying.look(kernel);
    let mut closed = options.closed.clone();
    let body = move || {
        while !is_over(&ending) {
            obeying.look(kernel);
            // Inherited scopes may be released here: the proxy has set its own by now.
            if welcomed.elapsed() >= LAPSES
                && let Some(closed) = closed.take()
                && let Err(error) = kernel.lapse(&closed)
            {
                tracing::warn!("scopes that the serving half does not ask for stay closed: {error}");
            }
        }
    };
    Builder::new().name("switch".to_owned()).spawn_scoped(threads, body).map_err(os::<io::Error>("start a thread"))?;
    Ok(())
}

/// Waits until the next look. Returns whether it is time to stop.
fn is_over(ending: &OwnedFd) -> bool {
    let wait = Timespec::try_from(Switch::LOOK).ok();
    let mut fds = [PollFd::new(ending, PollFlags::IN)];
    poll(&mut fds, wait.as_ref()).is_ok() && !fds[0].revents().is_empty()
}

struct Obeying {
    switch: Switch,
    held: Teeth,
    status: Status,
    published: Option<Published>,
}

impl Obeying {
    fn look(&mut self, kernel: &Kernel) {
        // If it cannot be read, the state stays; the next look may succeed.
        if let Ok(arming) = self.switch.look() {
            self.obey(kernel, &arming);
        }
        self.status.redirecting = kernel.redirecting();
        if let Some(published) = &mut self.published {
            published.say(&self.status);
        }
    }

    fn obey(&mut self, kernel: &Kernel, arming: &Arming) {
        let teeth = if arming.is_armed() { Teeth::In } else { Teeth::Drawn };
        if teeth != self.held {
            if let Err(error) = kernel.turn(teeth) {
                tracing::error!("the kill switch is not in force yet: {error}");
                return;
            }
            self.held = teeth;
            match teeth {
                Teeth::In => tracing::warn!("armed: scopes redirect again"),
                Teeth::Drawn => tracing::warn!("disarmed: nothing is redirected as long as {} is there", self.switch.path().display()),
            }
        }
        let (reason, since) = match arming {
            Arming::Armed => (None, None),
            Arming::Disarmed(found) => (Some(found.reason.clone()), found.since.map(seconds)),
        };
        self.status = Status { armed: arming.is_armed(), reason, disarmed_since: since, ..self.status.clone() };
    }
}
