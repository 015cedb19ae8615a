//! Records 03 (what the board is) and 01 (its settings): what of them belongs into a reading.

use crate::model::Reading;
use crate::model::units::MilliampHours;

use super::cells::is_cell_voltage;
use super::record::Record;

/// Record 03, the same in all layouts. The three passcodes in it are not read at all.
pub(super) fn device(record: &Record, into: &mut Reading) {
    let identity = &mut into.identity;
    identity.model = record.text(6, 16);
    identity.hardware = record.text(22, 8);
    identity.software = record.text(30, 8);
    identity.serial = record.text(86, 11);
    into.received.device_info = true;
}

/// Record 01. A switch here is what somebody wanted; what the transistors really do is in record
/// 02, so charging and discharging are noted as states.
pub(super) fn settings(record: &Record, into: &mut Reading) {
    // Active balancers (JK04) have the power-off voltage as a float here, the others whole numbers
    // far from it.
    if is_cell_voltage(record.f32(38)) {
        into.switches.balancing = Some(record.u8(114) != 0);
    } else {
        into.switches.balancing = Some(record.u32(126) != 0);
        into.states.insert("charge_switch", record.u32(118) != 0);
        into.states.insert("discharge_switch", record.u32(122) != 0);
        // What was entered, not what the board has learned: 320 Ah on a pack with 251 Ah left.
        let capacity = i64::from(record.u32(130));
        into.pack.design = (capacity > 0).then_some(MilliampHours(capacity));
    }
    into.received.settings = true;
}
