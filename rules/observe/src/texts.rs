//! What rules found in texts that pass and are not kept: the answers to numbered questions, and the places, without the text.

use crate::Field;
use smol_str::SmolStr;

/// A question of a rule that was answered with yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextHit {
    /// The number of the question, in the set of rules that asked it.
    pub question: u32,
    /// The field in whose texts it was found.
    pub field: Field,
    /// The JSON path of the text.
    pub path: SmolStr,
}

/// The findings in the texts of one answer, by one set of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextFindings {
    fields: Vec<Field>,
    hits: Vec<TextHit>,
}

impl TextFindings {
    /// The fields that had any text, and each question that was answered with yes.
    #[must_use]
    pub fn new(fields: Vec<Field>, mut hits: Vec<TextHit>) -> Self {
        hits.sort_by_key(|hit| hit.question);
        Self { fields, hits }
    }

    /// True if the field had any text.
    #[must_use]
    pub fn has(&self, field: Field) -> bool {
        self.fields.contains(&field)
    }

    /// True if the question was answered with yes.
    #[must_use]
    pub fn answers(&self, question: u32) -> bool {
        self.hits.binary_search_by_key(&question, |hit| hit.question).is_ok()
    }

    /// Each question that was answered with yes, in the order of their numbers.
    #[must_use]
    pub fn hits(&self) -> &[TextHit] {
        &self.hits
    }

    /// Bytes of memory that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.hits.iter().map(|hit| size_of::<TextHit>() + hit.path.len()).sum::<usize>()
    }
}
