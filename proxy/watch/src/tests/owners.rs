//! Whose connections the proxy accepted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gnomon_observe::{Field, Lookup};
use gnomon_record::Owners;
use tokio::net::{TcpListener, TcpStream};

use super::raw::{Call, hello};
use super::stage::{Stage, known, silent};
use crate::WatchOptions;

async fn accepted() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    listener.accept().await.unwrap().0
}

#[tokio::test]
async fn the_owner_comes_with_its_process_and_the_name_that_its_flow_has_elsewhere() {
    let stage = Stage::new(&[], known()).await;
    let stream = accepted().await;
    assert!(stage.watch.owner(&stream).await.is_none(), "the kernel half does not know it");
    *stage.owner.lock() = Some(Call::redirected(5).owner());
    let owned = stage.watch.owner(&stream).await.unwrap();
    assert_eq!((owned.cookie, owned.redirected), (5, true));
    assert_eq!(owned.original, SocketAddr::from(([203, 0, 113, 7], 443)));
    assert_eq!(owned.seen.text(Field::Executable), Some("/usr/bin/node"));
    assert_eq!(owned.seen.text(Field::UserName), Some("ada"));
    stage.connect(&Call::new(5)).await;
    stage.record(&hello(5, "mcp.vendor.example"));
    let events = stage.events().await;
    assert_eq!(events[0]["gnomon.flow.id"].as_str(), owned.seen.text(Field::FlowId));
    stage.end().await;
}

#[tokio::test]
async fn an_owner_that_was_asked_for_before_costs_no_question() {
    let stage = Stage::new(&[], known()).await;
    stage.connect(&Call::redirected(5)).await;
    *stage.owner.lock() = Some(Call::redirected(5).owner());
    let stream = accepted().await;
    for _ in 0..10 {
        assert!(stage.watch.owner(&stream).await.is_some());
    }
    assert_eq!(stage.sensor.resolved(), 1);
    stage.end().await;
}

#[tokio::test]
async fn a_connection_does_not_wait_longer_than_it_may_and_its_process_is_then_unreadable_not_absent() {
    let options = WatchOptions { own_pid: None, identity_wait: Duration::from_millis(50), ..WatchOptions::default() };
    let stage = Stage::with(&[], options, silent).await;
    *stage.owner.lock() = Some(Call::redirected(5).owner());
    let stream = accepted().await;
    let start = Instant::now();
    let owned = stage.watch.owner(&stream).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(owned.seen.text(Field::ProcessIdentity), Some("late"));
    assert!(matches!(owned.seen.get(Field::Executable), Lookup::Unreadable));
    assert!(matches!(owned.seen.get(Field::Pid), Lookup::Value(_)));
    stage.end().await;
}
