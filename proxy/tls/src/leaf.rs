//! Leaf certificates for the names that clients ask for, made on demand and kept in a bounded cache.
//!
//! The cache holds whole server configurations, so that a client's later connections resume. All leaves share one key of this process: a
//! key per name would gain nothing, as an attacker who reads one from our memory reads them all.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use quick_cache::sync::Cache;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::DnsName;
use smol_str::SmolStr;
use time::{Duration, OffsetDateTime};

use crate::ca::{random_serial, whole_seconds};
use crate::{Alpn, CaError, CertificateAuthority};

/// The default capacity of a [`LeafCache`], server configurations; about 4 KiB each.
pub const LEAF_CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// A leaf lives 30 days: under the 47 that the CA/Browser Forum will allow (ballot SC-081v3), so no
/// client that checks lifetimes minds, and long enough that a client with a wrong clock works.
const LEAF_LIFETIME: Duration = Duration::days(30);
/// Clients whose clock is behind by less than this accept a new leaf.
const LEAF_BACKDATED: Duration = Duration::hours(1);
/// A leaf is replaced this long before it expires, so that no handshake gets one about to die.
const LEAF_RENEWED_BEFORE: Duration = Duration::days(7);
/// The most client sessions that can be resumed, over all names. Stateful, so no ticket key exists that
/// could decrypt old sessions; about 200 bytes each.
const SESSIONS: usize = 8192;

/// The one name a leaf is for: a DNS name in lower case without trailing dot, or an IP address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LeafName {
    /// A name from SNI, or the host of a CONNECT.
    Dns(SmolStr),
    /// An address, where the client connects to one and sends no SNI.
    Ip(IpAddr),
}

/// The text can be in no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a DNS name or IP address")]
pub struct InvalidLeafName;

impl LeafName {
    /// Reads a name or address (IPv6 with or without brackets) as clients write it.
    ///
    /// # Errors
    /// When it is neither an IP address nor a DNS name (ASCII, at most 253 bytes).
    pub fn parse(text: &str) -> Result<Self, InvalidLeafName> {
        let text = gnomon_kit::unbracketed(text);
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        DnsName::try_from_str(&name).map_err(|_| InvalidLeafName)?;
        Ok(Self::Dns(SmolStr::new(name)))
    }
}

#[derive(Clone)]
struct Leaf {
    config: Arc<ServerConfig>,
    renew_at: OffsetDateTime,
}

/// Server configurations by (name, protocol). Shared freely between connections.
pub struct LeafCache {
    ca: Arc<CertificateAuthority>,
    leaves: Cache<(LeafName, Alpn), Leaf>,
    provider: Arc<CryptoProvider>,
    sessions: Arc<dyn StoresServerSessions>,
}

impl std::fmt::Debug for LeafCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeafCache").field("ca", &self.ca).field("leaves", &self.leaves.len()).finish_non_exhaustive()
    }
}

impl LeafCache {
    /// An empty cache of at most `capacity` configurations ([`LEAF_CAPACITY`] is the default).
    #[must_use]
    pub fn new(ca: Arc<CertificateAuthority>, capacity: NonZeroUsize) -> Self {
        Self {
            ca,
            leaves: Cache::new(capacity.get()),
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            sessions: ServerSessionMemoryCache::new(SESSIONS),
        }
    }

    /// The configuration for connections to `name` that are to speak `alpn`, from the cache or made
    /// now (about 20 µs). TLS 1.2 and 1.3, resumption on, no 0-RTT (a replayed message would be
    /// judged, and perhaps forwarded, twice).
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn server_config(&self, name: &LeafName, alpn: Alpn) -> Result<Arc<ServerConfig>, CaError> {
        let key = (name.clone(), alpn);
        let now = OffsetDateTime::now_utc();
        if let Some(leaf) = self.leaves.get(&key)
            && now < leaf.renew_at
        {
            return Ok(leaf.config);
        }
        let leaf = self.make(name, alpn, now)?;
        let config = Arc::clone(&leaf.config);
        self.leaves.insert(key, leaf);
        Ok(config)
    }

    /// The number of cached configurations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether nothing is cached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    fn make(&self, name: &LeafName, alpn: Alpn, now: OffsetDateTime) -> Result<Leaf, CaError> {
        let (certified, renew_at) = certified(&self.ca, std::slice::from_ref(name), now)?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = alpn.offer();
        config.session_storage = Arc::clone(&self.sessions);
        config.max_early_data_size = 0;
        Ok(Leaf { config: Arc::new(config), renew_at })
    }
}

/// A certificate for all of these names, and when another is to be made.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn leaf_for(ca: &CertificateAuthority, names: &[LeafName]) -> Result<(CertifiedKey, OffsetDateTime), CaError> {
    certified(ca, names, OffsetDateTime::now_utc())
}

fn certified(ca: &CertificateAuthority, names: &[LeafName], now: OffsetDateTime) -> Result<(CertifiedKey, OffsetDateTime), CaError> {
    let params = leaf_params(names, now, ca.not_after())?;
    let renew_at = params.not_after - LEAF_RENEWED_BEFORE;
    let key = ca.leaf_key();
    let certificate = params.signed_by(key.pair(), ca.issuer())?;
    // A client that trusts the authority above ours must be shown ours (RFC 8446 4.4.2); one that trusts ours has it.
    let chain = std::iter::once(certificate.der().clone()).chain(ca.certificate().to_send().cloned());
    Ok((CertifiedKey::new(chain.collect(), key.signing()), renew_at))
}

fn leaf_params(names: &[LeafName], now: OffsetDateTime, ca_not_after: OffsetDateTime) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // The SAN is what counts (RFC 9525); a CN is for people, and at most 64 characters.
    let common_name = match names.first() {
        Some(LeafName::Dns(dns)) if dns.len() <= 64 => dns.to_string(),
        Some(LeafName::Dns(_)) | None => "gnomon".to_owned(),
        Some(LeafName::Ip(ip)) => ip.to_string(),
    };
    params.distinguished_name.push(DnType::CommonName, common_name);
    for name in names {
        params.subject_alt_names.push(match name {
            LeafName::Dns(dns) => SanType::DnsName(dns.as_str().try_into()?),
            LeafName::Ip(ip) => SanType::IpAddress(*ip),
        });
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.serial_number = Some(random_serial()?);
    params.not_before = whole_seconds(now - LEAF_BACKDATED);
    params.not_after = (params.not_before + LEAF_LIFETIME).min(ca_not_after);
    Ok(params)
}
