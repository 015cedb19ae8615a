//! The third dialect: Modbus with another register map. Requests go to 80 plus the number of the
//! board and replies come from 50 plus that number.
//!
//! Layout: patagonaa/esphome-daly-hkms-bms, whose author tested the failure table, and recorded
//! replies of one board over Bluetooth.

use super::query::Query;
use super::registers::{Registers, note_balancing, note_mosfet};
use super::status;
use crate::model::{MilliampHours, Reading};
use crate::protocol::{DecodeError, Need};

/// Cells, temperatures, voltage, current, state of charge.
pub(super) static FIRST: Query =
    Query::registers("First", Need::Required, (0x00, 64), |registers, into| {
        registers.note_live(MAX_CELLS, 0x3C, into)
    });
/// Everything else that changes.
pub(super) static SECOND: Query = Query::registers("Second", Need::Steady, (0x41, 62), second);
pub(super) static VERSIONS: Query =
    Query::registers("About", Need::Once, (0x178, 74), |registers, into| {
        registers.note_names([14, 7, 12], into);
        Ok(())
    });

const MAX_CELLS: u16 = 48;

/// One board has a 7 in the register that reports balancing (4D) while no cell is balanced, so only
/// the bits of the cells count.
fn second(registers: &Registers, into: &mut Reading) -> Result<(), DecodeError> {
    let at = |register| registers.at(register);
    into.pack.remaining = Some(MilliampHours(i64::from(at(0x4B)) * 100));
    into.pack.cycles = Some(at(0x4C).into());
    let [low, middle, high] = [0x4F, 0x50, 0x51].map(|register| u64::from(at(register)));
    note_balancing(high << 32 | middle << 16 | low, into);
    into.switches.charging = Some(at(0x52) != 0);
    into.switches.discharging = Some(at(0x53) != 0);
    for (name, register) in [("precharge_on", 0x54), ("heater_on", 0x55), ("fan_on", 0x56)] {
        into.states.insert(name, at(register) != 0);
    }
    note_mosfet(at(0x5A), into);
    status::note_levels(registers.low_bytes_first(0x6D), into);
    Ok(())
}
