//! The same with tokio.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gnomon_link::*;
use tokio::time::timeout;

use crate::{SOON, null};

#[tokio::test]
async fn a_proxy_on_tokio_greets_a_sensor_on_a_thread_and_asks_it() {
    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    let sensor = thread::spawn(move || {
        sensor.welcome(List::default(), null().as_fd(), 4096, null().as_fd(), SOON)?;
        for _ in 0..1_000 {
            let ToSensor::Resolve { token, .. } = sensor.recv(SOON)?.message else { panic!("out of turn") };
            sensor.send(&ToProxy::Process { token, found: IdentityAnswer::Gone }, &[], SOON)?;
        }
        Ok::<(), LinkError>(())
    });
    let proxy = Arc::new(AsyncChannel::new(proxy).unwrap());
    assert_eq!(timeout(SOON, proxy.greet()).await.unwrap().unwrap().ring_bytes, 4096);
    let asking = Arc::clone(&proxy);
    let asker = tokio::spawn(async move {
        for token in 0..1_000 {
            let question = ToSensor::Resolve { token, pid: 1, connected_boot_ns: 2, generation_boot_ns: 0, cookie: 3 };
            asking.send(&question, &[]).await.unwrap();
        }
    });
    for token in 0..1_000 {
        let answer = timeout(SOON, proxy.recv()).await.unwrap().unwrap();
        assert_eq!(answer.message, ToProxy::Process { token, found: IdentityAnswer::Gone });
    }
    asker.await.unwrap();
    sensor.join().unwrap().unwrap();
    assert!(matches!(timeout(SOON, proxy.recv()).await.unwrap(), Err(LinkError::Closed)));
}

#[tokio::test]
async fn a_cancelled_receive_loses_nothing_and_a_full_socket_waits() {
    let (proxy, sensor): (ProxyEnd, SensorEnd) = Channel::pair().unwrap();
    let proxy = AsyncChannel::new(proxy).unwrap();
    assert!(timeout(Duration::from_millis(20), proxy.recv()).await.is_err());
    sensor.send(&ToProxy::Done { token: 1 }, &[], SOON).unwrap();
    assert_eq!(timeout(SOON, proxy.recv()).await.unwrap().unwrap().message, ToProxy::Done { token: 1 });
    let mut sent = 0;
    while timeout(Duration::from_millis(50), proxy.send(&ToSensor::Features { token: sent }, &[])).await.is_ok() {
        sent += 1;
        assert!(sent < 100_000);
    }
    for token in 0..sent {
        assert_eq!(sensor.recv(SOON).unwrap().message, ToSensor::Features { token });
    }
    timeout(SOON, proxy.send(&ToSensor::Features { token: sent }, &[])).await.unwrap().unwrap();
}

#[tokio::test]
async fn clients_are_accepted_and_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gnomon.sock");
    let listener = AsyncListener::new(Listener::bind(&path, Access::Group).unwrap()).unwrap();
    for redirect in [Redirect::On, Redirect::Off] {
        let at = path.clone();
        let join = ToGnomon::Join { version: VERSION, argv0: Text::cut("vim"), redirect };
        let sent = join.clone();
        let client = thread::spawn(move || {
            let client = ExecEnd::connect(&at, SOON)?;
            client.send(&sent, &[], SOON)?;
            client.recv(SOON)
        });
        let gnomon = timeout(SOON, listener.accept::<ToExec, ToGnomon>()).await.unwrap().unwrap();
        assert_eq!(gnomon.peer().unwrap().pid.get(), std::process::id());
        assert_eq!(timeout(SOON, gnomon.recv()).await.unwrap().unwrap().message, join);
        let joined = ToExec::Joined { cgroup: Text::cut("/gnomon"), bundle: Bundle::None };
        gnomon.send(&joined, &[]).await.unwrap();
        assert_eq!(client.join().unwrap().unwrap().message, joined);
    }
}
