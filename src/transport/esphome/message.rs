//! The messages that are used: their numbers, and what is in them.

use super::fields::{bytes, every_bytes, number, put_bytes, put_number, text};

pub const HELLO: u64 = 1;
pub const HELLO_REPLY: u64 = 2;
pub const DISCONNECT: u64 = 5;
pub const DISCONNECT_REPLY: u64 = 6;
pub const PING: u64 = 7;
pub const PONG: u64 = 8;
pub const DEVICE_INFO: u64 = 9;
pub const DEVICE_INFO_REPLY: u64 = 10;
pub const SERIAL_CONFIGURE: u64 = 138;
pub const SERIAL_DATA: u64 = 139;
pub const SERIAL_WRITE: u64 = 140;
pub const SERIAL_REQUEST: u64 = 144;
pub const SERIAL_REPLY: u64 = 147;

/// Requests for a serial port, and what their replies name.
pub const SUBSCRIBE: u64 = 0;
pub const UNSUBSCRIBE: u64 = 1;
pub const CONFIGURE: u64 = 3;

/// Of a serial request: done, and assumed to be done.
pub const STATUS_OK: [u64; 2] = [0, 1];
pub const STATUS_IN_USE: u64 = 5;

/// The version of the API that we speak. A device calls a client without one outdated.
const API: [u64; 2] = [1, 16];
/// The version of the API from which requests for serial ports are answered.
const SERIAL_REPLIES: u64 = 16;
/// More serial ports or longer names are ignored; an ESP32 has three UARTs.
const MAX_PORTS: usize = 32;
const MAX_NAME: usize = 64;

/// What a device is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    pub name: String,
    pub version: String,
    /// The names of the serial ports; their order is that of their numbers.
    pub ports: Vec<String>,
    /// What it can do as a Bluetooth proxy, as bits; 0 if it is none.
    pub bluetooth: u64,
    /// Version of its API, as major and minor number.
    pub api: [u64; 2],
}

impl DeviceInfo {
    pub fn read(payload: &[u8], api: [u64; 2]) -> Self {
        let ports = every_bytes(payload, 25).take(MAX_PORTS).map(|port| name(port, 1)).collect();
        let [name, version] = [2, 4].map(|field| name(payload, field));
        DeviceInfo { name, version, ports, bluetooth: number(payload, 15), api }
    }

    /// Whether it answers requests for serial ports. Older ones do not report a port in use.
    pub fn replies_to_serial_requests(&self) -> bool {
        self.api[1] >= SERIAL_REPLIES
    }

    /// The number of the port with this name, or else with this number; without either that of the
    /// only port.
    pub fn port(&self, wanted: Option<&str>) -> Option<u64> {
        let Some(wanted) = wanted else { return (self.ports.len() == 1).then_some(0) };
        let same = self.ports.iter().position(|name| name == wanted);
        let similar = || self.ports.iter().position(|name| name.eq_ignore_ascii_case(wanted));
        let numbered = || wanted.parse().ok().filter(|index| *index < self.ports.len());
        same.or_else(similar).or_else(numbered).map(|index| index as u64)
    }
}

fn name(payload: &[u8], field: u64) -> String {
    text(payload, field).chars().take(MAX_NAME).collect()
}

pub fn hello(client: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    put_bytes(&mut payload, 1, client.as_bytes());
    put_number(&mut payload, 2, API[0]);
    put_number(&mut payload, 3, API[1]);
    payload
}

/// Subscribes to or frees a serial port.
pub fn serial_request(port: u64, kind: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    put_number(&mut payload, 1, port);
    put_number(&mut payload, 2, kind);
    payload
}

/// 8 data bits, no parity, one stop bit, no flow control: what every brand uses.
pub fn serial_settings(port: u64, baud: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    put_number(&mut payload, 1, port);
    put_number(&mut payload, 2, baud.into());
    put_number(&mut payload, 5, 1);
    put_number(&mut payload, 6, 8);
    payload
}

pub fn serial_data(port: u64, bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    put_number(&mut payload, 1, port);
    put_bytes(&mut payload, 2, bytes);
    payload
}

/// Port and bytes of a message with serial data.
pub fn read_serial_data(payload: &[u8]) -> (u64, &[u8]) {
    (number(payload, 1), bytes(payload, 2))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialReply {
    pub port: u64,
    /// Of the request.
    pub kind: u64,
    pub status: u64,
    pub text: String,
}

impl SerialReply {
    pub fn read(payload: &[u8]) -> Self {
        let [port, kind, status] = [1, 2, 3].map(|field| number(payload, field));
        SerialReply { port, kind, status, text: name(payload, 4) }
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::tests::{hex, vectors};
    use super::*;

    pub fn recorded(what: &str) -> Vec<u8> {
        let all = vectors()["messages"].as_array().unwrap().clone();
        hex(&all.iter().find(|message| message["what"] == what).unwrap()["payload"])
    }

    #[test]
    fn recorded_messages_are_read_and_written() {
        let info = DeviceInfo::read(&recorded("device info"), [1, 19]);
        assert_eq!(
            (info.name.as_str(), info.version.as_str(), &info.ports[..]),
            ("garage", "2026.10.0", &["BMS bus".to_owned()][..])
        );
        assert!(info.replies_to_serial_requests());
        assert_eq!(info.bluetooth, 0xFF);
        let subscribe = "serial: subscribe the first port (empty)";
        assert_eq!(serial_request(0, SUBSCRIBE), recorded(subscribe));
        assert_eq!(serial_settings(0, 9600), recorded("serial: 9600 8N1"));
        let request = [0xDD, 0xA5, 3, 0, 0xFF, 0xFD, 0x77];
        assert_eq!(serial_data(0, &request), recorded("serial: write"));
        let data = recorded("serial: data of the second port");
        assert_eq!(read_serial_data(&data), (1, &[0xDD, 3][..]));
        let reply = SerialReply::read(&recorded("serial: port in use"));
        assert_eq!((reply.port, reply.kind, reply.status), (0, SUBSCRIBE, STATUS_IN_USE));
        let [mut ours, mut theirs] = [hello("bms-reader"), recorded("hello")];
        // Theirs is of version 1.14.
        assert_eq!((ours.pop(), theirs.pop()), (Some(16), Some(14)));
        assert_eq!(ours, theirs);
    }

    #[test]
    fn port_is_found_by_name_or_number() {
        let ports = ["BMS bus".to_owned(), "1".to_owned(), "0".to_owned()];
        let info = DeviceInfo { ports: ports.into(), ..DeviceInfo::default() };
        for (wanted, found) in [
            (Some("BMS bus"), Some(0)),
            (Some("bms BUS"), Some(0)),
            (Some("0"), Some(2)),
            (Some("2"), Some(2)),
            (Some("3"), None),
            (Some("other"), None),
            (None, None),
        ] {
            assert_eq!(info.port(wanted), found, "{wanted:?}");
        }
        let single = DeviceInfo { ports: vec!["BMS bus".into()], ..DeviceInfo::default() };
        assert_eq!(single.port(None), Some(0));
    }
}
