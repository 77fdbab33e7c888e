//! Just enough CSV (RFC 4180 without line breaks inside fields) for catalogues that people edit.
//!
//! Columns are found by name, so an administrator's file may leave out or reorder what it does not
//! need. Lines that begin with `#` and blank lines are skipped. Errors carry the line number.

use std::collections::HashSet;

/// Most data rows one catalogue may have. About 250 times what ships: enough for a company's own
/// list, small enough that a wrong file is refused and not loaded into memory.
pub const MAX_ROWS: usize = 100_000;

/// Longest line in bytes.
pub const MAX_LINE_BYTES: usize = 4096;

/// A catalogue file that could not be read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {cause}")]
pub struct CatalogueError {
    /// Line number, from 1.
    pub line: usize,
    /// The error.
    pub cause: Cause,
}

/// An error in a line of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// No header line at all.
    #[error("the file is empty; its first line must name the columns")]
    Empty,
    /// The header lacks a column that is needed.
    #[error("column `{0}` is missing from the header")]
    MissingColumn(&'static str),
    /// The header names a column twice.
    #[error("column `{0}` is listed twice in the header")]
    DuplicateColumn(String),
    /// A row with more or fewer fields than the header.
    #[error("{found} fields where the header names {expected}")]
    FieldCount {
        /// Fields in the header.
        expected: usize,
        /// Fields in this row.
        found: usize,
    },
    /// A quote that never closes, or text after a closing quote.
    #[error("unbalanced quotes")]
    Quotes,
    /// More than [`MAX_LINE_BYTES`].
    #[error("longer than {MAX_LINE_BYTES} bytes")]
    LineTooLong,
    /// More than [`MAX_ROWS`].
    #[error("more than {MAX_ROWS} rows")]
    TooManyRows,
    /// A value its column does not allow.
    #[error("`{value}` is not a valid {column}: {expected}")]
    Value {
        /// The column's name.
        column: &'static str,
        /// The text found.
        value: String,
        /// The values allowed there.
        expected: &'static str,
    },
}

/// One data row: its line number and its fields in the order the caller asked for.
#[derive(Debug)]
pub(crate) struct Row {
    pub line: usize,
    fields: Vec<String>,
}

impl Row {
    /// The field of the `index`th column asked for; empty where the file has no such column.
    pub fn get(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", String::as_str)
    }

    pub fn refuse(&self, column: &'static str, value: &str, expected: &'static str) -> CatalogueError {
        let value = value.to_owned();
        CatalogueError { line: self.line, cause: Cause::Value { column, value, expected } }
    }
}

/// Reads `text` into rows whose fields follow `required` and then `optional`.
pub(crate) fn rows(text: &str, required: &[&'static str], optional: &[&'static str]) -> Result<Vec<Row>, CatalogueError> {
    let mut lines = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));

    let Some((line, header)) = lines.next() else {
        return Err(CatalogueError { line: 1, cause: Cause::Empty });
    };
    let header = split(header).map_err(|cause| CatalogueError { line, cause })?;
    let mut seen = HashSet::new();
    for name in &header {
        if !seen.insert(name) {
            return Err(CatalogueError { line, cause: Cause::DuplicateColumn(name.clone()) });
        }
    }
    let position = |name: &str| header.iter().position(|column| column == name);
    let mut columns = Vec::with_capacity(required.len() + optional.len());
    for name in required {
        match position(name) {
            Some(index) => columns.push(Some(index)),
            None => return Err(CatalogueError { line, cause: Cause::MissingColumn(name) }),
        }
    }
    columns.extend(optional.iter().map(|name| position(name)));

    let mut rows = Vec::new();
    for (line, text) in lines {
        let refuse = |cause| CatalogueError { line, cause };
        if rows.len() == MAX_ROWS {
            return Err(refuse(Cause::TooManyRows));
        }
        let cells = split(text).map_err(refuse)?;
        if cells.len() != header.len() {
            let (expected, found) = (header.len(), cells.len());
            return Err(refuse(Cause::FieldCount { expected, found }));
        }
        let field = |column: &Option<usize>| column.and_then(|index| cells.get(index)).cloned().unwrap_or_default();
        rows.push(Row { line, fields: columns.iter().map(field).collect() });
    }
    Ok(rows)
}

/// Splits one line into trimmed fields.
fn split(line: &str) -> Result<Vec<String>, Cause> {
    if line.len() > MAX_LINE_BYTES {
        return Err(Cause::LineTooLong);
    }
    let mut fields = Vec::new();
    let mut rest = line.trim_end();
    loop {
        let (field, tail) = match rest.trim_start().strip_prefix('"') {
            Some(quoted) => take_quoted(quoted)?,
            None => match rest.split_once(',') {
                Some((field, tail)) => (field.trim().to_owned(), Some(tail)),
                None => (rest.trim().to_owned(), None),
            },
        };
        fields.push(field);
        match tail {
            Some(tail) => rest = tail,
            None => return Ok(fields),
        }
    }
}

/// Parses a quoted field whose opening quote is already gone; `""` inside is one quote.
fn take_quoted(quoted: &str) -> Result<(String, Option<&str>), Cause> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"').ok_or(Cause::Quotes)?;
        field.push_str(before);
        if let Some(escaped) = after.strip_prefix('"') {
            field.push('"');
            rest = escaped;
            continue;
        }
        let after = after.trim_start();
        if after.is_empty() {
            return Ok((field, None));
        }
        return match after.strip_prefix(',') {
            Some(tail) => Ok((field, Some(tail))),
            None => Err(Cause::Quotes),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(text: &str) -> (usize, Cause) {
        let error = rows(text, &["host"], &["kind"]).unwrap_err();
        (error.line, error.cause)
    }

    #[test]
    fn columns_are_found_by_name_and_absent_optional_ones_read_as_empty() {
        let rows = rows("note,host\nx,a.example\n", &["host"], &["kind"]).unwrap();
        assert_eq!((rows[0].get(0), rows[0].get(1)), ("a.example", ""));
    }

    #[test]
    fn quotes_protect_commas_and_doubled_quotes() {
        let rows = rows("host,kind\n\"a,\"\"b\"\"\" , c\n", &["host"], &["kind"]).unwrap();
        assert_eq!((rows[0].get(0), rows[0].get(1)), ("a,\"b\"", "c"));
    }

    #[test]
    fn comments_and_blank_lines_do_not_shift_the_reported_line() {
        let (line, cause) = cause("# hello\n\nhost,kind\n# more\nonly-one\n");
        assert_eq!(line, 5);
        assert_eq!(cause, Cause::FieldCount { expected: 2, found: 1 });
    }

    #[test]
    fn broken_files_name_their_cause() {
        assert_eq!(cause(""), (1, Cause::Empty));
        assert_eq!(cause("kind\n"), (1, Cause::MissingColumn("host")));
        assert_eq!(cause("host,host\n"), (1, Cause::DuplicateColumn("host".into())));
        assert_eq!(cause("host\n\"open\n"), (2, Cause::Quotes));
        assert_eq!(cause("host\n\"a\"b\n"), (2, Cause::Quotes));
        assert_eq!(cause(&format!("host\n{}\n", "a".repeat(5000))), (2, Cause::LineTooLong));
    }

    #[test]
    fn a_file_with_too_many_rows_is_refused() {
        let text = format!("host\n{}", "a\n".repeat(MAX_ROWS + 1));
        assert_eq!(cause(&text), (MAX_ROWS + 2, Cause::TooManyRows));
    }
}
