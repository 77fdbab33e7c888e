//! The documents as pages for a browser, which alerts link to (`runbook_url`): everything below `docs` in HTML, readable where there is
//! no network, and to be hosted as it is. Headings have the ids that links within the documents use.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// Where they are, below `/`.
pub const FOLDER: &str = "usr/share/doc/gnomon/html";
/// Folders below `docs` that have pages.
const FOLDERS: [&str; 2] = ["", "reference"];
const STYLE: &str = "body{max-width:64rem;margin:2rem auto;padding:0 1rem;font:16px/1.5 sans-serif}\
    table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.3rem .5rem;vertical-align:top}\
    pre{background:#f3f3f3;padding:.7rem;overflow:auto}code{background:#f3f3f3}";

/// Each page: its path below [`FOLDER`], and its text. Files of the folders `examples` are packaged as well.
///
/// # Errors
/// A document cannot be read.
pub fn pages(sources: &Path, examples: &[&str]) -> Result<Vec<(String, String)>> {
    let docs = sources.join("docs");
    let mut pages = Vec::new();
    for folder in FOLDERS {
        let mut files: Vec<PathBuf> =
            fs::read_dir(docs.join(folder)).with_context(|| folder.to_owned())?.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let to = file.strip_prefix(&docs)?.with_extension("html");
            pages.push((to.display().to_string(), page(&text, |link| leads_to((&docs, examples), &file, link))));
        }
    }
    Ok(pages)
}

fn page(text: &str, leads_to: impl Fn(&str) -> Option<String>) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut events: Vec<Event<'_>> = Parser::new_ext(text, options).collect();
    let (mut seen, mut title) = (HashMap::new(), String::new());
    // Of a link that leads nowhere the text stays.
    let mut dropped = Vec::new();
    for at in 0..events.len() {
        let heading = match &events[at] {
            Event::Start(Tag::Heading { .. }) => words(&events[at..]),
            _ => String::new(),
        };
        match &mut events[at] {
            Event::Start(Tag::Heading { id, .. }) => {
                if title.is_empty() {
                    title.clone_from(&heading);
                }
                *id = Some(CowStr::from(slug(&heading, &mut seen)));
            }
            Event::Start(Tag::Link { dest_url, .. }) => match leads_to(dest_url) {
                Some(to) => *dest_url = CowStr::from(to),
                None => dropped.push(at),
            },
            _ => {}
        }
    }
    for start in dropped {
        if let Some(end) = (start..events.len()).find(|at| matches!(events[*at], Event::End(TagEnd::Link))) {
            events[start] = Event::Text(CowStr::Borrowed(""));
            events[end] = Event::Text(CowStr::Borrowed(""));
        }
    }
    let mut body = String::new();
    html::push_html(&mut body, events.into_iter());
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>gnomon: {title}</title><style>{STYLE}</style></head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// The text of a heading, which begins here.
fn words(events: &[Event<'_>]) -> String {
    let inside = events.iter().skip(1).take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
    inside.filter_map(|event| if let Event::Text(text) | Event::Code(text) = event { Some(&**text) } else { None }).collect()
}

/// The id of a heading as code hosts make it: lower case, blanks as `-`, no other signs; a number where there was one of that name.
fn slug(heading: &str, seen: &mut HashMap<String, usize>) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    let slug: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
    let before = seen.entry(slug.clone()).or_default();
    *before += 1;
    if *before == 1 { slug } else { format!("{slug}-{}", *before - 1) }
}

/// Where a document's link leads from its page: another page, an example that is packaged as well, elsewhere. None where nothing of the
/// package is there.
fn leads_to((docs, examples): (&Path, &[&str]), file: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with('#') {
        return Some(link.to_owned());
    }
    let (path, anchor) = link.split_once('#').map_or((link, String::new()), |(path, anchor)| (path, format!("#{anchor}")));
    let target = plain(&file.parent()?.join(path));
    let ups = "../".repeat(file.strip_prefix(docs).ok()?.components().count() - 1);
    if let Ok(page) = target.strip_prefix(docs) {
        let is_page = page.extension().is_some_and(|extension| extension == "md")
            && FOLDERS.iter().any(|folder| page.parent() == Some(Path::new(folder)))
            && target.is_file();
        return is_page.then(|| format!("{ups}{}{anchor}", page.with_extension("html").display()));
    }
    let example = target.strip_prefix(docs.parent()?.join("deploy")).ok()?;
    let is_packaged = examples.iter().any(|folder| Path::new(folder).file_name() == example.parent().map(Path::as_os_str));
    (is_packaged && target.is_file()).then(|| format!("{ups}../examples/{}", example.display()))
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLES: [&str; 2] = ["deploy/prometheus", "deploy/grafana"];

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    #[test]
    fn each_alert_links_to_a_page_that_is_packaged_and_to_what_is_on_it() {
        let pages: HashMap<String, String> = pages(&root(), &EXAMPLES).unwrap().into_iter().collect();
        let alerts = fs::read_to_string(root().join("deploy/prometheus/gnomon.rules.yml")).unwrap();
        let linked: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
        assert!(linked.len() > 25, "{linked:?}");
        for link in linked {
            // The one of incidents, and what refers to it.
            let Some((_, link)) = link.split_once(&format!("file:///{FOLDER}/")) else {
                assert_eq!(link, "*rule_of");
                continue;
            };
            let (page, anchor) = link.split_once('#').unwrap();
            let text = pages.get(page).unwrap_or_else(|| panic!("no page {page}"));
            let is_of_rules = anchor.starts_with("{{");
            assert!(is_of_rules || text.contains(&format!("id=\"{anchor}\"")), "{link}");
        }
        let runbook = &pages["reference/runbook.html"];
        let mut rules = 0;
        for pack in fs::read_dir(root().join("rules/packs")).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
            for file in fs::read_dir(pack.path()).unwrap().flatten().filter(|file| file.path().extension().is_some_and(|e| e == "yml")) {
                let text = fs::read_to_string(file.path()).unwrap();
                let id = text.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
                assert!(runbook.contains(&format!("id=\"{id}\"")), "{} has no chapter", file.path().display());
                rules += 1;
            }
        }
        assert!(rules >= 75, "{rules}");
    }

    #[test]
    fn links_between_documents_are_links_between_pages_and_what_is_not_packaged_is_no_link() {
        let docs = root().join("docs");
        let of = |file: &str, link: &str| leads_to((&docs, &EXAMPLES), &docs.join(file), link);
        assert_eq!(of("alerts.md", "events.md#a").as_deref(), Some("events.html#a"));
        assert_eq!(of("reference/runbook.md", "../alerts.md").as_deref(), Some("../alerts.html"));
        assert_eq!(of("alerts.md", "reference/metrics.md").as_deref(), Some("reference/metrics.html"));
        assert_eq!(of("alerts.md", "../deploy/prometheus/gnomon.rules.yml").as_deref(), Some("../examples/prometheus/gnomon.rules.yml"));
        assert_eq!(of("alerts.md", "#below").as_deref(), Some("#below"));
        for nowhere in ["../src/main.rs", "contributing/README.md", "missing.md", "../README.md"] {
            assert_eq!(of("alerts.md", nowhere), None, "{nowhere}");
        }
        let made = page("# One `two`\n\n## A & B\n\n## A & B\n\n[x](no.md) [y](https://y)\n", |link| {
            link.contains("://").then(|| link.to_owned())
        });
        assert!(made.contains("<h1 id=\"one-two\">") && made.contains("<h2 id=\"a--b\">") && made.contains("<h2 id=\"a--b-1\">"), "{made}");
        assert!(made.contains("<p>x <a href=\"https://y\">y</a></p>"), "{made}");
    }
}
