//! The last attempt and the last status as the `raw` JSON of MQTT, HTTP, `read` and `decode`.
//!
//! The names are those that flows for other gateways read. A field that the battery does not report
//! is absent. A failed read keeps the last status with its old time.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value as Json, json};

use crate::model::derived::BankSummary;
use crate::model::units::Unit;
use crate::model::{
    ChargeLimits, DeviceState, Microohms, Millivolts, Module, Reading, SensorLocation, Snapshot,
    Value,
};

pub fn raw(state: &DeviceState) -> Json {
    json!(Raw(state))
}

/// Written without a tree of values, because MQTT sends one for each read.
pub fn text(state: &DeviceState) -> String {
    // Cannot fail: every key is a string.
    serde_json::to_string(&Raw(state)).unwrap_or_default()
}

/// Serializes the fields that are known.
macro_rules! object {
    ($serializer:expr, { $($key:literal: $value:expr,)* }) => {{
        let mut map = $serializer.serialize_map(None)?;
        $(if let Some(value) = $value {
            map.serialize_entry($key, &value)?;
        })*
        map.end()
    }};
}

struct Raw<'a>(&'a DeviceState);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Raw(state) = self;
        let (profile, snapshot) = (&state.profile, state.snapshot.as_deref());
        let attempt = state.attempt.as_ref();
        let fault = attempt.and_then(|attempt| attempt.fault.as_ref());
        let current = snapshot.filter(|_| attempt.is_some() && fault.is_none());
        let model = snapshot.and_then(|snapshot| snapshot.reading.identity.model.as_ref());
        object!(serializer, {
            "id": Some(&profile.id),
            "type": Some(&profile.brand),
            "port": profile.port.as_ref(),
            "address": profile.address.as_ref(),
            "adapter": profile.adapter.as_ref(),
            "rssi": state.rssi,
            "connected": Some(attempt.is_some_and(|attempt| attempt.connected)),
            "model_nbr": Some(model),
            "got": Some(current.map(|snapshot| snapshot.reading.parts()).unwrap_or_default()),
            "status": Some(snapshot.map(|snapshot| Status(state, snapshot))),
            "error": Some(fault),
        })
    }
}

struct Status<'a>(&'a DeviceState, &'a Snapshot);

impl Serialize for Status<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Status(state, snapshot) = self;
        let reading = &snapshot.reading;
        let alarms = reading.alarms.iter().map(|(alarm, active)| (alarm.name(), active));
        let statuses = reading.alarms.statuses();
        let statuses = statuses.map(|(subject, status)| (subject, status.is_some()));
        let taken = i64::try_from(snapshot.taken.0).unwrap_or(i64::MAX);
        let limits = Some(&reading.limits).filter(|limits| **limits != ChargeLimits::default());
        object!(serializer, {
            "last_update": Some(Value::decimal(taken, 3)),
            "device_info": Some(DeviceInfo(reading)),
            "cell_info": Some(CellInfo(snapshot)),
            "limits": limits.map(Limits),
            "warnings": Some(Map(alarms.chain(statuses))),
            "alarms": Some(state.active_alarms()),
            "bank": snapshot.derived.bank.as_deref().map(Bank),
            "states": Some(&reading.states).filter(|states| !states.is_empty()),
            "counters": Some(&reading.counters).filter(|counters| !counters.is_empty()),
            "unknown_bits": reading.alarms.unknown_bits().next().map(|_| Map(reading.alarms.unknown_bits())),
        })
    }
}

struct Bank<'a>(&'a BankSummary);

impl Serialize for Bank<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Bank(bank) = self;
        object!(serializer, {
            "members_missing": Some(&bank.missing),
            "min_cell_battery": bank.lowest_in.as_ref(),
            "max_cell_battery": bank.highest_in.as_ref(),
            "pack_voltage_spread": value(bank.voltage_spread),
            "soc_spread": value(bank.soc_spread),
        })
    }
}

struct DeviceInfo<'a>(&'a Reading);

impl Serialize for DeviceInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let identity = &self.0.identity;
        object!(serializer, {
            "model": identity.model.as_ref(),
            "hw_rev": identity.hardware.as_ref(),
            "sw_rev": identity.software.as_ref(),
            "serial_number": identity.serial.as_ref(),
            // JK boards report the model in their field of that name.
            "vendor_id": identity.manufacturer.as_ref().or(identity.model.as_ref()),
            "production_date": identity.manufactured.as_ref(),
        })
    }
}

struct CellInfo<'a>(&'a Snapshot);

impl Serialize for CellInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Snapshot { reading, derived, .. } = self.0;
        let (pack, console) = (&reading.pack, &reading.pack.console_status);
        let (cells, probes) = (reading.cells.iter(), |location| reading.probes_at(location));
        let first_probe = |location| probes(location).flatten().next();
        // Like other JK gateways.
        let ohms = |resistance: Microohms| Value::decimal(resistance.to_i64(), 6);
        let extremes = derived.highest_cell.zip(derived.lowest_cell);
        object!(serializer, {
            "total_voltage": value(pack.voltage),
            "current": value(pack.current),
            "power": derived.power.map(|power| Value::from(power).rounded(1)),
            "battery_soc": value(pack.soc),
            "battery_soh": value(pack.soh),
            "capacity_remain": value(pack.remaining),
            "full_capacity": value(pack.full),
            "nominal_capacity": value(pack.design),
            "energy_remain": value(pack.remaining_energy),
            "cycle_count": pack.cycles,
            "energy_charged": derived.energy.map(|it| it.charged.kwh().rounded(3)),
            "energy_discharged": derived.energy.map(|it| it.discharged.kwh().rounded(3)),
            "time_to_full": derived.times.to_full,
            "time_to_empty": derived.times.to_empty,
            "status": derived.activity,
            "base_status": console.base.as_ref(),
            "voltage_status": console.voltage.as_ref(),
            "current_status": console.current.as_ref(),
            "temperature_status": console.temperature.as_ref(),
            "temperatures": list(probes(SensorLocation::Cells).map(value)),
            "temp_mos": value(first_probe(SensorLocation::Mosfet)),
            "temp_ambient": value(first_probe(SensorLocation::Ambient)),
            "temp_average": value(derived.avg_temp),
            "voltages": list(cells.clone().map(|cell| value(cell.voltage))),
            "resistances": list(cells.clone().map(|cell| cell.resistance.map(ohms))),
            "cell_temperatures": list(cells.clone().map(|cell| value(cell.temperature))),
            "cell_voltage_status": list(cells.clone().map(|cell| cell.voltage_status.as_ref())),
            "cell_temperature_status": list(cells.map(|cell| cell.temperature_status.as_ref())),
            "max_cell": extremes.map(|(highest, _)| highest.0),
            "min_cell": extremes.map(|(_, lowest)| lowest.0),
            "max_voltage": value(extremes.map(|(highest, _)| highest.1)),
            "min_voltage": value(extremes.map(|(_, lowest)| lowest.1)),
            "delta_cell_voltage": value(derived.cell_voltage_diff()),
            "balancing": self.0.is_balancing(),
            "balancing_cells": self.0.balancing_cells(),
            "charging_enabled": reading.switches.charging,
            "discharging_enabled": reading.switches.discharging,
            "error_code": pack.error_code,
            "modules": (!reading.modules.is_empty()).then(|| modules(self.0)),
        })
    }
}

/// Of a stack, with its lowest and highest cell voltage.
struct ModuleInfo<'a>(&'a Module, Option<(Millivolts, Millivolts)>);

fn modules(snapshot: &Snapshot) -> Vec<ModuleInfo<'_>> {
    let modules = snapshot.reading.modules.iter().zip(&snapshot.derived.modules);
    modules.map(|(module, range)| ModuleInfo(module, *range)).collect()
}

impl Serialize for ModuleInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ModuleInfo(module, range) = self;
        let cells = Some(&module.cells).filter(|cells| !cells.is_empty());
        let spread = |(low, high): (Millivolts, Millivolts)| high.to_i64() - low.to_i64();
        object!(serializer, {
            "serial_number": module.serial.as_ref(),
            // From 1.
            "first_cell": cells.map(|cells| cells.start + 1),
            "last_cell": cells.map(|cells| cells.end),
            "min_voltage": value(range.map(|(low, _)| low)),
            "max_voltage": value(range.map(|(_, high)| high)),
            "delta_cell_voltage": range.map(|range| Value::decimal(spread(range), 3)),
        })
    }
}

struct Limits<'a>(&'a ChargeLimits);

impl Serialize for Limits<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Limits(limits) = self;
        object!(serializer, {
            "charge_voltage": value(limits.charge_voltage),
            "discharge_voltage": value(limits.discharge_voltage),
            "charge_current": value(limits.charge_current),
            "discharge_current": value(limits.discharge_current),
            "cell_voltage_upper": value(limits.cell_upper),
            "cell_voltage_lower": value(limits.cell_lower),
            "pack_voltage_upper": value(limits.pack_upper),
            "pack_voltage_lower": value(limits.pack_lower),
        })
    }
}

fn value(value: Option<impl Into<Value>>) -> Option<Value> {
    value.map(Into::into)
}

/// Unknown members are `null`; a list without a known one is left out.
fn list<T: Serialize>(
    members: impl Iterator<Item = Option<T>> + Clone,
) -> Option<List<impl Iterator<Item = Option<T>> + Clone>> {
    members.clone().any(|member| member.is_some()).then_some(List(members))
}

struct List<I>(I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for List<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

struct Map<I>(I);

impl<K: Serialize, V: Serialize, I: Iterator<Item = (K, V)> + Clone> Serialize for Map<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.clone())
    }
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
    fn values_show_which_parts_arrived() {
        let mut reading = snapshot().reading;
        reading.received = Parts::default();
        assert_eq!(reading.parts(), Parts { cell_info: true, ..Parts::default() });
        assert_eq!(Reading::default().parts(), Parts::default());
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
