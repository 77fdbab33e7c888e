//! Countries by address, from a MaxMind DB file (GeoLite2-Country, DB-IP, any with `country.iso_code`).
//! Addresses that the database does not know, private ones among them, have no country.

use maxminddb::{Reader, geoip2};
use smol_str::SmolStr;
use std::{fmt, io, net::IpAddr, path::Path};
use thiserror::Error;

/// The largest database, bytes. It is kept in memory; country databases have about ten million.
pub const MAX_DATABASE: u64 = 256 << 20;

/// An error in a country database.
#[derive(Debug, Error)]
pub enum CountriesError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file is larger than [`MAX_DATABASE`].
    #[error("is larger than {MAX_DATABASE} bytes")]
    TooLarge,
    /// Not a database of this kind.
    #[error("is not a MaxMind DB: {0}")]
    Format(#[from] maxminddb::MaxMindDbError),
}

/// A database of countries.
pub struct Countries(Reader<Vec<u8>>);

impl fmt::Debug for Countries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Countries").field(&self.0.metadata().database_type).finish()
    }
}

impl Countries {
    /// Reads a database into memory.
    ///
    /// # Errors
    /// When the file cannot be read, is too large, or is something else.
    pub fn open(path: &Path) -> Result<Self, CountriesError> {
        let read = gnomon_files::read(path, MAX_DATABASE).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => CountriesError::TooLarge,
            _ => error.into(),
        });
        Ok(Self(Reader::from_source(read?)?))
    }

    /// The ISO 3166-1 code of an address, in upper case.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<SmolStr> {
        let found = self.0.lookup(address.to_canonical()).ok()?;
        let record: geoip2::Country<'_> = found.decode().ok()??;
        record.country.iso_code.map(|code| SmolStr::new(code.to_ascii_uppercase()))
    }
}
