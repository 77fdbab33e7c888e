//! `when`: a condition on the arguments of a call, in CEL (Common Expression Language, cel-spec).
//!
//! Compiled once, and bounded by construction: programs are short, name only functions whose cost is linear, and loops do not
//! nest; arguments beyond a size are not judged at all. An error (an argument that is not there, a text where a number
//! is compared) makes the condition unknown, which never allows and always denies.

use super::{
    cost::{ArgumentsRead, Needs, Speaks, needs},
    truth::Truth,
};
use crate::Caller;
use cel::{
    Context, Env, Program, Value,
    objects::{Key, Map},
};
use serde_json::Value as Json;
use smol_str::SmolStr;
use std::{collections::HashMap, fmt, sync::Arc};

/// The longest program, bytes.
pub const MAX_WHEN: usize = 1024;
/// The most values, names included, of the arguments that a program names.
pub const MAX_VALUES: usize = 2048;
/// The most bytes of text in them.
pub const MAX_TEXT: usize = 64 << 10;

/// A compiled condition.
pub(crate) struct When {
    source: SmolStr,
    program: Program,
    env: Arc<Env>,
    wanted: ArgumentsRead,
    caller: Speaks,
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
        let Needs { wanted, caller } = needs(program.expression())?;
        Ok(Self { source: source.into(), wanted, caller, program, env: env.clone() })
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The reason that it does not hold; none if it holds.
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
            // The error may quote arguments, which must not be logged.
            Err(error) => (Truth::Missing, Some(kind_of(&error).to_owned())),
        }
    }

    fn args(&self, arguments: Option<&Json>, room: &mut Room) -> Option<Value> {
        let mut map = HashMap::new();
        match arguments {
            None => {}
            Some(Json::Object(entries)) => {
                let wanted = |name: &String| match &self.wanted {
                    ArgumentsRead::All => true,
                    ArgumentsRead::Named(names) => names.contains(name),
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
        E::NoSuchKey(_) => "an argument that it names is missing",
        E::NoSuchOverload(_) | E::UnexpectedType { .. } | E::ValuesNotComparable(..) | E::UnsupportedBinaryOperator(..) => {
            "an argument is of another type than it expects"
        }
        E::Overflow(..) | E::DivisionByZero(_) | E::RemainderByZero(_) => "its arithmetic has no result",
        E::IndexOutOfBounds(_) => "a list is shorter than it expects",
        _ => "it could not be evaluated",
    }
}

/// The remaining budget of conversion.
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
