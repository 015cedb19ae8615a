//! Records 03 (device information) and 01 (settings).

use crate::model::{MilliampHours, Reading};

use super::cells::is_cell_voltage;
use super::record::Record;

/// Record 03 is the same in all layouts. Its three passcodes are not read.
pub(super) fn device(record: &Record, into: &mut Reading) {
    let identity = &mut into.identity;
    identity.model = record.text(6, 16);
    identity.hardware = record.text(22, 8);
    identity.software = record.text(30, 8);
    identity.serial = record.text(86, 11);
    into.received.device_info = true;
}

/// Record 01. Its switches are the settings of the user. Record 02 has the state of the transistors, so
/// charging and discharging are reported as states here.
pub(super) fn settings(record: &Record, into: &mut Reading) {
    // Active balancers (JK04) have the power-off voltage here as a float; the integers of other boards
    // are never in that range.
    if is_cell_voltage(record.f32(38)) {
        into.switches.balancing = Some(record.u8(114) != 0);
    } else {
        into.switches.balancing = Some(record.u32(126) != 0);
        into.states.insert("charge_switch", record.u32(118) != 0);
        into.states.insert("discharge_switch", record.u32(122) != 0);
        // The configured value, not the learned one: 320 Ah on a pack with 251 Ah remaining.
        let capacity = i64::from(record.u32(130));
        into.pack.design = (capacity > 0).then_some(MilliampHours(capacity));
    }
    into.received.settings = true;
}
