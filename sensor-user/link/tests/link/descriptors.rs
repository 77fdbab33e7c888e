//! Descriptors that travel with messages.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use gnomon_link::*;
use rustix::io::{FdFlags, fcntl_getfd};

use crate::roles::start_with_channel;
use crate::{SOON, null, send_raw};

#[test]
fn a_listener_passes_from_one_process_to_another() {
    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    let _sensor = start_with_channel("sensor", sensor.into_socket());
    proxy.send(&ToSensor::ListenIn { token: 3, netns_cookie: 9, pid: 1 }, &[], SOON).unwrap();
    let answer = proxy.recv(SOON).unwrap();
    let ToProxy::Listeners { token: 3, netns_cookie: 9, port, families: Families::V4 } = answer.message else {
        panic!("{:?}", answer.message)
    };
    let [listener] = answer.take().unwrap();
    assert!(fcntl_getfd(&listener).unwrap().contains(FdFlags::CLOEXEC));
    let listener = TcpListener::from(listener);
    assert_eq!(listener.local_addr().unwrap().port(), port);
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"hello").unwrap();
    let mut read = [0; 5];
    listener.accept().unwrap().0.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"hello");
}

#[test]
fn descriptors_arrive_in_their_order_and_the_sender_keeps_its_own() {
    let (gnomon, client): (GnomonEnd, ExecEnd) = Channel::pair().unwrap();
    let mut bundle = tempfile::tempfile().unwrap();
    bundle.write_all(b"PEM").unwrap();
    let joined = ToExec::Joined { cgroup: Text::cut("/gnomon/1"), bundle: Bundle::Attached };
    gnomon.send(&joined, &[bundle.as_fd()], SOON).unwrap();
    let received = client.recv(SOON).unwrap();
    assert_eq!(received.message, joined);
    let [file] = received.take().unwrap();
    let (mut file, mut read) = (File::from(file), String::new());
    file.rewind().unwrap();
    file.read_to_string(&mut read).unwrap();
    assert_eq!(read, "PEM");
    bundle.write_all(b"more").unwrap();
}

#[test]
fn wrong_descriptors_are_refused_where_they_are_sent_and_where_they_arrive() {
    let (sensor, proxy): (SensorEnd, ProxyEnd) = Channel::pair().unwrap();
    let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(v4.local_addr().unwrap()).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listeners = |families| ToProxy::Listeners { token: 1, netns_cookie: 1, port: 1, families };
    for wrong in [null(), OwnedFd::from(connected), datagrams.into()] {
        let message = listeners(Families::V4);
        assert!(matches!(sensor.send(&message, &[wrong.as_fd()], SOON), Err(LinkError::WrongDescriptor { position: 0, .. })));
        send_raw(&sensor, &encode(&message).unwrap(), &[wrong.as_fd()]);
        assert!(matches!(proxy.recv(SOON), Err(LinkError::WrongDescriptor { position: 0, .. })));
    }
    // The second should be an IPv6 listener.
    let message = listeners(Families::Both);
    send_raw(&sensor, &encode(&message).unwrap(), &[v4.as_fd(), v4.as_fd()]);
    let error = proxy.recv(SOON).unwrap_err();
    assert!(matches!(error, LinkError::WrongDescriptor { position: 1, expected: DescriptorKind::Listener(Family::V6), .. }), "{error}");
    let (gnomon, client): (GnomonEnd, ExecEnd) = Channel::pair().unwrap();
    let joined = ToExec::Joined { cgroup: Text::default(), bundle: Bundle::Attached };
    send_raw(&gnomon, &encode(&joined).unwrap(), &[v4.as_fd()]);
    assert!(matches!(client.recv(SOON), Err(LinkError::WrongDescriptor { expected: DescriptorKind::File, .. })));
}

#[test]
fn more_fewer_or_lost_descriptors_are_errors_and_the_next_message_is_read() {
    let (sensor, proxy): (SensorEnd, ProxyEnd) = Channel::pair().unwrap();
    let spare = null();
    let done = encode(&ToProxy::Done { token: 1 }).unwrap();
    let maps = encode(&ToProxy::Maps { ring_bytes: 4096 }).unwrap();
    send_raw(&sensor, &done, &[spare.as_fd()]);
    assert!(matches!(proxy.recv(SOON), Err(LinkError::DescriptorCount { expected: 0, got: 1, .. })));
    for got in [0, 1, 3, 4] {
        send_raw(&sensor, &maps, &vec![spare.as_fd(); got]);
        let error = proxy.recv(SOON).unwrap_err();
        assert!(matches!(error, LinkError::DescriptorCount { expected: 2, got: seen, .. } if seen == got), "{error}");
    }
    send_raw(&sensor, &maps, &[spare.as_fd(); 30]);
    assert!(matches!(proxy.recv(SOON), Err(LinkError::DescriptorsLost)));
    sensor.send(&ToProxy::Maps { ring_bytes: 4096 }, &[spare.as_fd(), spare.as_fd()], SOON).unwrap();
    assert_eq!(proxy.recv(SOON).unwrap().descriptors.len(), 2);
}

#[test]
fn a_thousand_bad_messages_leave_no_descriptor_open() {
    let (sensor, proxy): (SensorEnd, ProxyEnd) = Channel::pair().unwrap();
    let mut reader = start_with_channel("reader of bad messages", proxy.into_socket());
    let spare = null();
    let done = encode(&ToProxy::Done { token: 1 }).unwrap();
    let listeners = encode(&ToProxy::Listeners { token: 1, netns_cookie: 1, port: 1, families: Families::V4 }).unwrap();
    let trailing = [done.as_slice(), b"x"].concat();
    let too_long = vec![0; MAX_MESSAGE + 1];
    for round in 0..1_000 {
        let (bytes, count) = match round % 7 {
            0 => (done.as_slice(), 1),
            1 => (&listeners[..], 1),
            2 => (b"\x63unknown".as_slice(), 3),
            3 => (&trailing[..], 2),
            4 => (&listeners[..], 30),
            5 => (&too_long[..], 4),
            _ => (&listeners[..1], 4),
        };
        send_raw(&sensor, bytes, &vec![spare.as_fd(); count]);
    }
    sensor.send(&ToProxy::Done { token: 0 }, &[], SOON).unwrap();
    let number = || match sensor.recv(SOON).unwrap().message {
        ToSensor::Counters { token } => token,
        other => panic!("{other:?}"),
    };
    assert_eq!(number(), 1_000);
    let (before, after) = (number(), number());
    assert_eq!(before, after);
    assert!(reader.0.wait().unwrap().success());
}
