//! Peers that are slow, silent, gone, or send too much.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gnomon_link::*;

use crate::roles::program;
use crate::{SOON, send_raw};

const SHORT: Duration = Duration::from_millis(50);

#[test]
fn a_silent_peer_costs_the_timeout_and_no_more() {
    let (proxy, _sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    let start = Instant::now();
    assert!(matches!(proxy.recv(SHORT), Err(LinkError::TimedOut)));
    assert!(start.elapsed() >= SHORT && start.elapsed() < SOON);
    assert!(matches!(proxy.recv(Duration::ZERO), Err(LinkError::TimedOut)));
}

#[test]
fn a_peer_that_does_not_read_cannot_hold_the_sender() {
    let (sensor, proxy): (SensorEnd, ProxyEnd) = Channel::pair().unwrap();
    let message = ToProxy::Counters { token: 1, programs: List::new(vec![program("gn_connect4"); 64]).unwrap() };
    let start = Instant::now();
    let sent = (0..100_000).take_while(|_| sensor.send(&message, &[], SHORT).is_ok()).count();
    assert!((1..100_000).contains(&sent) && start.elapsed() < SOON, "{sent}");
    assert!(matches!(sensor.send(&message, &[], SHORT), Err(LinkError::TimedOut)));
    // What was sent arrives, and reading it makes room for the next message.
    for _ in 0..sent {
        assert_eq!(proxy.recv(SOON).unwrap().message, message);
    }
    sensor.send(&message, &[], SHORT).unwrap();
}

#[test]
fn a_peer_that_left_is_told_apart_from_a_slow_one() {
    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    sensor.send(&ToProxy::Done { token: 1 }, &[], SOON).unwrap();
    drop(sensor);
    // A message that was sent before the peer closed is received.
    assert_eq!(proxy.recv(SOON).unwrap().message, ToProxy::Done { token: 1 });
    assert!(matches!(proxy.recv(SOON), Err(LinkError::Closed)));
    assert!(matches!(proxy.send(&ToSensor::Features { token: 1 }, &[], SOON), Err(LinkError::Closed)));
    // The peer closed without having read.
    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    proxy.send(&ToSensor::Features { token: 1 }, &[], SOON).unwrap();
    drop(sensor);
    assert!(matches!(proxy.recv(SOON), Err(LinkError::Closed)));
}

#[test]
fn a_peer_that_ends_wakes_one_that_waits() {
    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    let waiting = std::thread::spawn(move || proxy.recv(SOON).map(|received| received.message));
    std::thread::sleep(SHORT);
    drop(sensor);
    let start = Instant::now();
    assert!(matches!(waiting.join().unwrap(), Err(LinkError::Closed)));
    assert!(start.elapsed() < SOON / 2);
}

#[test]
fn oversize_and_empty_messages_are_errors() {
    let (sensor, proxy): (SensorEnd, ProxyEnd) = Channel::pair().unwrap();
    send_raw(&sensor, &vec![7; MAX_MESSAGE + 100], &[]);
    let error = proxy.recv(SOON).unwrap_err();
    assert!(matches!(error, LinkError::Decode(DecodeError::TooLong(length)) if length == MAX_MESSAGE + 100), "{error}");
    send_raw(&sensor, &[], &[]);
    assert!(matches!(proxy.recv(SOON), Err(LinkError::Closed)));
    sensor.send(&ToProxy::Done { token: 1 }, &[], SOON).unwrap();
    assert_eq!(proxy.recv(SOON).unwrap().message, ToProxy::Done { token: 1 });
}

#[test]
fn threads_that_share_an_end_each_get_whole_messages() {
    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    let mut tokens = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let read = || match sensor.recv(SOON).unwrap().message {
                        ToSensor::Features { token } => token,
                        other => panic!("{other:?}"),
                    };
                    (0..500).map(|_| read()).collect::<Vec<_>>()
                })
            })
            .collect();
        for token in 0..2_000 {
            proxy.send(&ToSensor::Features { token }, &[], SOON).unwrap();
        }
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect::<Vec<_>>()
    });
    tokens.sort_unstable();
    assert!(tokens.into_iter().eq(0..2_000));
}

#[test]
fn only_a_socket_of_our_kind_becomes_a_channel() {
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    for wrong in [OwnedFd::from(stream), file.into()] {
        assert!(matches!(ProxyEnd::from_socket(wrong), Err(LinkError::NotOurSocket)));
    }
    let (proxy, _sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    assert!(ProxyEnd::from_socket(proxy.into_socket()).is_ok());
}
