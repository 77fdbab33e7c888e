//! The foundations, opened before anything serves: rules, metrics, ledger, and the inline proxy.

use crate::{
    auditing::Stored,
    bundle,
    checking::{Checked, Serves, check_to_start},
    descriptors::{Descriptors, Listens, UpstreamMetrics},
    last_rules,
    logging::LogMetrics,
};
use anyhow::{Context as _, Result};
use gnomon_cli::{Complaint, judging, options::ledger_in, rule_files::RuleText};
use gnomon_config::{Config, Jsonl, Switch};
use gnomon_engine::RuleSet;
use gnomon_http::server;
use gnomon_inspect::Inspector;
use gnomon_intercept::{Proxy, ProxyOptions, ProxyUser, Secret};
use gnomon_ledger::{JsonlTarget, Ledger, LedgerError, LedgerOptions, ReadError, Reader, Today, Writer};
use gnomon_record::{Metrics, Recorder, Reload};
use gnomon_tls::{CertificateAuthority, Provenance};
use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{net::TcpListener, task::spawn_blocking, time::timeout, try_join};

/// Bytes of a GiB.
const GIB: u64 = 1 << 30;
/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// The parts that are open and ready, but do not serve yet.
pub struct Core {
    pub read: RuleText,
    pub metrics: Option<TcpListener>,
    pub recorder: Arc<Recorder>,
    pub inspector: Arc<Inspector>,
    pub writer: Writer,
    /// The store of the portals' audit.
    pub store: Option<Stored>,
    pub descriptors: Descriptors,
}

/// The open files and databases.
struct Opened {
    ledger: Ledger,
    writer: Writer,
    store: Option<Stored>,
}

impl Opened {
    /// The audit after the ledger: only who holds the ledger's lock may write to either.
    async fn open(config: &Config, state_dir: &Path) -> Result<Self> {
        let (ledger, writer) = open_ledger(&ledger_options(config, state_dir)).await?;
        let store = Stored::open(config, state_dir).await?;
        Ok(Self { ledger, writer, store })
    }
}

impl Core {
    /// Opens it.
    ///
    /// # Errors
    /// Rules are bad, an address is taken, or the ledger cannot be written.
    pub async fn open(config: &Config, state_dir: &Path, serves: Serves) -> Result<Self> {
        let listens = if serves == Serves::Portals { Listens::PortalsAlone } else { Listens::All };
        let descriptors = Descriptors::share_out(config, listens);
        let (named, dir) = (config.clone(), state_dir.to_owned());
        let checking = spawn_blocking(move || check_to_start(&named, serves, &dir));
        // Both take milliseconds, and neither needs the other.
        let checked = async { checking.await.context("checking the configuration")? };
        let ((Checked { read, rules, doubts }, bad), Opened { ledger, writer, store }) =
            try_join!(checked, Opened::open(config, state_dir))?;
        doubts.iter().for_each(|doubt| gnomon_log::say(format_args!("{doubt}")));
        let rules = Arc::new(rules);
        let inspector = Arc::new(judging::inspector(config, rules.clone())?.enforcing(config.rules.mode));
        let metrics = match config.metrics.listen {
            Switch::Off => None,
            Switch::On(address) => match listen(address) {
                Ok(listener) => Some(listener),
                // Another gnomon on this host may have it.
                Err(error) if serves == Serves::Portals => {
                    tracing::warn!("there are no metrics of this one: {error}");
                    None
                }
                Err(error) => return Err(error.into()),
            },
        };
        let recorder = Arc::new(Recorder::new(ledger, Metrics::new(&rules, env!("CARGO_PKG_VERSION"))?));
        match bad {
            None => last_rules::keep(state_dir, &read),
            Some(told) => {
                recorder.metrics().rules_reloaded(Reload::Failure);
                gnomon_log::say(format_args!("{told}"));
            }
        }
        catch_up(&recorder, &rules, &ledger_in(state_dir)).await;
        UpstreamMetrics::register(descriptors.upstreams.clone(), recorder.metrics().registry())?;
        LogMetrics::register(recorder.metrics().registry())?;
        Ok(Self { read, metrics, recorder, inspector, writer, store, descriptors })
    }

    /// The inline proxy on it, and the text that a person needs to use it.
    ///
    /// # Errors
    /// Its address is taken, or its authority cannot be had.
    pub async fn proxy(&self, config: &Config, state_dir: &Path) -> Result<(Proxy, String)> {
        let users =
            config.proxy.users.iter().map(|user| Ok(ProxyUser { name: user.name.clone(), password: Secret::new(user.password.fetch()?) }));
        let users = users.collect::<Result<Vec<_>, Complaint>>()?;
        let (ca, provenance) = CertificateAuthority::load_or_create(state_dir)?;
        let fingerprint = ca.fingerprint_sha256();
        self.recorder.metrics().ca_not_after(ca.certificate().not_after().unix_timestamp());
        let options = ProxyOptions {
            listen: config.proxy.listen,
            bypass: config.bypass_hosts(),
            users,
            upstream_ca: config.proxy.upstream_ca.clone(),
            resolve: config.proxy.resolve.iter().map(|resolve| resolve.value.clone()).collect(),
            own_listeners: self.scraped_at().into_iter().collect(),
            max_connections: config.proxy.max_connections.min(self.descriptors.clients),
            max_connections_per_user: config.max_connections_per_user(self.descriptors.clients),
            upstreams: self.descriptors.upstreams.clone(),
            lookups: self.descriptors.lookups,
            held_bytes: gnomon_intercept::held_bytes_here(),
            ..ProxyOptions::default()
        };
        let proxy = Proxy::bind(options, self.inspector.clone(), self.recorder.clone(), Arc::new(ca)).await?;
        let rules = self.inspector.rules().rules().len();
        let authority = state_dir.join("ca.pem");
        let bundle = bundle::beside(&authority);
        let announcement =
            announce(proxy.local_addr(), self.scraped_at(), (&authority, bundle.as_deref()), (&fingerprint, provenance), rules);
        Ok((proxy, announcement))
    }

    /// The address of the metrics.
    pub fn scraped_at(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

/// How long a start waits for another gnomon that still writes to the ledger: one that is ending takes a moment.
const WRITES_STILL: Duration = Duration::from_secs(5);
/// The interval between attempts to take the ledger over.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a start waits for the detections of today to be read.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(5);

/// Adds the detections before this start to the incidents of today, so that alerts do not take them for new.
async fn catch_up(recorder: &Recorder, rules: &RuleSet, ledger: &Path) {
    let read = async {
        let mut today = Today::default();
        Reader::open(ledger).await?.catch_up(&mut today, SystemTime::now()).await?;
        Ok::<_, ReadError>(today)
    };
    match timeout(CATCHES_UP_WITHIN, read).await {
        Ok(Ok(today)) => recorder.metrics().caught_up(today, rules),
        Ok(Err(error)) => tracing::warn!("incidents of today may be alerted a second time: {error}"),
        Err(_) => {
            tracing::warn!("incidents of today may be alerted a second time: reading them took over {} s", CATCHES_UP_WITHIN.as_secs())
        }
    }
}

async fn open_ledger(options: &LedgerOptions) -> Result<(Ledger, Writer), LedgerError> {
    let began = Instant::now();
    let mut told = false;
    loop {
        match Ledger::open(options.clone()).await {
            Err(busy @ LedgerError::Busy { .. }) if began.elapsed() < WRITES_STILL => {
                if !told {
                    gnomon_log::say(format_args!("{busy}; waiting up to {} s for it to end", WRITES_STILL.as_secs()));
                    told = true;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            opened => return opened,
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, Complaint> {
    server::listen(address).map_err(|error| {
        let complaint = Complaint::own(format!("cannot listen on {address} for metrics: {error}"));
        let step = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another program (perhaps another gnomon) has it: stop it, or choose another with --metrics, or --metrics off"
            }
            _ => "choose another address with --metrics, or --metrics off",
        };
        complaint.next(step)
    })
}

fn ledger_options(config: &Config, state_dir: &Path) -> LedgerOptions {
    let mut options = LedgerOptions::new(ledger_in(state_dir));
    options.jsonl = match &config.events.jsonl {
        Jsonl::Off => JsonlTarget::None,
        Jsonl::Stdout => JsonlTarget::Stdout,
        Jsonl::File(path) => JsonlTarget::File(path.clone()),
    };
    options.retention = Duration::from_secs(config.events.retention.days * DAY);
    options.max_bytes = config.events.retention.max_gib * GIB;
    options
}

/// The announcement for a person: how to use it, and what it does not do.
fn announce(
    proxy: SocketAddr,
    metrics: Option<SocketAddr>,
    (ca, bundle): (&Path, Option<&Path>),
    key: (&str, Provenance),
    rules: usize,
) -> String {
    let (fingerprint, provenance) = key;
    let made = match provenance {
        Provenance::Created => "made just now; no client trusts it yet",
        Provenance::Loaded => "as before",
    };
    let (replacing, roots) = match bundle {
        Some(bundle) => (
            format!("SSL_CERT_FILE={} ", bundle.display()),
            "SSL_CERT_FILE replaces the roots a program knows; `sudo gnomon ca install` adds ours to the system instead",
        ),
        None => (
            String::new(),
            "no SSL_CERT_FILE: it replaces the roots a program knows, and the system's cannot be read; `sudo gnomon ca install` adds ours",
        ),
    };
    let ca = ca.display();
    let scrape = metrics.map_or_else(|| "off".to_owned(), |address| format!("http://{address}/metrics"));
    format!(
        "gnomon {version}: inline proxy on {proxy}, {rules} rules\n\
         \x20 CA        {ca} ({made}), SHA-256 {fingerprint}\n\
         \x20 metrics   {scrape}\n\
         \x20 client    HTTPS_PROXY=http://{proxy} HTTP_PROXY=http://{proxy} NODE_EXTRA_CA_CERTS={ca} {replacing}COMMAND\n\
         \x20           ({roots})\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_clients_replaces_their_roots_only_by_a_file_that_has_the_system_s_as_well() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8443));
        let ca = Path::new("/state/ca.pem");
        let said = |bundle| announce(address, None, (ca, bundle), ("00:11", Provenance::Loaded), 3);
        let with = said(Some(Path::new("/state/bundle.pem")));
        assert!(with.contains(" NODE_EXTRA_CA_CERTS=/state/ca.pem SSL_CERT_FILE=/state/bundle.pem COMMAND\n"), "{with}");
        let without = said(None);
        assert!(without.contains(" NODE_EXTRA_CA_CERTS=/state/ca.pem COMMAND\n"), "{without}");
        assert!(!without.contains("SSL_CERT_FILE="), "{without}");
    }
}
