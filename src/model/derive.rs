//! What follows from a reading: power, extremes, means. A brand that reports such a value itself
//! has filled the field, and it is left alone.

use super::reading::{Module, Reading, SensorLocation};
use super::snapshot::{Activity, Derived};
use super::units::{DeciCelsius, Millivolts, Milliwatts, divide_rounded};

/// Everything that can be said from this reading alone.
pub fn derive(reading: &Reading) -> Derived {
    let voltages = || {
        reading
            .cells
            .iter()
            .enumerate()
            .filter_map(|(index, cell)| Some((index + 1, cell.voltage?)))
    };
    let sensors = cell_temperatures(reading);
    Derived {
        power: reading
            .pack
            .power
            .or_else(|| Some(Milliwatts::product(reading.pack.voltage?, reading.pack.current?))),
        // On equal voltages the first cell wins, in both directions.
        lowest_cell: voltages().min_by_key(|(number, voltage)| (*voltage, *number)),
        highest_cell: voltages().min_by_key(|(number, voltage)| (-voltage.0, *number)),
        min_temp: sensors.iter().min().copied(),
        max_temp: sensors.iter().max().copied(),
        avg_temp: reported_average(reading).or_else(|| mean(&sensors)),
        activity: reading.pack.activity.or_else(|| reading.pack.current.map(Activity::of)),
        problem: (!reading.alarms.is_empty()).then(|| reading.alarms.any_active()),
        modules: reading.modules.iter().map(|module| range(module, reading)).collect(),
        ..Derived::default()
    }
}

/// Of the numbered sensors; where there are none, each cell may have its own.
fn cell_temperatures(reading: &Reading) -> Vec<DeciCelsius> {
    let among_cells = reading.probes.iter().filter(|probe| probe.location == SensorLocation::Cells);
    let sensors: Vec<DeciCelsius> = among_cells.filter_map(|probe| probe.value).collect();
    if sensors.is_empty() {
        return reading.cells.iter().filter_map(|cell| cell.temperature).collect();
    }
    sensors
}

fn range(module: &Module, reading: &Reading) -> Option<(Millivolts, Millivolts)> {
    module.range.or_else(|| {
        let cells = reading.cells.get(module.cells.clone())?.iter();
        let voltages = || cells.clone().filter_map(|cell| cell.voltage);
        Some((voltages().min()?, voltages().max()?))
    })
}

fn reported_average(reading: &Reading) -> Option<DeciCelsius> {
    reading.probes.iter().find(|probe| probe.location == SensorLocation::Average)?.value
}

fn mean(values: &[DeciCelsius]) -> Option<DeciCelsius> {
    let count = i64::try_from(values.len()).ok().filter(|count| *count > 0)?;
    let sum: i64 = values.iter().map(|value| i64::from(value.0)).sum();
    i32::try_from(divide_rounded(sum, count)).ok().map(DeciCelsius)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Alarm;
    use crate::model::reading::{Cell, Probe};
    use crate::model::units::{Milliamps, Millivolts};

    #[test]
    fn an_empty_reading_gives_nothing() {
        assert_eq!(derive(&Reading::default()), Derived::default());
    }

    #[test]
    fn extremes_name_the_first_of_equal_cells_and_skip_unknown_ones() {
        let mut cells = vec![Cell::default()];
        cells.extend([3320, 3309, 3326, 3326, 3309].map(|mv| Cell::of(Millivolts(mv))));
        let reading = Reading { cells, ..Reading::default() };
        let derived = derive(&reading);
        assert_eq!(derived.lowest_cell, Some((3, Millivolts(3309))));
        assert_eq!(derived.highest_cell, Some((4, Millivolts(3326))));
    }

    #[test]
    fn power_of_the_battery_wins() {
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
    fn missing_sensors_do_not_count_as_cold() {
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
    fn cells_with_sensors_of_their_own_have_extremes_too() {
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
    fn a_module_has_the_range_of_its_own_cells() {
        let cells = [3340, 3350, 3345, 3290].map(|mv| Cell::of(Millivolts(mv))).to_vec();
        let module = |cells| Module { cells, ..Module::default() };
        let told = Module { range: Some((Millivolts(1), Millivolts(2))), ..Module::default() };
        let modules = vec![module(0..2), module(2..4), module(4..4), module(3..9), told];
        let reading = Reading { cells, modules, ..Reading::default() };
        let range = |low, high| Some((Millivolts(low), Millivolts(high)));
        assert_eq!(
            derive(&reading).modules,
            [range(3340, 3350), range(3290, 3345), None, None, range(1, 2)]
        );
    }

    #[test]
    fn the_battery_knows_best_what_it_is_doing() {
        let mut reading = Reading::default();
        reading.pack.current = Some(Milliamps(12));
        reading.pack.activity = Some(Activity::Idle);
        assert_eq!(derive(&reading).activity, Some(Activity::Idle));
    }

    #[test]
    fn a_problem_needs_an_active_alarm() {
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
