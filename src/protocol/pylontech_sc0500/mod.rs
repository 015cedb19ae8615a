//! Pylontech SC0500: the controller of a stack of H48050 modules, read over its text console.
//!
//! With `BMS_BARCODE` the driver logs in (`login debug`) and reads `getpwr`, like the program that its
//! users switch from ([`debug`]). Without it the driver sends the commands that need no log-in (`pwr`,
//! `unit`, `bat`, `info`; [`user`]). Formats and meanings are those of that program
//! (nakoukal/pylontech-bms), of console logs of the same controller (70p4z/tparse,
//! mletenay/home-assistant-pylontech) and of a US2000C, whose `getpwr` has the same records
//! (Hrabovszki1023/pylontech-console).

mod debug;
mod getpwr;
mod user;

use super::barcode::Barcode;
use super::console::info::Info;
use super::console::{ConsoleDialect, ConsoleDriver, ConsoleQuery, Decode, QueryPlan, query};
use super::{Driver, DriverInfo, ImpliedBy, Need, Options, SerialDefaults};
use crate::model::{Module, Reading};

pub static INFO: DriverInfo = DriverInfo {
    // One console per stack.
    serial: SerialDefaults::new(&[115_200], 5),
    replay_variants: &[RECORDED],
    text: true,
    implied_by: Some(ImpliedBy::Barcode),
    verified: "recorded answers of relatives; `getpwr` of a whole stack from its description",
    ..DriverInfo::new("pylontech-sc0500", "Pylontech SC0500", new)
};

fn new(options: &Options) -> Box<dyn Driver> {
    match options.barcode.as_deref().map(Barcode::parse) {
        _ if options.variant.as_deref() == Some(RECORDED) => {
            Box::new(ConsoleDriver::new(QueryPlan::new(&LOGGED_IN, options)))
        }
        Some(Ok(barcode)) => Box::new(ConsoleDriver::new(debug::Debug::new(barcode, options))),
        _ => Box::new(ConsoleDriver::new(QueryPlan::new(&user::DIALECT, options))),
    }
}

/// The variant for a recorded `getpwr`, which needs no log-in.
const RECORDED: &str = "recorded";

/// A console that is already in debug mode, as in a recorded conversation.
static LOGGED_IN: ConsoleDialect = ConsoleDialect {
    queries: &[query("getpwr", Need::Required, Decode::Values(getpwr::decode)), IDENTITY],
    complete: |reading, info| divide_into_modules(reading, serials(info)),
};

/// The older program waits 15 s for `info` where 5 s are enough for other commands.
const INFO_TIMEOUTS: u32 = 3;

const IDENTITY: ConsoleQuery =
    ConsoleQuery { timeouts: INFO_TIMEOUTS, ..query("info", Need::Once, Decode::Info) };

/// Cells of an H48050.
const CELLS_PER_MODULE: usize = 15;

/// Serial numbers of the modules, BMU 0 first.
fn serials(info: Option<&Info>) -> Vec<&String> {
    info.into_iter().flat_map(|info| info.modules.values()).collect()
}

/// Makes one module of every fifteen cells.
fn divide_into_modules(reading: &mut Reading, serials: Vec<&String>) {
    let first_cells = (0..reading.cells.len() / CELLS_PER_MODULE).map(|i| i * CELLS_PER_MODULE);
    let module = |first| Module { cells: first..first + CELLS_PER_MODULE, ..Module::default() };
    reading.modules = first_cells.map(module).collect();
    assign_serials(&mut reading.modules, serials);
}

/// With a different number of modules and serial numbers the assignment would be a guess.
fn assign_serials(modules: &mut [Module], serials: Vec<&String>) {
    if modules.len() == serials.len() {
        for (module, serial) in modules.iter_mut().zip(serials) {
            module.serial = Some(serial.clone());
        }
    }
}
