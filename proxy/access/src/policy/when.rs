//! `when`: a condition on the arguments of a call, in CEL (Common Expression Language, cel-spec).
//!
//! Compiled once, and bounded by construction: programs are short, name only functions whose cost is linear, and loops do not
//! nest; arguments beyond a size are not judged at all. An error (an argument that is not there, a text where a number
//! is compared) makes the condition unknown, which never allows and always denies.

use super::truth::Truth;
use crate::Caller;
use cel::{
    Context, Env, Program, Value,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue},
    objects::{Key, Map},
    parser::Expression,
};
use serde_json::Value as Json;
use smol_str::SmolStr;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

/// The longest program, bytes.
pub const MAX_WHEN: usize = 1024;
/// The most nodes of a program, loops expanded.
const MAX_NODES: usize = 300;
/// The most values, names included, of the arguments that a program names.
pub const MAX_VALUES: usize = 2048;
/// The most bytes of text in them.
pub const MAX_TEXT: usize = 64 << 10;

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

/// What callers are called in a program, and what of them it can name.
const CALLER_FIELDS: &[&str] = &["user", "email", "domain", "client", "groups", "subject"];

/// The arguments that a program reads.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Named(BTreeSet<String>),
}

/// A compiled condition.
pub(crate) struct When {
    source: SmolStr,
    program: Program,
    env: Arc<Env>,
    wanted: Wanted,
    caller: Speaks,
}

/// Whether a program names the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    OfCaller,
    OfArgumentsOnly,
}

impl fmt::Debug for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl When {
    pub(crate) fn compile(source: &str, env: &Arc<Env>) -> Result<Self, String> {
        if source.len() > MAX_WHEN {
            return Err(format!("`when` is longer than {MAX_WHEN} bytes; split the entry"));
        }
        let program = env.compile(source).map_err(|errors| {
            let first = errors.errors.first().map(|error| error.msg.clone()).unwrap_or_default();
            let first = first.lines().next().unwrap_or_default().trim_start_matches("Syntax error: ").to_owned();
            format!("`when` is not CEL: {first}; write it like `args.limit < 100`")
        })?;
        let mut walk = Walk { wanted: Wanted::Named(BTreeSet::new()), nodes: 0, bound: Vec::new(), caller: Speaks::OfArgumentsOnly };
        walk.expression(program.expression(), Loop::Outside)?;
        Ok(Self { source: source.into(), wanted: walk.wanted, caller: walk.caller, program, env: env.clone() })
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Why it does not hold, if it does not.
    pub(crate) fn judge(&self, arguments: Option<&Json>, caller: &Caller) -> (Truth, Option<String>) {
        let mut room = Room { values: MAX_VALUES, text: MAX_TEXT };
        let Some(args) = self.args(arguments, &mut room) else {
            return (Truth::Missing, Some("the arguments are larger than what is judged".to_owned()));
        };
        let mut context = Context::with_env(self.env.clone());
        context.add_variable_from_value("args", args);
        if self.caller == Speaks::OfCaller {
            context.add_variable_from_value("caller", caller_value(caller));
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => (Truth::of(holds), None),
            Ok(other) => (Truth::Missing, Some(format!("it gives {}, not true or false", other.type_of()))),
            // The error may quote arguments, which are nobody's business.
            Err(error) => (Truth::Missing, Some(kind_of(&error).to_owned())),
        }
    }

    fn args(&self, arguments: Option<&Json>, room: &mut Room) -> Option<Value> {
        let mut map = HashMap::new();
        match arguments {
            None => {}
            Some(Json::Object(entries)) => {
                let wanted = |name: &String| match &self.wanted {
                    Wanted::All => true,
                    Wanted::Named(names) => names.contains(name),
                };
                for (name, value) in entries.iter().filter(|(name, _)| wanted(name)) {
                    map.insert(room.name(name)?, room.value(value)?);
                }
            }
            // MCP has arguments as an object; anything else has no names to ask for.
            Some(_) => return None,
        }
        Some(Value::Map(Map { map: Arc::new(map) }))
    }
}

fn caller_value(caller: &Caller) -> Value {
    let mut map: HashMap<Key, Value> = HashMap::new();
    let facts = [
        ("user", caller.user.as_ref()),
        ("email", caller.email.as_ref()),
        ("domain", caller.domain.as_ref()),
        ("client", caller.client.as_ref()),
        ("subject", Some(&caller.subject)),
    ];
    for (name, fact) in facts {
        if let Some(fact) = fact {
            map.insert(Key::from(name.to_owned()), Value::from(fact.as_str()));
        }
    }
    if let crate::Names::Known(groups) = &caller.groups {
        let groups = groups.iter().map(|group| Value::from(group.as_str())).collect();
        map.insert(Key::from("groups".to_owned()), Value::List(Arc::new(groups)));
    }
    Value::Map(Map { map: Arc::new(map) })
}

fn kind_of(error: &cel::ExecutionError) -> &'static str {
    use cel::ExecutionError as E;
    match error {
        E::NoSuchKey(_) => "an argument that it names is not there",
        E::NoSuchOverload(_) | E::UnexpectedType { .. } | E::ValuesNotComparable(..) | E::UnsupportedBinaryOperator(..) => {
            "an argument is of another type than it expects"
        }
        E::Overflow(..) | E::DivisionByZero(_) | E::RemainderByZero(_) => "its arithmetic has no result",
        E::IndexOutOfBounds(_) => "a list is shorter than it expects",
        _ => "it could not be evaluated",
    }
}

/// What may still be converted.
struct Room {
    values: usize,
    text: usize,
}

impl Room {
    fn text(&mut self, text: &str) -> Option<Arc<String>> {
        self.text = self.text.checked_sub(text.len())?;
        Some(Arc::new(text.to_owned()))
    }

    fn name(&mut self, name: &str) -> Option<Key> {
        self.values = self.values.checked_sub(1)?;
        self.text(name).map(Key::String)
    }

    fn value(&mut self, json: &Json) -> Option<Value> {
        self.values = self.values.checked_sub(1)?;
        Some(match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            // Whole numbers first: a program compares `args.limit < 100`, and 100 is an int.
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number),
                (None, Some(number)) => Value::UInt(number),
                (None, None) => Value::Float(number.as_f64()?),
            },
            Json::String(text) => Value::String(self.text(text)?),
            Json::Array(values) => Value::List(Arc::new(values.iter().map(|value| self.value(value)).collect::<Option<_>>()?)),
            Json::Object(entries) => {
                let mut map = HashMap::with_capacity(entries.len());
                for (name, value) in entries {
                    map.insert(self.name(name)?, self.value(value)?);
                }
                Value::Map(Map { map: Arc::new(map) })
            }
        })
    }
}

/// Where in a program an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loop {
    Outside,
    Inside,
}

/// Reads a program for what it may do.
struct Walk {
    wanted: Wanted,
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
            "args" => self.wanted = Wanted::All,
            "caller" => self.caller = Speaks::OfCaller,
            "int" | "uint" | "double" | "string" | "bool" | "list" | "map" | "null_type" => {}
            other => return Err(format!("`{other}` is not known in `when`; there are `args` and `caller`")),
        }
        Ok(())
    }

    fn reads(&mut self, field: &str) {
        if let Wanted::Named(names) = &mut self.wanted {
            names.insert(field.to_owned());
        }
    }

    fn caller_field(&mut self, field: &str) -> Result<(), String> {
        self.caller = Speaks::OfCaller;
        if CALLER_FIELDS.contains(&field) {
            return Ok(());
        }
        Err(format!("`caller.{field}` is not known{}", super::error::hint(field, CALLER_FIELDS)))
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
        // `filter` collects its elements with a `+` of its own; any other is somebody's.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::Ipv4Addr;

    fn caller() -> Caller {
        let mut caller = Caller::anonymous(Ipv4Addr::LOCALHOST.into());
        caller.user = Some("anna".into());
        caller.groups = vec!["finance"].into();
        caller
    }

    fn compile(source: &str) -> Result<When, String> {
        When::compile(source, &Arc::new(Env::stdlib()))
    }

    fn judge(source: &str, args: Json) -> Truth {
        compile(source).unwrap_or_else(|error| panic!("{source}: {error}")).judge(Some(&args), &caller()).0
    }

    #[test]
    fn conditions_hold_or_do_not() {
        for (source, args, truth) in [
            ("args.limit < 100", json!({"limit": 99}), Truth::True),
            ("args.limit < 100", json!({"limit": 100}), Truth::False),
            ("args.limit < 100", json!({"limit": 99.5}), Truth::True),
            ("args.limit < 100", json!({"limit": 18_446_744_073_709_551_615_u64}), Truth::False),
            ("args.repo.startsWith('docs/')", json!({"repo": "docs/a"}), Truth::True),
            ("args.repo in ['a', 'b']", json!({"repo": "c"}), Truth::False),
            ("!has(args.force) || args.force == false", json!({}), Truth::True),
            ("!has(args.force) || args.force == false", json!({"force": true}), Truth::False),
            ("args.tags.all(t, t.startsWith('x'))", json!({"tags": ["xa", "xb"]}), Truth::True),
            ("args.tags.exists(t, t == 'x')", json!({"tags": ["a"]}), Truth::False),
            ("size(args.tags.filter(t, t == 'x')) == 1", json!({"tags": ["x", "y"]}), Truth::True),
            ("args.tags.exists_one(t, t == 'x')", json!({"tags": ["x", "x"]}), Truth::False),
            ("args['limit'] == 1", json!({"limit": 1}), Truth::True),
            ("size(args) == 2", json!({"a": 1, "b": 2}), Truth::True),
            ("args.owner == caller.user", json!({"owner": "anna"}), Truth::True),
            ("'finance' in caller.groups", json!({}), Truth::True),
            ("args.a.b[0].c == 'x'", json!({"a": {"b": [{"c": "x"}]}}), Truth::True),
        ] {
            assert_eq!(judge(source, args), truth, "{source}");
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_unknown() {
        for (source, args) in [
            ("args.limit < 100", json!({})),
            ("args.limit < 100", json!({"limit": "1"})),
            ("args.limit < 100", json!({"limit": null})),
            ("args.limit / 0 == 1", json!({"limit": 1})),
            ("args.limit * 9223372036854775807 > 0", json!({"limit": 2})),
            ("args.list[3] == 1", json!({"list": []})),
            ("args.limit", json!({"limit": 1})),
            ("args.owner == caller.email", json!({"owner": "a"})),
        ] {
            assert_eq!(judge(source, args), Truth::Missing, "{source}");
        }
        assert_eq!(judge("size(args) == 0", json!([1])), Truth::Missing, "arguments that are no object");
    }

    #[test]
    fn large_arguments_are_judged_only_where_they_are_not_named() {
        let big = "x".repeat(MAX_TEXT + 1);
        assert_eq!(judge("args.path == 'a'", json!({"path": "a", "content": big})), Truth::True);
        assert_eq!(judge("args.content == 'a'", json!({"path": "a", "content": big})), Truth::Missing);
        let many: Vec<u32> = (0..3000).collect();
        assert_eq!(judge("args.list.all(x, x >= 0)", json!({"list": many})), Truth::Missing);
    }

    #[test]
    fn programs_that_could_cost_much_are_refused() {
        for source in [
            "args.a.matches('(a*)*b')",
            "args.a.all(x, args.b.all(y, x == y))",
            "args.a.map(x, x + x).map(x, x + x)",
            "args.a.filter(x, true).all(y, y == 1)",
            "args.a.map(x, args.s + x) == []",
            "unknown > 1",
            "caller.groupz == 1",
            "frobnicate(args.a)",
            "args.limit <",
            "",
            "args.all(args, true)",
        ] {
            assert!(compile(source).is_err(), "{source}");
        }
        assert!(compile(&format!("{}true", "true || ".repeat(200))).is_err(), "long");
        assert!(compile(&format!("{}1{}", "(".repeat(400), ")".repeat(400))).is_err(), "deep");
        let _ = compile(&format!("{}true", "!".repeat(900)));
    }

    #[test]
    fn an_error_never_quotes_an_argument() {
        let when = compile("args.secret < 1").unwrap();
        let (_, why) = when.judge(Some(&json!({"secret": "hunter2"})), &caller());
        assert_eq!(why.unwrap(), "an argument is of another type than it expects");
    }
}
