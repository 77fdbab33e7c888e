//! The `who` part of an entry: conditions on facts about the caller.

use super::truth::Truth;
use crate::{Caller, Device, Names, Process, glob::Glob};
use ipnet::IpNet;
use smol_str::SmolStr;
use std::fmt;

/// A key of an entry, compiled. Of its values one suffices.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Users(Vec<SmolStr>),
    Groups(Vec<SmolStr>),
    Domains(Vec<Domain>),
    Clients(Vec<SmolStr>),
    Scopes(Vec<SmolStr>),
    Acr(Vec<SmolStr>),
    Amr(Vec<SmolStr>),
    Methods(Vec<SmolStr>),
    Networks(Vec<IpNet>),
    Countries(Vec<SmolStr>),
    DeviceAny,
    DeviceHash(Vec<SmolStr>),
    DeviceSubject(Vec<Glob>),
    DeviceName(Vec<Glob>),
    ProcessExecutable(Vec<Glob>),
    ProcessHash(Vec<SmolStr>),
    ProcessUser(Vec<SmolStr>),
    ProcessCgroup(Vec<Glob>),
    ProcessUnit(Vec<Glob>),
}

/// `example.org`, or `*.example.org`: the names below it.
#[derive(Clone, Debug)]
pub(crate) enum Domain {
    Exact(SmolStr),
    Below(SmolStr),
}

impl Domain {
    fn holds(&self, domain: &str) -> bool {
        match self {
            Domain::Exact(name) => name == domain,
            Domain::Below(name) => domain.strip_suffix(name.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }
}

fn any_of(wanted: &[SmolStr], found: &Names) -> Truth {
    match found {
        Names::Unknown => Truth::Missing,
        Names::Known(found) => Truth::of(found.iter().any(|name| wanted.contains(name))),
    }
}

fn globbed(wanted: &[Glob], fact: Option<&SmolStr>) -> Truth {
    Truth::about(fact, |fact| wanted.iter().any(|glob| glob.matches(fact)))
}

/// `users` of an entry: the user's name as it is, or the verified address of mail, in which case does not matter.
fn users(wanted: &[SmolStr], caller: &Caller) -> Truth {
    let named = |name: &SmolStr| wanted.contains(name);
    let mailed = |mail: &SmolStr| wanted.iter().any(|name| name.eq_ignore_ascii_case(mail));
    if caller.user.as_ref().is_some_and(named) || caller.email.as_ref().is_some_and(mailed) {
        return Truth::True;
    }
    let by_name = wanted.iter().any(|name| !name.contains('@'));
    let by_mail = wanted.iter().any(|name| name.contains('@'));
    let unknown = by_name && caller.user.is_none() || by_mail && caller.email.is_none();
    if unknown { Truth::Missing } else { Truth::False }
}

impl Condition {
    pub(crate) fn holds(&self, caller: &Caller) -> Truth {
        let device = caller.device.as_ref();
        let process = caller.process.as_ref();
        match self {
            Condition::Users(wanted) => users(wanted, caller),
            Condition::Groups(wanted) => any_of(wanted, &caller.groups),
            Condition::Domains(wanted) => Truth::about(caller.domain.as_ref(), |domain| wanted.iter().any(|one| one.holds(domain))),
            Condition::Clients(wanted) => Truth::about(caller.client.as_ref(), |client| wanted.contains(client)),
            Condition::Scopes(wanted) => any_of(wanted, &caller.scopes),
            Condition::Acr(wanted) => Truth::about(caller.acr.as_ref(), |acr| wanted.contains(acr)),
            Condition::Amr(wanted) => any_of(wanted, &caller.amr),
            Condition::Methods(wanted) => Truth::of(wanted.iter().any(|method| method == caller.method.as_str())),
            Condition::Networks(wanted) => Truth::of(wanted.iter().any(|network| network.contains(&caller.address.to_canonical()))),
            Condition::Countries(wanted) => Truth::about(caller.country.as_ref(), |country| wanted.contains(country)),
            Condition::DeviceAny => Truth::about(device, |_| true),
            Condition::DeviceHash(wanted) => Truth::about(device, |device| wanted.contains(&device.sha256)),
            Condition::DeviceSubject(wanted) => globbed(wanted, device.and_then(|device| device.subject.as_ref())),
            Condition::DeviceName(wanted) => {
                let any = |device: &Device| device.names.iter().any(|name| wanted.iter().any(|glob| glob.matches(name)));
                Truth::about(device, any)
            }
            Condition::ProcessExecutable(wanted) => globbed(wanted, process.and_then(|process| process.executable.as_ref())),
            Condition::ProcessHash(wanted) => {
                Truth::about(process.and_then(|process| process.sha256.as_ref()), |hash| wanted.contains(hash))
            }
            Condition::ProcessUser(wanted) => Truth::about(process.and_then(|process| process.user.as_ref()), |user| wanted.contains(user)),
            Condition::ProcessCgroup(wanted) => globbed(wanted, process.and_then(|process| process.cgroup.as_ref())),
            Condition::ProcessUnit(wanted) => globbed(wanted, process.and_then(|process| process.unit.as_ref())),
        }
    }

    /// The key in the file.
    pub(crate) const fn key(&self) -> &'static str {
        match self {
            Condition::Users(_) => "users",
            Condition::Groups(_) => "groups",
            Condition::Domains(_) => "domains",
            Condition::Clients(_) => "clients",
            Condition::Scopes(_) => "scopes",
            Condition::Acr(_) => "acr",
            Condition::Amr(_) => "amr",
            Condition::Methods(_) => "methods",
            Condition::Networks(_) => "networks",
            Condition::Countries(_) => "countries",
            Condition::DeviceAny => "device.certificate",
            Condition::DeviceHash(_) => "device.sha256",
            Condition::DeviceSubject(_) => "device.subject",
            Condition::DeviceName(_) => "device.san",
            Condition::ProcessExecutable(_) => "process.executable",
            Condition::ProcessHash(_) => "process.sha256",
            Condition::ProcessUser(_) => "process.user",
            Condition::ProcessCgroup(_) => "process.cgroup",
            Condition::ProcessUnit(_) => "process.unit",
        }
    }

    /// The caller's value of it, for explanations.
    pub(crate) fn found(&self, caller: &Caller) -> String {
        let names = |names: &[SmolStr]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let one = |fact: Option<&SmolStr>| fact.map_or_else(|| "unknown".to_owned(), SmolStr::to_string);
        let listed = |list: &Names| if *list == Names::Unknown { "unknown".to_owned() } else { names(list) };
        let device = |fact: fn(&Device) -> Option<&SmolStr>| one(caller.device.as_ref().and_then(fact));
        let process = |fact: fn(&Process) -> Option<&SmolStr>| one(caller.process.as_ref().and_then(fact));
        match self {
            Condition::Users(_) => {
                let known: Vec<_> = [&caller.user, &caller.email].into_iter().flatten().cloned().collect();
                if known.is_empty() { "unknown".to_owned() } else { names(&known) }
            }
            Condition::Groups(_) => listed(&caller.groups),
            Condition::Domains(_) => one(caller.domain.as_ref()),
            Condition::Clients(_) => one(caller.client.as_ref()),
            Condition::Scopes(_) => listed(&caller.scopes),
            Condition::Acr(_) => one(caller.acr.as_ref()),
            Condition::Amr(_) => listed(&caller.amr),
            Condition::Methods(_) => caller.method.as_str().to_owned(),
            Condition::Networks(_) => caller.address.to_string(),
            Condition::Countries(_) => one(caller.country.as_ref()),
            Condition::DeviceAny | Condition::DeviceHash(_) => device(|device| Some(&device.sha256)),
            Condition::DeviceSubject(_) => device(|device| device.subject.as_ref()),
            Condition::DeviceName(_) => caller.device.as_ref().map_or_else(|| "unknown".to_owned(), |device| names(&device.names)),
            Condition::ProcessExecutable(_) => process(|process| process.executable.as_ref()),
            Condition::ProcessHash(_) => process(|process| process.sha256.as_ref()),
            Condition::ProcessUser(_) => process(|process| process.user.as_ref()),
            Condition::ProcessCgroup(_) => process(|process| process.cgroup.as_ref()),
            Condition::ProcessUnit(_) => process(|process| process.unit.as_ref()),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, values: &[T]) -> fmt::Result {
            values.iter().enumerate().try_for_each(|(n, value)| write!(f, "{}{value}", if n > 0 { ", " } else { "" }))
        }
        match self {
            Condition::DeviceAny => f.write_str("any"),
            Condition::Domains(domains) => list(f, domains),
            Condition::Networks(networks) => list(f, networks),
            Condition::DeviceSubject(globs)
            | Condition::DeviceName(globs)
            | Condition::ProcessExecutable(globs)
            | Condition::ProcessCgroup(globs)
            | Condition::ProcessUnit(globs) => list(f, globs),
            Condition::Users(names)
            | Condition::Groups(names)
            | Condition::Clients(names)
            | Condition::Scopes(names)
            | Condition::Acr(names)
            | Condition::Amr(names)
            | Condition::Methods(names)
            | Condition::Countries(names)
            | Condition::DeviceHash(names)
            | Condition::ProcessHash(names)
            | Condition::ProcessUser(names) => list(f, names),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domain::Exact(name) => f.write_str(name),
            Domain::Below(name) => write!(f, "*.{name}"),
        }
    }
}
