//! Records, byte for byte as in `gnomon-sensor-abi`, and the ClientHellos in them.

use gnomon_sensor::{Owner, Record};
use gnomon_sensor_abi::{AF_INET, Reason, decision, kind};

/// A connection to be told of. Only what tests care about.
#[derive(Clone, Debug)]
pub struct Call {
    pub cookie: u64,
    pub pid: u32,
    pub uid: u32,
    pub generation: u64,
    pub connected: u64,
    pub scope: u32,
    pub ip: [u8; 4],
    pub port: u16,
    pub decision: u16,
    pub reason: Option<Reason>,
}

impl Call {
    /// An ordinary one, of process 4711 of user 1000, to 203.0.113.7:443.
    pub fn new(cookie: u64) -> Self {
        let connected = 100_000_000_000 + cookie;
        let decision = decision::OBSERVED;
        Self {
            cookie,
            pid: 4711,
            uid: 1000,
            generation: 50_000_000_000,
            connected,
            scope: 0,
            ip: [203, 0, 113, 7],
            port: 443,
            decision,
            reason: None,
        }
    }

    pub fn fail_open(cookie: u64, reason: Reason) -> Self {
        Self { scope: 7, decision: decision::FAIL_OPEN, reason: Some(reason), ..Self::new(cookie) }
    }

    pub fn redirected(cookie: u64) -> Self {
        Self { scope: 7, decision: decision::REDIRECTED, ..Self::new(cookie) }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut record = header(kind::CONNECT, 120);
        record.extend_from_slice(&self.decision.to_ne_bytes());
        record.extend_from_slice(&self.reason.map_or(0, |reason| reason as u16 + 1).to_ne_bytes());
        record.extend_from_slice(&[0; 4]);
        for word in [self.cookie, 4_026_531_840, 77, self.connected, self.generation] {
            record.extend_from_slice(&word.to_ne_bytes());
        }
        for word in [self.pid, self.pid, self.uid, self.uid] {
            record.extend_from_slice(&word.to_ne_bytes());
        }
        record.extend(address(self.ip, self.port));
        let flags = u32::from(self.decision == decision::REDIRECTED);
        record.extend_from_slice(&self.scope.to_ne_bytes());
        record.extend_from_slice(&flags.to_ne_bytes());
        record.extend_from_slice(b"claude\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(record.len(), 120);
        record
    }

    pub fn owner(&self) -> Owner {
        match Record::parse(&self.bytes()).unwrap() {
            Record::Connect(connect) => connect.owner,
            other => panic!("{other:?}"),
        }
    }
}

/// A program that a process of this user started.
pub fn start(pid: u32, uid: u32, began: u64, name: &str) -> Vec<u8> {
    let mut record = header(kind::START, 56);
    for word in [began, 77] {
        record.extend_from_slice(&word.to_ne_bytes());
    }
    for word in [pid, uid, uid, 0] {
        record.extend_from_slice(&word.to_ne_bytes());
    }
    let mut comm = [0; 16];
    let name = &name.as_bytes()[..name.len().min(15)];
    comm[..name.len()].copy_from_slice(name);
    record.extend_from_slice(&comm);
    record
}

fn header(kind: u16, length: usize) -> Vec<u8> {
    let mut bytes = kind.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&u16::try_from(length).unwrap().to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

fn address(ip: [u8; 4], port: u16) -> Vec<u8> {
    let mut bytes = ip.to_vec();
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(&port.to_ne_bytes());
    bytes.extend_from_slice(&AF_INET.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// A part of a hello.
pub fn part(cookie: u64, offset: usize, remaining: usize, bytes: &[u8]) -> Vec<u8> {
    let mut record = header(kind::HELLO, 32 + bytes.len());
    record.extend_from_slice(&cookie.to_ne_bytes());
    for word in [offset, remaining, bytes.len(), 0] {
        record.extend_from_slice(&u32::try_from(word).unwrap().to_ne_bytes());
    }
    record.extend_from_slice(bytes);
    record
}

/// A whole one.
pub fn hello(cookie: u64, name: &str) -> Vec<u8> {
    part(cookie, 0, 0, &client_hello(name))
}

/// The end of a connection: one of `gnomon_sensor_abi::end`.
pub fn close(cookie: u64, end: u32) -> Vec<u8> {
    let mut record = header(kind::CLOSE, 72);
    for word in [cookie, 200, 100, 5_000_000] {
        record.extend_from_slice(&word.to_ne_bytes());
    }
    record.extend(address([203, 0, 113, 7], 51_234));
    record.extend_from_slice(&end.to_ne_bytes());
    record.extend_from_slice(&[0; 4]);
    assert_eq!(record.len(), 72);
    record
}

/// A ClientHello of TLS 1.3 that asks for a server, in one record (RFC 8446 section 4.1.2).
pub fn client_hello(name: &str) -> Vec<u8> {
    let vector16 = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &vector16(body)].concat();
    let server_name = vector16(&[&[0][..], &vector16(name.as_bytes())].concat());
    let extensions = [extension(0, &server_name), extension(43, &[2, 3, 4]), extension(16, &vector16(b"\x02h2"))].concat();
    let random = [0x5a; 32];
    let body = [&[3, 3][..], &random, &[0], &vector16(&[0x13, 0x01]), &[1, 0], &vector16(&extensions)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    [&[22, 3, 1][..], &vector16(&message)].concat()
}
