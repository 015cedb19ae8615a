//! The messages of a Bluetooth proxy: their numbers, and what is in them.

use super::fields::{bytes, every_bytes, every_number, number, put_bytes, put_number};

pub const SUBSCRIBE: u64 = 66;
pub const DEVICE_REQUEST: u64 = 68;
pub const CONNECTION: u64 = 69;
pub const SERVICES_REQUEST: u64 = 70;
pub const SERVICES: u64 = 71;
pub const SERVICES_DONE: u64 = 72;
pub const READ: u64 = 73;
pub const READ_REPLY: u64 = 74;
pub const WRITE: u64 = 75;
pub const WRITE_DESCRIPTOR: u64 = 77;
pub const NOTIFY: u64 = 78;
pub const NOTIFICATION: u64 = 79;
pub const SLOTS_REQUEST: u64 = 80;
pub const SLOTS: u64 = 81;
pub const GATT_ERROR: u64 = 82;
pub const WRITE_REPLY: u64 = 83;
pub const NOTIFY_REPLY: u64 = 84;
pub const ADVERTISEMENTS: u64 = 93;
pub const SCANNER_STATE: u64 = 126;
pub const SCANNER_MODE: u64 = 127;

/// Types of a device request. A connect with cached services has an empty list of them, so only the
/// one without is used.
pub const DISCONNECT: u64 = 1;
pub const CONNECT_UNCACHED: u64 = 5;

/// Features that a proxy needs: connections, both kinds of them, and raw advertisements.
pub const CONNECTIONS: u64 = 2 | 4;
pub const RAW_ADVERTISEMENTS: u64 = 32;
/// It reports the state of its scanner, but only to the client that receives the advertisements.
pub const REPORTS_SCANNER: u64 = 64;

/// A scan that also asks for names.
const ACTIVE: u64 = 1;

pub const READABLE: u64 = 2;
pub const WRITABLE_WITHOUT_RESPONSE: u64 = 4;
pub const WRITABLE: u64 = 8;
pub const NOTIFIES: u64 = 16;
pub const INDICATES: u64 = 32;

/// The descriptor that switches notifications on.
const CCCD: u128 = short_uuid(0x2902);
const MAX_SERVICES: usize = 64;
const MAX_CHARACTERISTICS: usize = 64;
const MAX_SLOTS: usize = 32;

/// Whether the message belongs to the Bluetooth proxy.
pub fn is_bluetooth(kind: u64) -> bool {
    (SUBSCRIBE..=ADVERTISEMENTS).contains(&kind) || kind == SCANNER_STATE
}

pub const fn short_uuid(short: u64) -> u128 {
    (short as u128) << 96 | 0x0000_0000_0000_1000_8000_0080_5F9B_34FB
}

/// A request that has an address and up to two numbers. Numbers of 0 are not sent.
fn request(address: u64, second: u64, third: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    for (field, number) in [(1, address), (2, second), (3, third)] {
        put_number(&mut payload, field, number);
    }
    payload
}

pub fn subscribe_raw() -> Vec<u8> {
    request(1, 0, 0)
}

pub fn active_scan() -> Vec<u8> {
    request(ACTIVE, 0, 0)
}

/// The type of the address comes from an advertisement; without it, a connect fails.
pub fn connect(address: u64, address_type: u64) -> Vec<u8> {
    let mut payload = request(address, CONNECT_UNCACHED, 1);
    put_number(&mut payload, 4, address_type);
    payload
}

pub fn disconnect(address: u64) -> Vec<u8> {
    request(address, DISCONNECT, 0)
}

pub fn of_address(address: u64) -> Vec<u8> {
    request(address, 0, 0)
}

pub fn of_handle(address: u64, handle: u64) -> Vec<u8> {
    request(address, handle, 0)
}

pub fn notify(address: u64, handle: u64) -> Vec<u8> {
    request(address, handle, 1)
}

pub fn write(address: u64, handle: u64, with_response: bool, data: &[u8]) -> Vec<u8> {
    let mut payload = request(address, handle, with_response.into());
    put_bytes(&mut payload, 4, data);
    payload
}

pub fn write_descriptor(address: u64, handle: u64, data: &[u8]) -> Vec<u8> {
    let mut payload = request(address, handle, 0);
    put_bytes(&mut payload, 3, data);
    payload
}

/// The connections that a proxy can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    pub free: u64,
    pub limit: u64,
    /// The batteries that are connected, to any client.
    pub allocated: Vec<u64>,
}

impl Slots {
    pub fn read(payload: &[u8]) -> Self {
        let [free, limit] = [1, 2].map(|field| number(payload, field));
        let allocated = every_number(payload, 3).into_iter().take(MAX_SLOTS).collect();
        Slots { free, limit, allocated }
    }
}

/// The state of a connection, as reported after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionState {
    pub connected: bool,
    pub mtu: u64,
    /// Why it is not connected; 0 also means that there is no free slot.
    pub error: i32,
}

impl ConnectionState {
    pub fn read(payload: &[u8]) -> Self {
        let [connected, mtu] = [2, 3].map(|field| number(payload, field));
        ConnectionState { connected: connected != 0, mtu, error: signed(number(payload, 4)) }
    }
}

/// A characteristic of a battery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Characteristic {
    pub service: u128,
    pub uuid: u128,
    pub handle: u64,
    /// What it can do, as bits.
    pub properties: u64,
    /// Of its descriptor that switches notifications on.
    pub cccd: Option<u64>,
}

/// The characteristics in one message; a battery has several.
pub fn read_services(payload: &[u8]) -> Vec<Characteristic> {
    let mut found = Vec::new();
    for service in every_bytes(payload, 2).take(MAX_SERVICES) {
        let id = uuid(service, 4);
        for characteristic in every_bytes(service, 3).take(MAX_CHARACTERISTICS) {
            let [handle, properties] = [2, 3].map(|field| number(characteristic, field));
            let mut descriptors = every_bytes(characteristic, 4);
            let cccd = descriptors.find(|descriptor| uuid(descriptor, 3) == CCCD);
            found.push(Characteristic {
                service: id,
                uuid: uuid(characteristic, 5),
                handle,
                properties,
                cccd: cccd.map(|descriptor| number(descriptor, 2)),
            });
        }
    }
    found
}

/// Either two numbers of 64 bits, or a short one in the field of that number.
fn uuid(payload: &[u8], short: u64) -> u128 {
    match every_number(payload, 1)[..] {
        [high, low, ..] => u128::from(high) << 64 | u128::from(low),
        _ => short_uuid(number(payload, short) & u64::from(u32::MAX)),
    }
}

/// Address, handle and data of a value or a notification.
pub fn read_value(payload: &[u8]) -> (u64, u64, &[u8]) {
    (number(payload, 1), number(payload, 2), bytes(payload, 3))
}

/// The code of a GATT error; -1: the battery is not connected.
pub fn read_error(payload: &[u8]) -> i32 {
    signed(number(payload, 3))
}

fn signed(number: u64) -> i32 {
    number as i32
}

/// What a device has sent, before its content is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawAdvertisement<'a> {
    pub address: u64,
    /// In dBm.
    pub rssi: i16,
    /// 0 is public, 1 random.
    pub address_type: u64,
    pub data: &'a [u8],
}

pub fn read_advertisements(payload: &[u8]) -> impl Iterator<Item = RawAdvertisement<'_>> {
    every_bytes(payload, 1).map(|one| {
        let [address, rssi, address_type] = [1, 2, 3].map(|field| number(one, field));
        let rssi = (rssi >> 1) as i64 ^ -((rssi & 1) as i64);
        let rssi = rssi.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        RawAdvertisement { address, rssi, address_type, data: bytes(one, 4) }
    })
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::recorded;
    use super::*;

    fn address_in(what: &str) -> u64 {
        number(&recorded(what), 1)
    }

    #[test]
    fn requests_are_written_as_recorded() {
        let address = address_in("connected");
        for (what, ours) in [
            ("raw advertisements on", subscribe_raw()),
            ("connect without cache, public address", connect(address, 0)),
            ("connect, random address", connect(address, 1)),
            ("services done", of_address(address)),
            ("notifications on", notify(address, 3)),
            ("descriptor write", write_descriptor(address, 4, &[1, 0])),
            (
                "write without response",
                write(address, 6, false, &[0xDD, 0xA5, 3, 0, 0xFF, 0xFD, 0x77]),
            ),
        ] {
            assert_eq!(ours, recorded(what), "{what}");
        }
    }

    #[test]
    fn states_of_connections_are_read() {
        for (what, connected, mtu, error) in [
            ("connected", true, 247, 0),
            ("no slot free (no error number)", false, 0, 0),
            ("link lost", false, 0, 8),
        ] {
            let state = ConnectionState { connected, mtu, error };
            assert_eq!(ConnectionState::read(&recorded(what)), state, "{what}");
        }
        let error = recorded("GATT error: not connected (ten byte number)");
        assert_eq!((read_error(&error), number(&error, 2)), (-1, 6));
    }

    #[test]
    fn slots_are_read_packed_or_not() {
        let [one, packed] = ["one slot of three is free", "the same, packed (nanopb)"]
            .map(|what| Slots::read(&recorded(what)));
        assert_eq!((one.free, one.limit, one.allocated.len()), (1, 3, 2));
        assert_eq!(one.allocated[0], address_in("connected"));
        assert_eq!(one, packed);
    }

    #[test]
    fn services_are_read_with_short_and_long_uuids() {
        let short = read_services(&recorded("services, short UUIDs"));
        let ids: Vec<_> = short.iter().map(|it| (it.uuid, it.handle, it.properties)).collect();
        assert_eq!(ids, [(short_uuid(0xFF01), 3, 18), (short_uuid(0xFF02), 6, 14)]);
        assert!(short.iter().all(|it| it.service == short_uuid(0xFF00)));
        assert_eq!((short[0].cccd, short[1].cccd), (Some(4), None));
        let [long, packed] = ["services, 128 bits", "services, 128 bits, packed (nanopb)"]
            .map(|what| read_services(&recorded(what)));
        assert_eq!((long.len(), long[0].handle, long[0].properties), (1, 3, 16));
        assert_eq!(long[0].uuid & 0xFFFF_FFFF_FFFF, long[0].service & 0xFFFF_FFFF_FFFF);
        assert_eq!(long, packed);
    }

    #[test]
    fn advertisements_are_read() {
        let recorded = recorded("two advertisements");
        let found: Vec<_> = read_advertisements(&recorded).collect();
        let [first, second] = found[..] else { panic!("{found:?}") };
        assert_eq!(
            (first.address, first.rssi, first.address_type),
            (address_in("connected"), -61, 0)
        );
        assert_eq!((second.rssi, second.address_type, second.data), (-90, 1, &[2, 1, 6][..]));
    }
}
