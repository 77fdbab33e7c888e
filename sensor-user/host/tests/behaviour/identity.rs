//! Who a process is.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gnomon_host::identity::{
    Answer, Backing, BootTime, CommandLine, Digest, ExecEvidence, Executable, Generation, Identity, ListensAnswer, MAX_ANCESTORS,
    MAX_ARGUMENTS, MAX_COMMAND_LINE, Options, Resolver, listens,
};

use crate::support::{Kept, eventually, is_root, sha256sum, skipped, sleeper, start, tool, wait_for_exec};

fn identify(pid: u32) -> Answer {
    Resolver::default().identify(pid, BootTime::now(), Generation::UNKNOWN)
}

fn known(pid: u32) -> Identity {
    match identify(pid) {
        Answer::Known(identity) => *identity,
        other => panic!("{other:?}"),
    }
}

fn file(identity: &Identity) -> (&Path, Backing, String) {
    match &identity.executable {
        Executable::File { path, backing, digest: Digest::Sha256(digest) } => (path, *backing, digest.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_process_can_identify_itself() {
    let own = std::env::current_exe().unwrap();
    let identity = known(std::process::id());
    assert_eq!(file(&identity), (own.as_path(), Backing::Present, sha256sum(&own)));
    assert_eq!(identity.command_line, CommandLine::Whole(std::env::args().collect()));
    assert_eq!(identity.exec, ExecEvidence::Unverified, "nobody keeps a record of execs here");
    assert_eq!(identity.ancestors[0].pid, std::os::unix::process::parent_id());
    assert!(identity.ancestors.len() <= MAX_ANCESTORS);
    assert!(identity.ancestors.iter().all(|ancestor| ancestor.started_at <= identity.started_at));
    let credentials = identity.credentials.unwrap();
    assert_eq!(credentials.uid, rustix::process::getuid().as_raw());
    assert_eq!(credentials.gid, rustix::process::getgid().as_raw());
    if credentials.uid == 0 {
        assert_eq!(credentials.user.as_deref(), Some("root"));
        assert_eq!(credentials.group_names.first().map(String::as_str), Some("root"));
    }
}

#[test]
fn a_process_listens_where_it_or_what_it_started_does_and_another_of_its_number_nowhere() {
    let listener = |address: &str| std::net::TcpListener::bind(address).unwrap();
    let (own, handed_on, only_below) = (listener("127.0.0.1:0"), listener("0.0.0.0:0"), listener("127.0.0.1:0"));
    let at = |listener: &std::net::TcpListener| listener.local_addr().unwrap();
    let (handed_on_at, below_at) = (at(&handed_on), at(&only_below));
    let script = |text: &str, input: std::net::TcpListener| {
        let mut command = Command::new("sh");
        let child = command.args(["-c", text]).stdin(std::os::fd::OwnedFd::from(input)).spawn();
        Kept(child.unwrap())
    };
    let both = script("sleep 600; true", handed_on);
    let below = script("exec 3<&0 </dev/null; sleep 600 <&3 3<&- & exec 3<&-; wait", only_below);
    for (child, address) in [(&both, handed_on_at), (&below, below_at)] {
        let started = known(child.id()).started_at;
        eventually(|| (listens(child.id(), started) == ListensAnswer::At(vec![address])).then_some(()));
        assert_eq!(listens(child.id(), BootTime(started.0 + 1)), ListensAnswer::Gone);
    }
    let me = std::process::id();
    let ListensAnswer::At(of_all) = listens(me, known(me).started_at) else { panic!("the test's own process") };
    assert!([at(&own), handed_on_at, below_at].iter().all(|address| of_all.contains(address)), "{of_all:?}");
}

#[test]
fn a_misleading_process_name_does_not_change_its_identity() {
    let directory = tempfile::tempdir().unwrap();
    for name in [") R (", "x\nUid:\t0 0", "a b) Z 1"] {
        let path = directory.path().join(name);
        let child = sleeper(&path);
        let identity = known(child.id());
        assert_eq!(file(&identity), (path.as_path(), Backing::Present, sha256sum(&path)), "{name:?}");
        assert_eq!(identity.ancestors[0].pid, std::process::id(), "{name:?}");
        assert_eq!(identity.credentials.unwrap().uid, rustix::process::getuid().as_raw(), "{name:?}");
    }
}

#[test]
fn a_deleted_executable_is_digested_and_said_to_be_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent");
    let child = sleeper(&path);
    let digest = sha256sum(&path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(file(&known(child.id())), (path.as_path(), Backing::Deleted, digest.clone()));
    // Another file at the same path makes no difference.
    std::fs::write(&path, "innocent").unwrap();
    assert_eq!(file(&known(child.id())), (path.as_path(), Backing::Deleted, digest));
}

#[test]
fn a_file_that_is_really_called_deleted_is_present() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent (deleted)");
    let child = sleeper(&path);
    assert_eq!(file(&known(child.id())), (path.as_path(), Backing::Present, sha256sum(&path)));
    let digest = sha256sum(&path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(file(&known(child.id())), (path.as_path(), Backing::Deleted, digest));
}

#[test]
fn a_program_that_is_only_in_memory_is_reported_as_such() {
    if !gnomon_testkit::has("program_in_memory", &["python3"]) {
        return;
    }
    let python = tool("python3").unwrap();
    let sleep = tool("sleep").unwrap();
    let code = "import os,sys\nf=os.memfd_create('chrome',0)\nos.write(f,open(sys.argv[1],'rb').read())\nos.execv(f'/proc/self/fd/{f}',['chrome','600'])";
    let child = start(Command::new(python).arg("-c").arg(code).arg(&sleep));
    let identity = eventually(|| {
        let Answer::Known(identity) = identify(child.id()) else { return None };
        matches!(&identity.executable, Executable::File { backing: Backing::Memory, .. }).then_some(identity)
    });
    assert_eq!(file(&identity), (Path::new("/memfd:chrome"), Backing::Memory, sha256sum(&sleep)));
}

#[test]
fn of_a_script_the_interpreter_is_the_executable_and_the_script_an_argument() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("agent.sh");
    std::fs::write(&script, "#!/bin/sh\nread line\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    let child = eventually(|| Command::new(&script).stdin(std::process::Stdio::piped()).spawn().ok().map(Kept));
    wait_for_exec(&child, &shell);
    let identity = known(child.id());
    assert_eq!(file(&identity).0, shell);
    assert_eq!(identity.command_line.arguments(), ["/bin/sh", script.to_str().unwrap()]);
}

#[test]
fn a_process_that_ended_is_gone_reaped_or_not() {
    let mut child = start(&mut Command::new("cat"));
    let pid = child.id();
    child.kill().unwrap();
    eventually(|| (identify(pid) == Answer::Gone).then_some(()));
    child.wait().unwrap();
    assert_eq!(identify(pid), Answer::Gone);
    assert_eq!(identify(u32::MAX), Answer::Gone);
    assert_eq!(identify(0), Answer::Gone);
}

#[test]
fn a_process_younger_than_the_connection_is_another_one() {
    let before = BootTime::now();
    // Start times are rounded down to a clock tick.
    std::thread::sleep(Duration::from_millis(25));
    let child = start(&mut Command::new("cat"));
    wait_for_exec(&child, &tool("cat").unwrap());
    let resolver = Resolver::default();
    assert_eq!(resolver.identify(child.id(), before, Generation::UNKNOWN), Answer::Gone);
    assert!(matches!(resolver.identify(child.id(), BootTime::now(), Generation::UNKNOWN), Answer::Known(_)));
}

#[test]
fn a_process_that_called_exec_after_connecting_is_stale() {
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    let mut child = start(Command::new(&shell).args(["-c", "read line; exec sleep 600"]));
    wait_for_exec(&child, &shell);
    let connected_at = BootTime::now();
    let generation = Generation(connected_at.0 - 1);

    let recorded = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(generation.0));
    let record = std::sync::Arc::clone(&recorded);
    let resolver = Resolver::default().with_execs(move |_| Generation(record.load(std::sync::atomic::Ordering::SeqCst)));
    let Answer::Known(before) = resolver.identify(child.id(), connected_at, generation) else { panic!("not known") };
    assert_eq!((file(&before).0, before.exec), (shell.as_path(), ExecEvidence::Confirmed));

    child.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
    wait_for_exec(&child, &tool("sleep").unwrap());
    recorded.store(BootTime::now().0, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(resolver.identify(child.id(), connected_at, generation), Answer::Stale);
    assert_eq!(resolver.identify(child.id(), connected_at, Generation::UNKNOWN), Answer::Stale);

    // Without a record of execs the identity is what can be read, and is not called confirmed.
    let Answer::Known(after) = Resolver::default().identify(child.id(), connected_at, generation) else { panic!("not known") };
    assert_eq!(after.exec, ExecEvidence::Unverified);
}

#[test]
fn other_threads_speak_for_a_process_whose_first_thread_ended() {
    if !gnomon_testkit::has("first_thread_ended", &["python3"]) {
        return;
    }
    let python = tool("python3").unwrap();
    let code =
        "import threading,time,ctypes\nthreading.Thread(target=time.sleep,args=(600,)).start()\nctypes.CDLL(None).pthread_exit(None)";
    let child = start(Command::new(python).args(["-c", code]));
    eventually(|| std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?.contains(") Z ").then_some(()));
    let identity = known(child.id());
    assert!(file(&identity).0.to_str().unwrap().contains("python"));
    assert_eq!(identity.command_line.arguments()[1], "-c");
}

#[test]
fn a_huge_command_line_is_cut() {
    for arguments in [vec!["x".repeat(100_000)], vec!["y".into(); 20_000]] {
        let child = start(Command::new("sh").args(["-c", "read line", "sh"]).args(&arguments));
        wait_for_exec(&child, &tool("sh").unwrap());
        let CommandLine::Cut(line) = known(child.id()).command_line else { panic!("not cut") };
        assert_eq!(&line[..4], ["sh", "-c", "read line", "sh"]);
        assert!(line.len() <= MAX_ARGUMENTS && line.iter().map(String::len).sum::<usize>() <= MAX_COMMAND_LINE);
    }
}

#[test]
fn an_executable_above_the_bound_is_not_read() {
    let resolver = Resolver::new(&Options { digest_up_to: 10, ..Options::default() });
    let Answer::Known(identity) = resolver.identify(std::process::id(), BootTime::now(), Generation::UNKNOWN) else { panic!("not known") };
    let size = std::fs::metadata(std::env::current_exe().unwrap()).unwrap().len();
    let Executable::File { digest, .. } = identity.executable else { panic!("no file") };
    assert_eq!(digest, Digest::TooLarge(size));
}

#[test]
fn a_process_that_ends_while_its_executable_is_read_is_known_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    std::fs::copy(tool("sleep").unwrap(), &path).unwrap();
    // Reading it takes some tenths of a second.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(400 << 20).unwrap();
    let child = start(Command::new(&path).arg("600"));
    wait_for_exec(&child, &path);
    let options = Options { digest_within: Duration::from_secs(60), ..Options::default() };
    let pid = child.id();
    let asked = std::thread::spawn(move || Resolver::new(&options).identify(pid, BootTime::now(), Generation::UNKNOWN));
    let reads = |open: std::fs::DirEntry| std::fs::read_link(open.path()).is_ok_and(|file| file == path);
    eventually(|| std::fs::read_dir("/proc/self/fd").unwrap().flatten().any(reads).then_some(()));
    std::thread::sleep(Duration::from_millis(50));
    // Dropping kills it and waits for it.
    drop(child);
    assert!(!asked.is_finished(), "the file is too small for this test");
    let Answer::Known(identity) = asked.join().unwrap() else { panic!("not known") };
    let (shown, _, digest) = file(&identity);
    assert_eq!((shown, digest.len()), (path.as_path(), 64));
}

#[test]
fn changed_content_gets_a_new_digest_although_its_time_was_put_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent");
    let resolver = Resolver::default();
    let digest_of = |child: &Kept| match resolver.identify(child.id(), BootTime::now(), Generation::UNKNOWN) {
        Answer::Known(identity) => file(&identity).2,
        other => panic!("{other:?}"),
    };
    let first = sleeper(&path);
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let before = digest_of(&first);
    drop(first);

    // The inode, the length and the modification time are the same: only a byte of padding at the end differs.
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let mut open = eventually(|| std::fs::OpenOptions::new().write(true).open(&path).ok());
    open.write_all(&bytes).unwrap();
    open.set_modified(modified).unwrap();
    drop(open);
    let second = eventually(|| Command::new(&path).arg("600").spawn().ok().map(Kept));
    wait_for_exec(&second, &path);
    assert_ne!(digest_of(&second), before);
    assert_eq!(digest_of(&second), sha256sum(&path));
}

#[test]
fn many_at_once_get_the_same_answer() {
    let resolver = Resolver::default();
    let child = start(&mut Command::new("cat"));
    wait_for_exec(&child, &tool("cat").unwrap());
    let expected = file(&known(child.id())).2;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let Answer::Known(identity) = resolver.identify(child.id(), BootTime::now(), Generation::UNKNOWN) else {
                    panic!("not known")
                };
                assert_eq!(file(&identity).2, expected);
            });
        }
    });
}

#[test]
fn threads_of_the_kernel_have_no_executable() {
    let name = "threads_of_the_kernel";
    if std::fs::read_to_string("/proc/2/comm").ok().as_deref().map(str::trim) != Some("kthreadd") {
        return skipped(name, "the kernel's threads are not to be seen in this pid namespace");
    }
    if !is_root() {
        return skipped(name, "needs root");
    }
    assert_eq!(known(2).executable, Executable::Kernel);
}

#[test]
fn no_descriptor_is_left_open() {
    let count = || {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .filter(|path| path.starts_with("/proc/1/"))
            .count()
    };
    let resolver = Resolver::default();
    for _ in 0..200 {
        resolver.identify(1, BootTime::now(), Generation::UNKNOWN);
    }
    eventually(|| (count() == 0).then_some(()));
}

#[test]
fn groups_are_listed_and_named() {
    let name = "groups_are_listed";
    if !is_root() {
        return skipped(name, "needs root");
    }
    if !gnomon_testkit::has(name, &["setpriv"]) {
        return;
    }
    let setpriv = tool("setpriv").unwrap();
    let cat = std::fs::canonicalize(tool("cat").unwrap()).unwrap();
    let child = start(Command::new(setpriv).args(["--reuid", "65534", "--regid", "1", "--groups", "4,24,4000000"]).arg(&cat));
    wait_for_exec(&child, &cat);
    let credentials = known(child.id()).credentials.unwrap();
    assert_eq!((credentials.uid, credentials.effective_uid, credentials.gid), (65534, 65534, 1));
    assert_eq!(credentials.groups, [4, 24, 4_000_000]);
    assert_eq!(credentials.user.as_deref(), Some("nobody"));
    let table = std::fs::read_to_string("/etc/group").unwrap();
    let named =
        |id: &str| table.lines().find(|line| line.split(':').nth(2) == Some(id)).and_then(|line| line.split(':').next()).map(str::to_owned);
    let expected: Vec<String> = ["1", "4", "24"].iter().filter_map(|id| named(id)).collect();
    assert_eq!(credentials.group_names, expected, "a group without a name is left out");
}

#[test]
fn a_process_in_a_mount_namespace_of_its_own_shows_its_own_path() {
    let name = "mount_namespace";
    if !is_root() {
        return skipped(name, "needs root");
    }
    if !gnomon_testkit::has(name, &["unshare"]) {
        return;
    }
    let unshare = tool("unshare").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let inside: PathBuf = directory.path().join("agent");
    let script = r#"mount -t tmpfs none "$0" && cp "$1" "$0/agent" && exec "$0/agent" 600"#;
    let child = start(Command::new(unshare).args(["--mount", "sh", "-c", script]).arg(directory.path()).arg(tool("sleep").unwrap()));
    let identity = eventually(|| {
        let Answer::Known(identity) = identify(child.id()) else { return None };
        matches!(&identity.executable, Executable::File { path, .. } if *path == inside).then_some(identity)
    });
    assert!(!inside.exists(), "out here there is no such file");
    assert_eq!(file(&identity), (inside.as_path(), Backing::Present, sha256sum(&tool("sleep").unwrap())));
}
