//! The reviews of servers that commands show: from the journal, else as this host read it last, or as a standby of the database has them. Then the
//! command says so, and fails all the same: decisions may have been made since.

use crate::{complaint::Complaint, when};
use anyhow::Result;
use gnomon_kit::unix_millis;
use gnomon_ledger::{Decided, DecidedError, Decision, Recalled, ReviewedServer, Standby};

/// The reviews that stand, as far as they could be read.
pub struct Known {
    /// The reviews as they are, or were.
    pub reviews: Vec<Decision>,
    /// None if they are current.
    pub stale: Option<Stale>,
}

/// Reviews are those that stood some time ago.
pub struct Stale {
    /// The time as of which they are: milliseconds since 1970.
    pub as_of_ms: i64,
    source: Source,
}

/// The source of reviews that may be outdated.
enum Source {
    /// The copy that this host read last.
    Cache {
        why: String,
        unreadable: Vec<usize>,
        /// The difference from the database, where it is there and is not the one that this host has read.
        there: Option<Vec<(ReviewedServer, Option<Decision>)>>,
    },
    /// A standby of the database, by its URL.
    Standby(String),
}

/// Reads them.
///
/// # Errors
/// When neither the journal can be read, nor there is anything that this host read of it before.
pub async fn known(decided: &Decided) -> Result<Known> {
    let read = match decided.reviews().await {
        // To one that lags behind it, it looks as if it had gone back.
        Err(error @ DecidedError::Contradicted { .. }) => match decided.standby().await {
            Ok(Some(_)) => decided.reviews_there().await,
            Ok(None) | Err(_) => Err(error),
        },
        read => read,
    };
    let error = match read {
        Ok(reviews) => {
            let stale = decided.standby().await.ok().flatten().map(Stale::on);
            return Ok(Known { reviews, stale });
        }
        Err(error) => error,
    };
    let Ok(Some(Recalled { reviews, as_of, unreadable, .. })) = decided.recalled() else { return Err(error.into()) };
    let there = match error {
        DecidedError::Contradicted { .. } => decided.reviews_there().await.ok().map(|there| differences(&reviews, there)),
        _ => None,
    };
    let stale = Stale { as_of_ms: unix_millis(as_of), source: Source::Cache { why: error.to_string(), unreadable, there } };
    Ok(Known { reviews, stale: Some(stale) })
}

/// The decisions that differ in the database; none for a server that it does not have.
fn differences(here: &[Decision], there: Vec<Decision>) -> Vec<(ReviewedServer, Option<Decision>)> {
    let gone = here.iter().filter(|decision| there.iter().all(|other| other.server != decision.server));
    let mut found: Vec<_> = gone.map(|decision| (decision.server.clone(), None)).collect();
    found.extend(there.into_iter().filter(|decision| !here.contains(decision)).map(|decision| (decision.server.clone(), Some(decision))));
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

/// Says so where what was decided just now is kept in a database that is not the one that this host has read.
///
/// # Errors
/// If it is the case, as the command's error.
pub async fn heeded(decided: &Decided) -> Result<(), Complaint> {
    match decided.check_continues().await {
        Err(error @ DecidedError::Contradicted { .. }) => Err(Complaint::own(format!("it is kept in the database, and {error}"))),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Stale {
    /// The copy of a standby.
    fn on(Standby { at, changed_ms }: Standby) -> Self {
        Self { as_of_ms: changed_ms, source: Source::Standby(at) }
    }

    /// The decisions that differ in the database, if it is not the one that this host has read; none for a server that it does not have.
    pub fn differences(&self) -> &[(ReviewedServer, Option<Decision>)] {
        match &self.source {
            Source::Cache { there: Some(there), .. } => there,
            Source::Cache { there: None, .. } | Source::Standby(_) => &[],
        }
    }

    /// True if the database was not read, so that nothing is known but these.
    pub fn is_all(&self) -> bool {
        matches!(self.source, Source::Cache { .. })
    }

    /// The line above them.
    pub fn head(&self) -> String {
        format!("as of {} UTC, {}:", when::show(self.as_of_ms), self.since_when())
    }

    /// The note before results that were judged by them.
    pub fn note(&self) -> String {
        format!("judged by what was decided until {} UTC, {}", when::show(self.as_of_ms), self.since_when())
    }

    fn since_when(&self) -> &'static str {
        match self.source {
            Source::Cache { .. } => "when this host read the database of decisions last",
            Source::Standby(_) => "the newest change that came to this standby of the database of decisions",
        }
    }

    /// How the command ends.
    pub fn complaint(&self) -> Complaint {
        let as_of = when::show(self.as_of_ms);
        let (why, unreadable, there) = match &self.source {
            Source::Standby(at) => {
                return Complaint::own(format!("{at} is a standby: what was decided since {as_of} UTC may not have come to it"))
                    .next("name the primary in `state`, which takes decisions too");
            }
            Source::Cache { why, unreadable, there } => (why, unreadable, there),
        };
        let left_out = match unreadable.as_slice() {
            [] => String::new(),
            lines => format!("; lines {lines:?} of decisions.cache cannot be read and are left out"),
        };
        if there.is_some() {
            return Complaint::own(format!("{why}{left_out}"))
                .next("these are the decisions in force on this host, from STATE/decisions.cache");
        }
        Complaint::own(format!("what was decided since {as_of} UTC is not known: {why}{left_out}"))
            .next("what is shown is from STATE/decisions.cache; fix that, and ask again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::runtime;
    use std::{fs, path::Path};

    const LINE: &str = r#"{"at_ms":1,"by":{"user":"ada","login_uid":null,"uid":0},"server":{"host":"a.example","port":443},"state":"denied","owner":null,"reason":null,"until_ms":null}"#;

    fn read(state_dir: &Path) -> Result<Known> {
        let decided = Decided::shared(state_dir, Some("postgres://gnomon@/gnomon?host=/nowhere".parse().unwrap()));
        runtime().unwrap().block_on(known(&decided))
    }

    #[test]
    fn what_a_standby_has_is_shown_with_the_time_of_its_newest_change_and_the_next_step() {
        let at = "postgres://gnomon@db2.example/gnomon".to_owned();
        let stale = Stale::on(Standby { at: at.clone(), changed_ms: 1_795_305_600_000 });
        let as_of = format!("{} UTC", when::show(1_795_305_600_000));
        for text in [stale.head(), stale.note(), stale.complaint().cause] {
            assert!(text.contains(&as_of) && text.contains("standby"), "{text}");
        }
        let complaint = stale.complaint();
        assert!(complaint.cause.contains(&at) && complaint.next.is_some_and(|next| next.contains("name the primary")));
    }

    #[test]
    fn what_this_host_read_last_is_shown_with_its_time_while_the_database_is_away() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_err(), "nothing was ever read here");
        let cache = dir.path().join("decisions.cache");
        fs::write(&cache, format!("{LINE}\nnonsense\n")).unwrap();
        let hour = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_305_600);
        fs::File::options().write(true).open(&cache).unwrap().set_modified(hour).unwrap();
        let known = read(dir.path()).unwrap();
        let stale = known.stale.unwrap();
        assert_eq!((known.reviews.len(), stale.as_of_ms), (1, 1_795_305_600_000));
        let (head, error) = (stale.head(), stale.complaint());
        assert!(head.starts_with(&format!("as of {} UTC", when::show(stale.as_of_ms))), "{head}");
        assert!(
            error.cause.contains("cannot connect to") && error.cause.contains("lines [2]") && !error.cause.contains("the ledger"),
            "{error}"
        );
    }
}
