//! The modules of a crate as files, and which files each imports: a re-exported name leads to the file that declares it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::source::{self, Token};

/// The path from the crate's root, without the root itself.
type ModulePath = Vec<String>;

/// What each of some neighbouring modules takes of which others.
pub type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<Taken>>>;

/// One name that one file takes of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken {
    /// The file that says it.
    pub by: PathBuf,
    /// The file that declares it.
    pub of: PathBuf,
    /// The name there.
    pub name: String,
}

/// How many re-exports of a name are followed.
const HOPS: usize = 16;

/// A crate's modules.
pub struct Crate(BTreeMap<ModulePath, Module>);

struct Module {
    file: PathBuf,
    /// Imported names, with the path of each.
    taken: BTreeMap<String, ModulePath>,
    /// Paths that are imported with `*`.
    taken_whole: Vec<ModulePath>,
    /// Names that the module declares.
    declared: BTreeSet<String>,
    /// All paths in the module, those of its `use` declarations included.
    said: BTreeSet<ModulePath>,
}

impl Crate {
    /// Reads the files that a root declares, and those that they declare in turn.
    pub fn read(root: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let folder = root.parent().unwrap();
        let mut next = vec![(ModulePath::new(), root.to_owned(), folder.to_owned())];
        let mut texts = BTreeMap::new();
        while let Some((path, file, folder)) = next.pop() {
            let tokens = source::tokens(&fs::read_to_string(&file).unwrap());
            for name in declared_modules(&tokens) {
                let below = folder.join(&name);
                let file = [below.with_extension("rs"), below.join("mod.rs")].into_iter().find(|file| file.exists());
                if let Some(file) = file {
                    next.push(([path.as_slice(), &[name]].concat(), file, below));
                }
            }
            texts.insert(path, (file, tokens));
        }
        let known: BTreeSet<ModulePath> = texts.keys().cloned().collect();
        for (path, (file, tokens)) in texts {
            modules.insert(path.clone(), Reader::new(&known, path).read(file, &tokens));
        }
        Self(modules)
    }

    /// For each module that has others inside it, what these take of each other. Each of them is one with all that is inside it, and bears
    /// its file's name; what they take of the module around them, and it of them, is left out.
    pub fn imports(&self) -> Vec<Imports> {
        let mut levels: BTreeMap<&[String], Imports> = BTreeMap::new();
        for (path, module) in &self.0 {
            for (other, name) in module.said.iter().filter_map(|said| self.declares(said, HOPS)) {
                let shared = path.iter().zip(&other).take_while(|(one, other)| one == other).count();
                let (Some(taker), Some(taken)) = (path.get(..=shared), other.get(..=shared)) else { continue };
                let level = levels.entry(&path[..shared]).or_default();
                level.entry(self.0[taken].file.clone()).or_default();
                let names = level.entry(self.0[taker].file.clone()).or_default().entry(self.0[taken].file.clone()).or_default();
                names.insert(Taken { by: module.file.clone(), of: self.0[&other].file.clone(), name });
            }
        }
        levels.into_values().collect()
    }

    /// The module that declares what a path names, and the name there; `None` if it is a module, as then the paths that go through it are
    /// looked up.
    fn declares(&self, said: &ModulePath, hops: usize) -> Option<(ModulePath, String)> {
        let depth = (0..=said.len()).rev().find(|depth| self.0.contains_key(&said[..*depth]))?;
        let (within, rest) = said.split_at(depth);
        let module = self.0.get(within)?;
        let name = rest.first()?;
        let further = |path: &ModulePath| self.declares(&[path.as_slice(), &rest[1..]].concat(), hops - 1);
        if hops == 0 || module.declared.contains(name) {
            return Some((within.to_vec(), name.clone()));
        }
        if let Some(taken) = module.taken.get(name) {
            return further(taken);
        }
        let through = |whole: &ModulePath| {
            let path = [whole.as_slice(), std::slice::from_ref(name)].concat();
            self.declares(&path, hops - 1).filter(|(found, _)| self.0[found].declared.contains(name))
        };
        module.taken_whole.iter().find_map(through).or_else(|| Some((within.to_vec(), name.clone())))
    }
}

/// The names declared with `mod NAME;`, which have a file of their own.
fn declared_modules(tokens: &[Token]) -> Vec<String> {
    let named = |three: &[Token]| match three {
        [Token::Word(module), Token::Word(name), Token::Sign(';')] if module == "mod" => Some(name.clone()),
        _ => None,
    };
    tokens.windows(3).filter_map(named).collect()
}

/// Reads the tokens of one file.
struct Reader<'c> {
    known: &'c BTreeSet<ModulePath>,
    /// The current module: the file's, and the inline modules that are open, with the depth at which each closes.
    here: ModulePath,
    open: Vec<usize>,
    module: Module,
}

impl<'c> Reader<'c> {
    fn new(known: &'c BTreeSet<ModulePath>, here: ModulePath) -> Self {
        let (taken, declared, said) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let module = Module { file: PathBuf::new(), taken, taken_whole: Vec::new(), declared, said };
        Self { known, here, open: Vec::new(), module }
    }

    fn read(mut self, file: PathBuf, tokens: &[Token]) -> Module {
        self.module.file = file;
        self.uses(tokens);
        self.paths(tokens);
        self.module
    }

    /// Reads declarations and `use`.
    fn uses(&mut self, tokens: &[Token]) {
        let (mut depth, mut index) = (0, 0);
        while index < tokens.len() {
            self.nested(tokens, index, &mut depth);
            match (tokens[index].word(), tokens.get(index + 1).and_then(Token::word)) {
                // `use<'a>` is a capture bound.
                (Some("use"), _) if tokens.get(index + 1) != Some(&Token::Sign('<')) => index = self.tree(tokens, index + 1, &[]),
                (Some("struct" | "enum" | "union" | "trait" | "fn" | "type" | "const" | "static"), Some(name)) => {
                    self.module.declared.insert(name.to_owned());
                }
                _ => {}
            }
            index += 1;
        }
    }

    /// Reads one branch of a `use` declaration. Returns the index behind it.
    fn tree(&mut self, tokens: &[Token], from: usize, before: &[String]) -> usize {
        let (mut path, mut index) = (before.to_vec(), from);
        let mut named = None;
        while let Some(token) = tokens.get(index) {
            match token {
                Token::Word(word) if word == "as" => {
                    named = tokens.get(index + 1).and_then(Token::word).map(str::to_owned);
                    index += 1;
                }
                Token::Word(word) => path.push(word.clone()),
                Token::Sign('*') => {
                    if let Some(absolute) = self.absolute(&path) {
                        self.module.said.insert([absolute.as_slice(), &["*".to_owned()]].concat());
                        self.module.taken_whole.push(absolute);
                    }
                    return index + 1;
                }
                Token::Sign('{') => {
                    index += 1;
                    while !matches!(tokens.get(index), Some(Token::Sign('}' | ';')) | None) {
                        index = self.tree(tokens, index, &path);
                        index += usize::from(tokens.get(index) == Some(&Token::Sign(',')));
                    }
                    return index + 1;
                }
                Token::Sign(',' | '}' | ';') => break,
                Token::Path | Token::Sign(_) => {}
            }
            index += 1;
        }
        if path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if let Some(absolute) = self.absolute(&path) {
            if let Some(name) = named.or_else(|| path.last().cloned()) {
                self.module.taken.insert(name, absolute.clone());
            }
            self.module.said.insert(absolute);
        }
        index
    }

    /// Reads the paths outside of `use` declarations.
    fn paths(&mut self, tokens: &[Token]) {
        let (mut depth, mut index) = (0, 0);
        while index < tokens.len() {
            self.nested(tokens, index, &mut depth);
            let joined = index > 0 && matches!(tokens[index - 1], Token::Path | Token::Sign('.'));
            let mut path = Vec::new();
            if !joined {
                let mut next = index;
                while let Some(word) = tokens.get(next).and_then(Token::word) {
                    path.push(word.to_owned());
                    if tokens.get(next + 1) != Some(&Token::Path) {
                        break;
                    }
                    next += 2;
                }
            }
            if path.len() > 1
                && let Some(absolute) = self.absolute(&path)
            {
                self.module.said.insert(absolute);
            }
            index += 1;
        }
    }

    /// Tracks the inline modules.
    fn nested(&mut self, tokens: &[Token], index: usize, depth: &mut usize) {
        match &tokens[index] {
            Token::Sign('{') => {
                let opens = index.checked_sub(2).is_some_and(|before| tokens[before].word() == Some("mod"));
                if opens && let Some(name) = tokens[index - 1].word() {
                    self.here.push(name.to_owned());
                    self.open.push(*depth);
                }
                *depth += 1;
            }
            Token::Sign('}') => {
                *depth = depth.saturating_sub(1);
                if self.open.last() == Some(depth) {
                    self.open.pop();
                    self.here.pop();
                }
            }
            _ => {}
        }
    }

    /// A path from the crate's root; `None` if it leads out of the crate.
    fn absolute(&self, path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        let mut from = self.here.clone();
        match first.as_str() {
            "crate" => from.clear(),
            "self" => {}
            "super" => {
                from.pop();
                let further = rest.iter().take_while(|word| *word == "super").count();
                from.truncate(from.len().saturating_sub(further));
                return Some([from.as_slice(), &rest[further..]].concat());
            }
            _ => {
                let child = [from.as_slice(), std::slice::from_ref(first)].concat();
                if self.known.contains(&child) {
                    from = child;
                } else {
                    from = self.module.taken.get(first)?.clone();
                }
            }
        }
        Some([from.as_slice(), rest].concat())
    }
}
