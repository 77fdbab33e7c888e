//! A process id that is really reused: the test binary runs itself in a pid namespace of its own, where it can choose the next id.

use std::process::Command;

use gnomon_host::identity::{Answer, BootTime, Generation, Resolver};

use crate::support::{is_root, skipped, start, tool, wait_for_exec};

/// Not a test of its own: what the other test runs in a pid namespace.
#[test]
#[ignore = "run by another test"]
fn reuse_a_number() {
    let cat = tool("cat").unwrap();
    let first = start(&mut Command::new(&cat));
    wait_for_exec(&first, &cat);
    let pid = first.id();
    let connected_at = BootTime::now();
    let resolver = Resolver::default();
    assert!(matches!(resolver.identify(pid, connected_at, Generation::UNKNOWN), Answer::Known(_)));
    drop(first);
    // Start times have a resolution of 10 ms.
    std::thread::sleep(std::time::Duration::from_millis(25));
    std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    let second = start(&mut Command::new(&cat));
    if second.id() != pid {
        println!("outcome=another number");
        return;
    }
    wait_for_exec(&second, &cat);
    assert_eq!(resolver.identify(pid, connected_at, Generation::UNKNOWN), Answer::Gone);
    assert!(matches!(resolver.identify(pid, BootTime::now(), Generation::UNKNOWN), Answer::Known(_)));
    println!("outcome=reused");
}

#[test]
fn a_number_that_was_given_out_again_is_not_the_process_that_connected() {
    let name = "number_given_out_again";
    if !is_root() {
        return skipped(name, "needs root");
    }
    if !gnomon_testkit::has(name, &["unshare"]) {
        return;
    }
    let unshare = tool("unshare").unwrap();
    for _ in 0..5 {
        let output = Command::new(&unshare)
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "reuse::reuse_a_number", "--nocapture", "--test-threads=1"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        if text.contains("outcome=reused") {
            return;
        }
    }
    skipped(name, "a thread took the number each time");
}
