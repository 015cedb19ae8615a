//! Jikong (JK) boards: over Bluetooth, on the GPS/RS485 socket ("4E 57"), and on the RS485 bus of the PB
//! series.
//!
//! Over Bluetooth a session starts with two requests (device information, settings). From then on the
//! board sends its live values about twice a second, so a cycle takes the next record of the stream
//! and sends nothing.
//!
//! Sources: syssi/esphome-jk-bms with its captures, the vendor's papers "JK BMS RS485 Modbus" V1.0
//! and V1.1, mr-manuel/venus-os_dbus-serialbattery, fl4p/batmon-ha, and an analysis of 2503
//! recorded records of ten boards. "Measured" in a comment means the latter.

mod ble;
mod cells;
mod device_info;
mod passive;
pub mod pb;
pub mod record;
pub mod redact;
mod serial;
pub mod status;
mod tags;
pub mod ttl;

use super::{
    AdvertisementMatcher, DriverInfo, GattChannel, GattProfile, Medium, SerialDefaults, short,
    uuid16,
};
use crate::model::Switch;
use ble::JkBle;
use record::{COMMAND, COMMAND_HEADER, checksum};
use serial::{JkSerial, VARIANTS};

pub use cells::{Layout, layout};

pub static INFO: DriverInfo = DriverInfo {
    serial: SerialDefaults::new(&[115_200, 9600], 1),
    gatt: Some(GattProfile { channels: CHANNELS, streams: true }),
    matchers: MATCHERS,
    addresses: 0..=15,
    variants: VARIANTS,
    // Packs of the PB series are read by writing a trigger register, which another brand on the same
    // bus could interpret as one of its own.
    probe_last: true,
    controls: &[Switch::Charging, Switch::Discharging, Switch::Balancing],
    serial_control: false,
    verified: "recorded frames of a dozen boards by Bluetooth and of six by wire",
    ..DriverInfo::new("jk", "JK (Jikong)", |options| match options.medium {
        Medium::Ble => Box::new(JkBle::new(options)),
        Medium::Serial => Box::new(JkSerial::new(options)),
    })
};

/// New modules have two characteristics FFE1, one per direction; old ones have one for both, and some
/// of those accept commands at FFE2.
const CHANNELS: &[GattChannel] = &[
    GattChannel::new(&[short(0xFFE0, 0xFFE1)], short(0xFFE0, 0xFFE1)),
    GattChannel::new(&[short(0xFFE0, 0xFFE1)], short(0xFFE0, 0xFFE2)),
];

/// Many brands use this service, and the owner can change the name.
const MATCHERS: &[AdvertisementMatcher] = &[
    AdvertisementMatcher::Name("JK_*"),
    AdvertisementMatcher::Name("JK-*"),
    AdvertisementMatcher::ManufacturerData(0x0B65, &[0x88, 0xA0]),
    AdvertisementMatcher::ManufacturerData(0x4B4A, &[0x00, 0x01]),
    AdvertisementMatcher::Address("C8:47:80"),
    AdvertisementMatcher::Address("C8:47:8C"),
    AdvertisementMatcher::Address("20:21:11"),
    AdvertisementMatcher::Address("20:25:"),
    AdvertisementMatcher::Service(uuid16(0xFFE0)),
];

/// Requests over Bluetooth. Other commands shut the board down or reset it, so the encoder has only
/// these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// 97, answered with record 03.
    Device = 0x97,
    /// 96, answered with record 01, followed by a stream of record 02.
    Stream = 0x96,
}

pub fn request(command: Command) -> Vec<u8> {
    encode(command as u8, &[])
}

/// `None` if the layout has no such switch. The layout must be known: the register for balancing on a
/// JK04 sets the clock of other boards.
pub fn switch_command(layout: Layout, switch: Switch, on: bool) -> Option<Vec<u8>> {
    let register = match (layout, switch) {
        (Layout::Jk04, Switch::Balancing) => return Some(encode(0x6C, &[on.into()])),
        (Layout::Jk04, _) => return None,
        (_, Switch::Charging) => 0x1D,
        (_, Switch::Discharging) => 0x1E,
        (_, Switch::Balancing) => 0x1F,
    };
    Some(encode(register, &u32::from(on).to_le_bytes()))
}

/// The vendor's app leaves random bytes in the padding.
pub(crate) fn encode(code: u8, value: &[u8]) -> Vec<u8> {
    // No value is longer than four bytes.
    let mut frame = [&COMMAND_HEADER[..], &[code, value.len() as u8], value].concat();
    frame.resize(COMMAND - 1, 0);
    frame.push(checksum(&frame));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_active_balancer_has_one_switch() {
        for switch in [Switch::Charging, Switch::Discharging] {
            assert_eq!(switch_command(Layout::Jk04, switch, true), None);
        }
        // 6C sets the clock of other boards.
        let register =
            |layout| switch_command(layout, Switch::Balancing, true).map(|frame| frame[4]);
        assert_eq!(register(Layout::Jk04), Some(0x6C));
        assert_eq!(register(Layout::Cells24), Some(0x1F));
        assert_eq!(register(Layout::Cells32), Some(0x1F));
    }
}
