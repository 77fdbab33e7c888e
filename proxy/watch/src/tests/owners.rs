//! Whose connections the proxy accepted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gnomon_link::{Executable, Identity, IdentityAnswer, Image, Text, ToProxy, ToSensor};
use gnomon_observe::{Field, Lookup};
use gnomon_record::Owners;
use tokio::net::{TcpListener, TcpStream};

use super::raw::{Call, hello, start};
use super::stage::{Stage, ada, known, knows, silent};
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
async fn a_connection_waits_for_a_digest_only_where_a_rule_asks_for_it() {
    // The file is large: who it is without its digest is answered, the rest is not.
    let soon = || {
        |message| match message {
            ToSensor::ResolveSoon { token, .. } => {
                let executable = Executable::File { path: Text::cut("/usr/bin/node"), image: Image::OnDisk, sha256: None };
                let found = IdentityAnswer::Identity(Box::new(Identity { executable, ..ada() }));
                vec![(ToProxy::Process { token, found }, Vec::new())]
            }
            _ => Vec::new(),
        }
    };
    let options = || WatchOptions { own_pid: None, identity_wait: Duration::from_secs(2), ..WatchOptions::default() };
    for (asks, waits) in [("process.executable.path: /x", false), ("process.executable.hash.sha256: abc", true)] {
        let rule = format!(
            "title: t\nid: 5d1c6a2e-0f4b-4f3a-9a8e-2f6f1c0b1302\nlogsource: {{ product: mcp, category: mcp_traffic }}\n\
             detection: {{ s: {{ {asks} }}, condition: s }}\n"
        );
        let stage = Stage::with(&[&rule], options(), soon()).await;
        *stage.owner.lock() = Some(Call::redirected(5).owner());
        let stream = accepted().await;
        let start = Instant::now();
        let owned = stage.watch.owner(&stream).await.unwrap();
        let executable = owned.seen.text(Field::Executable);
        let took = start.elapsed();
        if waits {
            assert!(executable.is_none() && took >= Duration::from_secs(2), "{took:?}");
        } else {
            assert!(executable == Some("/usr/bin/node") && took < Duration::from_secs(1), "{took:?}");
        }
        assert!(matches!(owned.seen.get(Field::ExecutableHash), Lookup::Unreadable));
        assert!(
            stage.watch.owner_with_digest(&stream).await.unwrap().seen.text(Field::Executable).is_none(),
            "the portal's policy may ask"
        );
        stage.end().await;
    }
}

#[tokio::test]
async fn a_program_that_is_gone_is_told_by_the_name_that_the_kernel_had_at_its_exec() {
    let stage = Stage::new(&[], knows(IdentityAnswer::Gone)).await;
    let call = Call::redirected(5);
    stage.record(&start(call.pid, call.uid, call.generation, "cu\x1brl"));
    stage.record(&start(call.pid, call.uid, call.generation + 1, "another"));
    *stage.owner.lock() = Some(call.owner());
    let owned = stage.watch.owner(&accepted().await).await.unwrap();
    assert_eq!(owned.seen.text(Field::ProcessIdentity), Some("gone"));
    assert_eq!(owned.seen.text(Field::ProcessName), Some("cu\u{fffd}rl"));
    assert!(matches!(owned.seen.get(Field::Executable), Lookup::Unreadable), "a name is no file");
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
