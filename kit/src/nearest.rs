//! Suggestions for misspelt words.

/// The word most similar to `word` (Jaro-Winkler, from 0 to 1), if its similarity exceeds `above`. Of two that are equally similar, the
/// later.
///
/// How near is near enough depends on the words: keys that a program defines lie further apart than titles that people wrote.
///
/// ```
/// use gnomon_kit::nearest;
///
/// assert_eq!(nearest("adress", ["address", "access"], 0.8), Some("address"));
/// assert_eq!(nearest("colour", ["address", "access"], 0.8), None);
/// ```
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>, above: f64) -> Option<&'k str> {
    nearest_by(word, known, |known| *known, above)
}

/// The same for values with a name.
pub fn nearest_by<T, N: AsRef<str>>(word: &str, known: impl IntoIterator<Item = T>, name: impl Fn(&T) -> N, above: f64) -> Option<T> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(word, name(&known).as_ref()), known))
        .filter(|(likeness, _)| *likeness > above)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
