//! Sigma conditions: `selection and not 1 of filter_*`.
//!
//! `not` binds closer than `and`, `and` closer than `or`. Keywords are lower case, as in the
//! specification. What older Sigma had besides (`| count()`, `near`) is refused by name.

use crate::expr::Expr;
use std::sync::Arc;

/// The deepest nesting of parentheses and `not`.
const MAX_DEPTH: usize = 32;
/// The longest condition, in bytes.
const MAX_LENGTH: usize = 4096;

/// A search id and its expression.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) expr: Arc<Expr>,
    pub(crate) used: bool,
}

/// A syntax error, and its offset in the condition in characters.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) after: usize,
    pub(crate) message: String,
}

/// Reads a condition over these search ids and marks the ones it uses.
pub(crate) fn parse(condition: &str, ids: &mut [Named]) -> Result<Expr, Wrong> {
    if condition.len() > MAX_LENGTH {
        return Err(Wrong { after: 0, message: format!("the condition is longer than {MAX_LENGTH} bytes; split the rule") });
    }
    let mut reader = Reader { words: words(condition), next: 0, end: condition.chars().count(), ids };
    let expr = reader.either(0)?;
    match reader.peek() {
        None => Ok(expr),
        Some("|") => reader.wrong("not supported yet: aggregations (`| count()` and the like) in conditions"),
        Some("near") => reader.wrong("not supported yet: `near` in conditions"),
        Some(word) => {
            let message = match word {
                "AND" | "OR" | "NOT" => format!("`{word}` must be written in lower case"),
                _ => format!("`{word}` is not expected here; join search ids with `and` or `or`"),
            };
            reader.wrong(message)
        }
    }
}

/// Words and parentheses, each with its distance from the start in characters.
fn words(condition: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start: Option<(usize, usize)> = None;
    for (count, (at, c)) in condition.char_indices().enumerate() {
        let single = matches!(c, '(' | ')' | '|');
        if single || c.is_whitespace() {
            if let Some((count, from)) = start.take() {
                words.push((count, &condition[from..at]));
            }
            if single {
                words.push((count, &condition[at..at + 1]));
            }
        } else if start.is_none() {
            start = Some((count, at));
        }
    }
    if let Some((count, from)) = start {
        words.push((count, &condition[from..]));
    }
    words
}

struct Reader<'a> {
    words: Vec<(usize, &'a str)>,
    next: usize,
    end: usize,
    ids: &'a mut [Named],
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).map(|(_, word)| *word)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.next += usize::from(found);
        found
    }

    fn wrong<T>(&self, message: impl Into<String>) -> Result<T, Wrong> {
        let after = self.words.get(self.next).map_or(self.end, |(after, _)| *after);
        Err(Wrong { after, message: message.into() })
    }

    fn either(&mut self, depth: usize) -> Result<Expr, Wrong> {
        let mut exprs = vec![self.both(depth)?];
        while self.take("or") {
            exprs.push(self.both(depth)?);
        }
        Ok(Expr::any(exprs))
    }

    fn both(&mut self, depth: usize) -> Result<Expr, Wrong> {
        let mut exprs = vec![self.one(depth)?];
        while self.take("and") {
            exprs.push(self.one(depth)?);
        }
        Ok(Expr::all(exprs))
    }

    fn one(&mut self, depth: usize) -> Result<Expr, Wrong> {
        if depth > MAX_DEPTH {
            return self.wrong("nested too deeply; split the rule");
        }
        if self.take("not") {
            return Ok(Expr::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take("(") {
            let expr = self.either(depth + 1)?;
            return if self.take(")") { Ok(expr) } else { self.wrong("`)` is missing") };
        }
        let Some(word) = self.peek() else { return self.wrong("the condition ends where a search id is expected") };
        if self.words.get(self.next + 1).is_some_and(|(_, of)| *of == "of") {
            return self.some_of(word);
        }
        if matches!(word, ")" | "|" | "and" | "or" | "of" | "them") {
            return self.wrong(format!("`{word}` is not expected here; name a search id"));
        }
        let Some(id) = self.ids.iter_mut().find(|id| id.name == word) else {
            let known: Vec<&str> = self.ids.iter().map(|id| id.name.as_str()).collect();
            return self.wrong(format!("no search id `{word}`{}", crate::error::hint(word, &known)));
        };
        id.used = true;
        self.next += 1;
        Ok(Expr::Named(Arc::clone(&id.expr)))
    }

    /// `1 of them`, `all of selection_*`.
    fn some_of(&mut self, quantifier: &str) -> Result<Expr, Wrong> {
        let link: fn(Vec<Expr>) -> Expr = match quantifier {
            "1" | "any" => Expr::any,
            "all" => Expr::all,
            other if other.bytes().all(|b| b.is_ascii_digit()) => {
                return self.wrong(format!("not supported yet: `{other} of`; use `1 of` or `all of`"));
            }
            other => return self.wrong(format!("`{other} of` is not known; use `1 of` or `all of`")),
        };
        self.next += 2;
        let Some(pattern) = self.peek() else { return self.wrong("`of` must be followed by `them` or a search id such as `selection_*`") };
        let mut exprs = Vec::new();
        for id in self.ids.iter_mut().filter(|id| fits(pattern, &id.name)) {
            id.used = true;
            exprs.push(Expr::Named(Arc::clone(&id.expr)));
        }
        if exprs.is_empty() {
            return self.wrong(format!("no search id fits `{pattern}`"));
        }
        self.next += 1;
        Ok(link(exprs))
    }
}

/// `them` is every search id that does not begin with `_`.
fn fits(pattern: &str, name: &str) -> bool {
    if pattern == "them" {
        return !name.starts_with('_');
    }
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = pattern.rsplit_once('*').map(|(_, last)| last) else { return rest.is_empty() };
    let middle: Vec<&str> = parts.collect();
    for part in &middle[..middle.len().saturating_sub(1)] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars_fit_anything_and_them_leaves_hidden_ids_out() {
        assert!(fits("sel_*", "sel_a") && fits("*_a", "sel_a") && fits("s*l*a", "sel_a") && fits("*", "x") && fits("sel", "sel"));
        assert!(!fits("sel_*", "other") && !fits("s*b*a", "sel_a") && !fits("sel", "sel_a") && !fits("aa*aa", "aaa"));
        assert!(fits("them", "sel") && !fits("them", "_hidden"));
    }
}
