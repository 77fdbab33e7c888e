//! The certificate authority whose leaves gnomon shows to clients, and its two files.
//!
//! `ca.pem` holds the certificate only, so it can be handed to anyone; `ca.key` never leaves the
//! state directory, is never readable by others, not even for an instant, and is never overwritten. Behind an intermediate's certificate `ca.pem` may hold those
//! above it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{CaError, key::LeafKey};

mod import;
mod pair;

pub use import::Present;

/// Ten years. The root sits in trust stores that people filled by hand, and replacing it means
/// touching every one of them; removing it from there is the only revocation that clients honour,
/// and that works at any age. What expires quickly are the leaves.
const CA_DAYS: i64 = 3653;
/// The CA is valid a day before it exists, so that leaves (an hour before) lie within it and clocks
/// that are behind accept it.
const CA_BACKDATED: Duration = Duration::days(1);
/// The longest file of ours; anything longer in its place is not ours.
const MAX_FILE: u64 = 64 << 10;
/// Most certificates above ours: real ones have one or two, and clients look at ten at most.
const MAX_ABOVE: usize = 8;
/// The upper bound of a CommonName (RFC 5280 appendix A, ub-common-name).
const MAX_COMMON_NAME: usize = 64;

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";
const LOCK_FILE: &str = ".ca.lock";

/// Whether the authority was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// Made just now: no client trusts it yet.
    Created,
    /// Read from the state directory.
    Loaded,
}

/// Whether another authority has signed ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChainPosition {
    /// A root authority.
    Root,
    /// A fleet's authority issued it.
    Intermediate,
}

/// The public half of the authority: what `gnomon ca` shows and installs.
#[derive(Debug, Clone)]
pub struct CaCertificate {
    pem: String,
    der: CertificateDer<'static>,
    subject: String,
    position: ChainPosition,
    /// The authorities above it that are sent as well, in order: not the root, which clients have or do not trust.
    above: Vec<CertificateDer<'static>>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl CaCertificate {
    /// Reads `ca.pem` from the state directory. Needs no right to the key; `Ok(None)` when there is none yet.
    ///
    /// # Errors
    /// When the file cannot be read or is no certificate.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, CaError> {
        let path = state_dir.join(CERTIFICATE_FILE);
        match File::open(&path) {
            Ok(file) => Self::parse(&path, read_text(file, &path)?).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("opening", &path)(e)),
        }
    }

    fn parse(path: &Path, pem: String) -> Result<Self, CaError> {
        let malformed = |cause: String| CaError::Malformed { path: path.to_owned(), cause };
        let mut all = CertificateDer::pem_slice_iter(pem.as_bytes());
        let unread = |e: &dyn std::fmt::Display| malformed(format!("no PEM certificate: {e}"));
        let der = all.next().ok_or_else(|| unread(&"the file has none"))?.map_err(|e| unread(&e))?;
        let above = all.collect::<Result<Vec<_>, _>>().map_err(|e| unread(&e))?;
        let (_, x509) = X509Certificate::from_der(&der).map_err(|e| malformed(format!("not a certificate: {e}")))?;
        if !x509.is_ca() {
            return Err(malformed("the certificate is not a certificate authority's".to_owned()));
        }
        if x509.key_usage().ok().flatten().is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err(malformed("the certificate's key usage does not allow to sign certificates".to_owned()));
        }
        let above = chained(&x509, above).map_err(malformed)?;
        let subject = x509.subject().to_string();
        let position = if x509.issuer() == x509.subject() { ChainPosition::Root } else { ChainPosition::Intermediate };
        let (not_before, not_after) = (x509.validity().not_before.to_datetime(), x509.validity().not_after.to_datetime());
        Ok(Self { subject, position, above, not_before, not_after, pem, der })
    }

    /// The certificate in PEM, to hand to clients.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificates that are sent beside a leaf: an intermediate authority's and those between it and the root.
    pub(crate) fn to_send(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        (self.position == ChainPosition::Intermediate).then_some(&self.der).into_iter().chain(&self.above)
    }

    fn must_be_valid(&self, path: &Path) -> Result<(), CaError> {
        if self.not_after <= OffsetDateTime::now_utc() {
            return Err(CaError::Expired { path: path.to_owned(), on: self.not_after.date() });
        }
        Ok(())
    }

    /// SHA-256 of the DER form, as colon-separated upper-case hex: what browsers and `openssl x509
    /// -fingerprint -sha256` show.
    #[must_use]
    pub fn fingerprint_sha256(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der);
        let hex: Vec<String> = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect();
        hex.join(":")
    }

    /// The subject, `CN=gnomon CA <hostname>`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Valid from.
    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Valid until.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }
}

/// The authority with its key: ECDSA P-256, may sign leaves but no further authorities.
pub struct CertificateAuthority {
    certificate: CaCertificate,
    issuer: Issuer<'static, KeyPair>,
    leaf_key: LeafKey,
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority").field("subject", &self.certificate.subject).finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Reads the authority from the state directory, or makes one there.
    ///
    /// A lock file makes processes that start at the same time take turns. One file without the other is refused, as somebody removed
    /// it; but what a crash left between the two files is finished.
    ///
    /// # Errors
    /// [`CaError`]; in particular when others can read the key.
    pub fn load_or_create(state_dir: &Path) -> Result<(Self, Provenance), CaError> {
        prepare(state_dir)?;
        let _lock = lock(state_dir)?;
        if let Some(there) = Self::load(state_dir)? {
            return Ok((there, Provenance::Loaded));
        }
        // Nobody trusts what was never finished.
        if let Some(finished) = Self::finish(state_dir)? {
            return Ok((finished, Provenance::Created));
        }
        Ok((Self::create(state_dir)?, Provenance::Created))
    }

    /// Reads the authority from the state directory, and writes nothing; `Ok(None)` where there is neither of its files, or a start can
    /// finish what a crash left.
    ///
    /// # Errors
    /// [`CaError`]; in particular when one of the files is missing, or others can read the key.
    pub fn load(state_dir: &Path) -> Result<Option<Self>, CaError> {
        if let Some(certificate) = CaCertificate::load(state_dir)? {
            return Self::load_key(certificate, state_dir).map(Some);
        }
        let key = state_dir.join(KEY_FILE);
        if pair::is_there(&key)? && pair::unfinished(state_dir)?.is_none() {
            return Err(CaError::CertificateMissing { certificate: state_dir.join(CERTIFICATE_FILE), key });
        }
        Ok(None)
    }

    fn finish(state_dir: &Path) -> Result<Option<Self>, CaError> {
        let Some(certificate) = pair::unfinished(state_dir)? else { return Ok(None) };
        let finished = Self::load_key(certificate, state_dir)?;
        pair::finish(state_dir)?;
        Ok(Some(finished))
    }

    fn load_key(certificate: CaCertificate, state_dir: &Path) -> Result<Self, CaError> {
        let (path, certificate_path) = (state_dir.join(KEY_FILE), state_dir.join(CERTIFICATE_FILE));
        certificate.must_be_valid(&certificate_path)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(CaError::KeyMissing { certificate: certificate_path, key: path });
            }
            Err(e) => return Err(io_error("opening", &path)(e)),
        };
        // Of the open file, not the path: it cannot be swapped in between.
        let mode = file.metadata().map_err(io_error("reading", &path))?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(CaError::KeyExposed { path, mode });
        }
        Self::pair(certificate, &read_text(file, &path)?, &certificate_path, &path)
    }

    /// A certificate with the key that belongs to it. The paths are for errors.
    fn pair(certificate: CaCertificate, key: &str, certificate_path: &Path, path: &Path) -> Result<Self, CaError> {
        // The parser's error is not passed on: it might quote the key.
        let key = KeyPair::from_pem(key).map_err(|_| CaError::Malformed {
            path: path.to_owned(),
            cause: "not a private key in PEM that can be used here".to_owned(),
        })?;
        let is_pair =
            X509Certificate::from_der(&certificate.der).is_ok_and(|(_, x509)| x509.public_key().raw == key.subject_public_key_info());
        if !is_pair {
            return Err(CaError::Mismatch { certificate: certificate_path.to_owned(), key: path.to_owned() });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate.der, key)?;
        Ok(Self { certificate, issuer, leaf_key: LeafKey::generate()? })
    }

    fn create(state_dir: &Path) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let pem = ca_params()?.self_signed(&key)?.pem();
        let certificate_path = state_dir.join(CERTIFICATE_FILE);
        let certificate = CaCertificate::parse(&certificate_path, pem)?;
        pair::put(state_dir, &certificate.pem, &key.serialize_pem())?;
        let issuer = Issuer::from_ca_cert_der(&certificate.der, key)?;
        Ok(Self { certificate, issuer, leaf_key: LeafKey::generate()? })
    }

    /// The public half.
    #[must_use]
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// The certificate in PEM, to hand to clients.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        self.certificate.pem()
    }

    /// See [`CaCertificate::fingerprint_sha256`].
    #[must_use]
    pub fn fingerprint_sha256(&self) -> String {
        self.certificate.fingerprint_sha256()
    }

    /// See [`CaCertificate::subject`].
    #[must_use]
    pub fn subject(&self) -> &str {
        self.certificate.subject()
    }

    /// Valid from.
    #[must_use]
    pub fn not_before(&self) -> OffsetDateTime {
        self.certificate.not_before
    }

    /// Valid until.
    #[must_use]
    pub fn not_after(&self) -> OffsetDateTime {
        self.certificate.not_after
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(crate) fn leaf_key(&self) -> &LeafKey {
        &self.leaf_key
    }
}

/// The certificates above one, if each issued the one before it; the root is left out.
fn chained(of: &X509Certificate<'_>, above: Vec<CertificateDer<'static>>) -> Result<Vec<CertificateDer<'static>>, String> {
    if above.len() > MAX_ABOVE {
        return Err(format!("more than {MAX_ABOVE} certificates above the authority's own"));
    }
    let mut kept = Vec::with_capacity(above.len());
    let mut issuer = of.issuer().as_raw().to_vec();
    for (place, der) in (2..).zip(above) {
        let (_, x509) = X509Certificate::from_der(&der).map_err(|e| format!("certificate {place} is not a valid certificate: {e}"))?;
        if x509.subject().as_raw() != issuer {
            return Err(format!(
                "certificate {place} ({}) did not issue the one before it; order them from the authority's own up",
                x509.subject()
            ));
        }
        issuer = x509.issuer().as_raw().to_vec();
        let is_root = x509.issuer() == x509.subject();
        if !is_root {
            kept.push(der);
        }
    }
    Ok(kept)
}

fn ca_params() -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(random_serial()?);
    params.not_before = whole_seconds(OffsetDateTime::now_utc() - CA_BACKDATED);
    params.not_after = params.not_before + Duration::days(CA_DAYS);
    Ok(params)
}

/// Names the host, so that someone who finds several in a trust store can tell them apart.
fn common_name() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(char::is_ascii_graphic).collect();
    let mut name = format!("gnomon CA {}", if host.is_empty() { "localhost" } else { &host });
    name.truncate(MAX_COMMON_NAME);
    name
}

/// 128 random bits: more than the 64 that CAs must use, and no state to keep.
pub(crate) fn random_serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CaError::Random)?;
    Ok(SerialNumber::from_slice(&bytes))
}

/// X.509 times have no fractions.
pub(crate) fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CaError {
    let path = path.to_owned();
    move |cause| CaError::Io { action, path, cause }
}

fn read_text(file: File, path: &Path) -> Result<String, CaError> {
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(io_error("reading", path))?;
    Ok(text)
}

/// The folder of the authority, made where it is not there.
fn prepare(state_dir: &Path) -> Result<(), CaError> {
    // 0755: the certificate in it is public; the key has a mode of its own.
    DirBuilder::new().recursive(true).mode(0o755).create(state_dir).map_err(io_error("creating", state_dir))
}

/// Locks the folder until the file is dropped.
fn lock(state_dir: &Path) -> Result<File, CaError> {
    let path = state_dir.join(LOCK_FILE);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let lock = lock.map_err(io_error("opening", &path))?;
    belongs_with(&lock, state_dir).map_err(io_error("handing over", &path))?;
    lock.lock().map_err(io_error("locking", &path))?;
    Ok(lock)
}

/// Gives what root writes into the folder of a service's user to that user.
fn belongs_with(file: &File, folder: &Path) -> io::Result<()> {
    let (file_is, folder_is) = (file.metadata()?, fs::metadata(folder)?);
    if file_is.uid() == folder_is.uid() {
        return Ok(());
    }
    fchown(file, Some(folder_is.uid()), Some(folder_is.gid()))
}
