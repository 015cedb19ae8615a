//! The first read of a battery contains the live values alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use bms_reader::model::derived_state::DerivedState;
use bms_reader::model::{
    AlarmThresholds, DeviceId, DeviceState, Millis, Profile, Reading, Uptime, entries,
};
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{CycleKind, Driver, Options, find};
use bms_reader::sim::{Battery, Faults, PackState, SimBrand, brands, pylontech_sc0500};

use crate::common::{Outcome, play};
use crate::recorded::Recorded;
use crate::simulated::bus_of;

/// Keys with everything that a sink makes of a value.
fn published(reading: &Reading) -> BTreeMap<String, String> {
    let mut state = DeviceState::new(Profile::new(DeviceId::new("b").unwrap(), "brand", "title"));
    let thresholds = AlarmThresholds::default();
    let derived = DerivedState::new(thresholds).derive(reading, Uptime(0), 30_000);
    state.accept((Millis(1), Uptime(1)), 1, reading.clone(), derived);
    let list = entries(&state).into_iter();
    list.map(|it| (it.key.to_string(), format!("{} {:?} {}", it.value, it.module, it.enabled)))
        .collect()
}

/// Plays a cycle with the live values and one with everything.
fn assert_follows(
    name: &str,
    driver: &mut dyn Driver,
    mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>>,
) -> (Outcome, usize) {
    let mut cycle = |kind| {
        driver.start(kind);
        play(driver, &mut answer).unwrap()
    };
    let (live, whole) = (cycle(CycleKind::Live), cycle(CycleKind::Read));
    let (asked, count) = (whole.asked.clone(), live.asked.len());
    let (first, second) = match (&live.end, whole.end) {
        (bms_reader::protocol::Step::Done(first), bms_reader::protocol::Step::Done(second)) => {
            (first.clone(), second)
        }
        ends => panic!("{name}: {ends:?}"),
    };
    assert!(!second.live_only, "{name}");
    let pack = &first.pack;
    assert!(pack.voltage.is_some() || pack.soc.is_some() || !first.cells.is_empty(), "{name}");
    let (before, after) = (published(&first), published(&second));
    for (key, value) in &before {
        assert_eq!(after.get(key), Some(value), "{name}: {key}");
    }
    if first.live_only {
        assert!(asked.iter().any(|request| !live.asked.contains(request)), "{name}: {asked:x?}");
    } else {
        assert_eq!(before, after, "{name}");
        assert_eq!(first.identity, second.identity, "{name}");
    }
    (live, asked.len().saturating_sub(count))
}

fn options(brand: &SimBrand, address: u8) -> Options {
    Options {
        address,
        medium: if brand.notification.is_some() { Medium::Ble } else { Medium::Serial },
        variant: brand.variant().map(str::to_owned),
        barcode: Some(pylontech_sc0500::BARCODE.to_owned()),
        ..Options::default()
    }
}

/// Nothing that is published first is withdrawn or changed by what follows.
#[test]
fn later_identity_only_adds_to_the_first_values() {
    for battery in Recorded::each() {
        let mut session = battery.session();
        assert_follows(battery.info.name, battery.driver().as_mut(), |asked| session.chunks(asked));
    }
}

#[test]
fn live_requests_come_first() {
    let mut report = String::new();
    for brand in brands() {
        let state = Battery::fixed(PackState::at_rest());
        let (mut bus, address) = bus_of(brand, state, Faults::default());
        let mut driver = find(brand.driver()).unwrap().driver(&options(brand, address));
        let answer = |request: &[u8]| vec![bus.reply(request, 0.0), bus.unsolicited(0.0)];
        let (live, more) = assert_follows(brand.name, driver.as_mut(), answer);
        let first = live.asked.first().map(|it| it.escape_ascii().to_string()).unwrap_or_default();
        writeln!(report, "{}: {} requests, {more} more; {first}", brand.name, live.asked.len())
            .unwrap();
    }
    insta::assert_snapshot!(report);
}
