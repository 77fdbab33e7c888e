//! At which addresses a process listens, or what it started: a local server may be fetched by one process and be another.
//!
//! Which sockets a process has say its descriptors, and which of these listen the tables of its network namespace (proc_pid_net(5)). A
//! process can open and close as it likes: what is read was so at one moment, and bounds hold whatever it does.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;

use super::held::errno;
use super::resolver::refused;
use super::stat::Stat;
use super::{BootTime, Held};

/// Most processes that are looked at: the one that is meant, and what it started, breadth first.
const MAX_PROCESSES: usize = 64;
/// Most threads of one that are asked for what they started.
const MAX_THREADS: usize = 64;
/// Most descriptors of one process that are looked at.
const MAX_DESCRIPTORS: usize = 4096;
/// Most bytes of a list of children, and of a table of sockets.
const MAX_CHILDREN: u64 = 64 << 10;
const MAX_TABLE: u64 = 1 << 20;
/// Most addresses.
pub const MAX_LISTENS: usize = 32;
/// The state of a socket that listens, in the kernel's tables (`TCP_LISTEN`).
const LISTEN: &str = "0A";

/// The answer to where a process listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListensAnswer {
    /// The TCP addresses, each once, at most [`MAX_LISTENS`]; none if at none.
    At(Vec<SocketAddr>),
    /// The process has ended. Its number may belong to another by now; that one was not read.
    Gone,
    /// The system refused to say, for a reason that is not the process's end.
    Unreadable(&'static str),
}

/// The addresses at which the process with this number and start time listens, or one below it.
#[must_use]
pub fn listens(pid: u32, started: BootTime) -> ListensAnswer {
    read(pid, started).unwrap_or_else(|error| match refused(error) {
        None => ListensAnswer::Gone,
        Some(why) => ListensAnswer::Unreadable(why),
    })
}

fn read(pid: u32, started: BootTime) -> Result<ListensAnswer, Errno> {
    let first = Held::open(pid)?;
    let stat = Stat::read(&first).map_err(|error| errno(&error))?;
    if stat.started_at != started || stat.is_dead() {
        return Ok(ListensAnswer::Gone);
    }
    let mut found = BTreeSet::new();
    let mut read = HashSet::from([pid]);
    let mut next = VecDeque::from([(pid, first)]);
    let mut is_first = true;
    while let Some((pid, held)) = next.pop_front() {
        match addresses(&held) {
            Ok(addresses) => found.extend(addresses),
            // Of what it started, one that cannot be read hides no other.
            Err(error) if is_first => return Err(error),
            Err(_) => {}
        }
        is_first = false;
        for child in children(&held) {
            if read.len() >= MAX_PROCESSES || !read.insert(child) {
                continue;
            }
            // Its number may be another's since it was read.
            let Ok(held) = Held::open(child) else { continue };
            if Stat::read(&held).is_ok_and(|stat| stat.parent == pid) {
                next.push_back((child, held));
            }
        }
    }
    Ok(ListensAnswer::At(found.into_iter().take(MAX_LISTENS).collect()))
}

/// What its threads started, as far as that is still below it. Kernels without `CONFIG_PROC_CHILDREN` do not say.
fn children(held: &Held) -> Vec<u32> {
    let of = |thread| held.read(&format!("task/{thread}/children"), MAX_CHILDREN).unwrap_or_default();
    let lists = held.threads(MAX_THREADS).into_iter().map(of);
    lists
        .flat_map(|list| String::from_utf8_lossy(&list).split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

fn addresses(held: &Held) -> Result<Vec<SocketAddr>, Errno> {
    let sockets = sockets(held)?;
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for table in ["net/tcp", "net/tcp6"] {
        // A namespace without IPv6 has no table of it.
        let Ok(file) = held.open_file(table) else { continue };
        let lines = BufReader::new(std::fs::File::from(file).take(MAX_TABLE)).lines().skip(1);
        // Those that listen come first.
        let listening = lines.map_while(Result::ok).map_while(|line| row(&line));
        found.extend(listening.filter(|(_, inode)| sockets.contains(inode)).map(|(address, _)| address));
    }
    Ok(found)
}

/// Inodes of its sockets.
fn sockets(held: &Held) -> Result<HashSet<u64>, Errno> {
    let entries = rustix::fs::Dir::new(held.open_file("fd")?)?;
    let socket = |name: &str| {
        let link = held.link(&format!("fd/{name}")).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_str().ok()?.to_owned()));
    Ok(names.filter(|name| !name.starts_with('.')).take(MAX_DESCRIPTORS).filter_map(|name| socket(&name)).collect())
}

/// The local address and the inode of a row of a socket that listens.
fn row(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    (state == LISTEN).then_some((address(local)?, inode))
}

/// Words of 32 bits in the order of the host, of an address in that of the network; the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at * 8)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn rows_of_the_kernel_s_tables_are_read_and_others_end_them() {
        let v4 = "   0: 0100007F:22E3 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 48213 1 0000000000000000 100 0 0 10 0";
        assert_eq!(row(v4), Some(("127.0.0.1:8931".parse().unwrap(), 48213)));
        let v6 = "   1: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 7 1 0";
        assert_eq!(row(v6), Some(("[::]:3000".parse().unwrap(), 7)));
        let mapped = v6.replacen(&"0".repeat(32), "0000000000000000FFFF00000A00000A", 1);
        assert_eq!(row(&mapped).unwrap().0.ip().to_canonical(), IpAddr::from([10, 0, 0, 10]));
        assert_eq!(row(&v4.replace(" 0A ", " 01 ")), None, "a connection");
        for broken in ["", "x", "0: 0100007F 0 0A", &v4.replace("0100007F", "É100007"), &v4.replace("22E3", "122E3")] {
            assert_eq!(row(broken), None, "{broken}");
        }
    }
}
