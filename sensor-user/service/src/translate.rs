//! Conversions between the types of host and kernel half and those of the protocol. Texts that are too long are cut.

use gnomon_host::identity::{self, Answer, Backing, Digest, ExecEvidence};
use gnomon_host::workload::{self, Runtime};
use gnomon_link::{
    Ancestor, Arguments, CommandLine, Container, Credentials, Executable, Fail, GenerationEvidence, Identity, IdentityAnswer, Image, Label,
    Lineage, List, ListensAnswer, Long, Mode, Name, NameOrigin, Parent, Ports, Quic, ScopeSettings, StartAnswer, Started, Starts,
};
use gnomon_sensor::{PortList, TooManyPorts};
use std::os::unix::ffi::OsStrExt as _;

/// Translates the identity of a process.
pub(crate) fn found(answer: Answer) -> IdentityAnswer {
    match answer {
        Answer::Known(known) => IdentityAnswer::Identity(Box::new(identity(*known))),
        Answer::Gone => IdentityAnswer::Gone,
        Answer::Stale => IdentityAnswer::Stale,
        Answer::Unreadable(why) => IdentityAnswer::Unreadable(Name::cut(why)),
    }
}

fn identity(known: identity::Identity) -> Identity {
    Identity {
        pid: known.pid,
        started_boot_ns: known.started_at.0,
        generation: match known.exec {
            ExecEvidence::Confirmed => GenerationEvidence::Confirmed,
            ExecEvidence::Unverified => GenerationEvidence::Unverified,
        },
        executable: executable(known.executable),
        command_line: command_line(&known.command_line),
        credentials: known.credentials.map(credentials),
        ancestors: List::cut(known.ancestors.into_iter().map(|ancestor| Ancestor {
            pid: ancestor.pid,
            executable: ancestor.executable.map(|path| Long::lossy(path.as_os_str().as_bytes())),
        })),
        cgroup: Long::cut(&known.place.cgroup),
        containers: List::cut(known.place.containers.iter().map(container)),
        pod: known.place.pod.map(|pod| Name::cut(&pod.uid)),
    }
}

fn executable(executable: identity::Executable) -> Executable {
    match executable {
        identity::Executable::File { path, backing, digest } => Executable::File {
            path: Long::lossy(path.as_os_str().as_bytes()),
            image: match backing {
                Backing::Present => Image::OnDisk,
                Backing::Deleted => Image::Deleted,
                Backing::Memory => Image::Memory,
            },
            sha256: match digest {
                Digest::Sha256(sum) => Some(sum.0),
                Digest::TooLarge(_) | Digest::TimedOut | Digest::Busy | Digest::Changed | Digest::Unreadable | Digest::NotYet => None,
            },
        },
        identity::Executable::Kernel => Executable::Kernel,
        identity::Executable::Hidden => Executable::Hidden,
    }
}

fn command_line(arguments: &identity::CommandLine) -> CommandLine {
    // Command lines sent to the other process may end in events.
    let joined = gnomon_observe::arguments_without_secrets(arguments.arguments()).join(" ");
    let text = Long::cut(&joined);
    match arguments {
        identity::CommandLine::Whole(_) if text.len() == joined.len() => CommandLine::Whole(text),
        identity::CommandLine::Whole(_) | identity::CommandLine::Cut(_) => CommandLine::Cut(text),
        identity::CommandLine::TimedOut | identity::CommandLine::Unreadable => CommandLine::Unreadable,
    }
}

/// Translates what was started.
pub(crate) fn started(answer: identity::StartAnswer) -> StartAnswer {
    match answer {
        identity::StartAnswer::Known(known) => StartAnswer::Program(Box::new(Started {
            started_boot_ns: known.started_at.0,
            executable: known.executable.map(|path| Long::lossy(path.as_os_str().as_bytes())),
            arguments: arguments(&known.arguments),
            parents: List::cut(known.parents.into_iter().map(|parent| Parent {
                pid: parent.pid,
                started_boot_ns: parent.started_at.0,
                executable: parent.executable.map(|path| Name::lossy(path.as_os_str().as_bytes())),
                arguments: Name::cut(&concealed(&parent.arguments)),
            })),
        })),
        identity::StartAnswer::Gone => StartAnswer::Gone,
        identity::StartAnswer::Stale => StartAnswer::Stale,
        identity::StartAnswer::Unreadable(why) => StartAnswer::Unreadable(Name::cut(why)),
    }
}

/// Translates where a process listens.
pub(crate) fn listens(answer: identity::ListensAnswer) -> ListensAnswer {
    match answer {
        identity::ListensAnswer::At(addresses) => ListensAnswer::At(List::cut(addresses)),
        identity::ListensAnswer::Gone => ListensAnswer::Gone,
        identity::ListensAnswer::Unreadable(why) => ListensAnswer::Unreadable(Name::cut(why)),
    }
}

fn arguments(arguments: &identity::CommandLine) -> Arguments {
    let joined = concealed(arguments);
    let text = Long::cut(&joined);
    match arguments {
        identity::CommandLine::Whole(_) if text.len() == joined.len() => Arguments::Whole(text),
        identity::CommandLine::Whole(_) | identity::CommandLine::Cut(_) => Arguments::Cut(text),
        identity::CommandLine::TimedOut | identity::CommandLine::Unreadable => Arguments::Unreadable,
    }
}

/// Arguments without what looks like a secret, with a NUL between them.
fn concealed(arguments: &identity::CommandLine) -> String {
    gnomon_observe::arguments_without_secrets(arguments.arguments()).join("\0")
}

/// Translates whether lineage is read.
pub(crate) fn lineage(lineage: Lineage) -> identity::Lineage {
    match lineage {
        Lineage::Left => identity::Lineage::Left,
        Lineage::Read => identity::Lineage::Read,
    }
}

/// Translates what becomes of starts.
pub(crate) fn starts(starts: Starts) -> gnomon_sensor::Starts {
    match starts {
        Starts::Remembered => gnomon_sensor::Starts::Remembered,
        Starts::Reported => gnomon_sensor::Starts::Reported,
    }
}

fn credentials(known: identity::Credentials) -> Credentials {
    Credentials {
        uid: known.uid,
        effective_uid: known.effective_uid,
        user: known.user.map(|user| Name::cut(&user)),
        gid: known.gid,
        groups: List::cut(known.groups),
        group_names: List::cut(known.group_names.iter().map(|name| Name::cut(name))),
    }
}

fn container(container: &workload::Container) -> Container {
    // OpenTelemetry's names of `container.runtime.name`, where it has one.
    let runtime = match container.runtime {
        Runtime::Docker => "docker",
        Runtime::Containerd => "containerd",
        Runtime::CriO => "cri-o",
        Runtime::Podman => "podman",
        Runtime::Nspawn => "systemd-nspawn",
        Runtime::Lxc => "lxc",
        _ => "unknown",
    };
    let standing = match container.standing {
        workload::NameOrigin::System => NameOrigin::System,
        workload::NameOrigin::Claimed(user) => NameOrigin::Claimed(user),
    };
    Container { id: Name::cut(&container.id), runtime: Label::cut(runtime), standing }
}

/// Translates the settings of a scope.
pub(crate) fn scope(settings: &ScopeSettings) -> Result<gnomon_sensor::Scope, TooManyPorts> {
    let mode = match settings.mode {
        Mode::Observe => gnomon_sensor::Mode::Observe,
        Mode::Off => gnomon_sensor::Mode::Off,
        Mode::Redirect => gnomon_sensor::Mode::Redirect(gnomon_sensor::Redirect {
            ports: match &settings.ports {
                Ports::All => gnomon_sensor::Ports::All,
                Ports::Listed(list) => gnomon_sensor::Ports::Listed(PortList::try_from(&**list)?),
            },
            quic: match settings.quic {
                Quic::Refuse => gnomon_sensor::Quic::Refuse,
                Quic::Leave => gnomon_sensor::Quic::Leave,
            },
            fail: match settings.fail {
                Fail::Open => gnomon_sensor::Fail::Open,
                Fail::Closed => gnomon_sensor::Fail::Closed,
            },
        }),
    };
    Ok(gnomon_sensor::Scope { id: settings.id, mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_do_not_fit_are_cut_and_said_to_be() {
        let words = |count| identity::CommandLine::Whole(vec!["word".to_owned(); count]);
        assert_eq!(command_line(&words(2)), CommandLine::Whole(Long::cut("word word")));
        assert!(matches!(command_line(&words(2000)), CommandLine::Cut(text) if text.len() == 4096));
    }

    #[test]
    fn a_port_zero_is_refused_and_not_taken_for_all() {
        let ports = Ports::Listed(List::cut([0]));
        let settings = ScopeSettings { id: 1, mode: Mode::Redirect, ports, quic: Quic::Leave, fail: Fail::Open };
        assert!(scope(&settings).is_err());
    }
}
