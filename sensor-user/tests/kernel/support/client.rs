//! A program in the test's cgroup that carries out orders, one a line.

use std::io::{BufRead, BufReader, Read, Write};
use std::mem::size_of_val;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use super::roles::{self, SIGN};

/// A client process.
pub struct Client {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Client {
    /// Starts one in a cgroup.
    pub fn start(cgroup: &Path) -> Self {
        let mut child = roles::start("client", Some(cgroup), &[]);
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order and returns the answer.
    pub fn ask(&mut self, order: &str) -> String {
        self.tell(order);
        self.answer()
    }

    pub fn tell(&mut self, order: &str) {
        writeln!(self.to, "{order}").unwrap();
    }

    pub fn answer(&mut self) -> String {
        roles::answer(&mut self.from)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The client process.
pub fn act() {
    let mut stream: Option<TcpStream> = None;
    let mut listeners = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = obey(&words, &mut stream, &mut listeners).unwrap_or_else(|error| {
            format!("error {}", error.raw_os_error().map_or_else(|| error.to_string(), |number| number.to_string()))
        });
        println!("\n{SIGN}{answer}");
    }
}

fn obey(words: &[&str], stream: &mut Option<TcpStream>, listeners: &mut Vec<TcpListener>) -> std::io::Result<String> {
    let address = |word: &str| word.parse::<SocketAddr>().unwrap();
    match *words {
        // Connects and reads the greeting: which server answered, and what getpeername() says.
        ["tcp", to] => connected(stream, socket(address(to), libc::SOCK_STREAM, 0)?, address(to)),
        ["multipath", to] => connected(stream, socket(address(to), libc::SOCK_STREAM, libc::IPPROTO_MPTCP)?, address(to)),
        // The same, from this port of 127.0.0.1.
        ["from", port, to] => connected(stream, bound(port.parse().unwrap(), address(to))?, address(to)),
        // The same, without waiting for a greeting.
        ["open", port, to] => {
            let socket = bound(port.parse().unwrap(), address(to))?;
            connect(&socket, address(to))?;
            *stream = Some(TcpStream::from(socket));
            Ok("done".into())
        }
        // Becomes an ordinary user.
        ["user", uid] => {
            let uid = uid.parse().unwrap();
            // SAFETY: only changes whose this process is; it has no other thread that matters.
            match unsafe { libc::setresuid(uid, uid, uid) } {
                0 => Ok("done".into()),
                _ => Err(std::io::Error::last_os_error()),
            }
        }
        // Makes this many connections from each of these ports, one after the other; answers how many got a greeting.
        ["hammer", rounds, first, last, to] => {
            Ok(hammer(rounds.parse().unwrap(), first.parse().unwrap()..=last.parse().unwrap(), address(to)))
        }
        ["device", name, to] => {
            let socket = socket(address(to), libc::SOCK_STREAM, 0)?;
            option(&socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name.as_bytes())?;
            connected(stream, socket, address(to))
        }
        // Disconnects the socket and connects the same one again.
        ["again", to] => {
            let socket = OwnedFd::from(stream.take().unwrap());
            // SAFETY: all zeros is a valid address, of the family that says so, connect(2).
            let nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
            // SAFETY: an address of the length said.
            if unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, size_of_val(&nowhere) as u32) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            connected(stream, socket, address(to))
        }
        // Data with the SYN.
        ["fast-open", to, data] => {
            let socket = socket(address(to), libc::SOCK_STREAM, 0)?;
            let (raw, length) = raw(address(to));
            // SAFETY: the buffers are as long as said.
            let sent = unsafe {
                libc::sendto(socket.as_raw_fd(), data.as_ptr().cast(), data.len(), libc::MSG_FASTOPEN, (&raw const raw).cast(), length)
            };
            if sent < 0 {
                return Err(std::io::Error::last_os_error());
            }
            let mut opened = TcpStream::from(socket);
            let peer = opened.peer_addr()?;
            let greeting = greeting(&mut opened)?;
            *stream = Some(opened);
            Ok(format!("{greeting} {peer}"))
        }
        ["udp-connect", to] => {
            let bound = UdpSocket::bind(if address(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            bound.connect(address(to))?;
            Ok("done".into())
        }
        ["udp-send", to] => {
            let bound = UdpSocket::bind(if address(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            bound.send_to(b"datagram", address(to))?;
            Ok("done".into())
        }
        ["local"] => Ok(stream.as_ref().unwrap().local_addr()?.to_string()),
        // Sends parts, each with a push of its own.
        ["send", ref parts @ ..] => {
            let stream = stream.as_mut().unwrap();
            stream.set_nodelay(true)?;
            for part in parts {
                let bytes: Vec<u8> = (0..part.len() / 2).map(|i| u8::from_str_radix(&part[2 * i..2 * i + 2], 16).unwrap()).collect();
                stream.write_all(&bytes)?;
                // So that the kernel does not join them.
                std::thread::sleep(Duration::from_millis(3));
            }
            Ok("done".into())
        }
        // From now on hop-by-hop and destination options (padding, RFC 8200 4.2) precede each TCP header.
        ["extensions"] => {
            let stream = stream.as_ref().unwrap();
            for name in [libc::IPV6_HOPOPTS, libc::IPV6_DSTOPTS] {
                option(stream, libc::IPPROTO_IPV6, name, &[0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
            }
            Ok("done".into())
        }
        // Closes with a reset, so that the port is free at once (socket(7)).
        ["abort"] => {
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            option(
                stream.as_ref().unwrap(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                &[linger.l_onoff, linger.l_linger].map(i32::to_ne_bytes).concat(),
            )?;
            *stream = None;
            Ok("done".into())
        }
        ["close"] => {
            *stream = None;
            Ok("done".into())
        }
        // Makes many connections, one after the other; answers how many each server greeted, and how long the longest took.
        ["many", count, to] => Ok(many(count.parse().unwrap(), address(to))),
        // The same, until the time is over.
        ["for", milliseconds, to] => Ok(during(Duration::from_millis(milliseconds.parse().unwrap()), address(to))),
        ["exec"] => {
            let status = std::process::Command::new("true").status()?;
            Ok(format!("{status}"))
        }
        // Moves to a new network namespace; answers the path at which it can be entered.
        ["unshare"] => {
            // SAFETY: only this thread moves; it is the one that makes every socket of this process.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET)? };
            loopback_up()?;
            Ok(format!("/proc/{}/task/{}/ns/net", std::process::id(), rustix::thread::gettid().as_raw_nonzero()))
        }
        // Runs a server in this process's namespace.
        ["serve", at, word] => {
            let listener = TcpListener::bind(address(at))?;
            let at = listener.local_addr()?;
            listeners.push(listener.try_clone()?);
            let word = format!("{word}\n");
            std::thread::spawn(move || {
                let mut kept = Vec::new();
                while let Ok((mut accepted, _)) = listener.accept() {
                    let _ = accepted.write_all(word.as_bytes());
                    kept.push(accepted);
                }
            });
            Ok(at.to_string())
        }
        _ => panic!("no such order: {words:?}"),
    }
}

/// A new namespace's loopback device is down, netdevice(7).
fn loopback_up() -> std::io::Result<()> {
    let socket = socket(SocketAddr::from(([127, 0, 0, 1], 0)), libc::SOCK_DGRAM, 0)?;
    // SAFETY: all zeros is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&b"lo".map(|byte| libc::c_char::from_ne_bytes([byte])));
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the kernel reads a request that lives until the call returns.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A socket bound to this port of 127.0.0.1, which may be shared with connections to other addresses.
fn bound(port: u16, to: SocketAddr) -> std::io::Result<OwnedFd> {
    let socket = socket(to, libc::SOCK_STREAM, 0)?;
    option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1_i32.to_ne_bytes())?;
    let (raw, length) = raw(SocketAddr::from(([127, 0, 0, 1], port)));
    // SAFETY: an address of the length said.
    let status = unsafe { libc::bind(socket.as_raw_fd(), (&raw const raw).cast(), length) };
    if status == 0 { Ok(socket) } else { Err(std::io::Error::last_os_error()) }
}

fn hammer(rounds: usize, ports: std::ops::RangeInclusive<u16>, to: SocketAddr) -> String {
    let (mut answered, mut failed) = (0, 0);
    for port in std::iter::repeat_n(ports, rounds).flatten() {
        let once = || {
            let socket = bound(port, to)?;
            connect(&socket, to)?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            greeting(&mut stream)?;
            // So that the port is free at once.
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            option(&stream, libc::SOL_SOCKET, libc::SO_LINGER, &[linger.l_onoff, linger.l_linger].map(i32::to_ne_bytes).concat())
        };
        match once() {
            Ok(()) => answered += 1,
            Err(_) => failed += 1,
        }
    }
    format!("answered={answered} failed={failed}")
}

fn many(count: usize, to: SocketAddr) -> String {
    let mut tally = Tally::default();
    for _ in 0..count {
        tally.one(to);
    }
    tally.told()
}

fn during(time: Duration, to: SocketAddr) -> String {
    let mut tally = Tally::default();
    let start = Instant::now();
    while start.elapsed() < time {
        tally.one(to);
    }
    tally.told()
}

#[derive(Default)]
struct Tally {
    proxy: usize,
    upstream: usize,
    failed: usize,
    longest: Duration,
}

impl Tally {
    fn one(&mut self, to: SocketAddr) {
        let start = Instant::now();
        let greeted = TcpStream::connect(to).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            greeting(&mut stream)
        });
        match greeted.as_deref() {
            Ok("proxy") => self.proxy += 1,
            Ok("upstream") => self.upstream += 1,
            _ => self.failed += 1,
        }
        self.longest = self.longest.max(start.elapsed());
    }

    fn told(&self) -> String {
        format!("proxy={} upstream={} failed={} longest={}", self.proxy, self.upstream, self.failed, self.longest.as_millis())
    }
}

fn greeting(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut word = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        word.push(byte[0]);
    }
    if word.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(String::from_utf8(word).unwrap()) }
}

fn connect(socket: &OwnedFd, to: SocketAddr) -> std::io::Result<()> {
    let (raw, length) = raw(to);
    // SAFETY: an address of the length said.
    let status = unsafe { libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), length) };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn connected(into: &mut Option<TcpStream>, socket: OwnedFd, to: SocketAddr) -> std::io::Result<String> {
    connect(&socket, to)?;
    let mut stream = TcpStream::from(socket);
    let greeting = greeting(&mut stream)?;
    let peer = stream.peer_addr()?;
    *into = Some(stream);
    Ok(format!("{greeting} {peer}"))
}

fn socket(to: SocketAddr, class: i32, protocol: i32) -> std::io::Result<OwnedFd> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: makes a descriptor that nobody else has, or fails.
    let fd = unsafe { libc::socket(family, class | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn option(socket: &impl AsRawFd, level: i32, name: i32, value: &[u8]) -> std::io::Result<()> {
    // SAFETY: the value is as long as said.
    let status = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), size_of_val(value) as u32) };
    if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn raw(address: SocketAddr) -> (libc::sockaddr_in6, libc::socklen_t) {
    // SAFETY: all zeros is a valid address.
    let mut raw: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    match address {
        SocketAddr::V4(v4) => {
            raw.sin6_family = libc::AF_INET as u16;
            raw.sin6_port = v4.port().to_be();
            raw.sin6_flowinfo = u32::from_ne_bytes(v4.ip().octets());
            (raw, size_of::<libc::sockaddr_in>() as u32)
        }
        SocketAddr::V6(v6) => {
            raw.sin6_family = libc::AF_INET6 as u16;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            (raw, size_of::<libc::sockaddr_in6>() as u32)
        }
    }
}
