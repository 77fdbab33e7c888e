//! JA4, the fingerprint of a TLS client (FoxIO, "JA4: TLS Client Fingerprinting", technical_details/JA4.md; the client
//! part is BSD-licensed, unlike the rest of JA4+). It tells TLS libraries apart, not programs, and a client can choose
//! it: evidence for people who investigate, never an identity.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::message::{ALPN, SERVER_NAME};
use super::{ClientHello, is_grease};

/// Counts have two digits.
const MAX_COUNT: usize = 99;
/// Bytes of a hash that are shown, two characters each.
const HASH_BYTES: usize = 6;
/// Stands for the hash of an empty list.
const NO_HASH: &str = "000000000000";

/// The transport of the ClientHello: the first character of a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TLS over TCP.
    Tcp,
    /// QUIC.
    Quic,
}

impl ClientHello {
    /// The JA4 fingerprint, as `t13d1516h2_8daaf6152771_e5627efa2ab1`: 36 characters.
    pub fn ja4(&self, transport: Transport) -> String {
        let mut out = self.summary(transport);
        for list in [self.sorted_ciphers(), self.sorted_extensions()] {
            out.push('_');
            push_hash(&mut out, &list);
        }
        out
    }

    /// JA4_r: the same with the lists in place of their hashes.
    pub fn ja4_raw(&self, transport: Transport) -> String {
        format!("{}_{}_{}", self.summary(transport), self.sorted_ciphers(), self.sorted_extensions())
    }

    /// JA4_a: what can be read off without a hash.
    fn summary(&self, transport: Transport) -> String {
        let transport = match transport {
            Transport::Tcp => 't',
            Transport::Quic => 'q',
        };
        let destination = if self.extensions.contains(&SERVER_NAME) { 'd' } else { 'i' };
        let ciphers = count(&self.cipher_suites);
        let extensions = count(&self.extensions);
        let [first, last] = self.alpn_ends();
        format!("{transport}{}{destination}{ciphers:02}{extensions:02}{first}{last}", self.version_code())
    }

    fn version_code(&self) -> &'static str {
        // With the extension its values count alone, even where all of them are GREASE.
        let version = if self.versions.is_empty() { Some(self.legacy_version) } else { without_grease(&self.versions).max() };
        match version {
            Some(0x0304) => "13",
            Some(0x0303) => "12",
            Some(0x0302) => "11",
            Some(0x0301) => "10",
            Some(0x0300) => "s3",
            Some(0x0002) => "s2",
            Some(0xFEFF) => "d1",
            Some(0xFEFD) => "d2",
            Some(0xFEFC) => "d3",
            _ => "00",
        }
    }

    /// The first and last character of the first protocol name, or of its hexadecimal form.
    fn alpn_ends(&self) -> [char; 2] {
        let Some([first, last]) = self.alpn.first().and_then(|name| Some([*name.first()?, *name.last()?])) else {
            return ['0', '0'];
        };
        if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
            return [first, last].map(char::from);
        }
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        [digit(first >> 4), digit(last & 0xF)]
    }

    fn sorted_ciphers(&self) -> String {
        let mut ciphers: Vec<_> = without_grease(&self.cipher_suites).collect();
        ciphers.sort_unstable();
        hex_list(ciphers)
    }

    /// The extensions but those that JA4_a tells of, and the signature algorithms in the client's order.
    fn sorted_extensions(&self) -> String {
        let mut extensions: Vec<_> = without_grease(&self.extensions).filter(|kind| ![SERVER_NAME, ALPN].contains(kind)).collect();
        if extensions.is_empty() {
            return String::new();
        }
        extensions.sort_unstable();
        let mut list = hex_list(extensions);
        let algorithms = hex_list(without_grease(&self.signature_algorithms));
        if !algorithms.is_empty() {
            list.push('_');
            list.push_str(&algorithms);
        }
        list
    }
}

fn without_grease(values: &[u16]) -> impl Iterator<Item = u16> {
    values.iter().copied().filter(|value| !is_grease(*value))
}

fn count(values: &[u16]) -> usize {
    without_grease(values).count().min(MAX_COUNT)
}

fn hex_list(values: impl IntoIterator<Item = u16>) -> String {
    let mut list = String::new();
    for value in values {
        if !list.is_empty() {
            list.push(',');
        }
        // Writing to a string cannot fail.
        let _ = write!(list, "{value:04x}");
    }
    list
}

fn push_hash(out: &mut String, list: &str) {
    if list.is_empty() {
        out.push_str(NO_HASH);
        return;
    }
    for byte in Sha256::digest(list).iter().take(HASH_BYTES) {
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests;
