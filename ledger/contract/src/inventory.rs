//! Servers, and the names that were seen at them.

use crate::{
    Engine,
    stage::{KEEP, START, append, call, questions, with},
};
use gnomon_ledger_model::{Contact, FirstSeen, MAX_CLIENTS, MAX_PATHS_PER_HOST, MAX_PROTOCOLS, MAX_SERVERS, MAX_TOOLS, ServerStatus};
use gnomon_observe::{Channel, Confidence, Field};

/// Rules of several classes make an event each, and what became of a call later is another.
pub async fn a_call_that_is_several_events_is_one_call_and_what_could_not_be_read_makes_no_server(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    let one = |number| with(call("mcp.example.com", number), &[(Field::ObservationId, "0197a000-0000-7000-8000-000000000001")]);
    let outcome = with(one(3), &[(Field::EventKind, "outcome")]);
    let mut unread = call("mcp.example.com", 4);
    unread.clear(Field::Confidence);
    for field in [Field::McpMethod, Field::Tools, Field::UrlPath] {
        unread.clear(field);
        unread.set_unreadable(field);
    }
    let first = append(&mut *store, [(one(1), 10), (one(2), 11), (unread, 20)]).await;
    assert_eq!(first, FirstSeen { sanctioned: 0, shadow: 1 });
    assert_eq!(append(&mut *store, [(outcome, 5_000)]).await, FirstSeen::default());
    store.close().await.unwrap();
    let servers = questions(engine).await.inventory().await.unwrap();
    assert_eq!(servers.iter().map(|server| (server.path.as_str(), server.calls)).collect::<Vec<_>>(), [("/mcp", 1)]);
}

/// One for each package or file, with its last version, the agents that start it and the users who have it.
pub async fn a_server_that_is_started_here_is_an_entry_with_who_has_it(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    let started = |number, texts: &[(Field, &str)]| {
        let mut seen = with(call("", number), texts);
        for field in [Field::ServerAddress, Field::ServerPort, Field::McpMethod, Field::UrlPath] {
            seen.clear(field);
        }
        seen
    };
    let git = (Field::LocalServer, "pkg:pypi/mcp-server-git");
    let channel = (Field::Channel, "process");
    let mut listening = started(4, &[git, channel, (Field::UserName, "ada")]);
    listening.set(Field::LocalListens, vec!["0.0.0.0:8931".into(), "[::1]:8931".into()]);
    let rows = [
        (started(1, &[git, channel, (Field::PackageVersion, "1.0"), (Field::UserName, "ada"), (Field::Agent, "Codex")]), 10),
        (started(2, &[git, channel, (Field::PackageVersion, "1.1"), (Field::UserName, "bob"), (Field::Executable, "/usr/bin/node")]), 20),
        (started(3, &[(Field::LocalServer, "file:/opt/mcp-server"), channel, (Field::UserId, "1000")]), 30),
        (listening, 40),
    ];
    assert_eq!(append(&mut *store, rows).await, FirstSeen::default(), "they are no servers that traffic showed");
    store.close().await.unwrap();
    let servers = questions(engine).await.inventory().await.unwrap();
    let git = servers.iter().find(|server| server.address == "pkg:pypi/mcp-server-git").unwrap();
    assert!(git.is_local() && git.channel == Some(Channel::Process) && (git.port, git.calls) == (None, 0), "{git:?}");
    assert_eq!(
        (git.version.as_deref(), &git.users, &git.clients),
        (Some("1.1"), &vec!["ada".to_owned(), "bob".to_owned()], &vec!["Codex".to_owned()])
    );
    assert_eq!((servers.len(), &git.listens), (2, &vec!["0.0.0.0:8931".to_owned(), "[::1]:8931".to_owned()]));
}

/// An address at which nobody listens is no server in use, whenever that turns out; one that answered stays one.
pub async fn a_server_that_nobody_reached_is_told_from_those_in_use_and_from_those_that_are_listed(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    let unreached = |server, number| with(call(server, number), &[(Field::ErrorType, "upstream_unreachable")]);
    let answered = |server, number| {
        let mut seen = call(server, number);
        seen.set(Field::HttpStatus, 200_i64);
        seen
    };
    let mut listed = call("listed.example", 1);
    listed.clear(Field::McpMethod);
    listed.set(Field::Channel, "config");
    // It took too long to be told with its call.
    let mut late = unreached("late.example", 2);
    for field in [Field::McpMethod, Field::Confidence] {
        late.clear(field);
    }
    late.set(Field::EventKind, "outcome");
    let mut nowhere = late.clone();
    nowhere.set(Field::ServerAddress, "nothing-known.example");
    append(
        &mut *store,
        [
            (unreached("no.example", 3), 1),
            (unreached("no.example", 4), 2),
            (answered("up.example", 5), 3),
            (unreached("down.example", 6), 4),
            (listed.clone(), 5),
            (call("blocked.example", 7), 6),
            (call("late.example", 8), 7),
        ],
    )
    .await;
    // An entry of a configuration that changes makes a server that is called no listed one.
    let mut configured = listed;
    configured.set(Field::ServerAddress, "up.example");
    let rows = [(unreached("up.example", 9), 8), (answered("down.example", 10), 9), (late, 10), (nowhere, 11), (configured, 12)];
    append(&mut *store, rows).await;
    store.close().await.unwrap();
    let servers = questions(engine).await.inventory().await.unwrap();
    let mut shown: Vec<_> = servers.iter().map(|s| (s.address.as_str(), s.contact, s.calls, s.unreached)).collect();
    shown.sort_unstable();
    let expected = [
        ("blocked.example", Contact::Used, 1, 0),
        ("down.example", Contact::Used, 1, 1),
        ("late.example", Contact::Unreached, 0, 1),
        ("listed.example", Contact::Listed, 0, 0),
        ("no.example", Contact::Unreached, 0, 2),
        ("up.example", Contact::Used, 1, 1),
    ];
    assert_eq!(shown, expected);
    assert!(servers.iter().any(|s| s.address == "up.example" && s.channel == Some(Channel::Https)));
}

/// Earliest and latest moment, the sum of calls, what was said last, the highest confidence, all names.
pub async fn what_events_say_of_a_server_is_summed_up_over_groups(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    let texts = [
        (Field::McpServerName, "docs"),
        (Field::McpServerVersion, "1"),
        (Field::McpClientName, "codex"),
        (Field::McpProtocolVersion, "2025-11-25"),
    ];
    let mut listed = with(call("mcp.example.com", 1), &texts);
    listed.set(Field::Tools, vec!["echo".into(), "read_file".into()]);
    let first = append(&mut *store, [(listed, 10), (with(call("portal.example.com", 2), &[(Field::Catalogue, "mcp")]), 40)]).await;
    assert_eq!(first, FirstSeen { sanctioned: 0, shadow: 2 });
    let mut again = with(
        call("mcp.example.com", 3),
        &[(Field::McpServerVersion, "2"), (Field::Confidence, "probable"), (Field::McpClientName, "aider")],
    );
    again.set(Field::Tools, vec!["echo".into(), "hidden".into()]);
    let mut portal = call("portal.example.com", 4);
    portal.set(Field::Sanctioned, true);
    let mut other_port = call("portal.example.com", 5);
    other_port.set(Field::ServerPort, 8443_i64);
    other_port.set(Field::Sanctioned, true);
    let mut nowhere = call("local", 6);
    nowhere.clear(Field::ServerPort);
    let first = append(&mut *store, [(again, 5), (portal, 50), (other_port, 60), (nowhere, 70)]).await;
    assert_eq!(first, FirstSeen { sanctioned: 1, shadow: 1 });
    store.close().await.unwrap();
    let mut store = engine.store(KEEP).await;
    assert_eq!(append(&mut *store, [(call("mcp.example.com", 7), 20)]).await, FirstSeen::default());
    store.close().await.unwrap();

    let servers = questions(engine).await.inventory().await.unwrap();
    let shown: Vec<_> = servers.iter().map(|s| (s.address.as_str(), s.port, s.status, s.calls)).collect();
    let expected = [
        ("local", None, ServerStatus::Shadow, 1),
        ("portal.example.com", Some(8443), ServerStatus::Sanctioned, 1),
        ("portal.example.com", Some(443), ServerStatus::Sanctioned, 2),
        ("mcp.example.com", Some(443), ServerStatus::Shadow, 3),
    ];
    assert_eq!(shown, expected);
    let docs = &servers[3];
    assert_eq!((docs.first_seen_ms, docs.last_seen_ms, docs.path.as_str()), (START + 5, START + 20, "/mcp"));
    assert_eq!(
        (docs.tools.as_slice(), docs.clients.as_slice()),
        (["echo", "hidden", "read_file"].map(str::to_owned).as_slice(), ["aider", "codex"].map(str::to_owned).as_slice())
    );
    assert_eq!(
        (docs.protocols.as_slice(), docs.name.as_deref(), docs.version.as_deref()),
        (["2025-11-25".to_owned()].as_slice(), Some("docs"), Some("2"))
    );
    assert_eq!((docs.confidence, docs.channel), (Some(Confidence::Confirmed), Some(Channel::Https)));
    assert_eq!(servers[2].catalogue.as_deref(), Some("mcp"));
}

/// Strangers choose paths and names.
pub async fn paths_and_names_of_a_server_are_bounded(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    for round in 0..4_i64 {
        let events = (round * 250..round * 250 + 250).map(|n| {
            let (path, client, version) = (format!("/{}", n % 200), format!("client {n}"), format!("{n}"));
            let fields = [(Field::UrlPath, path.as_str()), (Field::McpClientName, &client), (Field::McpProtocolVersion, &version)];
            let mut seen = with(call("mcp.example.com", n), &fields);
            seen.set(Field::Tools, (n..n + 9).map(|t| format!("tool {t}").into()).collect::<Vec<_>>());
            (seen, n)
        });
        append(&mut *store, events).await;
    }
    store.close().await.unwrap();
    let servers = questions(engine).await.inventory().await.unwrap();
    assert_eq!(servers.len(), MAX_PATHS_PER_HOST + 1);
    assert_eq!(servers.iter().map(|s| s.calls).sum::<u64>(), 1_000);
    assert!(servers.iter().all(|s| s.clients.len() <= MAX_CLIENTS && s.tools.len() <= MAX_TOOLS && s.protocols.len() <= MAX_PROTOCOLS));
    let others = servers.iter().find(|s| s.path.is_empty()).unwrap();
    assert_eq!((others.clients.len(), others.tools.len(), others.protocols.len()), (MAX_CLIENTS, MAX_TOOLS, MAX_PROTOCOLS));
}

/// The rows of least confidence that were longest unseen are evicted.
pub async fn a_full_inventory_makes_room_for_who_is_seen_now(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    let suspected = |n: i64| with(call(&format!("s{n}.example"), n), &[(Field::Confidence, "suspected")]);
    append(&mut *store, [(call("old.example", -1), -1_000), (suspected(0), 1_000_000)]).await;
    let all = i64::try_from(MAX_SERVERS).unwrap();
    for begin in (1..all - 1).step_by(4096) {
        append(&mut *store, (begin..(begin + 4096).min(all - 1)).map(|n| (suspected(n), n))).await;
    }
    assert_eq!(questions(engine).await.inventory().await.unwrap().len(), MAX_SERVERS);
    assert_eq!(append(&mut *store, [(suspected(all), all)]).await, FirstSeen { sanctioned: 0, shadow: 1 });
    store.close().await.unwrap();
    let servers = questions(engine).await.inventory().await.unwrap();
    assert!(servers.len() < MAX_SERVERS && servers.len() > MAX_SERVERS / 2, "{}", servers.len());
    let is_there = |name: &str| servers.iter().any(|server| server.address == name);
    for (name, stays) in [("old.example", true), ("s0.example", true), ("s1.example", false), (&*format!("s{all}.example"), true)] {
        assert_eq!(is_there(name), stays, "{name}");
    }
}

/// A tool is new once.
pub async fn new_tools_are_those_first_seen_in_a_span(engine: &impl Engine) {
    let mut store = engine.store(KEEP).await;
    for (at, tools) in [(0, vec!["a"]), (10, vec!["a", "b"]), (20, vec!["b", "c"])] {
        let mut seen = with(call("mcp.example.com", at), &[(Field::McpClientName, "codex")]);
        seen.set(Field::Tools, tools.into_iter().map(Into::into).collect::<Vec<_>>());
        append(&mut *store, [(seen, at)]).await;
    }
    store.close().await.unwrap();
    let mut questions = questions(engine).await;
    let mut names = async |from: i64, until: i64, limit| {
        let found = questions.rows().new_tools(START + from..START + until, limit).await.unwrap();
        assert!(found.iter().all(|new| (new.address.as_str(), new.port, new.path.as_str()) == ("mcp.example.com", Some(443), "/mcp")));
        found.into_iter().map(|new| (new.name, new.first_seen_ms - START)).collect::<Vec<_>>()
    };
    let tool = |name: &str, at| (name.to_owned(), at);
    assert_eq!(names(0, 100, 10).await, [tool("c", 20), tool("b", 10), tool("a", 0)]);
    assert_eq!(names(1, 20, 10).await, [tool("b", 10)]);
    assert_eq!(names(0, 100, 1).await, [tool("c", 20)]);
}
