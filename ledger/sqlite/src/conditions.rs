//! Conditions on events as SQL. Values are always bound, never written into the statement.

use gnomon_ledger_model::{Comparison, Condition, Operand, Pattern, PatternPart};
use gnomon_observe::{Field, FieldRef};
use sqlx::{QueryBuilder, Sqlite};

/// One element per scalar, one per entry of a list; truths as JSON writes them.
const ELEMENT: &str = "iif(type IN ('true', 'false'), type, CAST(value AS TEXT))";

/// Adds ` AND …`.
pub(super) fn push(sql: &mut QueryBuilder<Sqlite>, condition: &Condition) {
    let comparison = condition.comparison();
    if let Some(column) = column(condition.field())
        && !matches!(condition.operand(), Operand::Number(_))
    {
        // A column is null where the field is absent, which is not any value.
        sql.push(if comparison == Comparison::IsNot { " AND NOT coalesce(" } else { " AND coalesce(" }).push(column);
        push_equal(sql, condition.operand());
        sql.push(", FALSE)");
        return;
    }
    sql.push(if comparison == Comparison::IsNot { " AND NOT EXISTS" } else { " AND EXISTS" });
    sql.push(" (SELECT 1 FROM json_each(event.json, ").push_bind(json_path(&condition.field().to_string())).push(") WHERE ");
    match condition.operand() {
        Operand::Number(number) => {
            let sign = match comparison {
                Comparison::Below => " < ",
                Comparison::AtMost => " <= ",
                Comparison::Above => " > ",
                Comparison::AtLeast => " >= ",
                Comparison::Is | Comparison::IsNot => " = ",
            };
            sql.push("type = 'integer' AND value").push(sign).push_bind(*number);
        }
        operand => {
            sql.push(ELEMENT);
            push_equal(sql, operand);
        }
    }
    sql.push(")");
}

/// Adds that a rule matched: it decided, or is among those that matched; by id or by name.
pub(super) fn push_rule(sql: &mut QueryBuilder<Sqlite>, rule: &str) {
    sql.push(" AND rule IS NOT NULL AND (rule = ").push_bind(rule.to_owned());
    sql.push(" OR EXISTS (SELECT 1 FROM json_each(event.json, ").push_bind(json_path(Field::RulesMatched.name()));
    sql.push(") WHERE value = ").push_bind(rule.to_owned());
    sql.push(") OR json_extract(event.json, ").push_bind(json_path(Field::RuleName.name()));
    sql.push(") = ").push_bind(rule.to_owned()).push(")");
}

fn push_equal(sql: &mut QueryBuilder<Sqlite>, operand: &Operand) {
    match operand {
        Operand::Exact(text) => sql.push(" = ").push_bind(text.clone()),
        Operand::Pattern(pattern) => sql.push(" GLOB ").push_bind(glob(pattern)),
        Operand::Number(number) => sql.push(" = ").push_bind(*number),
    };
}

/// The pattern for GLOB, which has more wildcards: they are escaped by brackets.
fn glob(pattern: &Pattern) -> String {
    let mut glob = String::new();
    for part in pattern.parts() {
        match part {
            PatternPart::Any => glob.push('*'),
            PatternPart::Text(text) => text.chars().for_each(|c| match c {
                '*' | '?' | '[' => glob.extend(['[', c, ']']),
                other => glob.push(other),
            }),
        }
    }
    glob
}

/// Fields that have a column of their own.
fn column(field: &FieldRef) -> Option<&'static str> {
    match field {
        FieldRef::Field(Field::EventKind) => Some("kind"),
        FieldRef::Field(Field::RuleId) => Some("rule"),
        FieldRef::Field(Field::ServerAddress) => Some("server"),
        FieldRef::Field(Field::UserName) => Some("user"),
        _ => None,
    }
}

/// The path of a top-level key; the key is quoted, since it holds dots.
fn json_path(name: &str) -> String {
    format!("$.\"{}\"", name.replace('"', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_wildcard_in_a_pattern_is_none_in_glob() {
        for (pattern, expected) in [("a\\**", "a[*]*"), ("/[x]?*", "/[[]x][?]*"), ("4*", "4*"), ("a**\\", "a*\\")] {
            assert_eq!(glob(&Pattern::parse(pattern).unwrap()), expected, "{pattern}");
        }
    }
}
