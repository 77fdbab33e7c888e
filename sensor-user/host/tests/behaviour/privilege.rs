//! Which capabilities reading an identity needs: the test binary runs itself as nobody, with one capability at a time.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use gnomon_host::identity::{Answer, BootTime, Executable, Generation, Resolver};

use crate::support::{is_root, skipped, start, tool, wait_for_exec};

const TARGET: &str = "GNOMON_HOST_TARGET";

/// Not a test of its own: what [`an_executable_of_another_user_needs_cap_sys_ptrace`] runs as nobody.
#[test]
#[ignore = "run by another test"]
fn look_at_target() {
    let pid = std::env::var(TARGET).unwrap().parse().unwrap();
    match Resolver::default().identify(pid, BootTime::now(), Generation::UNKNOWN) {
        Answer::Known(identity) => match identity.executable {
            Executable::File { digest, .. } => println!("seen=file {digest:?}"),
            other => println!("seen={other:?}"),
        },
        other => println!("seen={other:?}"),
    }
}

#[test]
fn an_executable_of_another_user_needs_cap_sys_ptrace() {
    let name = "executable_of_another_user";
    if !is_root() {
        return skipped(name, "needs root");
    }
    if !gnomon_testkit::has(name, &["setpriv"]) {
        return;
    }
    let setpriv = tool("setpriv").unwrap();
    let cat = tool("cat").unwrap();
    let target = start(&mut Command::new(&cat));
    wait_for_exec(&target, &cat);
    // The user nobody may not have access to the build folder.
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let own = directory.path().join("behaviour");
    std::fs::copy(std::env::current_exe().unwrap(), &own).unwrap();
    let look = |capabilities: &str| {
        let inherited = format!("-all{capabilities}");
        let mut command = Command::new(&setpriv);
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", &inherited]);
        if !capabilities.is_empty() {
            command.args(["--ambient-caps", &inherited]);
        }
        let output = command
            .arg(&own)
            .args(["--ignored", "--exact", "privilege::look_at_target", "--nocapture"])
            .env(TARGET, target.id().to_string())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .find_map(|line| Some(line.split_once("seen=")?.1.to_owned()))
            .unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    };
    assert_eq!(look(""), "Hidden");
    assert_eq!(look(",+dac_read_search"), "Hidden");
    assert!(look(",+sys_ptrace").starts_with("file Sha256"), "{}", look(",+sys_ptrace"));
}
