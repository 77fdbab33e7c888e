//! The pictures of the README: the demonstration as a recording of a terminal (SVG), and the weekly report as a browser shows it (PNG).
//!
//! The recording is made of text, and compared as text. A browser's picture differs from machine to machine, so the page that it
//! shows is kept beside it and compared, and the picture names that page by its SHA-256: who changes the page takes the picture anew.

use crate::run;
use anstyle_svg::Term;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::{fmt::Write as _, fs, path::Path, process::Command};

/// The recording.
pub const RECORDING: &str = "docs/images/demo.svg";
/// The page, of a made-up week.
pub const REPORT: &str = "docs/images/report.html";
/// Its picture.
const PICTURE: &str = "docs/images/report.png";
/// The SHA-256 of the page that the picture shows.
const SHOWS: &str = "docs/images/report.png.sha256";
/// The last moment of the made-up week.
const UNTIL: &str = "2026-11-22T18:00:00Z";
/// Names of the browser, as distributions call it.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "chrome-headless-shell", "google-chrome"];
/// Columns of the terminal.
const COLUMNS: usize = 132;
/// Milliseconds until the next line appears.
const LINE_MS: usize = 120;

/// What was said in a terminal, line by line, as a picture that plays once. Who wants less motion sees all of it at once.
pub fn recording(told: &str) -> String {
    let lines: Vec<String> =
        told.trim_end().lines().flat_map(|line| wrapped(line).into_iter().map(move |part| coloured(colour(line), &part))).collect();
    let svg = Term::new().render_svg(&lines.join("\n"));
    let mut style =
        String::from("    @keyframes said { from { fill-opacity: 0 } }\n    @media (prefers-reduced-motion: no-preference) {\n");
    for line in 1..=lines.len() {
        // Writing to a String cannot fail.
        let _ = writeln!(style, "      .container > tspan:nth-child({line}) {{ animation: said 1ms {}ms backwards }}", line * LINE_MS);
    }
    style.push_str("    }\n");
    svg.replacen("  </style>", &format!("{style}  </style>"), 1)
}

/// As a terminal of so many columns wraps it.
fn wrapped(line: &str) -> Vec<String> {
    let characters: Vec<char> = line.chars().collect();
    if characters.is_empty() {
        return vec![String::new()];
    }
    characters.chunks(COLUMNS).map(|part| part.iter().collect()).collect()
}

/// Headings in bold, what was stopped in red, what was redirected in yellow, what was let through in green: as ANSI has it.
fn colour(line: &str) -> Option<&'static str> {
    match line.trim_start() {
        start if start.starts_with("== ") => Some("1"),
        start if start.starts_with("This server is not approved") || line.contains(" block confirmed ") => Some("31"),
        start if start.starts_with("Use the company portal") || line.contains(" redirect confirmed ") => Some("33"),
        _ if line.contains(" log confirmed ") => Some("32"),
        start if start.starts_with("Gnomon") => Some("1;35"),
        _ => None,
    }
}

fn coloured(code: Option<&str>, text: &str) -> String {
    code.map_or_else(|| text.to_owned(), |code| format!("\x1b[{code}m{text}\x1b[0m"))
}

/// The weekly report of the made-up week, the same on every host and day.
///
/// # Errors
/// The program does not make it.
pub fn report(gnomon: &Path) -> Result<String> {
    let folder = std::env::temp_dir().join(format!("gnomon-week-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let page = report_in(gnomon, &folder);
    let _ = fs::remove_dir_all(&folder);
    page
}

fn report_in(gnomon: &Path, folder: &Path) -> Result<String> {
    let asked = |words: &[&str]| -> Result<String> {
        let output = Command::new(gnomon).args(words).output().with_context(|| format!("gnomon {}", words.join(" ")))?;
        ensure!(output.status.success(), "gnomon {} failed: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let place = folder.to_str().context("the folder for temporary files has a name that is not text")?;
    asked(&["demo", "--week", place, "--until", UNTIL])?;
    let page = asked(&["report", "--state-dir", place, "--until", UNTIL, "--html", "-"])?;
    let host = between(&page, "<h1>MCP use on ", "</h1>")?;
    let made = between(&page, " (UTC), made ", " by gnomon ")?;
    Ok(page
        .replace(&format!("MCP use on {host}"), "MCP use on build-17")
        .replace(&format!("made {made} by"), "made 2026-11-22 18:00:00 by"))
}

fn between<'a>(page: &'a str, before: &str, after: &str) -> Result<&'a str> {
    let found = page.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    found.map(|(found, _)| found).with_context(|| format!("the report has no `{before}…{after}`"))
}

/// Whether the picture is of this page.
///
/// # Errors
/// It is not, or there is none.
pub fn is_of(root: &Path, page: &str) -> Result<()> {
    let shown = fs::read_to_string(root.join(SHOWS)).unwrap_or_default();
    if shown.trim() != digest(page) || !root.join(PICTURE).is_file() {
        bail!("{PICTURE} shows an older page: run `cargo xtask docs --pictures` where Chromium is installed, look at it, and commit it");
    }
    Ok(())
}

/// Takes the picture of the page that is written already.
///
/// # Errors
/// There is no browser, or it fails.
pub fn take(root: &Path, page: &str) -> Result<()> {
    let browser = BROWSERS.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    let browser = browser.with_context(|| format!("none of {} is installed", BROWSERS.join(", ")))?;
    let picture = root.join(PICTURE);
    run(Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb", "--window-size=1000,1400"])
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", root.join(REPORT).display())))?;
    fs::write(root.join(SHOWS), format!("{}\n", digest(page))).with_context(|| format!("writing {SHOWS}"))?;
    println!("took {PICTURE}");
    Ok(())
}

fn digest(page: &str) -> String {
    Sha256::digest(page.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_appears_in_its_turn_and_what_is_said_is_only_text() {
        let svg = recording("== One\n<script>alert(1)</script>\n");
        assert!(svg.contains("tspan:nth-child(2)") && !svg.contains("tspan:nth-child(3)"), "{svg}");
        assert!(svg.contains("&lt;script") && !svg.contains("<script"), "{svg}");
    }

    #[test]
    fn a_line_wraps_where_the_terminal_ends() {
        let long = "x".repeat(COLUMNS + 1);
        assert_eq!(wrapped(&long), ["x".repeat(COLUMNS), "x".to_owned()]);
        assert_eq!(wrapped(""), [""]);
    }
}
