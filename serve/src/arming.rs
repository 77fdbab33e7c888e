//! The serving half's share of the kill switch: rules refuse nothing, and new connections pass unread. The sensor sees to
//! its own share by itself.
//!
//! A thread of its own looks for the file, as a runtime under load could be late.

use anyhow::{Context as _, Result};
use gnomon_host::switch::{Arming, Switch};
use gnomon_inspect::{Inspector, Sighting};
use gnomon_log::say;
use gnomon_observe::{Action, Class, Field, Observation};
use gnomon_record::Recorder;
use std::{
    io,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
};

/// Follows the kill switch until dropped.
#[derive(Debug)]
pub struct Obeying {
    _end: Sender<()>,
}

/// Follows the switch from now on; its state is applied when this returns.
///
/// # Errors
/// No thread can be started.
pub fn obey(switch: Switch, inspector: Arc<Inspector>, recorder: Arc<Recorder>) -> Result<Obeying> {
    let mut half = Half { switch, inspector, recorder, known: Arming::Armed, unreadable: None };
    half.look();
    let (end, ended) = channel::<()>();
    let body = move || {
        while ended.recv_timeout(Switch::LOOK) == Err(RecvTimeoutError::Timeout) {
            half.look();
        }
    };
    thread::Builder::new().name("gnomon-switch".to_owned()).spawn(body).context("starting a thread")?;
    Ok(Obeying { _end: end })
}

struct Half {
    switch: Switch,
    inspector: Arc<Inspector>,
    recorder: Arc<Recorder>,
    known: Arming,
    unreadable: Option<io::ErrorKind>,
}

impl Half {
    fn look(&mut self) {
        let found = match self.switch.look() {
            Ok(found) => found,
            Err(error) if self.unreadable == Some(error.kind()) => return,
            Err(error) => {
                self.unreadable = Some(error.kind());
                say(format_args!("cannot look for the kill switch {}: {error}; it stays as it is", self.switch.path().display()));
                return;
            }
        };
        self.unreadable = None;
        if found.is_armed() == self.known.is_armed() {
            return;
        }
        match &found {
            Arming::Armed => {
                self.inspector.arm();
                self.recorder.metrics().armed();
                self.tell("armed", String::new());
            }
            Arming::Disarmed(found) => {
                self.inspector.disarm();
                self.recorder.metrics().disarmed();
                self.tell("disarmed", found.reason.clone());
            }
        }
        self.known = found;
    }

    fn tell(&self, health: &'static str, reason: String) {
        let shown = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        match health {
            "armed" => say(format_args!("armed: rules and scopes hold again")),
            _ => say(format_args!("disarmed by {}{shown}; nothing is redirected, and no rule refuses", self.switch.path().display())),
        }
        let mut seen = Observation::new();
        seen.set(Field::Health, health);
        seen.set(Field::Action, Action::Log.as_str());
        seen.set(Field::DetectionClass, Class::Health.as_str());
        seen.set_some(Field::Message, Some(reason).filter(|reason| !reason.is_empty()));
        self.recorder.report(vec![Sighting { seen, rule: None, action: Action::Log, class: Class::Health, call: 0 }]);
    }
}
