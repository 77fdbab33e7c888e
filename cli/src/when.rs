//! Moments as people write and read them. All in UTC: the log of an incident is read across zones.

use std::time::{Duration, SystemTime};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// A moment: `90s`, `15m`, `1h`, `7d` ago, the beginning of a day (`2026-11-20`, UTC), or RFC 3339.
pub fn parse(text: &str) -> Result<SystemTime, String> {
    if let Some(ago) = ago(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(|| format!("`{text}` ago is before time began"));
    }
    let day = || date(text).map(|day| SystemTime::from(day.midnight().assume_utc()));
    let neither = || format!("`{text}` is neither a span (90s, 15m, 1h, 7d), a day (2026-11-20) nor a moment (2026-11-20T09:00:00Z)");
    day().or_else(|| rfc3339(text)).ok_or_else(neither)
}

fn ago(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// A moment to come: `2027-05-31` (that day included, UTC), `90d` from now, or RFC 3339.
pub fn until(text: &str) -> Result<SystemTime, String> {
    let now = SystemTime::now();
    let at = match (ago(text), day(text), rfc3339(text)) {
        (Some(span), ..) => now.checked_add(span).ok_or_else(|| format!("`{text}` from now is beyond all calendars"))?,
        (None, Some(day), _) => day,
        (None, None, Some(moment)) => moment,
        (None, None, None) => {
            return Err(format!("`{text}` is neither a day (2027-05-31), a span (90d) nor a moment (2027-05-31T09:00:00Z)"));
        }
    };
    // Years of more than four digits cannot be written.
    if at >= day("9999-12-30").unwrap_or(at) {
        return Err(format!("`{text}` is beyond all calendars"));
    }
    if at <= now { Err(format!("`{text}` is over already")) } else { Ok(at) }
}

/// The end of a day, UTC.
fn day(text: &str) -> Option<SystemTime> {
    Some(SystemTime::from(date(text)?.next_day()?.midnight().assume_utc()))
}

fn date(text: &str) -> Option<time::Date> {
    time::Date::parse(text, format_description!("[year]-[month]-[day]")).ok()
}

/// An RFC 3339 moment.
pub fn rfc3339(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// `2026-11-20 09:00:00`, UTC.
pub fn show(millis: i64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    OffsetDateTime::from_unix_timestamp(millis.div_euclid(1000))
        .ok()
        .and_then(|at| at.format(format).ok())
        .unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_kit::unix_millis;

    #[test]
    fn what_is_to_come_is_a_day_a_span_or_a_moment_and_not_over() {
        assert_eq!(show(unix_millis(until("2999-12-31").unwrap())), "3000-01-01 00:00:00");
        assert!(until("90d").unwrap() > SystemTime::now());
        assert_eq!(show(unix_millis(until("2999-01-01T10:00:00Z").unwrap())), "2999-01-01 10:00:00");
        for bad in ["", "2020-01-01", "2999-02-30", "soon", "99999999999999w", "9999999999999999999d", "999999999999d", "9999-12-31"] {
            assert!(until(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_and_moments_are_read_and_nonsense_is_not() {
        let at = parse("2026-11-20T10:00:00+01:00").unwrap();
        assert_eq!(show(unix_millis(at)), "2026-11-20 09:00:00");
        assert_eq!(show(unix_millis(parse("2026-11-20").unwrap())), "2026-11-20 00:00:00", "a day is meant from its beginning on");
        let hour_ago = parse("1h").unwrap();
        assert!((3600..3660).contains(&hour_ago.elapsed().unwrap().as_secs()));
        for bad in ["", "h", "1y", "-1h", "soon", "2026-02-30", "99999999999999999999d", "18446744073709551615w"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
