use std::ffi::OsString;

use super::*;

/// A host in a directory: programs, a system bundle with one foreign root, and our authority.
struct Sandbox {
    root: tempfile::TempDir,
    options: Options,
    ours: rcgen::Certificate,
}

fn sandbox(programs: &[&str]) -> Sandbox {
    let root = tempfile::tempdir().unwrap();
    let make = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap().cert;
    let (ours, foreign) = (make("ours"), make("foreign"));
    let write = |path: &str, bytes: &[u8]| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    write("ca.pem", ours.pem().as_bytes());
    write("etc/ssl/certs/ca-certificates.crt", foreign.pem().as_bytes());
    write("both.pem", format!("{}{}", foreign.pem(), ours.pem()).as_bytes());
    programs.iter().for_each(|program| write(&format!("usr/bin/{program}"), b""));
    let options = Options {
        authority: Some(root.path().join("ca.pem")),
        environment: vec![("PATH".into(), "/bin:/usr/bin".into())],
        root: root.path().to_owned(),
        ..Options::default()
    };
    Sandbox { root, options, ours }
}

impl Sandbox {
    fn set(mut self, name: &str, value: &str) -> Self {
        self.options.environment.push((name.into(), OsString::from(value)));
        self
    }

    fn install(self) -> Self {
        std::fs::copy(self.root.path().join("both.pem"), self.root.path().join("etc/ssl/certs/ca-certificates.crt")).unwrap();
        self
    }

    fn state(&self, id: &str) -> CheckStatus {
        let check = examine(&self.options).into_iter().find(|check| check.id == id).unwrap();
        assert!(check.next.is_some() || check.state < CheckStatus::Warn, "{check:?}");
        check.state
    }
}

#[test]
fn runtimes_that_are_not_there_are_not_judged() {
    let host = sandbox(&[]);
    for id in ["trust.node", "trust.python", "trust.curl", "trust.git", "trust.go", "trust.java"] {
        assert_eq!(host.state(id), CheckStatus::NotApplicable, "{id}");
    }
}

#[test]
fn the_systems_store_is_read() {
    assert_eq!(sandbox(&[]).state("trust.system"), CheckStatus::Warn);
    assert_eq!(sandbox(&[]).install().state("trust.system"), CheckStatus::Ok);
}

#[test]
fn node_needs_its_variable_even_where_the_system_trusts() {
    assert_eq!(sandbox(&["node"]).install().state("trust.node"), CheckStatus::Warn);
    assert_eq!(sandbox(&["node"]).set("NODE_EXTRA_CA_CERTS", "/ca.pem").state("trust.node"), CheckStatus::Ok);
    assert_eq!(sandbox(&["node"]).set("NODE_EXTRA_CA_CERTS", "/missing.pem").state("trust.node"), CheckStatus::Warn);
    assert_eq!(sandbox(&["node"]).install().set("NODE_OPTIONS", "--use-system-ca").state("trust.node"), CheckStatus::Ok);
    assert_eq!(sandbox(&["node"]).set("NODE_OPTIONS", "--use-system-ca").state("trust.node"), CheckStatus::Warn);
}

#[test]
fn python_needs_one_variable_for_each_of_its_libraries() {
    assert_eq!(sandbox(&["python3"]).install().state("trust.python"), CheckStatus::Warn);
    assert_eq!(sandbox(&["python3"]).set("SSL_CERT_FILE", "/both.pem").state("trust.python"), CheckStatus::Warn);
    for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
        let host = sandbox(&["python"]).set("SSL_CERT_FILE", "/both.pem").set(name, "/both.pem");
        assert_eq!(host.state("trust.python"), CheckStatus::Ok, "{name}");
    }
}

#[test]
fn a_variable_that_is_set_counts_instead_of_the_systems_roots() {
    assert_eq!(sandbox(&["curl"]).state("trust.curl"), CheckStatus::Warn);
    assert_eq!(sandbox(&["curl"]).install().state("trust.curl"), CheckStatus::Ok);
    assert_eq!(sandbox(&["curl"]).set("CURL_CA_BUNDLE", "/both.pem").state("trust.curl"), CheckStatus::Ok);
    assert_eq!(sandbox(&["curl"]).install().set("CURL_CA_BUNDLE", "/missing.pem").state("trust.curl"), CheckStatus::Warn);
    assert_eq!(sandbox(&["go"]).install().state("trust.go"), CheckStatus::Ok);
    assert_eq!(sandbox(&["git"]).set("GIT_SSL_CAINFO", "/both.pem").state("trust.git"), CheckStatus::Ok);
}

#[test]
fn javas_store_is_searched_for_the_certificate_itself() {
    let host = sandbox(&["java"]);
    assert_eq!(host.state("trust.java"), CheckStatus::NotApplicable, "no store to be found");
    let store = host.root.path().join("etc/ssl/certs/java/cacerts");
    std::fs::create_dir_all(store.parent().unwrap()).unwrap();
    std::fs::write(&store, [0xfe, 0xed, 0xfe, 0xed]).unwrap();
    assert_eq!(host.state("trust.java"), CheckStatus::Warn);
    std::fs::write(&store, [&[0xfe, 0xed, 0xfe, 0xed], host.ours.der().as_ref()].concat()).unwrap();
    assert_eq!(host.state("trust.java"), CheckStatus::Ok);
}

#[test]
fn without_an_authority_there_is_nothing_to_trust() {
    let mut host = sandbox(&["node"]);
    host.options.authority = None;
    assert_eq!(host.state("trust"), CheckStatus::NotApplicable);
    host.options.authority = Some(host.root.path().join("missing.pem"));
    assert_eq!(host.state("trust"), CheckStatus::Fail);
}
