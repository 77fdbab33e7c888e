//! Numbers in documents are those of the sources.
//!
//! `numbers.txt` pins the words of a page to the line that declares the number: whoever changes either is told of the other. It does not
//! compute: that both say the same is for whoever writes the row.

use anyhow::{Context, Result, ensure};
use std::{fs, path::Path};

/// Pages and their words at the margin, the lines of sources that they follow from indented below them, an empty line between two rows.
const ROWS: &str = include_str!("numbers.txt");

/// Looks for the words of each row in its page, and for the line in its source.
///
/// # Errors
/// Words or lines that are not there; all of them are listed.
pub fn check(root: &Path) -> Result<()> {
    let read = |file: &str| fs::read_to_string(root.join(file)).with_context(|| format!("reading {file}"));
    let mut wrong = Vec::new();
    for row in rows(ROWS) {
        let of = row.says.iter().map(|(page, words)| format!("{page}, \"{words}\"")).collect::<Vec<_>>().join("; ");
        for (page, words) in &row.says {
            if !flat(&read(page)?).contains(*words) {
                wrong.push(format!("{page} does not say \"{words}\": xtask/src/docs/numbers.txt has it"));
            }
        }
        for (file, line) in &row.because {
            if !read(file)?.lines().any(|there| there.trim().starts_with(line)) {
                wrong.push(format!("{file} has no `{line}`: does it still hold what stands in {of}? Then mend xtask/src/docs/numbers.txt"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What pages say, and the lines of sources that it follows from.
#[derive(Default)]
struct Row<'a> {
    says: Vec<(&'a str, &'a str)>,
    because: Vec<(&'a str, &'a str)>,
}

fn rows(text: &str) -> Vec<Row<'_>> {
    text.split("\n\n").map(row).filter(|row| !row.says.is_empty() || !row.because.is_empty()).collect()
}

fn row(text: &str) -> Row<'_> {
    let mut row = Row::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((place, what)) = line.trim().split_once(": ") else { continue };
        if line.starts_with(' ') { row.because.push((place, what)) } else { row.says.push((place, what)) }
    }
    row
}

/// A page with its lines joined.
fn flat(page: &str) -> String {
    page.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_number_stands_in_its_page_and_in_its_source() {
        check(crate::root().unwrap()).unwrap();
        assert!(rows(ROWS).iter().all(|row| !row.says.is_empty() && !row.because.is_empty()), "a row has words and lines");
    }

    #[test]
    fn a_row_has_the_words_of_pages_and_the_lines_of_sources() {
        let rows = rows("# About.\n\na.md: at most 5\nb.md: five: of them\n    c.rs: const MOST: usize = 5;\n\n");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].says, [("a.md", "at most 5"), ("b.md", "five: of them")]);
        assert_eq!(rows[0].because, [("c.rs", "const MOST: usize = 5;")]);
        assert_eq!(flat("a\n  b"), "a b");
    }
}
