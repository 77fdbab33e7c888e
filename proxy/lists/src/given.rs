//! Lists that were given lately: what several callers see alike is kept once, and given to all of them without being copied.
//!
//! The memory kept here has a bound for all portals of the process. A list that was evicted is still found as long as an answer holds it,
//! which is charged to the answer's recipient ([`gnomon_relay::unsent`]).

use crate::view::View;
use bytes::Bytes;
use gnomon_relay::room::Common;
use gnomon_upstream::{catalogue::Kind, era::Era};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Most lists of a portal that are kept, and most bytes of those of all portals, which have an equal part each.
const MOST: usize = 8;
const MOST_BYTES: usize = 64 << 20;
/// The most lists that are found.
const MOST_FOUND: usize = 64;

/// The number of portals that keep some.
static PORTALS: AtomicUsize = AtomicUsize::new(0);

/// The properties that make two lists the same.
pub struct ListKey<'a> {
    /// The view whose entries they show.
    pub view: &'a Arc<View>,
    /// The kind of the entries.
    pub kind: Kind,
    /// The era in whose words they are written.
    pub era: Era,
    /// The places of its entries in the view.
    pub shown: &'a [usize],
    /// Those of them that are listed without their page.
    pub plain: &'a [usize],
    /// Its further notices.
    pub notices: &'a str,
}

struct Known {
    kind: Kind,
    era: Era,
    shown: Box<[usize]>,
    plain: Box<[usize]>,
    notices: Box<str>,
    list: Weak<Common>,
    /// The list; none once it was evicted.
    kept: Option<Arc<Common>>,
}

impl Known {
    fn is(&self, wanted: &ListKey<'_>) -> bool {
        (self.kind, self.era) == (wanted.kind, wanted.era)
            && *self.shown == *wanted.shown
            && *self.plain == *wanted.plain
            && *self.notices == *wanted.notices
    }

    fn bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |list| list.text().len()) + size_of_val(&*self.shown) + size_of_val(&*self.plain) + self.notices.len()
    }
}

/// The lists, the latest first, and the view that they are of.
#[derive(Default)]
struct Table {
    view: Weak<View>,
    known: VecDeque<Known>,
}

impl Table {
    fn keep(&mut self, most_bytes: usize) {
        let mut bytes = 0;
        for (place, known) in self.known.iter_mut().enumerate() {
            bytes += known.bytes();
            if place >= MOST || bytes > most_bytes {
                bytes -= known.kept.take().map_or(0, |list| list.text().len());
            }
        }
        self.known.retain(|known| known.kept.is_some() || known.list.strong_count() > 0);
        self.known.truncate(MOST_FOUND);
    }
}

/// The lists of a portal.
pub(crate) struct Given(Mutex<Table>);

impl Default for Given {
    fn default() -> Self {
        PORTALS.fetch_add(1, Ordering::Relaxed);
        Self(Mutex::default())
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        PORTALS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Given {
    /// The list, made if it is not there.
    pub fn of(&self, wanted: &ListKey<'_>, make: impl FnOnce() -> Bytes) -> Arc<Common> {
        let table = || self.0.lock();
        let found = {
            let mut table = table();
            // Lists from before a change are no longer asked for.
            if !std::ptr::eq(table.view.as_ptr(), Arc::as_ptr(wanted.view)) {
                *table = Table { view: Arc::downgrade(wanted.view), known: VecDeque::new() };
            }
            table.known.iter().find(|one| one.is(wanted)).and_then(|one| one.list.upgrade())
        };
        found.unwrap_or_else(|| {
            let list = Arc::new(Common::new(make()));
            let mut table = table();
            // The view may have changed meanwhile.
            if std::ptr::eq(table.view.as_ptr(), Arc::as_ptr(wanted.view)) {
                table.known.retain(|one| !one.is(wanted));
                table.known.push_front(Known {
                    kind: wanted.kind,
                    era: wanted.era,
                    shown: wanted.shown.into(),
                    plain: wanted.plain.into(),
                    notices: wanted.notices.into(),
                    list: Arc::downgrade(&list),
                    kept: Some(list.clone()),
                });
                table.keep(MOST_BYTES / PORTALS.load(Ordering::Relaxed).max(1));
            }
            list
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(given: &Given) -> usize {
        given.0.lock().known.iter().filter(|known| known.kept.is_some()).count()
    }

    #[test]
    fn what_is_the_same_for_two_is_made_once_and_bounded() {
        let (given, view) = (Given::default(), Arc::<View>::default());
        let get = |shown: &[usize], size: usize| {
            let wanted = ListKey { view: &view, kind: Kind::Tool, era: Era::Modern, shown, plain: &[], notices: "" };
            given.of(&wanted, || Bytes::from(vec![b'x'; size]))
        };
        let first = get(&[1, 2], 10);
        assert!(Arc::ptr_eq(&first, &get(&[1, 2], 10)));
        assert!(!Arc::ptr_eq(&first, &get(&[1], 10)));
        for n in 0..20 {
            get(&[n], MOST_BYTES / 4);
        }
        let bytes: usize = given.0.lock().known.iter().map(Known::bytes).sum();
        assert!(bytes <= MOST_BYTES && kept(&given) <= MOST, "{bytes}");
        assert!(Arc::ptr_eq(&first, &get(&[1, 2], 10)), "what an answer still holds is found");
        let other = Arc::new(View::default());
        given.of(&ListKey { view: &other, kind: Kind::Tool, era: Era::Modern, shown: &[], plain: &[], notices: "" }, Bytes::new);
        assert_eq!(given.0.lock().known.len(), 1, "what was before a change is not kept");
    }

    #[test]
    fn what_all_portals_keep_has_one_bound() {
        let portals: Vec<Given> = (0..4).map(|_| Given::default()).collect();
        let view = Arc::<View>::default();
        for given in &portals {
            for n in 0..8 {
                let wanted = ListKey { view: &view, kind: Kind::Tool, era: Era::Modern, shown: &[n], plain: &[], notices: "" };
                given.of(&wanted, || Bytes::from(vec![b'x'; MOST_BYTES / 10]));
            }
        }
        assert!(portals.iter().map(kept).sum::<usize>() <= 10);
    }
}
