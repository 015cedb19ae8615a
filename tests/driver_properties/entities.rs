//! How many entities Home Assistant shows of each brand.

use bms_reader::model::derived_state::DerivedState;
use bms_reader::model::{
    AlarmThresholds, DeciCelsius, DeviceId, DeviceState, EnergySource, Millis, Millivolts, Profile,
    Uptime, entries,
};
use bms_reader::protocol::Options;
use bms_reader::sim::{Battery, Faults, PackState, brands};

use crate::simulated::{bus_of, read};

/// The largest number of enabled entities for a battery of 16 cells.
const MAX_ENABLED: usize = 45;
/// `connection`, `read` and `alarm`, which are no values.
const WITHOUT_VALUE: usize = 3;
/// `time_to_full` and `time_to_empty` exist from the beginning.
const INTERMITTENT: [&str; 2] = ["time_to_full", "time_to_empty"];

/// Those that the configuration sets by default.
fn thresholds() -> AlarmThresholds {
    AlarmThresholds {
        cell_low: Some(Millivolts(3000)),
        cell_high: Some(Millivolts(3650)),
        temp_high: Some(DeciCelsius(450)),
        ..AlarmThresholds::default()
    }
}

#[test]
fn enabled_entities_of_every_brand() {
    let mut report = String::new();
    for brand in brands() {
        let (mut bus, address) =
            bus_of(brand, Battery::fixed(PackState::at_rest()), Faults::default());
        let variant = brand.variant().map(str::to_owned);
        let reading =
            read(brand, &mut bus, &Options { address, variant, ..Options::default() }, 1.0);
        let id = DeviceId::new("b").unwrap();
        let mut state = DeviceState::new(Profile::new(id, brand.driver(), brand.name));
        let cells = reading.cells.len();
        let derived = DerivedState::new(thresholds()).derive(&reading, Uptime(0), 30_000);
        state.restore(None, EnergySource::File);
        state.accept((Millis(1), Uptime(1)), 1, reading, derived);
        let list = entries(&state);
        let fixed = WITHOUT_VALUE + INTERMITTENT.len();
        let all =
            fixed + list.iter().filter(|it| !INTERMITTENT.contains(&&*it.key.to_string())).count();
        let shown =
            list.iter().filter(|it| it.enabled && !INTERMITTENT.contains(&&*it.key.to_string()));
        let enabled = fixed + shown.count();
        let keys: Vec<_> =
            list.iter().filter(|it| it.enabled).map(|it| it.key.to_string()).collect();
        assert!(cells > 16 || enabled <= MAX_ENABLED, "{}: {enabled} {keys:?}", brand.name);
        report += &format!("{}: {cells} cells, {enabled} of {all} enabled\n", brand.name);
    }
    insta::assert_snapshot!(report);
}
