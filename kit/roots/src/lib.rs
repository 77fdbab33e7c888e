//! TLS roots: Mozilla's, the system's, and PEM files of the organisation.
//!
//! A crate of its own because both who calls servers (`gnomon-http`) and who sends events away (`gnomon-export`) need it, and neither
//! may know the other. What a bad file means to its user, they say in their own words.
#![deny(missing_docs)]

mod verifier;

pub use verifier::verify_by;

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{io, path::Path};
use thiserror::Error;

/// An error in a file of certificates.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadRoots {
    /// The file cannot be read, or is malformed.
    #[error("{0}")]
    Read(String),
    /// A certificate of it cannot serve as a root.
    #[error("{cause}")]
    NotARoot {
        /// The certificate's number in the file, from 1.
        index: usize,
        /// The cause.
        cause: String,
    },
    /// The file has no certificate.
    #[error("it holds no PEM certificate")]
    Empty,
}

/// Whom a client trusts: authorities, and servers by their own certificates.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The authorities.
    pub roots: RootCertStore,
    /// Certificates that say that they are no authority's (CA:FALSE): each is trusted as its server's and for nothing else.
    pub servers: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Nobody.
    #[must_use]
    pub fn nobody() -> Self {
        RootCertStore::empty().into()
    }

    /// The [`public`] authorities.
    #[must_use]
    pub fn public() -> Self {
        public().into()
    }

    /// Trusts the certificates of a PEM file too.
    ///
    /// # Errors
    /// One of them cannot be used, or there is none.
    pub fn add(&mut self, path: &Path) -> Result<(), BadRoots> {
        for (certificate, index) in certificates(path)?.into_iter().zip(1..) {
            if verifier::is_no_authority_s(&certificate) {
                self.servers.push(certificate);
            } else {
                self.roots.add(certificate).map_err(|error| BadRoots::NotARoot { index, cause: error.to_string() })?;
            }
        }
        Ok(())
    }
}

impl From<RootCertStore> for Trust {
    fn from(roots: RootCertStore) -> Self {
        Self { roots, servers: Vec::new() }
    }
}

/// The Mozilla roots and what the system trusts. It blocks for milliseconds, while the system's are read; those that cannot be read
/// are left out, as the Mozilla roots stay.
#[must_use]
pub fn public() -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Trusts the certificates of a PEM file as authorities.
///
/// # Errors
/// One of them cannot be used or says that it is no authority's, or there is none.
pub fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), BadRoots> {
    for (certificate, index) in certificates(path)?.into_iter().zip(1..) {
        // As a root it would vouch for others all the same.
        if verifier::is_no_authority_s(&certificate) {
            return Err(BadRoots::NotARoot { index, cause: "it says that it is not an authority's (CA:FALSE)".to_owned() });
        }
        roots.add(certificate).map_err(|error| BadRoots::NotARoot { index, cause: error.to_string() })?;
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadRoots> {
    let read = |error: &dyn std::fmt::Display| BadRoots::Read(error.to_string());
    let text = read_pem(path).map_err(|error| read(&error))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| read(&error))?;
    if found.is_empty() { Err(BadRoots::Empty) } else { Ok(found) }
}

/// The longest file of certificates or a key, bytes: a system's bundle has a quarter of a megabyte.
const MAX_PEM: u64 = 16 << 20;

/// Reads a PEM file. A named pipe or a device in its place is refused, and not waited for.
///
/// # Errors
/// It cannot be read, is not a regular file, or is longer than 16 MiB.
pub fn read_pem(path: &Path) -> io::Result<Vec<u8>> {
    gnomon_files::read(path, MAX_PEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_usable_certificate_is_told_and_adds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        let mut roots = RootCertStore::empty();
        assert!(matches!(add(&mut roots, &path), Err(BadRoots::Read(_))));
        std::fs::write(&path, "none").unwrap();
        assert_eq!(add(&mut roots, &path), Err(BadRoots::Empty));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(add(&mut roots, &path), Err(BadRoots::NotARoot { index: 1, .. })));
        let own = rcgen::generate_simple_self_signed(["client.example".to_owned()]).unwrap().cert;
        let mut params = rcgen::CertificateParams::new(["client.example".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        let no_authority_s = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        std::fs::write(&path, &no_authority_s).unwrap();
        assert!(matches!(add(&mut roots, &path), Err(BadRoots::NotARoot { index: 1, cause }) if cause.contains("CA:FALSE")));
        assert!(roots.is_empty());
        // Old authorities say nothing.
        std::fs::write(&path, own.pem()).unwrap();
        add(&mut roots, &path).unwrap();
    }

    #[test]
    fn the_public_roots_are_there_whatever_the_system_has() {
        assert!(public().len() >= webpki_roots::TLS_SERVER_ROOTS.len());
    }
}
