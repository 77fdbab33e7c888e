//! Turns the code that models write into one function: fences taken off, types stripped, the usual shapes accepted.
//!
//! It parses hostile text with a compiler whose recursion is unbounded, so it belongs inside the worker: there,
//! code that nests too deeply ends a process that had run nothing yet. It does not judge what the code does.

use std::path::{Path, PathBuf};

use oxc_allocator::Allocator;
use oxc_ast::ast::{
    BinaryExpression, BinaryOperator, Declaration, ExportDefaultDeclarationKind, Expression, Program, Statement, TSEnumMember,
    TemplateLiteral, VariableDeclaration,
};
use oxc_ast_visit::{Visit, walk};
use oxc_codegen::{Codegen, CodegenOptions, CommentOptions};
use oxc_parser::{ParseOptions, Parser};
use oxc_semantic::SemanticBuilder;
use oxc_span::{GetSpan, SourceType, Span};
use oxc_transformer::{TransformOptions, Transformer, TypeScriptOptions};

pub use super::foreign::unwrapped;
use super::foreign::{is_prose, is_python, is_tagged};
use super::positions::{Placed, Positions, Spot, Spots, shift, spot};

/// The reason that code cannot be read, with the position in what the model wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Neither JavaScript nor TypeScript.
    #[error("{message} (line {line}, column {column}); send JavaScript or TypeScript, best one async arrow function")]
    Syntax {
        /// The parser's word.
        message: String,
        /// The line, from one.
        line: usize,
        /// The column, from one, in characters.
        column: usize,
    },
    /// The code imports or exports a module.
    #[error(
        "modules cannot be imported or exported here: `codemode` is there without, so leave import and export out and send the async arrow function \
         alone; write what else is needed yourself"
    )]
    Module,
    /// A function that would never run, with calls in it.
    #[error(
        "{} would never run: one function is run, the last. Send one async arrow function that does it all, and call others within it",
        .0.as_ref().map_or_else(|| "a function before the last one".to_owned(), |name| format!("`{name}`"))
    )]
    Unrun(Option<String>),
    /// An enum adds up its members.
    #[error("an enum's members must be written out here, not added up; use a constant object instead")]
    Enum,
    /// Python.
    #[error("this is Python, and what runs here is JavaScript: async () => {{ const a = await codemode.<name>({{…}}); return a }}")]
    Python,
    /// A call written as data.
    #[error("this is a call as data, which does nothing here: send JavaScript, as async () => codemode.<name>({{argument: value}})")]
    Tagged,
    /// Prose.
    #[error("this is text and no code: send JavaScript, as async () => codemode.search('words') to find tools")]
    Prose,
    /// The parser gave up without a word.
    #[error("the code cannot be read: send plain JavaScript, one async arrow function")]
    Unclear,
}

/// The code as it might stand in parentheses: without fences, surrounding blanks and a last semicolon. `None` if nothing is left.
pub fn expression(code: &str) -> Option<&str> {
    let bare = unfenced(code).trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    (!bare.is_empty()).then_some(bare)
}

/// An expression whose value is an async function that does what the code says.
///
/// An arrow function or expression is called or awaited by the caller; of several statements the last one, if it is an expression, is the
/// result; a last function that is never called is called; `export default X` is `X`.
///
/// # Errors
/// If the code cannot be parsed.
pub fn normalise(code: &str) -> Result<String, Unreadable> {
    program(code).map(|program| program.text)
}

/// See [`normalise`]; with the original position of each piece.
pub fn program(code: &str) -> Result<Placed, Unreadable> {
    let bare = unfenced(code);
    let within = |inner: &str| {
        let start = spot(code, inner.as_ptr() as usize - code.as_ptr() as usize);
        match read(inner) {
            Ok(program) => Ok(Placed { positions: program.positions.shifted(start), ..program }),
            Err(Unreadable::Syntax { message, line, column }) => {
                let (line, column) = shift((line, column), start);
                Err(Unreadable::Syntax { message, line, column })
            }
            Err(other) => Err(other),
        }
    };
    let unreadable = match (within(bare), among_prose(bare)) {
        (Ok(program), _) => return Ok(program),
        (Err(unreadable), Some(inner)) => match within(inner) {
            Ok(program) => return Ok(program),
            Err(_) => unreadable,
        },
        (Err(unreadable), None) => unreadable,
    };
    Err(match unreadable {
        Unreadable::Syntax { .. } | Unreadable::Module | Unreadable::Unclear if is_python(bare) => Unreadable::Python,
        Unreadable::Syntax { .. } | Unreadable::Unclear if is_tagged(code) => Unreadable::Tagged,
        Unreadable::Syntax { .. } | Unreadable::Unclear if is_prose(bare) => Unreadable::Prose,
        other => other,
    })
}

fn read(code: &str) -> Result<Placed, Unreadable> {
    if code.trim().is_empty() {
        return Ok(Placed { text: "(async()=>{})".to_owned(), ..Placed::default() });
    }
    let (plain, stood) = strip(code)?;
    let plain = &plain;
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, plain, SourceType::mjs()).with_options(options()).parse();
    // The code generator's output must parse, or its meaning is unknown.
    if !parsed.diagnostics.is_empty() || parsed.panicked {
        return Err(Unreadable::Unclear);
    }
    let shaped = shape(plain, &parsed.program)?;
    Ok(Placed { positions: shaped.positions.through(&stood), ..shaped })
}

/// TypeScript to JavaScript. Nothing else is transformed: the engine speaks the current language.
fn strip(code: &str) -> Result<(String, Positions), Unreadable> {
    let allocator = Allocator::default();
    let mut parsed = Parser::new(&allocator, code, SourceType::ts().with_module(true)).with_options(options()).parse();
    if let Some(first) = parsed.diagnostics.first() {
        let at = first.labels.first().map_or(0, |label| label.offset() as usize);
        return Err(syntax(code, at, first.message.to_string()));
    }
    if parsed.panicked {
        return Err(Unreadable::Unclear);
    }
    let mut sums = Sums::default();
    sums.visit_program(&parsed.program);
    if sums.found {
        return Err(Unreadable::Enum);
    }
    let scoping = SemanticBuilder::new().with_excess_capacity(2.0).with_enum_eval(true).build(&parsed.program).semantic.into_scoping();
    // An import stays even if nothing uses it, to be refused: what was meant by it is not here.
    let kept = TypeScriptOptions { only_remove_type_imports: true, ..TypeScriptOptions::default() };
    let transformation = TransformOptions { typescript: kept, ..TransformOptions::default() };
    let transformer = Transformer::new(&allocator, Path::new("script.ts"), &transformation);
    let transformed = transformer.build_with_scoping(scoping, &mut parsed.program);
    if let Some(first) = transformed.diagnostics.first() {
        return Err(syntax(code, first.labels.first().map_or(0, |label| label.offset() as usize), first.message.to_string()));
    }
    let generated = Codegen::new().with_options(written()).build(&parsed.program);
    // Both count from nought.
    let from_one = |line: u32, column: u32| -> Spot { (line as usize + 1, column as usize + 1) };
    let pairs = generated.map.iter().flat_map(|map| {
        map.get_tokens()
            .map(|token| (from_one(token.get_dst_line(), token.get_dst_col()), from_one(token.get_src_line(), token.get_src_col())))
    });
    let positions = Positions::of(pairs);
    Ok((generated.code, positions))
}

/// Looks for sums and texts with placeholders among enum members. The compiler works them out by itself, without a bound: sixty
/// members that each double the one before are a text longer than any memory.
#[derive(Default)]
struct Sums {
    inside: usize,
    found: bool,
}

impl<'a> Visit<'a> for Sums {
    fn visit_ts_enum_member(&mut self, member: &TSEnumMember<'a>) {
        self.inside += 1;
        walk::walk_ts_enum_member(self, member);
        self.inside -= 1;
    }

    fn visit_template_literal(&mut self, text: &TemplateLiteral<'a>) {
        self.found |= self.inside > 0 && !text.expressions.is_empty();
        walk::walk_template_literal(self, text);
    }

    fn visit_binary_expression(&mut self, expression: &BinaryExpression<'a>) {
        self.found |= self.inside > 0 && expression.operator == BinaryOperator::Addition;
        walk::walk_binary_expression(self, expression);
    }
}

fn options() -> ParseOptions {
    // Models write `return` at the top, as if they were in the function already.
    ParseOptions { allow_return_outside_function: true, ..ParseOptions::default() }
}

/// Without indentation, whose length is the square of the depth: 60 KB of opening braces would become a gigabyte.
fn written() -> CodegenOptions {
    CodegenOptions {
        indent_width: 0,
        comments: CommentOptions::disabled(),
        source_map_path: Some(PathBuf::from("script.ts")),
        ..CodegenOptions::default()
    }
}

fn syntax(code: &str, at: usize, mut message: String) -> Unreadable {
    if let Some((cut, _)) = message.char_indices().nth(500) {
        message.truncate(cut);
    }
    let (line, column) = spot(code, at);
    Unreadable::Syntax { message, line, column }
}

/// The value of a program's last statement, which is returned.
enum Last<'a> {
    /// An expression that stands there.
    Written(Span),
    /// A function that stands there.
    Function(Span),
    /// A function that was declared, and where.
    Declared(&'a str, Span),
}

/// Statements into the body of a function, with a result.
fn shape(code: &str, program: &Program<'_>) -> Result<Placed, Unreadable> {
    let mut body = Body { code, spots: Spots::of(code), placed: Placed::default() };
    body.placed.add("(async()=>{\n");
    let mut result: Option<Last<'_>> = None;
    let mut earlier: Vec<(&str, Span)> = Vec::new();
    for statement in &program.body {
        // Empty statements, `export { main }`, and the `export {}` that stripping leaves.
        if matches!(statement, Statement::EmptyStatement(_) | Statement::ExportNamedDeclaration(_)) {
            continue;
        }
        // Only the last one counts.
        match result.take() {
            Some(Last::Function(_)) => return Err(Unreadable::Unrun(None)),
            Some(Last::Written(earlier)) => body.statement(earlier),
            Some(Last::Declared(name, at)) => earlier.push((name, at)),
            None => {}
        }
        match statement {
            Statement::ImportDeclaration(_) | Statement::ExportAllDeclaration(_) | Statement::ExportFromDeclaration(_) => {
                return Err(Unreadable::Module);
            }
            Statement::ExportDeclaration(export) => {
                body.statement(export.declaration.span());
                result = declared(&export.declaration).map(|name| Last::Declared(name, export.span));
            }
            Statement::ExportDefaultDeclaration(export) => {
                let declaration = export.declaration.span();
                match &export.declaration {
                    ExportDefaultDeclarationKind::FunctionDeclaration(function) if function.id.is_some() => {
                        body.statement(declaration);
                        result = function.id.as_ref().map(|id| Last::Declared(id.name.as_str(), declaration));
                    }
                    _ => return Ok(body.end(Some(Last::Written(declaration)), rest(program, export.span))),
                }
            }
            Statement::ExpressionStatement(expression) => {
                let span = expression.expression.span();
                let inner = expression.expression.without_parentheses();
                let is_function = matches!(inner, Expression::ArrowFunctionExpression(_) | Expression::FunctionExpression(_));
                result = Some(if is_function { Last::Function(span) } else { Last::Written(span) });
            }
            Statement::FunctionDeclaration(function) => {
                body.statement(function.span);
                result = function.id.as_ref().map(|id| Last::Declared(id.name.as_str(), function.span));
            }
            Statement::VariableDeclaration(variables) => {
                body.statement(variables.span);
                result = function_in(variables).map(|name| Last::Declared(name, variables.span));
            }
            other => body.statement(other.span()),
        }
    }
    // An earlier function without calls of tools has no effect that could be missed.
    let is_lost = |(name, at): &(&str, Span)| {
        let text = code.get(at.start as usize..at.end as usize).unwrap_or_default();
        code.matches(name).count() == 1 && text.contains("codemode")
    };
    match earlier.into_iter().find(is_lost) {
        Some((name, _)) => Err(Unreadable::Unrun(Some(name.to_owned()))),
        None => Ok(body.end(result, None)),
    }
}

/// The code after a default export: hoisted functions that it uses, most likely. They go before it, where they mean the same.
fn rest(program: &Program<'_>, export: Span) -> Option<Span> {
    let last = program.body.last()?.span();
    (last.start > export.start).then(|| Span::new(export.end, last.end))
}

/// A function that is being written.
struct Body<'a> {
    code: &'a str,
    spots: Spots<'a>,
    placed: Placed,
}

impl Body<'_> {
    fn take(&mut self, span: Span) {
        let text = self.code.get(span.start as usize..span.end as usize).unwrap_or_default();
        let from = self.spots.of_byte(span.start as usize);
        self.placed.take(text, from);
    }

    fn statement(&mut self, span: Span) {
        self.take(span);
        // An expression's own semicolon is not in its span; one too many is no harm.
        self.placed.add(";\n");
    }

    fn end(mut self, result: Option<Last<'_>>, after: Option<Span>) -> Placed {
        if let Some(after) = after {
            self.take(after);
            self.placed.add("\n");
        }
        if let Some(result) = result {
            self.placed.add("return (\n");
            match result {
                Last::Written(span) | Last::Function(span) => self.take(span),
                Last::Declared(name, _) => self.placed.add(name),
            }
            self.placed.add("\n)\n");
        }
        self.placed.add("})");
        self.placed
    }
}

/// The name of a function that a last declaration makes.
fn declared<'a>(declaration: &'a Declaration<'_>) -> Option<&'a str> {
    match declaration {
        Declaration::FunctionDeclaration(function) => function.id.as_ref().map(|id| id.name.as_str()),
        Declaration::VariableDeclaration(variables) => function_in(variables),
        _ => None,
    }
}

fn function_in<'a>(variables: &'a VariableDeclaration<'_>) -> Option<&'a str> {
    let [only] = variables.declarations.as_slice() else { return None };
    match only.init {
        Some(Expression::ArrowFunctionExpression(_) | Expression::FunctionExpression(_)) => {
            only.id.get_binding_identifier().map(|id| id.name.as_str())
        }
        _ => None,
    }
}

/// The code without the fence around all of it: three backticks, perhaps a language, perhaps never closed.
fn unfenced(code: &str) -> &str {
    let code = code.trim();
    let Some((label, inner)) = code.strip_prefix("```").and_then(|inner| inner.split_once('\n')) else { return code };
    if !label.trim().chars().all(|c| c.is_ascii_alphanumeric() || "+-_.".contains(c)) {
        return code;
    }
    match inner.find("\n```") {
        Some(end) => inner[..end].trim(),
        None => inner.trim_end_matches('`').trim(),
    }
}

/// The first fenced block of an answer that talks around it.
fn among_prose(code: &str) -> Option<&str> {
    let start = code.find("\n```")? + 1;
    Some(unfenced(&code[start..]))
}

#[cfg(test)]
mod tests;
