//! What rsyslog makes of our messages, and what happens when a syslog server is away.

use super::*;
use gnomon_export::{SyslogOptions, SyslogSink};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

const DELIVERED: &str = r#"gnomon_export_events_total{outcome="delivered",sink="syslog"}"#;
const FAILURES: &str = r#"gnomon_export_failures_total{sink="syslog"}"#;

fn export(host: &Host, endpoint: &str) -> Exporter {
    export_trusting(host, endpoint, Vec::new())
}

fn export_trusting(host: &Host, endpoint: &str, ca: Vec<PathBuf>) -> Exporter {
    let options = SyslogOptions { endpoint: endpoint.parse().unwrap(), ca, describe: |_| "a line → of text".to_owned() };
    let from = ExporterOptions { ledger: host.dir.path().join("ledger.sqlite"), state: host.dir.path().to_owned() };
    Exporter::start(from, Sink::Syslog(SyslogSink::new(options).unwrap()), &host.metrics).unwrap()
}

/// An rsyslogd that writes what it parsed, one JSON object a line.
struct Rsyslog {
    child: Child,
    dir: TempDir,
}

impl Rsyslog {
    fn start(program: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().display();
        let config = format!(
            r#"global(workDirectory="{folder}" maxMessageSize="300k")
            module(load="imtcp")
            module(load="mmpstrucdata")
            template(name="parsed" type="list") {{
              constant(value="{{")
              property(outname="severity" name="syslogseverity-text" format="jsonf") constant(value=",")
              property(outname="app" name="app-name" format="jsonf") constant(value=",")
              property(outname="kind" name="msgid" format="jsonf") constant(value=",")
              property(outname="msg" name="msg" format="jsonf") constant(value=",\"fields\":")
              property(name="$!rfc5424-sd!gnomon@32473")
              constant(value="}}\n")
            }}
            input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{folder}/port" ruleset="keep")
            ruleset(name="keep") {{ action(type="mmpstrucdata") action(type="omfile" file="{folder}/parsed" template="parsed") }}
            "#
        );
        fs::write(dir.path().join("conf"), config).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(program)
            .args(["-n", "-i", "NONE", "-f"])
            .arg(dir.path().join("conf"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.dir.path().join(file)).unwrap_or_default()
    }

    fn parsed(&self) -> Vec<Value> {
        let text = self.text("parsed");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_reads_fields_as_they_were_whatever_is_in_them() {
    if !gnomon_testkit::has("rsyslog_reads_fields_as_they_were_whatever_is_in_them", &["rsyslogd"]) {
        return;
    }
    let program = gnomon_testkit::find("rsyslogd").unwrap();
    let server = Rsyslog::start(&program);
    until("rsyslog to listen", || !server.text("port").is_empty()).await;
    let host = Host::new().await;
    let hostile = r#"a" b="c"] \ \" ]] [x@1 y="z"] <0>1 - 7 ü→"#;
    host.record(numbered(0..300).chain([hostile.to_owned(), "two\nlines\u{1b}[2J".to_owned()])).await;
    let export = export(&host, &format!("tcp://127.0.0.1:{}", server.text("port").trim()));
    until("302 events", || host.metric(DELIVERED) == 302).await;
    export.stop().await;
    until("rsyslog to write", || server.text("parsed").lines().count() >= 302).await;
    let parsed = server.parsed();
    let tool = |at: usize| parsed[at]["fields"]["gen_ai.tool.name"].as_str().unwrap();
    assert_eq!((0..300).map(|at| tool(at).to_owned()).collect::<Vec<_>>(), numbered(0..300).collect::<Vec<_>>());
    assert_eq!(tool(300), hostile);
    assert_eq!(tool(301), "two lines [2J");
    assert_eq!(parsed.len(), 302);
    assert_eq!((&parsed[0]["severity"], &parsed[0]["app"], &parsed[0]["kind"]), (&"info".into(), &"gnomon".into(), &"event".into()));
    assert!(parsed[0]["msg"].as_str().unwrap().ends_with("a line → of text"), "{}", parsed[0]);
    assert_eq!(parsed[0]["fields"]["server.port"], "443");
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_syslog_server_did_not_read_to_the_end_is_sent_again() {
    use tokio::{io::AsyncReadExt, net::TcpListener};
    let host = Host::new().await;
    host.record(numbered(0..20)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let export = export(&host, &format!("tcp://{}", listener.local_addr().unwrap()));
    // Closed with bytes unread, a connection is reset.
    let (mut first, _) = listener.accept().await.unwrap();
    first.read_exact(&mut [0; 10]).await.unwrap();
    drop(first);
    let (mut second, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    second.read_to_string(&mut text).await.unwrap();
    drop(second);
    until("20 events", || host.metric(DELIVERED) == 20).await;
    export.stop().await;
    assert_eq!(text.matches("gen_ai.tool.name=\"tool-").count(), 20);
    assert!(host.metric(FAILURES) >= 1);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syslog_server_is_verified_before_it_is_told_anything() {
    use tokio::{io::AsyncReadExt, net::TcpListener};
    let (acceptor, root) = stories::tls();
    let host = Host::new().await;
    host.record(numbered(0..20)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("tls://localhost:{}", listener.local_addr().unwrap().port());
    let stranger = export(&host, &endpoint);
    let (tcp, _) = listener.accept().await.unwrap();
    assert!(acceptor.accept(tcp).await.is_err());
    until("a failure", || host.metric(FAILURES) > 0).await;
    drop(stranger);
    let serving = tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(tcp).await {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                return text;
            }
        }
    });
    let ca = host.dir.path().join("ca.pem");
    fs::write(&ca, root).unwrap();
    let trusting = export_trusting(&host, &endpoint, vec![ca]);
    until("20 events", || host.metric(DELIVERED) == 20).await;
    trusting.stop().await;
    assert_eq!(serving.await.unwrap().matches("gen_ai.tool.name=\"tool-").count(), 20);
    host.close().await;
}
