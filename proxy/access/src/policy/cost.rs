//! The cost of a CEL program, bounded when it is loaded: a list of functions that only read what they are given, no loop within a loop,
//! nothing that grows. Also its inputs, so that nothing else has to be converted.

use cel::{
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue},
    parser::Expression,
};
use std::collections::BTreeSet;

/// The most nodes of a program, loops expanded.
const MAX_NODES: usize = 300;
/// Functions and operators that cost no more than reading what they are given.
const FUNCTIONS: &[&str] = &[
    "_?_:_",
    "_&&_",
    "_||_",
    "!_",
    "_-_",
    "_+_",
    "_*_",
    "_/_",
    "_%_",
    "_==_",
    "_!=_",
    "_>=_",
    "_<=_",
    "_>_",
    "_<_",
    "-_",
    "_[_]",
    "@in",
    "@not_strictly_false",
    "size",
    "startsWith",
    "endsWith",
    "contains",
    "int",
    "uint",
    "double",
    "string",
    "type",
];

/// The names of the caller in a program, and the members that it can name.
const CALLER_FIELDS: &[&str] = &["user", "email", "domain", "client", "groups", "subject"];

/// The arguments that a program reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ArgumentsRead {
    All,
    Named(BTreeSet<String>),
}

/// A program that names the caller, or one that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    OfCaller,
    OfArgumentsOnly,
}

/// The input that a program needs to be evaluated.
#[derive(Debug)]
pub(super) struct Needs {
    pub(super) wanted: ArgumentsRead,
    pub(super) caller: Speaks,
}

/// The input that a program needs, if its cost is bounded.
pub(super) fn needs(program: &Expression) -> Result<Needs, String> {
    let mut walk = Walk { wanted: ArgumentsRead::Named(BTreeSet::new()), nodes: 0, bound: Vec::new(), caller: Speaks::OfArgumentsOnly };
    walk.expression(program, Loop::Outside)?;
    Ok(Needs { wanted: walk.wanted, caller: walk.caller })
}

/// The position of an expression relative to loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loop {
    Outside,
    Inside,
}

/// Reads a program for what it may do.
struct Walk {
    wanted: ArgumentsRead,
    nodes: usize,
    /// Names that loops bring.
    bound: Vec<String>,
    caller: Speaks,
}

impl Walk {
    fn expression(&mut self, node: &Expression, place: Loop) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err("`when` is too long; split the entry".to_owned());
        }
        match &node.expr {
            Expr::Unspecified => Err("`when` is empty; write it like `args.limit < 100`".to_owned()),
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name) if name == "args" => {
                    self.reads(&select.field);
                    Ok(())
                }
                Expr::Ident(name) if name == "caller" && !self.bound.contains(name) => self.caller_field(&select.field),
                _ => self.expression(&select.operand, place),
            },
            Expr::Call(call) => self.call(call, place),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.expression(element, place)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.expression(&entry.key, place)?;
                    self.expression(&entry.value, place)
                }
                EntryExpr::StructField(_) => Err(unavailable("structures")),
            }),
            Expr::Struct(_) => Err(unavailable("structures")),
            Expr::Comprehension(each) => self.comprehension(each, place),
        }
    }

    fn ident(&mut self, name: &str) -> Result<(), String> {
        if self.bound.iter().any(|bound| bound == name) || name.starts_with('@') {
            return Ok(());
        }
        match name {
            "args" => self.wanted = ArgumentsRead::All,
            "caller" => self.caller = Speaks::OfCaller,
            "int" | "uint" | "double" | "string" | "bool" | "list" | "map" | "null_type" => {}
            other => return Err(format!("`{other}` is not known in `when`; there are `args` and `caller`")),
        }
        Ok(())
    }

    fn reads(&mut self, field: &str) {
        if let ArgumentsRead::Named(names) = &mut self.wanted {
            names.insert(field.to_owned());
        }
    }

    fn caller_field(&mut self, field: &str) -> Result<(), String> {
        self.caller = Speaks::OfCaller;
        if CALLER_FIELDS.contains(&field) {
            return Ok(());
        }
        Err(format!("`caller.{field}` is not known{}", crate::yaml::hint(field, CALLER_FIELDS)))
    }

    fn call(&mut self, call: &CallExpr, place: Loop) -> Result<(), String> {
        let name = call.func_name.as_str();
        if name == "matches" {
            return Err("`matches` is not available in `when`: compare with `==`, `startsWith`, `endsWith` or `contains`".to_owned());
        }
        if !FUNCTIONS.contains(&name) {
            return Err(unavailable(&format!("`{name}`")));
        }
        if name == "_+_" && place == Loop::Inside {
            return Err("`+` is not available inside `all`, `exists` and `filter`".to_owned());
        }
        if name == "_[_]"
            && let [base, index] = &call.args[..]
            && matches!(&base.expr, Expr::Ident(name) if name == "args")
            && let Expr::Literal(LiteralValue::String(field)) = &index.expr
        {
            self.reads(field.inner());
            return Ok(());
        }
        call.target.iter().try_for_each(|target| self.expression(target, place))?;
        call.args.iter().try_for_each(|argument| self.expression(argument, place))
    }

    fn comprehension(&mut self, each: &ComprehensionExpr, place: Loop) -> Result<(), String> {
        if place == Loop::Inside {
            return Err("`all`, `exists` and `filter` do not nest in `when`".to_owned());
        }
        if each.iter_var == "args" || each.iter_var == "caller" {
            return Err(format!("`{}` cannot be the name of an element", each.iter_var));
        }
        self.expression(&each.iter_range, Loop::Inside)?;
        self.bound.push(each.iter_var.clone());
        self.bound.extend(each.iter_var2.clone());
        self.bound.push(each.accu_var.clone());
        for part in [&each.accu_init, &each.loop_cond, &each.result] {
            self.expression(part, Loop::Inside)?;
        }
        // `filter` collects its elements with a `+` of its own; any other is the author's.
        let collects = |node: &Expression| match &node.expr {
            Expr::Call(call) if call.func_name == "_+_" => match &call.args[..] {
                [accu, list] => {
                    matches!(&accu.expr, Expr::Ident(name) if *name == each.accu_var)
                        && matches!(&list.expr, Expr::List(list)
                            if matches!(&list.elements[..], [one] if matches!(&one.expr, Expr::Ident(name) if *name == each.iter_var)))
                }
                _ => false,
            },
            _ => false,
        };
        match &each.loop_step.expr {
            Expr::Call(call) if call.func_name == "_?_:_" => {
                for argument in call.args.iter().filter(|argument| !collects(argument) && !counts(argument, &each.accu_var)) {
                    self.expression(argument, Loop::Inside)?;
                }
            }
            _ => self.expression(&each.loop_step, Loop::Inside)?,
        }
        self.bound.truncate(self.bound.len() - 2 - usize::from(each.iter_var2.is_some()));
        Ok(())
    }
}

/// The `+ 1` of `exists_one`.
fn counts(node: &Expression, accu_var: &str) -> bool {
    let Expr::Call(call) = &node.expr else { return false };
    let [accu, one] = &call.args[..] else { return false };
    call.func_name == "_+_"
        && matches!(&accu.expr, Expr::Ident(name) if name == accu_var)
        && matches!(&one.expr, Expr::Literal(LiteralValue::Int(_)))
}

fn unavailable(what: &str) -> String {
    format!(
        "{what} cannot be used in `when`; there are comparisons, `in`, `has`, `size`, `startsWith`, `endsWith`, `contains`, `all`, `exists`, `filter`"
    )
}
