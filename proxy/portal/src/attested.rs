//! The program of this host that a connection comes from, if a sensor attests it.
//!
//! The kernel's record of the connection's maker cannot be forged by the program. What policy may build on is stricter than
//! what events tell: a process that could not be confirmed to be the one that connected is nobody's, and of its cgroup only
//! that part names a unit which the system's service manager made, as users name their own as they like.

use gnomon_access::Process;
use gnomon_observe::{Correlation, Field, Observation};
use gnomon_record::{Missing, Owners};
use smol_str::SmolStr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// The program behind a connection.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The process in policy.
    pub process: Process,
    /// The process in events.
    pub seen: Arc<Observation>,
}

/// The program of an accepted connection, if it is known. Asked once, before a byte is read; the `Owners` bound how long it takes.
pub(crate) async fn program(owners: Option<&Arc<dyn Owners>>, stream: &TcpStream) -> Option<Program> {
    let owners = owners?;
    let Some(owned) = owners.owner_with_digest(stream).await else {
        if owners.missing(stream) == Missing::Outside {
            return None;
        }
        // Nobody's to policy, and unreadable to rules.
        let mut seen = Observation::new();
        gnomon_record::lost(&mut seen);
        return Some(Program { process: Process::default(), seen: Arc::new(seen) });
    };
    owners.served(owned.cookie);
    let process = process(&owned.seen);
    let mut seen = owned.seen;
    seen.set(Field::Correlation, Correlation::Owner.as_str());
    Some(Program { process, seen: Arc::new(seen) })
}

fn process(seen: &Observation) -> Process {
    if seen.text(Field::ProcessIdentity) != Some("confirmed") {
        return Process::default();
    }
    let text = |field| seen.text(field).map(SmolStr::new);
    let cgroup = text(Field::Cgroup);
    Process {
        executable: text(Field::Executable),
        sha256: text(Field::ExecutableHash),
        user: text(Field::UserName),
        unit: cgroup.as_deref().and_then(unit),
        cgroup,
    }
}

/// The unit that the system's service manager put a cgroup under: the outermost, as what is below it may be delegated
/// (systemd, CGROUP_DELEGATION).
fn unit(cgroup: &str) -> Option<SmolStr> {
    cgroup.split('/').find(|part| part.ends_with(".service") || part.ends_with(".scope")).map(SmolStr::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_observe::Lookup;
    use gnomon_record::Owned;
    use std::{pin::Pin, time::Duration};

    #[test]
    fn a_unit_is_the_one_that_the_system_made() {
        for (cgroup, is) in [
            ("/system.slice/agent.service", Some("agent.service")),
            ("/system.slice/agent.service/payload/evil.service", Some("agent.service")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service", Some("user@1000.service")),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
            ("/", None),
            ("/custom", None),
        ] {
            assert_eq!(unit(cgroup).as_deref(), is, "{cgroup}");
        }
    }

    /// Knows no owner, for this reason.
    struct Knows(Missing);

    impl Owners for Knows {
        fn owner<'a>(&'a self, _: &'a TcpStream) -> Pin<Box<dyn Future<Output = Option<Owned>> + Send + 'a>> {
            Box::pin(std::future::ready(None))
        }
        fn missing(&self, _: &TcpStream) -> Missing {
            self.0
        }
        fn served(&self, _: u64) {}
        fn unreachable<'a>(&'a self, _: &'a Owned, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn a_program_whose_owner_got_lost_is_unreadable_to_rules_and_nobodys_to_policy_and_one_that_nobody_watches_is_absent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let program = async |missing| {
            let owners: Arc<dyn Owners> = Arc::new(Knows(missing));
            program(Some(&owners), &stream).await
        };
        assert!(program(Missing::Outside).await.is_none());
        let lost = program(Missing::Lost).await.unwrap();
        assert_eq!(lost.process, Process::default());
        for field in [Field::UserId, Field::UserName, Field::Executable, Field::Cgroup] {
            assert!(matches!(lost.seen.get(field), Lookup::Unreadable), "{field:?}");
        }
    }

    #[test]
    fn of_a_process_that_is_not_confirmed_policy_knows_nothing() {
        let mut seen = Observation::new();
        seen.set(Field::Executable, "/usr/bin/agent");
        seen.set(Field::Cgroup, "/system.slice/agent.service");
        for evidence in [None, Some("unverified"), Some("late")] {
            seen.set_some(Field::ProcessIdentity, evidence);
            assert_eq!(process(&seen), Process::default(), "{evidence:?}");
        }
        seen.set(Field::ProcessIdentity, "confirmed");
        seen.set_unreadable(Field::ExecutableHash);
        let known = process(&seen);
        assert_eq!((known.executable.as_deref(), known.unit.as_deref()), (Some("/usr/bin/agent"), Some("agent.service")));
        assert_eq!((known.sha256, known.user), (None, None));
    }
}
