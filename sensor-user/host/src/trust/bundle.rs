//! Bundles of certificates in PEM (RFC 7468).

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::java::java_store;
use pem::{EncodeConfig, LineEnding, Pem};
use rustix::fs::OFlags;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Largest file that is read for certificates, in bytes. The system's own has a quarter of a megabyte.
pub const MAX_BUNDLE: u64 = 16 << 20;

/// The paths at which distributions keep the bundle of their roots (the list of Go's crypto/x509, root_linux.go).
pub const SYSTEM_BUNDLES: [&str; 6] = [
    // Debian, Ubuntu, Gentoo, Arch
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, RHEL 6
    "/etc/pki/tls/certs/ca-bundle.crt",
    // openSUSE
    "/etc/ssl/ca-bundle.pem",
    // OpenELEC
    "/etc/pki/tls/cacert.pem",
    // RHEL 7 and later
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    // Alpine
    "/etc/ssl/cert.pem",
];

/// An error of reading certificates.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer. It is no source of this error, whose text has it.
        cause: io::Error,
    },
    /// The path is a directory, a pipe or a device.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The file is longer than [`MAX_BUNDLE`].
    #[error("{} has more than {MAX_BUNDLE} bytes: that is not a bundle of certificates", .0.display())]
    TooLarge(PathBuf),
    /// The file holds no certificate.
    #[error("{} holds no certificate in PEM", .0.display())]
    Empty(PathBuf),
}

/// A merged bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Certificates only, in PEM with line feeds.
    pub pem: String,
    /// The same for Java.
    pub java: Vec<u8>,
    /// The number of certificates.
    pub certificates: usize,
}

/// The system's bundle below `root`, which is `/` but for tests and containers.
pub fn system_bundle(root: &Path) -> Option<PathBuf> {
    SYSTEM_BUNDLES.iter().map(|path| root.join(path.trim_start_matches('/'))).find(|path| path.is_file())
}

/// The certificates of a PEM file. What else is in it is passed over, broken sections too: one bad
/// entry must not take all others from a program.
///
/// Files that a person named are to be read with that person's rights: this is not a place to ask
/// root what is in them.
///
/// # Errors
/// The file cannot be read, is not a regular one, is too long, or holds none.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let failed = |cause| TrustError::Io { path: path.to_owned(), cause };
    // A pipe in its place must not keep us waiting for a writer.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(TrustError::NotAFile(path.to_owned()));
    }
    let mut text = Vec::new();
    file.take(MAX_BUNDLE + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BUNDLE {
        return Err(TrustError::TooLarge(path.to_owned()));
    }
    let found = parse(&text);
    if found.is_empty() { Err(TrustError::Empty(path.to_owned())) } else { Ok(found) }
}

fn parse(text: &[u8]) -> Vec<CertificateDer<'static>> {
    // Each error consumes input, so this ends.
    CertificateDer::pem_slice_iter(text).filter_map(Result::ok).map(CertificateDer::into_owned).collect()
}

/// Merges the system's roots, the files a program was already given, and our authority into one bundle.
///
/// The same certificates give the same bytes in whatever order they come, each once: sorted by their
/// encoding. Neither chains nor validity are looked at; that is left to the bundle's users.
pub fn merge(roots: &[CertificateDer<'_>], existing: &[CertificateDer<'_>], ours: &[CertificateDer<'_>]) -> Bundle {
    let sorted: BTreeSet<&[u8]> = [roots, existing, ours].into_iter().flatten().map(AsRef::as_ref).collect();
    let list: Vec<CertificateDer<'_>> = sorted.iter().map(|der| CertificateDer::from(*der)).collect();
    let sections: Vec<Pem> = sorted.into_iter().map(|der| Pem::new("CERTIFICATE", der)).collect();
    let pem = pem::encode_many_config(&sections, EncodeConfig::new().set_line_ending(LineEnding::LF));
    Bundle { pem, java: java_store(&list), certificates: sections.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(name: &str) -> (CertificateDer<'static>, String) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (made.cert.der().clone(), format!("{}{}", made.signing_key.serialize_pem(), made.cert.pem()))
    }

    #[test]
    fn a_bundle_holds_each_certificate_once_in_one_order() {
        let (a, b, c) = (authority("a").0, authority("b").0, authority("c").0);
        let first = merge(&[a.clone(), b.clone()], &[b.clone(), c.clone()], std::slice::from_ref(&a));
        let second = merge(std::slice::from_ref(&c), &[], &[b.clone(), a.clone()]);
        assert_eq!(first, second);
        assert_eq!(first.certificates, 3);
        let back = parse(first.pem.as_bytes());
        assert!(back.len() == 3 && [a, b, c].iter().all(|der| back.contains(der)));
    }

    #[test]
    fn keys_and_broken_sections_stay_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mixed.pem");
        let (der, both) = authority("a");
        let (other, text) = authority("b");
        let text = format!("# a comment\r\n{both}\n-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n{text}");
        std::fs::write(&path, text).unwrap();
        let found = read_certificates(&path).unwrap();
        assert_eq!(found, [der, other]);
        assert!(!merge(&found, &[], &[]).pem.contains("PRIVATE"));
    }

    #[test]
    fn a_file_without_certificates_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("empty.pem");
        std::fs::write(&path, "nothing").unwrap();
        assert!(read_certificates(&path).unwrap_err().to_string().contains("empty.pem"));
        assert!(matches!(read_certificates(&directory.path().join("none")), Err(TrustError::Io { .. })));
        for path in ["/dev/zero", "/"] {
            assert!(matches!(read_certificates(Path::new(path)), Err(TrustError::NotAFile(_))), "{path}");
        }
        std::fs::File::create(&path).unwrap().set_len(MAX_BUNDLE + 1).unwrap();
        assert!(matches!(read_certificates(&path), Err(TrustError::TooLarge(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_fail(text in "(-----(BEGIN|END) (CERTIFICATE|X)-----\n?|[A-Za-z0-9+/=\n]{0,40}){0,20}") {
            parse(text.as_bytes());
        }
    }
}
