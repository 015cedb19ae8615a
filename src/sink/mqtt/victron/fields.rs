//! The table of fields of dbus-mqtt-battery.

use serde_json::{Map, Value as Json, json};

use super::Source;
use crate::model::alarm::Severity;
use crate::model::units::Unit;
use crate::model::{Alarm, AlarmSource, SensorLocation, Threshold, Value};

/// The driver knows this many cells and complains about more.
const MAX_CELLS: usize = 24;

/// The object of a field; empty for the outermost one.
type Group = &'static str;
type Field = (Group, &'static str, fn(&Source<'_>) -> Option<Value>);

const FIELDS: &[Field] = &[
    ("Dc", "Power", |s| value(s.snapshot.derived.power)),
    ("Dc", "Voltage", |s| value(s.snapshot.reading.pack.voltage)),
    ("Dc", "Current", |s| value(s.snapshot.reading.pack.current)),
    ("Dc", "Temperature", |s| value(s.snapshot.derived.avg_temp)),
    ("", "Soc", |s| value(s.snapshot.reading.pack.soc)),
    ("", "Soh", |s| value(s.snapshot.reading.pack.soh)),
    ("", "InstalledCapacity", |s| {
        let pack = &s.snapshot.reading.pack;
        value(pack.full.or(pack.design))
    }),
    ("", "Capacity", |s| value(s.snapshot.reading.pack.remaining)),
    ("", "ConsumedAmphours", |s| {
        let pack = &s.snapshot.reading.pack;
        let consumed = pack.full?.0.saturating_sub(pack.remaining?.0).max(0);
        value(Some(crate::model::MilliampHours(consumed)))
    }),
    ("", "TimeToGo", |s| s.snapshot.derived.times.to_empty.map(Value::integer)),
    ("", "Balancing", |s| flag(s.snapshot.is_balancing())),
    ("Info", "MaxChargeVoltage", |s| value(s.charge_voltage())),
    ("Info", "MaxChargeCurrent", |s| value(s.charge_current())),
    ("Info", "MaxDischargeCurrent", |s| value(s.discharge_current())),
    ("Info", "BatteryLowVoltage", |s| value(s.snapshot.reading.limits.discharge_voltage)),
    ("History", "ChargeCycles", |s| s.snapshot.reading.pack.cycles.map(Value::integer)),
    ("History", "ChargedEnergy", |s| Some(s.snapshot.derived.energy?.charged.kwh())),
    ("History", "DischargedEnergy", |s| Some(s.snapshot.derived.energy?.discharged.kwh())),
    ("System", "MinCellVoltage", |s| value(s.snapshot.derived.lowest_cell.map(|cell| cell.1))),
    ("System", "MinVoltageCellId", |s| s.snapshot.derived.lowest_cell.map(|cell| cell_id(cell.0))),
    ("System", "MaxCellVoltage", |s| value(s.snapshot.derived.highest_cell.map(|cell| cell.1))),
    ("System", "MaxVoltageCellId", |s| s.snapshot.derived.highest_cell.map(|cell| cell_id(cell.0))),
    ("System", "MinCellTemperature", |s| value(s.snapshot.derived.min_temp)),
    ("System", "MaxCellTemperature", |s| value(s.snapshot.derived.max_temp)),
    ("System", "MOSTemperature", |s| {
        value(s.snapshot.reading.probes_at(SensorLocation::Mosfet).flatten().max())
    }),
    ("System", "NrOfCellsPerBattery", |s| {
        let count = s.snapshot.reading.cells.len();
        (count > 0).then(|| Value::integer(count))
    }),
    ("System", "NrOfModulesOnline", |s| Some(Value::integer(modules(s).0))),
    ("System", "NrOfModulesOffline", |s| Some(Value::integer(modules(s).1))),
    ("Voltages", "Sum", |s| {
        let cells = s.snapshot.reading.cells.iter();
        let sum: Option<i64> = cells.map(|cell| Some(cell.voltage?.to_i64())).sum();
        sum.filter(|sum| *sum > 0).map(|sum| Value::decimal(sum, 3))
    }),
    ("Voltages", "Diff", |s| value(s.snapshot.derived.cell_voltage_diff())),
    ("Io", "AllowToCharge", |s| flag(s.snapshot.reading.switches.charging)),
    ("Io", "AllowToDischarge", |s| flag(s.snapshot.reading.switches.discharging)),
    ("Io", "AllowToBalance", |s| flag(s.snapshot.reading.switches.balancing)),
];

/// An alarm of the drivers: its name in dbus-mqtt-battery and in dbus-serialbattery, and what raises it here.
pub(super) struct AlarmField {
    pub name: &'static str,
    pub generic: &'static str,
    alarms: &'static [Alarm],
    threshold: Option<Threshold>,
}

impl AlarmField {
    pub fn has(&self, alarm: Alarm) -> bool {
        self.alarms.contains(&alarm)
    }
}

const fn field(
    name: &'static str,
    generic: &'static str,
    alarms: &'static [Alarm],
    threshold: Option<Threshold>,
) -> AlarmField {
    AlarmField { name, generic, alarms, threshold }
}

pub(super) const ALARMS: &[AlarmField] = {
    use Alarm::*;
    &[
        field(
            "LowVoltage",
            "low_voltage",
            &[PackUndervoltage, PackUndervoltageWarning, UndervoltageLockout],
            None,
        ),
        field(
            "HighVoltage",
            "high_voltage",
            &[PackOvervoltage, PackOvervoltageWarning, OvervoltageLockout, ChargeOvervoltage],
            None,
        ),
        field(
            "LowCellVoltage",
            "low_cell_voltage",
            &[CellUndervoltage, CellUndervoltageWarning],
            Some(Threshold::CellLow),
        ),
        field(
            "HighCellVoltage",
            "high_cell_voltage",
            &[CellOvervoltage, CellOvervoltageWarning],
            Some(Threshold::CellHigh),
        ),
        field("LowSoc", "low_soc", &[LowBattery, LowSocWarning], Some(Threshold::SocLow)),
        field(
            "HighChargeCurrent",
            "high_charge_current",
            &[ChargeOvercurrent, ChargeOvercurrentWarning],
            None,
        ),
        field(
            "HighDischargeCurrent",
            "high_discharge_current",
            &[
                DischargeOvercurrent,
                DischargeOvercurrent2,
                DischargeOvercurrent3,
                DischargeOvercurrentWarning,
                TransientOvercurrent,
                OvercurrentLockout,
                ShortCircuit,
                ShortCircuitLockout,
                DischargeShortCircuit,
            ],
            None,
        ),
        field(
            "CellImbalance",
            "cell_imbalance",
            &[CellDifference, CellDifferenceWarning],
            Some(Threshold::CellDelta),
        ),
        field(
            "HighChargeTemperature",
            "high_charge_temperature",
            &[ChargeOvertemperature, ChargeOvertemperatureWarning],
            None,
        ),
        field(
            "LowChargeTemperature",
            "low_charge_temperature",
            &[ChargeUndertemperature, ChargeUndertemperatureWarning],
            None,
        ),
        field(
            "HighTemperature",
            "high_temperature",
            &[
                DischargeOvertemperature,
                DischargeOvertemperatureWarning,
                CellOvertemperature,
                CellOvertemperatureWarning,
                BatteryOvertemperatureWarning,
                AmbientOvertemperature,
                AmbientOvertemperatureWarning,
                ThermalRunaway,
            ],
            Some(Threshold::TempHigh),
        ),
        field(
            "LowTemperature",
            "low_temperature",
            &[
                DischargeUndertemperature,
                DischargeUndertemperatureWarning,
                CellUndertemperature,
                CellUndertemperatureWarning,
                BatteryUndertemperatureWarning,
                AmbientUndertemperature,
                AmbientUndertemperatureWarning,
            ],
            Some(Threshold::TempLow),
        ),
        field(
            "HighInternalTemperature",
            "high_internal_temperature",
            &[
                MosOvertemperature,
                MosOvertemperatureWarning,
                ChargeMosOvertemperature,
                DischargeMosOvertemperature,
            ],
            None,
        ),
        field("FuseBlown", "fuse_blown", &[FuseBlown], None),
    ]
};

/// Every defect of the battery is one alarm of the driver.
const INTERNAL_FAILURE: AlarmField = field("InternalFailure", "internal_failure", &[], None);

/// Every field. An error names the first value that is missing and that the driver needs in every message.
pub(super) fn payload(source: &Source<'_>) -> Result<Json, &'static str> {
    let (derived, pack) = (&source.snapshot.derived, &source.snapshot.reading.pack);
    pack.voltage.filter(|voltage| voltage.0 > 0).ok_or("voltage")?;
    pack.current.ok_or("current")?;
    derived.power.ok_or("power")?;
    pack.soc.ok_or("state of charge")?;
    let mut root = Map::new();
    for (group, key, get) in FIELDS {
        set(&mut root, group, key, get(source));
    }
    for field in ALARMS.iter().chain([&INTERNAL_FAILURE]) {
        set(&mut root, "Alarms", field.name, level(source, field).map(Value::Integer));
    }
    set(&mut root, "Alarms", "BmsCable", Some(Value::Integer(0)));
    let cells = &source.snapshot.reading.cells;
    if cells.len() <= MAX_CELLS {
        for (number, cell) in (1..).zip(cells) {
            let key = format!("Cell{number}");
            if let Some(voltage) = cell.voltage {
                set(&mut root, "Voltages", &key, Some(voltage.into()));
            }
            set(&mut root, "Balances", &key, flag(cell.balancing));
        }
    }
    Ok(Json::Object(root))
}

fn set(root: &mut Map<String, Json>, group: Group, key: &str, value: Option<Value>) {
    let value = json!(value);
    if group.is_empty() {
        root.insert(key.to_owned(), value);
    } else if let Some(object) = root.entry(group).or_insert_with(|| json!({})).as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// Every alarm that the drivers know.
pub(super) fn alarm_levels<'a>(
    source: &'a Source<'_>,
) -> impl Iterator<Item = (&'static str, Option<i64>)> + 'a {
    let all = ALARMS.iter().chain([&INTERNAL_FAILURE]);
    all.map(|field| (field.generic, level(source, field)))
}

/// 0: no alarm, 1: warning, 2: alarm; `None` if the battery does not watch for it.
fn level(source: &Source<'_>, field: &AlarmField) -> Option<i64> {
    let is_failure = field.name == INTERNAL_FAILURE.name;
    let belongs = |alarm: &Alarm| match is_failure {
        true => alarm.severity() == Severity::Fault && *alarm != Alarm::FuseBlown,
        false => field.has(*alarm),
    };
    let raises = |name: &str, by: AlarmSource| match by {
        AlarmSource::Bms => Alarm::from_name(name).is_some_and(|alarm| belongs(&alarm)),
        AlarmSource::Threshold => field.threshold.is_some_and(|t| t.name() == name),
    };
    let active = source.alarms.iter().filter(|alarm| raises(&alarm.name, alarm.source));
    let level = active.map(|alarm| if alarm.severity == Severity::Warning { 1 } else { 2 }).max();
    let is_watched = || {
        let (alarms, thresholds) =
            (&source.snapshot.reading.alarms, &source.snapshot.derived.thresholds);
        alarms.iter().any(|(alarm, _)| belongs(&alarm))
            || field.threshold.is_some_and(|threshold| thresholds.contains_key(&threshold))
    };
    level.or_else(|| is_watched().then_some(0))
}

fn value(value: Option<impl Into<Value>>) -> Option<Value> {
    value.map(|value| value.into().rounded(3))
}

/// The driver complains about `true` and `false`.
fn flag(on: Option<bool>) -> Option<Value> {
    on.map(|on| Value::Integer(on.into()))
}

fn cell_id(number: usize) -> Value {
    Value::Text(format!("C{number}"))
}

/// How many batteries of a bank answer, and how many do not.
fn modules(source: &Source<'_>) -> (usize, usize) {
    let bank = source.snapshot.derived.bank.as_deref();
    bank.map_or((1, 0), |bank| (bank.members.len() - bank.missing.len(), bank.missing.len()))
}
