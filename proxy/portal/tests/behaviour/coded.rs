//! Code Mode: two tools in place of all others, which allow nothing that was not allowed without it.

use crate::{
    Running, Setup,
    admission::two_tokens,
    client::{Answer, Client},
    server::{Server, Speaks},
};
use gnomon_audit::{RecordKind, Status};
use gnomon_portal::CodeMode;
use serde_json::{Value, json};
use std::time::Duration;

const CODE: &str = "?codemode=search_and_execute";

async fn run(client: &mut Client, tool: &str, code: &str) -> Answer {
    client.call(&format!("portal_codemode_{tool}"), json!({"code": code})).await
}

fn failed(answer: &Answer) -> bool {
    answer.last()["result"]["isError"] == true
}

#[tokio::test]
async fn the_url_says_whether_code_mode_is_offered_as_far_as_the_portal_lets_it() {
    let server = Server::start("one", Speaks::Both).await;
    let pair = ["portal_codemode_search", "portal_codemode_execute"];
    for (mode, query, tools) in [
        (CodeMode::OptIn, "", Some(6)),
        (CodeMode::OptIn, CODE, Some(2)),
        (CodeMode::DefaultOn, "", Some(2)),
        (CodeMode::DefaultOn, "?codemode=off", Some(6)),
        (CodeMode::Enforced, "", Some(2)),
        (CodeMode::Enforced, "?codemode=off", None),
        (CodeMode::Off, "", Some(6)),
        (CodeMode::Off, CODE, None),
    ] {
        let portal = Setup::of([("one", server.url())]).code_mode(mode).start().await;
        let mut client = Client::modern(portal.address).at(query);
        let Some(tools) = tools else {
            assert_eq!(client.request("tools/list", json!({})).await.status, 400, "{mode:?} {query}");
            continue;
        };
        let names = client.names("tools/list", "tools", "name").await;
        assert_eq!(names.len(), tools, "{mode:?} {query}");
        if tools == 2 {
            assert_eq!(names, pair);
            let direct = client.call("one_echo", json!({"text": "x"})).await;
            assert_eq!(direct.last()["error"]["code"], -32602, "a tool is called within a script or not at all");
        } else {
            assert_eq!(run(&mut client, "execute", "1").await.last()["error"]["code"], -32602);
        }
    }
}

/// Tools like those of a company's ticket system and file store.
async fn office() -> (Server, Server) {
    let jira = json!([
        {"name": "search_jira_with_jql", "description": "Find tickets by a query", "inputSchema": {"type": "object", "properties": {"jql": {"type": "string"}}, "required": ["jql"]}},
        {"name": "update_jira_ticket", "description": "Change a ticket", "inputSchema": {"type": "object", "properties": {"key": {"type": "string"}, "comment": {"type": "string"}}, "required": ["key", "comment"]}},
    ]);
    let drive = json!([
        {"name": "drive_get_content", "description": "The text of a document", "inputSchema": {"type": "object", "properties": {"fileId": {"type": "string"}}, "required": ["fileId"]}},
    ]);
    let jira = Server::with_tools("jira", Speaks::Legacy, jira, |tool, arguments| match tool {
        "search_jira_with_jql" => {
            json!({"content": [{"type": "text", "text": json!([{"key": "OPS-7", "document": "doc-1"}, {"key": "OPS-8"}]).to_string()}]})
        }
        _ if arguments["key"] == "OPS-7" => {
            json!({"content": [], "structuredContent": {"updated": arguments["key"], "comment": arguments["comment"]}})
        }
        _ => json!({"content": [{"type": "text", "text": "no such ticket"}], "isError": true}),
    })
    .await;
    let drive = Server::with_tools("google", Speaks::Modern, drive, |_, arguments| {
        json!({"content": [{"type": "text", "text": format!("The plan of {}", arguments["fileId"].as_str().unwrap_or_default())}]})
    })
    .await;
    (jira, drive)
}

#[tokio::test]
async fn tools_are_found_and_chained_with_plain_values_whatever_eras_their_servers_are_of() {
    let (jira, drive) = office().await;
    let portal = Setup::of([("jira", jira.url()), ("google", drive.url())]).start().await;
    let find = "async () => {
        const tools = await codemode.tools();
        return tools.filter(t => t.name.includes('jira') || t.name.includes('drive'))
            .map(t => ({ name: t.name, params: Object.keys(t.inputSchema.properties || {}) }));
    }";
    let chain = "async () => {
        const tickets = await codemode.jira_search_jira_with_jql({ jql: 'assignee = currentUser()' });
        const plan = await codemode.google_drive_get_content({ fileId: tickets[0].document });
        return codemode.jira_update_jira_ticket({ key: tickets[0].key, comment: plan });
    }";
    for mut client in [Client::legacy(portal.address).await.at(CODE), Client::modern(portal.address).at(CODE)] {
        let found: Value = serde_json::from_str(run(&mut client, "search", find).await.text()).unwrap();
        assert_eq!(
            found,
            json!([
                {"name": "jira_search_jira_with_jql", "params": ["jql"]},
                {"name": "jira_update_jira_ticket", "params": ["key", "comment"]},
                {"name": "google_drive_get_content", "params": ["fileId"]},
            ])
        );
        let updated: Value = serde_json::from_str(run(&mut client, "execute", chain).await.text()).unwrap();
        assert_eq!(updated, json!({"updated": "OPS-7", "comment": "The plan of doc-1"}));
        let ranked = run(&mut client, "search", "async () => (await codemode.search('change ticket')).map(t => t.name)").await;
        assert!(ranked.text().starts_with("[\"jira_update_jira_ticket\""), "{}", ranked.text());
        let declared = run(&mut client, "search", "codemode.describe('google_drive_get_content')").await;
        assert!(declared.text().contains("fileId: string"), "{}", declared.text());
        let thrown = run(&mut client, "execute", "codemode.jira_update_jira_ticket({key: 'OPS-9', comment: 'x'})").await;
        assert!(failed(&thrown) && thrown.text().contains("no such ticket"), "{thrown:?}");
        let unfit = run(&mut client, "execute", "codemode.jira_update_jira_ticket({})").await;
        assert!(failed(&unfit) && unfit.text().contains("input schema"), "{unfit:?}");
    }
}

#[tokio::test]
async fn what_policy_hides_does_not_exist_for_a_script_by_any_road() {
    let (jira, drive) = office().await;
    let policy = "[{allow: {servers: [jira], tools: [search_jira_with_jql]}}]";
    let portal = Setup::of([("jira", jira.url()), ("google", drive.url())]).policy(policy).start().await;
    let mut client = Client::modern(portal.address).at(CODE);
    for code in [
        "async () => (await codemode.tools()).map(t => t.name)",
        "async () => (await codemode.search('update ticket jira')).map(t => t.name)",
    ] {
        assert_eq!(run(&mut client, "search", code).await.text(), "[\"jira_search_jira_with_jql\"]");
    }
    assert!(failed(&run(&mut client, "search", "codemode.describe('jira_update_jira_ticket')").await));
    for code in [
        "codemode.jira_update_jira_ticket({key: 'OPS-7', comment: 'x'})",
        "codemode['jira_' + 'update_jira_ticket']({key: 'OPS-7', comment: 'x'})",
        "codemode.__proto__.jira_update_jira_ticket({key: 'OPS-7', comment: 'x'})",
        "Reflect.get(codemode, 'jira_update_jira_ticket')({key: 'OPS-7', comment: 'x'})",
        "Object.setPrototypeOf(codemode, {}); codemode.jira_update_jira_ticket({key: 'OPS-7', comment: 'x'})",
        "codemode.update_jira_ticket({key: 'OPS-7', comment: 'x'})",
        "codemode.portal_codemode_execute({code: '1'})",
        "codemode['tools/call']({name: 'jira_update_jira_ticket'})",
    ] {
        let answer = run(&mut client, "execute", code).await;
        assert!(failed(&answer), "{code}: {answer:?}");
    }
    assert!(jira.got("tools/call").is_empty() && drive.got("tools/call").is_empty());
}

#[tokio::test]
async fn scripts_see_another_policy_and_other_tools_from_their_next_execution_on() {
    let (jira, drive) = office().await;
    let portal = Setup::of([("jira", jira.url()), ("google", drive.url())]).start().await;
    let mut client = Client::modern(portal.address).at(CODE);
    let names = "async () => (await codemode.tools()).map(t => t.name)";
    let update = "codemode.jira_update_jira_ticket({key: 'OPS-7', comment: 'x'})";
    assert!(run(&mut client, "search", names).await.text().contains("jira_update_jira_ticket"));
    assert!(!failed(&run(&mut client, "execute", update).await));
    portal.regulate("[{allow: {servers: [jira], tools: [search_jira_with_jql]}}]");
    assert_eq!(run(&mut client, "search", names).await.text(), "[\"jira_search_jira_with_jql\"]");
    assert!(failed(&run(&mut client, "execute", update).await));
    portal.regulate("[{allow: {servers: [google]}}]");
    assert_eq!(run(&mut client, "search", names).await.text(), "[\"google_drive_get_content\"]");
    assert_eq!(jira.got("tools/call").len(), 1);
}

#[tokio::test]
async fn calls_of_a_script_are_judged_and_recorded_like_any_other_under_its_execution() {
    let (jira, drive) = office().await;
    let setup = Setup::of([("jira", jira.url()), ("google", drive.url())]).rule("block", "gen_ai.tool.call.arguments|contains: secret");
    let portal = setup.start().await;
    let mut client = Client::modern(portal.address).at(CODE);
    let code = "async () => { await codemode.jira_search_jira_with_jql({jql: 'x'}); return codemode.google_drive_get_content({fileId: 'secret'}); }";
    let answer = run(&mut client, "execute", code).await;
    assert!(failed(&answer) && answer.text().contains("Rule 0"), "{answer:?}");
    assert!(drive.got("tools/call").is_empty());
    let records = portal.records(4).await;
    let calls: Vec<_> = records.iter().filter(|record| record.kind == RecordKind::Call).collect();
    let told: Vec<_> = calls.iter().map(|call| (call.tool.as_deref().unwrap(), call.status.unwrap())).collect();
    assert_eq!(
        told,
        [("search_jira_with_jql", Status::Ok), ("drive_get_content", Status::Refused), ("portal_codemode_execute", Status::Error)]
    );
    assert!(calls.iter().all(|call| call.execution.is_some() && call.execution == calls[0].execution), "{calls:?}");
    assert_eq!((calls[2].calls, calls[2].code_sha256.as_ref().map(|digest| digest.len())), (Some(2), Some(64)));
    assert!(!format!("{records:?}").contains("fileId"), "code is not recorded");
    let events = portal.events(2).await;
    let within = events.iter().filter(|event| event["gnomon.execution.id"] == json!(calls[0].execution)).count();
    assert_eq!(within, 2, "{events:#?}");
}

#[tokio::test]
async fn tools_that_are_too_much_for_a_script_to_read_in_full_are_all_told_on_a_line_each() {
    // Each server's own list is within its bound, and both together have more than a script is told at once.
    let tools = |name: &str| -> Value {
        let tool = |n: usize| {
            let description = format!("Does what {name}{n} does. {}", "And more. ".repeat(11_000));
            json!({"name": format!("{name}{n}"), "description": description, "inputSchema": {"type": "object"}})
        };
        (0..45).map(tool).collect()
    };
    let one = Server::with_tools("one", Speaks::Both, tools("a"), |_, _| json!({"content": []})).await;
    let two = Server::with_tools("two", Speaks::Both, tools("b"), |_, _| json!({"content": []})).await;
    let mut setup = Setup::of([("one", one.url()), ("two", two.url())]);
    setup.limits.message = 8 << 20;
    let portal = setup.start().await;
    let mut client = Client::modern(portal.address).at(CODE);
    let code = "async () => (await codemode.tools()).map(t => [t.name, Object.keys(t).join(), t.signature, t.summary])";
    let told = crate::soon("the tools of both", async {
        loop {
            let told: Vec<Value> = serde_json::from_str(run(&mut client, "search", code).await.text()).unwrap_or_default();
            if told.len() == 90 {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let names = (0..45).map(|n| ("one", format!("a{n}"))).chain((0..45).map(|n| ("two", format!("b{n}"))));
    for (told, (server, tool)) in told.into_iter().zip(names) {
        let (name, summary) = (format!("{server}_{tool}"), format!("Does what {tool} does"));
        assert_eq!(told, json!([name, "name,signature,summary,server", format!("{name}()"), summary]));
    }
}

/// Waits until this many events of class policy are on disk.
async fn of_policy(portal: &Running, count: usize) -> Vec<Value> {
    let mut all = count;
    loop {
        let events = portal.events(all).await;
        all = events.len() + 1;
        let of_policy: Vec<Value> = events.into_iter().filter(|event| event["gnomon.detection.class"] == "policy").collect();
        if of_policy.len() >= count {
            return of_policy;
        }
    }
}

#[tokio::test]
async fn a_script_that_calls_what_is_hidden_or_not_there_is_refused_and_recorded_as_a_direct_call_is() {
    let (jira, drive) = office().await;
    let policy = "[{allow: {servers: [jira], tools: [search_jira_with_jql]}}]";
    let setup = || Setup::of([("jira", jira.url()), ("google", drive.url())]).policy(policy).rule("log", "gen_ai.tool.name: none");
    // What a direct call of each leaves in the records.
    let portal = setup().start().await;
    let mut direct = Client::modern(portal.address);
    for name in ["jira_update_jira_ticket", "google_drive_get_content", "jira_serach"] {
        assert_eq!(direct.call(name, json!({})).await.last()["error"]["code"], -32602);
    }
    let told = |records: &[gnomon_audit::Record]| -> Vec<_> {
        let calls = records.iter().filter(|record| record.kind == RecordKind::Call && record.status == Some(Status::Refused));
        calls.map(|call| (call.tool.clone(), call.error.clone(), call.policy_line.clone(), call.server.clone())).collect()
    };
    let of_event = |event: &Value| ["gnomon.action", "gen_ai.tool.name", "error.type", "gnomon.server.id"].map(|key| event[key].clone());
    let directly = told(&portal.records(4).await);
    let events: Vec<_> = of_policy(&portal, 3).await.iter().map(of_event).collect();
    assert_eq!(directly.len(), 3, "{directly:?}");
    for code in [
        "async () => { for (const name of ['jira_update_jira_ticket', 'google_drive_get_content', 'jira_serach']) try { await codemode[name]({}) } catch {} return 'ok' }",
        "async () => { for (const name of ['jira-update_jira_ticket', 'google_drive_get_content', 'jira_serach']) try { await codemode.withMeta(name, {}) } catch {} return 'ok' }",
    ] {
        for tool in ["execute", "search"] {
            let portal = setup().start().await;
            let mut client = Client::modern(portal.address).at(CODE);
            let answer = run(&mut client, tool, code).await;
            assert!(answer.text().starts_with("ok\n\nNote: "), "{answer:?}");
            let records = portal.records(5).await;
            assert_eq!(told(&records), directly, "{tool}: {code}");
            let calls: Vec<_> = records.iter().filter(|record| record.kind == RecordKind::Call).collect();
            assert!(calls.iter().all(|call| call.execution.is_some() && call.execution == calls[0].execution), "{calls:?}");
            let seen = of_policy(&portal, 3).await;
            assert_eq!(seen.iter().map(of_event).collect::<Vec<_>>(), events, "{tool}: {code}");
            assert!(seen.iter().all(|event| event["gnomon.execution.id"] == json!(calls[0].execution)), "{seen:#?}");
        }
    }
    // The same for a name that no tool can have; nothing that a script reads tells the cases apart.
    let portal = setup().start().await;
    let mut client = Client::modern(portal.address).at(CODE);
    assert!(failed(&run(&mut client, "execute", "codemode['x'.repeat(1000)]({})").await));
    assert_eq!(told(&portal.records(3).await).len(), 1);
    let said = |name: &str| format!("async () => codemode.{name}({{}}).catch(e => e.message.replaceAll('{name}', 'NAME'))");
    let hidden = run(&mut client, "execute", &said("google_drive_get_content")).await;
    let absent = run(&mut client, "execute", &said("google_drive_zzz_zzzzzzz")).await;
    assert_eq!(hidden.text(), absent.text());
    assert!(jira.got("tools/call").is_empty() && drive.got("tools/call").is_empty());
}

#[tokio::test]
async fn a_script_without_an_end_is_stopped_with_a_reason_and_affects_no_other() {
    let (jira, _drive) = office().await;
    let portal = Setup::of([("jira", jira.url())]).start().await;
    let (mut one, mut two) = (Client::modern(portal.address).at(CODE), Client::modern(portal.address).at(CODE));
    let (endless, quick) = tokio::join!(run(&mut one, "execute", "while (true) {}"), run(&mut two, "execute", "1 + 1"));
    assert_eq!(quick.text(), "2");
    // On a busy machine its time in all may be over before it has computed for that long.
    let ended = ["computed for more than 2 s", "took longer than 60 s in all"].iter().any(|why| endless.text().contains(why));
    assert!(failed(&endless) && ended, "{endless:?}");
    let mut client = Client::modern(portal.address).at(CODE);
    assert!(failed(&client.call("portal_codemode_execute", json!({})).await), "code is missing");
}

#[tokio::test]
async fn a_model_reads_as_little_with_many_servers_as_with_one() {
    let (jira, drive) = office().await;
    let few = Setup::of([("jira", jira.url())]).start().await;
    let many = Setup::of([("jira", jira.url()), ("google", drive.url()), ("wiki", jira.url()), ("files", drive.url())]).start().await;
    let mut texts = Vec::new();
    for portal in [&few, &many] {
        let client = Client::modern(portal.address).at(CODE);
        let begun = client.initialize().await;
        assert!(begun.last()["result"]["instructions"].is_null(), "{begun:?}");
        texts.push(Client::modern(portal.address).at(CODE).request("tools/list", json!({})).await.last()["result"]["tools"].to_string());
    }
    assert_eq!(texts[0], texts[1]);
    assert!(texts[0].len() < 1800, "{} bytes are more than 450 tokens", texts[0].len());
}

#[tokio::test]
async fn smaller_lists_without_code_lead_to_the_same_tools() {
    let (jira, drive) = office().await;
    let policy = "[{allow: {servers: [jira]}}]";
    let portal = Setup::of([("jira", jira.url()), ("google", drive.url())]).policy(policy).start().await;
    let mut names = Client::modern(portal.address).at("?optimize_context=minimize_tools");
    let listed = names.names("tools/list", "tools", "name").await;
    assert_eq!(listed, ["portal_query_tools", "jira_search_jira_with_jql", "jira_update_jira_ticket"]);
    let told = names.call("portal_query_tools", json!({"query": "CHANGE a"})).await;
    assert!(told.text().contains("jira_update_jira_ticket") && !told.text().contains("search_jira"), "{told:?}");
    assert!(!failed(&names.call("jira_search_jira_with_jql", json!({"jql": "x"})).await));
    let mut two = Client::modern(portal.address).at("?optimize_context=search_and_execute");
    assert_eq!(two.names("tools/list", "tools", "name").await, ["portal_query_tools", "portal_execute"]);
    let called = two.call("portal_execute", json!({"name": "jira_search_jira_with_jql", "args": {"jql": "x"}})).await;
    assert!(called.text().contains("OPS-7"), "{called:?}");
    let hidden = two.call("portal_execute", json!({"name": "google_drive_get_content", "args": {"fileId": "x"}})).await;
    assert_eq!(hidden.last()["error"]["code"], -32602, "{hidden:?}");
    assert!(failed(&two.call("portal_query_tools", json!({"query": "("})).await));
    assert!(drive.got("tools/call").is_empty());
}

#[tokio::test]
async fn one_caller_s_scripts_that_wait_for_a_slow_tool_leave_places_to_others_and_to_every_search() {
    let server = Server::start("one", Speaks::Both).await;
    let (auth, [ada, eve]) = two_tokens();
    let portal = Setup::of([("one", server.url())]).auth(auth).code_mode(CodeMode::Enforced).workers(8).start().await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut client = Client::modern(portal.address).holding(&ada);
        waiting.spawn(async move { run(&mut client, "execute", "async () => codemode.one_wait({})").await });
    }
    crate::soon("the calls", async {
        while server.got("tools/call").len() < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    for bearer in [&ada, &eve] {
        let mut client = Client::modern(portal.address).holding(bearer);
        let found = run(&mut client, "search", "async () => (await codemode.search('echo')).length").await;
        assert!(!failed(&found), "{found:?}");
    }
    let mut client = Client::modern(portal.address).holding(&eve);
    let done = run(&mut client, "execute", "async () => codemode.one_echo({text: 'here'})").await;
    assert!(!failed(&done) && done.text().contains("here"), "{done:?}");
    let calls = server.got("tools/call");
    let waits = calls.iter().filter(|got| got.body["params"]["name"] == "wait").count();
    assert_eq!(waits, 6, "three quarters are one caller's share");
}
