//! A TLS connection from inside a container that a real runtime created: the event names the container and its runtime. The containers
//! share the host's network and programs; their cgroups are below the one that the sensor watches.

use crate::{
    caller::{Answer, Call, Caller, FILE},
    joined::{NAME, PYTHON, events},
    sensor_stage::{Host, needs, until},
    support::{request::call, upstream::Upstream},
};
use gnomon_testkit::has;
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};
use uuid::Uuid;

/// Runtimes expect cgroup v2 at its usual mount point, also on a system that has the v1 controllers there.
const UNIFIED: &str = r#"umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@""#;

fn unified(command: &[&str]) -> Output {
    Command::new("unshare").args(["--mount", "--propagation", "private", "sh", "-ec", UNIFIED, "sh"]).args(command).output().unwrap()
}

/// A root file system for containers; the host's `/usr` is mounted in it.
fn root(at: &Path, authority: &Path) {
    for folder in ["proc", "usr", "dev", "tmp"] {
        fs::create_dir_all(at.join(folder)).unwrap();
    }
    for folder in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{folder}"), at.join(folder)).unwrap();
    }
    fs::copy(authority, at.join("authority.pem")).unwrap();
}

/// A Python program that calls the server; returns its command.
fn program(server: SocketAddr) -> [String; 7] {
    let body = call(1, "any_tool").to_string();
    ["python3", "-c", PYTHON, &server.ip().to_string(), &server.port().to_string(), NAME, &body].map(str::to_owned)
}

/// Writes the bundle that an engine hands to its runtime (config.md of the OCI runtime specification). The engine chooses the path of the
/// cgroup.
fn bundle(at: &Path, cgroup: &str, program: &[String]) {
    let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| json!({"type": kind}));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": program,
            "env": ["PATH=/usr/bin:/bin", "SSL_CERT_FILE=/authority.pem"],
        },
        "root": {"path": "root", "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        ],
        "linux": {"cgroupsPath": cgroup, "namespaces": namespaces},
    });
    fs::write(at.join("config.json"), config.to_string()).unwrap();
}

/// The events of the container with this id.
fn of(host: &Host, id: &str) -> Option<Value> {
    events(host).into_iter().find(|event| event["container.id"] == id && event["gnomon.vantage"] == "flow")
}

fn check(event: &Value, runtime: &str, cgroup: &str) {
    assert_eq!((&event["container.runtime.name"], &event["tls.client.server_name"]), (&runtime.into(), &NAME.into()), "{event:#}");
    assert_eq!(event["gnomon.cgroup"], cgroup, "{event:#}");
    assert!(event["process.executable.path"].as_str().is_some_and(|path| path.contains("python3")), "{event:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_runc_or_crun_is_named_by_the_id_that_its_engine_gave_it() {
    let name = "a_container_of_runc_or_crun_is_named_by_the_id_that_its_engine_gave_it";
    if !needs(name) || !has(name, &["python3"]) {
        return;
    }
    let (upstream, host) = (Upstream::at("127.0.0.1:0", NAME, &["http/1.1"], |_| None).await, Host::start());
    let dir = tempfile::tempdir().unwrap();
    root(&dir.path().join("root"), upstream.authority.pem_file());
    let top = format!("/{}", host.cgroup.file_name().unwrap().display());
    for runtime in ["runc", "crun"] {
        if !has(name, &[runtime]) {
            continue;
        }
        let id = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        // The path that dockerd gives.
        let cgroup = format!("{top}/docker/{id}");
        bundle(dir.path(), &cgroup, &program(upstream.address));
        let [state, here] = [dir.path().join("state"), dir.path().to_owned()].map(|path| path.to_str().unwrap().to_owned());
        // A process that ends before gnomon has looked it up is reported without its container, so a second try may be needed.
        let event = until("the container's event", || {
            let output = unified(&[runtime, "--root", &state, "run", "--bundle", &here, &id]);
            assert!(String::from_utf8_lossy(&output.stdout).contains("done by the upstream"), "{runtime}: {output:?}");
            of(&host, &id)
        });
        check(&event, "docker", &cgroup);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_podman_is_named_by_the_id_that_podman_prints() {
    let name = "a_container_of_podman_is_named_by_the_id_that_podman_prints";
    if !needs(name) {
        return;
    }
    if !has(name, &["podman", "runc", "python3"]) {
        return;
    }
    let (upstream, host) = (Upstream::at("127.0.0.1:0", NAME, &["http/1.1"], |_| None).await, Host::start());
    let dir = tempfile::tempdir().unwrap();
    root(&dir.path().join("root"), upstream.authority.pem_file());
    let at = |part: &str| dir.path().join(part).to_str().unwrap().to_owned();
    let top = format!("/{}", host.cgroup.file_name().unwrap().display());
    let (store, running, root, written) = (at("store"), at("running"), at("root"), at("id"));
    // The limits that an administrator without CAP_SYS_RESOURCE may set; no image and no network.
    let mut podman = vec!["podman", "--root", &store, "--runroot", &running, "--storage-driver", "vfs", "--runtime", "runc"];
    podman.extend(["--cgroup-manager", "cgroupfs", "run", "--rm", "--cgroup-parent", &top, "--network", "host"]);
    podman.extend([
        "--pids-limit",
        "0",
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1024:1024",
        "--env",
        "SSL_CERT_FILE=/authority.pem",
    ]);
    podman.extend(["--volume", "/usr:/usr:ro", "--cidfile", &written, "--rootfs", &root]);
    let program = program(upstream.address);
    podman.extend(program.iter().map(String::as_str));
    let (id, event) = until("the container's event", || {
        let _ = fs::remove_file(&written);
        let output = unified(&podman);
        assert!(String::from_utf8_lossy(&output.stdout).contains("done by the upstream"), "{output:?}");
        let id = fs::read_to_string(&written).unwrap();
        of(&host, &id).map(|event| (id, event))
    });
    check(&event, "podman", &format!("{top}/libpod-{id}"));
}

/// As kubelet's cgroupfs driver names what a runtime starts for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_a_pod_of_kubernetes_is_named_by_the_uid_that_kubelet_gave_its_cgroup() {
    if !needs("a_program_in_a_pod_of_kubernetes_is_named_by_the_uid_that_kubelet_gave_its_cgroup") {
        return;
    }
    let (upstream, host) = (Upstream::at("127.0.0.1:0", NAME, &["http/1.1"], |_| None).await, Host::start());
    let (pod, id) = (Uuid::new_v4().to_string(), format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
    let below = format!("kubepods/burstable/pod{pod}/{id}");
    let cgroup = host.cgroup.join(&below);
    fs::create_dir_all(&cgroup).unwrap();
    let caller = Caller::new();
    let order = Call::new(upstream.address, "/rpc", call(1, "any_tool").to_string()).tls(NAME, Some(upstream.authority.pem_file()));
    let words = caller.words(FILE, &order);
    let event = until("the pod's event", || {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo 0 > "$0/cgroup.procs" && exec "$@""#]).arg(&cgroup).args(&words);
        let output = command.output().unwrap();
        assert!(Answer::of(&output).is_some_and(|answer| answer.status == 200), "{output:?}");
        of(&host, &id)
    });
    assert_eq!((&event["k8s.pod.uid"], &event["tls.client.server_name"]), (&pod.into(), &NAME.into()), "{event:#}");
    let top = host.cgroup.file_name().unwrap().display();
    assert_eq!(event["gnomon.cgroup"], format!("/{top}/{below}"), "{event:#}");
    // The path says nothing of what runs it.
    assert_eq!(event["container.runtime.name"], "unknown", "{event:#}");
}
