//! The program that connects: what policy may depend on, and what events report.

use crate::{
    Setup,
    client::Client,
    server::{Server, Speaks},
};
use gnomon_engine::Enforcement;
use gnomon_observe::{Field, Observation};
use gnomon_record::{Owned, Owners};
use serde_json::json;
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::net::TcpStream;

/// A sensor that reports this for every connection.
struct Attests(&'static str, &'static str);

impl Owners for Attests {
    fn owner<'a>(&'a self, stream: &'a TcpStream) -> Pin<Box<dyn Future<Output = Option<Owned>> + Send + 'a>> {
        let mut seen = Observation::new();
        seen.set(Field::Executable, self.0);
        seen.set(Field::ProcessIdentity, self.1);
        seen.set(Field::Pid, 4711_i64);
        seen.set(Field::UserName, "ada");
        seen.set(Field::Cgroup, "/system.slice/agent.service");
        let original = stream.local_addr().unwrap();
        let owned = Owned {
            cookie: 1,
            original,
            redirected: false,
            uid: 1000,
            gid: 1000,
            netns: 1,
            cgroup: 1,
            enforcement: Enforcement::Enforce,
            seen,
        };
        Box::pin(async { Some(owned) })
    }

    fn served(&self, _: u64) {}
    fn unreachable<'a>(&'a self, _: &'a Owned, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(std::future::ready(()))
    }
}

const POLICY: &str = r#"[{allow: {servers: [one], process: {executable: ["/opt/agents/*"], unit: [agent.service]}}}]"#;

#[tokio::test]
async fn only_the_program_that_policy_names_may_call_and_events_tell_which_it_was() {
    for (executable, evidence, allowed) in [
        ("/opt/agents/good", "confirmed", true),
        ("/home/eve/good", "confirmed", false),
        // Another process may have reused the process id.
        ("/opt/agents/good", "unverified", false),
    ] {
        let server = Server::start("one", Speaks::Both).await;
        let portal = Setup::of([("one", server.url())]).policy(POLICY).owners(Arc::new(Attests(executable, evidence))).start().await;
        for mut client in [Client::modern(portal.address), Client::legacy(portal.address).await] {
            let answer = client.call("one_echo", json!({"text": "x"})).await;
            assert_eq!(answer.last().get("error").is_none(), allowed, "{executable} {evidence}: {answer:?}");
        }
        assert_eq!(server.got("tools/call").len(), if allowed { 2 } else { 0 });
        if allowed {
            let events = portal.events(2).await;
            let call = events.iter().find(|event| event["mcp.method.name"] == "tools/call").unwrap();
            assert_eq!((&call["process.executable.path"], &call["process.pid"]), (&json!(executable), &json!(4711)), "{call}");
            assert_eq!(
                (&call["gnomon.correlation"], &call["user.name"], &call["gnomon.vantage"]),
                (&json!("owner"), &json!("ada"), &json!("portal"))
            );
        }
    }
}

#[tokio::test]
async fn without_a_sensor_a_policy_on_programs_lets_no_caller_in() {
    let server = Server::start("one", Speaks::Both).await;
    let portal = Setup::of([("one", server.url())]).policy(POLICY).start().await;
    let mut client = Client::modern(portal.address);
    assert!(client.names("tools/list", "tools", "name").await.is_empty());
    assert!(client.call("one_echo", json!({"text": "x"})).await.last()["error"].is_object());
}
