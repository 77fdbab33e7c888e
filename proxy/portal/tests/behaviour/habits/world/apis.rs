//! The three companies' APIs: lists of some length, one of each by its id, and what changes them told as done.

use super::now;
use crate::api::{Sent, answer, json};
use crate::habits::companies::{Company, Resource, resources};
use serde_json::{Map, Value, json as value};

/// How many there are of a resource.
fn count(resource: &Resource) -> usize {
    match resource.noun.as_str() {
        "order" => 130,
        "employee" => 42,
        "server" => 23,
        "leave_request" => 12,
        _ => 3,
    }
}

/// Answers as a company's API does.
pub fn answers(company: Company) -> fn(&Sent) -> Option<Vec<u8>> {
    match company {
        Company::Cloud => |sent| serve(Company::Cloud, sent),
        Company::Commerce => |sent| serve(Company::Commerce, sent),
        Company::Workplace => |sent| serve(Company::Workplace, sent),
    }
}

fn serve(company: Company, sent: &Sent) -> Option<Vec<u8>> {
    let mut words = sent.line.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let url = url::Url::parse(&format!("http://api{target}")).ok()?;
    let segments: Vec<&str> = url.path().trim_start_matches('/').split('/').collect();
    let query = |name: &str| url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    if let Some(says) = now().fault(&format!("{} {}", method, url.path())) {
        return json("429 Too Many Requests", &value!({"error": says}).to_string());
    }
    // The last collection of the path is what it is about.
    let all = resources(company);
    let is_of = |segment: &str, resource: &Resource| resource.plural.replace('_', "-") == segment;
    let at = (0..segments.len()).step_by(2).filter(|at| all.iter().any(|resource| is_of(segments[*at], resource))).max()?;
    let nested = at > 0;
    let resource = all.iter().find(|resource| is_of(segments[at], resource) && resource.parent.is_some() == nested)?;
    let Some(id) = segments.get(at + 1) else {
        if method == "GET" {
            return json("200 OK", &list(company, resource, &query).to_string());
        }
        let mut made: Value = serde_json::from_str(&sent.body).unwrap_or_default();
        note(method, url.path(), &made);
        made["id"] = format!("{}-{}", resource.noun, count(resource) + 1).into();
        return json("200 OK", &made.to_string());
    };
    let number = id.rsplit_once('-').and_then(|(_, number)| number.parse::<usize>().ok());
    let Some(number) = number.filter(|number| (1..=count(resource)).contains(number)) else {
        return json("404 Not Found", &value!({"error": format!("no {} `{id}`", resource.noun)}).to_string());
    };
    let mut one = item(resource, number);
    if method == "GET" {
        return json("200 OK", &one.to_string());
    }
    let given: Value = serde_json::from_str(&sent.body).unwrap_or_default();
    note(method, url.path(), &given);
    if method == "DELETE" {
        return answer("204 No Content", "", b"");
    }
    for (key, given) in given.as_object().into_iter().flatten() {
        one[key] = given.clone();
    }
    json("200 OK", &one.to_string())
}

fn note(method: &str, path: &str, given: &Value) {
    now().done.push((format!("{method} {path}"), given.clone()));
}

fn list(company: Company, resource: &Resource, query: &dyn Fn(&str) -> Option<String>) -> Value {
    let wanted = query("status");
    let all: Vec<Value> = (1..=count(resource)).map(|n| item(resource, n)).collect();
    let all: Vec<Value> = all.into_iter().filter(|item| wanted.as_ref().is_none_or(|status| item["status"] == **status)).collect();
    let number = |name: &str| query(name).and_then(|value| value.parse::<usize>().ok());
    let page = |from: usize, size: usize| all[from.min(all.len())..(from + size).min(all.len())].to_vec();
    match company {
        Company::Cloud => {
            let size = number("per_page").unwrap_or(20).clamp(1, 100);
            let page = page((number("page").unwrap_or(1).max(1) - 1) * size, size);
            value!({(resource.plural.clone()): page, "meta": {"total": all.len()}})
        }
        Company::Commerce => {
            let size = number("limit").unwrap_or(10).clamp(1, 100);
            let after = query("starting_after").and_then(|id| all.iter().position(|item| item["id"] == *id)).map_or(0, |at| at + 1);
            value!({"data": page(after, size), "has_more": after + size < all.len()})
        }
        Company::Workplace => {
            let (size, from) = (number("pageSize").unwrap_or(25).clamp(1, 200), number("pageToken").unwrap_or(0));
            let mut answer = value!({"items": page(from, size)});
            if from + size < all.len() {
                answer["nextPageToken"] = (from + size).to_string().into();
            }
            answer
        }
    }
}

fn item(resource: &Resource, n: usize) -> Value {
    let field = |(name, kind): &(String, String)| {
        let one_of = |words: &[&str]| Value::from(words[n % words.len()]);
        let value = match (name.as_str(), kind.as_str()) {
            ("status", _) if resource.noun == "order" => one_of(&["paid", "open", "cancelled"]),
            ("status", _) if resource.noun == "leave_request" => one_of(&["pending", "approved"]),
            ("status", _) => one_of(&["active", "stopped", "failed"]),
            ("region", _) => one_of(&["fra", "nyc", "sgp"]),
            ("department", _) => one_of(&["sales", "engineering", "support"]),
            ("currency", _) => one_of(&["EUR", "USD"]),
            ("first_name", _) => one_of(&["Ana", "Ben", "Chidi", "Dora", "Emil"]),
            ("employee_id", _) => format!("employee-{n}").into(),
            ("customer_id", _) => format!("customer-{}", 1 + n % 3).into(),
            (_, "int") => (n * 10).into(),
            (_, "number") => (n as f64 * 12.5).into(),
            (_, "bool") => n.is_multiple_of(2).into(),
            (_, "list") => value!(["a", "b"]),
            (_, "date") => format!("2026-{:02}-{:02}", 1 + n % 12, 1 + n % 28).into(),
            (_, "time") => format!("2026-11-{:02}T09:00:00Z", 1 + n % 28).into(),
            (name, _) => format!("{name}-{n}").into(),
        };
        (name.clone(), value)
    };
    let id = ("id".to_owned(), Value::from(format!("{}-{n}", resource.noun)));
    Value::Object(std::iter::once(id).chain(resource.fields.iter().map(field)).collect::<Map<String, Value>>())
}
