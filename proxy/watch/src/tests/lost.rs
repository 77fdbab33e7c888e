//! Connections to the proxy itself whose owner the kernel half does not know any more, and programs that give up.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as Listener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gnomon_intercept::{Namespace, Proxy, ProxyOptions};
use gnomon_link::{ToProxy, ToSensor};
use gnomon_tls::CertificateAuthority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::raw::Call;
use super::stage::{SOON, Stage, known};

/// What the proxy answers to a request that is none, or how the connection ended.
async fn answer(proxy: SocketAddr) -> std::io::Result<String> {
    let mut client = TcpStream::connect(proxy).await?;
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    tokio::time::timeout(SOON, client.read_to_string(&mut answer)).await.unwrap()?;
    Ok(answer)
}

async fn bound(stage: &Stage, folder: &std::path::Path) -> Proxy {
    let options = ProxyOptions { listen: "127.0.0.1:0".parse().unwrap(), ..ProxyOptions::default() };
    let (ca, _) = CertificateAuthority::load_or_create(folder).unwrap();
    let proxy = Proxy::bind(options, stage.watch.inspector(), stage.recorder.clone(), Arc::new(ca)).await.unwrap();
    proxy.owners(stage.watch.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_this_host_whose_owner_may_have_been_lost_is_refused_reported_and_counted_and_served_where_there_is_no_sensor() {
    let stage = Stage::new(&[], known()).await;
    let folder = tempfile::tempdir().unwrap();
    let proxy = bound(&stage, folder.path()).await;
    let address = proxy.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(proxy.run(async move { _ = stopped.await }));
    assert!(answer(address).await.unwrap().starts_with("HTTP/1.1 400"), "nobody saw it begin");
    // As in a flood of another user's.
    for cookie in 0..20_000 {
        stage.record(&Call::redirected(cookie).bytes());
    }
    for _ in 0..3 {
        assert!(!answer(address).await.is_ok_and(|answer| !answer.is_empty()));
    }
    assert_eq!(stage.metric(r#"gnomon_flows_total{outcome="unowned"}"#), Some(3));
    assert_eq!(stage.metric(r#"gnomon_identities_total{outcome="late"}"#), Some(3));
    let events = stage.events().await;
    let told: Vec<_> = events.iter().filter(|event| event["gnomon.process.identity"] == "late").collect();
    assert_eq!(told.len(), 1, "{events:#?}");
    assert_eq!(told[0]["gnomon.action"], "block");
    // One whose owner is there is served meanwhile.
    *stage.owner.lock() = Some(Call::new(50_000).owner());
    assert!(answer(address).await.unwrap().starts_with("HTTP/1.1 400"));
    drop(stop);
    running.await.unwrap();
    stage.end().await;
}

/// An address where connections are silently dropped, as long as what else is returned is there: its queue is full.
fn silent_address() -> (SocketAddr, Listener, Vec<std::net::TcpStream>) {
    let listener = Listener::bind((Ipv4Addr::new(127, 0, 0, 9), 0)).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
    }
    (address, listener, queued)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_gives_up_on_a_silent_address_finds_it_refused_the_next_time() {
    let script = |message| match message {
        ToSensor::Failed { token, .. } => vec![(ToProxy::Done { token }, Vec::new())],
        message => known()(message),
    };
    let stage = Stage::new(&[], script).await;
    let folder = tempfile::tempdir().unwrap();
    let proxy = bound(&stage, folder.path()).await;
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let redirected = listener.local_addr().unwrap();
    proxy.redirected().add(listener, Namespace::Own).unwrap();
    let (address, _listener, _queued) = silent_address();
    let mut owner = Call::redirected(5).owner();
    owner.original = address;
    *stage.owner.lock() = Some(owner);
    let failed = |within: Duration| {
        let start = Instant::now();
        while start.elapsed() < within {
            if let Ok(ToSensor::Failed { address, seconds, uid, .. }) = stage.sensor.asked.recv_timeout(Duration::from_millis(50)) {
                return Some((address, seconds, uid));
            }
        }
        None
    };
    // One that leaves at once may have had other reasons.
    drop(TcpStream::connect(redirected).await.unwrap());
    assert_eq!(failed(Duration::from_millis(700)), None);
    let client = TcpStream::connect(redirected).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(failed(Duration::ZERO), None);
    drop(client);
    assert_eq!(failed(Duration::from_secs(2)), Some((address, 30, 1000)));
    drop(proxy);
    stage.end().await;
}
