//! Notifications to the service manager (sd_notify(3)): readiness and liveness. None without a service manager.
//!
//! The watchdog of the serving process hangs on its runtime, as the heartbeat for the kernel half does: a thread that knew
//! nothing would vouch for a process that hangs.

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};
use tokio::runtime::Handle;

/// Says that everything listens.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that this process gets on.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Says that it is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    // Without a service manager there is no socket; with one that does not listen, its watchdog decides.
    let _ = sd_notify::notify(states);
}

/// The interval of watchdog notifications: a third of the timeout after which it ends this process.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 3)
}

/// Tells the watchdog that the process gets on as long as the runtime does. Ends when dropped.
#[derive(Debug)]
pub struct Vouching {
    _end: Sender<()>,
}

/// Starts watchdog notifications for the runtime, if the service manager expects them.
///
/// # Errors
/// No thread can be started.
pub fn vouch(runtime: Handle) -> Result<Option<Vouching>> {
    let Some(every) = watchdog() else { return Ok(None) };
    let (end, ended) = channel::<()>();
    let vouch = move || {
        while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            let (answer, answered) = channel();
            runtime.spawn(async move { answer.send(()) });
            if answered.recv_timeout(every).is_ok() {
                alive();
            }
        }
    };
    thread::Builder::new().name("gnomon-watchdog".to_owned()).spawn(vouch).context("starting a thread")?;
    Ok(Some(Vouching { _end: end }))
}
