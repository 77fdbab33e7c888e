//! A command line split as a shell would split it: into pipelines of commands, with quotes and escapes gone, variables that it sets itself
//! put in, and the scripts within it (`$(…)`, `<(…)`, back-ticks) beside it.
//!
//! It is no shell: control structures are read past, and nothing is expanded that the text itself does not say. What it makes of a text that
//! is no command line has no meaning, and is bounded like any other: by the length of the text, of a word and by the number of commands.

use std::collections::BTreeMap;

/// The most of one text that is read, in bytes.
const LONGEST_TEXT: usize = 64 * 1024;
/// The longest word into which a variable is put, in bytes: what a text makes of its own variables must not grow beyond it.
const LONGEST_EXPANDED: usize = 4096;
/// The most bytes that the variables of one text become in all.
const MOST_EXPANDED: usize = 64 * 1024;
/// The most commands of one text.
const MOST_COMMANDS: usize = 256;

/// How a backslash and a back-tick are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A backslash quotes the next character, a back-tick begins a script.
    Posix,
    /// `cmd` and PowerShell: a backslash parts the names of a path, a back-tick quotes the next character.
    Windows,
}

/// One command: its words, and the files that it is connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Simple {
    pub words: Vec<String>,
    pub reads: Vec<String>,
    pub writes: Vec<String>,
    /// The text that it is given as its input (`<<`, `<<<`).
    pub input: Option<String>,
}

/// A text as a shell reads it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    /// Commands whose output goes into each other.
    pub pipelines: Vec<Vec<Simple>>,
    /// Scripts within words.
    pub nested: Vec<String>,
    /// True if not all of the text was read, or not all of its variables were put in.
    pub is_cut: bool,
}

/// Splits a text.
pub(super) fn parse(text: &str, dialect: Dialect) -> Script {
    let end = (0..=text.len().min(LONGEST_TEXT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    let mut lexer = Lexer::new(text.get(..end).unwrap_or_default(), dialect);
    lexer.run();
    lexer.script.is_cut |= end < text.len();
    lexer.script
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Redirect {
    Read,
    Write,
    Text,
    Document,
}

struct Lexer<'t> {
    rest: &'t str,
    dialect: Dialect,
    variables: BTreeMap<String, String>,
    script: Script,
    pipeline: Vec<Simple>,
    simple: Simple,
    assigned: Vec<(String, String)>,
    word: Option<String>,
    /// True if no part of the word is in quotes.
    plain: bool,
    redirect: Option<Redirect>,
    documents: Vec<String>,
    commands: usize,
    /// Bytes that variables became.
    expanded: usize,
}

impl<'t> Lexer<'t> {
    fn new(rest: &'t str, dialect: Dialect) -> Self {
        Self {
            rest,
            dialect,
            variables: BTreeMap::new(),
            script: Script::default(),
            pipeline: Vec::new(),
            simple: Simple::default(),
            assigned: Vec::new(),
            word: None,
            plain: true,
            redirect: None,
            documents: Vec::new(),
            commands: 0,
            expanded: 0,
        }
    }

    fn run(&mut self) {
        while let Some(c) = self.next() {
            if self.commands >= MOST_COMMANDS {
                self.script.is_cut |= !c.is_whitespace() || !self.rest.trim_start().is_empty();
                return;
            }
            match c {
                '\n' => self.line_ends(),
                c if c.is_whitespace() => self.end_word(),
                ';' => self.end_pipeline(),
                '&' if self.takes(">") => self.writes(),
                '&' => {
                    self.takes("&");
                    self.end_pipeline();
                }
                '|' if self.takes("|") => self.end_pipeline(),
                '|' => {
                    self.takes("&");
                    self.end_command(Ends::Piped);
                }
                '(' => self.end_word(),
                ')' => {
                    self.end_word();
                    if !self.rest.trim_start_matches([' ', '\t']).starts_with(['|', '>', '<']) {
                        self.end_pipeline();
                    }
                }
                '\'' => {
                    let text = self.until('\'');
                    self.quoted(text);
                }
                '"' => self.double_quoted(),
                '`' if self.dialect == Dialect::Posix => {
                    let text = self.until('`');
                    self.within(text);
                }
                '$' => self.dollar(),
                '\\' if self.dialect == Dialect::Posix => self.escaped(),
                '`' => self.escaped(),
                '<' => self.less(),
                '>' => self.writes(),
                '#' if self.word.is_none() => drop(self.line()),
                c => self.push(c),
            }
        }
        self.end_pipeline();
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    fn takes(&mut self, mark: &str) -> bool {
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// What stands before this, which goes too.
    fn until(&mut self, mark: char) -> &'t str {
        let (text, rest) = self.rest.split_once(mark).unwrap_or((self.rest, ""));
        self.rest = rest;
        text
    }

    fn line(&mut self) -> &'t str {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        line
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn quoted(&mut self, text: &str) {
        self.plain = false;
        self.word.get_or_insert_default().push_str(text);
    }

    fn escaped(&mut self) {
        match self.next() {
            Some('\n') | None => {}
            Some('\r') if self.takes("\n") => {}
            Some(c) => {
                self.plain = false;
                self.push(c);
            }
        }
    }

    /// A script within a word: it is read by itself, and stands in the word as it was written.
    fn within(&mut self, text: &str) {
        self.script.nested.push(text.to_owned());
        let word = self.word.get_or_insert_default();
        word.push_str("$(");
        word.push_str(text);
        word.push(')');
    }

    fn double_quoted(&mut self) {
        self.plain = false;
        self.word.get_or_insert_default();
        while let Some(c) = self.next() {
            match c {
                '"' => return,
                '\\' if self.dialect == Dialect::Posix => match self.next() {
                    Some('\n') | None => {}
                    Some(c @ ('"' | '\\' | '$' | '`')) => self.push(c),
                    Some(c) => {
                        self.push('\\');
                        self.push(c);
                    }
                },
                '`' if self.dialect == Dialect::Posix => {
                    let text = self.until('`');
                    self.within(text);
                }
                '$' => self.dollar(),
                c => self.push(c),
            }
        }
    }

    fn dollar(&mut self) {
        if self.rest.starts_with('(') {
            self.rest = self.rest.get(1..).unwrap_or_default();
            let text = self.balanced();
            return self.within(text);
        }
        if self.dialect == Dialect::Posix && self.takes("'") {
            return self.ansi_quoted();
        }
        let name = if self.takes("{") {
            let text = self.until('}');
            text.split([':', '-', '+', '=', '?', '#', '%', '/', '@', '^', ',']).next().unwrap_or_default()
        } else {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && self.dialect == Dialect::Windows);
            let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
            let (name, rest) = self.rest.split_at(end);
            self.rest = rest;
            name
        };
        match name {
            "" => self.push('$'),
            "0" => self.quoted("sh"),
            "IFS" => self.end_word(),
            "HOME" => self.quoted("~"),
            name if name.eq_ignore_ascii_case("env:userprofile") => self.quoted("~"),
            name => {
                let value = self.variables.get(name);
                let length = self.word.as_ref().map_or(0, String::len);
                match value {
                    Some(value) if length + value.len() <= LONGEST_EXPANDED && self.expanded + value.len() <= MOST_EXPANDED => {
                        self.expanded += value.len();
                        self.word.get_or_insert_default().push_str(value);
                    }
                    value => {
                        self.script.is_cut |= value.is_some_and(|value| self.expanded + value.len() > MOST_EXPANDED);
                        self.push('$');
                        self.word.get_or_insert_default().push_str(name);
                    }
                }
            }
        }
    }

    /// Up to the bracket that closes, which goes too.
    fn balanced(&mut self) -> &'t str {
        let all = self.rest;
        let (mut depth, mut quote) = (1_usize, None);
        let mut chars = all.char_indices();
        while let Some((at, c)) = chars.next() {
            match (quote, c) {
                (None | Some('"'), '\\') => drop(chars.next()),
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => quote = Some(c),
                (None, '(') => depth += 1,
                (None, ')') => {
                    depth -= 1;
                    if depth == 0 {
                        self.rest = all.get(at + 1..).unwrap_or_default();
                        return all.get(..at).unwrap_or_default();
                    }
                }
                _ => {}
            }
        }
        self.rest = "";
        all
    }

    /// `$'…'`: with the escapes of C.
    fn ansi_quoted(&mut self) {
        self.quoted("");
        let mut bytes = Vec::new();
        while let Some(c) = self.next() {
            match c {
                '\'' => break,
                '\\' => {
                    let (byte, taken) = ansi_escape(self.rest);
                    bytes.extend_from_slice(&byte);
                    self.rest = self.rest.get(taken..).unwrap_or_default();
                }
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.quoted(&text);
    }

    fn less(&mut self) {
        if self.rest.starts_with('(') {
            self.rest = self.rest.get(1..).unwrap_or_default();
            let text = self.balanced();
            return self.within(text);
        }
        self.end_word();
        self.redirect = Some(if self.takes("<<") {
            Redirect::Text
        } else if self.takes("<-") || self.takes("<") {
            Redirect::Document
        } else if self.takes(">") {
            Redirect::Write
        } else if self.takes("&") {
            return;
        } else {
            Redirect::Read
        });
    }

    fn writes(&mut self) {
        // The number of a descriptor is no word.
        if self.word.as_ref().is_some_and(|word| self.plain && !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        self.takes(">");
        if self.rest.starts_with('(') {
            self.rest = self.rest.get(1..).unwrap_or_default();
            let text = self.balanced();
            return self.within(text);
        }
        if self.takes("&") && self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            self.next();
            return;
        }
        self.takes("|");
        self.redirect = Some(Redirect::Write);
    }

    fn end_word(&mut self) {
        let plain = std::mem::replace(&mut self.plain, true);
        let Some(word) = self.word.take() else { return };
        match self.redirect.take() {
            Some(Redirect::Read) => self.simple.reads.push(word),
            Some(Redirect::Write) => self.simple.writes.push(word),
            Some(Redirect::Text) => self.simple.input = Some(word),
            Some(Redirect::Document) => self.documents.push(word),
            None if self.simple.words.is_empty() && self.dialect == Dialect::Posix && assignment(&word).is_some() => {
                if let Some((name, value)) = assignment(&word) {
                    self.assigned.push((name.to_owned(), value.to_owned()));
                }
            }
            None => match word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
                Some(list) if plain && list.contains(',') => self.simple.words.extend(list.split(',').map(str::to_owned)),
                _ => self.simple.words.push(word),
            },
        }
    }

    fn end_command(&mut self, ends: Ends) {
        self.end_word();
        self.redirect = None;
        let assigned = std::mem::take(&mut self.assigned);
        if self.simple.words.is_empty() {
            self.variables.extend(assigned);
        }
        // What a loop goes through is the value of its variable, all of it at once.
        if let [first, name, mark, values @ ..] = self.simple.words.as_slice()
            && (first == "for" || first == "select")
            && mark == "in"
        {
            self.variables.insert(name.clone(), values.join(" "));
        }
        let simple = std::mem::take(&mut self.simple);
        // What is piped on keeps its place, be it a group that was read already.
        if simple != Simple::default() || ends == Ends::Piped {
            self.commands += 1;
            self.pipeline.push(simple);
        }
    }

    fn end_pipeline(&mut self) {
        self.end_command(Ends::Last);
        let pipeline = std::mem::take(&mut self.pipeline);
        if !pipeline.is_empty() {
            self.script.pipelines.push(pipeline);
        }
    }

    fn line_ends(&mut self) {
        self.end_word();
        for mark in std::mem::take(&mut self.documents) {
            let mut text = String::new();
            while !self.rest.is_empty() {
                let line = self.line();
                self.next();
                if line.trim() == mark {
                    break;
                }
                text.push_str(line);
                text.push('\n');
            }
            self.simple.input = Some(text);
        }
        self.end_pipeline();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Piped,
    Last,
}

fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (begins && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')).then_some((name, value))
}

/// The bytes that the escape behind a backslash means, and its length.
fn ansi_escape(text: &str) -> (Vec<u8>, usize) {
    let digits = |at: usize, most: usize, radix: u32| -> usize {
        text.get(at..).unwrap_or_default().chars().take(most).take_while(|c| c.is_digit(radix)).count()
    };
    let number = |at: usize, length: usize, radix: u32| -> u32 {
        text.get(at..at + length).and_then(|text| u32::from_str_radix(text, radix).ok()).unwrap_or_default()
    };
    match text.chars().next() {
        Some('n') => (vec![b'\n'], 1),
        Some('t') => (vec![b'\t'], 1),
        Some('r') => (vec![b'\r'], 1),
        Some('x') => {
            let length = digits(1, 2, 16);
            (vec![number(1, length, 16) as u8], 1 + length)
        }
        Some('u') => {
            let length = digits(1, 4, 16);
            (char::from_u32(number(1, length, 16)).unwrap_or_default().to_string().into_bytes(), 1 + length)
        }
        Some('0'..='7') => {
            let length = digits(0, 3, 8);
            (vec![number(0, length, 8) as u8], length)
        }
        Some(c) => (c.to_string().into_bytes(), c.len_utf8()),
        None => (Vec::new(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<Vec<String>>> {
        parse(text, Dialect::Posix).pipelines.into_iter().map(|line| line.into_iter().map(|simple| simple.words).collect()).collect()
    }

    fn one(text: &str) -> Vec<String> {
        words(text).into_iter().flatten().next().unwrap_or_default()
    }

    #[test]
    fn quotes_and_escapes_do_not_part_words() {
        for text in [
            "rm -rf /x",
            "r''m '-rf' \"/x\"",
            "\\rm -r\\f /x",
            "rm${IFS}-rf${IFS}/x",
            "{rm,-rf,/x}",
            "a=r; b=m; $a$b -rf /x",
            "$'\\x72m' $'\\055rf' /x",
            "rm \\\n -rf /x # and no more",
            "for d in /x; do\nrm -rf $d",
        ] {
            assert_eq!(
                words(text)
                    .into_iter()
                    .flatten()
                    .rfind(|words| !words.is_empty())
                    .unwrap()
                    .into_iter()
                    .filter(|word| word != "do")
                    .collect::<Vec<_>>(),
                ["rm", "-rf", "/x"],
                "{text}"
            );
        }
        assert_eq!(one("DIR=; rm -rf \"$DIR\"/*"), ["rm", "-rf", "/*"]);
    }

    #[test]
    fn commands_are_parted_where_a_shell_parts_them() {
        assert_eq!(
            words("a 1 && b 2 || c; d & e\nf"),
            [["a", "1"], ["b", "2"]]
                .map(|w| vec![w.map(str::to_owned).to_vec()])
                .into_iter()
                .chain(["c", "d", "e", "f"].map(|w| vec![vec![w.to_owned()]]))
                .collect::<Vec<_>>()
        );
        assert_eq!(words("a | b 'x | y; z'"), [[vec!["a".to_owned()], vec!["b".to_owned(), "x | y; z".to_owned()]]]);
        assert_eq!(words("(a; b) | c"), [vec![vec!["a"]], vec![vec!["b"], vec!["c"]]]);
    }

    #[test]
    fn files_and_texts_that_a_command_is_connected_to_are_no_words_of_it() {
        let script = parse("a < in > out 2>&1 2>/dev/null; b <<< 'text'; c <<EOF\nrm -rf /\nEOF\nd >& e", Dialect::Posix);
        let all: Vec<&Simple> = script.pipelines.iter().flatten().collect();
        assert_eq!(
            (all[0].words.as_slice(), &all[0].reads, &all[0].writes),
            (&["a".to_owned()][..], &vec!["in".to_owned()], &vec!["out".to_owned(), "/dev/null".to_owned()])
        );
        assert_eq!((all[1].words.len(), all[1].input.as_deref()), (1, Some("text")));
        assert_eq!((all[2].words.len(), all[2].input.as_deref()), (1, Some("rm -rf /\n")));
        assert_eq!(all[3].writes, ["e"]);
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn scripts_within_words_are_told() {
        let script = parse("echo $(cat /x | sort) `id` \"$(a ')')\" <(b)", Dialect::Posix);
        assert_eq!(script.nested, ["cat /x | sort", "id", "a ')'", "b"]);
        assert_eq!(script.pipelines[0][0].words[1], "$(cat /x | sort)");
    }

    #[test]
    fn on_windows_a_backslash_is_one() {
        let script = parse("del C:\\Users\\* & i`ex \"C:\\a b\"", Dialect::Windows);
        assert_eq!(script.pipelines[0][0].words, ["del", "C:\\Users\\*"]);
        assert_eq!(script.pipelines[1][0].words, ["iex", "C:\\a b"]);
    }

    #[test]
    fn no_text_makes_more_of_itself() {
        let text = format!("a={};{}", "x".repeat(100), "a=$a$a;".repeat(200));
        let script = parse(&text, Dialect::Posix);
        assert!(script.pipelines.iter().flatten().all(|simple| simple.words.is_empty()));
        assert!(parse(&";a".repeat(100_000), Dialect::Posix).pipelines.len() <= MOST_COMMANDS);
        for text in ["'", "\"", "$(", "`", "<<", "<<<", ">", "${", "$'", "\\", "<<E", "$'\\", "$'\\x", "a>&", "\u{fe0f}$é"] {
            let _ = parse(text, Dialect::Posix);
        }
    }
}
