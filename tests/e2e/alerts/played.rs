//! A simulated sensor, to put gnomon into the state that an alert reports. It speaks the protocol of the real sensor.

use crate::support::DEADLINE;
use gnomon_link::{
    Access, Adoption, Count, Feature, FeatureState, Label, List, Listener, Long, Name, Program, RefusalReason, SensorEnd, ToProxy,
    ToSensor, UNASKED,
};
use std::{
    fs::File,
    os::fd::AsFd as _,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// Page size of the memory that stands for the kernel's ring buffer and heartbeat.
const PAGE: u64 = 4096;
const RING: u32 = 1 << 16;

/// A sensor that one serving process has joined; it sends what the test asks for, and disconnects when dropped.
pub struct Played {
    end: Arc<SensorEnd>,
    counted: Arc<Mutex<Vec<Program>>>,
}

/// A sensor that listens on a socket and has not been joined yet.
pub struct Waiting(Listener);

impl Waiting {
    pub fn at(socket: &Path) -> Self {
        Self(Listener::bind(socket, Access::Group).unwrap())
    }

    /// Greets the process that joins, as a sensor with this one feature.
    pub fn joined(&self, feature: Feature) -> Played {
        let end: Arc<SensorEnd> = Arc::new(self.0.accept(DEADLINE).unwrap());
        let (ring, heartbeat) = (memory("ring", 2 * PAGE + 2 * u64::from(RING)), memory("heartbeat", PAGE));
        end.welcome(List::cut([feature]), ring.as_fd(), RING, heartbeat.as_fd(), DEADLINE).unwrap();
        let counted = Arc::new(Mutex::new(Vec::new()));
        let (answers, counts) = (end.clone(), counted.clone());
        thread::spawn(move || {
            while let Ok(asked) = answers.recv(Duration::from_secs(120)) {
                let answer = match asked.message {
                    ToSensor::Counters { token } => ToProxy::Counters { token, programs: List::cut(counts.lock().unwrap().clone()) },
                    ToSensor::ListenIn { token, .. } => {
                        ToProxy::Refused { token, why: RefusalReason::NotAllowed, detail: Name::cut("it is played") }
                    }
                    _ => continue,
                };
                if answers.send(&answer, &[], DEADLINE).is_err() {
                    return;
                }
            }
        });
        Played { end, counted }
    }
}

impl Played {
    /// Reports that a program has counted this many of an outcome.
    pub fn counts(&self, program: &str, outcome: &str, count: u64) {
        let counts = List::cut([Count { outcome: Label::cut(outcome), count }]);
        *self.counted.lock().unwrap() = vec![Program { name: Label::cut(program), counts }];
    }

    /// Reports programs of `gnomon exec` that the sensor could not take over.
    pub fn lost(&self, cgroup: &str, why: &str) {
        let adoption = Adoption::Lost(Name::cut(why));
        self.end.send(&ToProxy::ExecScope { cgroup: Long::cut(cgroup), adoption }, &[], DEADLINE).unwrap();
    }

    /// Reports the state of a feature without having been asked.
    pub fn says(&self, feature: Feature) {
        self.end.send(&ToProxy::Features { token: UNASKED, features: List::cut([feature]) }, &[], DEADLINE).unwrap();
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        // The thread that answers holds the socket too, so it is shut down, not just closed.
        let _ = rustix::net::shutdown(&*self.end, rustix::net::Shutdown::Both);
    }
}

pub fn feature(name: &str, state: FeatureState, reason: &str) -> Feature {
    Feature { name: Label::cut(name), state, reason: Name::cut(reason) }
}

fn memory(name: &str, size: u64) -> File {
    let file = File::from(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    file.set_len(size).unwrap();
    file
}
