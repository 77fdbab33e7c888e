//! Starts of programs: which are reported, and that none is lost without being counted.

use std::path::Path;
use std::process::{Command, Stdio};

use gnomon_sensor::{CgroupId, Counters, Feature, Features, Mode, Outcome, Program, Starts, Status};

use crate::support::{Stage, home, needs, until};

/// Has a shell in this cgroup start a program so often, and returns how often exec was called for it: once for the shell as well.
fn starts(cgroup: &Path, times: usize) -> u64 {
    let script = r#"echo $$ > "$0/cgroup.procs" && exec /bin/sh -c 'i=0; while [ $i -lt $0 ]; do /bin/true; i=$((i+1)); done' "$1""#;
    let status = Command::new("/bin/sh").args(["-c", script]).arg(cgroup).arg(times.to_string()).status().unwrap();
    assert!(status.success());
    times as u64 + 1
}

/// A stage whose sensor reports starts, if this kernel can tell which are below its cgroup.
fn stage(name: &str, ring_bytes: u32) -> Option<Stage> {
    if !needs(name) {
        return None;
    }
    let lineage = Features::probe(home()).status(Feature::TaskLineage).clone();
    let mut stage = Stage::new(name, 0, |options| options.ring_bytes = ring_bytes);
    stage.sensor.set_starts(Starts::Reported).unwrap();
    if lineage == Status::Ok {
        return Some(stage);
    }
    starts(&stage.client_cgroup(), 3);
    assert!(stage.starts().is_empty(), "below a cgroup nothing is reported where it cannot be told what is below it");
    assert_eq!(exec(&stage, Outcome::Delivered), 0);
    None
}

fn counters(stage: &Stage) -> Counters {
    stage.sensor.counters().unwrap()
}

fn exec(stage: &Stage, outcome: Outcome) -> u64 {
    counters(stage).get(Program::Exec, outcome)
}

#[test]
fn a_start_below_the_cgroup_is_reported_with_who_and_where_and_when() {
    let Some(mut stage) = stage("starts", 1 << 16) else { return };
    let cgroup = stage.client_cgroup();
    let began = starts(&cgroup, 3);
    let found = stage.starts();
    assert_eq!(found.len() as u64, began, "{found:?}");
    assert!(found.iter().all(|start| start.cgroup == CgroupId::of(&cgroup).unwrap().0 && (start.uid, start.gid) == (0, 0)), "{found:?}");
    assert_eq!(found.iter().map(|start| start.name.to_string()).collect::<Vec<_>>(), ["sh", "true", "true", "true"]);
    assert!(found.windows(2).all(|two| two[0].began_ns < two[1].began_ns && two[0].pid != two[1].pid), "{found:?}");
    // As the resolver of identities knows it.
    let script = r#"echo $$ > "$0/cgroup.procs" && exec /bin/cat"#;
    let mut child = Command::new("/bin/sh").args(["-c", script]).arg(&cgroup).stdin(Stdio::piped()).spawn().unwrap();
    until("the start of cat", || stage.starts().len() as u64 > began);
    let cat = stage.starts().pop().unwrap();
    assert_eq!((cat.pid, stage.sensor.execs().unwrap().last(child.id())), (child.id(), Some(cat.began_ns.get())));
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn starts_elsewhere_and_in_cgroups_that_are_left_alone_are_not_reported_nor_any_until_that_is_asked_for() {
    let Some(mut stage) = stage("starts-elsewhere", 1 << 16) else { return };
    starts(&home().join("half"), 2);
    stage.scope(Mode::Off);
    starts(&stage.client_cgroup(), 2);
    assert!(stage.starts().is_empty(), "{:?}", stage.starts());
    stage.scope(Mode::Observe);
    stage.sensor.set_starts(Starts::Remembered).unwrap();
    starts(&stage.client_cgroup(), 2);
    assert!(stage.starts().is_empty(), "{:?}", stage.starts());
    assert_eq!(exec(&stage, Outcome::Delivered), 0);
    until("each exec to be accounted for", || counters(&stage).unaccounted(Program::Exec) == 0);
    assert!(exec(&stage, Outcome::Filtered) >= 9);
}

#[test]
fn a_thousand_starts_that_nobody_reads_are_delivered_or_counted_as_lost() {
    // A ring of one page holds some sixty.
    let Some(mut stage) = stage("starts-overload", 4096) else { return };
    let began = starts(&stage.client_cgroup(), 1000);
    until("each exec to be accounted for", || counters(&stage).unaccounted(Program::Exec) == 0);
    let counters = counters(&stage);
    let (delivered, lost) = (counters.get(Program::Exec, Outcome::Delivered), counters.get(Program::Exec, Outcome::RingFull));
    assert_eq!((delivered + lost, stage.starts().len() as u64), (began, delivered), "{lost} lost");
    assert!(lost > 0, "this was no overload");
}
