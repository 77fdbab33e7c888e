//! The proxy's requests: one request, one answer.

use std::os::fd::AsFd as _;
use std::sync::mpsc::{Sender, SyncSender, TrySendError};
use std::time::Duration;

use gnomon_host::identity::{BootTime, Generation};
use gnomon_link::{Family, Homes, LinkError, Name, RefusalReason, SensorEnd, ToProxy, ToSensor};
use gnomon_sensor::{Failed, listen::User};

use crate::homes::{Reading, Which};
use crate::identities::{About, Question, Readers};
use crate::kernel::{ChangeError, Kernel};
use crate::namespaces::{LeaseError, ListenError, Namespaces};
use crate::{PATIENCE, translate};

/// The longest that an address is refused after the proxy could not connect to it.
const FAILED_FOR: Duration = Duration::from_secs(30);

/// The threads for requests that may take a while.
pub(crate) struct Elsewhere {
    pub questions: Readers,
    /// Cookies of network namespaces to be searched for.
    pub searches: SyncSender<u64>,
    pub homes: HomesAt,
}

/// Where home directories are read, if they are.
pub(crate) struct HomesAt {
    /// Requests to read them.
    pub requests: Option<SyncSender<Reading>>,
    /// Which requests are answered: all where the sensor looks at all of the host.
    pub coverage: Homes,
}

pub(crate) struct Requests<'a> {
    link: &'a SensorEnd,
    kernel: &'a Kernel,
    namespaces: &'a Namespaces,
    elsewhere: Elsewhere,
    /// Notified once, when the proxy has listeners of its own.
    listens: Option<Sender<()>>,
    /// The number of messages that could not be decoded.
    bad: u64,
}

impl<'a> Requests<'a> {
    pub(crate) fn new(
        link: &'a SensorEnd,
        kernel: &'a Kernel,
        namespaces: &'a Namespaces,
        elsewhere: Elsewhere,
        listens: Sender<()>,
    ) -> Self {
        Self { link, kernel, namespaces, elsewhere, listens: Some(listens), bad: 0 }
    }

    /// Receives one request, and answers it.
    ///
    /// # Errors
    /// The proxy is gone, or the socket broken. A bad message is no error: the next may be a good one.
    pub(crate) fn next(&mut self) -> Result<(), LinkError> {
        match self.link.recv(Duration::ZERO) {
            Ok(received) => self.answer(received.message),
            Err(LinkError::TimedOut) => Ok(()),
            Err(error @ (LinkError::Closed | LinkError::Os { .. })) => Err(error),
            Err(error) => {
                self.bad += 1;
                // A compromised proxy can send as many as it likes; the log must not fill up with them.
                if self.bad.is_power_of_two() {
                    tracing::warn!("refused {} bad messages of the proxy; the last: {error}", self.bad);
                }
                Ok(())
            }
        }
    }

    fn answer(&mut self, request: ToSensor) -> Result<(), LinkError> {
        match request {
            ToSensor::Hello { .. } => {
                tracing::warn!("the proxy sent a second hello");
                Ok(())
            }
            ToSensor::Resolve { token, pid, connected_boot_ns, generation_boot_ns, cookie: _ } => {
                let about = About::Identity { connected: BootTime(connected_boot_ns), generation: Generation(generation_boot_ns) };
                self.ask(Question { token, pid, about })
            }
            ToSensor::ResolveSoon { token, pid, connected_boot_ns, generation_boot_ns } => {
                let about = About::IdentitySoon { connected: BootTime(connected_boot_ns), generation: Generation(generation_boot_ns) };
                self.ask(Question { token, pid, about })
            }
            ToSensor::ReadStart { token, pid, began_boot_ns, lineage } => {
                let about = About::Start { began: BootTime(began_boot_ns), lineage: translate::lineage(lineage) };
                self.ask(Question { token, pid, about })
            }
            ToSensor::ReadListens { token, pid, started_boot_ns } => {
                self.ask(Question { token, pid, about: About::Listens { started: BootTime(started_boot_ns) } })
            }
            ToSensor::ReadHomes { token, homes } => self.read_homes(Reading { token, which: Which::All }, homes),
            ToSensor::ReadChangedHomes { token, homes } => self.read_homes(Reading { token, which: Which::Changed }, homes),
            ToSensor::ReportStarts { starts } => {
                if let Err(error) = self.kernel.set_starts(translate::starts(starts)) {
                    tracing::warn!("starts of programs are not reported as configured: {error}");
                }
                Ok(())
            }
            ToSensor::ListenIn { token, netns_cookie, pid } => self.listen(token, netns_cookie, pid),
            ToSensor::Accepting { netns_cookie } => {
                self.namespaces.accepting(netns_cookie);
                Ok(())
            }
            ToSensor::Scope { token, change } => match self.kernel.change(&change) {
                Ok(()) => self.send(&ToProxy::Done { token }),
                Err(error) => {
                    let why = match error {
                        ChangeError::Own | ChangeError::Ports(_) => RefusalReason::NotAllowed,
                        ChangeError::Kernel(_) | ChangeError::NotAttached { .. } => RefusalReason::Failed,
                    };
                    self.refuse(token, why, &error)
                }
            },
            ToSensor::OpenSocket { token, netns_cookie, family } => self.open_socket(token, netns_cookie, family, None),
            ToSensor::OpenSocketAs { token, netns_cookie, family, uid, gid } => {
                self.open_socket(token, netns_cookie, family, Some(User { uid, gid }))
            }
            ToSensor::ListenWhere { netns_cookie, pid } => self.listen_where(netns_cookie, pid),
            ToSensor::Failed { token, netns_cookie, address, uid, seconds } => {
                let time = Duration::from_secs(seconds.into()).min(FAILED_FOR);
                match self.kernel.refuse_for(Failed { netns: netns_cookie, address, uid }, time) {
                    Ok(()) => self.send(&ToProxy::Done { token }),
                    Err(error) => self.refuse(token, RefusalReason::Failed, &error),
                }
            }
            ToSensor::ExplicitPort { port } => {
                if let Err(error) = self.kernel.set_explicit_port(port) {
                    tracing::warn!("the owners of all connections are filed, as the proxy's port was not taken: {error}");
                }
                Ok(())
            }
            ToSensor::Features { token } => self.send(&ToProxy::Features { token, features: self.kernel.features() }),
            ToSensor::Counters { token } => match self.kernel.counters() {
                Ok(programs) => self.send(&ToProxy::Counters { token, programs }),
                Err(error) => self.refuse(token, RefusalReason::Failed, &error),
            },
        }
    }

    fn ask(&self, question: Question) -> Result<(), LinkError> {
        let token = question.token;
        match self.elsewhere.questions.ask(question) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => self.refuse(token, RefusalReason::Full, &"as many questions as may wait are waiting"),
            Err(TrySendError::Disconnected(_)) => self.refuse(token, RefusalReason::Failed, &"identities are no longer read"),
        }
    }

    fn read_homes(&self, reading: Reading, homes: Homes) -> Result<(), LinkError> {
        let HomesAt { requests, coverage } = &self.elsewhere.homes;
        let token = reading.token;
        match requests {
            None => self.refuse(token, RefusalReason::Unsupported, &"this sensor reads no home directories"),
            Some(_) if homes == Homes::OfTheHost && *coverage == Homes::Always => {
                self.refuse(token, RefusalReason::NotAllowed, &"the sensor looks at a part of the host")
            }
            Some(requests) => match requests.try_send(reading) {
                Ok(()) => Ok(()),
                Err(TrySendError::Full(_)) => self.refuse(token, RefusalReason::Full, &"home directories are being read"),
                Err(TrySendError::Disconnected(_)) => self.refuse(token, RefusalReason::Failed, &"home directories are no longer read"),
            },
        }
    }

    fn open_socket(&self, token: u64, netns_cookie: u64, family: Family, user: Option<User>) -> Result<(), LinkError> {
        match self.namespaces.socket_in(netns_cookie, family, user) {
            Ok(socket) => self.link.send(&ToProxy::Socket { token, family }, &[socket.as_fd()], PATIENCE).or_else(lost),
            Err(error) => self.refuse(token, refusal(&error), &error),
        }
    }

    fn listen(&mut self, token: u64, netns_cookie: u64, pid: u32) -> Result<(), LinkError> {
        match self.namespaces.listen_in(self.kernel, pid, netns_cookie) {
            Ok(opened) => {
                let message = ToProxy::Listeners { token, netns_cookie: opened.cookie, port: opened.port, families: opened.families() };
                let sent = self.link.send(&message, &opened.descriptors(), PATIENCE).or_else(lost);
                // The receiver may be gone.
                let _ = self.listens.take().map(|listens| listens.send(()));
                sent
            }
            Err(error) => self.refuse(token, refusal(&error), &error),
        }
    }

    fn listen_where(&self, netns_cookie: u64, pid: u32) -> Result<(), LinkError> {
        match self.namespaces.visit(self.kernel, self.link, pid, netns_cookie) {
            Ok(()) => Ok(()),
            // The process has ended, or the pid was reused, and its namespace may live on.
            Err(LeaseError::Listen(ListenError::Gone | ListenError::Other)) => {
                if self.elsewhere.searches.try_send(netns_cookie).is_err() {
                    self.namespaces.unserved(&ListenError::Busy);
                }
                Ok(())
            }
            Err(LeaseError::Link(error)) => lost(error),
            Err(LeaseError::Listen(error)) => {
                self.namespaces.unserved(&error);
                Ok(())
            }
        }
    }

    fn refuse(&self, token: u64, why: RefusalReason, detail: &dyn ToString) -> Result<(), LinkError> {
        self.send(&ToProxy::Refused { token, why, detail: Name::cut(&detail.to_string()) })
    }

    fn send(&self, message: &ToProxy) -> Result<(), LinkError> {
        self.link.send(message, &[], PATIENCE).or_else(lost)
    }
}

fn refusal(error: &ListenError) -> RefusalReason {
    match error {
        ListenError::Gone | ListenError::Ended => RefusalReason::Gone,
        ListenError::Other => RefusalReason::OtherNamespace,
        ListenError::Full | ListenError::FullOfVisited | ListenError::Busy => RefusalReason::Full,
        ListenError::Sensor(_) | ListenError::Kernel(_) | ListenError::Os { .. } => RefusalReason::Failed,
    }
}

/// A proxy that does not read its answers misses them; if it is gone, serving ends.
fn lost(error: LinkError) -> Result<(), LinkError> {
    match error {
        LinkError::Closed | LinkError::Os { .. } => Err(error),
        error => {
            tracing::warn!("an answer to the proxy is lost: {error}");
            Ok(())
        }
    }
}
