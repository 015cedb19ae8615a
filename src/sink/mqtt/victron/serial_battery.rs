//! The "Generic MQTT" of dbus-serialbattery.

use serde_json::{Map, Value as Json, json};

use super::Source;
use super::fields::alarm_levels;
use super::insert_known;
use crate::model::units::Unit;
use crate::model::{Cell, SensorLocation, Value};

/// One wrong type or one `null` makes the driver refuse the whole message, so what is unknown is left out.
/// An error names the first value that is missing and that the driver requires.
pub(super) fn payload(source: &Source<'_>, id: &str) -> Result<Json, &'static str> {
    let reading = &source.snapshot.reading;
    let pack = &reading.pack;
    let mut root = Map::new();
    let mut temperatures = reading.probes_at(SensorLocation::Cells).flatten();
    let cells: Option<Vec<Json>> = reading.cells.iter().map(cell).collect();
    let cells = cells.filter(|cells| !cells.is_empty()).ok_or("cell voltages")?;
    for (key, value, name) in [
        ("capacity", known(pack.full.or(pack.design)), "capacity"),
        ("voltage", known(pack.voltage), "voltage"),
        ("current", known(pack.current), "current"),
        ("soc", known(pack.soc), "state of charge"),
        ("temperature_1", known(temperatures.next()), "temperature"),
        ("charge_fet", reading.switches.charging.map(Value::Switch), "charge switch"),
        ("discharge_fet", reading.switches.discharging.map(Value::Switch), "discharge switch"),
    ] {
        root.insert(key.to_owned(), value.ok_or(name)?.to_json());
    }
    // Its identity in Venus OS; a battery without a serial number has that of the configuration.
    let serial = reading.identity.serial.as_deref().filter(|serial| !serial.is_empty());
    root.insert("serial_number".to_owned(), json!(serial.unwrap_or(id)));
    root.insert("cell_count".to_owned(), json!(cells.len()));
    root.insert("cells".to_owned(), Json::Array(cells));
    for (key, value) in [
        ("capacity_remain", known(pack.remaining)),
        ("soh", known(pack.soh)),
        ("temperature_2", known(temperatures.next())),
        ("temperature_3", known(temperatures.next())),
        ("temperature_4", known(temperatures.next())),
        ("temperature_mos", known(reading.probes_at(SensorLocation::Mosfet).flatten().max())),
        ("max_battery_charge_current", known(source.charge_current())),
        ("max_battery_discharge_current", known(source.discharge_current())),
        ("max_battery_voltage_bms", known(source.charge_voltage())),
        ("min_battery_voltage_bms", known(reading.limits.discharge_voltage)),
        ("balance_fet", reading.switches.balancing.map(Value::Switch)),
    ] {
        insert_known(&mut root, key, value);
    }
    let mut protection = Map::new();
    for (key, level) in alarm_levels(source) {
        insert_known(&mut protection, key, level.map(Value::Integer));
    }
    root.insert("protection".to_owned(), Json::Object(protection));
    let mut history = Map::new();
    let energy = source.snapshot.derived.energy;
    insert_known(&mut history, "charge_cycles", pack.cycles.map(Value::integer));
    insert_known(&mut history, "charged_energy", energy.map(|energy| energy.charged.kwh()));
    insert_known(&mut history, "discharged_energy", energy.map(|energy| energy.discharged.kwh()));
    root.insert("history".to_owned(), Json::Object(history));
    Ok(Json::Object(root))
}

fn known(quantity: Option<impl Unit>) -> Option<Value> {
    quantity.map(Value::from)
}

/// `None` if the voltage is unknown: the driver needs every cell.
fn cell(cell: &Cell) -> Option<Json> {
    let mut object = Map::new();
    insert_known(&mut object, "voltage", Some(cell.voltage?.into()));
    insert_known(&mut object, "balance", cell.balancing.map(Value::Switch));
    Some(Json::Object(object))
}
