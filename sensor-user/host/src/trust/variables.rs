//! The environment variables that lead programs through the proxy, and make them trust it.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A variable that names a file of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaVariable {
    /// Its name.
    pub name: &'static str,
    /// The runtimes that read it.
    pub read_by: &'static str,
}

const fn variable(name: &'static str, read_by: &'static str) -> CaVariable {
    CaVariable { name, read_by }
}

/// All that are set for a program. Each is documented by the program that reads it; the first three
/// were also tried with real agents. NODE_EXTRA_CA_CERTS adds to what Node trusts, most others
/// replace, which is why they are all given a bundle of everything.
pub const CA_VARIABLES: [CaVariable; 11] = [
    variable("NODE_EXTRA_CA_CERTS", "Node.js, Claude Code, gemini-cli"),
    variable("SSL_CERT_FILE", "OpenSSL (Python's ssl, httpx), Go, rustls-native-certs, Codex, Claude Code"),
    variable("CODEX_CA_CERTIFICATE", "Codex"),
    variable("REQUESTS_CA_BUNDLE", "Python requests"),
    variable("CURL_CA_BUNDLE", "curl, Python requests"),
    variable("GIT_SSL_CAINFO", "git"),
    variable("PIP_CERT", "pip"),
    // npm's own setting overrides Node's, and many an .npmrc has it.
    variable("npm_config_cafile", "npm, npx"),
    variable("CARGO_HTTP_CAINFO", "cargo"),
    variable("AWS_CA_BUNDLE", "AWS CLI and SDKs"),
    variable("DENO_CERT", "Deno"),
];

/// A runtime that trusts only what is in a store of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beyond {
    /// The runtime.
    pub runtime: &'static str,
    /// The remedy.
    pub next: &'static str,
}

/// Runtimes that no variable reaches which names a file in PEM.
pub const BEYOND_VARIABLES: [Beyond; 1] = [Beyond {
    runtime: "java",
    next: "keytool -importcert -noprompt -trustcacerts -cacerts -storepass changeit -alias gnomon -file CA.pem",
}];

/// The variables by which every runtime trusts the certificates in the bundle. A program whose traffic is redirected in the kernel needs
/// no others.
pub fn variables(bundle: &Path) -> Vec<(&'static str, OsString)> {
    CA_VARIABLES.iter().map(|variable| (variable.name, bundle.as_os_str().to_owned())).collect()
}

/// The variables by which programs use the proxy of their own accord.
///
/// Both spellings: where both are set curl, wget and Python prefer the small letters, and curl reads
/// `http_proxy` in small letters only (curl(1), ENVIRONMENT). Node looks at them since version 24,
/// with NODE_USE_ENV_PROXY. NO_PROXY stays what it was: what a person excepted goes direct, unseen.
pub fn proxy_variables(proxy: SocketAddr) -> Vec<(&'static str, OsString)> {
    let url = OsString::from(format!("http://{proxy}"));
    let mut list: Vec<_> = ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"].into_iter().map(|name| (name, url.clone())).collect();
    list.push(("NODE_USE_ENV_PROXY", "1".into()));
    list
}

/// A file that a variable already names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The variable.
    pub variable: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// The files that a program's variables already name, whose certificates belong into its bundle.
pub fn already_named<K: AsRef<OsStr>, V: AsRef<OsStr>>(environment: impl IntoIterator<Item = (K, V)>) -> Vec<Named> {
    let mut found: Vec<Named> = Vec::new();
    for (name, value) in environment {
        let known = CA_VARIABLES.iter().find(|variable| name.as_ref() == variable.name);
        if let Some(variable) = known.filter(|_| !value.as_ref().is_empty()) {
            found.push(Named { variable: variable.name, path: PathBuf::from(value.as_ref()) });
        }
    }
    found.sort_by_key(|named| named.variable);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtime_is_given_the_bundle() {
        let list = variables(Path::new("/run/gnomon/bundle.pem"));
        assert_eq!(list.len(), CA_VARIABLES.len());
        for name in ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "CODEX_CA_CERTIFICATE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "DENO_CERT"] {
            assert!(list.contains(&(name, "/run/gnomon/bundle.pem".into())), "{name}");
        }
    }

    #[test]
    fn the_proxy_is_set_in_both_spellings_and_switched_on_for_node() {
        let list = proxy_variables("[::1]:8443".parse().unwrap());
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"] {
            assert!(list.contains(&(name, "http://[::1]:8443".into())), "{name}");
        }
        assert!(list.contains(&("NODE_USE_ENV_PROXY", "1".into())));
    }

    #[test]
    fn what_is_already_named_is_found_and_empty_variables_are_not() {
        let environment = [("SSL_CERT_FILE", "/corp.pem"), ("PATH", "/bin"), ("PIP_CERT", ""), ("GIT_SSL_CAINFO", "/git.pem")];
        let found = already_named(environment);
        let pairs: Vec<_> = found.iter().map(|named| (named.variable, named.path.to_str().unwrap())).collect();
        assert_eq!(pairs, [("GIT_SSL_CAINFO", "/git.pem"), ("SSL_CERT_FILE", "/corp.pem")]);
    }
}
