//! What is configured, without secrets, for reports that users publish.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::Reporter;
use super::esphome;
use super::notify;
use super::proxies;
use super::source;
use super::variables::{BLE_PROXIES, BMS_PASSWORD, BMS_PORT, DEVICES, NOTIFY_URL, VARIABLES};
use crate::model::Secret;
use crate::model::secret::MASK;

#[derive(Debug)]
pub struct RedactedConfig {
    /// Name and value of each variable that is set; secrets are masked.
    pub values: Vec<(&'static str, String)>,
    /// Texts that must not appear in a report, wherever they come from.
    pub secrets: Vec<Secret>,
}

/// All values of the sources, valid or not.
pub fn redacted(environment: BTreeMap<String, String>) -> RedactedConfig {
    // `load` reports the diagnostics.
    let values = source::collect(environment, &Reporter::default());
    let mut config = RedactedConfig { values: Vec::new(), secrets: Vec::new() };
    for variable in VARIABLES {
        let Some(text) = values.explicit(variable) else { continue };
        let shown = if variable.name == DEVICES.name {
            redact_devices(text, &mut config.secrets)
        } else if variable.secret {
            if variable.name == NOTIFY_URL.name {
                config.secrets.extend(notify::secrets(text));
            }
            if variable.name == BLE_PROXIES.name {
                config.secrets.extend(proxies::secrets(text));
            }
            config.secrets.push(Secret::new(text));
            MASK.to_owned()
        } else {
            config.secrets.extend(esphome::secrets(text));
            esphome::without_key(text)
        };
        config.values.push((variable.name, shown));
    }
    config
}

/// Masks the passwords of the batteries and the keys in their ports; a list that cannot be parsed is masked as a whole.
fn redact_devices(text: &str, secrets: &mut Vec<Secret>) -> String {
    let Ok(mut list) = serde_json::from_str::<Value>(text) else { return MASK.to_owned() };
    let [password, port] = [&BMS_PASSWORD, &BMS_PORT].map(|it| it.key().unwrap_or_default());
    let elements = list.as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    for (key, value) in elements.iter_mut().filter_map(Value::as_object_mut).flatten() {
        if key.eq_ignore_ascii_case(&password) {
            secrets.push(match std::mem::replace(value, MASK.into()) {
                Value::String(text) => Secret::new(text),
                other => Secret::new(other.to_string()),
            });
        } else if key.eq_ignore_ascii_case(&port)
            && let Some(text) = value.as_str()
        {
            secrets.extend(esphome::secrets(text));
            *value = esphome::without_key(text).into();
        }
    }
    list.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn secret_is_masked_and_listed() {
        let config = redacted(environment(&[
            ("MQTT_PASSWORD", "hunter2"),
            ("MQTT_BROKER", "broker.lan"),
            (
                "DEVICES",
                r#"[{"id": "a", "type": "daren", "Password": "123456", "port": "/dev/x"}]"#,
            ),
            ("PATH", "/usr/bin"),
        ]));
        let shown = format!("{:?}", config.values);
        assert!(!shown.contains("hunter2") && !shown.contains("123456"), "{shown}");
        assert!(shown.contains("/dev/x") && shown.contains("broker.lan"), "{shown}");
        assert!(!shown.contains("PATH"));
        let secrets: Vec<_> = config.secrets.iter().map(Secret::expose).collect();
        assert!(secrets.contains(&"hunter2") && secrets.contains(&"123456"), "{secrets:?}");
    }

    #[test]
    fn broken_device_list_is_masked() {
        let config = redacted(environment(&[("DEVICES", r#"[{"password": "123456""#)]));
        assert_eq!(config.values, [("DEVICES", MASK.to_owned())]);
    }
}
