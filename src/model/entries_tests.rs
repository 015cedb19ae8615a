use super::*;
use crate::model::reading::{Cell, Module, Probe, Reading};
use crate::model::units::{CentiPercent, DeciCelsius, Milliamps, Millis, Millivolts};
use crate::model::{Alarm, Profile, derive::derive};

fn state(reading: Reading) -> DeviceState {
    let mut state = DeviceState::new(Profile::sample("b"));
    let derived = derive(&reading);
    state.accept((Millis(1_771_097_625_510), crate::model::Uptime(0)), 250, reading, derived);
    state
}

fn texts(state: &DeviceState) -> Vec<(String, String)> {
    entries(state)
        .into_iter()
        .map(|entry| (entry.key.to_string(), entry.value.to_string()))
        .collect()
}

#[test]
fn unknown_values_have_no_entry() {
    let keys: Vec<_> = texts(&state(Reading::default())).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["last_update", "read_duration", "read_errors", "readings_rejected"]);
}

#[test]
fn families_are_numbered_from_one_and_keep_gaps() {
    let cells = vec![Cell::of(Millivolts(3309)), Cell::default(), Cell::of(Millivolts(3326))];
    let probes = vec![
        Probe { location: SensorLocation::Mosfet, value: Some(DeciCelsius(210)) },
        Probe { location: SensorLocation::Cells, value: None },
        Probe { location: SensorLocation::Cells, value: Some(DeciCelsius(-5)) },
    ];
    let mut reading = Reading { cells, probes, ..Reading::default() };
    reading.alarms.note(Alarm::CellOvervoltage, true);
    let texts = texts(&state(reading));
    for (key, text) in [
        ("cell_1_voltage", "3.309"),
        ("cell_3_voltage", "3.326"),
        ("temp_2", "-0.5"),
        ("mos_temp", "21.0"),
        ("min_cell", "1"),
        ("cell_voltage_diff", "0.017"),
        ("alarm_cell_overvoltage", "ON"),
        ("problem", "ON"),
    ] {
        assert!(texts.contains(&(key.into(), text.into())), "{key} is {text} in {texts:?}");
    }
    for key in ["cell_2_voltage", "temp_1", "cell_1_temp", "balancing"] {
        assert!(texts.iter().all(|(other, _)| other != key), "{key} is unknown");
    }
}

#[test]
fn charge_and_discharge_power_are_never_negative() {
    let mut reading = Reading::default();
    reading.pack.voltage = Some(Millivolts(53_020));
    reading.pack.current = Some(Milliamps(-11_160));
    reading.pack.soc = Some(CentiPercent(6400));
    let texts = texts(&state(reading));
    for (key, text) in [
        ("power", "-591.7"),
        ("charge_power", "0.0"),
        ("discharge_power", "591.7"),
        ("soc", "64.0"),
    ] {
        assert!(texts.contains(&(key.into(), text.into())), "{key} is {text} in {texts:?}");
    }
}

#[test]
fn only_module_is_disabled_by_default() {
    for (count, expected) in [(1, false), (2, true)] {
        let cells = vec![Cell::of(Millivolts(3300)); 2];
        let modules = vec![Module { cells: 0..2, ..Module::default() }; count];
        let all = entries(&state(Reading { cells, modules, ..Reading::default() }));
        let range =
            all.iter().find(|entry| entry.key.to_string() == "module_1_min_cell_voltage").unwrap();
        assert_eq!(range.enabled, expected, "{count}");
    }
}

#[test]
fn board_that_reports_no_cells_still_balances() {
    for on in [true, false] {
        let mut reading = Reading::default();
        reading.states.insert("balancing", on);
        let text = if on { "ON" } else { "OFF" };
        let texts = texts(&state(reading));
        assert!(texts.contains(&("balancing".into(), text.into())), "{texts:?}");
    }
}

#[test]
fn many_cells_are_disabled_by_default() {
    let cells_enabled = |cells: usize| {
        let cells = vec![Cell::of(Millivolts(3300)); cells];
        let module = Module { cells: 0..2, ..Module::default() };
        let modules = vec![module.clone(), module];
        let all = entries(&state(Reading { cells, modules, ..Reading::default() }));
        let enabled =
            |key: &str| all.iter().find(|entry| entry.key.to_string() == key).unwrap().enabled;
        let module =
            all.iter().find(|entry| entry.key.to_string() == "module_1_min_cell_voltage").unwrap();
        assert_eq!(module.module, Some(1));
        assert!(enabled("min_cell_voltage") && module.enabled);
        enabled("cell_2_voltage")
    };
    assert!(cells_enabled(32));
    assert!(!cells_enabled(33));
}

#[test]
fn health_is_known_without_a_reading() {
    use crate::model::MilliampHours;
    use crate::model::health_report::HealthSummary;
    let mut state = DeviceState::new(Profile::sample("a"));
    let keys = ["cell_spread_full", "cell_spread_rest", "weakest_cell", "estimated_capacity"];
    let found = |state: &DeviceState| -> Vec<(String, String, bool)> {
        let list = entries(state).into_iter().filter(|it| keys.contains(&&*it.key.to_string()));
        list.map(|it| (it.key.to_string(), it.value.to_string(), it.enabled)).collect()
    };
    assert_eq!(found(&state), []);
    state.health = HealthSummary {
        spread_full: Some(Millivolts(9)),
        spread_rest: None,
        weakest_cell: Some(7),
        capacity: Some(MilliampHours(98_412)),
    };
    let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned(), false);
    let expected = [
        entry("cell_spread_full", "0.009"),
        entry("weakest_cell", "7"),
        entry("estimated_capacity", "98.412"),
    ];
    assert_eq!(found(&state), expected);
}
