//! Rules for the names of entries, so that a name is what it looks like: to people who read lists, logs and policies, and in a header or a
//! terminal.
//!
//! For tools MCP has a rule (2025-11-25, server/tools, Tool Names): letters, digits, `_`, `-`, `.` of ASCII, and `/`, which earlier drafts
//! had (SEP-986), at most 128. Of prompts and resources it says nothing, and people call them in their own language: what cannot be
//! seen is refused there, and letters that pass for Latin ones among Latin ones.

use crate::{kind::Kind, members::Members};
use smol_str::{SmolStr, format_smolstr};

/// The longest name of a tool, bytes.
const LONGEST: usize = 128;

/// Checks an entry's name: `members` are its members, with the name and the URI.
///
/// # Errors
/// The fault, in words for an operator. It does not repeat the name.
pub(crate) fn fits(kind: Kind, members: &Members<'_>) -> Result<(), SmolStr> {
    let name = members.text("name").unwrap_or_default();
    match kind {
        Kind::Tool => tool(&name),
        Kind::Prompt => {
            visible("name", &name)?;
            if name.contains(['\u{200c}', '\u{200d}']) {
                return Err("`name` has an invisible character".into());
            }
            unmixed(&name)
        }
        Kind::Resource | Kind::Template => {
            visible("name", &name)?;
            visible(kind.named_by(), &members.text(kind.named_by()).unwrap_or_default())
        }
    }
}

fn tool(name: &str) -> Result<(), SmolStr> {
    visible("name", name)?;
    if name.len() > LONGEST {
        return Err(format_smolstr!("`name` has more than {LONGEST} characters"));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))) {
        Some(c) if c.is_ascii() => Err(format_smolstr!("`name` has a `{c}`, which names of tools may not have")),
        Some(c) => Err(format_smolstr!("`name` has U+{:04X}, which is not ASCII or looks like another character", u32::from(c))),
        None => Ok(()),
    }
}

/// Refuses control characters, those that change the direction of text, and invisible ones. Joiners are allowed, as scripts and emoji need
/// them.
fn visible(of: &str, text: &str) -> Result<(), SmolStr> {
    match text.chars().find(|c| c.is_control() || is_hidden(*c)) {
        Some(c) => Err(format_smolstr!("`{of}` has an invisible character, U+{:04X}", u32::from(c))),
        None => Ok(()),
    }
}

/// True if a character changes what others look like, or is invisible itself.
pub(crate) fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// No letters among Latin ones that pass for them.
fn unmixed(name: &str) -> Result<(), SmolStr> {
    // Greek, Cyrillic, Armenian, Cherokee, their further blocks, mathematical and full-width letters.
    let passes_for_latin = |c: char| {
        matches!(c,
            '\u{370}'..='\u{3ff}' | '\u{400}'..='\u{52f}' | '\u{530}'..='\u{58f}' | '\u{13a0}'..='\u{13ff}' | '\u{1f00}'..='\u{1fff}'
            | '\u{2c80}'..='\u{2cff}' | '\u{a640}'..='\u{a69f}' | '\u{ab70}'..='\u{abbf}' | '\u{ff21}'..='\u{ff5a}' | '\u{1d400}'..='\u{1d7ff}')
    };
    match name.chars().find(|c| passes_for_latin(*c)) {
        Some(c) if name.contains(|c: char| c.is_ascii_alphabetic()) => {
            Err(format_smolstr!("`name` has U+{:04X} among Latin letters, which looks like one", u32::from(c)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn allowed(kind: Kind, name: &str) -> bool {
        let text = json!({"name": name, "uri": "note://1", "uriTemplate": "note://{id}"}).to_string();
        fits(kind, &Members::read(text.as_bytes()).unwrap()).is_ok()
    }

    #[test]
    fn a_tool_is_called_by_what_mcp_lets_tools_be_called_and_by_nothing_that_looks_like_it() {
        for name in ["get_user", "DATA.export-v2", "admin/tools/list", &"x".repeat(128)] {
            assert!(allowed(Kind::Tool, name), "{name}");
        }
        for name in
            ["evil\r\nX-Inj: 1", "\u{1b}[31mred", "\u{202e}gnp", "g\u{43e}od", "*", "rd?", "a,b] } }", "two words", "naïve", "a\u{200b}b"]
        {
            assert!(!allowed(Kind::Tool, name), "{name:?}");
        }
        assert!(!allowed(Kind::Tool, &"x".repeat(129)));
    }

    #[test]
    fn prompts_and_resources_have_names_in_any_language_that_are_what_they_look_like() {
        for name in ["Übersetzen", "要約する", "перевести", "two words", "naïve & co."] {
            assert!(allowed(Kind::Prompt, name) && allowed(Kind::Resource, name), "{name}");
        }
        for name in ["g\u{43e}od", "\u{ff4f}k in ASCII", "a\u{200d}b"] {
            assert!(!allowed(Kind::Prompt, name), "{name:?}");
        }
        for name in ["a\nb", "\u{1b}[31mred", "\u{202e}gnp", "a\u{200b}b", "a\u{e0041}b"] {
            assert!(!allowed(Kind::Prompt, name) && !allowed(Kind::Resource, name) && !allowed(Kind::Template, name), "{name:?}");
        }
        let text = json!({"name": "n", "uri": "note://1\u{202e}gnp"}).to_string();
        assert!(fits(Kind::Resource, &Members::read(text.as_bytes()).unwrap()).is_err());
    }
}
