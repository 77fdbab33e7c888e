//! The greeting.

use std::os::fd::AsFd;
use std::thread;

use gnomon_link::*;

use crate::{SOON, null, send_raw};

fn features() -> List<Feature, 64> {
    List::cut([Feature { name: Text::cut("exec_generation"), state: FeatureState::Unsupported, reason: Text::cut("no tracefs") }])
}

#[test]
fn proxy_and_sensor_greet_each_other_and_the_maps_arrive() {
    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    let greeting = thread::spawn(move || sensor.welcome(features(), null().as_fd(), 1 << 20, null().as_fd(), SOON));
    let found = proxy.greet(SOON).unwrap();
    assert_eq!((found.version, found.features, found.ring_bytes), (VERSION, features(), 1 << 20));
    assert_eq!(greeting.join().unwrap().unwrap(), VERSION);
}

#[test]
fn another_major_version_is_an_error_that_names_both_on_either_end() {
    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    // A hello of version 9.3, with more fields than ours has.
    send_raw(&proxy, b"\x00\x09\x03 and more", &[]);
    let error = sensor.welcome(features(), null().as_fd(), 4096, null().as_fd(), SOON).unwrap_err();
    let theirs = Version { major: 9, minor: 3 };
    assert!(matches!(error, LinkError::Decode(DecodeError::Version { theirs: seen, ours: VERSION }) if seen == theirs), "{error}");
    assert!(error.to_string().contains("9.3") && error.to_string().contains(&VERSION.to_string()));
    // The proxy is told our version, and gets no descriptors.
    assert!(matches!(proxy.recv(SOON).unwrap().message, ToProxy::Welcome { version: VERSION, .. }));
    drop(sensor);
    assert!(matches!(proxy.recv(SOON), Err(LinkError::Closed)));

    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    send_raw(&sensor, b"\x00\x09\x03", &[]);
    assert!(matches!(proxy.greet(SOON), Err(LinkError::Decode(DecodeError::Version { .. }))));
}

#[test]
fn a_client_of_another_version_can_read_why_it_is_denied() {
    assert!(matches!(decode::<ToExec>(b"\x00\x09\x03 a denial of the future"), Err(DecodeError::Version { .. })));
    assert!(matches!(decode::<ToGnomon>(b"\x00\x09\x03"), Err(DecodeError::Version { .. })));
}

#[test]
fn a_higher_minor_version_is_understood() {
    let version = Version { major: VERSION.major, minor: VERSION.minor + 7 };
    let bytes = encode(&ToSensor::Hello { version }).unwrap();
    assert_eq!(decode(&bytes), Ok(ToSensor::Hello { version }));
}

#[test]
fn a_message_out_of_turn_is_named_without_its_content() {
    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    sensor.send(&ToProxy::Refused { token: 1, why: RefusalReason::Failed, detail: Text::cut("a secret") }, &[], SOON).unwrap();
    sensor.send(&ToProxy::Done { token: 1 }, &[], SOON).unwrap();
    let error = proxy.greet(SOON).unwrap_err().to_string();
    assert_eq!(error, "Refused where the sensor's welcome was expected");
    proxy.send(&ToSensor::Features { token: 1 }, &[], SOON).unwrap();
    sensor.recv(SOON).unwrap();
    let error = sensor.welcome(features(), null().as_fd(), 4096, null().as_fd(), SOON).unwrap_err();
    assert!(matches!(error, LinkError::OutOfTurn { expected: "the proxy's hello", .. }));
}
