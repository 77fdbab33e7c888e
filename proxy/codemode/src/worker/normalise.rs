//! What models write, made into one function: fences taken off, types stripped, the usual shapes accepted.
//!
//! It parses hostile text with a compiler that does not count how deeply it calls itself, so it belongs inside the worker: there,
//! code that nests too deeply ends a process that had run nothing yet. It does not judge what the code does.

use std::fmt::Write;
use std::path::Path;

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

/// Why code cannot be read, with the place in what the model wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is neither JavaScript nor TypeScript.
    #[error("{message} (line {line}, column {column})")]
    Syntax {
        /// The parser's word.
        message: String,
        /// From one.
        line: usize,
        /// From one, in characters.
        column: usize,
    },
    /// It wants a module.
    #[error(
        "modules cannot be imported or exported here: call tools as codemode.<name>(arguments), and write what else is needed yourself"
    )]
    Module,
    /// An enum adds up its members.
    #[error("an enum's members must be written out here, not added up; use a constant object instead")]
    Enum,
    /// The parser gave up without a word.
    #[error("the code cannot be read")]
    Unclear,
}

/// The code as it might stand in parentheses: without fences, surrounding blanks and a last semicolon. `None` if nothing is left.
pub fn expression(code: &str) -> Option<&str> {
    let bare = unfenced(code).trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    (!bare.is_empty()).then_some(bare)
}

/// An expression whose value is an async function that does what the code says.
///
/// An arrow function or expression is called or awaited by whoever calls this; of several statements the last one, if it is an
/// expression, is the result; a last function that nobody calls is called; `export default X` is `X`.
///
/// # Errors
/// It cannot be read.
pub fn normalise(code: &str) -> Result<String, Unreadable> {
    let bare = unfenced(code);
    match read(bare) {
        Err(unreadable) => match among_prose(bare) {
            Some(inner) => read(inner).map_err(|_| unreadable),
            None => Err(unreadable),
        },
        read => read,
    }
}

fn read(code: &str) -> Result<String, Unreadable> {
    if code.trim().is_empty() {
        return Ok("(async()=>{})".to_owned());
    }
    let plain = strip(code)?;
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, &plain, SourceType::mjs()).with_options(options()).parse();
    // What came out of the code generator parses, or we do not know what it is.
    if !parsed.diagnostics.is_empty() || parsed.panicked {
        return Err(Unreadable::Unclear);
    }
    shape(&plain, &parsed.program)
}

/// TypeScript to JavaScript. Nothing else is transformed: the engine speaks the current language.
fn strip(code: &str) -> Result<String, Unreadable> {
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
    match transformed.diagnostics.first() {
        Some(first) => Err(syntax(code, first.labels.first().map_or(0, |label| label.offset() as usize), first.message.to_string())),
        None => Ok(Codegen::new().with_options(written()).build(&parsed.program).code),
    }
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
    CodegenOptions { indent_width: 0, comments: CommentOptions::disabled(), ..CodegenOptions::default() }
}

fn syntax(code: &str, at: usize, mut message: String) -> Unreadable {
    if let Some((cut, _)) = message.char_indices().nth(500) {
        message.truncate(cut);
    }
    let before = code.get(..at).unwrap_or(code);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Unreadable::Syntax { message, line, column }
}

/// Statements into the body of a function, with a result.
fn shape(code: &str, program: &Program<'_>) -> Result<String, Unreadable> {
    let text = |span: Span| &code[span.start as usize..span.end as usize];
    let mut body = String::new();
    let mut result = None;
    for statement in &program.body {
        // Nothing at all, `export { main }`, and the `export {}` that stripping leaves.
        if matches!(statement, Statement::EmptyStatement(_) | Statement::ExportNamedDeclaration(_)) {
            continue;
        }
        // Only the last one counts.
        if let Some(earlier) = result.take() {
            push(&mut body, earlier);
        }
        match statement {
            Statement::ImportDeclaration(_) | Statement::ExportAllDeclaration(_) | Statement::ExportFromDeclaration(_) => {
                return Err(Unreadable::Module);
            }
            Statement::ExportDeclaration(export) => {
                push(&mut body, text(export.declaration.span()));
                result = declared(&export.declaration);
            }
            Statement::ExportDefaultDeclaration(export) => {
                let declaration = text(export.declaration.span());
                match &export.declaration {
                    ExportDefaultDeclarationKind::FunctionDeclaration(function) if function.id.is_some() => {
                        push(&mut body, declaration);
                        result = function.id.as_ref().map(|id| id.name.as_str());
                    }
                    _ => return Ok(function(&body, Some(declaration), rest(code, program, export.span))),
                }
            }
            Statement::ExpressionStatement(expression) => result = Some(text(expression.expression.span())),
            Statement::FunctionDeclaration(function) => {
                push(&mut body, text(function.span));
                result = function.id.as_ref().map(|id| id.name.as_str());
            }
            Statement::VariableDeclaration(variables) => {
                push(&mut body, text(variables.span));
                result = function_in(variables);
            }
            other => push(&mut body, text(other.span())),
        }
    }
    Ok(function(&body, result, ""))
}

/// What stands after a default export: hoisted functions that it uses, most likely. They go before it, where they mean the same.
fn rest<'a>(code: &'a str, program: &Program<'_>, export: Span) -> &'a str {
    match program.body.last() {
        Some(last) if last.span().start > export.start => &code[export.end as usize..last.span().end as usize],
        _ => "",
    }
}

fn function(body: &str, result: Option<&str>, after: &str) -> String {
    let result = result.map(|result| format!("return (\n{result}\n)\n")).unwrap_or_default();
    format!("(async()=>{{\n{body}{after}\n{result}}})")
}

fn push(body: &mut String, statement: &str) {
    // An expression's own semicolon is not in its span; one too many is no harm.
    let _ = writeln!(body, "{statement};");
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

/// Without the fence around all of it: three backticks, perhaps a language, perhaps never closed.
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
