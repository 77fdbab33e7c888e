//! One operation of a document as a tool.

use crate::{
    document::{Document, Unresolved},
    request::{
        Draft, RequestForm, Unfit,
        body::{self, Form, InvalidBody},
        parameter::{self, Described, InvalidParameter, Parameter, ParameterLocation},
        template::{self, InvalidPath, Template},
    },
    schema::{Direction, Writer},
    security,
    text::cleaned,
};
use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::{Map, Value, json};
use smol_str::SmolStr;
use std::collections::HashSet;

/// Room for a tool's input schema, bytes.
const INPUT: usize = 16 << 10;
/// Room for its output schema, bytes.
const OUTPUT: usize = 6 << 10;
/// Longest description of a tool, characters.
const DESCRIPTION: usize = 800;
/// The most characters of a brief description.
const BRIEF: usize = 160;
/// Most names that an outline tells of one object.
const OUTLINED: usize = 64;
/// Longest description of a parameter, characters.
const PARAMETER: usize = 300;

/// Reading or changing, by the method (RFC 9110, 9.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// GET, HEAD, OPTIONS.
    Read,
    /// All others.
    Write,
}

/// An operation that can be called.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The tool's name.
    pub name: SmolStr,
    /// Its method.
    pub method: Method,
    /// Its path, as the document has it.
    pub path: Box<str>,
    /// Reading or changing.
    pub effect: Effect,
    /// The tool as MCP lists it, JSON.
    pub tool: Bytes,
    /// The same in brief, for lists of thousands: the input schema with names and types of arguments and of their members, JSON.
    pub brief: Bytes,
    /// Alternatives of schemes that it needs, by name.
    pub needs: Vec<Vec<SmolStr>>,
    form: RequestForm,
}

impl Operation {
    /// The request that a call with these arguments becomes.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn draft(&self, arguments: &Map<String, Value>) -> Result<Draft, Unfit> {
        self.form.filled(self.method.clone(), arguments)
    }
}

/// The reason that an operation cannot be called.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{0}")]
    Unresolved(#[from] Unresolved),
    #[error("{0}")]
    Path(#[from] InvalidPath),
    #[error("{0}")]
    Parameter(#[from] InvalidParameter),
    #[error("{0}")]
    Body(#[from] InvalidBody),
}

/// The parsed parts of an operation.
pub(crate) struct Found<'d> {
    pub method: Method,
    pub path: &'d str,
    /// The path's own object, with what its operations share.
    pub item: &'d Value,
    pub value: &'d Value,
}

impl Found<'_> {
    pub fn effect(&self) -> Effect {
        if self.method.is_safe() { Effect::Read } else { Effect::Write }
    }
}

/// Turns an operation into a tool.
pub(crate) fn read(document: &Document, found: &Found<'_>, name: SmolStr) -> Result<Operation, Unusable> {
    let mut described = parameter::read(document, found.item.get("parameters"), found.value.get("parameters"))?;
    // A path that names more than is described is used nevertheless: what stands there is a text.
    let names = template::names(found.path)?;
    described.retain(|one| one.parameter.place != ParameterLocation::Path || names.contains(&&*one.parameter.name));
    for name in names {
        if !described.iter().any(|one| one.parameter.place == ParameterLocation::Path && *one.parameter.name == *name) {
            described.insert(0, Described { parameter: Parameter::of_path(name), schema: None, description: None });
        }
    }
    let mut body = match found.value.get("requestBody") {
        None => None,
        Some(value) => body::read(document, value)?,
    };
    keyed(&mut described, body.as_mut());
    let input = input(document, &described, body.as_ref())?;
    let parameters: Vec<Parameter> = described.into_iter().map(|one| one.parameter).collect();
    let template = Template::read(found.path, &parameters)?;
    let answer = answer(document, found.value);
    let (description, annotations) = (description(found), annotations(&found.method));
    let short = cleaned(&description, BRIEF);
    let brief = json!({"name": name.as_str(), "description": short, "inputSchema": outline(&input), "annotations": annotations});
    let mut tool = json!({"name": name.as_str(), "description": description, "inputSchema": input, "annotations": annotations});
    if let Some(schema) = answer.and_then(|(_, schema)| output(document, schema?)) {
        tool["outputSchema"] = schema;
    }
    Ok(Operation {
        name,
        method: found.method.clone(),
        path: found.path.into(),
        effect: found.effect(),
        tool: Bytes::from(tool.to_string()),
        brief: Bytes::from(brief.to_string()),
        needs: security::needs(document, found.value),
        form: RequestForm {
            template,
            parameters,
            body: body.map(|described| described.body),
            accept: accept(answer.map(|(kind, _)| kind)),
        },
    })
}

/// Gives each parameter and the body an argument of its own: their names, and where those collide, with the place before.
fn keyed(parameters: &mut [Described<'_>], body: Option<&mut body::Described<'_>>) {
    let mut taken: HashSet<Box<str>> = HashSet::new();
    for described in parameters {
        let parameter = &mut described.parameter;
        let mut key = parameter.name.clone();
        let mut number = 1;
        while !taken.insert(key.clone()) {
            let ending = if number == 1 { String::new() } else { format!("_{number}") };
            key = format!("{}_{}{ending}", parameter.place.word(), parameter.name).into();
            number += 1;
        }
        parameter.key = key;
    }
    if let Some(described) = body {
        let mut number = 1;
        while !taken.insert(described.body.key.clone()) {
            number += 1;
            described.body.key = format!("body_{number}").into();
        }
    }
}

fn input(document: &Document, parameters: &[Described<'_>], body: Option<&body::Described<'_>>) -> Result<Value, Unusable> {
    let mut writer = Writer::new(document, Direction::Request, INPUT);
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for Described { parameter, schema, description } in parameters {
        let mut written = schema.map_or_else(|| json!({"type": "string"}), |schema| writer.write(schema));
        if let (Some(text), Some(object)) = (description, written.as_object_mut()) {
            object.insert("description".to_owned(), cleaned(text, PARAMETER).into());
        }
        properties.insert(parameter.key.to_string(), written);
        if parameter.required {
            required.push(&*parameter.key);
        }
    }
    if let Some(described) = body {
        let mut written = match described.schema {
            _ if described.body.form == Form::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Some(schema) => match &described.body.form {
                Form::Parts { files, .. } => with_files(writer.write(document.follow(schema)?), files),
                _ => writer.write(schema),
            },
            None if described.body.form == Form::Text => json!({"type": "string"}),
            None => json!({}),
        };
        let kind = described.body.kind.to_str().unwrap_or_default();
        let said = cleaned(described.description.unwrap_or_default(), PARAMETER);
        if let Some(object) = written.as_object_mut().filter(|object| !object.contains_key("description")) {
            let text = if kind == "application/json" { said } else { format!("{said} ({kind})").trim_start().to_owned() };
            if !text.is_empty() {
                object.insert("description".to_owned(), text.into());
            }
        }
        properties.insert(described.body.key.to_string(), written);
        if described.body.required {
            required.push(&*described.body.key);
        }
    }
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if let Some(defs) = writer.defs()? {
        schema["$defs"] = defs;
    }
    Ok(schema)
}

/// An input schema with no more than names and types, two levels deep.
fn outline(schema: &Value) -> Value {
    let resolved = |part: &'_ Value| -> Value {
        let reference = part.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        reference.and_then(|pointer| schema.pointer(pointer)).unwrap_or(part).clone()
    };
    let typed = |part: &Value| part.get("type").map_or_else(|| json!({}), |kind| json!({"type": kind}));
    let mut outline = json!({"type": "object", "properties": {}});
    if let Some(required) = schema.get("required") {
        outline["required"] = required.clone();
    }
    for (name, part) in schema.get("properties").and_then(Value::as_object).into_iter().flatten().take(OUTLINED) {
        let part = resolved(part);
        let mut short = typed(&part);
        if let Some(members) = part.get("properties").and_then(Value::as_object) {
            short["properties"] = members.iter().take(OUTLINED).map(|(name, member)| (name.clone(), typed(&resolved(member)))).collect();
        }
        outline["properties"][name] = short;
    }
    outline
}

/// Members that are files are given in Base64.
fn with_files(mut schema: Value, files: &[Box<str>]) -> Value {
    for file in files {
        let Some(property) = schema.get_mut("properties").and_then(|properties| properties.get_mut(&**file)) else { continue };
        let property = if property.get("items").is_some() { &mut property["items"] } else { property };
        let said = property.get("description").and_then(Value::as_str).unwrap_or_default();
        let said = format!("{said} A file: its bytes in Base64, or with a name {{content: Base64, filename, contentType}}");
        let bytes = json!({"type": "string", "contentEncoding": "base64"});
        *property = json!({
            "description": said.trim_start(),
            "anyOf": [bytes, {
                "type": "object",
                "properties": {"content": bytes, "filename": {"type": "string"}, "contentType": {"type": "string"}},
                "required": ["content"],
                "additionalProperties": false,
            }],
        });
    }
    schema
}

/// The schema of results, if it can be written.
fn output(document: &Document, schema: &Value) -> Option<Value> {
    let mut writer = Writer::new(document, Direction::Response, OUTPUT);
    let mut written = writer.write(schema);
    if let (Some(defs), Some(object)) = (writer.defs().ok()?, written.as_object_mut()) {
        object.insert("$defs".to_owned(), defs);
    }
    Some(written)
}

/// The type of a good answer, JSON before others, and the schema where it is JSON.
fn answer<'d>(document: &'d Document, operation: &'d Value) -> Option<(&'d str, Option<&'d Value>)> {
    let responses = operation.get("responses")?.as_object()?;
    let mut good: Vec<(&String, &Value)> =
        responses.iter().take(64).filter(|(status, _)| status.starts_with('2') || status.starts_with("default")).collect();
    good.sort_by_key(|(status, _)| *status);
    let mut other = None;
    for (_, response) in good {
        let content = document.follow(response).ok().and_then(|response| response.get("content")).and_then(Value::as_object);
        for (kind, media) in content.into_iter().flatten().take(16) {
            if kind.contains("json") {
                return Some((kind, media.get("schema")));
            }
            other.get_or_insert((kind.as_str(), None));
        }
    }
    other
}

fn accept(kind: Option<&str>) -> HeaderValue {
    let kind = kind.filter(|kind| kind.len() <= 120 && !kind.contains('*'));
    let said = kind.and_then(|kind| HeaderValue::from_str(&format!("{kind}, */*;q=0.1")).ok());
    said.unwrap_or_else(|| HeaderValue::from_static("application/json, */*;q=0.1"))
}

fn description(found: &Found<'_>) -> String {
    let text = |key: &str| found.value.get(key).and_then(Value::as_str).map(|text| cleaned(text, DESCRIPTION)).unwrap_or_default();
    let (summary, more) = (text("summary"), text("description"));
    let mut parts: Vec<&str> = vec![&summary];
    if more != summary {
        parts.push(&more);
    }
    if found.value.get("deprecated") == Some(&Value::Bool(true)) {
        parts.push("Deprecated.");
    }
    let place = cleaned(&format!("{} {}", found.method, found.path), 200);
    parts.push(&place);
    cleaned(&parts.join("\n"), DESCRIPTION + 220)
}

/// MCP's annotations for a method (RFC 9110, 9.2).
fn annotations(method: &Method) -> Value {
    if method.is_safe() {
        return json!({"readOnlyHint": true, "openWorldHint": true});
    }
    let mut hints = json!({"readOnlyHint": false, "openWorldHint": true});
    if method.is_idempotent() {
        hints["destructiveHint"] = true.into();
        hints["idempotentHint"] = true.into();
    }
    hints
}
