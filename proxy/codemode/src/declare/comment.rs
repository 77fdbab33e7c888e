//! A stranger's text as a comment.

/// Characters of a tool's description; the portal's list has all of it.
pub const MAX_DESCRIPTION: usize = 2_000;

/// Characters of a property's.
pub const MAX_PROPERTY: usize = 300;

/// Writes `text` and `tags` as a JSDoc comment with a line's indentation; nothing if both are empty.
///
/// The comment cannot end early: the two characters that end a comment are separated after all other changes, and characters that make text
/// look other than it is (controls, changes of direction, invisible ones) are left out.
pub fn write(out: &mut String, indent: usize, text: &str, tags: &[String], most: usize) {
    let mut lines: Vec<String> = cut(text, most).lines().map(shown).filter(|line| !line.is_empty()).collect();
    lines.extend(tags.iter().map(|tag| shown(&cut(tag, most))));
    let margin = "  ".repeat(indent);
    match lines.as_slice() {
        [] => {}
        [line] => out.push_str(&format!("{margin}/** {} */\n", apart(line))),
        lines => {
            out.push_str(&format!("{margin}/**\n"));
            for line in lines {
                out.push_str(&format!("{margin} * {}\n", apart(line)));
            }
            out.push_str(&format!("{margin} */\n"));
        }
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The characters that are what they look like, with single blanks.
fn shown(line: &str) -> String {
    let visible: String =
        line.chars().map(|c| if c.is_whitespace() || c.is_control() { ' ' } else { c }).filter(|c| !is_deceptive(*c)).collect();
    visible.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Zero-width characters, marks and overrides of direction (Boucher and Anderson, "Trojan Source", 2021), tags.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

fn apart(line: &str) -> String {
    line.replace("*/", "*\\/")
}
