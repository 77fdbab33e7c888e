use super::*;
use clap::Parser;
use gnomon_ledger::journal_in;
use std::{fs, path::PathBuf};

const RULE: &str = "title: Uses a tool
id: 11111111-2222-4333-8444-555555555555
logsource: { product: mcp, category: mcp_traffic }
detection: { selection: { mcp.method.name: tools/call }, condition: selection }
level: medium
gnomon: { class: mcp }
";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    triage: Triage,
}

/// A state folder, and rules.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["state", "rules"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("rules/a.yml"), RULE).unwrap();
        let bench = Self(dir);
        bench.configure("");
        bench
    }

    fn configure(&self, more: &str) {
        let rules = format!("rules: {{ packs: [], dirs: [{0}/rules], triage: {0}/triage }}\n{more}", self.0.path().display());
        fs::write(self.0.path().join("gnomon.yml"), rules).unwrap();
    }

    fn exceptions(&self) -> Vec<PathBuf> {
        fs::read_dir(self.0.path().join("triage")).map(|all| all.map(|file| file.unwrap().path()).collect()).unwrap_or_default()
    }

    /// What it says, or why it failed.
    fn triage(&self, n: u8, words: &[&str]) -> Result<String, String> {
        let id = format!("019a9f3e-4b7c-7000-8000-0000000000{n:02}");
        let event = serde_json::json!({"event.id": id, "rule.id": "11111111-2222-4333-8444-555555555555", "rule.name": "Uses a tool",
            "gnomon.detection.class": "mcp", "gnomon.rules.matched": ["11111111-2222-4333-8444-555555555555"],
            "mcp.method.name": "tools/call", "user.name": "ada", "server.address": "a.example", "server.port": 8443, "gen_ai.tool.name": "search"});
        let path = |name: &str| self.0.path().join(name).display().to_string();
        let (config, state) = (path("gnomon.yml"), path("state"));
        let line = ["triage", "--config", &config, "--state-dir", &state, "--owner", "soc", &id];
        let line = Line::parse_from(line.iter().chain(words));
        let mut said = Vec::new();
        match line.triage.decide(event.as_object().unwrap(), &mut said) {
            Ok(()) => Ok(String::from_utf8(said).unwrap()),
            Err(error) => Err(format!("{error:#}; {:?}", error.downcast_ref::<Complaint>().and_then(|complaint| complaint.next.clone()))),
        }
    }

    /// The rule and the exceptions, as a gnomon that runs has them.
    fn tells(&self, port: u16) -> bool {
        let source =
            |path: PathBuf| Source { name: path.display().to_string(), text: fs::read_to_string(&path).unwrap(), origin: Origin::Admin };
        let all: Vec<_> = [self.0.path().join("rules/a.yml")].into_iter().chain(self.exceptions()).map(source).collect();
        let rules = RuleSet::compile(&all).unwrap();
        let mut seen = gnomon_observe::Observation::new();
        let said =
            [("mcp.method.name", "tools/call"), ("user.name", "ada"), ("server.address", "a.example"), ("gen_ai.tool.name", "search")];
        for (field, value) in said {
            seen.set_json(field, &value.into()).unwrap();
        }
        seen.set_json("server.port", &port.into()).unwrap();
        let mut progress = rules.start();
        let _ = rules.judge(&seen, gnomon_observe::Phase::Response, &mut progress);
        progress.matched().count() > 0
    }

    fn kinds(&self, n: u8) -> Vec<VerdictKind> {
        let decided = Decided::of(&self.0.path().join("state"));
        let id = format!("019a9f3e-4b7c-7000-8000-0000000000{n:02}");
        let verdicts = runtime().unwrap().block_on(decided.verdicts_on(&id)).unwrap();
        verdicts.into_iter().map(|(_, verdict)| verdict.kind).collect()
    }
}

const BENIGN: [&str; 5] = ["benign", "--until", "2099-01-01", "--reason", "approved"];
const CONFIRMED: [&str; 3] = ["confirmed", "--reason", "exfiltration"];

#[test]
fn no_exception_acts_whose_verdict_is_not_kept() {
    let bench = Bench::new();
    bench.configure("state: 'postgres://gnomon@/gnomon?host=/nowhere'\n");
    assert!(bench.triage(1, &BENIGN).unwrap_err().contains("cannot connect to"));
    // Nor while it is being kept.
    let journal = journal_in(&bench.0.path().join("state"));
    bench.configure("");
    fs::create_dir(&journal).unwrap();
    bench.triage(1, &BENIGN).unwrap_err();
    assert!(bench.exceptions().is_empty() && !bench.0.path().join("triage").exists());
}

#[test]
fn a_verdict_whose_exception_was_not_written_gets_it_when_the_command_is_repeated() {
    let bench = Bench::new();
    let triage = bench.0.path().join("triage");
    // Where nothing can be written, not even by root.
    std::os::unix::fs::symlink("nowhere/at/all", &triage).unwrap();
    let error = bench.triage(1, &BENIGN).unwrap_err();
    assert!(error.contains("cannot write ") && error.contains("the verdict is kept, and nothing is excepted"), "{error}");
    assert_eq!(bench.kinds(1), [VerdictKind::Benign]);
    fs::remove_file(&triage).unwrap();
    assert!(bench.triage(1, &BENIGN).unwrap().contains("written: a running gnomon takes it up"));
    // As often as anybody likes; one that says something else overwrites nothing, and is not kept.
    let text = fs::read(&bench.exceptions()[0]).unwrap();
    assert!(bench.triage(1, &BENIGN).unwrap().contains("is there already, as it would be written"));
    let other = ["benign", "--until", "2098-01-01", "--reason", "approved"];
    assert!(bench.triage(1, &other).unwrap_err().contains("is there already"));
    assert_eq!((bench.kinds(1), fs::read(&bench.exceptions()[0]).unwrap()), (vec![VerdictKind::Benign], text));
}

#[test]
fn a_later_verdict_that_is_not_benign_takes_the_exception_back() {
    let bench = Bench::new();
    bench.triage(1, &BENIGN).unwrap();
    assert_eq!(bench.exceptions().len(), 1);
    let said = bench.triage(1, &CONFIRMED).unwrap();
    assert!(said.contains("is noted as confirmed") && said.contains("is taken back"), "{said}");
    assert!(bench.exceptions().is_empty());
    assert_eq!(bench.kinds(1), [VerdictKind::Benign, VerdictKind::Confirmed]);
    // Repeated it says no more than that, and a finding that was never excepted leaves no word of exceptions.
    assert_eq!(bench.triage(1, &CONFIRMED).unwrap().lines().count(), 1);
    assert_eq!(bench.kinds(1).len(), 2);
    assert!(bench.triage(1, &BENIGN).is_ok() && bench.exceptions().len() == 1);
}

#[test]
fn an_exception_that_stays_is_named_with_the_command_that_ends_it() {
    let bench = Bench::new();
    bench.triage(1, &BENIGN).unwrap();
    bench.triage(2, &BENIGN).unwrap();
    let file = |n: u8| bench.exceptions().into_iter().find(|file| file.display().to_string().ends_with(&format!("{n}.yml"))).unwrap();
    let rm = |file: &Path| format!("  rm {}", file.display());
    // The other event's exception is for the same calls.
    let said = bench.triage(1, &CONFIRMED).unwrap();
    assert!(said.contains("still excepted by") && said.contains(&rm(&file(2))), "{said}");
    // One that somebody changed may be for more than this event.
    let second = file(2);
    fs::write(&second, fs::read_to_string(&second).unwrap().replace("# `not`", "# Agreed with ada. `not`")).unwrap();
    let said = bench.triage(2, &CONFIRMED).unwrap();
    assert!(said.contains("changed by hand") && said.contains(&rm(&second)), "{said}");
    assert!(!said.contains("still excepted") && second.exists(), "{said}");
}

#[test]
fn an_exception_is_for_one_server_and_for_no_other_on_its_host() {
    let bench = Bench::new();
    let said = bench.triage(1, &BENIGN).unwrap();
    assert!(said.contains("server.address = a.example, server.port = 8443, gen_ai.tool.name = search"), "{said}");
    assert!(!bench.tells(8443) && bench.tells(9443));
    // As somebody wants it: for all of the host, and for every host.
    for (n, wider) in [(2, "server.port"), (3, "server.address")] {
        let words: Vec<&str> = BENIGN.into_iter().chain(["--wider", wider]).collect();
        let said = bench.triage(n, &words).unwrap();
        assert!(!said.contains("server.port") && !bench.tells(9443), "{said}");
        fs::remove_file(bench.exceptions().into_iter().find(|file| file.display().to_string().ends_with(&format!("{n}.yml"))).unwrap())
            .unwrap();
    }
}
