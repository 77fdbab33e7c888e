//! Character sets, as content types name them.

/// True if a content type names a character set in which what we would read as ASCII is something else, such as UTF-7: a server that
/// honours it reads another text than we do. No JSON is written in one (RFC 8259 section 8.1).
pub(crate) fn is_odd(content_type: &str) -> bool {
    /// Beginnings of the names of sets that have ASCII in them as it is, and of those that are recognised by their bytes.
    const READ: [&str; 24] = [
        "utf-8",
        "utf8",
        "us-ascii",
        "ascii",
        "ansi",
        "iso-8859",
        "iso8859",
        "latin",
        "windows-125",
        "cp125",
        "koi8",
        "utf-16",
        "utf16",
        "utf-32",
        "utf32",
        "ucs-",
        "ucs2",
        "gb2312",
        "gbk",
        "gb18030",
        "big5",
        "euc-",
        "shift",
        "sjis",
    ];
    let kind = content_type.to_ascii_lowercase();
    let charset =
        kind.split(';').skip(1).find_map(|parameter| parameter.trim_ascii().strip_prefix("charset")?.trim_ascii_start().strip_prefix('='));
    let charset = charset.unwrap_or_default().trim_matches(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\''));
    !charset.is_empty() && !READ.iter().any(|known| charset.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::is_odd;

    #[test]
    fn what_has_ascii_in_it_as_it_is_and_what_shows_itself_is_not_odd() {
        for known in
            ["application/json", "application/json; charset=UTF-8", "application/json;charset=\"latin1\"", "a/b; x=y; charset=utf-16"]
        {
            assert!(!is_odd(known), "{known}");
        }
        for odd in
            ["application/json; charset=utf-7", "application/json;a=b; charset = IBM037", "application/json; charset='x-user-defined'"]
        {
            assert!(is_odd(odd), "{odd}");
        }
    }
}
