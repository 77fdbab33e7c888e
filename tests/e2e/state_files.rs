//! The files of a state folder have the modes that docs/configuration.md says, whatever the umask of whoever starts gnomon.

use crate::{exec::GNOMON, sensor_stage::until};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

/// A running gnomon; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The table of the page: each file's mode, none where it says none.
fn documented() -> BTreeMap<String, Option<u32>> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let table = page.split_once("| file | what | mode |").unwrap().1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut modes = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (files, mode) = (cells[1], u32::from_str_radix(cells[3], 8).ok());
        let names: Vec<&str> = files.split('`').skip(1).step_by(2).collect();
        for name in &names {
            // `-wal` is said of the file before it.
            let name = if name.starts_with('-') { format!("{}{name}", names[0]) } else { (*name).to_owned() };
            modes.insert(name, mode);
        }
    }
    modes
}

fn modes(folder: &Path) -> BTreeMap<String, u32> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = files.filter_map(|file| Some((file.file_name(), file.metadata().ok().filter(|found| found.is_file())?)));
    files.map(|(name, found)| (name.into_string().unwrap(), found.permissions().mode() & 0o7777)).collect()
}

#[test]
fn what_gnomon_writes_is_for_its_user_and_group_whatever_the_umask() {
    let documented = documented();
    assert!(documented.len() > 15 && documented["audit.sqlite-wal"] == Some(0o640), "{documented:?}");
    for (command, wanted) in [
        ("portal", &["ledger.sqlite", "ledger.sqlite-wal", "ledger.clock", "audit.sqlite", "audit.key", "audit.clock", "ledger.lock"][..]),
        ("proxy", &["ca.pem", "ca.key", "ledger.sqlite"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (config, state, events) = (folder.path().join("gnomon.yml"), folder.path().join("state"), folder.path().join("events.jsonl"));
        let portal = "[{id: main, listen: '127.0.0.1:0', servers: [one], policy: [{allow: {servers: [one]}}]}]";
        let text = format!(
            "metrics: {{listen: 'off'}}\nproxy: {{listen: '127.0.0.1:0'}}\nevents: {{jsonl: {}}}\nservers: [{{id: one, url: 'http://127.0.0.1:1/mcp'}}]\nportals: {portal}\n",
            events.display()
        );
        fs::write(&config, text).unwrap();
        let mut gnomon = Command::new("sh");
        gnomon.args(["-c", "umask 0; exec \"$@\"", "sh", GNOMON, command, "--config"]).arg(&config).arg("--state-dir").arg(&state);
        let _running = Running(gnomon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let found = until("the files", || Some(modes(&state)).filter(|found| wanted.iter().all(|name| found.contains_key(*name))));
        for (name, mode) in &found {
            let documented = documented.get(name).copied();
            assert!(documented.is_some() || name.starts_with('.'), "docs/configuration.md does not name {name}");
            match documented.flatten() {
                Some(documented) => assert_eq!(*mode, documented, "{command}: {name} is {mode:o}"),
                None => assert_eq!(mode & 0o007, 0, "{command}: {name} is {mode:o}"),
            }
        }
        let mode = until("the file of events", || fs::metadata(&events).ok()).permissions().mode() & 0o7777;
        assert_eq!(mode, 0o640);
    }
}
