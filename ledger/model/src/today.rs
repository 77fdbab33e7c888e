//! The incidents of today, as alerts count them: one user at one server on one day (UTC), at the most serious level so far, and at that
//! level of the most serious kind: the use of an unsanctioned server hides no attack that comes later.
//!
//! In memory and bounded. It is given each detection in turn, and after a start those of today from the ledger, so that a
//! restart makes no new incident of a known one. Each is named by the `gnomon.incident.id` of its first detection, which says
//! nothing of user or server and leads to both in the ledger.

use crate::HostPort;
use gnomon_kit::unix_millis;
use gnomon_observe::{Class, Level};
use hashbrown::HashMap;
use smol_str::SmolStr;
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    time::{Duration, SystemTime},
};

/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// Incidents that are shown one by one; further ones are summed up by level.
pub const MAX_SHOWN: usize = 256;
/// Incidents of one user among them.
pub const MAX_SHOWN_OF_ONE: usize = 64;
/// Time after midnight for which the day before is still shown: incidents of its last seconds would be missed otherwise.
pub const LINGER: Duration = Duration::from_mins(15);
/// Most incidents of a day that are kept apart, some 40 bytes each. Beyond, each detection counts as an incident: too many, never too few.
const MAX_TOLD_APART: usize = 16_384;

/// A detection, as far as incidents go by it.
#[derive(Clone, Copy, Debug)]
pub struct Detection<'a> {
    /// The user's name, else number, else the client's address.
    pub user: &'a str,
    /// The server by its name, else address, and its port.
    pub server: HostPort<'a>,
    /// The rule of the detection.
    pub rule: &'a str,
    /// The level of that rule.
    pub level: Level,
    /// The class of that rule.
    pub class: Class,
    /// Its `gnomon.incident.id`.
    pub burst: &'a str,
}

/// An incident of today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownIncident {
    /// `gnomon.incident.id` of its first detection.
    pub id: SmolStr,
    /// The most serious level so far.
    pub level: Level,
    /// The rule that first raised it to that level, and at it to the most serious kind.
    pub rule: SmolStr,
}

/// The incidents of one day.
#[derive(Debug, Default)]
pub struct Today {
    /// Days since the Unix epoch.
    day: i64,
    hashes: RandomState,
    /// Known incidents by a keyed hash, so that names cannot be chosen to collide.
    known: HashMap<u64, Known>,
    shown: Vec<IncidentPlace>,
    /// Incidents of the day before, until [`LINGER`] after its end.
    before: Vec<IncidentPlace>,
    summed: BTreeMap<Level, u64>,
}

#[derive(Debug)]
struct Known {
    id: SmolStr,
    level: Level,
    /// The rule that raised it to that.
    rule: SmolStr,
    /// How serious it is; nothing where people found what raised it to be none.
    rank: Option<Rank>,
}

/// The level, then the kind.
type Rank = (Level, u8);

#[derive(Debug)]
struct IncidentPlace {
    key: u64,
    user: u64,
    incident: ShownIncident,
}

/// The lowest level that is shown incident by incident: lower ones raise no alert.
const PAGED: Level = Level::Medium;

impl Today {
    /// Takes in the detections of one exchange. Those of an earlier day than today's change nothing; of several at one level the one that
    /// says most stands for the incident.
    pub fn detected(&mut self, at: SystemTime, found: &mut [Detection<'_>]) {
        if self.is_of(at) {
            found.sort_by_key(|detection| Reverse((detection.level, telling(detection.class))));
            found.iter().for_each(|detection| self.add(detection));
        }
    }

    fn add(&mut self, found: &Detection<'_>) {
        let user = self.hashes.hash_one(found.user);
        let key = self.hashes.hash_one((found.user, found.server));
        let rank = (found.level, telling(found.class));
        let id = match self.known.get_mut(&key) {
            Some(known) if known.rank.is_some_and(|before| before >= rank) => return,
            Some(known) => {
                let before = std::mem::replace(&mut known.level, found.level);
                (known.rank, known.rule) = (Some(rank), SmolStr::new(found.rule));
                let id = known.id.clone();
                self.take_out(key, before);
                id
            }
            None => {
                let id = SmolStr::new(found.burst);
                if self.known.len() < MAX_TOLD_APART {
                    self.known.insert(key, Known { id: id.clone(), level: found.level, rule: SmolStr::new(found.rule), rank: Some(rank) });
                }
                id
            }
        };
        self.show(IncidentPlace { key, user, incident: ShownIncident { id, level: found.level, rule: SmolStr::new(found.rule) } });
    }

    /// People found something that this rule told to be none: whatever it raised is raised anew by the next detection.
    pub fn excepted(&mut self, is_excepted: impl Fn(&str) -> bool) {
        for known in self.known.values_mut().filter(|known| is_excepted(&known.rule)) {
            known.rank = None;
        }
    }

    /// The incidents shown one by one, in the order in which they reached their level; the day before's until [`LINGER`] after its end.
    pub fn shown(&mut self, now: SystemTime) -> impl Iterator<Item = &ShownIncident> {
        let _ = self.is_of(now);
        if u128::from(unix_millis(now).rem_euclid(DAY_MS).unsigned_abs()) >= LINGER.as_millis() {
            self.before.clear();
        }
        self.before.iter().chain(&self.shown).map(|place| &place.incident)
    }

    /// The number of further ones at this level.
    #[must_use]
    pub fn summed(&self, level: Level) -> u64 {
        self.summed.get(&level).copied().unwrap_or_default()
    }

    /// True if that moment is of this day. A later day begins anew.
    fn is_of(&mut self, at: SystemTime) -> bool {
        let day = unix_millis(at).div_euclid(DAY_MS);
        if day > self.day {
            self.before = if day == self.day.saturating_add(1) { std::mem::take(&mut self.shown) } else { Vec::new() };
            self.day = day;
            self.known.clear();
            self.shown.clear();
            self.summed.clear();
        }
        day == self.day
    }

    fn take_out(&mut self, key: u64, level: Level) {
        match self.shown.iter().position(|shown| shown.key == key) {
            Some(at) => drop(self.shown.remove(at)),
            None => {
                if let Some(number) = self.summed.get_mut(&level) {
                    *number = number.saturating_sub(1);
                }
            }
        }
    }

    /// Shows it, or another one less: where all places are taken the oldest of the least serious ones, if it is less serious than this
    /// one; where one user has their share, the oldest of the least serious ones of theirs likewise.
    fn show(&mut self, new: IncidentPlace) {
        if new.incident.level < PAGED {
            return self.sum_up(new.incident.level);
        }
        let of_user = self.shown.iter().filter(|shown| shown.user == new.user).count();
        let among = (of_user >= MAX_SHOWN_OF_ONE).then_some(new.user);
        if among.is_some() || self.shown.len() >= MAX_SHOWN {
            let candidates = self.shown.iter().enumerate().filter(|(_, shown)| among.is_none_or(|user| shown.user == user));
            // Of several the first, which is the oldest.
            match candidates.min_by_key(|(_, shown)| shown.incident.level) {
                Some((at, least)) if least.incident.level < new.incident.level => {
                    let least = self.shown.remove(at);
                    self.sum_up(least.incident.level);
                }
                _ => return self.sum_up(new.incident.level),
            }
        }
        self.shown.push(new);
    }

    fn sum_up(&mut self, level: Level) {
        *self.summed.entry(level).or_default() += 1;
    }
}

/// The rank of a class: an attack is more serious than the use of an unsanctioned server.
const fn telling(class: Class) -> u8 {
    match class {
        Class::Health => 0,
        Class::Mcp => 1,
        Class::Llm => 2,
        Class::Policy => 3,
        Class::Dlp => 4,
        Class::Threat => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 20_000 + DAY / 2
    }

    fn found<'a>(user: &'a str, server: &'a str, level: Level, burst: &'a str) -> [Detection<'a>; 1] {
        [Detection { user, server: HostPort::new(server, None), rule: "r", level, class: Class::Mcp, burst }]
    }

    fn shown(today: &mut Today, now: SystemTime) -> Vec<(String, Level)> {
        today.shown(now).map(|incident| (incident.id.to_string(), incident.level)).collect()
    }

    #[test]
    fn a_user_at_a_server_is_one_incident_a_day_and_one_more_where_it_grows_serious() {
        let mut today = Today::default();
        for (burst, user, server, level) in [
            ("1", "ada", "a", Level::Medium),
            ("2", "ada", "a", Level::Medium),
            ("3", "ada", "b", Level::High),
            ("4", "bob", "a", Level::Medium),
            ("5", "ada", "a", Level::Low),
            ("6", "ada", "a", Level::Critical),
            ("7", "ada", "a", Level::High),
        ] {
            today.detected(noon(), &mut found(user, server, level, burst));
        }
        let expected = [("3", Level::High), ("4", Level::Medium), ("1", Level::Critical)].map(|(id, level)| (id.to_owned(), level));
        assert_eq!(shown(&mut today, noon()), expected);
        assert!(today.summed.is_empty());
        // Yesterday's changes nothing, and tomorrow begins anew.
        today.detected(noon() - DAY, &mut found("eve", "e", Level::Critical, "8"));
        assert_eq!(shown(&mut today, noon()).len(), 3);
        today.detected(noon() + DAY, &mut found("ada", "a", Level::Medium, "9"));
        assert_eq!(shown(&mut today, noon() + DAY), [("9".to_owned(), Level::Medium)]);
        assert_eq!(shown(&mut today, noon() + DAY * 2), []);
    }

    #[test]
    fn an_attack_at_a_server_that_nobody_sanctioned_is_told_beside_its_use_and_less_is_not() {
        let mut today = Today::default();
        let mut at = |class, rule| {
            let server = HostPort::new("a", None);
            today.detected(noon(), &mut [Detection { user: "ada", server, rule, level: Level::High, class, burst: rule }]);
            today.shown(noon()).map(|incident| (incident.id.to_string(), incident.rule.to_string())).collect::<Vec<_>>()
        };
        let expected = |rule: &str| vec![("use".to_owned(), rule.to_owned())];
        assert_eq!(at(Class::Mcp, "use"), expected("use"));
        assert_eq!(at(Class::Policy, "denied"), expected("denied"));
        assert_eq!(at(Class::Dlp, "data"), expected("data"));
        assert_eq!(at(Class::Policy, "denied"), expected("data"));
        assert_eq!(at(Class::Threat, "attack"), expected("attack"));
    }

    #[test]
    fn what_people_found_benign_hides_no_other_detection_of_that_incident() {
        let mut today = Today::default();
        let at = |today: &mut Today, user, rule| {
            let server = HostPort::new("a", None);
            today.detected(noon(), &mut [Detection { user, server, rule, level: Level::High, class: Class::Threat, burst: user }]);
        };
        at(&mut today, "ada", "link");
        at(&mut today, "bob", "other");
        today.excepted(|rule| rule == "link");
        let shown = |today: &mut Today| today.shown(noon()).map(|one| (one.id.to_string(), one.rule.to_string())).collect::<Vec<_>>();
        let pair = |id: &str, rule: &str| (id.to_owned(), rule.to_owned());
        assert_eq!(shown(&mut today), [pair("ada", "link"), pair("bob", "other")]);
        at(&mut today, "ada", "removal");
        at(&mut today, "bob", "removal");
        assert_eq!(shown(&mut today), [pair("bob", "other"), pair("ada", "removal")]);
        at(&mut today, "ada", "download");
        assert_eq!(shown(&mut today), [pair("bob", "other"), pair("ada", "removal")]);
    }

    #[test]
    fn the_second_server_of_a_host_is_an_incident_of_its_own() {
        let mut today = Today::default();
        for (burst, port) in [("1", 19011), ("2", 19012), ("3", 19013), ("4", 19011)] {
            let server = HostPort::new("127.0.0.1", Some(port));
            today.detected(noon(), &mut [Detection { user: "dan", server, rule: "r", level: Level::High, class: Class::Mcp, burst }]);
        }
        assert_eq!(shown(&mut today, noon()).into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["1", "2", "3"]);
    }

    #[test]
    fn what_begins_in_the_last_seconds_of_a_day_is_shown_for_a_while_after_it() {
        let mut today = Today::default();
        let midnight = noon() + DAY / 2;
        today.detected(midnight - Duration::from_secs(1), &mut found("ada", "a", Level::High, "1"));
        today.detected(midnight, &mut found("ada", "a", Level::High, "2"));
        let both = [("1".to_owned(), Level::High), ("2".to_owned(), Level::High)];
        assert_eq!(shown(&mut today, midnight), both);
        assert_eq!(shown(&mut today, midnight + LINGER), both[1..]);
    }

    #[test]
    fn of_one_exchange_the_detection_that_says_most_stands_for_the_incident() {
        let mut today = Today::default();
        let of = |rule, level, class| Detection { user: "ada", server: HostPort::new("a", None), rule, level, class, burst: rule };
        let mut found = [of("m", Level::High, Class::Mcp), of("p", Level::Medium, Class::Threat), of("t", Level::High, Class::Threat)];
        today.detected(noon(), &mut found);
        assert_eq!(today.shown(noon()).map(|incident| incident.rule.as_str()).collect::<Vec<_>>(), ["t"]);
    }

    #[test]
    fn what_is_low_is_summed_up_until_it_rises() {
        let mut today = Today::default();
        today.detected(noon(), &mut found("ada", "a", Level::Low, "1"));
        today.detected(noon(), &mut found("ada", "a", Level::Low, "2"));
        assert_eq!((shown(&mut today, noon()).len(), today.summed(Level::Low)), (0, 1));
        today.detected(noon(), &mut found("ada", "a", Level::High, "3"));
        assert_eq!(shown(&mut today, noon()), [("1".to_owned(), Level::High)]);
        assert_eq!(today.summed(Level::Low), 0);
    }

    #[test]
    fn a_flood_of_servers_leaves_places_to_others_and_to_what_is_more_serious() {
        let mut today = Today::default();
        for n in 0..MAX_SHOWN * 2 {
            today.detected(noon(), &mut found("mallory", &format!("s{n}"), Level::High, &format!("m{n}")));
        }
        assert_eq!(shown(&mut today, noon()).len(), MAX_SHOWN_OF_ONE);
        assert_eq!(today.summed(Level::High), (MAX_SHOWN * 2 - MAX_SHOWN_OF_ONE) as u64);
        today.detected(noon(), &mut found("bob", "a", Level::Medium, "b"));
        assert!(shown(&mut today, noon()).contains(&("b".to_owned(), Level::Medium)));
        // Her own first critical one has a place as well.
        today.detected(noon(), &mut found("mallory", "c", Level::Critical, "c"));
        let now = shown(&mut today, noon());
        assert!(now.len() == MAX_SHOWN_OF_ONE + 1 && now.contains(&("c".to_owned(), Level::Critical)));
        // Five such users take all places; what is more serious than theirs has one.
        for user in ["u1", "u2", "u3", "u4", "u5"] {
            for n in 0..MAX_SHOWN_OF_ONE {
                today.detected(noon(), &mut found(user, &format!("s{n}"), Level::High, &format!("{user}-{n}")));
            }
        }
        today.detected(noon(), &mut found("ada", "a", Level::Critical, "a"));
        let now = shown(&mut today, noon());
        assert!(
            now.len() == MAX_SHOWN && now.contains(&("a".to_owned(), Level::Critical)) && now.contains(&("c".to_owned(), Level::Critical))
        );
    }

    #[test]
    fn names_without_end_cost_a_bounded_memory_and_are_still_counted() {
        let mut today = Today::default();
        for n in 0..MAX_TOLD_APART + 100 {
            today.detected(noon(), &mut found(&format!("u{n}"), "s", Level::High, "x"));
        }
        assert_eq!((today.known.len(), today.shown.len()), (MAX_TOLD_APART, MAX_SHOWN));
        assert_eq!(today.summed(Level::High), (MAX_TOLD_APART + 100 - MAX_SHOWN) as u64);
    }
}
