//! The official SDK in a process of its own on the real kernel, run directly and under `gnomon exec`: HTTP/2, and ClientHellos with
//! post-quantum keys, in one segment and in several.

use crate::{
    joined::{NAME, Way, check_joined, events, names, trusting},
    mcp::serve,
    sdk_program::{FILE, FirstBytes, Keys, Order, Program},
    sensor_stage::{Host, needs, until},
    support::authority::Authority,
};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{fs, net::SocketAddr};

/// What each test here needs.
struct Stage {
    authority: Authority,
    address: SocketAddr,
    host: Host,
    program: Program,
}

impl Stage {
    /// `None`, reported as a skip, where the kernel half cannot run.
    async fn new(test: &str) -> Option<Self> {
        if !needs(test) {
            return None;
        }
        let authority = Authority::new("the server's authority");
        let config = StreamableHttpServerConfig::default().with_json_response(true).with_allowed_hosts([NAME]);
        let address = serve(&authority, NAME, &["h2", "http/1.1"], config).await;
        let host = trusting(authority.pem_file(), &[]);
        Some(Self { authority, address, host, program: Program::new() })
    }

    /// Calls a tool; returns the size of the ClientHello where it was counted.
    fn call(&self, way: Way, tool: &'static str, keys: Keys, first: FirstBytes) -> Option<usize> {
        let order = Order { address: self.address, tool, keys, first };
        let said = self.program.call(&self.host, way, self.authority.pem_file(), &order);
        assert_eq!(said.answer, format!("this is {tool}"), "{way:?} {order:?}");
        said.hello
    }

    /// The event of a call that is not intercepted. A process that ends before gnomon has looked it up is reported without its executable,
    /// so a second try may be needed.
    fn flow(&self, keys: Keys, first: FirstBytes) -> Value {
        let before = events(&self.host).len();
        until("the flow's event", || {
            self.call(Way::Direct, "allowed_tool", keys, first);
            events(&self.host).into_iter().skip(before).find(|event| names(event, FILE))
        })
    }

    fn joined(&self, tool: &'static str, keys: Keys, first: FirstBytes) -> (Value, Option<usize>) {
        let hello = self.call(Way::UnderExec, tool, keys, first);
        let event = until("the call's event", || events(&self.host).into_iter().find(|event| event["gen_ai.tool.name"] == tool));
        (event, hello)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_over_http2_is_tagged_as_it_is_and_read_under_exec() {
    let Some(stage) = Stage::new("the_official_sdk_over_http2_is_tagged_as_it_is_and_read_under_exec").await else { return };
    let hash: String = Sha256::digest(fs::read(stage.program.path()).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();

    let flow = stage.flow(Keys::Classic, FirstBytes::Whole);
    assert_eq!((&flow["gnomon.vantage"], &flow["tls.client.server_name"]), (&"flow".into(), &NAME.into()), "{flow:#}");
    assert_eq!(flow["process.executable.hash.sha256"], hash.as_str(), "{flow:#}");
    let ja4 = flow["tls.client.ja4"].as_str().unwrap();
    assert!(ja4.starts_with("t13d") && ja4[8..].starts_with("h2_"), "TLS 1.3, a name, h2 first: {flow:#}");

    let (call, _) = stage.joined("allowed_tool", Keys::Classic, FirstBytes::Whole);
    check_joined(&call, FILE);
    assert_eq!(call["process.executable.path"], stage.program.path().to_str().unwrap(), "{call:#}");
    assert_eq!(call["process.executable.hash.sha256"], hash.as_str(), "{call:#}");
    assert_eq!((&call["network.protocol.version"], &call["tls.next_protocol"]), (&"2".into(), &"h2".into()), "{call:#}");
    assert_eq!((&call["mcp.client.name"], &call["tls.client.ja4"]), (&FILE.into(), &ja4.into()), "{call:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_quantum_hello_is_read_whole_whether_it_comes_whole_or_in_pieces() {
    let Some(stage) = Stage::new("a_post_quantum_hello_is_read_whole_whether_it_comes_whole_or_in_pieces").await else { return };
    let classic = stage.flow(Keys::Classic, FirstBytes::Whole);
    for (first, tool) in [(FirstBytes::Whole, "allowed_tool"), (FirstBytes::Pieces, "blocked_tool")] {
        let flow = stage.flow(Keys::PostQuantum, first);
        assert_eq!((&flow["gnomon.vantage"], &flow["tls.client.server_name"]), (&"flow".into(), &NAME.into()), "{first:?} {flow:#}");
        // JA4 does not include groups and key shares, so the fingerprint of one library is the same with either kind of key.
        assert_eq!(flow["tls.client.ja4"], classic["tls.client.ja4"], "{first:?} {flow:#}");
        assert!(flow.get("gnomon.malformed").is_none(), "{flow:#}");

        let (call, hello) = stage.joined(tool, Keys::PostQuantum, first);
        check_joined(&call, FILE);
        assert_eq!(call["tls.client.ja4"], classic["tls.client.ja4"], "{first:?} {call:#}");
        assert_eq!(hello.is_some(), first == FirstBytes::Pieces);
        assert!(hello.is_none_or(|size| size > 1216), "the share alone has 1216 bytes: {hello:?}");
    }
}
