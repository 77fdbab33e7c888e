//! Clocks: certificates are judged by one, processes and connections put in order by another.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Check, CheckStatus, value};
use crate::identity::BootTime;

/// 2026-01-01: gnomon is younger than that, so a clock before it is wrong.
const EARLIEST: u64 = 1_767_225_600;
/// 2100-01-01: a clock after it is wrong as well.
const LATEST: u64 = 4_102_444_800;

pub(super) fn examine() -> Vec<Check> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    vec![real(now, BootTime::now()), boot(value("/proc/self/timens_offsets").unwrap_or_default().as_str())]
}

fn real(now: u64, boot: BootTime) -> Check {
    let (id, title) = ("clock.real", "time of day");
    let up = boot.0 / 1_000_000_000;
    let date = i64::try_from(now).ok().and_then(|now| time::OffsetDateTime::from_unix_timestamp(now).ok());
    let seen = format!("{} UTC, {up} s since boot", date.map_or("beyond the calendar".to_owned(), |date| date.date().to_string()));
    if (EARLIEST..LATEST).contains(&now) && up < now {
        return Check::ok(id, title, seen);
    }
    Check::new(id, title, CheckStatus::Fail, format!("{seen}: certificates would be taken for expired or not yet valid"))
        .next("set the clock: sudo timedatectl set-ntp true")
}

/// The kernel half measures since boot by the host's clock; /proc shows start times shifted by the
/// reader's time namespace (time_namespaces(7)).
fn boot(offsets: &str) -> Check {
    let (id, title) = ("clock.boot", "time since boot");
    let shifted = offsets
        .lines()
        .filter_map(|line| line.strip_prefix("boottime"))
        .any(|rest| rest.split_ascii_whitespace().any(|number| number != "0"));
    if shifted {
        return Check::new(
            id,
            title,
            CheckStatus::Fail,
            "shifted by a time namespace: start times of processes do not compare with the kernel's records",
        )
        .next("run gnomon in the host's time namespace");
    }
    Check::ok(id, title, "the same for the kernel half and for /proc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_fails() {
        assert_eq!(real(EARLIEST + 1, BootTime(5)).state, CheckStatus::Ok);
        assert_eq!(real(0, BootTime(5)).state, CheckStatus::Fail);
        assert_eq!(real(LATEST, BootTime(5)).state, CheckStatus::Fail);
    }

    #[test]
    fn a_time_namespace_with_an_offset_fails() {
        assert_eq!(boot("monotonic           0         0\nboottime            0         0\n").state, CheckStatus::Ok);
        assert_eq!(boot("monotonic           0         0\nboottime       -86400         0\n").state, CheckStatus::Fail);
        assert_eq!(boot("").state, CheckStatus::Ok, "kernels without time namespaces");
    }
}
