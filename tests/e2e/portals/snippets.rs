//! A snippet's way through the program as people start it: saved by a script, read and decided about with `gnomon review`, called.

use super::Alone;
use crate::{caller, sensor_stage::until};
use serde_json::{Value, json};
use std::process::{Command, Output};

impl Alone {
    /// What a script is answered: its text.
    fn script(&self, token: &str, code: &str) -> String {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({"name": "portal_codemode_execute", "arguments": {"code": code}, "_meta": meta});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
        if std::net::TcpStream::connect(self.address).is_err() {
            // It does not listen yet.
            return String::new();
        }
        let call = caller::Call::new(self.address, "/mcp", body)
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "portal_codemode_execute")
            .header("authorization", &format!("Bearer {token}"));
        caller::post(&call).json()["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned()
    }

    fn review(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
        command.arg("review").args(arguments).arg("--config").arg(&self.config);
        command.env("GNOMON_STATE_DIR", self.dir.path().join("state")).output().unwrap()
    }

    fn reviewed(&self, arguments: &[&str]) -> String {
        let output = self.review(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_snippet_is_saved_read_approved_called_and_denied() {
    let token = gnomon_access::generate_token().unwrap();
    let auth = format!("{{mode: tokens, tokens: [{{name: ada, sha256: '{}', groups: [adas]}}]}}", token.sha256);
    let portal = Alone::start(&auth, "[{allow: {servers: [tools, snippets]}}], code_mode: enforced, snippets: review");
    until("the portal to serve", || portal.script(&token.token, "async () => codemode.tools_echo({})").contains("done").then_some(()));
    let save = r#"async () => codemode.save('shout', "async (codemode, args) => {\n  // \u001b[2J\n  return args.n + ' ' + await codemode.tools_echo({});\n}",
        {description: 'Says how often.', parameters: {type: 'object', properties: {n: {type: 'integer'}}, required: ['n']}, for: 'group:adas'})"#;
    let saved: Value = serde_json::from_str(&portal.script(&token.token, save)).unwrap();
    let digest = saved["digest"].as_str().unwrap();
    assert_eq!(saved, json!({"name": "shout", "version": 1, "digest": digest, "state": "waiting for review"}));
    // It waits beside the servers, and a person reads what models would.
    let list = portal.reviewed(&["list"]);
    let row = list.lines().find(|line| line.contains("snippet shout@1")).unwrap();
    assert!(row.starts_with("unreviewed  ") && row.contains("portal main  for group:adas  by ") && row.contains(&digest[..16]), "{row}");
    let shown = portal.reviewed(&["snippet", "show", "shout@1"]);
    assert!(shown.contains(&format!("sha256 {digest}\n")) && shown.contains("     1 | Says how often.\n"), "{shown}");
    assert!(shown.contains("     2 |   // \\u{1b}[2J\n") && !shown.contains('\u{1b}'), "{shown}");
    let call = "async () => codemode.snippets.shout({n: 3})";
    assert!(portal.script(&token.token, call).contains("is not a function"));
    portal.reviewed(&["snippet", "approve", digest, "--owner", "team-x", "--reason", "read line by line"]);
    until("it to be in force", || (portal.script(&token.token, call) == "3 done by the server").then_some(()));
    let json: Value = serde_json::from_str(&portal.reviewed(&["snippet", "list", "--in", "approved", "--json"])).unwrap();
    assert_eq!((&json[0]["sha256"], &json[0]["decision"]["reason"]), (&json!(digest), &json!("read line by line")));
    // Each call is in the audit with what asked for it.
    let audit = until("the records", || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
        let output = command
            .args(["audit", "show", "--limit", "10000", "--json", "--state-dir"])
            .arg(portal.dir.path().join("state"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (text.matches(&format!("\"gnomon.snippet.sha256\":\"{digest}\"")).count() >= 3).then_some(text)
    });
    assert!(audit.contains("\"gen_ai.tool.name\":\"codemode.save\""), "{audit}");
    portal.reviewed(&["snippet", "deny", "shout@1", "--reason", "not any more"]);
    until("it to be refused", || portal.script(&token.token, call).contains("is not a function").then_some(()));
    let wrong = portal.review(&["snippet", "approve", "shout@2", "--owner", "x", "--reason", "y"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}
