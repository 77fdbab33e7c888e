//! Trust: which runtimes are here, and whether each would accept our certificates.
//!
//! Runtimes are found by looking along PATH and never run. What they trust is read where they would
//! read it: the system's bundle, the file that a variable names, Java's own store. Programs that
//! carry roots of their own are not told from outside.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;

use super::{Check, CheckStatus, Options};
use crate::trust::{BEYOND_VARIABLES, TrustError, read_certificates, system_bundle};

/// Largest Java trust store that is read; they have a fifth of a megabyte.
const MAX_STORE: u64 = 16 << 20;
const TITLE: &str = "trusts our authority";

struct Host<'a> {
    options: &'a Options,
    /// The file of our authority, and its content.
    file: &'a Path,
    ours: CertificateDer<'static>,
    bundle: Option<PathBuf>,
}

pub(super) fn examine(options: &Options) -> Vec<Check> {
    let Some(file) = &options.authority else {
        return vec![Check::not_applicable("trust", TITLE, "there is no authority yet").next("the first `gnomon run` makes it")];
    };
    let ours = match read_certificates(file).map(|found| found.into_iter().next()) {
        Ok(Some(ours)) => ours,
        Ok(None) => return Vec::new(),
        Err(error) => {
            return vec![match &error {
                TrustError::Io { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
                    let next =
                        format!("it is a certificate, which all may read: sudo chmod 644 {}, or: sudo gnomon doctor", file.display());
                    Check::not_applicable("trust", TITLE, error.to_string()).next(next)
                }
                _ => Check::new("trust", TITLE, CheckStatus::Fail, error.to_string())
                    .next("gnomon does not start with it: put back the certificate, which clients that trust it have in their trust store"),
            }];
        }
    };
    let host = Host { options, file, ours, bundle: system_bundle(&options.root) };
    let checks = [
        ("the system trusts our authority", host.system()),
        ("Node.js trusts our authority", host.node()),
        ("Python trusts our authority", host.python()),
        ("curl trusts our authority", host.by_system("curl", &["CURL_CA_BUNDLE", "SSL_CERT_FILE"])),
        ("git trusts our authority", host.by_system("git", &["GIT_SSL_CAINFO"])),
        ("Go trusts our authority", host.by_system("go", &["SSL_CERT_FILE"])),
        ("Java trusts our authority", host.java()),
    ];
    checks.into_iter().map(|(title, check)| Check { title, ..check }).collect()
}

/// The effect of a variable on our authority.
enum Variable {
    Unset,
    Trusts,
    /// The variable names a file that does not hold our certificate, or cannot be read.
    Misses(String),
}

impl Host<'_> {
    fn find(&self, program: &str) -> Option<PathBuf> {
        let path = self.options.variable("PATH")?;
        std::env::split_paths(path).take(64).map(|directory| self.options.below_root(directory).join(program)).find(|path| path.is_file())
    }

    fn holds_ours(&self, path: &Path) -> bool {
        read_certificates(path).is_ok_and(|found| found.contains(&self.ours))
    }

    fn system_trusts(&self) -> bool {
        self.bundle.as_deref().is_some_and(|bundle| self.holds_ours(bundle))
    }

    fn variable(&self, name: &str) -> Variable {
        let Some(value) = self.options.variable(name) else { return Variable::Unset };
        let path = self.options.below_root(value);
        if self.holds_ours(&path) {
            Variable::Trusts
        } else {
            Variable::Misses(format!("{name} names {}, which does not hold it", path.display()))
        }
    }

    fn system(&self) -> Check {
        let id = "trust.system";
        match &self.bundle {
            None => Check::new(id, TITLE, CheckStatus::Warn, "no bundle of the system's roots was found").next("install the package ca-certificates"),
            Some(bundle) if self.holds_ours(bundle) => Check::ok(id, TITLE, format!("{} holds it", bundle.display())),
            Some(bundle) => Check::new(id, TITLE, CheckStatus::Warn, format!("{} does not hold it", bundle.display())).next(format!(
                "for programs under `gnomon exec` this is not needed; for all: sudo gnomon ca install (Debian), or sudo trust anchor {} (Fedora)",
                self.file.display()
            )),
        }
    }

    fn node(&self) -> Check {
        let id = "trust.node";
        let Some(program) = self.find("node") else { return absent(id) };
        let system = self.options.variable("NODE_OPTIONS").is_some_and(|options| options.to_string_lossy().contains("--use-system-ca"));
        let seen = match self.variable("NODE_EXTRA_CA_CERTS") {
            Variable::Trusts => return Check::ok(id, TITLE, format!("{} by NODE_EXTRA_CA_CERTS", program.display())),
            _ if system && self.system_trusts() => return Check::ok(id, TITLE, format!("{} by the system's roots", program.display())),
            Variable::Misses(why) => why,
            Variable::Unset => format!("{} brings roots of its own", program.display()),
        };
        Check::new(id, TITLE, CheckStatus::Warn, seen).next(by_variables(&format!("export NODE_EXTRA_CA_CERTS={}", self.file.display())))
    }

    /// Python's ssl and httpx read SSL_CERT_FILE, requests its own variable; without these, ssl uses
    /// the system's roots and the others the package certifi.
    fn python(&self) -> Check {
        let id = "trust.python";
        let Some(program) = self.find("python3").or_else(|| self.find("python")) else { return absent(id) };
        let requests = match self.variable("REQUESTS_CA_BUNDLE") {
            Variable::Unset => self.variable("CURL_CA_BUNDLE"),
            set => set,
        };
        let missing: Vec<String> = [("ssl and httpx", self.variable("SSL_CERT_FILE")), ("requests", requests)]
            .into_iter()
            .filter_map(|(who, variable)| match variable {
                Variable::Trusts => None,
                Variable::Misses(why) => Some(format!("{who}: {why}")),
                Variable::Unset if who == "requests" => Some(format!("{who}: uses roots of its own")),
                Variable::Unset if self.system_trusts() => Some("httpx: uses roots of its own".to_owned()),
                Variable::Unset => Some(format!("{who}: the system's roots do not hold it")),
            })
            .collect();
        if missing.is_empty() {
            return Check::ok(id, TITLE, format!("{} by its variables", program.display()));
        }
        let bundle = self.merged();
        Check::new(id, TITLE, CheckStatus::Warn, format!("{}: {}", program.display(), missing.join("; ")))
            .next(by_variables(&format!("export SSL_CERT_FILE={bundle} REQUESTS_CA_BUNDLE={bundle}")))
    }

    /// Programs that use the system's roots unless one of the variables names others; the first that is set counts.
    fn by_system(&self, program: &str, variables: &[&str]) -> Check {
        let id = format!("trust.{program}");
        let Some(path) = self.find(program) else { return absent(id) };
        let set = variables.iter().map(|name| (*name, self.variable(name))).find(|(_, variable)| !matches!(variable, Variable::Unset));
        let seen = match set {
            Some((name, Variable::Trusts)) => return Check::ok(id, TITLE, format!("{} by {name}", path.display())),
            Some((_, Variable::Misses(why))) => why,
            _ if self.system_trusts() => return Check::ok(id, TITLE, format!("{} by the system's roots", path.display())),
            _ => format!("{} uses the system's roots, which do not hold it", path.display()),
        };
        let first = variables.first().copied().unwrap_or_default();
        Check::new(id, TITLE, CheckStatus::Warn, seen).next(by_variables(&format!("export {first}={}", self.merged())))
    }

    fn java(&self) -> Check {
        let id = "trust.java";
        let home = self.options.variable("JAVA_HOME").map(|home| self.options.below_root(home));
        let program = self.find("java");
        if program.is_none() && home.is_none() {
            return absent(id);
        }
        // BIN/java leads to HOME/bin/java; Debian and Fedora keep one store for all versions.
        let from_program = program.as_ref().and_then(|path| Some(path.canonicalize().ok()?.parent()?.parent()?.to_owned()));
        let stores = [home, from_program].into_iter().flatten().map(|home| home.join("lib/security/cacerts"));
        let shared = ["/etc/ssl/certs/java/cacerts", "/etc/pki/java/cacerts"].into_iter().map(|path| self.options.below_root(path));
        let Some(store) = stores.chain(shared).find(|path| path.is_file()) else {
            return Check::not_applicable(id, TITLE, "a Java was found, but not its store").next("set JAVA_HOME and ask again");
        };
        if holds(&store, &self.ours) {
            return Check::ok(id, TITLE, format!("{} holds it", store.display()));
        }
        let next = BEYOND_VARIABLES.iter().find(|beyond| beyond.runtime == "java").map_or("", |java| java.next);
        Check::new(id, TITLE, CheckStatus::Warn, format!("{} does not hold it", store.display())).next(format!(
            "`gnomon exec` gives Java a store that does; for other programs: sudo {}",
            next.replace("CA.pem", &self.file.display().to_string())
        ))
    }

    /// The system's bundle once our authority is in it: the variables that use it replace what is trusted.
    fn merged(&self) -> String {
        self.bundle.as_ref().map_or("BUNDLE".to_owned(), |bundle| bundle.display().to_string())
    }
}

fn absent(id: impl Into<String>) -> Check {
    Check::not_applicable(id, TITLE, "not found along PATH")
}

fn by_variables(export: &str) -> String {
    format!("`gnomon exec` sets what is needed; for other programs, after sudo gnomon ca install: {export}")
}

/// JKS keeps certificates as they are, and so does PKCS #12 without a password, which is what JDKs
/// ship. In a store that is encrypted they cannot be seen: then this says no.
fn holds(store: &Path, ours: &CertificateDer<'_>) -> bool {
    let mut bytes = Vec::new();
    File::open(store).and_then(|file| file.take(MAX_STORE).read_to_end(&mut bytes)).is_ok() && memchr::memmem::find(&bytes, ours).is_some()
}

#[cfg(test)]
mod tests;
