//! Characteristics of Bluetooth devices, and their UUIDs.

/// One characteristic of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Characteristic {
    /// UUID of the service.
    pub service: u128,
    /// UUID of the characteristic.
    pub uuid: u128,
}

/// A characteristic with UUIDs that Bluetooth assigns.
pub const fn short(service: u16, uuid: u16) -> Characteristic {
    Characteristic { service: uuid16(service), uuid: uuid16(uuid) }
}

/// A UUID from the 16 bits that Bluetooth assigns.
pub const fn uuid16(short: u16) -> u128 {
    const BASE: u128 = 0x0000_0000_0000_1000_8000_0080_5f9b_34fb;
    BASE | (short as u128) << 96
}
