//! Ports: free, ours, or in use by another process.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use super::{Check, CheckStatus, Options, Port};

/// Looking for the holder of a port goes through the descriptors of all processes.
const SEARCH: Duration = Duration::from_millis(800);
/// Busy hosts have some ten thousand sockets, of 150 bytes each.
const MAX_TABLE: u64 = 16 << 20;
/// TCP_LISTEN, as `/proc/net/tcp` writes it.
const LISTEN: &str = "0A";

pub(super) fn examine(options: &Options) -> Vec<Check> {
    let deadline = Instant::now() + SEARCH;
    options.ports.iter().map(|port| examine_one(port, options.serving, deadline)).collect()
}

fn examine_one(port: &Port, serving: Option<u32>, deadline: Instant) -> Check {
    let (id, title, address) = (format!("port.{}", port.name), "port to listen on", port.address);
    // Bound and closed at once: only the kernel's own answer considers everything.
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(id, title, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match holder(address.port(), serving, deadline) {
            Holder::Ours(pid) => Check::ok(id, title, format!("{address} is held by gnomon itself, process {pid}")),
            Holder::Hidden(pid) => {
                let seen = format!("{address} is in use; whether by process {pid}, the gnomon that serves, cannot be seen from here");
                Check::not_applicable(id, title, seen)
            }
            Holder::Other(pid, program) => {
                Check::new(id, title, CheckStatus::Fail, format!("{address} is held by process {pid}, {program}"))
                    .next(format!("stop it, or configure another address for {}", port.name))
            }
            Holder::Unknown => {
                let looked = format!("sudo ss -ltnp 'sport = :{}'", address.port());
                let next = if rustix::process::geteuid().is_root() { looked } else { format!("sudo gnomon doctor, or: {looked}") };
                Check::new(id, title, CheckStatus::Fail, format!("{address} is in use by a process that cannot be seen from here"))
                    .next(next)
            }
        },
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Check::new(id, title, CheckStatus::Fail, format!("{address}: not permitted"))
                .next("choose a port from 1024 on, or give gnomon CAP_NET_BIND_SERVICE")
        }
        Err(error) => Check::new(id, title, CheckStatus::Fail, format!("{address}: {error}")).next(format!(
            "configure an address of this host for {}: {}",
            port.name,
            SocketAddr::from(([127, 0, 0, 1], address.port()))
        )),
    }
}

enum Holder {
    Ours(u32),
    Other(u32, String),
    /// Some process; the one that serves does not show what it has.
    Hidden(u32),
    Unknown,
}

fn holder(port: u16, serving: Option<u32>, deadline: Instant) -> Holder {
    let sockets: Vec<String> =
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"].iter().flat_map(|table| listeners(&read(table), port)).collect();
    // Who serves is known by its lock, whatever its program is: after an upgrade that file is gone, and there may be two copies of it.
    let serves = serving.map(|pid| (pid, has_any(pid, &sockets)));
    if let Some((pid, Some(true))) = serves {
        return Holder::Ours(pid);
    }
    let Some(pid) = owner(&sockets, deadline) else {
        return match serves {
            Some((pid, None)) => Holder::Hidden(pid),
            _ => Holder::Unknown,
        };
    };
    // Without a lock to go by, by the program: compared by inode, not by name.
    let file = |pid: &str| std::fs::metadata(format!("/proc/{pid}/exe")).ok().map(|status| (status.dev(), status.ino()));
    if file("self").is_some() && file(&pid.to_string()) == file("self") {
        return Holder::Ours(pid);
    }
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).map_or("unknown program".to_owned(), |path| path.display().to_string());
    Holder::Other(pid, program)
}

/// Whether any process of this network namespace listens on this port. Asks nobody and needs no right.
#[must_use]
pub fn is_listened_on(port: u16) -> bool {
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].iter().any(|table| !listeners(&read(table), port).is_empty())
}

fn read(table: &str) -> String {
    let mut text = Vec::new();
    if let Ok(file) = File::open(table) {
        // What could not be read counts as not found.
        drop(file.take(MAX_TABLE).read_to_end(&mut text));
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The targets of descriptors of sockets that listen on this port (proc_pid_net(5)).
fn listeners(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let row = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        (local.ends_with(&suffix) && state == LISTEN).then(|| Some(format!("socket:[{}]", fields.nth(5)?)))?
    };
    table.lines().filter_map(row).collect()
}

fn owner(sockets: &[String], deadline: Instant) -> Option<u32> {
    for process in std::fs::read_dir("/proc").ok()? {
        if Instant::now() > deadline {
            return None;
        }
        let Some(pid) = process.ok()?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if has_any(pid, sockets) == Some(true) {
            return Some(pid);
        }
    }
    None
}

/// Whether the process has one of these sockets; none where it may not be looked at.
fn has_any(pid: u32, sockets: &[String]) -> Option<bool> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    Some(descriptors.flatten().any(|descriptor| {
        let leads_to = std::fs::read_link(descriptor.path()).unwrap_or_default();
        sockets.iter().any(|socket| leads_to.as_os_str() == socket.as_str())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:20FB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0000000000000000 100 0 0 10 0\n\
             1: 0100007F:20FB 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4343 1 0000000000000000 20 4 30 10 -1\n\
             2: junk\n";
        assert_eq!(listeners(table, 8443), ["socket:[4242]"]);
        assert_eq!(listeners(table, 8444), [""; 0]);
    }
}
