//! Hosts that refuse some of the sandbox's layers, and zygotes that die.

use std::time::Duration;

use gnomon_codemode::{ExecuteError, LayerState, Limits, Names, Program, Sandbox, SandboxConfig, ScriptOutcome, StartError};
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{TOOLS, Tools, start, works};

#[tokio::test]
async fn without_seccomp_there_is_no_sandbox() {
    let refused = start(&["no-seccomp"]).await;
    assert!(matches!(refused, Err(StartError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn other_layers_degrade_and_are_reported() {
    let root = rustix::process::geteuid().is_root();
    let sandbox = start(&["no-namespaces", "no-landlock"]).await.unwrap();
    let layers = sandbox.layers().await.unwrap();
    assert_eq!(layers.seccomp, LayerState::Enforced);
    assert_eq!(layers.capabilities, LayerState::Enforced);
    assert_eq!((layers.landlock, layers.network, layers.process), (LayerState::Absent, LayerState::Absent, LayerState::Absent));
    assert_eq!(layers.user, if root { LayerState::Enforced } else { LayerState::Absent });
    works(&sandbox).await;

    let sandbox = start(&["as-nobody", "no-namespaces"]).await.unwrap();
    assert_eq!(sandbox.layers().await.unwrap().user, LayerState::Absent);
    works(&sandbox).await;
}

#[tokio::test]
async fn a_user_without_privileges_has_all_the_layers_that_the_kernel_gives_users() {
    let sandbox = start(&["as-nobody"]).await.unwrap();
    let layers = sandbox.layers().await.unwrap();
    println!("{layers:?}");
    assert_eq!((layers.seccomp, layers.capabilities), (LayerState::Enforced, LayerState::Enforced));
    // All other layers need only the user namespace.
    assert_eq!(layers.network, layers.user);
    works(&sandbox).await;
}

#[tokio::test]
async fn as_the_packages_service_it_has_what_the_unit_leaves() {
    let sandbox = start(&["as-nobody", "in-the-service"]).await.unwrap();
    let layers = sandbox.layers().await.unwrap();
    for (name, state) in layers.each() {
        let left = matches!(name, "seccomp" | "capabilities" | "limits");
        assert!(name == "landlock" || (state == LayerState::Enforced) == left, "{name}: {state:?}");
    }
    works(&sandbox).await;
}

#[tokio::test]
async fn without_resource_limits_the_engines_own_bounds_are_left() {
    let sandbox = start(&["no-limits"]).await.unwrap();
    assert_eq!(sandbox.layers().await.unwrap().limits, LayerState::Absent);
    works(&sandbox).await;
}

#[tokio::test]
async fn a_script_that_computes_for_long_gets_the_smallest_share_there_is_also_in_the_packages_service() {
    let limits = Limits { sandbox_time: Duration::from_secs(1), ..Limits::default() };
    let (tools, names) = (Tools::default(), Names::new(TOOLS));
    for host in [&[][..], &["as-nobody", "in-the-service"]] {
        let sandbox = start(host).await.unwrap();
        let zygote = sandbox.process().await.unwrap();
        let looked = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            nice_of(&youngest_of(zygote))
        };
        let endless = Program { code: "async () => { while (true) {} }", names: &names };
        let (execution, nice) = tokio::join!(sandbox.execute(endless, &limits, &tools), looked);
        assert!(matches!(execution.unwrap().outcome, ScriptOutcome::Limit(_)), "{host:?}");
        assert_eq!(nice.as_deref(), Some("19"), "{host:?}");
        works(&sandbox).await;
    }
}

/// The fields of `/proc/PID/stat` behind the process's name (proc_pid_stat(5)): the third and those after it.
fn stat(process: &str) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn child_of(process: &str) -> Option<String> {
    let all = std::fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    all.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit())).find(|id| stat(id).is_some_and(|fields| fields[1] == process))
}

/// The worker of a zygote that runs one script.
fn youngest_of(zygote: u32) -> String {
    let mut youngest = zygote.to_string();
    while let Some(child) = child_of(&youngest) {
        youngest = child;
    }
    youngest
}

fn nice_of(process: &str) -> Option<String> {
    stat(process)?.get(19 - 3).cloned()
}

#[tokio::test]
async fn a_worker_that_is_killed_from_outside_is_lost_and_no_break_out_and_costs_no_other() {
    for refused in [&[][..], &["no-namespaces"]] {
        let sandbox = start(refused).await.unwrap();
        let (tools, names, limits) = (Tools::default(), Names::new(TOOLS), Limits::default());
        let program = Program { code: "async () => codemode.test_hang()", names: &names };
        // As the kernel does it where memory is short.
        let killed = async {
            tools.hung.notified().await;
            let worker = youngest_of(sandbox.process().await.unwrap());
            kill_process(Pid::from_raw(worker.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        };
        let (execution, ()) = tokio::join!(sandbox.execute(program, &limits, &tools), killed);
        let outcome = execution.unwrap().outcome;
        assert!(matches!(outcome, ScriptOutcome::Lost), "{refused:?}: {outcome:?}");
        works(&sandbox).await;
        assert_eq!(sandbox.restarts(), 0, "{refused:?}");
    }
}

#[tokio::test]
async fn a_zygote_that_dies_takes_its_workers_along_and_is_started_again() {
    for refused in [&[][..], &["no-namespaces"]] {
        let sandbox = start(refused).await.unwrap();
        let tools = Tools::default();
        let names = Names::new(TOOLS);
        let program = Program { code: "async () => codemode.test_hang()", names: &names };
        let limits = Limits::default();
        let lost = async {
            tools.hung.notified().await;
            let process = sandbox.process().await.and_then(|id| Pid::from_raw(id.cast_signed())).unwrap();
            kill_process(process, Signal::KILL).unwrap();
        };
        let (execution, ()) = tokio::join!(sandbox.execute(program, &limits, &tools), lost);
        assert!(matches!(execution.unwrap().outcome, ScriptOutcome::Lost));
        // The first start was a moment ago, so the next one has to wait.
        let again = Program { code: "async () => 1", names: &names };
        loop {
            match sandbox.execute(again, &limits, &tools).await {
                Ok(execution) => {
                    assert!(matches!(execution.outcome, ScriptOutcome::Value(_)));
                    break;
                }
                Err(ExecuteError::Restarting(pause)) => tokio::time::sleep(pause).await,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(sandbox.restarts(), 1);
    }
}

#[tokio::test]
async fn a_program_that_is_not_a_zygote_is_an_error() {
    for (program, argument) in [("/bin/true", ""), ("/bin/cat", "/dev/null")] {
        let started = Sandbox::start(SandboxConfig::new(program, [argument])).await;
        assert!(matches!(started, Err(StartError::Ended)), "{started:?}");
    }
    assert!(matches!(Sandbox::start(SandboxConfig::new("/nowhere", [""])).await, Err(StartError::Spawn(_))));
}

#[tokio::test]
async fn too_many_executions_are_refused() {
    let mut config = crate::stage::config(&[]);
    (config.workers, config.queue, config.patience) = (1, 1, Duration::from_millis(50));
    let sandbox = Sandbox::start(config).await.unwrap();
    let (tools, names, limits) = (Tools::default(), Names::new(TOOLS), Limits { wall_time: Duration::from_secs(1), ..Limits::default() });
    let hang = || sandbox.execute(Program { code: "async () => codemode.test_hang()", names: &names }, &limits, &tools);
    let (first, second, third) = tokio::join!(hang(), hang(), hang());
    assert!(matches!(first.unwrap().outcome, ScriptOutcome::Limit(_)));
    // One waited in vain, the other was not even allowed to wait.
    assert!(matches!((second, third), (Err(ExecuteError::Busy), Err(ExecuteError::Busy))));
    works(&sandbox).await;
}
