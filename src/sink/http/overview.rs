//! A battery as the dashboard shows it.

use serde_json::{Map, Value as Json, json};

use crate::board::Board;
use crate::history::History;
use crate::model::catalog::{Category, Get, entries};
use crate::model::reading::Cell;
use crate::model::{
    BrokerState, DeviceState, DiscoveredDevice, LinkState, Profile, Snapshot, Value,
};

/// Everything: all batteries, the broker, and what was found.
pub(super) fn overview(board: &Board, history: &History) -> Json {
    let mut all = house(history);
    all.insert("broker".into(), broker(board.broker().as_ref()));
    all.insert("found".into(), board.discovered().iter().map(finding).collect());
    all.insert("batteries".into(), board.states().map(|state| battery(&state)).collect());
    Json::Object(all)
}

/// What does not change while the program runs.
fn house(history: &History) -> Map<String, Json> {
    let mut house = Map::new();
    house.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
    house.insert("history_hours".into(), json!(history.span().as_secs() / 3600));
    house
}

pub(super) fn broker(broker: Option<&BrokerState>) -> Json {
    broker.map_or(Json::Null, |broker| {
        json!({
            "address": broker.address, "connected": broker.connected, "trouble": broker.error,
        })
    })
}

fn finding(finding: &DiscoveredDevice) -> Json {
    json!({"place": finding.address, "words": finding.description, "lines": finding.settings})
}

/// One battery. Values of one that is not online would look like live ones, so there are none.
pub(super) fn battery(state: &DeviceState) -> Json {
    let profile = &state.profile;
    let (link, since) = match state.link {
        LinkState::Connecting => ("connecting", None),
        LinkState::Online => ("online", None),
        LinkState::Offline { since } => ("offline", Some(since.0)),
    };
    let snapshot = state.snapshot.as_deref();
    let live = snapshot.filter(|_| state.link == LinkState::Online);
    let reading = live.map(|snapshot| &snapshot.reading);
    let attempt = state.attempt.as_ref();
    let counters = &state.counters;
    json!({
        "id": profile.id, "name": profile.name, "type": profile.brand, "title": profile.title,
        "place": place(profile),
        "link": link, "since": since, "interval_ms": profile.interval_ms,
        "model": snapshot.and_then(|snapshot| snapshot.reading.identity.model.as_ref()),
        "updated": snapshot.map(|snapshot| snapshot.taken.0),
        "attempted": attempt.map(|attempt| attempt.ended.0),
        "fault": attempt.and_then(|attempt| attempt.fault.as_ref()),
        "reads": counters.reads, "errors": counters.errors, "reconnects": counters.reconnects,
        "values": if live.is_some() { values(state) } else { Vec::new() },
        "cells": reading.map_or(Vec::new(), |reading| reading.cells.iter().map(cell).collect()),
        "alarms": if live.is_some() { state.active_alarms() } else { Vec::new() },
        "members": snapshot.map_or(Vec::new(), |snapshot| members(snapshot, live.is_some())),
    })
}

fn place(profile: &Profile) -> Option<String> {
    if profile.brand == "simulated" {
        return Some("simulated".to_owned());
    }
    match (&profile.port, &profile.address) {
        (Some(port), Some(address)) => Some(format!("{port}, address {address}")),
        (port, address) => port.as_ref().or(address.as_ref()).cloned(),
    }
}

/// The batteries of a bank. What they say stands with themselves.
fn members(snapshot: &Snapshot, live: bool) -> Vec<Json> {
    let Some(whole) = &snapshot.derived.bank else { return Vec::new() };
    let member = |id| json!({"id": id, "missing": live && whole.missing.contains(id)});
    whole.members.iter().map(member).collect()
}

/// Every value but those of single cells and alarms, which have lists of their own.
fn values(state: &DeviceState) -> Vec<Json> {
    let listed = entries(state)
        .into_iter()
        .filter(|entry| !matches!(entry.quantity.get, Get::Cell(_) | Get::Alarm(_)));
    let value = |entry: crate::model::catalog::Entry| {
        json!({
            "key": entry.key, "name": entry.name, "unit": entry.quantity.kind.unit(),
            "value": entry.value.to_json(), "main": entry.quantity.category == Category::Primary,
            "module": entry.module,
        })
    };
    listed.map(value).collect()
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
    use crate::model::reading::Module;
    use crate::model::units::{CentiPercent, Millis, Millivolts, Uptime};
    use crate::model::{Alarm, Derived, Reading};

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
    fn a_battery_that_answers_has_values_cells_and_alarms_in_words() {
        let view = battery(&online());
        assert_eq!(view["link"], "online");
        let soc = json!({"key": "soc", "name": "State of charge", "unit": "%", "value": 64.0, "main": true, "module": null});
        assert_eq!(view["values"][0], soc);
        let cells =
            json!([{"voltage": 3.309, "balancing": true}, {"voltage": null, "balancing": null}]);
        assert_eq!(view["cells"], cells);
        let alarms = json!([{
            "name": "cell_overvoltage", "battery": "rack", "source": "bms", "severity": "protection",
            "words": "Cell overvoltage: cell 1 of rack at 3.309 V", "cell": 1, "value": 3.309, "unit": "V",
        }]);
        assert_eq!(view["alarms"], alarms);
        assert_eq!(view["members"], json!([]));
    }

    #[test]
    fn a_bank_names_its_members_and_who_is_missing() {
        let (rack, away) = (online(), DeviceState::new(Profile::sample("away")));
        let mut bank = DeviceState::new(Profile::sample("house"));
        let present = |state| Member { state, present: true };
        let members = [present(&rack), Member { state: &away, present: false }];
        let (reading, derived) = Bank::default().combine(&members, Uptime(7));
        bank.accept(Millis(7), 0, reading, derived);
        let view = battery(&bank);
        let told = json!([{"id": "rack", "missing": false}, {"id": "away", "missing": true}]);
        assert_eq!(view["members"], told);
        assert_eq!(view["alarms"][0]["battery"], "rack");
        bank.link = LinkState::Offline { since: Millis(9) };
        let told = json!([{"id": "rack", "missing": false}, {"id": "away", "missing": false}]);
        assert_eq!(battery(&bank)["members"], told, "that was then");
    }

    #[test]
    fn a_value_of_a_module_says_of_which() {
        let mut state = DeviceState::new(Profile::sample("stack"));
        let module = Module { serial: Some("X1".into()), ..Module::default() };
        let reading = Reading { modules: vec![Module::default(), module], ..Reading::default() };
        state.accept(Millis(7), 1, reading, Derived::default());
        let view = battery(&state);
        let values = view["values"].as_array().unwrap();
        let serial = values.iter().find(|value| value["value"] == "X1").expect("its number");
        assert_eq!(serial["module"], 2);
    }

    #[test]
    fn a_battery_that_does_not_answer_has_none_that_look_live() {
        let mut state = online();
        state.link = LinkState::Offline { since: Millis(9) };
        let view = battery(&state);
        assert_eq!(
            (&view["link"], &view["since"], &view["updated"]),
            (&json!("offline"), &json!(9), &json!(7))
        );
        for list in ["values", "cells", "alarms"] {
            assert_eq!(view[list], json!([]), "{list}");
        }
    }
}
