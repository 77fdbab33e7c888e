//! The sensors of a running gnomon, one after the other: the supervisor hands over links to them, or they listen on a
//! socket as a service of their own. The proxy goes on without any.

use crate::{apart::apart, homes::Homing, scoping};
use anyhow::{Context, Result, ensure};
use gnomon_config::{Config, Looking, ReadHomes, scopes::Fail};
use gnomon_inspect::Inspector;
use gnomon_intercept::{Proxy, RedirectedListeners};
use gnomon_kit::Backoff;
use gnomon_link::{AsyncChannel, Homes, ProxyEnd, Starts};
use gnomon_log::say;
use gnomon_record::{Owners, Recorder};
use gnomon_supervise::Handed;
use gnomon_watch::{Watch, WatchError, WatchOptions};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle};

/// The timeout of connecting to a sensor.
const CONNECTS: Duration = Duration::from_secs(1);
/// The first pause before the next attempt; each one after that is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The source of links to sensors.
pub enum Sensors {
    /// The supervisor.
    Handed(Handed),
    /// The socket at this path.
    Listening(PathBuf),
}

/// The watch over sensors.
pub struct Watching {
    watch: Arc<Watch>,
    joining: JoinHandle<()>,
    scoping: JoinHandle<()>,
    homing: Option<JoinHandle<()>>,
}

impl Watching {
    /// Makes the proxy ask the sensors whose its connections are.
    ///
    /// # Errors
    /// If the metrics cannot be registered, or no thread can be started.
    pub fn start(
        proxy: Proxy,
        sensors: Sensors,
        config: &Config,
        state_dir: &Path,
        inspector: Arc<Inspector>,
        recorder: Arc<Recorder>,
    ) -> Result<(Proxy, Self)> {
        let (redirecting, shadowed) = (scoping::redirecting(&config.sensor.scopes), scoping::shadowed(&config.sensor.scopes));
        // Portals ask whose their connections are as well, and the kernel half knows one port or all.
        let explicit_port = if config.portals.is_empty() { proxy.local_addr().port() } else { 0 };
        let starts = match config.sensor.starts {
            Looking::On => Starts::Reported,
            Looking::Off => Starts::Remembered,
        };
        let options = WatchOptions { redirecting, shadowed, explicit_port, starts, ..WatchOptions::default() };
        let watch = Watch::new(options, inspector.clone(), recorder.clone(), recorder.metrics().registry())?;
        let listeners = proxy.redirected();
        let joining = match sensors {
            Sensors::Handed(sensors) => {
                if let Some(scope) = config.sensor.scopes.iter().find(|scope| scope.fail == Fail::Closed) {
                    say(format_args!(
                        "the scope {} fails closed, which `gnomon run` cannot keep once one of its processes ends, as all do then: \
                         the two services can (gnomon.service, gnomon-sensor.service)",
                        scope.name
                    ));
                }
                let (link, links) = mpsc::channel(1);
                // It blocks in a system call until the supervisor has ended, or for the next link.
                let wait = move || while sensors.next().is_some_and(|next| link.blocking_send(next).is_ok()) {};
                thread::Builder::new().name("gnomon-sensors".to_owned()).spawn(wait).context("starting a thread")?;
                tokio::spawn(join(watch.clone(), listeners, links))
            }
            Sensors::Listening(socket) => tokio::spawn(join_again_and_again(watch.clone(), listeners, socket)),
        };
        let scoping = tokio::spawn(scoping::keep(watch.clone(), config.sensor.scopes.clone()));
        let homes = match config.sensor.homes {
            ReadHomes::Off => None,
            ReadHomes::On => Some(Homes::OfTheHost),
            ReadHomes::Always => Some(Homes::Always),
        };
        let every = Duration::from_secs(60 * u64::from(config.sensor.homes_minutes));
        let homing = homes.map(|homes| {
            let homing = Homing { watch: watch.clone(), inspector, recorder, state_dir: state_dir.to_owned(), homes, every };
            tokio::spawn(homing.run())
        });
        Ok((proxy.owners(watch.clone()).sockets(watch.clone()), Self { watch, joining, scoping, homing }))
    }

    /// The lookup of connections' owners.
    pub fn owners(&self) -> Arc<dyn Owners> {
        self.watch.clone()
    }

    /// Ends the watch: nothing more is redirected, and no other sensor is joined.
    pub fn let_go(&self) {
        self.watch.let_go();
        self.joining.abort();
        self.scoping.abort();
        if let Some(homing) = &self.homing {
            homing.abort();
        }
    }
}

async fn join(watch: Arc<Watch>, listeners: RedirectedListeners, mut links: mpsc::Receiver<ProxyEnd>) {
    // No sensor is joined yet; each that joins will be asked.
    let _ = watch.listen_here(&listeners).await;
    while let Some(link) = links.recv().await {
        join_one(&watch, link).await;
    }
}

/// Whether the connection to the sensor was useful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joined {
    Yes,
    No,
}

async fn join_one(watch: &Watch, link: ProxyEnd) -> Joined {
    let joined = match AsyncChannel::new(link) {
        Ok(link) => watch.join(link).await,
        Err(error) => Err(error.into()),
    };
    match joined {
        Ok(()) => {
            tracing::info!("joined a sensor");
            Joined::Yes
        }
        // A sensor that cannot work says why itself, and hangs up.
        Err(WatchError::Gone | WatchError::Link(gnomon_link::LinkError::Closed)) => Joined::No,
        Err(error) => {
            say(format_args!("the sensor is not of full use: {error}"));
            Joined::Yes
        }
    }
}

/// Connects to the sensor whenever it is there and the one before is gone.
async fn join_again_and_again(watch: Arc<Watch>, listeners: RedirectedListeners, socket: PathBuf) {
    let _ = watch.listen_here(&listeners).await;
    let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut told = false;
    loop {
        let path = socket.clone();
        // It blocks in a system call, for a second at most.
        let connected = apart(move || connect(&path)).await;
        match connected.context("connecting").and_then(|connected| connected) {
            Ok(link) => {
                told = false;
                if join_one(&watch, link).await == Joined::Yes {
                    pause.reset();
                }
                watch.ended().await;
            }
            Err(error) if !told => {
                told = true;
                say(format_args!("no sensor on {}: {error:#}; until there is one, only what comes to the proxy is seen", socket.display()));
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause.failed()).await;
    }
}

/// Connects to a sensor, if its socket is root's: events rely on its identities.
fn connect(socket: &Path) -> Result<ProxyEnd> {
    let link = ProxyEnd::connect(socket, CONNECTS)?;
    let peer = link.peer()?;
    ensure!(peer.uid == 0, "whoever listens there is user {} and not root", peer.uid);
    Ok(link)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use gnomon_link::{Access, Listener};
    use rustix::{process::geteuid, thread::set_thread_res_uid};
    use std::{fs, os::unix::fs::PermissionsExt as _};

    /// What it says of processes stands in events, and decides whom a policy by program lets in.
    #[test]
    fn a_sensor_is_believed_only_where_root_listens() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let (others, roots) = (folder.path().join("others.sock"), folder.path().join("roots.sock"));
        let is_root = geteuid().is_root();
        // The kernel remembers who began to listen; a user of one thread is enough for that.
        let path = others.clone();
        let listens = thread::spawn(move || {
            if is_root {
                let nobody = rustix::process::Uid::from_raw(65_534);
                set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            Listener::bind(&path, Access::Everybody).unwrap()
        });
        let _others = listens.join().unwrap();
        let refused = connect(&others).err().unwrap().to_string();
        assert!(refused.starts_with("whoever listens there is user ") && refused.ends_with(" and not root"), "{refused}");
        let _roots = Listener::bind(&roots, Access::Everybody).unwrap();
        assert_eq!(connect(&roots).is_ok(), is_root);
    }
}
