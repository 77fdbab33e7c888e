//! What the configuration files of clients list, for the users of a host.

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    process::{Command, Output},
};

const TOKEN: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// An account in a copy of `/etc/passwd`, which a mount namespace of the command's own puts in the place of the host's.
fn gnomon(passwd: &std::path::Path, arguments: &str) -> Output {
    let script = format!("mount --bind {} /etc/passwd && exec {} {arguments}", passwd.display(), env!("CARGO_BIN_EXE_gnomon"));
    Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap()
}

#[test]
fn root_sees_the_servers_of_all_users_and_no_secret_of_theirs() {
    if !rustix::process::geteuid().is_root() {
        return gnomon_testkit::skip("root_sees_the_servers_of_all_users_and_no_secret_of_theirs", "needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut passwd = "root:x:0:0::/:/bin/sh\n".to_owned();
    for (name, uid) in [("ada", 31_001), ("bob", 31_002)] {
        let home = dir.path().join(name);
        for (file, text) in [
            (
                ".cursor/mcp.json",
                format!(
                    r#"{{"mcpServers":{{"hub":{{"command":"npx","args":["-y","server-of-{name}"],"env":{{"GITHUB_TOKEN":"{TOKEN}"}}}}}}}}"#
                ),
            ),
            (".codex/config.toml", "[mcp_servers.docs]\nurl = 'http://docs.example/mcp?key=abcdefgh'\n".to_owned()),
        ] {
            let path = home.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(uid), Some(uid)).unwrap();
            chown(path.parent().unwrap(), Some(uid), Some(uid)).unwrap();
        }
        chown(&home, Some(uid), Some(uid)).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        passwd.push_str(&format!("{name}:x:{uid}:{uid}::{}:/bin/sh\n", home.display()));
    }
    // Of another's file nobody's reader tells anything.
    symlink(dir.path().join("bob/.cursor/mcp.json"), dir.path().join("ada/.claude.json")).unwrap();
    let file = dir.path().join("passwd");
    fs::write(&file, passwd).unwrap();

    let output = gnomon(&file, "local list");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    for expected in [
        "ada  Cursor  ",
        "npx server-of-ada; not pinned; secret in env.GITHUB_TOKEN (github-token)",
        "npx server-of-bob",
        "http://docs.example/mcp; without encryption",
        "could not be read: it leads out of the home directory",
        "4 servers in 5 files of 2 users",
    ] {
        assert!(said.contains(expected), "{expected}: {said}{errors}");
    }
    assert!(!said.contains(&TOKEN[4..]) && !said.contains("abcdefgh"), "{said}");

    let json: Value = serde_json::from_slice(&gnomon(&file, "local list --json --user bob --secrets").stdout).unwrap();
    assert_eq!((json.as_array().unwrap().len(), &json[0]["name"]), (1, &"bob".into()), "{json}");
    assert_eq!(json[0]["files"][0]["servers"][0]["reached"]["stdio"]["name"], "server-of-bob", "{json}");
    assert!(!json.to_string().contains(&TOKEN[4..]), "{json}");

    let unknown = gnomon(&file, "local list --user nobody-of-this-name");
    assert_eq!(unknown.status.code(), Some(2));
}
