//! Stand-ins for the proxy and for servers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::thread;

use gnomon_sensor::listen::{self, Listeners};
use gnomon_sensor::{Owner, owner_of};

use super::stage::mark;

/// Our listeners: they send a greeting, and record who connected.
pub struct Proxy {
    pub port: u16,
    came: Arc<Came>,
    /// To be shut down at the end.
    stop: Vec<TcpListener>,
}

impl Proxy {
    pub fn start() -> Self {
        Self::start_in(None, 0)
    }

    /// On IPv4 only, as in a namespace without IPv6.
    pub fn start_v4() -> Self {
        let mut listeners = listen::in_namespace(None, mark(), 0).unwrap();
        listeners.v6 = None;
        Self::serving(listeners)
    }

    pub fn start_in(netns: Option<BorrowedFd<'_>>, port: u16) -> Self {
        Self::serving(listen::in_namespace(netns, mark(), port).unwrap())
    }

    fn serving(listeners: Listeners) -> Self {
        let port = listeners.port().unwrap();
        let came = Arc::default();
        let mut stop = Vec::new();
        for listener in [Some(listeners.v4), listeners.v6].into_iter().flatten() {
            stop.push(listener.try_clone().unwrap());
            let came = Arc::clone(&came);
            thread::spawn(move || serve(&listener, &came));
        }
        Self { port, came, stop }
    }

    /// The connections so far: the peer's address, its owner, and its destination.
    pub fn came(&self) -> Vec<Visit> {
        self.came.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for listener in &self.stop {
            // SAFETY: shuts a socket down that is open; a thread that waits in accept() is woken with an error.
            unsafe { libc::shutdown(std::os::fd::AsRawFd::as_raw_fd(listener), libc::SHUT_RDWR) };
        }
    }
}

/// The peer's address, its owner, and what `SO_ORIGINAL_DST` says.
type Visit = (SocketAddr, Option<Owner>, Option<SocketAddr>);
type Came = Mutex<Vec<Visit>>;

fn serve(listener: &TcpListener, came: &Came) {
    while let Ok((mut stream, peer)) = listener.accept() {
        let owner = owner_of(stream.as_fd()).unwrap();
        came.lock().unwrap().push((peer, owner, original_destination(&stream)));
        thread::spawn(move || {
            let _ = stream.write_all(b"proxy\n");
            swallow(stream);
        });
    }
}

/// Reads `SO_ORIGINAL_DST`, as any transparent proxy does.
fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let mut bytes = [0_u8; 28];
    let v4 = stream.local_addr().unwrap().is_ipv4();
    let mut length: libc::socklen_t = if v4 { 16 } else { 28 };
    let level = if v4 { libc::SOL_IP } else { libc::SOL_IPV6 };
    // SAFETY: the kernel writes at most `length` bytes into a buffer of 28.
    let status =
        unsafe { libc::getsockopt(std::os::fd::AsRawFd::as_raw_fd(stream), level, 80, bytes.as_mut_ptr().cast(), &raw mut length) };
    if status != 0 {
        return None;
    }
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    Some(if v4 {
        SocketAddr::new(<[u8; 4]>::try_from(&bytes[4..8]).unwrap().into(), port)
    } else {
        SocketAddr::new(<[u8; 16]>::try_from(&bytes[8..24]).unwrap().into(), port)
    })
}

fn swallow(mut stream: TcpStream) {
    let mut buffer = [0; 65536];
    while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
}

/// A server that sends another greeting.
pub struct Upstream {
    pub at: SocketAddr,
    listener: TcpListener,
}

impl Upstream {
    pub fn start(at: &str) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let at = listener.local_addr().unwrap();
        let accepting = listener.try_clone().unwrap();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = accepting.accept() {
                thread::spawn(move || {
                    let _ = stream.write_all(b"upstream\n");
                    swallow(stream);
                });
            }
        });
        Self { at, listener }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // SAFETY: as for the proxy.
        unsafe { libc::shutdown(std::os::fd::AsRawFd::as_raw_fd(&self.listener), libc::SHUT_RDWR) };
    }
}
