//! The last attempt and the last status as the `raw` JSON of MQTT, HTTP, `read` and `decode`.
//!
//! The names are those that flows for other gateways read. A field that the battery does not report
//! is absent. A failed read keeps the last status with its old time.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::model::derived::BankSummary;
use crate::model::units::Unit;
use crate::model::{
    ChargeLimits, DeviceState, Microohms, Reading, SensorLocation, Snapshot, Value,
};

pub fn raw(state: &DeviceState) -> Json {
    let (profile, snapshot) = (&state.profile, state.snapshot.as_deref());
    let attempt = state.attempt.as_ref();
    let fault = attempt.and_then(|attempt| attempt.fault.as_ref());
    let current = snapshot.filter(|_| attempt.is_some() && fault.is_none());
    let received = current.map(|snapshot| snapshot.reading.received).unwrap_or_default();
    let model = snapshot.and_then(|snapshot| snapshot.reading.identity.model.as_ref());
    object([
        ("id", Some(json!(profile.id))),
        ("type", Some(json!(profile.brand))),
        ("port", json(&profile.port)),
        ("address", json(&profile.address)),
        ("adapter", json(&profile.adapter)),
        ("rssi", json(&state.rssi)),
        ("connected", Some(json!(attempt.is_some_and(|attempt| attempt.connected)))),
        ("model_nbr", Some(json!(model))),
        ("got", Some(json!(received))),
        ("status", Some(snapshot.map_or(Json::Null, |snapshot| status(state, snapshot)))),
        ("error", Some(json!(fault))),
    ])
}

fn status(state: &DeviceState, snapshot: &Snapshot) -> Json {
    let reading = &snapshot.reading;
    let alarms = reading.alarms.iter().map(|(alarm, active)| (alarm.name(), active));
    let statuses = reading.alarms.statuses().map(|(subject, status)| (subject, status.is_some()));
    let unknown_bits: BTreeMap<_, _> = reading.alarms.unknown_bits().collect();
    let taken = i64::try_from(snapshot.taken.0).unwrap_or(i64::MAX);
    object([
        ("last_update", value(Some(Value::decimal(taken, 3)))),
        ("device_info", Some(device_info(reading))),
        ("cell_info", Some(cell_info(snapshot))),
        ("limits", (reading.limits != ChargeLimits::default()).then(|| limits(&reading.limits))),
        ("warnings", Some(alarms.chain(statuses).collect())),
        ("alarms", Some(json!(state.active_alarms()))),
        ("bank", snapshot.derived.bank.as_deref().map(bank)),
        ("states", json(&Some(&reading.states).filter(|states| !states.is_empty()))),
        ("counters", json(&Some(&reading.counters).filter(|counters| !counters.is_empty()))),
        ("unknown_bits", json(&Some(unknown_bits).filter(|bits| !bits.is_empty()))),
    ])
}

fn bank(bank: &BankSummary) -> Json {
    object([
        ("members_missing", Some(json!(bank.missing))),
        ("min_cell_battery", json(&bank.lowest_in)),
        ("max_cell_battery", json(&bank.highest_in)),
        ("pack_voltage_spread", value(bank.voltage_spread)),
        ("soc_spread", value(bank.soc_spread)),
    ])
}

fn device_info(reading: &Reading) -> Json {
    let identity = &reading.identity;
    // JK boards report the model in their field of that name.
    let vendor = identity.manufacturer.as_ref().or(identity.model.as_ref());
    object([
        ("model", json(&identity.model)),
        ("hw_rev", json(&identity.hardware)),
        ("sw_rev", json(&identity.software)),
        ("serial_number", json(&identity.serial)),
        ("vendor_id", json(&vendor)),
        ("production_date", json(&identity.manufactured)),
    ])
}

fn cell_info(snapshot: &Snapshot) -> Json {
    let Snapshot { reading, derived, .. } = snapshot;
    let (pack, cells, console) = (&reading.pack, &reading.cells, &reading.pack.console_status);
    let probes = |location| {
        let probes = reading.probes.iter().filter(move |probe| probe.location == location);
        probes.map(|probe| probe.value)
    };
    let first_probe = |location| probes(location).flatten().next();
    let text = |text: &Option<String>| text.clone().map(Value::Text);
    // Like other JK gateways.
    let ohms = |resistance: Microohms| Value::decimal(resistance.to_i64(), 6);
    let extremes = derived.highest_cell.zip(derived.lowest_cell);
    let balancing = snapshot.balancing_cells();
    object([
        ("total_voltage", value(pack.voltage)),
        ("current", value(pack.current)),
        ("power", value(derived.power.map(|power| Value::from(power).rounded(1)))),
        ("battery_soc", value(pack.soc)),
        ("battery_soh", value(pack.soh)),
        ("capacity_remain", value(pack.remaining)),
        ("full_capacity", value(pack.full)),
        ("nominal_capacity", value(pack.design)),
        ("energy_remain", value(pack.remaining_energy)),
        ("cycle_count", json(&pack.cycles)),
        ("energy_charged", value(derived.energy.map(|it| it.charged.kwh().rounded(3)))),
        ("energy_discharged", value(derived.energy.map(|it| it.discharged.kwh().rounded(3)))),
        ("time_to_full", json(&derived.times.to_full)),
        ("time_to_empty", json(&derived.times.to_empty)),
        ("status", json(&derived.activity)),
        ("base_status", json(&console.base)),
        ("voltage_status", json(&console.voltage)),
        ("current_status", json(&console.current)),
        ("temperature_status", json(&console.temperature)),
        ("temperatures", list(probes(SensorLocation::Cells))),
        ("temp_mos", value(first_probe(SensorLocation::Mosfet))),
        ("temp_ambient", value(first_probe(SensorLocation::Ambient))),
        ("temp_average", value(derived.avg_temp)),
        ("voltages", list(cells.iter().map(|cell| cell.voltage))),
        ("resistances", list(cells.iter().map(|cell| cell.resistance.map(ohms)))),
        ("cell_temperatures", list(cells.iter().map(|cell| cell.temperature))),
        ("cell_voltage_status", list(cells.iter().map(|cell| text(&cell.voltage_status)))),
        ("cell_temperature_status", list(cells.iter().map(|cell| text(&cell.temperature_status)))),
        ("max_cell", json(&extremes.map(|(highest, _)| highest.0))),
        ("min_cell", json(&extremes.map(|(_, lowest)| lowest.0))),
        ("max_voltage", value(extremes.map(|(highest, _)| highest.1))),
        ("min_voltage", value(extremes.map(|(_, lowest)| lowest.1))),
        ("delta_cell_voltage", value(derived.cell_voltage_diff())),
        ("balancing", json(&snapshot.is_balancing())),
        ("balancing_cells", json(&balancing)),
        ("charging_enabled", json(&reading.switches.charging)),
        ("discharging_enabled", json(&reading.switches.discharging)),
        ("error_code", json(&pack.error_code)),
        ("modules", (!reading.modules.is_empty()).then(|| modules(snapshot))),
    ])
}

/// The modules of a stack with the numbers (from 1) of their first and last cell.
fn modules(snapshot: &Snapshot) -> Json {
    let modules = snapshot.reading.modules.iter().zip(&snapshot.derived.modules);
    let objects = modules.map(|(module, range)| {
        let cells = Some(&module.cells).filter(|cells| !cells.is_empty());
        let spread = range.map(|(low, high)| Value::decimal(high.to_i64() - low.to_i64(), 3));
        object([
            ("serial_number", json(&module.serial)),
            ("first_cell", json(&cells.map(|cells| cells.start + 1))),
            ("last_cell", json(&cells.map(|cells| cells.end))),
            ("min_voltage", value(range.map(|(low, _)| low))),
            ("max_voltage", value(range.map(|(_, high)| high))),
            ("delta_cell_voltage", value(spread)),
        ])
    });
    Json::Array(objects.collect())
}

fn limits(limits: &ChargeLimits) -> Json {
    object([
        ("charge_voltage", value(limits.charge_voltage)),
        ("discharge_voltage", value(limits.discharge_voltage)),
        ("charge_current", value(limits.charge_current)),
        ("discharge_current", value(limits.discharge_current)),
        ("cell_voltage_upper", value(limits.cell_upper)),
        ("cell_voltage_lower", value(limits.cell_lower)),
        ("pack_voltage_upper", value(limits.pack_upper)),
        ("pack_voltage_lower", value(limits.pack_lower)),
    ])
}

/// Unknown values are left out.
fn object(fields: impl IntoIterator<Item = (&'static str, Option<Json>)>) -> Json {
    let known = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Json::Object(known.collect())
}

fn json(value: &Option<impl Serialize>) -> Option<Json> {
    value.as_ref().map(|value| json!(value))
}

fn value(value: Option<impl Into<Value>>) -> Option<Json> {
    value.map(|value| value.into().to_json())
}

/// Unknown members are `null`; a list without a known one is left out.
fn list(values: impl Iterator<Item = Option<impl Into<Value>>>) -> Option<Json> {
    let list: Vec<Option<Json>> = values.map(value).collect();
    list.iter().any(Option::is_some).then(|| json!(list))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::derive::derive;
    use crate::model::{
        Alarm, Attempt, Cell, CentiPercent, DeciCelsius, Fault, FaultKind, Millis, Millivolts,
        Module, Parts, Probe, Profile,
    };

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
    fn no_read_yet_has_no_status_and_no_error() {
        let raw = raw(&state());
        assert_eq!(raw["connected"], false);
        assert_eq!(raw["status"], Json::Null);
        assert_eq!(raw["error"], Json::Null);
        assert_eq!(raw["got"]["cell_info"], false);
    }

    #[test]
    fn good_read_has_the_documented_shape() {
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
                    "words": "rack: cell voltage high, now 3.326 V (BMS protection)",
                    "value": 3.326, "unit": "V", "source": "bms", "severity": "protection",
                }],
                "unknown_bits": {"io_status": 16384},
            },
            "error": null,
        });
        assert_eq!(raw(&state), expected);
    }

    #[test]
    fn stack_has_modules_and_console_states() {
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
    fn failed_read_keeps_the_last_status() {
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
