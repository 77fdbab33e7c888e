//! The first words between proxy and sensor, in which their versions meet.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::bounds::List;
use crate::codec::DecodeError;
use crate::message::{Feature, Message, ToProxy, ToSensor, VERSION, Version};
use crate::packet::Received;
use crate::{LinkError, ProxyEnd, SensorEnd};

/// A proxy's knowledge of its sensor after the greeting.
#[derive(Debug)]
pub struct Sensor {
    /// Its protocol version; of the same major version.
    pub version: Version,
    /// The features of its kernel half here.
    pub features: List<Feature, 64>,
    /// The ring buffer of events.
    pub ring: OwnedFd,
    /// Size of the ring's data in bytes.
    pub ring_bytes: u32,
    /// The map of the heartbeat.
    pub heartbeat: OwnedFd,
}

/// The proxy's first message.
pub(crate) const HELLO: ToSensor = ToSensor::Hello { version: VERSION };

impl ProxyEnd {
    /// Greets the sensor, and takes the descriptors that it hands over.
    ///
    /// # Errors
    /// [`DecodeError::Version`] for a sensor of another major version; [`LinkError::OutOfTurn`]; those of
    /// [`send`](crate::Channel::send) and [`recv`](crate::Channel::recv).
    pub fn greet(&self, timeout: Duration) -> Result<Sensor, LinkError> {
        self.send(&HELLO, &[], timeout)?;
        let welcome = self.recv(timeout)?;
        Sensor::from_greeting(welcome, self.recv(timeout)?)
    }
}

impl Sensor {
    pub(crate) fn from_greeting(welcome: Received<ToProxy>, maps: Received<ToProxy>) -> Result<Self, LinkError> {
        let ToProxy::Welcome { version, features } = welcome.message else {
            return Err(out_of_turn("the sensor's welcome", &welcome.message));
        };
        let ToProxy::Maps { ring_bytes } = maps.message else {
            return Err(out_of_turn("the sensor's maps", &maps.message));
        };
        let [ring, heartbeat] = maps.take()?;
        Ok(Self { version, features, ring, ring_bytes, heartbeat })
    }
}

impl SensorEnd {
    /// Waits for a proxy's hello, and hands over what it needs.
    ///
    /// A proxy of another major version gets this one's version, and no descriptors.
    ///
    /// # Errors
    /// As [`greet`](ProxyEnd::greet).
    pub fn welcome(
        &self,
        features: List<Feature, 64>,
        ring: BorrowedFd<'_>,
        ring_bytes: u32,
        heartbeat: BorrowedFd<'_>,
        timeout: Duration,
    ) -> Result<Version, LinkError> {
        let welcome = ToProxy::Welcome { version: VERSION, features };
        match self.recv(timeout) {
            Ok(Received { message: ToSensor::Hello { version }, .. }) => {
                self.send(&welcome, &[], timeout)?;
                self.send(&ToProxy::Maps { ring_bytes }, &[ring, heartbeat], timeout)?;
                Ok(version)
            }
            Ok(Received { message, .. }) => Err(out_of_turn("the proxy's hello", &message)),
            Err(error) => {
                if matches!(error, LinkError::Decode(DecodeError::Version { .. })) {
                    self.send(&welcome, &[], timeout)?;
                }
                Err(error)
            }
        }
    }
}

fn out_of_turn(expected: &'static str, got: &impl Message) -> LinkError {
    // The name of the variant is enough: the rest may be a person's command line.
    let shown = format!("{got:?}");
    let name = shown.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    LinkError::OutOfTurn { expected, got: name.to_owned() }
}
