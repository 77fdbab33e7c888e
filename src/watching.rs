//! The sensors of a running gnomon, one after the other, as the supervisor hands over links to them. The proxy goes on
//! without any.

use crate::supervise::Sensors;
use anyhow::{Context, Result};
use gnomon_inspect::Inspector;
use gnomon_intercept::{Proxy, Recorder, RedirectedListeners};
use gnomon_link::{AsyncChannel, ProxyEnd};
use gnomon_watch::{Watch, WatchError, WatchOptions};
use std::{
    io::{self, Write as _},
    sync::Arc,
    thread,
};
use tokio::{sync::mpsc, task::JoinHandle};

/// What watches the sensors.
pub struct Watching {
    watch: Arc<Watch>,
    joining: JoinHandle<()>,
}

impl Watching {
    /// Makes the proxy ask the sensors whose its connections are.
    ///
    /// # Errors
    /// What it needs cannot be had.
    pub fn start(proxy: Proxy, sensors: Sensors, inspector: Arc<Inspector>, recorder: Arc<Recorder>) -> Result<(Proxy, Self)> {
        let watch = Watch::new(WatchOptions::default(), inspector, recorder.clone(), recorder.metrics().registry())?;
        let listeners = proxy.redirected();
        let (link, links) = mpsc::channel(1);
        // It waits in a system call until the supervisor has ended, or for the next link.
        let wait = move || while sensors.next().is_some_and(|next| link.blocking_send(next).is_ok()) {};
        thread::Builder::new().name("gnomon-sensors".to_owned()).spawn(wait).context("starting a thread")?;
        let joining = tokio::spawn(join(watch.clone(), listeners, links));
        Ok((proxy.owners(watch.clone()).sockets(watch.clone()), Self { watch, joining }))
    }

    /// For the way out: nothing more is redirected, and no other sensor is joined.
    pub fn let_go(&self) {
        self.watch.let_go();
        self.joining.abort();
    }
}

async fn join(watch: Arc<Watch>, listeners: RedirectedListeners, mut links: mpsc::Receiver<ProxyEnd>) {
    // There is none to ask yet; each one that is joined will be.
    let _ = watch.listen_here(&listeners).await;
    while let Some(link) = links.recv().await {
        let joined = match AsyncChannel::new(link) {
            Ok(link) => watch.join(link).await,
            Err(error) => Err(error.into()),
        };
        match joined {
            Ok(()) => tracing::info!("joined a sensor"),
            // A sensor that cannot work says why itself, and hangs up.
            Err(WatchError::Gone | WatchError::Link(gnomon_link::Error::Closed)) => {}
            Err(error) => say(format_args!("the sensor is not of full use: {error}")),
        }
    }
}

fn say(what: std::fmt::Arguments<'_>) {
    // Standard error may be gone; the metrics tell as well.
    let _ = writeln!(io::stderr(), "gnomon: {what}");
}
