//! An attempt as the `raw` JSON that MQTT, HTTP, `read` and `decode` share.
//!
//! The names are those that flows of existing gateways read; a field that a brand does not have is
//! absent, and a failed read keeps the shape (`status` is the last known one with its old time).

use serde_json::{Map, Value as Json, json};

use crate::model::derived::BankSummary;
use crate::model::reading::{ChargeLimits, Reading, SensorLocation};
use crate::model::units::Microohms;
use crate::model::{DeviceState, Snapshot, Value};

/// The whole state of a battery, in the shape of the contract.
pub fn raw(state: &DeviceState) -> Json {
    let profile = &state.profile;
    let attempt = state.attempt.as_ref();
    let fault = attempt.and_then(|attempt| attempt.fault.as_ref());
    let good = state.snapshot.as_deref().filter(|_| attempt.is_some() && fault.is_none());
    let received = good.map(|snapshot| snapshot.reading.received).unwrap_or_default();
    let model = state.snapshot.as_deref().and_then(|s| s.reading.identity.model.clone());

    let mut object = Object::default();
    object.put("id", json!(profile.id));
    object.put("type", json!(profile.brand));
    object.put_some("port", profile.port.as_ref());
    object.put_some("address", profile.address.as_ref());
    object.put_some("adapter", profile.adapter.as_ref());
    object.put_some("rssi", state.rssi);
    object.put("connected", json!(attempt.is_some_and(|attempt| attempt.connected)));
    object.put("model_nbr", json!(model));
    object.put(
        "got",
        json!({
            "device_info": received.device_info,
            "cell_info": received.cell_info,
            "settings": received.settings,
        }),
    );
    object.put("status", state.snapshot.as_deref().map_or(Json::Null, |it| status(state, it)));
    object.put("error", json!(fault));
    object.into_json()
}

fn status(state: &DeviceState, snapshot: &Snapshot) -> Json {
    let reading = &snapshot.reading;
    let seconds = i64::try_from(snapshot.taken.0).unwrap_or(i64::MAX);
    let mut object = Object::default();
    object.put("last_update", Value::decimal(seconds, 3).to_json());
    object.put("device_info", device_info(reading));
    object.put("cell_info", cell_info(snapshot));
    if reading.limits != ChargeLimits::default() {
        object.put("limits", limits(&reading.limits));
    }
    let warnings = reading.alarms.iter().map(|(alarm, on)| (alarm.name(), on));
    let words = reading.alarms.statuses().map(|(subject, word)| (subject, word.is_some()));
    object.put("warnings", warnings.chain(words).collect());
    object.put("alarms", json!(state.active_alarms()));
    if let Some(bank) = snapshot.derived.bank.as_deref() {
        object.put("bank", members(bank));
    }
    if !reading.states.is_empty() {
        object.put("states", reading.states.iter().map(|(name, on)| (*name, *on)).collect());
    }
    if !reading.counters.is_empty() {
        object.put("counters", reading.counters.iter().map(|(name, n)| (*name, *n)).collect());
    }
    if reading.alarms.unknown_bits().next().is_some() {
        object.put("unknown_bits", reading.alarms.unknown_bits().collect());
    }
    object.into_json()
}

/// What only a bank has.
fn members(bank: &BankSummary) -> Json {
    let mut object = Object::default();
    object.put("members_missing", json!(bank.missing));
    object.put_some("min_cell_battery", bank.lowest_in.as_ref());
    object.put_some("max_cell_battery", bank.highest_in.as_ref());
    object.put_value("pack_voltage_spread", bank.voltage_spread);
    object.put_value("soc_spread", bank.soc_spread);
    object.into_json()
}

fn device_info(reading: &Reading) -> Json {
    let identity = &reading.identity;
    let mut object = Object::default();
    object.put_some("model", identity.model.as_ref());
    object.put_some("hw_rev", identity.hardware.as_ref());
    object.put_some("sw_rev", identity.software.as_ref());
    object.put_some("serial_number", identity.serial.as_ref());
    // JK boards fill their field of that name with the model.
    let vendor = identity.manufacturer.as_ref().or(identity.model.as_ref());
    object.put_some("vendor_id", vendor);
    object.put_some("production_date", identity.manufactured.as_ref());
    object.into_json()
}

fn cell_info(snapshot: &Snapshot) -> Json {
    let Snapshot { reading, derived, .. } = snapshot;
    let pack = &reading.pack;
    let mut object = Object::default();
    object.put_value("total_voltage", pack.voltage);
    object.put_value("current", pack.current);
    object.put_value("power", derived.power.map(|power| Value::from(power).rounded(1)));
    object.put_value("battery_soc", pack.soc);
    object.put_value("battery_soh", pack.soh);
    object.put_value("capacity_remain", pack.remaining);
    object.put_value("full_capacity", pack.full);
    object.put_value("nominal_capacity", pack.design);
    object.put_value("energy_remain", pack.remaining_energy);
    object.put_some("cycle_count", pack.cycles);
    object.put_value("energy_charged", derived.energy.map(|it| it.charged.kwh().rounded(3)));
    object.put_value("energy_discharged", derived.energy.map(|it| it.discharged.kwh().rounded(3)));
    object.put_some("time_to_full", derived.times.to_full);
    object.put_some("time_to_empty", derived.times.to_empty);
    object.put_some("status", derived.activity.map(|activity| activity.name()));
    object.put_some("base_status", pack.console_status.base.as_ref());
    object.put_some("voltage_status", pack.console_status.voltage.as_ref());
    object.put_some("current_status", pack.console_status.current.as_ref());
    object.put_some("temperature_status", pack.console_status.temperature.as_ref());

    let place = |place| reading.probes.iter().filter(move |probe| probe.location == place);
    object.put_list("temperatures", place(SensorLocation::Cells).map(|probe| probe.value));
    object.put_value("temp_mos", place(SensorLocation::Mosfet).find_map(|probe| probe.value));
    object.put_value("temp_ambient", place(SensorLocation::Ambient).find_map(|probe| probe.value));
    object.put_value("temp_average", derived.avg_temp);

    object.put_list("voltages", reading.cells.iter().map(|cell| cell.voltage));
    // In ohms, as JK gateways have it.
    let ohms = |resistance: Microohms| Value::decimal(resistance.0.into(), 6);
    object.put_list("resistances", reading.cells.iter().map(|cell| cell.resistance.map(ohms)));
    object.put_list("cell_temperatures", reading.cells.iter().map(|cell| cell.temperature));
    object.put_list("cell_voltage_status", reading.cells.iter().map(|it| word(&it.voltage_status)));
    let temperature_words = reading.cells.iter().map(|cell| word(&cell.temperature_status));
    object.put_list("cell_temperature_status", temperature_words);
    if let (Some((max_cell, max)), Some((min_cell, min))) =
        (derived.highest_cell, derived.lowest_cell)
    {
        object.put("max_cell", json!(max_cell));
        object.put("min_cell", json!(min_cell));
        object.put_value("max_voltage", Some(max));
        object.put_value("min_voltage", Some(min));
        let spread = i64::from(max.0) - i64::from(min.0);
        object.put_value("delta_cell_voltage", Some(Value::decimal(spread, 3)));
    }
    if let Some(cells) = snapshot.balancing_cells() {
        object.put("balancing", json!(!cells.is_empty()));
        object.put("balancing_cells", json!(cells));
    }
    object.put_some("charging_enabled", reading.switches.charging);
    object.put_some("discharging_enabled", reading.switches.discharging);
    object.put_some("error_code", pack.error_code);
    if !reading.modules.is_empty() {
        object.put("modules", modules(snapshot));
    }
    object.into_json()
}

fn word(word: &Option<String>) -> Option<Value> {
    word.clone().map(Value::Text)
}

/// The modules of a stack, each with the numbers (from 1) of its first and last cell.
fn modules(snapshot: &Snapshot) -> Json {
    let modules = snapshot.reading.modules.iter().zip(&snapshot.derived.modules);
    let each = modules.map(|(module, range)| {
        let mut object = Object::default();
        object.put_some("serial_number", module.serial.as_ref());
        if !module.cells.is_empty() {
            object.put("first_cell", json!(module.cells.start + 1));
            object.put("last_cell", json!(module.cells.end));
        }
        object.put_value("min_voltage", range.map(|(low, _)| low));
        object.put_value("max_voltage", range.map(|(_, high)| high));
        let spread = range.map(|(low, high)| Value::decimal((high.0 - low.0).into(), 3));
        object.put_value("delta_cell_voltage", spread);
        object.into_json()
    });
    Json::Array(each.collect())
}

fn limits(limits: &ChargeLimits) -> Json {
    let mut object = Object::default();
    object.put_value("charge_voltage", limits.charge_voltage);
    object.put_value("discharge_voltage", limits.discharge_voltage);
    object.put_value("charge_current", limits.charge_current);
    object.put_value("discharge_current", limits.discharge_current);
    object.put_value("cell_voltage_upper", limits.cell_upper);
    object.put_value("cell_voltage_lower", limits.cell_lower);
    object.put_value("pack_voltage_upper", limits.pack_upper);
    object.put_value("pack_voltage_lower", limits.pack_lower);
    object.into_json()
}

/// A JSON object in the making, into which unknown values do not get.
#[derive(Default)]
struct Object(Map<String, Json>);

impl Object {
    fn put(&mut self, key: &str, value: Json) {
        self.0.insert(key.to_owned(), value);
    }

    fn put_some(&mut self, key: &str, value: Option<impl serde::Serialize>) {
        if let Some(value) = value {
            self.put(key, json!(value));
        }
    }

    fn put_value(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value.into().to_json());
        }
    }

    /// A list keeps the places of unknown members as `null`; a list of nothing but those is absent.
    fn put_list(&mut self, key: &str, values: impl Iterator<Item = Option<impl Into<Value>>>) {
        let list: Vec<Json> =
            values.map(|value| value.map_or(Json::Null, |value| value.into().to_json())).collect();
        if list.iter().any(|value| !value.is_null()) {
            self.put(key, Json::Array(list));
        }
    }

    fn into_json(self) -> Json {
        Json::Object(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::derive::derive;
    use crate::model::reading::{Cell, Module, Parts, Probe};
    use crate::model::units::{CentiPercent, DeciCelsius, Millis, Millivolts};
    use crate::model::{Alarm, Attempt, Fault, FaultKind, Profile};

    fn state() -> DeviceState {
        DeviceState::new(Profile {
            port: Some("/dev/ttyUSB0".into()),
            address: Some("1".into()),
            ..Profile::sample("rack")
        })
    }

    fn attempt(fault: Option<Fault>) -> Option<Attempt> {
        Some(Attempt { number: 1, ended: Millis(1), took_ms: 1, connected: true, fault })
    }

    fn snapshot() -> Snapshot {
        let mut reading = Reading::default();
        reading.pack.soc = Some(CentiPercent(6400));
        reading.cells = vec![Cell::of(Millivolts(3309)), Cell::of(Millivolts(3326))];
        reading.probes = vec![
            Probe { location: SensorLocation::Cells, value: Some(DeciCelsius(220)) },
            Probe { location: SensorLocation::Cells, value: None },
        ];
        reading.alarms.note(Alarm::CellOvervoltage, true);
        reading.alarms.note_unknown_bits("io_status", 0x4000_u16);
        reading.received = Parts { cell_info: true, ..Parts::default() };
        let derived = derive(&reading);
        let device = state().profile.id.clone();
        let taken = Millis(1_771_097_625_510);
        Snapshot { device, sequence: 1, taken, took_ms: 250, reading, derived }
    }

    #[test]
    fn before_the_first_read_everything_is_unknown() {
        let raw = raw(&state());
        assert_eq!(raw["connected"], false);
        assert_eq!(raw["status"], Json::Null);
        assert_eq!(raw["error"], Json::Null);
        assert_eq!(raw["got"]["cell_info"], false);
    }

    #[test]
    fn a_good_read_has_the_contracts_shape() {
        let mut state = state();
        state.snapshot = Some(Arc::new(snapshot()));
        state.attempt = attempt(None);
        let expected = json!({
            "id": "rack", "type": "daren", "port": "/dev/ttyUSB0", "address": "1",
            "connected": true, "model_nbr": null,
            "got": {"device_info": false, "cell_info": true, "settings": false},
            "status": {
                "last_update": 1771097625.51,
                "device_info": {},
                "cell_info": {
                    "battery_soc": 64.0, "temperatures": [22.0, null], "temp_average": 22.0,
                    "voltages": [3.309, 3.326], "max_cell": 2, "min_cell": 1,
                    "max_voltage": 3.326, "min_voltage": 3.309, "delta_cell_voltage": 0.017,
                },
                "warnings": {"cell_overvoltage": true},
                "alarms": [{
                    "name": "cell_overvoltage", "battery": "rack",
                    "words": "rack: Cell overvoltage (highest cell now: cell 2 at 3.326 V)", "cell": 2,
                    "value": 3.326, "unit": "V", "source": "bms", "severity": "protection",
                }],
                "unknown_bits": {"io_status": 16384},
            },
            "error": null,
        });
        assert_eq!(raw(&state), expected);
    }

    #[test]
    fn a_stack_tells_its_modules_and_words() {
        let cells = vec![Cell::of(Millivolts(3309)), Cell::of(Millivolts(3326))];
        let mut reading = Reading { cells, ..Reading::default() };
        reading.cells[1].voltage_status = Some("High".into());
        reading.pack.console_status.voltage = Some("High".into());
        let serial = Some("HPTST1".to_owned());
        reading.modules = vec![Module { serial, cells: 0..2, range: None }, Module::default()];
        reading.alarms.note_status("voltage_status", Some("High"));
        reading.alarms.note_status("current_status", None);
        let derived = derive(&reading);
        let mut state = state();
        state.snapshot = Some(Arc::new(Snapshot { reading, derived, ..snapshot() }));
        let raw = raw(&state);
        let info = &raw["status"]["cell_info"];
        let modules = json!([
            {"serial_number": "HPTST1", "first_cell": 1, "last_cell": 2, "min_voltage": 3.309,
             "max_voltage": 3.326, "delta_cell_voltage": 0.017},
            {},
        ]);
        assert_eq!(info["modules"], modules);
        assert_eq!(info["voltage_status"], "High");
        assert_eq!(info["cell_voltage_status"], json!([null, "High"]));
        assert_eq!(info.get("cell_temperature_status"), None);
        let warnings = json!({"current_status": false, "voltage_status": true});
        assert_eq!(raw["status"]["warnings"], warnings);
    }

    #[test]
    fn a_failed_read_keeps_the_last_status_with_its_old_time() {
        let mut state = state();
        state.snapshot = Some(Arc::new(snapshot()));
        state.attempt = attempt(Some(Fault::new(FaultKind::Timeout, "no answer", "wake it")));
        let raw = raw(&state);
        assert_eq!(raw["status"]["last_update"], 1771097625.51);
        assert_eq!(raw["got"]["cell_info"], false);
        let error = json!({"type": "timeout", "message": "no answer", "hint": "wake it"});
        assert_eq!(raw["error"], error);
    }
}
