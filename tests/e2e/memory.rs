//! A limit on the memory of gnomon's service is not reached, whatever clients leave unread.

use crate::{
    bounds::{Poor, everywhere},
    support::neighbours::{Neighbours, from},
};
use gnomon_testkit::skip;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};
use tokio::io::AsyncWriteExt as _;

/// Less than the unread answers below take.
const LIMIT: u64 = 128 << 20;

/// A control group with a limit of memory; removed when dropped.
struct Limited(PathBuf);

impl Limited {
    /// None where control groups cannot be made, or have no memory controller.
    fn new() -> Option<Self> {
        let name = format!("gnomon-memory-{}", std::process::id());
        for (mount, file) in [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")] {
            let group = Self(Path::new(mount).join(&name));
            if fs::create_dir(&group.0).is_ok() && fs::write(group.0.join(file), LIMIT.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }

    /// How often the kernel ended a process of it.
    fn killed(&self) -> u64 {
        let said = ["memory.events", "memory.oom_control"].map(|file| fs::read_to_string(self.0.join(file)).unwrap_or_default());
        said.iter().flat_map(|said| said.lines()).find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_answers_of_many_clients_do_not_reach_the_limit_of_the_service_s_memory() {
    let Some(group) = Limited::new() else {
        return skip("cgroup", "no control group with a limit of memory can be made here");
    };
    let (port, acted) = everywhere().await;
    let gnomon = &mut Poor::limited_by(&format!("echo $$ > {}/cgroup.procs", group.0.display()));
    let neighbours = Neighbours { proxy: gnomon.proxy, server: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) };
    let proxy = gnomon.proxy;
    let fault = async {
        let mut unread = Vec::new();
        for number in 0..1200_u32 {
            // Several users: of one the shares are bounded.
            let Ok(mut client) = from(u8::try_from(100 + number % 6).unwrap(), proxy).await else { continue };
            let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let asked = client.write_all(format!("GET http://{server}/flood HTTP/1.1\r\nhost: {server}\r\n\r\n").as_bytes()).await;
            if asked.is_ok() {
                unread.push(client);
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(unread);
    };
    let endured = neighbours.endure(Duration::from_millis(500), Duration::from_secs(4), fault).await;
    assert_eq!(group.killed(), 0);
    assert!(gnomon.child.try_wait().unwrap().is_none(), "it runs");
    assert_eq!(acted.load(Ordering::SeqCst), endured.calls, "each call of a neighbour ran once");
}
