//! A set of fields of the table, as bits.

use crate::{FIELD_COUNT, Field};

const WORD: usize = u64::BITS as usize;

/// A set of fields; as many words as the table needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet([u64; FIELD_COUNT.div_ceil(WORD)]);

impl FieldSet {
    #[inline]
    pub(crate) fn insert(&mut self, field: Field) {
        let (word, bit) = place(field);
        self.0[word] |= bit;
    }

    #[inline]
    pub(crate) fn remove(&mut self, field: Field) {
        let (word, bit) = place(field);
        self.0[word] &= !bit;
    }

    #[inline]
    pub(crate) fn contains(&self, field: Field) -> bool {
        let (word, bit) = place(field);
        self.0[word] & bit != 0
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

/// The word and the bit of a field.
fn place(field: Field) -> (usize, u64) {
    let row = field as usize;
    (row / WORD, 1 << (row % WORD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_of_the_table_has_a_place_of_its_own() {
        for field in Field::all() {
            let mut set = FieldSet::default();
            set.insert(field);
            assert!(Field::all().all(|other| set.contains(other) == (other == field)));
            set.remove(field);
            assert!(set.is_empty());
        }
    }
}
