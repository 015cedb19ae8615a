//! The dialects of Daly boards, and the requests of each.

use super::query::Query;
use super::{a5, d2, p81};

/// In the order of what a trial costs.
pub(super) static DIALECTS: &[&Dialect] = &[&D2, &P81, &A5_APP, &A5];

/// A way to talk to a board.
#[derive(Debug)]
pub(super) struct Dialect {
    /// What `BMS_VARIANT` calls it.
    pub variant: &'static str,
    /// Boards have numbers. Without, all of them would reply on a bus.
    pub numbered: bool,
    pub ble_only: bool,
    /// Frames are those of Modbus, or else those of A5.
    pub modbus: bool,
    /// Address bytes of a request and of its reply, by the number of the board.
    pub addresses: fn(u8) -> (u8, u8),
    /// The requests of a cycle. The first one has the live values.
    pub plan: &'static [&'static Query],
    /// The request whose reply has the state of the switches.
    pub read_back: &'static Query,
    /// Registers or commands of the switches.
    pub charging: u16,
    pub discharging: u16,
}

static D2: Dialect = Dialect {
    variant: "d2",
    numbered: false,
    ble_only: false,
    modbus: true,
    addresses: |_| (0xD2, 0xD2),
    plan: &[&d2::STATUS, &d2::BOARD, &d2::SETTINGS, &d2::VERSIONS],
    read_back: &d2::STATUS,
    charging: 0xA5,
    discharging: 0xA6,
};

static P81: Dialect = Dialect {
    variant: "p81",
    numbered: true,
    ble_only: false,
    modbus: true,
    addresses: |number| (number.wrapping_add(0x80), number.wrapping_add(0x50)),
    plan: &[&p81::FIRST, &p81::SECOND, &p81::VERSIONS],
    read_back: &p81::SECOND,
    charging: 0x121,
    discharging: 0x122,
};

const A5_WIRE: Dialect = Dialect {
    variant: "a5",
    numbered: true,
    ble_only: false,
    modbus: false,
    addresses: |number| (number.wrapping_add(0x3F), number),
    plan: &[
        &a5::TOTALS,
        &a5::COUNTS,
        &a5::CELLS,
        &a5::SWITCHES,
        &a5::TEMPERATURES,
        &a5::BALANCING,
        &a5::FAILURES,
        &a5::RATED,
    ],
    read_back: &a5::SWITCHES,
    charging: 0xDA,
    discharging: 0xD9,
};

static A5: Dialect = A5_WIRE;

/// Boards check the byte that names the sender. One Bluetooth module accepts only that of a wire, the
/// others that of the phone app.
static A5_APP: Dialect =
    Dialect { ble_only: true, addresses: |number| (number.wrapping_add(0x7F), number), ..A5_WIRE };
