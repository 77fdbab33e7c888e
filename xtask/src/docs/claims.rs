//! What documents point at is there: the test that holds a claim, the page and the heading that a link leads to.

use anyhow::{Context, Result, ensure};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// A name of a test is a sentence: at least so many words.
const WORDS: usize = 6;

/// Holds each test and link that the documents name against the sources.
///
/// # Errors
/// One of them leads nowhere; all such are named.
pub fn check(root: &Path) -> Result<()> {
    let listed = Command::new("git").args(["ls-files", "*.md", "*.rs"]).current_dir(root).output().context("git ls-files")?;
    ensure!(listed.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
    let files = String::from_utf8(listed.stdout).context("a name of a file is no text")?;
    let read = |file: &str| fs::read_to_string(root.join(file)).with_context(|| format!("reading {file}"));
    let mut functions = BTreeSet::new();
    for file in files.lines().filter(|file| file.ends_with(".rs")) {
        functions.extend(functions_of(&read(file)?).map(str::to_owned));
    }
    let mut wrong = Vec::new();
    for page in files.lines().filter(|file| file.ends_with(".md")) {
        let text = prose(&read(page)?);
        wrong.extend(tests_named(&text).filter(|test| !functions.contains(*test)).map(|test| format!("{page}: no test `{test}`")));
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { root.join(page) } else { root.join(page).parent().context("a file has a folder")?.join(file) };
            let holds = if heading.is_empty() {
                target.exists()
            } else {
                fs::read_to_string(&target).is_ok_and(|text| prose(&text).lines().any(|line| slug(line).as_deref() == Some(heading)))
            };
            if !holds {
                wrong.push(format!("{page}: {link} leads nowhere"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Names of functions that a file defines.
fn functions_of(source: &str) -> impl Iterator<Item = &str> {
    source.split("fn ").skip(1).map(|rest| &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())])
}

/// A page without its blocks of code.
fn prose(page: &str) -> String {
    let mut code = false;
    let lines = page.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Words in backquotes that are sentences. Metrics begin with our name.
fn tests_named(text: &str) -> impl Iterator<Item = &str> {
    let sentence = |word: &&str| {
        !word.starts_with("gnomon_")
            && word.split('_').count() >= WORDS
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    text.split('`').skip(1).step_by(2).filter(sentence)
}

/// Links to files and headings of ours.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let ours = |link: &&str| !link.contains("://") && !link.starts_with("mailto:");
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link).filter(ours)
}

/// What a line that is a heading is linked by: lower case, blanks as hyphens, no punctuation.
fn slug(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tests_and_links_are_found_and_code_is_not() {
        let page = "# A b: `c`?\n`who_is_told_of_it_at_once` `__proto__` `gnomon_a_b_c_d_e_total` [x](y.md#a-b-c) [w](https://w)\n```\n`in_a_block_of_code_too`\n```\n";
        let text = prose(page);
        assert_eq!(tests_named(&text).collect::<Vec<_>>(), ["who_is_told_of_it_at_once"]);
        assert_eq!(links(&text).collect::<Vec<_>>(), ["y.md#a-b-c"]);
        assert_eq!(slug("# A b: `c`?").unwrap(), "a-b-c");
        assert_eq!(functions_of("pub fn a_b<T>() {}\nasync fn c() {}").collect::<Vec<_>>(), ["a_b", "c"]);
    }
}
