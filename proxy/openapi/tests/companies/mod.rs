//! Three large documents as companies have them, some 1,850 operations: each is a table of what there is (`cloud.txt`, `commerce.txt`,
//! `workplace.txt`), and the way in which such companies name operations, page through lists and describe them.
//!
//! All three are invented. What a search finds in them is what it would find in a real one: many operations that differ in one word.

use serde_json::{Map, Value, json};

/// How a company writes its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Machines and networks: `servers/list`, pages by number, lists under their own name.
    Cloud,
    /// A shop: `GetOrders`, pages by the last id that was seen, lists under `data`.
    Commerce,
    /// People at work: `employees.list`, pages by a token, lists under `items`, descriptions in place of summaries.
    Workplace,
}

impl Company {
    pub const ALL: [Self; 3] = [Self::Cloud, Self::Commerce, Self::Workplace];

    pub const fn id(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Commerce => "shop",
            Self::Workplace => "work",
        }
    }

    const fn table(self) -> &'static str {
        match self {
            Self::Cloud => include_str!("cloud.txt"),
            Self::Commerce => include_str!("commerce.txt"),
            Self::Workplace => include_str!("workplace.txt"),
        }
    }
}

/// A line of a table.
pub struct Resource {
    /// One of them, as in `dns_record`.
    pub noun: String,
    /// Several of them.
    pub plural: String,
    /// The noun of what it belongs to, if it does.
    pub parent: Option<(String, String)>,
    /// Names and types.
    pub fields: Vec<(String, String)>,
    /// What it is.
    about: String,
    /// Verbs with summaries.
    actions: Vec<(String, String)>,
}

/// The resources of a company, in the order of its table.
pub fn resources(company: Company) -> Vec<Resource> {
    let mut all: Vec<Resource> = Vec::new();
    let mut above: Option<(String, String)> = None;
    for line in company.table().lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (line, parent) = match line.strip_prefix("> ") {
            Some(line) => (line, above.clone()),
            None => (line, None),
        };
        let mut parts = line.split("; ");
        let mut next = || parts.next().unwrap_or_default();
        let (name, fields, about) = (next(), next(), next());
        let (noun, plural) = name.split_once('/').map_or_else(|| (name, format!("{name}s")), |(noun, plural)| (noun, plural.to_owned()));
        let fields = fields.split(", ").map(|field| field.split_once(':').unwrap_or((field, "string")));
        let actions = parts.filter_map(|part| part.strip_prefix('+')?.split_once(' '));
        if parent.is_none() {
            above = Some((noun.to_owned(), plural.clone()));
        }
        all.push(Resource {
            noun: noun.to_owned(),
            plural,
            parent,
            fields: fields.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect(),
            about: about.to_owned(),
            actions: actions.map(|(verb, summary)| (verb.to_owned(), summary.to_owned())).collect(),
        });
    }
    all
}

/// A company's document, its server at this URL.
pub fn document(company: Company, server: &str) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for resource in resources(company) {
        let name = camel(&format!("{}{}", resource.parent.as_ref().map_or("", |(noun, _)| noun), capital(&resource.noun)));
        schemas.insert(name.clone(), schema(&resource));
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        let (root, above) = match &resource.parent {
            Some((noun, plural)) => {
                (format!("/{}/{{{noun}_id}}/{}", dashed(plural), dashed(&resource.plural)), vec![path(&format!("{noun}_id"))])
            }
            None => (format!("/{}", dashed(&resource.plural)), Vec::new()),
        };
        let one = format!("{}_id", resource.noun);
        let mut below = above.clone();
        below.push(path(&one));
        let say = |verb| operation(company, &resource, verb);
        let mut list = say("list");
        list["parameters"] = Value::Array(above.iter().cloned().chain(paging(company, &resource)).collect());
        list["responses"] = answer(&page(company, &resource, &schema));
        let mut create = say("create");
        create["parameters"] = json!(above);
        create["requestBody"] = body(&schema);
        create["responses"] = answer(&schema);
        paths.insert(root.clone(), json!({"get": list, "post": create}));
        let (mut get, mut update, mut delete) = (say("get"), say("update"), say("delete"));
        get["responses"] = answer(&schema);
        update["requestBody"] = body(&changes(&resource));
        update["responses"] = answer(&schema);
        delete["responses"] = json!({"204": {"description": "Gone."}});
        let changed = if company == Company::Workplace { "put" } else { "patch" };
        paths.insert(format!("{root}/{{{one}}}"), json!({"parameters": below, "get": get, changed: update, "delete": delete}));
        for (verb, summary) in &resource.actions {
            let mut act = named(company, &resource, verb, summary);
            act["parameters"] = json!(below);
            act["requestBody"] = json!({"content": {"application/json": {"schema": {"type": "object", "properties": {
                "comment": {"type": "string", "description": "Kept with the record of what was done."},
            }}}}});
            act["responses"] = answer(&schema);
            paths.insert(format!("{root}/{{{one}}}/{}", dashed(verb)), json!({"post": act}));
        }
    }
    json!({
        "openapi": if company == Company::Cloud { "3.1.0" } else { "3.0.3" },
        "info": {"title": company.id(), "version": "2"},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn operation(company: Company, resource: &Resource, verb: &str) -> Value {
    let (one, several) = (with_article(&resource.noun), plain(&resource.plural));
    let noun = plain(&resource.noun);
    let of = resource.parent.as_ref().map(|(parent, _)| format!(" of {}", with_article(parent))).unwrap_or_default();
    let summary = match (company, verb) {
        (Company::Cloud, "list") => format!("List {several}{of}"),
        (Company::Cloud, "get") => format!("Get {one}"),
        (Company::Commerce, "list") => format!("List all {several}{of}"),
        (Company::Commerce, "get") => format!("Retrieve {one}"),
        (Company::Workplace, "list") => format!("Lists {several}{of}"),
        (Company::Workplace, "get") => format!("Gets one {noun} by its ID"),
        (Company::Workplace, "create") => format!("Adds {one}{of}"),
        (Company::Workplace, "update") => format!("Replaces the details of {one}"),
        (Company::Workplace, "delete") => format!("Removes {one}"),
        (_, "create") => format!("Create {one}{of}"),
        (_, "update") => format!("Update {one}"),
        _ => format!("Delete {one}"),
    };
    named(company, resource, verb, &summary)
}

fn named(company: Company, resource: &Resource, verb: &str, summary: &str) -> Value {
    let scope: Vec<&str> = resource.parent.iter().map(|(_, plural)| plural.as_str()).chain([resource.plural.as_str()]).collect();
    let id = match company {
        Company::Cloud => format!("{}/{}", dashed(&scope.join("-")), dashed(verb)),
        Company::Commerce => {
            let (method, last) = match verb {
                "list" => ("Get", String::new()),
                "create" => ("Post", String::new()),
                "get" => ("Get", capital(&resource.noun)),
                "update" => ("Patch", capital(&resource.noun)),
                "delete" => ("Delete", capital(&resource.noun)),
                other => ("Post", format!("{}{}", capital(&resource.noun), capital(other))),
            };
            camel(&format!("{method}{}{last}", scope.iter().map(|part| capital(part)).collect::<String>()))
        }
        Company::Workplace => format!("{}.{}", scope.iter().map(|part| low(part)).collect::<Vec<_>>().join("."), low(verb)),
    };
    let about = format!("{}: {}.", capital(&plain(&resource.noun)), resource.about);
    let tag = plain(resource.parent.as_ref().map_or(&resource.plural, |(_, plural)| plural));
    if company == Company::Workplace {
        return json!({"operationId": id, "tags": [tag], "description": format!("{summary}. {about}")});
    }
    json!({"operationId": id, "tags": [tag], "summary": summary, "description": about})
}

fn schema(resource: &Resource) -> Value {
    let own = resource.fields.iter().map(|(name, kind)| (name.clone(), field(kind)));
    let id = ("id".to_owned(), json!({"type": "string", "readOnly": true}));
    let properties: Map<String, Value> = std::iter::once(id).chain(own).collect();
    json!({"type": "object", "required": ["id", resource.fields[0].0], "properties": properties})
}

/// All fields and none required.
fn changes(resource: &Resource) -> Value {
    let properties: Map<String, Value> = resource.fields.iter().map(|(name, kind)| (name.clone(), field(kind))).collect();
    json!({"type": "object", "properties": properties})
}

fn field(kind: &str) -> Value {
    match kind {
        "int" => json!({"type": "integer"}),
        "number" => json!({"type": "number"}),
        "bool" => json!({"type": "boolean"}),
        "list" => json!({"type": "array", "items": {"type": "string"}}),
        "time" => json!({"type": "string", "format": "date-time"}),
        "date" => json!({"type": "string", "format": "date"}),
        _ => json!({"type": "string"}),
    }
}

fn paging(company: Company, resource: &Resource) -> Vec<Value> {
    let query = |name: &str, kind: &str, text: &str| json!({"name": name, "in": "query", "description": text, "schema": {"type": kind}});
    let status = resource.fields.iter().any(|(name, _)| name == "status").then(|| query("status", "string", "Only those in this state."));
    let paging = match company {
        Company::Cloud => {
            vec![query("page", "integer", "From one."), query("per_page", "integer", "At most 100."), query("q", "string", "Words.")]
        }
        Company::Commerce => {
            vec![query("limit", "integer", "At most 100."), query("starting_after", "string", "The last id that was seen.")]
        }
        Company::Workplace => {
            vec![
                query("pageSize", "integer", "At most 200."),
                query("pageToken", "string", "From the page before."),
                query("orderBy", "string", "A field."),
            ]
        }
    };
    paging.into_iter().chain(status).collect()
}

fn page(company: Company, resource: &Resource, schema: &Value) -> Value {
    let list = json!({"type": "array", "items": schema});
    match company {
        Company::Cloud => {
            let meta = json!({"type": "object", "properties": {"total": {"type": "integer"}}});
            json!({"type": "object", "properties": {(resource.plural.clone()): list, "meta": meta}})
        }
        Company::Commerce => json!({"type": "object", "properties": {"data": list, "has_more": {"type": "boolean"}}}),
        Company::Workplace => json!({"type": "object", "properties": {"items": list, "nextPageToken": {"type": "string"}}}),
    }
}

fn path(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

fn body(schema: &Value) -> Value {
    json!({"required": true, "content": {"application/json": {"schema": schema}}})
}

fn answer(schema: &Value) -> Value {
    json!({"200": {"description": "Well.", "content": {"application/json": {"schema": schema}}}})
}

fn plain(name: &str) -> String {
    name.replace('_', " ")
}

fn dashed(name: &str) -> String {
    name.replace('_', "-")
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// `dns_record` as `DnsRecord`.
fn camel(name: &str) -> String {
    name.split('_').map(capital).collect()
}

/// `dns_record` as `dnsRecord`.
fn low(name: &str) -> String {
    name.split('_').enumerate().map(|(at, part)| if at == 0 { part.to_owned() } else { capital(part) }).collect()
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {}", plain(noun))
}
