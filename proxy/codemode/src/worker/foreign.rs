//! Recognises code that is not JavaScript: models send arguments within arguments, Python, or their prompt.

use std::borrow::Cow;

use serde_json::Value;

/// The code within `{"code": "…"}` or within quotes, where that is all there is; else the code.
pub fn unwrapped(code: &str) -> Cow<'_, str> {
    let inner = match code.trim_start().chars().next() {
        Some('{') => serde_json::from_str::<Value>(code).ok().and_then(|value| value["code"].as_str().map(str::to_owned)),
        Some('"') => serde_json::from_str::<String>(code).ok().filter(|inner| inner.contains("=>") || inner.contains("codemode.")),
        _ => None,
    };
    inner.map_or(Cow::Borrowed(code), Cow::Owned)
}

/// True if it looks like Python: lines that begin a block with a colon, and imports without quotes.
pub fn is_python(code: &str) -> bool {
    code.lines().map(str::trim).any(|line| {
        let begins = ["def ", "async def ", "for ", "if ", "elif ", "else:", "while ", "with ", "try:", "except", "class "];
        let opens = line.ends_with(':') && begins.iter().any(|word| line.starts_with(word)) && !line.contains('{');
        let imports = (line.starts_with("import ") || line.starts_with("from ") && line.contains(" import "))
            && !line.contains(['"', '\'', '{', ';']);
        opens || imports
    })
}

/// True if it is a tool call in a model's own markup: an object between tags.
pub fn is_tagged(code: &str) -> bool {
    let code = code.trim_start();
    code.starts_with('<') && code.contains("\"name\"") && !code.contains("=>")
}

/// True if it looks like prose: words, and nothing that calls or assigns.
pub fn is_prose(code: &str) -> bool {
    let keywords = ["const", "let", "var", "return", "await", "async", "function", "import", "export", "throw", "new"];
    let mut words = code.split_whitespace();
    words.next().is_some_and(|first| !keywords.contains(&first))
        && words.next().is_some()
        && !code.contains(['{', '}', ';', '='])
        && !code.contains("codemode")
        && !code.contains("](")
        && code.matches('(').count() == code.matches(" (").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_languages_and_plain_words_are_told_apart_from_code() {
        assert!(is_python("import requests\nprint(requests.get('x'))"));
        assert!(is_python("async def main():\n    return await codemode.x()"));
        assert!(is_python("for x in y:\n    print(x)"));
        assert!(!is_python("import fs from 'fs'") && !is_python("switch (a) {\n  case 1:\n}") && !is_python("for (const a of b) { x: 1 }"));
        assert!(
            is_prose("Which issues are open?")
                && is_prose("list open issues (all of them)")
                && is_prose("curl -X POST https://example.com")
        );
        assert!(is_tagged("<tool_call>\n{\"name\": \"x\"}\n</tool_call>") && !is_tagged("<T>(a: T) => ({\"name\": a})"));
        assert!(!is_prose("await codemode.x()") && !is_prose("const a b") && !is_prose("fn(a b)"));
    }
}
