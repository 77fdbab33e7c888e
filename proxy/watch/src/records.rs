//! Turns the kernel half's records into flows that are due to be judged.
//!
//! No clock, no threads and no judge in here: the caller passes the records and the time, and takes the flows that are due. A flow that the
//! kernel sent to the proxy, or that the proxy says it serves, is the proxy's to judge.

use std::time::{Duration, Instant};

use gnomon_link::EXEC_SCOPES;
use gnomon_sensor::{Close, Connect, Decision, End, Hello, Owner, Reason};
use gnomon_wire::hello::{Assembler, Assembly, ClientHello};
use quick_cache::unsync::Cache;

use crate::WatchOptions;
use crate::fair::{Fair, Holder};
use crate::metrics::{Shed, Tls, WatchMetrics};

/// The time within which a flow that went around the proxy must send its server's name.
const SAYS_ITS_NAME: Duration = Duration::from_secs(2);
/// Connections that the proxy accepted before their record was read.
const SERVED_EARLY: usize = 8192;

/// The reason that a connection went around the proxy although its scope redirects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bypass {
    /// Redirecting failed, and the scope fails open.
    FailOpen(Reason),
    /// The scope does not cover its port.
    NotRedirected,
    /// The proxy does not dial such addresses.
    Exempt,
    /// No listener was found at that loopback address, and yet the connection was accepted.
    Nobody,
}

impl Bypass {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailOpen(reason) => reason.name(),
            Self::NotRedirected => "not_redirected",
            Self::Exempt => "exempt",
            Self::Nobody => "nobody_listens",
        }
    }

    /// The reason in words for people.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::FailOpen(Reason::StaleHeartbeat) => "went around the proxy: it showed no life for a second",
            Self::FailOpen(Reason::NoListener) => "went around the proxy: it does not listen in the program's network namespace",
            Self::FailOpen(Reason::ForeignListener) => "went around the proxy: another program listens on the proxy's port there",
            Self::FailOpen(Reason::BoundDevice) => "went around the proxy: the program bound its socket to a network device",
            Self::FailOpen(Reason::TableFull) => "went around the proxy: the kernel's table of flows is full",
            Self::NotRedirected => "went around the proxy: its scope does not redirect this port",
            Self::Exempt => "went around the proxy: link-local, metadata, multicast and broadcast addresses are not redirected",
            Self::Nobody => "went around the proxy: no listener was found at that loopback address, and one answered",
        }
    }
}

/// The first bytes of a flow.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// Nothing, or not TLS.
    Nothing,
    /// A ClientHello.
    Hello(Box<ClientHello>),
    /// Bytes that begin as a ClientHello and could not be read.
    Unreadable,
}

/// A flow to be judged.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub owner: Owner,
    pub bypass: Option<Bypass>,
    pub said: Said,
}

/// The state of the flow's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    NotBegun,
    Begun,
    Over,
}

/// The party that judges a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judges {
    Watch,
    Proxy,
}

#[derive(Debug)]
struct Flow {
    owner: Owner,
    bypass: Option<Bypass>,
    reading: Reading,
    judges: Judges,
}

/// A hello of which a part is there.
#[derive(Debug)]
struct Part {
    assembler: Assembler,
    /// The offset at which the next part must begin.
    next: u32,
}

#[derive(Debug)]
struct Waiting {
    due: Due,
    until: Instant,
}

/// All flows that are open, as far as their number is bounded.
#[derive(Debug)]
pub(crate) struct Records {
    flows: Fair<Flow>,
    hellos: Fair<Part>,
    waiting: Fair<Waiting>,
    served_early: Cache<u64, ()>,
    redirecting: Vec<u32>,
    own_pid: Option<u32>,
    patience: Duration,
    metrics: WatchMetrics,
}

impl Records {
    pub fn new(options: &WatchOptions, metrics: WatchMetrics) -> Self {
        Self {
            flows: Fair::new(options.flows),
            hellos: Fair::new(options.hellos),
            waiting: Fair::new(options.waiting),
            served_early: Cache::new(SERVED_EARLY),
            redirecting: options.redirecting.clone(),
            own_pid: options.own_pid,
            patience: options.patience,
            metrics,
        }
    }

    /// A connection begins. Hands out one that has to make way.
    pub fn connect(&mut self, connect: Connect, now: Instant) -> Option<Due> {
        let Connect { owner, decision } = connect;
        let (bypass, mut judges) = match decision {
            // The connection is refused.
            Decision::FailClosed(_) | Decision::QuicRefused | Decision::FailedLately => return None,
            Decision::Observed => (self.redirects(owner.scope).then_some(Bypass::NotRedirected), Judges::Watch),
            Decision::Redirected => (None, Judges::Proxy),
            Decision::FailOpen(reason) => (Some(Bypass::FailOpen(reason)), Judges::Watch),
            Decision::Exempt => (Some(Bypass::Exempt), Judges::Watch),
            Decision::Nobody => (Some(Bypass::Nobody), Judges::Watch),
        };
        if self.own_pid == Some(owner.pid) {
            return None;
        }
        match self.flows.get_mut(owner.cookie) {
            // A second call of connect() on a socket that is connected changes nothing.
            Some(flow) if flow.reading != Reading::NotBegun || flow.judges == Judges::Proxy => return None,
            _ => {}
        }
        if self.served_early.remove(&owner.cookie).is_some() {
            judges = Judges::Proxy;
        }
        let holder = holder(&owner);
        let flow = Flow { owner: owner.clone(), bypass, reading: Reading::NotBegun, judges };
        if self.flows.insert(owner.cookie, holder, flow).is_some() {
            self.metrics.shed(Shed::Flow, 1);
        }
        if judges == Judges::Watch && matches!(bypass, Some(Bypass::FailOpen(_))) {
            let due = Due { owner, bypass, said: Said::Nothing };
            return self.wait_until(due, now + SAYS_ITS_NAME);
        }
        None
    }

    /// True if a scope is there to send connections to the proxy, by its configuration: nothing has to be redirected before.
    fn redirects(&self, scope: u32) -> bool {
        scope >= EXEC_SCOPES || self.redirecting.contains(&scope)
    }

    /// A part of the flow's first bytes. Returns the flow when it is due to be judged.
    pub fn hello(&mut self, hello: &Hello<'_>) -> Option<Due> {
        let Some(flow) = self.flows.get_mut(hello.cookie) else {
            self.metrics.shed(Shed::Hello, 1);
            return None;
        };
        if flow.reading == Reading::Over {
            return None;
        }
        if flow.judges == Judges::Proxy {
            flow.reading = Reading::Over;
            self.metrics.flow(Tls::Yes);
            return None;
        }
        let mut part = match flow.reading {
            Reading::NotBegun => Some(Part { assembler: Assembler::new(), next: 0 }),
            // None: the hello was evicted for others'.
            Reading::Begun | Reading::Over => self.hellos.remove(hello.cookie),
        };
        let assembly = match &mut part {
            Some(part) if part.next == hello.offset && !hello.truncated => part.assembler.push(hello.bytes),
            // A part was lost, or the rest will never come.
            _ => Assembly::TooLong,
        };
        let said = match (assembly, part) {
            (Assembly::Need, Some(mut part)) if hello.remaining != 0 => {
                flow.reading = Reading::Begun;
                part.next = hello.offset.saturating_add(u32::try_from(hello.bytes.len()).unwrap_or(u32::MAX));
                let holder = holder(&flow.owner);
                if self.hellos.insert(hello.cookie, holder, part).is_some() {
                    self.metrics.shed(Shed::Hello, 1);
                }
                return None;
            }
            (Assembly::Done(hello), _) => Said::Hello(hello),
            (Assembly::NotTls, _) => Said::Nothing,
            (Assembly::Need | Assembly::TooLong | Assembly::Broken(_), _) => Said::Unreadable,
        };
        flow.reading = Reading::Over;
        self.metrics.flow(match said {
            Said::Hello(_) => Tls::Yes,
            Said::Nothing => Tls::No,
            Said::Unreadable => Tls::Unreadable,
        });
        let due = Due { owner: flow.owner.clone(), bypass: flow.bypass, said };
        if matches!(due.said, Said::Nothing) {
            return None;
        }
        self.waiting.remove(hello.cookie);
        Some(due)
    }

    /// The end of a connection. Returns it if it is due to be judged.
    pub fn close(&mut self, close: &Close) -> Option<Due> {
        self.metrics.closed(close);
        self.served_early.remove(&close.cookie);
        let flow = self.flows.remove(close.cookie)?;
        self.hellos.remove(close.cookie);
        match flow.reading {
            Reading::NotBegun => self.metrics.flow(Tls::No),
            Reading::Begun => self.metrics.flow(Tls::Unreadable),
            Reading::Over => {}
        }
        // A flow whose hello was read keeps waiting for its owner; for the others it is now known that no hello will come.
        let waits_for_name = matches!(self.waiting.get_mut(close.cookie), Some(waiting) if matches!(waiting.due.said, Said::Nothing));
        if !waits_for_name {
            return None;
        }
        let due = self.waiting.remove(close.cookie).map(|waiting| waiting.due);
        // A connection that was never established bypassed nothing.
        due.filter(|_| close.end == End::Closed)
    }

    /// The proxy serves this connection.
    pub fn served(&mut self, cookie: u64) {
        self.waiting.remove(cookie);
        match self.flows.get_mut(cookie) {
            Some(flow) => flow.judges = Judges::Proxy,
            None => self.served_early.insert(cookie, ()),
        }
    }

    /// Keeps a flow until its owner is known. Returns one that cannot wait any longer, as others need its place.
    pub fn wait(&mut self, due: Due, now: Instant) -> Option<Due> {
        let until = now + self.patience;
        self.wait_until(due, until)
    }

    fn wait_until(&mut self, due: Due, until: Instant) -> Option<Due> {
        let (cookie, holder) = (due.owner.cookie, holder(&due.owner));
        let out = self.waiting.insert(cookie, holder, Waiting { due, until });
        self.metrics.shed(Shed::Waiting, usize::from(out.is_some()));
        out.map(|waiting| waiting.due)
    }

    /// The flows that need not wait any longer, or cannot.
    pub fn due(&mut self, now: Instant, mut is_known: impl FnMut(&Owner) -> bool) -> Vec<Due> {
        let ready =
            |waiting: &Waiting| now >= waiting.until || (!matches!(waiting.due.said, Said::Nothing) && is_known(&waiting.due.owner));
        let keys = self.waiting.keys_where(ready);
        keys.into_iter().filter_map(|key| Some(self.waiting.remove(key)?.due)).collect()
    }
}

fn holder(owner: &Owner) -> Holder {
    Holder { process: owner.pid, user: owner.uid }
}
