//! Events as OTLP log records.

use gnomon_ledger::StoredEvent;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use serde_json::{Map, Value};

/// One request with these events. `describe` makes the one-line body of an event's JSON.
pub(super) fn request(events: &[StoredEvent], resource: &Resource, describe: fn(&str) -> String) -> ExportLogsServiceRequest {
    let scope_logs = ScopeLogs {
        scope: Some(InstrumentationScope { name: "gnomon".to_owned(), ..InstrumentationScope::default() }),
        log_records: events.iter().map(|event| record(event, describe)).collect(),
        ..ScopeLogs::default()
    };
    let logs = ResourceLogs { resource: Some(resource.clone()), scope_logs: vec![scope_logs], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![logs] }
}

/// The sender's attributes: `service.name`, `service.version`, `host.name`.
pub(super) fn resource(version: &str, host: &str) -> Resource {
    let pair = |key: &str, value: &str| key_value(key.to_owned(), Any::StringValue(value.to_owned()));
    Resource {
        attributes: vec![pair("service.name", "gnomon"), pair("service.version", version), pair("host.name", host)],
        ..Resource::default()
    }
}

fn record(event: &StoredEvent, describe: fn(&str) -> String) -> LogRecord {
    // The ledger writes objects; of anything else the text alone is sent.
    let fields: Map<String, Value> = serde_json::from_str(&event.json).unwrap_or_default();
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let level = text("rule.level").unwrap_or_default();
    let nanos = u64::try_from(event.at_ms).unwrap_or_default().saturating_mul(1_000_000);
    LogRecord {
        time_unix_nano: nanos,
        observed_time_unix_nano: nanos,
        severity_number: severity(level).into(),
        severity_text: level.to_owned(),
        body: Some(AnyValue { value: Some(Any::StringValue(describe(&event.json))) }),
        event_name: format!("gnomon.{}", text("event.kind").unwrap_or("event")),
        attributes: fields.into_iter().filter_map(|(key, value)| Some(key_value(key, any(value)?))).collect(),
        ..LogRecord::default()
    }
}

/// The severity of a rule's level. The finer numbers of one name keep levels apart (OpenTelemetry logs data model, SeverityNumber).
fn severity(level: &str) -> SeverityNumber {
    match level {
        "critical" => SeverityNumber::Fatal,
        "high" => SeverityNumber::Error,
        "medium" => SeverityNumber::Warn,
        "low" => SeverityNumber::Info2,
        _ => SeverityNumber::Info,
    }
}

fn key_value(key: String, value: Any) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// `null` is no attribute.
fn any(value: Value) -> Option<Any> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => Any::BoolValue(value),
        Value::String(text) => Any::StringValue(text),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Any::IntValue(whole),
            (None, Some(float)) if !number.is_u64() => Any::DoubleValue(float),
            // Beyond 63 bits: exact as text.
            _ => Any::StringValue(number.to_string()),
        },
        Value::Array(list) => {
            Any::ArrayValue(ArrayValue { values: list.into_iter().map(|value| AnyValue { value: any(value) }).collect() })
        }
        Value::Object(map) => Any::KvlistValue(KeyValueList {
            values: map.into_iter().filter_map(|(key, value)| Some(key_value(key, any(value)?))).collect(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(json: &str) -> LogRecord {
        record(&StoredEvent { seq: 1, at_ms: 1_700_000_000_123, json: json.to_owned() }, |_| "a line".to_owned())
    }

    #[test]
    fn fields_keep_their_names_and_types() {
        let record = one(r#"{"event.kind":"alert","rule.level":"high","server.port":443,"gnomon.sanctioned":false,
            "gnomon.tools":["a","b"],"none":null,"big":18446744073709551615,"half":0.5}"#);
        let value = |key: &str| record.attributes.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone()?.value);
        assert_eq!(value("server.port"), Some(Any::IntValue(443)));
        assert_eq!(value("gnomon.sanctioned"), Some(Any::BoolValue(false)));
        assert_eq!(value("big"), Some(Any::StringValue("18446744073709551615".to_owned())));
        assert_eq!(value("half"), Some(Any::DoubleValue(0.5)));
        assert_eq!(value("none"), None);
        assert!(matches!(value("gnomon.tools"), Some(Any::ArrayValue(list)) if list.values.len() == 2));
        assert_eq!((record.severity_number(), record.severity_text.as_str()), (SeverityNumber::Error, "high"));
        assert_eq!((record.event_name.as_str(), record.time_unix_nano), ("gnomon.alert", 1_700_000_000_123_000_000));
    }

    #[test]
    fn a_line_that_is_no_object_is_sent_as_text_alone() {
        for json in ["", "[]", "nonsense", "{\"a\":"] {
            let record = one(json);
            assert!(record.attributes.is_empty() && record.body.is_some(), "{json}");
        }
    }
}
