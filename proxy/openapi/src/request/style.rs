//! Serialisation of values into paths, queries, headers and cookies (OpenAPI 3.1.1, 4.8.12 and appendix C).

use super::{
    Unfit,
    parameter::{Parameter, Style},
    segment::stays,
};
use crate::encode::{encoded, push};
use serde_json::Value;

/// Deepest object in brackets.
const MAX_DEPTH: usize = 8;
/// Most pairs that one argument may become.
const MAX_PAIRS: usize = 1024;

/// A value that is not taken apart any more, as text.
pub fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A parameter in a path, encoded.
pub fn path(parameter: &Parameter, value: &Value) -> Result<String, Unfit> {
    let (before, between, named) = match parameter.style {
        Style::Label => (".", if parameter.explode { "." } else { "," }, false),
        Style::Matrix => (";", if parameter.explode { ";" } else { "," }, true),
        _ => ("", ",", false),
    };
    let checked = |text: &str| stays(&parameter.key, text).map(|()| encoded(text));
    let named_here = named && !(parameter.explode && value.is_object());
    let name = if named_here { format!("{}=", encoded(&parameter.name)) } else { String::new() };
    let each_named = named && parameter.explode && value.is_array();
    let mut parts = Vec::new();
    match value {
        _ if parameter.style == Style::Json => parts.push(checked(&value.to_string())?),
        Value::Array(items) => {
            for item in items {
                parts.push(format!("{}{}", if each_named { &*name } else { "" }, checked(&scalar(item))?));
            }
        }
        Value::Object(members) => {
            for (key, value) in members {
                let (key, value) = (checked(key)?, checked(&scalar(value))?);
                parts.push(format!("{key}{}{value}", if parameter.explode { "=" } else { "," }));
            }
        }
        one => parts.push(checked(&scalar(one))?),
    }
    if parts.is_empty() {
        return stays(&parameter.key, "").map(|()| String::new());
    }
    Ok(format!("{before}{}{}", if each_named { "" } else { &*name }, parts.join(between)))
}

/// A parameter in the query: pairs, encoded.
pub fn query(pairs: &mut Vec<(String, String)>, parameter: &Parameter, value: &Value) -> Result<(), Unfit> {
    written(pairs, (&parameter.name, parameter.style, parameter.explode), value).map_err(|why| Unfit::wrong(&parameter.key, why))
}

/// A value as pairs of a query or a form.
pub fn written(pairs: &mut Vec<(String, String)>, (name, style, explode): (&str, Style, bool), value: &Value) -> Result<(), &'static str> {
    let first = pairs.len();
    let own = encoded(name);
    let joined = |values: Vec<String>, by: &str| values.iter().map(|text| encoded(text)).collect::<Vec<_>>().join(by);
    let separator = match style {
        Style::Space => "%20",
        Style::Pipe => "%7C",
        _ => ",",
    };
    match value {
        _ if style == Style::Json => pairs.push((own, encoded(&value.to_string()))),
        Value::Array(_) | Value::Object(_) if style == Style::Deep => deep(pairs, &own, value, MAX_DEPTH)?,
        Value::Array(items) if explode => pairs.extend(items.iter().map(|item| (own.clone(), encoded(&scalar(item))))),
        Value::Array(items) if items.is_empty() => {}
        Value::Array(items) => pairs.push((own, joined(items.iter().map(scalar).collect(), separator))),
        Value::Object(members) if explode => {
            for (key, value) in members {
                if crate::forbidden::query(key) {
                    return Err("has a key that would change what the request does");
                }
                pairs.push((encoded(key), encoded(&scalar(value))));
            }
        }
        Value::Object(members) => {
            let flat = members.iter().flat_map(|(key, value)| [key.clone(), scalar(value)]).collect();
            pairs.push((own, joined(flat, separator)));
        }
        one => pairs.push((own, encoded(&scalar(one)))),
    }
    if pairs.len() - first > MAX_PAIRS { Err("has more than 1024 members") } else { Ok(()) }
}

/// `name[key][inner]=value`, as most servers that take objects read them; members of a list are `name[]`, or numbered where they
/// are objects. The specification leaves open what stands deeper than one level.
fn deep(pairs: &mut Vec<(String, String)>, name: &str, value: &Value, depth: usize) -> Result<(), &'static str> {
    if depth == 0 || pairs.len() > 2 * MAX_PAIRS {
        return Err("is nested more deeply than 8 levels, or has too many members");
    }
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let mut inner = format!("{name}%5B");
                push(&mut inner, key);
                deep(pairs, &(inner + "%5D"), value, depth - 1)?;
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let inner = if item.is_object() || item.is_array() { format!("{name}%5B{at}%5D") } else { format!("{name}%5B%5D") };
                deep(pairs, &inner, item, depth - 1)?;
            }
        }
        one => pairs.push((name.to_owned(), encoded(&scalar(one)))),
    }
    Ok(())
}

/// A parameter in a header, as it is.
pub fn plain(parameter: &Parameter, value: &Value) -> String {
    match value {
        _ if parameter.style == Style::Json => value.to_string(),
        Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(","),
        Value::Object(members) => {
            let between = if parameter.explode { "=" } else { "," };
            members.iter().map(|(key, value)| format!("{key}{between}{}", scalar(value))).collect::<Vec<_>>().join(",")
        }
        one => scalar(one),
    }
}

/// A parameter in a cookie: one pair, encoded.
pub fn cookie(parameter: &Parameter, value: &Value) -> Result<String, Unfit> {
    let mut pairs = Vec::new();
    let style = if parameter.style == Style::Json { Style::Json } else { Style::Form };
    written(&mut pairs, (&parameter.name, style, false), value).map_err(|why| Unfit::wrong(&parameter.key, why))?;
    let (name, value) = pairs.pop().unwrap_or_else(|| (encoded(&parameter.name), String::new()));
    Ok(format!("{name}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::parameter::ParameterLocation;
    use serde_json::json;

    fn parameter(style: Style, explode: bool) -> Parameter {
        Parameter { name: "id".into(), key: "id".into(), place: ParameterLocation::Query, style, explode, required: false, header: None }
    }

    #[test]
    fn every_style_is_written_as_the_specification_shows_it() {
        let (list, object) = (json!(["blue", "black"]), json!({"R": 100, "G": 200}));
        for (style, explode, value, text) in [
            (Style::Simple, false, &list, "blue,black"),
            (Style::Simple, false, &object, "R,100,G,200"),
            (Style::Simple, true, &object, "R=100,G=200"),
            (Style::Label, false, &list, ".blue,black"),
            (Style::Label, true, &list, ".blue.black"),
            (Style::Label, true, &object, ".R=100.G=200"),
            (Style::Matrix, false, &json!("blue"), ";id=blue"),
            (Style::Matrix, false, &list, ";id=blue,black"),
            (Style::Matrix, true, &list, ";id=blue;id=black"),
            (Style::Matrix, true, &object, ";R=100;G=200"),
            (Style::Json, false, &object, "%7B%22R%22%3A100%2C%22G%22%3A200%7D"),
        ] {
            assert_eq!(path(&parameter(style, explode), value).as_deref(), Ok(text), "{style:?} {explode} {value}");
        }
        for (style, explode, value, text) in [
            (Style::Form, true, &list, "id=blue&id=black"),
            (Style::Form, false, &list, "id=blue,black"),
            (Style::Form, true, &object, "R=100&G=200"),
            (Style::Form, false, &object, "id=R,100,G,200"),
            (Style::Space, false, &list, "id=blue%20black"),
            (Style::Pipe, false, &list, "id=blue%7Cblack"),
            (Style::Pipe, false, &object, "id=R%7C100%7CG%7C200"),
            (Style::Deep, true, &object, "id%5BR%5D=100&id%5BG%5D=200"),
            (Style::Deep, true, &list, "id%5B%5D=blue&id%5B%5D=black"),
            (Style::Deep, true, &json!({"a": {"b": [{"c": 1}]}}), "id%5Ba%5D%5Bb%5D%5B0%5D%5Bc%5D=1"),
            (Style::Form, true, &json!([]), ""),
            (Style::Form, true, &json!(true), "id=true"),
            (Style::Form, false, &json!("a&b=c,d#e?f/g h%20+"), "id=a%26b%3Dc%2Cd%23e%3Ff%2Fg%20h%2520%2B"),
            (Style::Json, false, &list, "id=%5B%22blue%22%2C%22black%22%5D"),
        ] {
            let mut pairs = Vec::new();
            query(&mut pairs, &parameter(style, explode), value).unwrap();
            let shown: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(shown.join("&"), text, "{style:?} {explode} {value}");
        }
    }

    #[test]
    fn what_would_leave_its_place_of_a_path_is_refused() {
        let parameter = parameter(Style::Simple, false);
        for wrong in [
            "",
            ".",
            "..",
            "../x",
            "a/../b",
            "..\\x",
            "%2e%2e",
            "%2e%2e%2fx",
            "%252e%252e%252fx",
            "..;/x",
            "a\u{0}",
            "a\r\nb",
            "%0d%0a",
            "/..",
        ] {
            assert!(path(&parameter, &json!(wrong)).is_err(), "{wrong:?}");
        }
        for (fine, text) in [
            ("a/b", "a%2Fb"),
            ("..a", "..a"),
            ("v1.0", "v1.0"),
            ("?x#y", "%3Fx%23y"),
            ("100%", "100%25"),
            ("ü", "%C3%BC"),
            ("a@evil.example:80", "a%40evil.example%3A80"),
        ] {
            assert_eq!(path(&parameter, &json!(fine)).as_deref(), Ok(text));
        }
        assert!(path(&parameter, &json!([])).is_err());
        assert!(path(&parameter, &json!(["a", ".."])).is_err());
    }

    #[test]
    fn nesting_and_numbers_of_pairs_are_bounded() {
        let deep_ = (0..20).fold(json!(1), |inner, _| json!({"a": inner}));
        assert!(query(&mut Vec::new(), &parameter(Style::Deep, true), &deep_).is_err());
        let wide = json!((0..5000).collect::<Vec<_>>());
        assert!(query(&mut Vec::new(), &parameter(Style::Form, true), &wide).is_err());
        assert!(query(&mut Vec::new(), &parameter(Style::Form, true), &json!({"_method": "DELETE"})).is_err());
    }
}
