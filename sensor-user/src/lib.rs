//! The privileged half of the sensor: it loads and attaches the kernel half, tells it what to do, and
//! reads what it reports.
//!
//! | part | for whom |
//! |---|---|
//! | [`Loader`] | the privileged process while it starts: it needs 20 MiB, and leaves a [`Sensor`] |
//! | [`Sensor`], [`Features`], [`Scopes`], [`Counters`] | the privileged process, which alone calls `bpf(2)` |
//! | [`listen`] | the privileged process: listeners that the kernel half knows as ours |
//! | [`Ring`], [`Heartbeat`], [`owner_of`] | the unprivileged proxy: shared memory and one socket option, no `bpf(2)` |
//!
//! It deliberately does not pin anything (all that is attached goes when the process goes, however it goes), parse what programs send (the
//! bytes of a ClientHello are passed on as they are), or look up who a process is.
//! The trade-off: a restart of the privileged process is a gap in what is seen, but never an outage.
//!
//! ```no_run
//! use gnomon_sensor::{CgroupId, Loader, Options, Ring};
//!
//! let options = Options::new("/sys/fs/cgroup", "/sys/fs/cgroup/system.slice/gnomon.service");
//! let mut loader = Loader::new(&options)?;
//! loader.sensor().scopes()?.exclude(CgroupId::of("/sys/fs/cgroup/system.slice/gnomon.service")?)?;
//! for (program, status) in loader.attach_all() {
//!     println!("{}: {status:?}", program.name());
//! }
//! let sensor = loader.finish();
//! let mut ring = Ring::from_fd(sensor.ring()?, options.ring_bytes)?;
//! ring.wait(std::time::Duration::from_millis(50))?;
//! ring.drain(|record| println!("{record:?}"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attach;
mod attached;
mod bytes;
mod counters;
mod error;
mod execs;
mod failed;
mod features;
mod heartbeat;
pub mod listen;
mod loader;
mod memory;
mod object;
mod owner;
mod record;
mod ring;
mod scope;
mod sensor;
mod status;

pub use attached::{Attached, Beside, Overridden, attached, overridden_by_ours};
pub use counters::Counters;
pub use error::SensorError;
pub use execs::Execs;
pub use failed::Failed;
pub use features::{Feature, Features};
pub use gnomon_sensor_abi::{Outcome, Program, Reason};
pub use heartbeat::{Heartbeat, PERIOD, STALE};
pub use loader::{Loader, OWNERS, Options};
pub use owner::{Comm, Owner, Road, owner_of};
pub use record::{Close, Connect, Decision, End, Hello, Malformed, Record, Start};
pub use ring::Ring;
pub use scope::{CgroupId, Fail, Mode, PortList, Ports, Quic, Redirect, Scope, Scopes, TooManyPorts};
pub use sensor::{HandedOver, Sensor, Starts};
pub use status::Status;
