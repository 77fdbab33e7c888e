//! Splits a Rust file into words and punctuation: enough to find the modules it declares and the paths in it, without a parser.

/// A token; comments, literals and lifetimes are left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A word: identifier or keyword.
    Word(String),
    /// `::`.
    Path,
    /// Any other character.
    Sign(char),
}

impl Token {
    /// The word, if it is one.
    pub fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            Self::Path | Self::Sign(_) => None,
        }
    }
}

/// The tokens of a file, without items that are compiled for tests only.
pub fn tokens(text: &str) -> Vec<Token> {
    without_tests(&lexed(text))
}

fn lexed(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let (mut tokens, mut index) = (Vec::new(), 0);
    while index < chars.len() {
        let (here, next) = (at(index), at(index + 1));
        match here {
            '/' if next == '/' => index = until(&chars, index, |rest| rest[0] == '\n'),
            '/' if next == '*' => index = until(&chars, index, |rest| rest.starts_with(&['*', '/'])) + 2,
            '"' => index = string_end(&chars, index + 1),
            '\'' if next == '\\' => index = until(&chars, index + 3, |rest| rest[0] == '\'') + 1,
            '\'' if at(index + 2) == '\'' => index += 3,
            '\'' => index += 1 + word_length(&chars, index + 1),
            ':' if next == ':' => {
                tokens.push(Token::Path);
                index += 2;
            }
            _ if here.is_alphanumeric() || here == '_' => {
                let length = word_length(&chars, index);
                let word: String = chars[index..index + length].iter().collect();
                index += length;
                let hashes = chars[index..].iter().take_while(|sign| **sign == '#').count();
                if word.ends_with('r') && word.len() <= 2 && at(index + hashes) == '"' {
                    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                    index = until(&chars, index + hashes + 1, |rest| rest.starts_with(&end)) + end.len();
                } else {
                    tokens.push(Token::Word(word));
                }
            }
            _ => {
                if !here.is_whitespace() {
                    tokens.push(Token::Sign(here));
                }
                index += 1;
            }
        }
    }
    tokens
}

fn until(chars: &[char], from: usize, ends: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|index| ends(&chars[*index..])).unwrap_or(chars.len())
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut index = from;
    while index < chars.len() && chars[index] != '"' {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

fn word_length(chars: &[char], from: usize) -> usize {
    chars.iter().skip(from).take_while(|sign| sign.is_alphanumeric() || **sign == '_').count()
}

/// Leaves out each item that begins with `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let sign = Token::Sign;
    let word = |word: &str| Token::Word(word.to_owned());
    let marked = [sign('#'), sign('['), word("cfg"), sign('('), word("test"), sign(')'), sign(']')];
    let (mut kept, mut index) = (Vec::new(), 0);
    while index < tokens.len() {
        if tokens[index..].starts_with(&marked) {
            index = item_end(tokens, index + marked.len());
        } else {
            kept.push(tokens[index].clone());
            index += 1;
        }
    }
    kept
}

/// The index behind the first `;` outside of brackets, or behind the `}` that closes the outermost one, whichever comes first.
fn item_end(tokens: &[Token], from: usize) -> usize {
    let mut depth = 0_i32;
    for (index, token) in tokens.iter().enumerate().skip(from) {
        match token {
            Token::Sign('{' | '(' | '[') => depth += 1,
            Token::Sign(')' | ']') => depth -= 1,
            Token::Sign('}') => {
                depth -= 1;
                if depth <= 0 {
                    return index + 1;
                }
            }
            Token::Sign(';') if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}
