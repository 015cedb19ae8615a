//! Checks JSON against the part of JSON Schema that `tests/schemas` uses.

use serde_json::Value;

/// Every violation, with its place in the document.
pub fn violations(schema: &Value, document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, document, "", &mut found);
    found
}

fn check(schema: &Value, document: &Value, place: &str, found: &mut Vec<String>) {
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" | "then" | "patternProperties" => true,
            "type" => has_type(rule.as_str().expect("one type"), document),
            "enum" => rule.as_array().expect("a list").contains(document),
            "minimum" => number(document).is_none_or(|value| Some(value) >= rule.as_f64()),
            "maximum" => number(document).is_none_or(|value| Some(value) <= rule.as_f64()),
            "exclusiveMinimum" => number(document).is_none_or(|value| Some(value) > rule.as_f64()),
            "minLength" => length(document.as_str().map(|text| text.chars().count()), rule),
            "minItems" => length(document.as_array().map(Vec::len), rule),
            "required" => {
                let names = rule.as_array().expect("a list").iter().filter_map(Value::as_str);
                document
                    .as_object()
                    .is_none_or(|object| names.clone().all(|name| object.contains_key(name)))
            }
            "anyOf" => {
                let choices = rule.as_array().expect("a list").iter();
                choices.clone().any(|choice| violations(choice, document).is_empty())
            }
            "allOf" => {
                for part in rule.as_array().expect("a list") {
                    check(part, document, place, found);
                }
                true
            }
            "if" => {
                if violations(rule, document).is_empty() {
                    check(&schema["then"], document, place, found);
                }
                true
            }
            "items" => {
                for (index, item) in document.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, &format!("{place}/{index}"), found);
                }
                true
            }
            "properties" | "additionalProperties" => true,
            other => panic!("keyword {other} is not supported"),
        };
        if !holds {
            found.push(format!("{place}: {document} breaks {keyword} {rule}"));
        }
    }
    for (name, value) in document.as_object().into_iter().flatten() {
        let place = format!("{place}/{name}");
        match part(schema, name) {
            Some(part) => check(part, value, &place, found),
            None if schema["additionalProperties"] == false => {
                found.push(format!("{place}: unknown"));
            }
            None => {}
        }
    }
}

/// The schema of a property.
fn part<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let patterns = schema["patternProperties"].as_object().into_iter().flatten();
    schema["properties"].get(name).or_else(|| {
        patterns.into_iter().find(|(pattern, _)| is_match(pattern, name)).map(|it| it.1)
    })
}

/// The patterns of `tests/schemas` name cells, or steps of the state of charge.
fn is_match(pattern: &str, name: &str) -> bool {
    match pattern {
        "^Cell([1-9]|1[0-9]|2[0-4])$" => {
            let number = name.strip_prefix("Cell").and_then(|number| number.parse().ok());
            number.is_some_and(|number: u8| (1..=24).contains(&number))
        }
        "^(0|5|[1-9][05]|100)$" => {
            name.parse().is_ok_and(|soc: u8| soc <= 100 && soc.is_multiple_of(5))
        }
        other => panic!("pattern {other} is not supported"),
    }
}

fn has_type(name: &str, document: &Value) -> bool {
    match name {
        "object" => document.is_object(),
        "array" => document.is_array(),
        "string" => document.is_string(),
        "boolean" => document.is_boolean(),
        "null" => document.is_null(),
        "number" => document.is_number(),
        "integer" => document.is_i64() || document.is_u64(),
        other => panic!("type {other} is not supported"),
    }
}

fn number(document: &Value) -> Option<f64> {
    document.as_f64()
}

fn length(actual: Option<usize>, least: &Value) -> bool {
    actual.is_none_or(|actual| actual as u64 >= least.as_u64().unwrap_or_default())
}
