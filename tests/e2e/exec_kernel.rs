//! `gnomon exec` on the real kernel, as root and without a running gnomon: it starts both halves for the one program. The eBPF programs are
//! attached to a cgroup of the test.

use crate::{
    caller::{Call, Caller, FILE},
    exec::GNOMON,
    sensor_stage::needs,
    support::{HOST, cgroup::OwnCgroup, soon, upstream::Upstream},
};
use gnomon_testkit::has;
use serde_json::{Value, json};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;
use uuid::Uuid;

/// A cgroup below which the sensor looks, and a folder that everybody may enter. Both are removed when dropped.
struct Stage {
    cgroup: OwnCgroup,
    dir: TempDir,
}

impl Stage {
    /// `None`, reported as a skip, where the kernel half cannot run.
    fn new(test: &str) -> Option<Self> {
        if !needs(test) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        // This user has no home, so the bundle of certificates is written to this folder.
        fs::create_dir(dir.path().join("tmp")).unwrap();
        fs::set_permissions(dir.path().join("tmp"), Permissions::from_mode(0o1777)).unwrap();
        // gnomon removes an empty scope shortly after its program has ended.
        Some(Self { cgroup: OwnCgroup::new(), dir })
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Starts `gnomon exec` in the stage's cgroup for the user nobody, as sudo would.
    fn start(&self, flags: &[&str], program: &[&str]) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(&self.cgroup);
        command.args([GNOMON, "exec", "--state-dir"]).arg(self.state()).args(flags).arg("--").args(program);
        command.env("GNOMON_SENSOR", &self.cgroup).env("SUDO_UID", "65534").env("TMPDIR", self.dir.path().join("tmp")).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    async fn run(&self, flags: &[&str], program: &[&str]) -> (Output, PathBuf) {
        let child = self.start(flags, program);
        let folder = host_folder(&child);
        (soon("the program", tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())).await.unwrap(), folder)
    }

    fn events(&self) -> Vec<Value> {
        let output = Command::new(GNOMON).args(["events", "--json", "--state-dir"]).arg(self.state()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The folder that exists as long as the gnomon of this program runs.
fn host_folder(child: &Child) -> PathBuf {
    PathBuf::from(format!("/run/gnomon-exec-{}", child.id()))
}

async fn until_gone(folder: &Path) {
    soon("gnomon to end with its program", async {
        while folder.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn alone_as_root_a_call_is_read_and_told_with_its_process_and_the_person() {
    let Some(stage) = Stage::new("alone_as_root_a_call_is_read_and_told_with_its_process_and_the_person") else { return };
    let upstream = Upstream::start(&["h2", "http/1.1"]).await;
    let (root, config) = (stage.dir.path().join("root.pem"), stage.dir.path().join("gnomon.yml"));
    fs::copy(upstream.authority.pem_file(), &root).unwrap();
    fs::set_permissions(&root, Permissions::from_mode(0o644)).unwrap();
    fs::write(&config, "proxy: { upstream_ca: [root.pem] }\n").unwrap();
    let (port, call) = (upstream.address.port(), crate::support::request::call(1, "any_tool"));
    // It is given no proxy; it connects to the server's own address.
    let program = Caller::new();
    let words = program.words(FILE, &Call::new(upstream.address, "/rpc", call.to_string()).tls(HOST, None));
    let shell: Vec<&str> =
        ["sh", "-c", r#"id -u; id -Gn; "$@"; exit 7"#, "sh"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let (output, folder) = stage.run(&["--config", config.to_str().unwrap()], &shell).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let groups = said.lines().nth(1).unwrap_or_default();
    assert!(said.starts_with("65534\n") && said.contains("done by the upstream"), "{output:?}");
    assert!(output.status.code() == Some(7) && output.stderr.is_empty(), "{output:?}");
    until_gone(&folder).await;
    let events = stage.events();
    let event = events.iter().find(|event| event["gen_ai.tool.name"] == "any_tool").unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!((&event["gnomon.correlation"], &event["server.address"]), (&json!("owner"), &json!(HOST)), "{event:#}");
    assert!(event["process.executable.path"].as_str().is_some_and(|path| path.ends_with(FILE)), "{event:#}");
    assert_eq!((&event["user.id"], &event["destination.port"]), (&json!("65534"), &json!(port)), "{event:#}");
    // The shell started it, from a file that is still there.
    let shell = fs::canonicalize("/bin/sh").unwrap();
    assert_eq!((&event["process.parent.executable.path"], &event["gnomon.process.image"]), (&json!(shell), &json!("on_disk")), "{event:#}");
    assert_eq!(event["user.group.names"], json!(groups.split_whitespace().collect::<Vec<_>>()), "{event:#}");
    let random = event["tls.client.random"].as_str().unwrap_or_default();
    assert!(random.len() == 64 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{event:#}");
    let flow = event["gnomon.flow.id"].as_str().unwrap_or_default();
    assert!(Uuid::parse_str(flow).is_ok_and(|id| id.get_version_num() == 7), "{event:#}");
}

/// Posts a call to the first argument, whatever the others are, and stays for a while, since processes are looked up after their call.
const TALKER: &str = r#"
import sys, time, urllib.request
body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"any_tool","arguments":{}}}'
urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"})).read()
time.sleep(1)
"#;

#[tokio::test]
async fn no_secret_of_a_command_line_is_in_anything_that_is_written() {
    let name = "no_secret_of_a_command_line_is_in_anything_that_is_written";
    let Some(stage) = Stage::new(name).filter(|_| has(name, &["python3"])) else { return };
    let (config, lines, script) =
        (stage.dir.path().join("gnomon.yml"), stage.dir.path().join("out/events.jsonl"), stage.dir.path().join("talker.py"));
    fs::create_dir(stage.dir.path().join("out")).unwrap();
    fs::set_permissions(stage.dir.path().join("out"), Permissions::from_mode(0o777)).unwrap();
    fs::write(&config, format!("events: {{ jsonl: '{}' }}\n", lines.display())).unwrap();
    fs::write(&script, TALKER).unwrap();
    let url = format!("http://{}/mcp", crate::explained::answering("{}"));
    // Each secret is another one, so that the one which is left is seen.
    let forms = [
        "--header=Cookie:SECRET",
        "--header=Authorization: Basic SECRET",
        "--env=TOKEN=SECRET",
        "-eAPI_KEY=SECRET",
        "https://h.example/cb#access_token=SECRET",
        "https://h.example/x?anything=SECRET",
        "https://ada:SECRET@h.example/",
        "https://SECRET@h.example/",
        "//registry.example/:_authToken=SECRET",
        "--data={\"a\": \"SECRET\"}",
        "user=ada&password=SECRET",
        "ada:SECRET@tcp(db.example:3306)/x",
    ];
    let forms: Vec<String> = forms.iter().enumerate().map(|(n, form)| form.replace("SECRET", &format!("hunter2x{n:02}"))).collect();
    let pairs =
        ["-H", "Authorization: Digest hunter2x90", "-e", "TOKEN=hunter2x91", "--header", "Cookie: a=hunter2x92", "--token", "hunter2x93"];
    let mut words = vec!["python3", script.to_str().unwrap(), &url];
    words.extend(forms.iter().map(String::as_str).chain(pairs));
    let (output, folder) = stage.run(&["--config", config.to_str().unwrap()], &words).await;
    assert!(output.status.success(), "{output:?}");
    until_gone(&folder).await;
    let events = stage.events();
    let event = events.iter().find(|event| event["gen_ai.tool.name"] == "any_tool").unwrap_or_else(|| panic!("{events:#?}"));
    let line = event["process.command_line"].as_str().unwrap_or_else(|| panic!("{event:#}"));
    assert!(line.starts_with("python3 ") && line.contains(&url) && line.contains("--env=TOKEN=***"), "{line}");
    let printed = |words: &[&str]| Command::new(GNOMON).args(words).arg("--state-dir").arg(stage.state()).output().unwrap().stdout;
    let written = fs::read_dir(stage.state()).unwrap().flatten().map(|file| file.path()).chain([lines]).filter(|file| file.is_file());
    let mut places: Vec<(String, Vec<u8>)> = written.map(|file| (file.display().to_string(), fs::read(&file).unwrap())).collect();
    places.push(("inventory".to_owned(), printed(&["inventory", "--json"])));
    places.push(("events".to_owned(), printed(&["events", "--json"])));
    places.push(("report".to_owned(), printed(&["report", "--json"])));
    assert!(places.iter().any(|(_, text)| text.windows(8).any(|part| part == b"any_tool")));
    for (place, text) in places {
        if let Some(at) = text.windows(8).position(|part| part == b"hunter2x") {
            panic!("{place} has {:?}", String::from_utf8_lossy(&text[at.saturating_sub(60)..(at + 12).min(text.len())]));
        }
    }
}

#[tokio::test]
async fn one_directly_after_another_waits_until_the_first_has_written_all() {
    let Some(stage) = Stage::new("one_directly_after_another_waits_until_the_first_has_written_all") else { return };
    for _ in 0..4 {
        // The first gnomon is still stopping while the next one starts.
        let (output, _) = stage.run(&[], &["echo", "ran"]).await;
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"ran\n"[..]), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[tokio::test]
async fn a_program_below_joins_again_and_gnomon_stays_as_long_as_anything_runs() {
    let Some(stage) = Stage::new("a_program_below_joins_again_and_gnomon_stays_as_long_as_anything_runs") else { return };
    let script = format!("cat /proc/self/cgroup; {GNOMON} exec -- cat /proc/self/cgroup; sleep 0.7 >/dev/null 2>&1 &");
    let (output, folder) = stage.run(&[], &["sh", "-c", &script]).await;
    assert!(output.status.success() && folder.exists(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let depth = |line: &str| line.matches("/gnomon-exec-").count();
    let mut depths: Vec<usize> = said.lines().filter(|line| line.starts_with("0::")).map(depth).collect();
    depths.sort_unstable();
    assert_eq!(depths, [1, 2], "{said}");
    until_gone(&folder).await;
}

#[tokio::test]
async fn servers_that_speak_first_and_servers_that_refuse_are_as_they_are_without_gnomon() {
    let name = "servers_that_speak_first_and_servers_that_refuse_are_as_they_are_without_gnomon";
    let Some(stage) = Stage::new(name).filter(|_| has(name, &["curl"])) else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut server, _)) = listener.accept().await {
            use tokio::io::AsyncWriteExt as _;
            let _ = server.write_all(b"SSH-2.0-Fake_1.0\r\n").await;
        }
    });
    // Nobody listens on port 1.
    let script =
        format!("curl -sS --max-time 5 telnet://127.0.0.1:{port} </dev/null; curl -sS --max-time 5 http://127.0.0.1:1/ 2>/dev/null");
    let (output, folder) = stage.run(&[], &["sh", "-c", &script]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("SSH-2.0-Fake_1.0"), "{output:?}");
    // curl's exit codes: 7, no connection; 56, reset after curl took it for established.
    assert!(matches!(output.status.code(), Some(7 | 56)), "{output:?}");
    until_gone(&folder).await;
}
