//! Code Mode's sandbox in the real zygote process of the product: its allocator, its start, its size. The tests of the sandbox itself are
//! in its crate.

use gnomon_codemode::{
    Asked, CallFailure, Execution, Host, LayerState, Limit, Limits, Names, Program, Raw, Sandbox, SandboxConfig, ScriptOutcome,
};

struct Nothing;

impl Host for Nothing {
    async fn call(&self, _asked: Asked<'_>, arguments: &Raw) -> Result<Box<Raw>, CallFailure> {
        Ok(arguments.to_owned())
    }
}

async fn run(sandbox: &Sandbox, code: &str) -> Execution {
    sandbox.execute(Program { code, names: &Names::new(["echo"]) }, &Limits::default(), &Nothing).await.unwrap()
}

#[tokio::test]
async fn the_products_zygote_runs_programs_and_survives_what_they_do() {
    let sandbox = Sandbox::start(SandboxConfig::new(env!("CARGO_BIN_EXE_gnomon"), ["sandbox-zygote"])).await.unwrap();
    let layers = sandbox.layers().await.unwrap();
    assert_eq!((layers.seccomp, layers.capabilities), (LayerState::Enforced, LayerState::Enforced));
    for code in [
        "async () => 7",
        "const n: number = await codemode.echo(7);\nn",
        // Exercises the allocator: large and small blocks, grown, moved and freed.
        "async () => { let kept = []; for (let i = 0; i < 2e5; i++) { kept.push({ i, text: 'x'.repeat(i % 300) }); if (kept.length > 5e4) kept = [] } return 7 }",
        "async () => { for (let i = 0; i < 20; i++) new ArrayBuffer(1 << 25); return 7 }",
        "async () => { const d = new Date(0); return d.getHours() + 7 }",
    ] {
        let outcome = run(&sandbox, code).await.outcome;
        assert!(matches!(&outcome, ScriptOutcome::Value(value) if value.get() == "7"), "{code}: {outcome:?}");
    }
    let bomb = run(&sandbox, "async () => { const kept = []; for (;;) kept.push(new Array(1000).fill(kept.length)) }").await.outcome;
    assert!(matches!(bomb, ScriptOutcome::Limit(Limit::Heap | Limit::SandboxTime)), "{bomb:?}");
    assert_eq!(sandbox.restarts(), 0);
}
