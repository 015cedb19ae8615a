//! What follows from one reading: power, extremes, means. Values that the battery reports itself
//! win.

use std::cmp::Reverse;

use super::derived::Derived;
use super::reading::{Activity, Module, Reading, SensorLocation};
use super::units::{DeciCelsius, Millivolts, Milliwatts, mean};

pub fn derive(reading: &Reading) -> Derived {
    let pack = &reading.pack;
    let voltages =
        || (1..).zip(&reading.cells).filter_map(|(number, cell)| Some((number, cell.voltage?)));
    let temperatures = cell_temperatures(reading);
    let reported_average = reading.probes_at(SensorLocation::Average).next().flatten();
    Derived {
        power: pack.power.or_else(|| Some(Milliwatts::product(pack.voltage?, pack.current?))),
        // Of equal cells, the first one.
        lowest_cell: voltages().min_by_key(|(number, voltage)| (*voltage, *number)),
        highest_cell: voltages().max_by_key(|(number, voltage)| (*voltage, Reverse(*number))),
        min_temp: temperatures.iter().min().copied(),
        max_temp: temperatures.iter().max().copied(),
        avg_temp: reported_average.or_else(|| mean(&temperatures)),
        activity: pack.activity.or_else(|| pack.current.map(Activity::of)),
        problem: (!reading.alarms.is_empty()).then(|| reading.alarms.any_active()),
        modules: reading.modules.iter().map(|module| range(module, reading)).collect(),
        ..Derived::default()
    }
}

/// Of the numbered sensors; without any, of the sensors of the single cells.
fn cell_temperatures(reading: &Reading) -> Vec<DeciCelsius> {
    let sensors: Vec<_> = reading.probes_at(SensorLocation::Cells).flatten().collect();
    if sensors.is_empty() {
        return reading.cells.iter().filter_map(|cell| cell.temperature).collect();
    }
    sensors
}

fn range(module: &Module, reading: &Reading) -> Option<(Millivolts, Millivolts)> {
    module.range.or_else(|| {
        let cells = reading.cells.get(module.cells.clone())?.iter();
        let voltages = cells.filter_map(|cell| cell.voltage);
        Some((voltages.clone().min()?, voltages.max()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Alarm;
    use crate::model::reading::{Cell, Probe};
    use crate::model::units::{Milliamps, Millivolts};

    #[test]
    fn empty_reading_derives_nothing() {
        assert_eq!(derive(&Reading::default()), Derived::default());
    }

    #[test]
    fn extremes_prefer_the_first_of_equal_cells() {
        let mut cells = vec![Cell::default()];
        cells.extend([3320, 3309, 3326, 3326, 3309].map(|mv| Cell::of(Millivolts(mv))));
        let reading = Reading { cells, ..Reading::default() };
        let derived = derive(&reading);
        assert_eq!(derived.lowest_cell, Some((3, Millivolts(3309))));
        assert_eq!(derived.highest_cell, Some((4, Millivolts(3326))));
    }

    #[test]
    fn smallest_voltage_that_fits_is_no_maximum() {
        let cells = [i32::MIN, 3300, i32::MIN].map(|mv| Cell::of(Millivolts(mv))).to_vec();
        let derived = derive(&Reading { cells, ..Reading::default() });
        assert_eq!(derived.lowest_cell, Some((1, Millivolts(i32::MIN))));
        assert_eq!(derived.highest_cell, Some((2, Millivolts(3300))));
    }

    #[test]
    fn reported_power_wins() {
        let mut reading = Reading::default();
        reading.pack.voltage = Some(Millivolts(52_000));
        assert_eq!(derive(&reading).power, None);
        reading.pack.current = Some(Milliamps(-2_000));
        assert_eq!(derive(&reading).power, Some(Milliwatts(-104_000)));
        assert_eq!(derive(&reading).activity, Some(Activity::Discharging));
        reading.pack.power = Some(Milliwatts(-103_000));
        assert_eq!(derive(&reading).power, Some(Milliwatts(-103_000)));
    }

    #[test]
    fn missing_sensors_are_skipped() {
        let probe =
            |location, value: Option<i32>| Probe { location, value: value.map(DeciCelsius) };
        let probes = vec![
            probe(SensorLocation::Cells, Some(215)),
            probe(SensorLocation::Cells, None),
            probe(SensorLocation::Cells, Some(220)),
            probe(SensorLocation::Mosfet, Some(400)),
        ];
        let reading = Reading { probes, ..Reading::default() };
        let derived = derive(&reading);
        assert_eq!(derived.min_temp, Some(DeciCelsius(215)));
        assert_eq!(derived.max_temp, Some(DeciCelsius(220)));
        assert_eq!(derived.avg_temp, Some(DeciCelsius(218)));
    }

    #[test]
    fn cell_temperatures_replace_missing_sensors() {
        let cell = |value| Cell { temperature: Some(DeciCelsius(value)), ..Cell::default() };
        let mut reading = Reading { cells: vec![cell(240), cell(255)], ..Reading::default() };
        let derived = derive(&reading);
        assert_eq!(derived.min_temp, Some(DeciCelsius(240)));
        assert_eq!(derived.max_temp, Some(DeciCelsius(255)));
        reading.probes =
            vec![Probe { location: SensorLocation::Cells, value: Some(DeciCelsius(100)) }];
        assert_eq!(derive(&reading).max_temp, Some(DeciCelsius(100)), "numbered sensors win");
    }

    #[test]
    fn module_range_comes_from_its_cells() {
        let cells = [3340, 3350, 3345, 3290].map(|mv| Cell::of(Millivolts(mv))).to_vec();
        let module = |cells| Module { cells, ..Module::default() };
        let reported = Module { range: Some((Millivolts(1), Millivolts(2))), ..Module::default() };
        let modules = vec![module(0..2), module(2..4), module(4..4), module(3..9), reported];
        let reading = Reading { cells, modules, ..Reading::default() };
        let range = |low, high| Some((Millivolts(low), Millivolts(high)));
        assert_eq!(
            derive(&reading).modules,
            [range(3340, 3350), range(3290, 3345), None, None, range(1, 2)]
        );
    }

    #[test]
    fn reported_activity_wins() {
        let mut reading = Reading::default();
        reading.pack.current = Some(Milliamps(12));
        reading.pack.activity = Some(Activity::Idle);
        assert_eq!(derive(&reading).activity, Some(Activity::Idle));
    }

    #[test]
    fn problem_needs_an_active_alarm() {
        let mut reading = Reading::default();
        reading.alarms.note(Alarm::CellOvervoltage, false);
        assert_eq!(derive(&reading).problem, Some(false));
        reading.alarms.note(Alarm::LowSocWarning, true);
        assert_eq!(derive(&reading).problem, Some(true));
        let mut reading = Reading::default();
        reading.alarms.note_status("voltage_status", None);
        assert_eq!(derive(&reading).problem, Some(false));
        reading.alarms.note_status("voltage_status", Some("Low"));
        assert_eq!(derive(&reading).problem, Some(true));
    }
}
