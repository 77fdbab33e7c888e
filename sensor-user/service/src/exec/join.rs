//! Serves one client: who it is, what it asks for, and how it is moved into a scope.

use parking_lot::Mutex;
use std::path::Path;
use std::time::{Duration, Instant};

use gnomon_host::cgroup::{CgroupError, Scope, is_inside};
use gnomon_host::identity::BootTime;
use gnomon_link::{
    Bundle, DecodeError, Denial, FeatureState, GnomonEnd, LinkError, Long, PeerCredentials, Redirect, Text, ToExec, ToGnomon, VERSION,
};

use super::adopt::{self, Adopted, Kept};
use super::client::Client;
use super::reaper::{Live, Reaper};
use super::slots::{ScopeSlot, ScopeSlots};
use super::{Around, bundle};
use crate::namespaces::{Lease, LeaseError, ListenError, Namespace};
use crate::scopes::Asked;
use crate::{ExecOptions, PATIENCE};

/// The timeout of a client's request, and of the proxy's acceptance of new listeners.
const WAIT: Duration = Duration::from_secs(5);
/// The interval at which the proxy's heartbeat is checked: it cannot be waited for.
const LOOK: Duration = Duration::from_millis(5);

/// Serves clients.
pub(super) struct Desk<'a> {
    options: ExecOptions,
    around: Around<'a>,
    reaper: Reaper<'a>,
    /// Held while the bundle is written, so that one thread does so at a time.
    writing: Mutex<()>,
}

/// Why a client is not let in, and what to do about it.
pub(super) struct JoinDenied {
    why: Denial,
    detail: String,
    next: String,
}

impl JoinDenied {
    fn new(why: Denial, detail: impl ToString, next: &str) -> Self {
        Self { why, detail: detail.to_string(), next: next.to_owned() }
    }

    /// The client cannot be identified.
    pub(super) fn unknown(reason: &impl ToString) -> Self {
        Self::new(Denial::UnknownPeer, reason.to_string(), "run gnomon exec on the host, in a process namespace that gnomon can see")
    }

    /// No slot is free.
    pub(super) fn full() -> Self {
        let next = "wait until a program of an earlier gnomon exec has ended";
        Self::new(Denial::Full, "as many programs of this user run under gnomon exec as may", next)
    }

    fn failed(detail: impl ToString) -> Self {
        Self::new(Denial::Failed, detail, "gnomon doctor looks at what the host lacks")
    }
}

impl From<CgroupError> for JoinDenied {
    fn from(error: CgroupError) -> Self {
        Self::failed(error)
    }
}

impl From<ListenError> for JoinDenied {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::Gone => Self::unknown(&error),
            error => Self::failed(error),
        }
    }
}

impl From<LeaseError> for JoinDenied {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Listen(error) => error.into(),
            LeaseError::Link(_) => Self::failed(error),
        }
    }
}

impl<'a> Desk<'a> {
    pub(super) fn new(options: ExecOptions, around: Around<'a>, reaper: Reaper<'a>) -> Self {
        Self { options, around, reaper, writing: Mutex::new(()) }
    }

    /// Sends a refusal.
    pub(super) fn refuse(&self, channel: &GnomonEnd, refusal: &JoinDenied) {
        let JoinDenied { why, detail, next } = refusal;
        let denied = ToExec::Denied { version: VERSION, why: *why, detail: Text::cut(detail), next: Text::cut(next) };
        // The client may be gone; it needs no answer then.
        let _ = channel.send(&denied, &[], Duration::ZERO);
    }

    /// Serves one client from its first message to its answer.
    pub(super) fn serve(&self, channel: &GnomonEnd, peer: PeerCredentials, accepted: BootTime, place: ScopeSlot) {
        let wanted = match channel.recv(WAIT) {
            Ok(received) => received.message,
            Err(LinkError::Decode(DecodeError::Version { .. })) => {
                let next = "use the gnomon that is running, or restart it after an update";
                return self.refuse(channel, &JoinDenied::new(Denial::Version, "this gnomon exec is of another version", next));
            }
            Err(error) => return tracing::debug!("gnomon exec: {error}"),
        };
        let ToGnomon::Join { argv0, redirect, .. } = wanted;
        let joined = Client::new(peer, accepted).ok_or_else(|| JoinDenied::unknown(&"the process that asked is gone")).and_then(|client| {
            self.join(&client, redirect, place).inspect(|_| tracing::info!(client.uid, argv0 = printable(&argv0), "joined"))
        });
        match joined {
            Ok(answer) => {
                // If the client is gone, its empty scope is removed later.
                let _ = channel.send(&answer, &[], PATIENCE);
            }
            Err(refusal) => self.refuse(channel, &refusal),
        }
    }

    fn join(&self, client: &Client, redirect: Redirect, place: ScopeSlot) -> Result<ToExec, JoinDenied> {
        let Around { kernel, hierarchy, below, .. } = self.around;
        let current = hierarchy.of(client.pid)?;
        if redirect == Redirect::On && !is_inside(current.path(), below) {
            let detail = format!("this is called in the cgroup {}, and the sensor looks at {below} only", current.path());
            return Err(JoinDenied::new(Denial::NoSensor, detail, "call it in there, or run gnomon without --sensor FOLDER"));
        }
        let namespace = Namespace::of(client.pid)?;
        // What was read is the client's if it is still alive: its pid was not reused.
        if !client.is_alive() {
            return Err(JoinDenied::unknown(&"the process that asked is gone"));
        }
        let (asked, bundle, lease) = match redirect {
            Redirect::Off => (Asked::Nothing, Bundle::None, None),
            Redirect::On => (Asked::Redirect, self.bundle()?, Some(self.listen_for(&namespace)?)),
        };
        let mut scope = current.scope()?;
        // For the next sensor. Without the note the program runs all the same, and the next sensor reports the scope as lost.
        if let Err(error) = scope.keep(&Kept::new(client.uid, asked, &self.options.socket)) {
            tracing::warn!("a scope of gnomon exec will not be taken over after a restart: {error}");
        }
        kernel.take_in(asked, adopt::of(hierarchy, scope.cgroup())).map_err(JoinDenied::failed)?;
        match self.move_into(client, scope, place, lease) {
            Ok(path) => Ok(ToExec::Joined { cgroup: Long::cut(&path), bundle }),
            Err((refusal, id)) => {
                // The scope is gone; its entry would only take room in the table.
                let _ = kernel.let_out(id);
                Err(refusal)
            }
        }
    }

    /// Moves the client, and hands the scope to the reaper. Returns the path of its cgroup; otherwise the reason and the cgroup's id.
    fn move_into(&self, client: &Client, scope: Scope, place: ScopeSlot, lease: Option<Lease<'a>>) -> Result<String, (JoinDenied, u64)> {
        let id = scope.id().0;
        scope.join(client.pid).map_err(|error| (error.into(), id))?;
        // It was moved by its pid. If it is alive, the pid was its own all the time; if not, a process that reused the pid is in a cgroup
        // that means nothing once the scope is forgotten.
        if !client.is_alive() {
            return Err((JoinDenied::unknown(&"the process that asked is gone"), id));
        }
        let path = scope.cgroup().path().to_owned();
        place.joined();
        let live = Live::new(scope, place, lease.into_iter().collect()).map_err(|error| (JoinDenied::failed(error), id))?;
        self.reaper.watch(live);
        Ok(path)
    }

    /// Makes sure that the proxy accepts in the client's network namespace as long as the lease lives.
    fn listen_for(&self, namespace: &Namespace) -> Result<Lease<'a>, JoinDenied> {
        let Around { kernel, link, namespaces, pulse, .. } = self.around;
        if kernel.redirect() != FeatureState::Ok {
            let next = "gnomon exec --proxy-env needs nothing of the kernel; gnomon doctor says what is missing";
            let why = kernel.why_not_redirect();
            return Err(JoinDenied::new(Denial::NoSensor, format!("connections cannot be redirected on this host: {why}"), next));
        }
        let lease = namespaces.lease(kernel, link, namespace)?;
        let silent = || JoinDenied::failed("the proxy does not accept connections yet; try again");
        namespaces.wait_for(namespace, WAIT).map_err(|_| silent())?;
        // The first heartbeat may be yet to come; until then the client would connect directly.
        let start = Instant::now();
        while !pulse.is_there() {
            if start.elapsed() > WAIT {
                return Err(silent());
            }
            std::thread::sleep(LOOK);
        }
        Ok(lease)
    }

    /// Takes up the scopes that an earlier sensor left, once the proxy has asked for its own listeners: before that it cannot use those of
    /// other namespaces.
    pub(super) fn take_up(&self, adopted: Vec<Adopted>, places: &ScopeSlots) {
        let Around { kernel, link, namespaces, .. } = self.around;
        if adopted.iter().any(|adopted| adopted.kept.asked == Asked::Redirect)
            && let Err(refusal) = self.bundle()
        {
            // The folder may have been created anew.
            tracing::error!("programs of gnomon exec that run on have no certificates: {}", refusal.detail);
        }
        for adopted in adopted {
            let mut leases = Vec::new();
            if adopted.kept.asked == Asked::Redirect {
                for namespace in adopted.namespaces() {
                    match namespaces.lease(kernel, link, &namespace) {
                        Ok(lease) => leases.push(lease),
                        Err(error) => {
                            let path = adopted.scope.cgroup().path();
                            tracing::warn!("programs in {path} cannot be redirected in one of their network namespaces: {error}");
                        }
                    }
                }
            }
            let id = adopted.scope.id().0;
            match Live::new(adopted.scope, places.keep(adopted.kept.uid), leases) {
                Ok(live) => self.reaper.watch(live),
                // The cgroup is gone and cannot be read.
                Err(_) => drop(kernel.let_out(id)),
            }
        }
    }

    fn bundle(&self) -> Result<Bundle, JoinDenied> {
        let _writing = self.writing.lock();
        let folder = self.options.socket.parent().unwrap_or(Path::new("/"));
        let path = bundle::publish(&self.options.authority, folder).map_err(JoinDenied::failed)?;
        let path = path.to_str().ok_or_else(|| JoinDenied::failed("the path of the certificates is not UTF-8"))?;
        Ok(Bundle::At(Long::new(path).map_err(JoinDenied::failed)?))
    }
}

/// Text from a client for the log, without control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
