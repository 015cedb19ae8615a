//! The D2 dialect of newer boards and balancers: Modbus at the device address D2.
//!
//! Layout: the vendor's register tables in two translations and recorded replies; the sign of the
//! current is that of the recordings, as the tables have it the other way round.

use super::query::Query;
use super::registers::{Registers, note_balancing, note_mosfet};
use super::status;
use crate::model::{MilliampHours, Millivolts, Reading};
use crate::protocol::{DecodeError, Need};

pub(super) static STATUS: Query = Query::registers("Status", Need::Required, (0x00, 62), status);
/// Of newer boards; the others do not reply, or with zeros.
pub(super) static BOARD: Query = Query::registers("Board", Need::Steady, (0x3E, 9), board);
pub(super) static SETTINGS: Query = Query::registers("Settings", Need::Once, (0x80, 41), settings);
pub(super) static VERSIONS: Query =
    Query::registers("Versions", Need::Once, (0xA9, 32), |registers, into| {
        registers.note_names([8, 8, 16], into);
        Ok(())
    });

const MAX_CELLS: u16 = 32;

fn status(registers: &Registers, into: &mut Reading) -> Result<(), DecodeError> {
    let at = |register| registers.at(register);
    registers.note_live(MAX_CELLS, 0x31, into)?;
    let [charge, remaining, cycles, charging, discharging] = [0x2A, 0x30, 0x33, 0x35, 0x36].map(at);
    if [charge, remaining, cycles, charging, discharging] == [0; 5] {
        // A balancer has none of these, and puts a 0 into all of them.
        into.pack.current = None;
        into.pack.soc = None;
    } else {
        into.pack.remaining = Some(MilliampHours(i64::from(remaining) * 100));
        into.pack.cycles = Some(cycles.into());
        into.switches.charging = Some(charging != 0);
        into.switches.discharging = Some(discharging != 0);
    }
    into.states.insert("balancing", at(0x34) != 0);
    status::note_failures(registers.low_bytes_first(0x3A), into);
    Ok(())
}

/// Balancing and the temperature of the transistors.
fn board(registers: &Registers, into: &mut Reading) -> Result<(), DecodeError> {
    let mask = u64::from(registers.at(0x3F)) << 16 | u64::from(registers.at(0x3E));
    note_balancing(mask, into);
    let mosfet = registers.at(0x42);
    if mosfet != 0 {
        note_mosfet(mosfet, into);
    }
    Ok(())
}

/// The rated capacity, and the limits at which the board protects itself.
fn settings(registers: &Registers, into: &mut Reading) -> Result<(), DecodeError> {
    let rated = registers.at(0x80);
    into.pack.design = (rated != 0).then_some(MilliampHours(i64::from(rated) * 100));
    let volts = |register, scale: i32| {
        let raw = registers.at(register);
        (raw != 0).then_some(Millivolts(i32::from(raw) * scale))
    };
    into.limits.cell_upper = volts(0x8C, 1);
    into.limits.cell_lower = volts(0x8E, 1);
    // Balancers have a 0 for one of the two and nonsense for the other.
    if registers.at(0x90) > registers.at(0x92) {
        into.limits.pack_upper = volts(0x90, 100);
        into.limits.pack_lower = volts(0x92, 100);
    }
    into.received.settings = true;
    Ok(())
}
