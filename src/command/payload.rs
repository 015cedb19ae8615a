//! Commands and their replies as text: the same over MQTT and HTTP.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Command, ConfigChange};
use crate::did_you_mean::closest;
use crate::model::profile::{INTERVAL_MS, SCAN_TIMEOUT_MS, TIMEOUT_MS, address_bytes};
use crate::model::{Energy, MilliwattHours};

const FIELDS: [&str; 8] = [
    "address",
    "adapter",
    "poll_interval_s",
    "timeout_s",
    "scan_timeout_s",
    "paused",
    "energy_charged_kwh",
    "energy_discharged_kwh",
];

/// The payload of `cmd/config`. One invalid field rejects all of them.
pub fn parse_config(payload: &[u8]) -> Result<ConfigChange, String> {
    let fields: Map<String, Value> = serde_json::from_slice(payload).map_err(|error| {
        format!("not a JSON object: {error}; example: {{\"poll_interval_s\": 10}}")
    })?;
    let mut change = ConfigChange::default();
    for (name, value) in &fields {
        // In all fields but `adapter`, null means the same as an absent field.
        let given = Some(value).filter(|value| !value.is_null());
        match name.as_str() {
            "address" => change.address = given.map(mac_address).transpose()?,
            "adapter" => change.adapter = Some(adapter(value)?),
            "poll_interval_s" => change.interval = seconds(name, given, INTERVAL_MS)?,
            "timeout_s" => change.timeout = seconds(name, given, TIMEOUT_MS)?,
            "scan_timeout_s" => change.scan_timeout = seconds(name, given, SCAN_TIMEOUT_MS)?,
            "paused" => {
                let error = || format!("paused: true or false expected, not {value}");
                change.paused =
                    given.map(|paused| paused.as_bool().ok_or_else(error)).transpose()?;
            }
            "energy_charged_kwh" => change.energy_charged = energy(name, given)?,
            "energy_discharged_kwh" => change.energy_discharged = energy(name, given)?,
            unknown => return Err(unknown_field(unknown)),
        }
    }
    Ok(change)
}

fn mac_address(value: &Value) -> Result<String, String> {
    let bytes = value.as_str().and_then(|text| address_bytes(text.trim()));
    let bytes = bytes.ok_or_else(|| {
        format!("address: a Bluetooth address like C8:47:80:37:02:E8 expected, not {value}")
    })?;
    Ok(bytes.map(|byte| format!("{byte:02X}")).join(":"))
}

/// `None` for null and blank text: the first powered adapter.
fn adapter(value: &Value) -> Result<Option<String>, String> {
    let name = if value.is_null() { Some("") } else { value.as_str().map(str::trim) };
    let is_name = |name: &&str| name.len() <= 32 && name.bytes().all(|b| b.is_ascii_alphanumeric());
    let name = name.filter(is_name).ok_or_else(|| {
        format!("adapter: a name like hci0 expected, or null for the first one, not {value}")
    })?;
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

fn seconds(
    name: &str,
    value: Option<&Value>,
    limits_ms: RangeInclusive<i64>,
) -> Result<Option<Duration>, String> {
    let Some(value) = value else { return Ok(None) };
    let [min, max] = [limits_ms.start(), limits_ms.end()].map(|limit| *limit as f64 / 1000.0);
    let number = value.as_f64().filter(|number| (min..=max).contains(number));
    let error = || format!("{name}: a number of seconds from {min} to {max} expected, not {value}");
    Ok(Some(Duration::from_secs_f64(number.ok_or_else(error)?)))
}

fn energy(name: &str, value: Option<&Value>) -> Result<Option<Energy>, String> {
    let Some(value) = value else { return Ok(None) };
    let kwh = value.as_f64().filter(|kwh| (0.0..=1e6).contains(kwh));
    let mwh = kwh.map(|kwh| MilliwattHours((kwh * 1e6).round() as i64));
    let error = || format!("{name}: a number of kWh from 0 to 1000000 expected, not {value}");
    mwh.and_then(Energy::of).map(Some).ok_or_else(error)
}

fn unknown_field(name: &str) -> String {
    match closest(name, FIELDS).filter(|(field, errors)| *errors <= field.len() / 2) {
        Some((field, _)) => format!("unknown field \"{name}\"; did you mean \"{field}\"?"),
        None => format!("unknown field \"{name}\"; fields: {}", FIELDS.join(", ")),
    }
}

/// The payload of a switch command.
pub fn parse_on_off(payload: &[u8]) -> Result<bool, String> {
    match payload.trim_ascii().to_ascii_lowercase().as_slice() {
        b"on" | b"true" | b"1" => Ok(true),
        b"off" | b"false" | b"0" => Ok(false),
        _ => Err("send ON or OFF".to_owned()),
    }
}

/// The reply to a command that was carried out: what is now in force.
pub fn accepted(command: &Command) -> Value {
    match command {
        Command::Read => json!({ "ok": true }),
        Command::Configure(change) => accepted_config(change),
        Command::Switch(setting) => {
            json!({ "ok": true, setting.switch.name(): if setting.on { "ON" } else { "OFF" } })
        }
    }
}

/// The fields that were applied, with their names and units in `cmd/config`.
fn accepted_config(change: &ConfigChange) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| json!(time.as_secs_f64()));
    let kwh = |energy: Option<Energy>| energy.map(|energy| energy.kwh().to_json());
    let fields = [
        ("ok", Some(json!(true))),
        ("address", change.address.as_ref().map(|address| json!(address))),
        ("adapter", change.adapter.as_ref().map(|adapter| json!(adapter))),
        ("poll_interval_s", seconds(change.interval)),
        ("timeout_s", seconds(change.timeout)),
        ("scan_timeout_s", seconds(change.scan_timeout)),
        ("paused", change.paused.map(Value::from)),
        ("energy_charged_kwh", kwh(change.energy_charged)),
        ("energy_discharged_kwh", kwh(change.energy_discharged)),
    ];
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(fields.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(payload: &str) -> Result<ConfigChange, String> {
        parse_config(payload.as_bytes())
    }

    #[test]
    fn every_config_field_is_optional_and_echoed() {
        assert_eq!(parsed("{}"), Ok(ConfigChange::default()));
        let all = parsed(
            r#"{"address": "c8-47-80-37-02-e8", "adapter": "hci1", "poll_interval_s": 0.5,
                "timeout_s": 20, "scan_timeout_s": 5, "paused": true, "energy_charged_kwh": 12.5}"#,
        );
        let expected = ConfigChange {
            address: Some("C8:47:80:37:02:E8".into()),
            adapter: Some(Some("hci1".into())),
            interval: Some(Duration::from_millis(500)),
            timeout: Some(Duration::from_secs(20)),
            scan_timeout: Some(Duration::from_secs(5)),
            paused: Some(true),
            energy_charged: Energy::from_kwh("12.5"),
            energy_discharged: None,
        };
        assert_eq!(all, Ok(expected.clone()));
        let payload = r#"{"ok":true,"address":"C8:47:80:37:02:E8","adapter":"hci1","poll_interval_s":0.5,"timeout_s":20.0,"scan_timeout_s":5.0,"paused":true,"energy_charged_kwh":12.5}"#;
        assert_eq!(accepted(&Command::Configure(expected)).to_string(), payload);
    }

    #[test]
    fn blank_adapter_is_the_first_one() {
        for payload in [r#"{"adapter": null}"#, r#"{"adapter": ""}"#, r#"{"adapter": " "}"#] {
            let change = parsed(payload).expect(payload);
            assert_eq!(change.adapter, Some(None), "{payload}");
            assert_eq!(accepted_config(&change)["adapter"], Value::Null);
        }
        assert_eq!(parsed("{}").expect("empty").adapter, None);
        let error = parsed(r#"{"adapter": 5}"#).expect_err("no text");
        assert!(error.contains("hci0"), "{error}");
    }

    #[test]
    fn errors_name_field_and_allowed_values() {
        for (payload, word) in [
            (r#"{"address": "C8:47:80:37:02"}"#, "address"),
            (r#"{"address": 5}"#, "address"),
            (r#"{"adapter": "hci0; rm"}"#, "adapter"),
            (r#"{"poll_interval_s": 0.4}"#, "0.5 to 3600"),
            (r#"{"poll_interval_s": 3601}"#, "0.5 to 3600"),
            (r#"{"poll_interval_s": "10"}"#, "poll_interval_s"),
            (r#"{"poll_interval_s": 1e999}"#, "JSON"),
            (r#"{"timeout_s": -1}"#, "timeout_s"),
            (r#"{"timeout_s": 121}"#, "0.1 to 120"),
            (r#"{"scan_timeout_s": 0.5}"#, "1 to 60"),
            (r#"{"scan_timeout_s": 61}"#, "1 to 60"),
            (r#"{"paused": "yes"}"#, "paused"),
            (r#"{"energy_charged_kwh": -1}"#, "0 to 1000000"),
            (r#"{"energy_discharged_kwh": 1e7}"#, "energy_discharged_kwh"),
            (r#"{"poll_interval": 10}"#, "poll_interval_s"),
            (r#"{"adress": "x"}"#, "\"address\""),
            (r#"{"colour": "red"}"#, "fields: address, "),
            ("10", "JSON object"),
            ("[]", "JSON object"),
            ("", "JSON object"),
            ("{", "JSON object"),
        ] {
            let error = parsed(payload).expect_err(payload);
            assert!(error.contains(word), "{payload}: {error}");
        }
    }

    #[test]
    fn one_invalid_field_rejects_all() {
        assert!(parsed(r#"{"poll_interval_s": 10, "paused": 1}"#).is_err());
    }

    #[test]
    fn switch_accepts_on_and_off_in_all_spellings_only() {
        for (payload, on) in [(&b"ON"[..], true), (b"off", false), (b" True ", true), (b"0", false)]
        {
            assert_eq!(parse_on_off(payload), Ok(on));
        }
        for payload in [&b""[..], b"toggle", b"2", b"\xff"] {
            assert!(parse_on_off(payload).is_err());
        }
    }
}
