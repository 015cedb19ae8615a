//! Reads YAML as JSON, for tests of files that other programs read.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

pub fn from_str(text: &str) -> Result<Value, String> {
    let events: Result<Vec<_>, _> = Parser::new_from_str(text).collect();
    let events = events.map_err(|error| error.to_string())?;
    let mut events = events.into_iter().map(|(event, _)| event).filter(|event| {
        !matches!(event, Event::StreamStart | Event::DocumentStart(_) | Event::Nothing)
    });
    let value = value(&mut events)?.ok_or("the file is empty")?;
    match events.next() {
        Some(Event::DocumentEnd) => Ok(value),
        other => Err(format!("{other:?} instead of the end")),
    }
}

/// The next value, or nothing at the end of a list or map.
fn value<'a>(events: &mut impl Iterator<Item = Event<'a>>) -> Result<Option<Value>, String> {
    Ok(Some(match events.next() {
        Some(Event::Scalar(text, ScalarStyle::Plain, _, None)) => plain(&text),
        Some(Event::Scalar(text, _, _, None)) => Value::String(text.into_owned()),
        Some(Event::SequenceStart(_, None)) => {
            let mut list = Vec::new();
            while let Some(item) = value(events)? {
                list.push(item);
            }
            Value::Array(list)
        }
        Some(Event::MappingStart(_, None)) => {
            let mut map = Map::new();
            while let Some(key) = value(events)? {
                let Value::String(key) = key else { return Err(format!("{key} is a key")) };
                let item = value(events)?.ok_or("a key has no value")?;
                if map.insert(key.clone(), item).is_some() {
                    return Err(format!("{key} is written twice"));
                }
            }
            Value::Object(map)
        }
        Some(Event::SequenceEnd | Event::MappingEnd) => return Ok(None),
        other => return Err(format!("{other:?} is not supported")),
    }))
}

/// A number, truth value or null that is not in quotes. Anything else is a text.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" => Value::Null,
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}
