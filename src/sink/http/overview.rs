//! The data of the dashboard.

use serde_json::{Value as Json, json};

use crate::model::catalog::{Category, Get};
use crate::model::{
    BrokerState, Cell, DeviceState, Entry, LinkState, Profile, Snapshot, Value, entries,
};

pub(super) fn broker(broker: Option<&BrokerState>) -> Json {
    json!(broker.map(|broker| {
        json!({
            "address": broker.address, "connected": broker.connected, "trouble": broker.error,
        })
    }))
}

/// Without values unless the battery is online, because old ones would look current. An offline battery has its `last`
/// values instead.
pub fn battery(state: &DeviceState) -> Json {
    let profile = &state.profile;
    let (link, since) = match state.link {
        LinkState::Connecting => ("connecting", None),
        LinkState::Online => ("online", None),
        LinkState::Offline { since } => ("offline", Some(since.0)),
    };
    let snapshot = state.snapshot.as_deref();
    let live = snapshot.filter(|_| state.link == LinkState::Online);
    let cells: Vec<Json> =
        live.map_or(Vec::new(), |snapshot| snapshot.reading.cells.iter().map(cell).collect());
    let last = snapshot.filter(|_| matches!(state.link, LinkState::Offline { .. }));
    let attempt = state.attempt.as_ref();
    let counters = &state.counters;
    json!({
        "id": profile.id, "name": profile.name, "type": profile.brand, "title": profile.title,
        "place": address(profile),
        "link": link, "since": since, "interval_ms": profile.interval_ms,
        "model": snapshot.and_then(|snapshot| snapshot.reading.identity.model.as_ref()),
        "updated": snapshot.map(|snapshot| snapshot.taken.0),
        "attempted": attempt.map(|attempt| attempt.ended.0),
        "fault": attempt.and_then(|attempt| attempt.fault.as_ref()),
        "reads": counters.reads, "errors": counters.errors, "reconnects": counters.reconnects,
        "values": live.map_or(Vec::new(), |_| values(state)),
        "last": last.map(|_| values(state)),
        "cells": cells,
        "alarms": live.map_or(Vec::new(), |_| state.active_alarms()),
        "settings": settings(state),
        // Those that the operator allows.
        "controls": profile.controls,
        "members": snapshot.map_or(Vec::new(), |snapshot| members(snapshot, live.is_some())),
    })
}

/// What `cmd/config` may change, with its names; `null` for a bank.
fn settings(state: &DeviceState) -> Option<Json> {
    let profile = &state.profile;
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let mut settings = json!({
        "paused": state.paused, "poll_interval_s": seconds(profile.interval_ms),
        "timeout_s": seconds(profile.timeout_ms),
    });
    if let Some(ms) = profile.scan_timeout_ms {
        settings["scan_timeout_s"] = json!(seconds(ms));
        settings["address"] = json!(profile.address);
        settings["adapter"] = json!(profile.adapter);
    }
    (!profile.is_bank()).then_some(settings)
}

fn address(profile: &Profile) -> Option<String> {
    if profile.brand == "simulated" {
        return Some("simulated".to_owned());
    }
    match (&profile.port, &profile.address) {
        (Some(port), Some(address)) => Some(format!("{port}, address {address}")),
        (port, address) => port.as_ref().or(address.as_ref()).cloned(),
    }
}

/// The batteries of a bank, without their values.
fn members(snapshot: &Snapshot, live: bool) -> Vec<Json> {
    let Some(bank) = &snapshot.derived.bank else { return Vec::new() };
    let member = |id| json!({"id": id, "missing": live && bank.missing.contains(id)});
    bank.members.iter().map(member).collect()
}

/// All values but those of cells and alarms, which have lists of their own.
pub(super) fn values(state: &DeviceState) -> Vec<Json> {
    let value = |entry: Entry| {
        json!({
            "key": entry.key.to_string(), "name": entry.key.name(), "unit": entry.quantity().kind.unit(),
            "value": entry.value.to_json(), "main": entry.quantity().category == Category::Primary,
            "module": entry.module,
        })
    };
    let is_listed = |entry: &Entry| !matches!(entry.quantity().get, Get::Cell(_) | Get::Alarm);
    entries(state).into_iter().filter(is_listed).map(value).collect()
}

fn cell(cell: &Cell) -> Json {
    let voltage = cell.voltage.map(|voltage| Value::from(voltage).to_json());
    json!({"voltage": voltage, "balancing": cell.balancing})
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::bank::{Bank, Member};
    use crate::model::derive::derive;
    use crate::model::{Alarm, CentiPercent, Millis, Millivolts, Module, Reading, Uptime};

    fn online() -> DeviceState {
        let mut state = DeviceState::new(Profile::sample("rack"));
        let mut reading = Reading::default();
        reading.pack.soc = Some(CentiPercent(6400));
        reading.cells =
            vec![Cell { balancing: Some(true), ..Cell::of(Millivolts(3309)) }, Cell::default()];
        reading.alarms.note(Alarm::CellOvervoltage, true);
        reading.alarms.note(Alarm::FuseBlown, false);
        let (device, derived) = (state.profile.id.clone(), derive(&reading));
        let taken = Millis(7);
        state.snapshot =
            Some(Arc::new(Snapshot { device, sequence: 1, taken, took_ms: 250, reading, derived }));
        state.link = LinkState::Online;
        state
    }

    #[test]
    fn online_battery_has_values_cells_and_alarms() {
        let json = battery(&online());
        assert_eq!(json["link"], "online");
        let soc = json!({"key": "soc", "name": "State of charge", "unit": "%", "value": 64.0, "main": true, "module": null});
        assert_eq!(json["values"][0], soc);
        let cells =
            json!([{"voltage": 3.309, "balancing": true}, {"voltage": null, "balancing": null}]);
        assert_eq!(json["cells"], cells);
        let alarms = json!([{
            "name": "cell_overvoltage", "battery": "rack", "source": "bms", "severity": "protection",
            "words": "rack: cell voltage high, now 3.309 V (BMS protection)", "value": 3.309, "unit": "V",
        }]);
        assert_eq!(json["alarms"], alarms);
        assert_eq!((&json["members"], &json["last"]), (&json!([]), &Json::Null));
    }

    #[test]
    fn settings_are_those_that_can_be_changed() {
        let mut state = online();
        let serial = json!({"paused": false, "poll_interval_s": 30.0, "timeout_s": 0.0});
        assert_eq!(battery(&state)["settings"], serial);
        let address = Some("C8:47:80:37:02:E8".to_owned());
        let profile = Profile { scan_timeout_ms: Some(2500), address, ..Profile::sample("rack") };
        state.profile = Arc::new(profile);
        let found = battery(&state)["settings"].clone();
        assert_eq!(found["scan_timeout_s"], 2.5);
        assert_eq!(
            (&found["address"], &found["adapter"]),
            (&json!("C8:47:80:37:02:E8"), &Json::Null)
        );
        let brand = crate::model::profile::BANK_TYPE.to_owned();
        state.profile = Arc::new(Profile { brand, ..Profile::sample("house") });
        assert_eq!(battery(&state)["settings"], Json::Null);
    }

    #[test]
    fn bank_lists_members_and_marks_missing_ones() {
        let (rack, away) = (online(), DeviceState::new(Profile::sample("away")));
        let mut bank = DeviceState::new(Profile::sample("house"));
        let present = |state| Member { state, present: true };
        let members = [present(&rack), Member { state: &away, present: false }];
        let (reading, derived) = Bank::default().combine(&members, Uptime(7));
        bank.accept((Millis(7), Uptime(0)), 0, reading, derived);
        let json = battery(&bank);
        let expected = json!([{"id": "rack", "missing": false}, {"id": "away", "missing": true}]);
        assert_eq!(json["members"], expected);
        assert_eq!(json["alarms"][0]["battery"], "rack");
        bank.link = LinkState::Offline { since: Millis(9) };
        let expected = json!([{"id": "rack", "missing": false}, {"id": "away", "missing": false}]);
        assert_eq!(battery(&bank)["members"], expected, "not known while offline");
    }

    #[test]
    fn module_value_has_the_module_number() {
        let mut state = DeviceState::new(Profile::sample("stack"));
        let module = Module { serial: Some("X1".into()), ..Module::default() };
        let reading = Reading { modules: vec![Module::default(), module], ..Reading::default() };
        let derived = derive(&reading);
        state.accept((Millis(7), Uptime(0)), 1, reading, derived);
        let json = battery(&state);
        let values = json["values"].as_array().unwrap();
        let serial = values.iter().find(|value| value["value"] == "X1").expect("the serial number");
        assert_eq!(serial["module"], 2);
    }

    #[test]
    fn offline_battery_has_no_values_cells_and_alarms() {
        let mut state = online();
        state.link = LinkState::Offline { since: Millis(9) };
        let json = battery(&state);
        assert_eq!(
            (&json["link"], &json["since"], &json["updated"]),
            (&json!("offline"), &json!(9), &json!(7))
        );
        for list in ["values", "cells", "alarms"] {
            assert_eq!(json[list], json!([]), "{list}");
        }
        assert_eq!(json["last"][0]["value"], 64.0);
    }
}
