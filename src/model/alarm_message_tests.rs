use super::*;
use crate::model::derive::derive;
use crate::model::reading::{Cell, Probe};
use crate::model::units::{CentiPercent, DeciCelsius, Milliamps, Millivolts};

fn reading() -> Reading {
    let cells = [3300, 2950, 3660].map(|mv| Cell::of(Millivolts(mv))).to_vec();
    let mut reading = Reading { cells, ..Reading::default() };
    reading.pack.voltage = Some(Millivolts(53_120));
    reading.pack.current = Some(Milliamps(-120_500));
    reading.pack.soc = Some(CentiPercent(1900));
    reading.pack.soh = Some(CentiPercent(7000));
    let probe = |location, celsius: i32| Probe { location, value: Some(DeciCelsius(celsius * 10)) };
    reading.probes = vec![
        probe(SensorLocation::Cells, -3),
        probe(SensorLocation::Cells, 47),
        probe(SensorLocation::Ambient, 31),
        probe(SensorLocation::Mosfet, 92),
    ];
    reading
}

fn describe(alarm: Alarm, reading: &Reading) -> AlarmDescription {
    reported(alarm, reading, &derive(reading))
}

/// One line for each alarm, to be read by people.
#[test]
fn text_of_every_reported_alarm() {
    let reading = reading();
    let line = |alarm: &Alarm| {
        let message = describe(*alarm, &reading).message("Rack 1");
        format!("{}: {message}\n", alarm.name())
    };
    insta::assert_snapshot!(Alarm::ALL.iter().map(line).collect::<String>());
}

#[test]
fn text_of_every_threshold() {
    let status = |value: i64, limit: i64, scale, cell| ThresholdStatus {
        active: true,
        limit: Value::decimal(limit, scale),
        value: Value::decimal(value, scale),
        cell,
    };
    for (threshold, status, text) in [
        (
            Threshold::CellLow,
            status(2950, 3000, 3, Some(2)),
            "Rack 1 cell 2 low, 2.95 V (limit 3 V)",
        ),
        (
            Threshold::CellHigh,
            status(3660, 3650, 3, Some(10)),
            "Rack 1 cell 10 high, 3.66 V (limit 3.65 V)",
        ),
        (
            Threshold::CellDelta,
            status(360, 50, 3, None),
            "Rack 1: cell voltage difference high, 0.36 V (limit 0.05 V)",
        ),
        (
            Threshold::TempHigh,
            status(475, 450, 1, None),
            "Rack 1: temperature high, 47.5 °C (limit 45 °C)",
        ),
        (
            Threshold::TempLow,
            status(-30, 0, 1, None),
            "Rack 1: temperature low, -3 °C (limit 0 °C)",
        ),
        (Threshold::SocLow, status(1900, 2000, 2, None), "Rack 1: charge low, 19 % (limit 20 %)"),
    ] {
        let described = exceeded(threshold, &status);
        assert_eq!(described.message("Rack 1"), text);
        assert_eq!(described.cell, status.cell, "{text}");
        assert_eq!((described.value, described.limit), (Some(status.value), Some(status.limit)));
    }
}

#[test]
fn console_names_the_cell() {
    let mut reading = reading();
    reading.cells[2].temperature = Some(DeciCelsius(610));
    for (subject, status, text, cell) in [
        ("voltage_status", "Low", "Rack 1: voltage status Low, now 53.12 V (BMS)", None),
        ("temperature_status", "High", "Rack 1: temperature status High (BMS)", None),
        ("base_status", "SysError", "Rack 1: base status SysError (BMS)", None),
        ("error_code", "12", "Rack 1: error code 12 (BMS)", None),
        (
            "cell_3_voltage_status",
            "Over",
            "Rack 1 cell 3 voltage status Over, now 3.66 V (BMS)",
            Some(3),
        ),
        (
            "cell_3_temperature_status",
            "Over",
            "Rack 1 cell 3 temperature status Over, now 61 °C (BMS)",
            Some(3),
        ),
        ("cell_99_voltage_status", "Low", "Rack 1 cell 99 voltage status Low (BMS)", Some(99)),
    ] {
        let described = abnormal(subject, status, &reading);
        assert_eq!((described.message("Rack 1").as_str(), described.cell), (text, cell));
    }
}

/// No brand reports the cell, and the extreme cell of this moment may be another one.
#[test]
fn reported_alarm_names_no_cell() {
    for alarm in Alarm::ALL {
        assert_eq!(describe(*alarm, &reading()).cell, None, "{}", alarm.name());
    }
}

#[test]
fn missing_value_is_left_out() {
    let described = describe(Alarm::CellOvervoltage, &Reading::default());
    assert_eq!(described.text, "cell voltage high (BMS protection)");
    assert_eq!((described.value, described.unit), (None, None));
}

#[test]
fn every_row_belongs_to_an_alarm() {
    for wording in WORDINGS {
        let names = [wording.alarm.to_owned(), format!("{}_warning", wording.alarm)];
        assert!(names.iter().any(|name| Alarm::from_name(name).is_some()), "{}", wording.alarm);
    }
}

/// An alarm about a value needs a row, or its text has neither quantity nor direction.
#[test]
fn alarms_about_values_have_a_row() {
    let about_value = |name: &str| {
        let parts = ["overvoltage", "undervoltage", "overcurrent", "temperature", "difference"];
        let is_event = name.ends_with("_lockout") || name.ends_with("_failure");
        !is_event && (parts.iter().any(|part| name.contains(part)) || name.starts_with("low_"))
    };
    for alarm in Alarm::ALL.iter().filter(|alarm| about_value(alarm.name())) {
        let base = alarm.name().trim_end_matches("_warning");
        assert!(WORDINGS.iter().any(|wording| wording.alarm == base), "{base}");
    }
}
