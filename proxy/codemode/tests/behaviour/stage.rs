//! A sandbox, and a host for its calls.

use std::future::pending;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use gnomon_codemode::{
    Asked, CallFailure, Execution, Host, Limits, Names, Program, Raw, Sandbox, SandboxConfig, ScriptOutcome, StartError,
};
use tokio::sync::Notify;

pub const ZYGOTE: &str = env!("CARGO_BIN_EXE_codemode-zygote");

/// A sandbox whose zygote gets these arguments, which say what its host refuses.
pub async fn start(refused: &[&str]) -> Result<Sandbox, StartError> {
    Sandbox::start(config(refused)).await
}

pub fn config(refused: &[&str]) -> SandboxConfig {
    SandboxConfig::new(ZYGOTE, refused.iter().map(ToString::to_string))
}

pub async fn sandbox() -> Sandbox {
    start(&[]).await.unwrap()
}

/// Answers each call as its name says.
#[derive(Default)]
pub struct Tools {
    now: AtomicU32,
    /// The most calls at the same time.
    pub most: AtomicU32,
    pub dropped: AtomicU32,
    /// Milliseconds that `test_person` took or will take.
    suspended: AtomicU64,
    /// Notified when `test_hang` is called.
    pub hung: Notify,
}

pub const TOOLS: [&str; 12] = [
    "test_echo",
    "test_add",
    "test_fail",
    "test_hang",
    "test_slow",
    "test_person",
    "test_big",
    "test_long",
    "test_proto",
    "test_item",
    "test_deep",
    "test_words",
];

impl Host for Tools {
    async fn call(&self, asked: Asked<'_>, arguments: &Raw) -> Result<Box<Raw>, CallFailure> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let _leaving = Leaving(self);
        let value: serde_json::Value = serde_json::from_str(arguments.get()).map_err(|error| error.to_string())?;
        let text = match asked {
            Asked::Tool("test_echo") => value.to_string(),
            Asked::Tool("test_add") => (value["a"].as_f64().unwrap_or(0.0) + value["b"].as_f64().unwrap_or(0.0)).to_string(),
            Asked::Tool("test_fail") => return Err("the tool says no".to_owned().into()),
            Asked::Tool("test_hang") => {
                self.hung.notify_one();
                pending().await
            }
            Asked::Tool("test_slow") => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                "\"slow\"".to_owned()
            }
            Asked::Tool("test_person") => {
                let thinks = Duration::from_millis(300);
                self.suspended.fetch_add(300, Ordering::SeqCst);
                tokio::time::sleep(thinks).await;
                "\"thought\"".to_owned()
            }
            Asked::Tool("test_words") => "\"x is undefined\"".to_owned(),
            Asked::Tool("test_big") => format!("{:?}", "x".repeat(200 << 10)),
            Asked::Tool("test_long") => format!("{:?}", "x".repeat(5 << 20)),
            Asked::Tool("test_deep") => return Err("Maximum call stack size exceeded".to_owned().into()),
            Asked::Tool("test_proto") => r#"{"__proto__":{"polluted":true},"constructor":{"name":"x"},"a":1}"#.to_owned(),
            Asked::Tool(_) => format!("{{\"item\":{value}}}"),
            Asked::Tools => r#"[{"name":"test_echo"},{"name":"test_add"}]"#.to_owned(),
            Asked::Search if value[0] == "found" => {
                r#"[{"name":"a","signature":"a()","summary":"s","inputSchema":{"type":"object"}}]"#.to_owned()
            }
            Asked::Search if value[0] == "none" => "[]".to_owned(),
            Asked::Search => format!("{{\"searched\":{value}}}"),
            Asked::Describe => format!("{{\"described\":{value}}}"),
            Asked::Result => format!("{{\"kept\":{value}}}"),
            Asked::Save | Asked::Forget => format!("{{\"asked\":{value}}}"),
            Asked::WithMeta("test_fail") => r#"{"error":"the tool says no","meta":{"retryAfter":3}}"#.to_owned(),
            Asked::WithMeta(_) => format!("{{\"value\":{value},\"meta\":{{\"etag\":1}}}}"),
        };
        Raw::from_string(text).map_err(|error| error.to_string().into())
    }

    fn suspended(&self) -> Duration {
        Duration::from_millis(self.suspended.load(Ordering::SeqCst))
    }
}

struct Leaving<'a>(&'a Tools);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

pub async fn run_with(sandbox: &Sandbox, limits: &Limits, code: &str) -> Execution {
    sandbox.execute(Program { code, names: &Names::new(TOOLS) }, limits, &Tools::default()).await.unwrap()
}

pub async fn run(sandbox: &Sandbox, code: &str) -> Execution {
    run_with(sandbox, &Limits::default(), code).await
}

/// The JSON that a program returns.
pub async fn value(sandbox: &Sandbox, code: &str) -> String {
    match run(sandbox, code).await.outcome {
        ScriptOutcome::Value(json) => json.get().to_owned(),
        other => panic!("{code}\n{other:?}"),
    }
}

/// The text that a program throws.
pub async fn thrown(sandbox: &Sandbox, code: &str) -> String {
    match run(sandbox, code).await.outcome {
        ScriptOutcome::Thrown { message } => message,
        other => panic!("{code}\n{other:?}"),
    }
}

/// Checks that the sandbox still works for others.
pub async fn works(sandbox: &Sandbox) {
    assert_eq!(value(sandbox, "async () => codemode.test_add({ a: 40, b: 2 })").await, "42");
}
