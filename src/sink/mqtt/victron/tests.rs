use super::*;
use crate::model::reading::Switch;
use crate::model::{Alarm, Reading};
use crate::sink::mqtt::test_data::{self, READ_AT};

fn feed(limits: Limits) -> Feed {
    let settings = Victron { format: Format::MqttBattery, limits };
    Feed::new(settings, &Topics::new("bms/{id}", "homeassistant", &test_data::profile()))
}

fn payload(reading: Reading, limits: Limits) -> Value {
    let message = feed(limits).update(&test_data::state(reading, 1), true, READ_AT).unwrap();
    assert_eq!((message.topic.as_str(), message.retain), ("bms/rack/victron", false));
    serde_json::from_str(&message.payload).unwrap()
}

fn limit(reading: Reading, amps: i32) -> Value {
    let charge_current = Some(Milliamps(amps * 1000));
    payload(reading, Limits { charge_current, ..Limits::default() })["Info"]["MaxChargeCurrent"]
        .take()
}

#[test]
fn lower_limit_applies_and_none_without_permission() {
    let with = |reported: Option<i32>, charging| {
        let mut reading = test_data::reading(16);
        reading.limits.charge_current = reported.map(|amps| Milliamps(amps * 1000));
        reading.switches.charging = charging;
        reading
    };
    assert_eq!(limit(with(None, None), 80), 80.0);
    assert_eq!(limit(with(Some(50), Some(true)), 80), 50.0);
    assert_eq!(limit(with(Some(90), Some(true)), 80), 80.0);
    assert_eq!(limit(with(Some(90), Some(false)), 80), 0.0);
    assert_eq!(
        payload(with(None, None), Limits::default())["Info"]["MaxChargeCurrent"],
        Value::Null
    );
}

/// Discharge currents are negative in readings and positive in the drivers.
#[test]
fn discharge_limit_is_positive() {
    let mut reading = test_data::reading(16);
    reading.limits.discharge_current = Some(Milliamps(-100_000));
    let payload = payload(reading, Limits::default());
    assert_eq!(payload["Info"]["MaxDischargeCurrent"], 100.0);
    assert_eq!(payload["Dc"]["Current"], -11.16);
    assert_eq!(payload["Dc"]["Power"], -591.703);
}

/// The driver keeps what a message leaves out.
#[test]
fn keys_are_the_same_whatever_is_known() {
    let bare = Reading {
        pack: crate::model::Pack {
            voltage: Some(Millivolts(52_000)),
            current: Some(Milliamps(0)),
            soc: Some(crate::model::CentiPercent(5000)),
            ..Default::default()
        },
        ..Reading::default()
    };
    let keys = |payload: &Value| -> Vec<String> {
        let groups = payload.as_object().unwrap().iter();
        let of = |(group, value): (&String, &Value)| match value {
            Value::Object(fields) => fields.keys().map(|key| format!("{group}.{key}")).collect(),
            _ => vec![group.clone()],
        };
        let is_cell =
            |key: &String| key.contains(".Cell") && key.ends_with(|c: char| c.is_ascii_digit());
        groups.flat_map(of).filter(|key| !is_cell(key)).collect()
    };
    let (bare, full) =
        (payload(bare, Limits::default()), payload(test_data::reading(16), Limits::default()));
    assert_eq!(keys(&bare), keys(&full));
    assert_eq!(bare["Soh"], Value::Null);
    assert_eq!(full["System"]["MinVoltageCellId"], "C1");
}

#[test]
fn alarm_levels_follow_the_severity() {
    let with = |alarms: &[(Alarm, bool)]| {
        let mut reading = test_data::reading(4);
        alarms.iter().for_each(|(alarm, on)| reading.alarms.note(*alarm, *on));
        payload(reading, Limits::default())["Alarms"].take()
    };
    let alarms = with(&[(Alarm::CellUndervoltageWarning, true), (Alarm::EepromFailure, true)]);
    assert_eq!(alarms["LowCellVoltage"], 1);
    assert_eq!(alarms["HighCellVoltage"], 0);
    assert_eq!(alarms["InternalFailure"], 2);
    assert_eq!(alarms["HighChargeCurrent"], Value::Null, "the battery does not watch it");
    let alarms = with(&[(Alarm::CellUndervoltageWarning, true), (Alarm::CellUndervoltage, true)]);
    assert_eq!(alarms["LowCellVoltage"], 2);
}

/// An alarm of the driver that has no alarm here would always be unknown.
#[test]
fn every_alarm_belongs_to_one_field_at_most() {
    for alarm in Alarm::ALL {
        let fields = fields::ALARMS.iter().filter(|field| field.has(*alarm));
        assert!(fields.count() <= 1, "{}", alarm.name());
    }
}

#[test]
fn current_reading_is_repeated_and_the_end_is_announced_once() {
    let mut feed = feed(Limits::default());
    let mut state = test_data::state(test_data::reading(16), 1);
    let at = |milliseconds: u64| Uptime(READ_AT.0 + milliseconds);
    assert!(feed.update(&state, true, at(0)).is_some());
    assert!(feed.update(&state, true, at(REPEAT_MS - 1)).is_none());
    assert!(feed.update(&state, true, at(REPEAT_MS)).is_some());
    state = test_data::state(test_data::reading(16), 2);
    assert!(feed.update(&state, true, at(REPEAT_MS + 1)).is_some());
    let end = feed.update(&state, false, at(90_000)).unwrap();
    let end: Value = serde_json::from_str(&end.payload).unwrap();
    assert_eq!(
        (&end["Info"]["MaxChargeCurrent"], &end["Io"]["AllowToCharge"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(end["Alarms"]["BmsCable"], 2);
    assert!(feed.update(&state, false, at(95_000)).is_none());
    assert!(feed.update(&state, true, at(96_000)).is_some());
}

#[test]
fn serial_battery_names_what_is_missing() {
    let message = |reading: &Reading| {
        let state = test_data::state(reading.clone(), 1);
        let snapshot = state.snapshot.as_deref().unwrap();
        let alarms = state.active_alarms();
        let source = Source { snapshot, limits: Limits::default(), alarms };
        serial_battery::payload(&source, "rack")
    };
    let mut reading = test_data::reading(16);
    let payload = message(&reading).unwrap();
    assert_eq!((&payload["cell_count"], &payload["charge_fet"]), (&json!(16), &json!(true)));
    assert_eq!(payload["serial_number"], "C0B1D2");
    reading.cells[3].voltage = None;
    assert_eq!(message(&reading), Err("cell voltages"));
    reading = test_data::reading(16);
    assert!(reading.switches.get(Switch::Discharging).is_some());
    reading.switches.discharging = None;
    assert_eq!(message(&reading), Err("discharge switch"));
}

/// Its totals are unknown then; that it never reports them would be wrong.
#[test]
fn bank_with_a_missing_member_stops_chargers_without_a_warning() {
    let mut feed = feed(Limits::default());
    let mut state = test_data::state(test_data::reading(16), 1);
    assert!(feed.update(&state, true, READ_AT).is_some());
    let snapshot = std::sync::Arc::make_mut(state.snapshot.as_mut().unwrap());
    let missing = vec![test_data::profile().id];
    snapshot.derived.bank =
        Some(Box::new(crate::model::derived::BankSummary { missing, ..Default::default() }));
    snapshot.reading.pack.soc = None;
    let end = feed.update(&state, true, READ_AT).unwrap();
    let end: Value = serde_json::from_str(&end.payload).unwrap();
    assert_eq!(end["Info"]["MaxChargeCurrent"], 0);
    assert!(!feed.reported);
}
