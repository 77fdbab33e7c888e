//! Any message of each direction.

use gnomon_link::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn text<const N: usize>() -> impl Strategy<Value = Text<N>> {
    prop_oneof![
        "[ -~]{0,20}".prop_map(|text| Text::cut(&text)),
        vec(any::<char>(), 0..30).prop_map(|text| Text::cut(&text.into_iter().collect::<String>())),
        Just(Text::cut(&"é".repeat(N))),
    ]
}

fn list<T: std::fmt::Debug + Clone, const N: usize>(entry: impl Strategy<Value = T>) -> impl Strategy<Value = List<T, N>> {
    vec(entry, 0..4).prop_map(List::cut)
}

fn version() -> impl Strategy<Value = Version> {
    any::<u16>().prop_map(|minor| Version { major: VERSION.major, minor })
}

fn features() -> impl Strategy<Value = List<Feature, 64>> {
    let states = vec![FeatureState::Ok, FeatureState::Unsupported, FeatureState::Broken, FeatureState::NotApplicable];
    list((text(), select(states), text()).prop_map(|(name, state, reason)| Feature { name, state, reason }))
}

fn settings() -> impl Strategy<Value = ScopeSettings> {
    let ports = prop_oneof![Just(Ports::All), list(any::<u16>()).prop_map(Ports::Listed)];
    let mode = select(vec![Mode::Observe, Mode::Redirect, Mode::Off]);
    let quic = select(vec![Quic::Refuse, Quic::Leave]);
    let fail = select(vec![Fail::Open, Fail::Closed]);
    (any::<u32>(), mode, ports, quic, fail).prop_map(|(id, mode, ports, quic, fail)| ScopeSettings { id, mode, ports, quic, fail })
}

fn family() -> impl Strategy<Value = Family> {
    select(vec![Family::V4, Family::V6])
}

pub fn to_sensor() -> impl Strategy<Value = ToSensor> {
    let n = any::<u64>;
    let change = prop_oneof![
        (n(), settings()).prop_map(|(cgroup, settings)| ScopeChange::Set { cgroup, settings }),
        n().prop_map(|cgroup| ScopeChange::Remove { cgroup }),
        settings().prop_map(|settings| ScopeChange::Default { settings }),
    ];
    prop_oneof![
        version().prop_map(|version| ToSensor::Hello { version }),
        (n(), any::<u32>(), n(), n(), n()).prop_map(|(token, pid, connected_boot_ns, generation_boot_ns, cookie)| ToSensor::Resolve {
            token,
            pid,
            connected_boot_ns,
            generation_boot_ns,
            cookie
        }),
        (n(), n(), any::<u32>()).prop_map(|(token, netns_cookie, pid)| ToSensor::ListenIn { token, netns_cookie, pid }),
        (n(), change).prop_map(|(token, change)| ToSensor::Scope { token, change }),
        n().prop_map(|token| ToSensor::Features { token }),
        n().prop_map(|token| ToSensor::Counters { token }),
        n().prop_map(|netns_cookie| ToSensor::Accepting { netns_cookie }),
        (n(), any::<u32>()).prop_map(|(netns_cookie, pid)| ToSensor::ListenWhere { netns_cookie, pid }),
        (n(), n(), family()).prop_map(|(token, netns_cookie, family)| ToSensor::OpenSocket { token, netns_cookie, family }),
        any::<u16>().prop_map(|port| ToSensor::ExplicitPort { port }),
        (n(), n(), any::<std::net::SocketAddr>(), any::<u32>(), any::<u8>()).prop_map(|(token, netns_cookie, address, uid, seconds)| {
            ToSensor::Failed {
                token,
                netns_cookie,
                // The scope id and flow label of an IPv6 address are not sent.
                address: (address.ip(), address.port()).into(),
                uid,
                seconds,
            }
        }),
        (n(), select(vec![Homes::OfTheHost, Homes::Always])).prop_map(|(token, homes)| ToSensor::ReadHomes { token, homes }),
        (n(), select(vec![Homes::OfTheHost, Homes::Always])).prop_map(|(token, homes)| ToSensor::ReadChangedHomes { token, homes }),
        select(vec![Starts::Remembered, Starts::Reported]).prop_map(|starts| ToSensor::ReportStarts { starts }),
        (n(), any::<u32>(), n(), select(vec![Lineage::Left, Lineage::Read]))
            .prop_map(|(token, pid, began_boot_ns, lineage)| ToSensor::ReadStart { token, pid, began_boot_ns, lineage }),
        (n(), any::<u32>(), n()).prop_map(|(token, pid, started_boot_ns)| ToSensor::ReadListens { token, pid, started_boot_ns }),
        (n(), any::<u32>(), n(), n()).prop_map(|(token, pid, connected_boot_ns, generation_boot_ns)| ToSensor::ResolveSoon {
            token,
            pid,
            connected_boot_ns,
            generation_boot_ns
        }),
        (n(), n(), family(), any::<(u32, u32)>()).prop_map(|(token, netns_cookie, family, (uid, gid))| ToSensor::OpenSocketAs {
            token,
            netns_cookie,
            family,
            uid,
            gid
        }),
    ]
}

fn listens() -> impl Strategy<Value = ListensAnswer> {
    let address = any::<std::net::SocketAddr>().prop_map(|address| std::net::SocketAddr::from((address.ip(), address.port())));
    prop_oneof![list(address).prop_map(ListensAnswer::At), Just(ListensAnswer::Gone), text().prop_map(ListensAnswer::Unreadable)]
}

fn executable() -> impl Strategy<Value = Executable> {
    let image = select(vec![Image::OnDisk, Image::Deleted, Image::Memory]);
    prop_oneof![
        (text(), image, option::of(any::<[u8; 32]>())).prop_map(|(path, image, sha256)| Executable::File { path, image, sha256 }),
        Just(Executable::Kernel),
        Just(Executable::Hidden),
    ]
}

fn credentials() -> impl Strategy<Value = Credentials> {
    let ids = any::<(u32, u32, u32)>();
    (ids, option::of(text()), list(any::<u32>()), list(text())).prop_map(|((uid, effective_uid, gid), user, groups, group_names)| {
        Credentials { uid, effective_uid, user, gid, groups, group_names }
    })
}

fn identity() -> impl Strategy<Value = Identity> {
    let generation = select(vec![GenerationEvidence::Confirmed, GenerationEvidence::Unverified]);
    let command_line = prop_oneof![text().prop_map(CommandLine::Whole), text().prop_map(CommandLine::Cut), Just(CommandLine::Unreadable)];
    let ancestors = list((any::<u32>(), option::of(text())).prop_map(|(pid, executable)| Ancestor { pid, executable }));
    let standing = prop_oneof![Just(NameOrigin::System), any::<u32>().prop_map(NameOrigin::Claimed)];
    let containers = list((text(), text(), standing).prop_map(|(id, runtime, standing)| Container { id, runtime, standing }));
    let place = (text(), containers, option::of(text()));
    (any::<(u32, u64)>(), generation, executable(), command_line, option::of(credentials()), ancestors, place).prop_map(
        |((pid, started_boot_ns), generation, executable, command_line, credentials, ancestors, (cgroup, containers, pod))| Identity {
            pid,
            started_boot_ns,
            generation,
            executable,
            command_line,
            credentials,
            ancestors,
            cgroup,
            containers,
            pod,
        },
    )
}

fn started() -> impl Strategy<Value = StartAnswer> {
    let arguments = prop_oneof![text().prop_map(Arguments::Whole), text().prop_map(Arguments::Cut), Just(Arguments::Unreadable)];
    let parent = (any::<(u32, u64)>(), option::of(text()), text());
    let parent = parent.prop_map(|((pid, started_boot_ns), executable, arguments)| Parent { pid, started_boot_ns, executable, arguments });
    let program = (any::<u64>(), option::of(text()), arguments, list(parent));
    prop_oneof![
        program.prop_map(|(started_boot_ns, executable, arguments, parents)| {
            StartAnswer::Program(Box::new(Started { started_boot_ns, executable, arguments, parents }))
        }),
        Just(StartAnswer::Gone),
        Just(StartAnswer::Stale),
        text().prop_map(StartAnswer::Unreadable),
    ]
}

pub fn to_proxy() -> impl Strategy<Value = ToProxy> {
    let n = any::<u64>;
    let found = prop_oneof![
        identity().prop_map(|found| IdentityAnswer::Identity(Box::new(found))),
        Just(IdentityAnswer::Gone),
        Just(IdentityAnswer::Stale),
        text().prop_map(IdentityAnswer::Unreadable)
    ];
    let counts = list((text(), n()).prop_map(|(outcome, count)| Count { outcome, count }));
    let programs = list((text(), counts).prop_map(|(name, counts)| Program { name, counts }));
    let why = select(vec![
        RefusalReason::Gone,
        RefusalReason::OtherNamespace,
        RefusalReason::NotAllowed,
        RefusalReason::Full,
        RefusalReason::Unsupported,
        RefusalReason::Failed,
    ]);
    let families = select(vec![Families::Both, Families::V4]);
    prop_oneof![
        (version(), features()).prop_map(|(version, features)| ToProxy::Welcome { version, features }),
        any::<u32>().prop_map(|ring_bytes| ToProxy::Maps { ring_bytes }),
        (n(), found).prop_map(|(token, found)| ToProxy::Process { token, found }),
        (n(), n(), any::<u16>(), families).prop_map(|(token, netns_cookie, port, families)| ToProxy::Listeners {
            token,
            netns_cookie,
            port,
            families
        }),
        n().prop_map(|token| ToProxy::Done { token }),
        (n(), family()).prop_map(|(token, family)| ToProxy::Socket { token, family }),
        (text(), prop_oneof![Just(Adoption::Adopted), text().prop_map(Adoption::Lost)])
            .prop_map(|(cgroup, adoption)| ToProxy::ExecScope { cgroup, adoption }),
        (n(), features()).prop_map(|(token, features)| ToProxy::Features { token, features }),
        (n(), programs).prop_map(|(token, programs)| ToProxy::Counters { token, programs }),
        (n(), any::<u32>(), text(), text()).prop_map(|(token, uid, name, home)| ToProxy::Home { token, uid, name, home }),
        (n(), started()).prop_map(|(token, found)| ToProxy::Start { token, found }),
        (n(), listens()).prop_map(|(token, found)| ToProxy::ListensAt { token, found }),
        (n(), why, text()).prop_map(|(token, why, detail)| ToProxy::Refused { token, why, detail }),
    ]
}

pub fn to_gnomon() -> impl Strategy<Value = ToGnomon> {
    let redirect = select(vec![Redirect::On, Redirect::Off]);
    (version(), text(), redirect).prop_map(|(version, argv0, redirect)| ToGnomon::Join { version, argv0, redirect })
}

pub fn to_exec() -> impl Strategy<Value = ToExec> {
    let bundle = prop_oneof![Just(Bundle::None), text().prop_map(Bundle::At), Just(Bundle::Attached)];
    let why = select(vec![Denial::Version, Denial::NotAllowed, Denial::NoSensor, Denial::UnknownPeer, Denial::Full, Denial::Failed]);
    prop_oneof![
        (version(), why, text(), text()).prop_map(|(version, why, detail, next)| ToExec::Denied { version, why, detail, next }),
        (text(), bundle).prop_map(|(cgroup, bundle)| ToExec::Joined { cgroup, bundle }),
    ]
}
