//! Prints what it costs to judge one request: `cargo run --release -p gnomon-engine --example judge_cost [FOLDER]`.
//!
//! FOLDER is a folder of rule files (default: the packs that ship). The request is a `tools/call`
//! to a server that is not sanctioned, judged at each phase as the proxy does; the connection's
//! phases are judged once and cloned, as for a kept-alive connection.
#![allow(clippy::unwrap_used)]

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_observe::{Family, Field, Observation, Phase};
use std::{fs, hint::black_box, path::Path, time::Instant};

const ROUNDS: u32 = 200_000;

fn sources(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "yml") {
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source { name: path.display().to_string(), text, origin: Origin::Vendor });
        }
    }
}

fn request() -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::ServerAddress, "mcp.vendor.example");
    seen.set(Field::ServerPort, 443u16);
    seen.set(Field::Sanctioned, false);
    seen.set(Field::UrlPath, "/v1/mcp");
    seen.set(Field::HttpMethod, "POST");
    seen.set(Field::UserAgent, "codex-mcp-client/0.169.0");
    seen.set(Field::McpMethod, "tools/call");
    seen.set(Field::RpcMethod, "tools/call");
    seen.set(Field::ToolName, "read_file");
    seen.set(Field::ToolArguments, vec!["/srv/shared/plan.md".into(), "utf-8".into()]);
    seen.set(Field::BodyText, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_file"}}"#);
    seen.set(Field::Signatures, vec!["H1".into(), "B3".into()]);
    seen.set_member(Family::RequestHeader, "mcp-method", "tools/call");
    seen
}

fn main() {
    let packs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packs");
    let folder = std::env::args().nth(1).map_or(packs, Into::into);
    let mut found = Vec::new();
    sources(&folder, &mut found);
    let started = Instant::now();
    let set = RuleSet::compile(&found).unwrap_or_else(|errors| panic!("{errors}"));
    println!("{} rules compiled in {:?}", set.rules().len(), started.elapsed());
    let seen = request();
    let mut connection = set.start();
    set.judge(&seen, Phase::Connect, &mut connection);
    set.judge(&seen, Phase::Hello, &mut connection);
    for _ in 0..3 {
        let mut lines = Vec::new();
        for phases in [&[Phase::Head][..], &[Phase::Head, Phase::Message]] {
            let started = Instant::now();
            for _ in 0..ROUNDS {
                let mut progress = connection.clone();
                for phase in phases {
                    black_box(set.judge(black_box(&seen), *phase, &mut progress));
                }
                black_box(&progress);
            }
            let cost = started.elapsed().as_nanos() / u128::from(ROUNDS);
            lines.push(format!("{}: {cost} ns", phases.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(" + ")));
        }
        println!("{}", lines.join(", "));
    }
}
