//! The product's sensor process, with this process in the proxy's place.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gnomon_link::{ProxyEnd, SensorEnd, ToSensor};
use gnomon_sensor::Ring;

use super::{Cgroups, Place};

const READY_WITHIN: Duration = Duration::from_secs(15);
/// How long it may take to end after we hung up.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// How often the ring is looked at when nothing wakes us, as the proxy does.
const LOOK: Duration = Duration::from_millis(50);

/// A sensor that observes the loads' cgroup. Dropping it detaches everything.
pub struct Sensor {
    child: Child,
    link: Option<ProxyEnd>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    records: Arc<AtomicU64>,
}

impl Sensor {
    /// Starts one and waits until it has attached. To be called by the main thread, with whose end the sensor ends.
    ///
    /// # Errors
    /// It does not start or does not greet within 15 s.
    ///
    /// `explicit_port` is what the proxy would say is its own: of connections there and nowhere else owners are filed.
    pub fn start(gnomon: &Path, cgroups: &Cgroups, explicit_port: u16) -> Result<Self> {
        let (link, theirs): (ProxyEnd, SensorEnd) = ProxyEnd::pair()?;
        let mut command = Command::new(gnomon);
        command.arg("sensor").arg("--cgroup").arg(cgroups.at(Place::Observed)).arg("--own-cgroup").arg(cgroups.own());
        command.arg("--parent").arg(std::process::id().to_string());
        let child = command.stdin(Stdio::from(theirs.into_socket())).spawn().context("starting gnomon sensor")?;
        let (stop, records) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut sensor = Self { child, link: None, stop, reader: None, records };
        let greeted = link.greet(READY_WITHIN).context("the sensor does not greet")?;
        link.send(&ToSensor::ExplicitPort { port: explicit_port }, &[], READY_WITHIN)?;
        sensor.link = Some(link);
        let mut ring = Ring::from_fd(greeted.ring, greeted.ring_bytes).context("mapping the ring buffer")?;
        let (stop, records) = (Arc::clone(&sensor.stop), Arc::clone(&sensor.records));
        let read = move || {
            while !stop.load(Ordering::Relaxed) && ring.wait(LOOK).is_ok() {
                let read = ring.drain(|record| drop(std::hint::black_box(record)));
                records.fetch_add(read as u64, Ordering::Relaxed);
            }
        };
        sensor.reader = Some(std::thread::Builder::new().name("ring".into()).spawn(read)?);
        Ok(sensor)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many records were read so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// It had ended by itself: then what was measured is not the sensor.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the sensor ended by itself, with {status}"),
            None => Ok(()),
        }
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// It had ended by itself, or nothing was ever reported.
    pub fn finish(mut self) -> Result<()> {
        self.still_runs()?;
        // What is under way is read at the next look.
        std::thread::sleep(2 * LOOK);
        if self.records() == 0 {
            bail!("the sensor reported nothing");
        }
        Ok(())
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        // It ends when we hang up.
        self.link = None;
        let end = Instant::now() + ENDS_WITHIN;
        while Instant::now() < end {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
