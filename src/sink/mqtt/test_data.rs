//! A realistic battery for the tests of this folder.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Discovery, Publish, Settings, Version};
use crate::model::derived_state::DerivedState;
use crate::model::{
    Alarm, AlarmThresholds, Cell, CentiPercent, DeciCelsius, DeviceState, EnergySource,
    MilliampHours, Milliamps, Millis, Millivolts, Module, Probe, Profile, Reading, SensorLocation,
    Uptime,
};

/// A rack battery on a serial port, read every 30 s.
pub fn profile() -> Profile {
    Profile {
        name: "Rack battery".into(),
        port: Some("/dev/ttyUSB0".into()),
        address: Some("1".into()),
        ..Profile::sample("rack")
    }
}

/// Before the first read.
pub fn unread_state() -> DeviceState {
    DeviceState::new(profile())
}

/// A pack with this many cells.
pub fn reading(cells: i32) -> Reading {
    let mut reading = Reading::default();
    reading.identity.model = Some("DR-48100".into());
    reading.identity.software = Some("4.1".into());
    reading.identity.serial = Some("C0B1D2".into());
    reading.pack.voltage = Some(Millivolts(53_020));
    reading.pack.current = Some(Milliamps(-11_160));
    reading.pack.soc = Some(CentiPercent(6400));
    reading.pack.soh = Some(CentiPercent(10_000));
    reading.pack.remaining = Some(MilliampHours(64_000));
    reading.pack.full = Some(MilliampHours(100_000));
    reading.pack.design = Some(MilliampHours(100_000));
    reading.pack.cycles = Some(12);
    reading.pack.error_code = Some(0);
    reading.cells = (0..cells).map(|n| Cell::of(Millivolts(3309 + n))).collect();
    reading.cells[0].balancing = Some(false);
    reading.cells[0].resistance = Some(crate::model::units::Microohms(700));
    let probe = |location, value| Probe { location, value: Some(DeciCelsius(value)) };
    reading.probes = vec![
        probe(SensorLocation::Cells, 215),
        probe(SensorLocation::Cells, 220),
        probe(SensorLocation::Mosfet, 230),
        probe(SensorLocation::Ambient, 190),
    ];
    reading.switches.charging = Some(true);
    reading.switches.discharging = Some(true);
    reading.alarms.note(Alarm::CellOvervoltage, false);
    reading.alarms.note(Alarm::LowSocWarning, true);
    reading
}

/// A stack of modules of 15 cells each; only the first module reports its serial number.
pub fn stack(modules: usize) -> DeviceState {
    let cells = (0..15 * modules).map(|n| Cell::of(Millivolts(3300 + (n % 7) as i32))).collect();
    let module = |n: usize| Module {
        serial: (n == 0).then(|| "HPTST1".to_owned()),
        cells: 15 * n..15 * (n + 1),
        range: None,
    };
    let modules = (0..modules).map(module).collect();
    state(Reading { cells, modules, ..Reading::default() }, 1)
}

/// When every read ended, on the boot-time clock.
pub const READ_AT: Uptime = Uptime(1_000_000);

/// After good read number `sequence`, without energy counters of an earlier run.
pub fn state(reading: Reading, sequence: u64) -> DeviceState {
    let mut state = unread_state();
    let taken = Millis(1_771_097_625_510 + 30_000 * sequence);
    let limits =
        AlarmThresholds { cell_high: Some(Millivolts(3650)), ..AlarmThresholds::default() };
    let mut derived = DerivedState::new(limits).derive(&reading, Uptime(0), 30_000);
    derived.times.to_empty = Some(20_700);
    state.restore(None, EnergySource::Broker);
    state.counters.reads = sequence - 1;
    state.accept((taken, READ_AT), 250, reading, derived);
    state.record_attempt(taken, 250, true, None);
    state.attempt.as_mut().expect("an attempt").number = sequence;
    state
}

pub fn settings() -> Settings {
    Settings {
        supervisor: None,
        host: "localhost".into(),
        port: 1883,
        login: None,
        client_id: "c".into(),
        keep_alive: Duration::from_secs(20),
        version: Version::V311,
        tls: None,
        base_topic: "bms/{id}".into(),
        discovery_prefix: "homeassistant".into(),
        discovery: Discovery::Entity,
        publish: Publish::Changes(Duration::from_secs(300)),
        allow_config: true,
        remote_config: true,
        dashboard: None,
        ingress: None,
        victron: BTreeMap::new(),
        backfill: None,
    }
}
