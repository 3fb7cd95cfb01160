//! What a program says with `--json`: one object a line.

use serde_json::Value;
use std::time::Duration;

/// One line of a program's standard output.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// `ready`, `link` and so on.
    pub(super) name: String,
    /// When, since that program began.
    pub(super) at: Duration,
    fields: Value,
}

impl Event {
    /// `None` for a line that is no event: a program may say other things too.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let fields: Value = serde_json::from_str(line).ok()?;
        Some(Self {
            name: fields.get("event")?.as_str()?.to_owned(),
            at: Duration::try_from_secs_f64(fields.get("t_ms")?.as_f64()? / 1e3).ok()?,
            fields,
        })
    }

    /// A field as people read it; empty where it is missing.
    pub(super) fn text(&self, field: &str) -> String {
        match self.fields.get(field) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => match number.as_f64() {
                Some(float) if number.is_f64() => format!("{float:.1}"),
                _ => number.to_string(),
            },
            Some(value @ (Value::Bool(_) | Value::Array(_) | Value::Object(_))) => value.to_string(),
        }
    }

    /// A field that is a list of texts, as people read it; empty where it is missing.
    pub(super) fn list(&self, field: &str) -> String {
        let items = self.fields.get(field).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    }

    /// A field as a count; zero where it is missing.
    pub(super) fn count(&self, field: &str) -> u64 {
        self.fields.get(field).and_then(Value::as_u64).unwrap_or(0)
    }

    /// A field as milliseconds; zero where it is missing.
    pub(super) fn millis(&self, field: &str) -> f64 {
        self.fields.get(field).and_then(Value::as_f64).unwrap_or(0.0)
    }
}
