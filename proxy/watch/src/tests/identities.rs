//! Who a process is: what may be remembered, and for whom.

use std::sync::atomic::{AtomicU64, Ordering};

use gnomon_link::{IdentityAnswer, ToSensor};
use tokio::sync::mpsc;

use super::raw::Call;
use super::stage::ada;
use crate::identities::{Identities, LookUp, Unknown, Who, started};

/// A boot time far beyond that of any test, so that the process has to be looked at again.
const LATER: u64 = u64::MAX / 2;

fn asking(started: fn(u32) -> Option<u64>) -> (Identities, mpsc::Receiver<ToSensor>) {
    let (ask, asked) = mpsc::channel(4096);
    (Identities::new(64, ask, started), asked)
}

fn token(asked: &mut mpsc::Receiver<ToSensor>) -> Option<u64> {
    match asked.try_recv() {
        Ok(ToSensor::Resolve { token, .. }) => Some(token),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

fn known() -> IdentityAnswer {
    IdentityAnswer::Identity(Box::new(ada()))
}

fn is_pending(look: &LookUp) -> bool {
    matches!(look, LookUp::Pending(_))
}

fn why(look: &LookUp) -> Option<Unknown> {
    match look {
        LookUp::Ready(Who::Unknown(why)) => Some(*why),
        _ => None,
    }
}

#[test]
fn a_number_that_was_given_out_again_is_another_process() {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let (identities, mut asked) = asking(|_| Some(STARTED.load(Ordering::Relaxed)));
    STARTED.store(ada().started_boot_ns, Ordering::Relaxed);
    assert!(is_pending(&identities.look_up(&Call::new(1).owner())));
    identities.found(token(&mut asked).unwrap(), known());
    let later = Call { connected: LATER, ..Call::new(2) }.owner();
    assert!(matches!(identities.look_up(&later), LookUp::Ready(Who::Known(_))), "the same process is still there");
    STARTED.store(ada().started_boot_ns + 10_000_000, Ordering::Relaxed);
    assert!(is_pending(&identities.look_up(&later)), "somebody else has its number");
    identities.found(token(&mut asked).unwrap(), IdentityAnswer::Gone);
    assert_eq!(why(&identities.look_up(&later)), Some(Unknown::Gone));
}

#[test]
fn a_process_that_is_gone_is_asked_about_and_not_taken_from_memory() {
    let (identities, mut asked) = asking(|_| None);
    identities.look_up(&Call::new(1).owner());
    identities.found(token(&mut asked).unwrap(), known());
    assert!(matches!(identities.look_up(&Call::new(1).owner()), LookUp::Ready(Who::Known(_))), "it was there when it was asked for");
    assert!(is_pending(&identities.look_up(&Call { connected: LATER, ..Call::new(2) }.owner())));
}

#[test]
fn another_exec_user_or_cgroup_is_another_question_and_the_same_one_is_asked_once() {
    let (identities, mut asked) = asking(|_| None);
    for cookie in 1..10 {
        assert!(is_pending(&identities.look_up(&Call::new(cookie).owner())));
    }
    assert!(token(&mut asked).is_some() && token(&mut asked).is_none());
    identities.look_up(&Call { generation: 60_000_000_000, ..Call::new(1) }.owner());
    identities.look_up(&Call { uid: 0, ..Call::new(1) }.owner());
    identities.look_up(&Call { pid: 5, ..Call::new(1) }.owner());
    assert!(token(&mut asked).is_some() && token(&mut asked).is_some() && token(&mut asked).is_some());
}

#[test]
fn an_identity_that_was_unknown_for_one_connection_is_asked_for_again_for_a_later_one() {
    let (identities, mut asked) = asking(|_| None);
    identities.look_up(&Call::new(1).owner());
    identities.found(token(&mut asked).unwrap(), IdentityAnswer::Stale);
    assert_eq!(why(&identities.look_up(&Call::new(1).owner())), Some(Unknown::Stale));
    assert!(is_pending(&identities.look_up(&Call::new(2).owner())));
}

#[test]
fn one_users_flood_of_processes_leaves_room_for_questions_about_others() {
    let (identities, mut asked) = asking(|_| None);
    for pid in 0..2_000 {
        identities.look_up(&Call { pid, ..Call::new(1) }.owner());
    }
    assert_eq!(why(&identities.look_up(&Call { pid: 9_999, ..Call::new(1) }.owner())), Some(Unknown::Busy));
    assert!(is_pending(&identities.look_up(&Call { pid: 9_999, uid: 0, ..Call::new(1) }.owner())));
    let mut open = 0;
    while let Some(token) = token(&mut asked) {
        open += 1;
        identities.found(token, known());
    }
    assert_eq!(open, 257);
    assert!(is_pending(&identities.look_up(&Call { pid: 9_998, ..Call::new(1) }.owner())), "there is room again");
}

#[test]
fn an_unrequested_answer_changes_nothing() {
    let (identities, mut asked) = asking(|_| None);
    assert!(identities.found(77, known()).is_none());
    identities.look_up(&Call::new(1).owner());
    let token = token(&mut asked).unwrap();
    assert!(identities.refused(token).is_some());
    assert!(identities.found(token, known()).is_none(), "too late");
    assert_eq!(why(&identities.look_up(&Call::new(1).owner())), Some(Unknown::Unreadable));
}

#[tokio::test]
async fn a_waiting_request_gets_an_answer_when_the_sensor_goes() {
    let (identities, _asked) = asking(|_| None);
    let LookUp::Pending(mut answered) = identities.look_up(&Call::new(1).owner()) else { panic!("asked") };
    identities.close();
    assert!(answered.changed().await.is_err());
    assert_eq!(why(&identities.look_up(&Call::new(1).owner())), Some(Unknown::Late));
}

#[test]
fn the_start_of_a_process_is_read_from_proc_whatever_it_is_called() {
    let ours = started(std::process::id()).unwrap();
    assert!(ours > 0 && ours.is_multiple_of(10_000_000));
    assert_eq!(started(std::process::id()), Some(ours));
    assert_eq!(started(u32::MAX), None);
}
