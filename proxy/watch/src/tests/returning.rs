//! Addresses that are refused, as nobody answered there a moment ago.

use std::net::SocketAddr;

use gnomon_link::{ToProxy, ToSensor};
use gnomon_sensor_abi::decision;
use rustix::net::{AddressFamily, SocketType, socket};
use tokio::net::TcpListener;

use super::raw::Call;
use super::stage::{SOON, Stage};

const NETNS: u64 = 4_026_531_840;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_there_by_now_is_refused_no_longer_once_a_program_has_tried_again() {
    let script = |message| match message {
        ToSensor::OpenSocketAs { token, netns_cookie: NETNS, family, uid: 1000, gid: 1000 } => {
            let opened = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            vec![(ToProxy::Socket { token, family }, vec![opened])]
        }
        ToSensor::OpenSocket { token, netns_cookie: NETNS, family } => {
            let opened = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            vec![(ToProxy::Socket { token, family }, vec![opened])]
        }
        ToSensor::Failed { token, .. } => vec![(ToProxy::Done { token }, Vec::new())],
        _ => Vec::new(),
    };
    let stage = Stage::new(&[], script).await;
    let tried = |at: SocketAddr| {
        let call = Call { ip: [127, 0, 0, 1], port: at.port(), scope: 7, decision: decision::FAILED_LATELY, ..Call::new(1) };
        stage.record(&call.bytes());
    };
    // Nobody listens there.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    tried(dead);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    tried(address);
    let (mut looked, _) = tokio::time::timeout(SOON, server.accept()).await.unwrap().unwrap();
    let said = tokio::io::AsyncReadExt::read(&mut looked, &mut [0; 1]).await;
    assert_eq!(said.unwrap(), 0, "it says nothing");
    let lifted = loop {
        let asked = stage.sensor.asked.recv_timeout(SOON).unwrap();
        if let ToSensor::Failed { netns_cookie, address, uid, seconds, .. } = asked {
            break (netns_cookie, address, uid, seconds);
        }
    };
    assert_eq!(lifted, (NETNS, address, 1000, 0), "and of the other nothing is lifted");
    assert!(!stage.sensor.asked.try_iter().any(|asked| matches!(asked, ToSensor::Failed { .. })));
    assert!(stage.events().await.is_empty(), "an attempt that was refused is none");
    stage.end().await;
}
