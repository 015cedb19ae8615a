//! The text console of Pylontech's low-voltage packs (US2000, US3000, US5000 and similar models).
//!
//! One console reports all packs of a stack; each pack is a separate battery here, with its number as
//! the address. All four commands work without a log-in: `pwr` (one row per pack), `bat n` (cells),
//! `stat n` (history) and `info n` (identity). Columns are found by name, because firmwares differ
//! (captures of a US2000C in Hrabovszki1023/pylontech-console; output of newer firmware in esphome's
//! component `pylontech`).

mod decode;

use super::console::{ConsoleDialect, ConsoleDriver, Decode, QueryPlan, query, states};
use super::{DriverInfo, Need, SerialDefaults};

pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[115_200], 5),
    addresses: 1..=16,
    text: true,
    verified: "recorded answers of a US2000C",
    ..DriverInfo::new("pylontech-console", "Pylontech console", |options| {
        Box::new(ConsoleDriver::new(QueryPlan::new(&DIALECT, options)))
    })
};

static DIALECT: ConsoleDialect = ConsoleDialect {
    queries: &[
        query("pwr", Need::Required, Decode::Values(decode::pwr)),
        query("bat {}", Need::Steady, Decode::Values(decode::bat)),
        query("stat {}", Need::Steady, Decode::Values(decode::stat)),
        query("info {}", Need::Once, Decode::Info),
    ],
    complete: |reading, _| states::set_cells(reading),
};
