//! A trust store for Java, which reads neither PEM nor the variables that others do.
//!
//! The format is that of `sun.security.provider.JavaKeyStore`, which every Java reads. It ends with a checksum under a password, which Java
//! verifies only if given the password: it is not, and the store holds nothing secret.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use rustls_pki_types::CertificateDer;

/// The variable that every Java reads when it starts (JVM TI, "The JAVA_TOOL_OPTIONS Environment Variable"), and mentions on standard
/// error.
pub const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";
/// The property that names the store.
const STORE: &str = "-Djavax.net.ssl.trustStore";

/// JKS: 0xFEEDFEED, and its version.
const MAGIC: [u8; 8] = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
/// An entry that is a certificate to trust.
const TRUSTED: [u8; 4] = [0, 0, 0, 2];
/// SHA-1's, of the checksum.
const CHECKSUM: [u8; 20] = [0; 20];

/// The store with these certificates. One that is longer than the format can say, 2 GiB, is left out.
pub fn java_store(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let fits: Vec<(&[u8], u32)> = certificates
        .iter()
        .filter_map(|der| Some((der.as_ref(), u32::try_from(der.len()).ok().filter(|length| *length <= i32::MAX as u32)?)))
        .collect();
    let mut store = MAGIC.to_vec();
    store.extend(u32::try_from(fits.len()).unwrap_or(u32::MAX).to_be_bytes());
    for (number, (der, length)) in fits.into_iter().enumerate() {
        store.extend(TRUSTED);
        text(&mut store, &format!("gnomon-{number}"));
        // The time at which it was added: always 0, so that equal certificates give equal bytes.
        store.extend(0_u64.to_be_bytes());
        text(&mut store, "X.509");
        store.extend(length.to_be_bytes());
        store.extend(der);
    }
    store.extend(CHECKSUM);
    store
}

/// Short text, as `DataOutput.writeUTF` has it.
fn text(store: &mut Vec<u8>, text: &str) {
    store.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    store.extend(text.as_bytes());
}

/// The options that make Java use a store, after those that are there. `None` where they name a store already: that is the
/// person's choice, and holds what theirs trusts.
pub fn java_options(store: &Path, before: Option<&OsStr>) -> Option<OsString> {
    let before = before.unwrap_or_default();
    if before.to_string_lossy().contains(STORE) {
        return None;
    }
    let mut options = before.to_owned();
    if !options.is_empty() {
        options.push(" ");
    }
    // In quotes, as the path may contain spaces.
    for part in [STORE, "='", &store.to_string_lossy(), "' ", STORE, "Type=JKS"] {
        options.push(part);
    }
    Some(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn options_are_added_to_those_that_are_there_unless_they_name_a_store() {
        let store = Path::new("/run/a b.jks");
        let ours = "-Djavax.net.ssl.trustStore='/run/a b.jks' -Djavax.net.ssl.trustStoreType=JKS";
        assert_eq!(java_options(store, None).unwrap(), ours);
        assert_eq!(java_options(store, Some(OsStr::new("-Xmx1g"))).unwrap().to_str().unwrap(), format!("-Xmx1g {ours}"));
        assert_eq!(java_options(store, Some(OsStr::new("-Djavax.net.ssl.trustStore=/corp.jks"))), None);
    }

    #[test]
    fn javas_own_tool_reads_every_certificate_of_the_store() {
        let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap().cert.der().clone();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.jks");
        std::fs::write(&path, java_store(&[made("a"), made("b")])).unwrap();
        let mut keytool = Command::new("keytool");
        let listed = keytool.args(["-list", "-storetype", "JKS", "-keystore"]).arg(&path).stdin(std::process::Stdio::null()).output();
        let Ok(output) = listed else { return };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.matches("trustedCertEntry").count() == 2, "{said} {}", String::from_utf8_lossy(&output.stderr));
    }
}
