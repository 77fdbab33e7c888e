//! Looking up names: as the system does it (`getaddrinfo`), bounded, once for all who ask for a name at the same time.
//!
//! Each lookup holds a thread until the system's resolver gives up, which it cannot be asked to. So a principal can have
//! only a share of them in progress, and a name server that does not answer delays no other principal's lookups. An answer is remembered
//! for some seconds, and used for longer where a newer one cannot be had in time.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gnomon_shares::{Bounds, Share, Shares};
use quick_cache::sync::Cache;
use smol_str::SmolStr;
use tokio::sync::watch;
use tokio::time::timeout;

/// How many addresses of one name are tried.
pub(crate) const MAX_ADDRESSES: usize = 16;
/// How many times the free lookups one principal may have under way: alone, two thirds of all.
const TIMES_FREE: usize = 2;
/// How many names' addresses are remembered.
const REMEMBERED: usize = 1024;
/// How long an answer counts as fresh. The resolver does not return a TTL.
const FRESH: Duration = Duration::from_secs(5);
/// How long a stale answer is preferred to none.
const STALE: Duration = Duration::from_secs(600);
/// How long a name that timed out is not waited for again, so that of consecutive requests only the first waits.
const SILENT: Duration = Duration::from_secs(5);
/// How long a refresh is waited for while there is a stale answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The system's answer: addresses, or the error.
type Answer = Result<Arc<[IpAddr]>, Arc<str>>;

/// Asks for a name's addresses, and blocks until there is an answer.
type Resolver = fn(&str) -> io::Result<Vec<IpAddr>>;

fn system(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).take(MAX_ADDRESSES).collect())
}

/// Lookups of names, shared by all clones of a dialer.
#[derive(Debug)]
pub(crate) struct Lookups {
    shares: Arc<Shares>,
    resolver: Resolver,
    known: Cache<SmolStr, (Arc<[IpAddr]>, Instant)>,
    /// Names that timed out, by principal, and when. Lookups that only wait for their share mark no names as silent for others.
    silent: Cache<(Arc<str>, SmolStr), Instant>,
    under_way: Mutex<HashMap<SmolStr, watch::Receiver<Option<Answer>>>>,
}

impl Lookups {
    /// Lookups of which at most so many are made at a time.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Self::asking(most, system)
    }

    fn asking(most: usize, resolver: Resolver) -> Arc<Self> {
        Arc::new(Self {
            resolver,
            shares: Shares::new(Bounds { all: most, each: most, times_free: TIMES_FREE }),
            known: Cache::new(REMEMBERED),
            silent: Cache::new(REMEMBERED),
            under_way: Mutex::default(),
        })
    }

    /// The addresses of a name, in the system's order. Waits while the principal has its share of lookups in progress.
    pub(crate) async fn addresses(self: &Arc<Self>, principal: &Arc<str>, name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let name = SmolStr::new(name.to_ascii_lowercase());
        let old = self.known.get(&name).filter(|(_, since)| since.elapsed() < STALE);
        let found = match old {
            Some((addresses, since)) if since.elapsed() < FRESH => Ok(addresses),
            Some((addresses, _)) => timeout(PATIENCE, self.ask(principal, &name)).await.unwrap_or(Ok(addresses)),
            None => self.ask(principal, &name).await,
        };
        match found {
            Ok(addresses) => Ok(addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
            Err(cause) => Err(cause.to_string()),
        }
    }

    /// The addresses within this time, which is waited for once in a few seconds where there is no answer.
    pub(crate) async fn addresses_within(
        self: &Arc<Self>,
        patience: Duration,
        principal: &Arc<str>,
        (name, port): (&str, u16),
    ) -> Result<Vec<SocketAddr>, String> {
        let asked = (principal.clone(), SmolStr::new(name.to_ascii_lowercase()));
        let is_known = self.known.get(&asked.1).is_some_and(|(_, since)| since.elapsed() < FRESH);
        if !is_known && self.silent.get(&asked).is_some_and(|since| since.elapsed() < SILENT) {
            return Err("it was not found a moment ago".to_owned());
        }
        let found = timeout(patience, self.addresses(principal, name, port)).await;
        let found = found.unwrap_or_else(|_| Err(format!("it was not found within {patience:?}")));
        if found.is_err() {
            self.silent.insert(asked, Instant::now());
        }
        found
    }

    async fn ask(self: &Arc<Self>, principal: &Arc<str>, name: &SmolStr) -> Answer {
        let mut answer = loop {
            let mut freed = std::pin::pin!(self.shares.freed());
            freed.as_mut().enable();
            {
                let mut under_way = self.under_way();
                if let Some(answer) = under_way.get(name) {
                    break answer.clone();
                }
                if let Ok(share) = self.shares.take(principal) {
                    let (tell, answer) = watch::channel(None);
                    under_way.insert(name.clone(), answer.clone());
                    drop(under_way);
                    self.start(name.clone(), share, tell);
                    break answer;
                }
            }
            freed.await;
        };
        let said = answer.wait_for(Option::is_some).await.map(|said| said.clone());
        said.ok().flatten().unwrap_or_else(|| Err("the lookup was broken off".into()))
    }

    /// The share moves into the thread: a lookup that outlives its caller still counts.
    fn start(self: &Arc<Self>, name: SmolStr, share: Share, tell: watch::Sender<Option<Answer>>) {
        let lookups = self.clone();
        drop(tokio::task::spawn_blocking(move || {
            let answer: Answer = match (lookups.resolver)(&name) {
                Ok(addresses) if addresses.is_empty() => Err("it has no address".into()),
                Ok(addresses) => Ok(addresses.into()),
                Err(error) => Err(error.to_string().into()),
            };
            match &answer {
                Ok(addresses) => lookups.known.insert(name.clone(), (addresses.clone(), Instant::now())),
                Err(_) => _ = lookups.known.remove(&name),
            }
            lookups.under_way().remove(&name);
            drop(share);
            let _ = tell.send(Some(answer));
        }));
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<SmolStr, watch::Receiver<Option<Answer>>>> {
        self.under_way.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Long enough for a busy machine; lookups that hang do so for longer than the tests take.
    const SOON: Duration = Duration::from_secs(5);

    fn some_hang(name: &str) -> io::Result<Vec<IpAddr>> {
        if name.starts_with("hangs") {
            std::thread::sleep(Duration::from_secs(8));
        }
        Ok(vec![IpAddr::from([192, 0, 2, 1])])
    }

    // The runtime would wait for threads that hang.
    fn running(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test);
        runtime.shutdown_background();
    }

    #[test]
    fn names_that_one_principal_leaves_hanging_stop_no_other_principal() {
        running(async {
            let lookups = Lookups::asking(24, some_hang);
            let (greedy, other): (Arc<str>, Arc<str>) = ("greedy".into(), "other".into());
            for number in 0..64 {
                let (lookups, greedy) = (lookups.clone(), greedy.clone());
                tokio::spawn(async move { lookups.addresses(&greedy, &format!("hangs{number}.example"), 80).await });
            }
            while lookups.shares.held_by("greedy") < 16 {
                tokio::task::yield_now().await;
            }
            for number in 0..20 {
                let found = timeout(SOON, lookups.addresses(&other, &format!("n{number}.example"), 443)).await;
                assert_eq!(found, Ok(Ok(vec![SocketAddr::from(([192, 0, 2, 1], 443))])), "{number}");
            }
            assert_eq!(lookups.shares.held_by("greedy"), 16, "two thirds, and the rest waits");
        });
    }

    #[test]
    fn a_name_that_is_not_found_in_time_is_waited_for_once_in_a_while_and_by_each_principal() {
        const HOUR: Duration = Duration::from_secs(3600);
        running(async {
            let (lookups, one, other): (_, Arc<str>, Arc<str>) = (Lookups::asking(24, some_hang), "one".into(), "other".into());
            let name = ("hangs.example", 80);
            assert!(lookups.addresses_within(Duration::from_millis(50), &one, name).await.is_err());
            assert!(timeout(SOON, lookups.addresses_within(HOUR, &one, name)).await.is_ok_and(|found| found.is_err()), "at once");
            let waits = timeout(Duration::from_millis(200), lookups.addresses_within(HOUR, &other, name)).await;
            assert!(waits.is_err(), "it is another's to find out");
            assert!(lookups.addresses_within(HOUR, &one, ("answers.example", 80)).await.is_ok());
        });
    }

    #[test]
    fn a_name_that_many_ask_for_is_looked_up_once_and_remembered_for_a_while() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        fn counts(_: &str) -> io::Result<Vec<IpAddr>> {
            ASKED.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(50));
            Ok(vec![IpAddr::from([192, 0, 2, 1])])
        }
        running(async {
            let (lookups, mut tasks) = (Lookups::asking(8, counts), tokio::task::JoinSet::new());
            for number in 0..32 {
                let lookups = lookups.clone();
                let name = if number % 2 == 0 { "Tools.Example" } else { "tools.example" };
                tasks.spawn(async move { lookups.addresses(&"anybody".into(), name, 80).await.is_ok() });
            }
            assert!(tasks.join_all().await.into_iter().all(|found| found));
            assert!(lookups.addresses(&"anybody".into(), "tools.example", 80).await.is_ok());
            assert_eq!(ASKED.load(Ordering::SeqCst), 1);
            assert_eq!((lookups.shares.all_held(), lookups.under_way().len()), (0, 0));
        });
    }
}
