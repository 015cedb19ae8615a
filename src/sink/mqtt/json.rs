//! Helper for building JSON payloads.

use serde_json::{Map, Value};

/// The fields of a JSON object, without those that are null.
pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(mut map) => {
            map.retain(|_, field| !field.is_null());
            map
        }
        _ => Map::new(),
    }
}
