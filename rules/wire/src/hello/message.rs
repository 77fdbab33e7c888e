//! The ClientHello message (RFC 8446 section 4.1.2) and the extensions that matter.

use std::net::IpAddr;

use super::{ClientHello, HelloError};
use crate::jsonrpc::Presence;

pub(super) const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
pub(super) const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xFE0D;

const MAX_SESSION_ID: usize = 32;
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

/// A reader that only goes forward; every read may fail, and sub-readers cannot see past their vector.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HelloError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A vector whose length is one byte.
    fn vector8(&mut self) -> Result<&'a [u8], HelloError> {
        let [length] = self.array()?;
        self.take(usize::from(length))
    }

    /// A vector whose length is two bytes.
    fn vector16(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn end(&self) -> Result<(), HelloError> {
        if self.0.is_empty() { Ok(()) } else { Err(HelloError::Malformed) }
    }
}

pub(super) fn parse(body: &[u8]) -> Result<ClientHello, HelloError> {
    let mut reader = Reader(body);
    let mut hello = ClientHello { legacy_version: reader.u16()?, random: reader.array()?, ..ClientHello::default() };
    let session_id = reader.vector8()?;
    if session_id.len() > MAX_SESSION_ID {
        return Err(HelloError::Malformed);
    }
    hello.session_id = session_id.to_vec();
    hello.cipher_suites = words(reader.vector16()?)?;
    if reader.vector8()?.is_empty() {
        // The compression methods hold at least `null`.
        return Err(HelloError::Malformed);
    }
    // TLS 1.2 and older may leave the extensions out altogether.
    if !reader.0.is_empty() {
        let extensions = reader.vector16()?;
        reader.end()?;
        read_extensions(&mut hello, extensions)?;
    }
    Ok(hello)
}

fn read_extensions(hello: &mut ClientHello, bytes: &[u8]) -> Result<(), HelloError> {
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        let kind = reader.u16()?;
        let data = reader.vector16()?;
        hello.extensions.push(kind);
        match kind {
            SERVER_NAME => hello.sni = server_name(data)?,
            SUPPORTED_GROUPS => hello.supported_groups = word_list(data)?,
            SIGNATURE_ALGORITHMS => hello.signature_algorithms = word_list(data)?,
            ALPN => hello.alpn = protocols(data)?,
            SUPPORTED_VERSIONS => {
                let mut versions = Reader(data);
                hello.versions = words(versions.vector8()?)?;
                versions.end()?;
            }
            ENCRYPTED_CLIENT_HELLO => hello.ech = Presence::Present,
            _ => {}
        }
    }
    let mut sorted = hello.extensions.clone();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(HelloError::DuplicateExtension);
    }
    Ok(())
}

/// A non-empty run of 16-bit values.
fn words(bytes: &[u8]) -> Result<Vec<u16>, HelloError> {
    let (pairs, odd) = bytes.as_chunks();
    if pairs.is_empty() || !odd.is_empty() {
        return Err(HelloError::Malformed);
    }
    Ok(pairs.iter().copied().map(u16::from_be_bytes).collect())
}

fn word_list(data: &[u8]) -> Result<Vec<u16>, HelloError> {
    let mut reader = Reader(data);
    let list = words(reader.vector16()?)?;
    reader.end()?;
    Ok(list)
}

fn protocols(data: &[u8]) -> Result<Vec<Vec<u8>>, HelloError> {
    let mut reader = Reader(data);
    let mut list = Reader(reader.vector16()?);
    reader.end()?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector8()?;
        if name.is_empty() {
            return Err(HelloError::Malformed);
        }
        protocols.push(name.to_vec());
    }
    Ok(protocols)
}

/// RFC 6066 section 3: one name, of type `host_name`.
fn server_name(data: &[u8]) -> Result<Option<String>, HelloError> {
    let mut reader = Reader(data);
    let mut list = Reader(reader.vector16()?);
    reader.end()?;
    let [kind] = list.array()?;
    let name = list.vector16()?;
    if kind != 0 || !list.0.is_empty() {
        return Err(HelloError::ServerName);
    }
    let name = std::str::from_utf8(name).map_err(|_| HelloError::ServerName)?;
    if name.parse::<IpAddr>().is_ok() {
        // Not allowed, yet some clients send it: it names no host.
        return Ok(None);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > MAX_HOST || !name.split('.').all(is_label) {
        return Err(HelloError::ServerName);
    }
    Ok(Some(name.to_ascii_lowercase()))
}

/// RFC 1123 section 2.1, and the underscore that is in use.
fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
