//! What documents point at is there: the test that holds a claim, the page and the heading that a link leads to, the types that the glossary
//! explains, the sources that whoever changes something is sent to.

use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The fewest words in the name of a test; and the first words of names that are no tests': of metrics, of the kernel's, and values.
const WORDS: usize = 4;
const NO_TESTS: [&str; 4] = ["gnomon", "process", "bpf", "bound"];
/// Tests without the attribute: a macro gives it to them, for each engine.
const CONTRACT: &str = "ledger/contract/src/";
/// The page with the glossary, and its heading.
const GLOSSARY: (&str, &str) = ("ARCHITECTURE.md", "## Words");

/// Compares every test and link in the documents with the sources.
///
/// # Errors
/// Tests or links that do not exist; all of them are listed.
pub fn check(root: &Path) -> Result<()> {
    let listed =
        Command::new("git").args(["ls-files", "*.md", "*.rs", "rules/packs/*.yml"]).current_dir(root).output().context("git ls-files")?;
    ensure!(listed.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
    let files = String::from_utf8(listed.stdout).context("a name of a file is not text")?;
    let read = |file: &str| fs::read_to_string(root.join(file)).with_context(|| format!("reading {file}"));
    // Rules have names like tests; their files are called by them.
    let rules: BTreeSet<_> =
        files.lines().filter(|file| file.ends_with(".yml")).filter_map(|file| Path::new(file).file_stem()?.to_str()).collect();
    let (mut tests, mut types) = (BTreeSet::new(), BTreeSet::new());
    for file in files.lines().filter(|file| file.ends_with(".rs")) {
        let text = read(file)?;
        tests.extend(tests_of(&text, file.starts_with(CONTRACT)).map(str::to_owned));
        types.extend(types_of(&text).map(str::to_owned));
    }
    let mut wrong = Vec::new();
    let glossary = read(GLOSSARY.0)?;
    wrong.extend(types_named(&glossary).filter(|name| !types.contains(*name)).map(|name| format!("{}: no type `{name}`", GLOSSARY.0)));
    for page in files.lines().filter(|file| file.ends_with(".md")) {
        let text = prose(&read(page)?);
        let folder = Path::new(page).parent().context("a file has a folder")?;
        let there = |path: &str| {
            let places = [PathBuf::from(path), folder.join(path), folder.join("src").join(path)];
            files.lines().any(|file| places.iter().any(|place| Path::new(file) == place))
        };
        wrong.extend(sources_named(&text).filter(|path| !there(path)).map(|path| format!("{page}: no file {path}")));
        wrong.extend(
            tests_named(&text)
                .filter(|name| !tests.contains(*name) && !rules.contains(name))
                .map(|test| format!("{page}: no test `{test}`")),
        );
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

/// The names of the tests in a source file: functions below an attribute of that name, or all.
fn tests_of(source: &str, all: bool) -> impl Iterator<Item = &str> {
    let mut marked = false;
    source.lines().map(str::trim_start).filter_map(move |line| {
        if line.starts_with("#[") {
            marked |= line.ends_with("test]") || line.contains("test(");
            return None;
        }
        let comment = line.starts_with("//");
        let is_test = !comment && (marked || all);
        marked &= comment;
        let rest = line.strip_prefix("pub ").unwrap_or(line);
        let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
        is_test.then(|| &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())])
    })
}

/// Names of types and traits that a file declares, rows of the macros for closed vocabularies included.
fn types_of(source: &str) -> impl Iterator<Item = &str> {
    fn declared(line: &str) -> Option<&str> {
        let line = line.trim_start();
        let line = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) ")).unwrap_or(line);
        let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
        let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind)).or_else(|| line.contains(", \"").then_some(line))?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
    }
    source.lines().filter_map(declared).filter(|name| !name.is_empty())
}

/// Types in backquotes below the glossary's heading, the crate before them left out.
fn types_named(page: &str) -> impl Iterator<Item = &str> {
    let glossary = page.split_once(GLOSSARY.1).map_or("", |(_, rest)| rest);
    let glossary = glossary.split_once("\n## ").map_or(glossary, |(glossary, _)| glossary);
    let named = |word: &&str| word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(char::is_alphanumeric);
    glossary.split('`').skip(1).step_by(2).filter_map(|word| word.rsplit("::").next()).filter(named)
}

/// Paths of Rust files in backquotes, from the root, the page or its `src` on: a name alone, or with a `*`, is none.
fn sources_named(page: &str) -> impl Iterator<Item = &str> {
    let path = |word: &&str| word.ends_with(".rs") && word.contains('/') && !word.contains(['*', ' ']);
    page.split('`').skip(1).step_by(2).filter(path)
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

/// Words in backquotes that look like names of tests.
fn tests_named(text: &str) -> impl Iterator<Item = &str> {
    let sentence = |word: &&str| {
        let words: Vec<_> = word.split('_').collect();
        words.len() >= WORDS
            && !NO_TESTS.contains(&words[0])
            && words.iter().all(|word| !word.is_empty())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    text.split('`').skip(1).step_by(2).filter(sentence)
}

/// Links to our own files and headings.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let ours = |link: &&str| !link.contains("://") && !link.starts_with("mailto:");
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link).filter(ours)
}

/// The anchor of a heading: lower case, hyphens for spaces, no punctuation. `None` if the line is not a heading.
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
        let guide = "`a/src/b.rs` `b.rs`\n## Words\n| x (`Kept`) | `word`, `gnomon_a::Other` |\n## Next\n`After`";
        assert_eq!(types_named(guide).collect::<Vec<_>>(), ["Kept", "Other"]);
        assert_eq!(sources_named(guide).collect::<Vec<_>>(), ["a/src/b.rs"]);
        let source = "pub enum Kept {\n    Review, \"review state\", [\npub(crate) trait Other<T> {}";
        assert_eq!(types_of(source).collect::<Vec<_>>(), ["Kept", "Review", "Other"]);
        let tests = "#[test]\nfn a_b() {}\nfn helper() {}\n    #[tokio::test(start_paused = true)]\n    // Why.\n    async fn c() {}\n#[cfg(test)]\nfn d() {}";
        assert_eq!(tests_of(tests, false).collect::<Vec<_>>(), ["a_b", "c"]);
        assert_eq!(tests_of("pub async fn a_b(engine: &impl Engine) {}\n/// fn c()\n", true).collect::<Vec<_>>(), ["a_b"]);
    }
}
