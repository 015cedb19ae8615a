//! Where a battery is.

use std::fmt;

use super::esphome::SerialPort;
use super::rule;

/// Where a battery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Serial {
        path: String,
    },
    /// An RS485-to-Ethernet bridge.
    Tcp {
        /// `host:port`, an IPv6 address in brackets.
        address: String,
    },
    /// A serial port of an ESPHome device.
    Esphome(SerialPort),
    Ble {
        /// `C8:47:80:37:02:E8`
        address: String,
        /// `None`: the first powered adapter.
        adapter: Option<String>,
    },
    /// A simulator in this process.
    Simulated,
}

impl Endpoint {
    /// Parses a path (`/dev/ttyUSB0`), `tcp://host:port`, with an IPv6 address in brackets, or
    /// `esphome://host/name`.
    pub fn parse(text: &str) -> Option<Endpoint> {
        if let Some(peer) = text.strip_prefix("tcp://") {
            let (host, port) = peer.rsplit_once(':')?;
            // Without brackets the end of an IPv6 address is ambiguous.
            let host = rule::host(host).filter(|_| host.starts_with('[') || !host.contains(':'))?;
            let port = port.parse().ok().filter(|port: &u16| *port != 0)?;
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            return Some(Endpoint::Tcp { address: format!("{host}:{port}") });
        }
        if let Some(port) = SerialPort::parse(text) {
            return Some(Endpoint::Esphome(port));
        }
        // A name alone (`ttyUSB0`) would depend on the working directory.
        let is_path = text.starts_with('/') && text.len() > 1 && !text.contains('\0');
        is_path.then(|| Endpoint::Serial { path: text.to_owned() })
    }

    /// A Bluetooth address in any spelling.
    pub fn ble(address: &str, adapter: Option<&str>) -> Endpoint {
        Endpoint::Ble {
            address: address.replace('-', ":").to_uppercase(),
            adapter: adapter.map(str::to_owned),
        }
    }

    /// Whether the baud rate is set here, and not at a bridge.
    pub fn has_baud(&self) -> bool {
        matches!(self, Endpoint::Serial { .. } | Endpoint::Esphome(_))
    }

    pub fn is_ble(&self) -> bool {
        matches!(self, Endpoint::Ble { .. })
    }

    /// Whether two batteries share one port or device. A Bluetooth device is the same through
    /// whichever adapter it is reached; simulated batteries are never the same.
    pub fn is_same(&self, other: &Endpoint) -> bool {
        match (self, other) {
            (Endpoint::Simulated, _) => false,
            (Endpoint::Ble { address, .. }, Endpoint::Ble { address: other, .. }) => {
                address == other
            }
            (Endpoint::Esphome(one), Endpoint::Esphome(other)) => one.is_same(other),
            _ => self == other,
        }
    }
}

/// As in the configuration, without keys; `simulated` for a simulator.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Serial { path } => f.write_str(path),
            Endpoint::Tcp { address } => write!(f, "tcp://{address}"),
            Endpoint::Esphome(port) => port.fmt(f),
            Endpoint::Ble { address, .. } => f.write_str(address),
            Endpoint::Simulated => f.write_str(rule::SIMULATED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_equals_parsed_text() {
        for text in
            ["/dev/ttyUSB0", "tcp://10.0.0.5:8899", "tcp://[fe80::1]:1", "esphome://a.lan/BMS bus"]
        {
            assert_eq!(
                Endpoint::parse(text).map(|endpoint| endpoint.to_string()).as_deref(),
                Some(text)
            );
        }
        assert_eq!(
            Endpoint::parse("tcp://[::1]:8899"),
            Some(Endpoint::Tcp { address: "[::1]:8899".into() })
        );
    }

    #[test]
    fn bluetooth_device_is_same_in_any_spelling() {
        let endpoint = Endpoint::ble("c8-47-80-37-02-e8", None);
        assert_eq!(endpoint.to_string(), "C8:47:80:37:02:E8");
        assert!(endpoint.is_same(&Endpoint::ble("C8:47:80:37:02:E8", Some("hci1"))));
        assert!(!endpoint.is_same(&Endpoint::ble("C8:47:80:37:02:E9", None)));
        assert!(!Endpoint::Simulated.is_same(&Endpoint::Simulated));
    }

    #[test]
    fn incomplete_endpoint_is_rejected() {
        for text in [
            "ttyUSB0",
            "/",
            "tcp://",
            "tcp://host",
            "tcp://host:",
            "tcp://host:0",
            "tcp://:1",
            "tcp://::1:80",
            "tcp://host:70000",
            "tcp://u@host:1",
            "tcp://host:1/x",
            "rfc2217://host:1",
            "",
        ] {
            assert_eq!(Endpoint::parse(text), None, "{text}");
        }
    }
}
