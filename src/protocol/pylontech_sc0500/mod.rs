//! Pylontech SC0500: the controller of a stack of H48050 modules, read over its text console.
//!
//! There are two ways. With `BMS_BARCODE` we log in (`login debug`) and read `getpwr`, as the
//! program does that its users come from ([`debug`]). Without it we ask at the user's prompt what
//! needs no log-in (`pwr`, `unit`, `bat`, `info`; [`user`]). Forms and meanings are those of that
//! program (nakoukal/pylontech-bms), of console logs of the same controller (70p4z/tparse,
//! mletenay/home-assistant-pylontech) and of a US2000C, whose `getpwr` has the same records
//! (Hrabovszki1023/pylontech-console).

mod debug;
mod getpwr;
mod recorded;
mod user;

use super::barcode::Barcode;
use super::console::{Survey, Terminal};
use super::info::{DriverInfo, ImpliedBy, SerialDefaults};
use crate::model::Reading;
use crate::model::reading::Module;
use crate::protocol::{Driver, Options};

/// What the rest of the program knows about this brand.
pub static INFO: DriverInfo = DriverInfo {
    // One console, one stack.
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
            Box::new(Terminal::new(Survey::new(recorded::Recorded::new(options))))
        }
        Some(Ok(barcode)) => Box::new(Terminal::new(debug::Debug::new(barcode, options))),
        _ => Box::new(Terminal::new(Survey::new(user::User::new(options)))),
    }
}

/// The variant for a recorded `getpwr`, which needs no log-in any more.
const RECORDED: &str = "recorded";

/// Cells of an H48050.
const CELLS_PER_MODULE: usize = 15;

/// `info` takes its time: the program of our users waits 15 s where 5 are enough for the rest.
const SLOW: u32 = 3;

/// Makes a module of each fifteen cells. A serial number is only told when `serials` has one for
/// each: with a module more or less nobody could say whose is whose.
fn divide_into_modules(reading: &mut Reading, serials: Vec<&String>) {
    let count = reading.cells.len() / CELLS_PER_MODULE;
    let known = serials.len() == count;
    reading.modules = (0..count)
        .map(|index| Module {
            serial: serials.get(index).filter(|_| known).map(|serial| (*serial).clone()),
            cells: index * CELLS_PER_MODULE..(index + 1) * CELLS_PER_MODULE,
            range: None,
        })
        .collect();
}
