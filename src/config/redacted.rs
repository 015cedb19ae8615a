//! What somebody said, for reports that are passed on: without secrets.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fault::Findings;
use super::source;
use super::variables::{BMS_PASSWORD, DEVICES, VARIABLES};
use crate::model::Secret;
use crate::model::secret::MASK;

/// What was set, by whatever name.
#[derive(Debug)]
pub struct RedactedConfig {
    /// Name and value of each variable that was set; a secret one has no value to show.
    pub values: Vec<(&'static str, String)>,
    /// What must not stand in a report, wherever it comes from.
    pub secrets: Vec<Secret>,
}

/// Everything that the sources say, right or wrong.
pub fn redacted(environment: BTreeMap<String, String>) -> RedactedConfig {
    // The faults are told by `load`.
    let values = source::collect(environment, &mut Findings::default());
    let mut told = RedactedConfig { values: Vec::new(), secrets: Vec::new() };
    for variable in VARIABLES {
        let Some(text) = values.given(variable) else { continue };
        let shown = if variable.name == DEVICES.name {
            told.secrets.extend(passwords(text));
            without_passwords(text)
        } else if variable.secret {
            told.secrets.push(Secret::new(text));
            MASK.to_owned()
        } else {
            text.to_owned()
        };
        told.values.push((variable.name, shown));
    }
    told
}

/// The batteries with their passwords masked; a list that cannot be read is not shown at all.
fn without_passwords(text: &str) -> String {
    let Ok(mut list) = serde_json::from_str::<Value>(text) else { return MASK.to_owned() };
    for (key, value) in fields(&mut list) {
        if is_password(key) {
            *value = Value::from(MASK);
        }
    }
    list.to_string()
}

fn passwords(text: &str) -> Vec<Secret> {
    let mut list = serde_json::from_str::<Value>(text).unwrap_or_default();
    fields(&mut list)
        .filter(|(key, _)| is_password(key))
        .map(|(_, value)| Secret::new(value.as_str().map_or(value.to_string(), str::to_owned)))
        .collect()
}

fn fields(list: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    let elements = list.as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    elements.iter_mut().filter_map(Value::as_object_mut).flatten()
}

fn is_password(key: &str) -> bool {
    BMS_PASSWORD.key.is_some_and(|name| name.eq_ignore_ascii_case(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn secrets_are_named_but_not_shown() {
        let told = redacted(environment(&[
            ("MQTT_PASSWORD", "hunter2"),
            ("MQTT_BROKER", "broker.lan"),
            (
                "DEVICES",
                r#"[{"id": "a", "type": "daren", "Password": "123456", "port": "/dev/x"}]"#,
            ),
            ("PATH", "/usr/bin"),
        ]));
        let shown = format!("{:?}", told.values);
        assert!(!shown.contains("hunter2") && !shown.contains("123456"), "{shown}");
        assert!(shown.contains("/dev/x") && shown.contains("broker.lan"), "{shown}");
        assert!(!shown.contains("PATH"));
        let secrets: Vec<_> = told.secrets.iter().map(Secret::expose).collect();
        assert!(secrets.contains(&"hunter2") && secrets.contains(&"123456"), "{secrets:?}");
    }

    #[test]
    fn a_broken_list_of_batteries_is_not_shown() {
        let told = redacted(environment(&[("DEVICES", r#"[{"password": "123456""#)]));
        assert_eq!(told.values, [("DEVICES", MASK.to_owned())]);
    }
}
