//! A watched flow, judged by the first two phases.

use std::net::SocketAddr;
use std::sync::Arc;

use gnomon_engine::Answer;
use gnomon_inspect::{Connection, Hello, Inspector, Telling, judge_local};
use gnomon_local::{describe, without_secret_segments};
use gnomon_observe::{Action, Channel, Class, Correlation, Field, Observation};
use gnomon_record::Recorder;
use gnomon_wire::hello::Transport;
use smol_str::{SmolStr, ToSmolStr};

use crate::fields::{FlowNames, observe, program};
use crate::identities::Who;
use crate::records::{Due, Said};
use crate::starts::DueStart;

/// Judges flows that the proxy does not see, and reports them.
pub(crate) struct Judge {
    pub inspector: Arc<Inspector>,
    pub recorder: Arc<Recorder>,
    pub names: FlowNames,
}

impl Judge {
    /// Judges a flow, and reports it where a rule matches or the server's name points to MCP. Never interferes,
    /// and never says that it did.
    pub fn judge(&self, due: &Due, who: &Who, started_as: Option<&str>) {
        let address = due.owner.original.ip().to_canonical().to_string();
        let port = due.owner.original.port();
        let mut seen = observe(&due.owner, who, &self.names, started_as);
        seen.set(Field::Channel, Channel::Https.as_str());
        seen.set(Field::Vantage, "flow");
        seen.set(Field::HostName, gnomon_record::this_host());
        seen.set(Field::Correlation, Correlation::Owner.as_str());
        seen.set(Field::Transport, "tcp");
        seen.set(Field::DestinationAddress, address.as_str());
        seen.set(Field::DestinationPort, port);
        seen.set_some(Field::BypassReason, due.bypass.map(|bypass| bypass.as_str()));
        let facts = match &due.said {
            Said::Hello(hello) => {
                seen.set(Field::Ja4, hello.ja4(Transport::Tcp));
                Hello { sni: hello.sni.as_deref(), random: Some(&hello.random) }
            }
            Said::Unreadable => {
                [Field::Sni, Field::Ja4, Field::ClientRandom].into_iter().for_each(|field| seen.set_unreadable(field));
                Hello::default()
            }
            Said::Nothing => Hello::default(),
        };
        let (mut connection, _) = Connection::open(&self.inspector, seen);
        let action = match connection.hello(&address, port, &facts) {
            Answer::Decided(verdict) if verdict.action == Action::Allow && verdict.rule.is_some() => Action::Allow,
            // A rule's other actions are only logged: it is too late to interfere.
            _ => Action::Log,
        };
        let outcome = if due.bypass.is_some() { "around_proxy" } else { "observed" };
        let mut sightings = connection.report(action, outcome, Telling::IfSuspected);
        if let Some(bypass) = due.bypass {
            let policy = sightings.iter_mut().filter(|sighting| sighting.class == Class::Policy);
            policy.for_each(|sighting| sighting.seen.set(Field::Message, bypass.explain()));
        }
        self.recorder.report(sightings);
    }

    /// Judges a local server that was started, and reports it where a rule matches or it is known.
    pub fn start(&self, due: &DueStart, who: &Who) {
        let mut seen = started(due, who);
        seen.set(Field::Vantage, "process");
        seen.set(Field::LocalKnownBy, due.server.sign.as_str());
        describe(&mut seen, &due.server.launch, due.executable.as_deref());
        self.recorder.report(judge_local(&self.inspector, seen));
    }

    /// Judges that a local server listens, and reports it where a rule matches.
    pub fn listens(&self, due: &DueStart, who: &Who, at: &[SocketAddr]) {
        let mut seen = started(due, who);
        seen.set(Field::Vantage, "listener");
        // What its start said of its package, and how it is known, is not said again.
        seen.set(Field::LocalServer, due.server.launch.place(due.executable.as_deref()));
        seen.set(Field::LocalListens, at.iter().map(ToSmolStr::to_smolstr).collect::<Vec<SmolStr>>());
        seen.set(Field::LocalExposed, at.iter().any(|address| !address.ip().to_canonical().is_loopback()));
        self.recorder.report(judge_local(&self.inspector, seen));
    }
}

/// A process that a local server was started as.
fn started(due: &DueStart, who: &Who) -> Observation {
    let mut seen = program(&due.owner(), who);
    if let (Who::Unknown(_), Some(path)) = (who, &due.executable) {
        // What was seen of it while it was there.
        seen.set(Field::Executable, path.as_str());
    }
    // As they were when it began: a program can write over its arguments.
    let arguments: Vec<_> = due.arguments.iter().map(|argument| without_secret_segments(argument)).collect();
    seen.set(Field::CommandLine, arguments.join(" "));
    seen.set(Field::Channel, Channel::Process.as_str());
    seen.set(Field::HostName, gnomon_record::this_host());
    seen.set_some(Field::ParentPid, due.parent.map(i64::from));
    seen.set_some(Field::Agent, due.agent.as_deref());
    seen
}
