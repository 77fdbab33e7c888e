//! Our own scripts, which try everything we could think of; see `tests/corpus`. `GNOMON_CORPUS=FILE` adds another file.
//!
//! A script begins with `//# name -> endings value`: `ok` (with its value as JSON), `error` (it threw, or hit a bound other than time and
//! heap), `timeout`, `oom`, or several of them. Text that is too long or invisible is written as `@word@`.
//! `GNOMON_ZYGOTE=target/release/gnomon` runs them in the product's own zygote, with its allocator.

use std::fs;
use std::path::Path;
use std::time::Duration;

use gnomon_codemode::{Asked, CallFailure, Host, Limit, Limits, Names, Program, Raw, Sandbox, SandboxConfig, ScriptOutcome};

use crate::stage::{start, works};

struct Script {
    name: String,
    endings: Vec<String>,
    value: Option<serde_json::Value>,
    code: String,
}

fn scripts(text: &str) -> Vec<Script> {
    let mut scripts: Vec<Script> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("//# ") {
            let (name, rest) = head.split_once(" -> ").unwrap();
            let (endings, value) = rest.split_once(' ').map_or((rest, None), |(endings, value)| (endings, Some(value)));
            scripts.push(Script {
                name: name.to_owned(),
                endings: endings.split('|').map(str::to_owned).collect(),
                value: value.map(|value| serde_json::from_str(value).unwrap()),
                code: String::new(),
            });
        } else {
            let code = &mut scripts.last_mut().unwrap().code;
            code.push_str(line);
            code.push('\n');
        }
    }
    for script in &mut scripts {
        script.code = expanded(script.code.trim_end());
    }
    scripts
}

fn expanded(code: &str) -> String {
    const ROOM: usize = 60_000;
    let code = code.replace("@nul@", "\0").replace("@bom@", "\u{feff}").replace("@ls@", "\u{2028}").replace("@long@", &"x".repeat(70_000));
    let Some((before, (nest, after))) = code.split_once("@nest:").and_then(|(before, rest)| Some((before, rest.rsplit_once('@')?))) else {
        return code;
    };
    let parts: Vec<_> = nest.split('|').collect();
    let [open, core, close] = parts.as_slice() else { panic!("{code}") };
    let times = ROOM / (open.len() + close.len());
    format!("{before}{}{core}{}{after}", open.repeat(times), close.repeat(times))
}

struct Echo;

impl Host for Echo {
    async fn call(&self, asked: Asked<'_>, arguments: &Raw) -> Result<Box<Raw>, CallFailure> {
        let text = match asked {
            Asked::Tool("fail") => return Err("denied by policy".to_owned().into()),
            Asked::Tool("pollute") => r#"{"__proto__":{"polluted":1},"constructor":{"prototype":{"p2":1}}}"#.to_owned(),
            Asked::Tool(name) => format!("{{\"echo\":{},\"name\":{name:?}}}", arguments.get()),
            Asked::Tools => r#"[{"name":"x","inputSchema":{"type":"object"}}]"#.to_owned(),
            Asked::Search | Asked::Describe | Asked::Result | Asked::Save | Asked::Forget | Asked::WithMeta(_) => "null".to_owned(),
        };
        Raw::from_string(text).map_err(|error| error.to_string().into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_script_ends_other_than_it_may_or_disturbs_its_neighbours() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = fs::read_dir(own).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.extend(std::env::var_os("GNOMON_CORPUS").map(Into::into));
    files.sort();
    let sandbox = match std::env::var_os("GNOMON_ZYGOTE") {
        Some(product) => Sandbox::start(SandboxConfig::new(product, ["sandbox-zygote"])).await.unwrap(),
        None => start(&[]).await.unwrap(),
    };
    let names = Names::new(["x", "fail", "pollute"]);
    let brief = Limits { sandbox_time: Duration::from_millis(300), wall_time: Duration::from_secs(5), ..Limits::default() };
    let patient = Limits { sandbox_time: Duration::from_secs(4), ..brief.clone() };
    let (mut wrong, mut late, mut count) = (Vec::new(), Duration::ZERO, 0);
    for script in files.iter().flat_map(|file| scripts(&fs::read_to_string(file).unwrap())) {
        let program = || Program { code: &script.code, names: &names };
        let may = |ending: &str| script.endings.iter().any(|allowed| allowed == ending);
        let mut limits = &brief;
        let mut execution = sandbox.execute(program(), limits, &Echo).await.unwrap();
        // On a busy machine a long script may get too little processor time.
        if matches!(execution.outcome, ScriptOutcome::Limit(Limit::SandboxTime)) && !may("timeout") {
            limits = &patient;
            execution = sandbox.execute(program(), limits, &Echo).await.unwrap();
        }
        let (ending, value) = match &execution.outcome {
            ScriptOutcome::Value(json) => ("ok", serde_json::from_str(json.get()).unwrap_or(serde_json::Value::Null)),
            ScriptOutcome::Limit(Limit::SandboxTime | Limit::WallTime) => ("timeout", "".into()),
            ScriptOutcome::Limit(Limit::Heap) => ("oom", "".into()),
            ScriptOutcome::Limit(_) | ScriptOutcome::Thrown { .. } | ScriptOutcome::Unreadable => ("error", "".into()),
            ScriptOutcome::Violation(_) | ScriptOutcome::Lost => ("broken", "".into()),
        };
        let as_stated = script.value.as_ref().is_none_or(|stated| ending != "ok" || *stated == value);
        if !may(ending) || !as_stated {
            wrong.push(format!("{}: {:?}", script.name, execution.outcome));
        }
        late = late.max(execution.sandbox_time.saturating_sub(limits.sandbox_time));
        count += 1;
        works(&sandbox).await;
    }
    println!("{count} scripts, at most {late:?} over their time");
    assert!(wrong.is_empty(), "{} of {count} ended wrongly:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(sandbox.restarts(), 0);
    // A busy machine is slower; the promised bound is measured by the test of native loops.
    assert!(late < Duration::from_secs(2), "{late:?}");
}
