//! Lists that were given lately: what several callers see alike is kept once, and given to all of them without being copied.

use crate::{catalogue::Kind, era::Era, view::View};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// Most lists that are kept, and most bytes of them.
const MOST: usize = 8;
const MOST_BYTES: usize = 64 << 20;

/// What makes two lists the same.
pub(crate) struct Wanted<'a> {
    pub view: &'a Arc<View>,
    pub kind: Kind,
    pub era: Era,
    /// The places of its entries in the view.
    pub shown: &'a [usize],
    /// What else it says.
    pub notices: &'a str,
}

struct Kept {
    view: Arc<View>,
    kind: Kind,
    era: Era,
    shown: Box<[usize]>,
    notices: Box<str>,
    text: Bytes,
}

impl Kept {
    fn is(&self, wanted: &Wanted<'_>) -> bool {
        (self.kind, self.era) == (wanted.kind, wanted.era) && *self.shown == *wanted.shown && *self.notices == *wanted.notices
    }
}

/// The lists.
#[derive(Default)]
pub(crate) struct Given(Mutex<VecDeque<Kept>>);

impl Given {
    /// The list, made if it is not there.
    pub fn of(&self, wanted: &Wanted<'_>, make: impl FnOnce() -> Bytes) -> Bytes {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = {
            let mut kept = kept();
            // What was before a change is asked for by nobody.
            kept.retain(|one| Arc::ptr_eq(&one.view, wanted.view));
            kept.iter().find(|one| one.is(wanted)).map(|one| one.text.clone())
        };
        found.unwrap_or_else(|| {
            let text = make();
            let mut kept = kept();
            kept.push_front(Kept {
                view: wanted.view.clone(),
                kind: wanted.kind,
                era: wanted.era,
                shown: wanted.shown.into(),
                notices: wanted.notices.into(),
                text: text.clone(),
            });
            kept.truncate(MOST);
            while kept.iter().map(|one| one.text.len()).sum::<usize>() > MOST_BYTES {
                kept.pop_back();
            }
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_for_two_is_made_once_and_bounded() {
        let (given, view) = (Given::default(), Arc::<View>::default());
        let get = |shown: &[usize], size: usize| {
            let wanted = Wanted { view: &view, kind: Kind::Tool, era: Era::Modern, shown, notices: "" };
            given.of(&wanted, || Bytes::from(vec![b'x'; size]))
        };
        let first = get(&[1, 2], 10);
        assert_eq!(first.as_ptr(), get(&[1, 2], 10).as_ptr());
        assert_ne!(first.as_ptr(), get(&[1], 10).as_ptr());
        for n in 0..20 {
            get(&[n], MOST_BYTES / 4);
        }
        assert!(given.0.lock().unwrap().len() <= 4);
        let other = Arc::new(View::default());
        given.of(&Wanted { view: &other, kind: Kind::Tool, era: Era::Modern, shown: &[], notices: "" }, Bytes::new);
        assert_eq!(given.0.lock().unwrap().len(), 1, "what was before a change is not kept");
    }
}
