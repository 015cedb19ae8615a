//! The settings that an operator retains at the broker for all batteries of a program.

use serde_json::{Map, Value};

use crate::command::ConfigChange;
use crate::command::payload::parse_config;
use crate::model::{DeviceId, Profile};

/// The changes of a message, which contains the fields of `cmd/config` by the ID of the battery. One
/// invalid field rejects all of them.
pub fn parse(
    payload: &[u8],
    profiles: &[&Profile],
) -> Result<Vec<(DeviceId, ConfigChange)>, String> {
    let batteries: Map<String, Value> = serde_json::from_slice(payload).map_err(|error| {
        format!("not a JSON object: {error}; example: {{\"rack1\": {{\"poll_interval_s\": 10}}}}")
    })?;
    let mut changes: Vec<(DeviceId, ConfigChange)> = Vec::new();
    for (id, fields) in &batteries {
        let profile = profiles.iter().find(|profile| profile.id.as_str() == id);
        let profile = profile.ok_or_else(|| format!("there is no battery \"{id}\""))?;
        let change = parse_config(fields.to_string().as_bytes());
        let change = change.and_then(|change| {
            check(&change, profile, profiles, &changes)?;
            Ok(change)
        });
        changes.push((profile.id.clone(), change.map_err(|error| format!("{id}: {error}"))?));
    }
    Ok(changes)
}

/// What the line of the battery would refuse, and what must not be retained.
fn check(
    change: &ConfigChange,
    profile: &Profile,
    profiles: &[&Profile],
    changes: &[(DeviceId, ConfigChange)],
) -> Result<(), String> {
    if profile.is_bank() {
        return Err("is a bank: configure its batteries".to_owned());
    }
    if change.sets_energy() {
        // Every start would set them again.
        return Err("energy counters are set with cmd/config of the battery only".to_owned());
    }
    let for_ble = change.address.is_some() || change.adapter.is_some();
    if profile.port.is_some() && (for_ble || change.scan_timeout.is_some()) {
        let reason = "address, adapter and scan_timeout_s are for Bluetooth batteries only";
        return Err(reason.to_owned());
    }
    let Some(address) = &change.address else { return Ok(()) };
    let others = profiles.iter().filter(|other| other.id != profile.id);
    let present = others.filter(|other| other.address.as_ref() == Some(address));
    let new = changes.iter().filter(|(_, other)| other.address.as_ref() == Some(address));
    let used = present.map(|other| &other.id).chain(new.map(|(id, _)| id)).next();
    used.map_or(Ok(()), |id| Err(format!("{address} is already the address of {id}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parsed(payload: &str) -> Result<Vec<(DeviceId, ConfigChange)>, String> {
        let mut profiles = ["rack", "jk1", "jk2", "bank"].map(Profile::sample);
        profiles[0].port = Some("/dev/ttyUSB0".into());
        for (profile, address) in
            profiles[1..3].iter_mut().zip(["C8:47:80:37:02:E1", "C8:47:80:37:02:E2"])
        {
            (profile.port, profile.address) = (None, Some(address.into()));
        }
        profiles[3].brand = "bank".into();
        parse(payload.as_bytes(), &profiles.each_ref())
    }

    #[test]
    fn fields_of_each_battery_are_parsed() {
        let changes = parsed(r#"{"rack": {"poll_interval_s": 10}, "jk1": {"adapter": "hci1"}}"#);
        let id = |id| DeviceId::new(id).unwrap();
        let interval = Some(Duration::from_secs(10));
        let expected = [
            (id("rack"), ConfigChange { interval, ..ConfigChange::default() }),
            (id("jk1"), ConfigChange { adapter: Some(Some("hci1".into())), ..Default::default() }),
        ];
        assert_eq!(changes, Ok(expected.to_vec()));
        assert_eq!(parsed("{}"), Ok(Vec::new()));
    }

    #[test]
    fn one_error_rejects_everything() {
        for (battery, fields, error) in [
            ("rack9", "{}", "no battery \"rack9\""),
            ("jk1", r#"{"poll_interval_s": 0.1}"#, "jk1: poll_interval_s"),
            ("jk1", "5", "jk1: not a JSON object"),
            ("jk1", r#"{"energy_charged_kwh": 1}"#, "energy counters"),
            ("rack", r#"{"adapter": "hci1"}"#, "Bluetooth batteries only"),
            ("bank", r#"{"paused": true}"#, "is a bank"),
            ("jk1", r#"{"address": "C8:47:80:37:02:E2"}"#, "already the address of jk2"),
        ] {
            let payload = format!(r#"{{"jk2": {{"poll_interval_s": 5}}, "{battery}": {fields}}}"#);
            let found = parsed(&payload).expect_err(&payload);
            assert!(found.contains(error), "{payload}: {found}");
        }
        let same =
            r#"{"jk1": {"address": "C8:47:80:37:02:E9"}, "jk2": {"address": "C8:47:80:37:02:E9"}}"#;
        assert!(parsed(same).expect_err("twice").contains("already the address of jk1"));
        assert!(parsed("[]").expect_err("no object").contains("example"));
    }
}
