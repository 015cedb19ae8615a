//! Where a battery is.

use std::fmt;

use super::rule;

/// Where a battery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// Serial device.
    Serial {
        /// Its path.
        path: String,
    },
    /// RS485-to-Ethernet bridge.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// Bluetooth.
    Ble {
        /// Its address: `C8:47:80:37:02:E8`.
        address: String,
        /// Which adapter; `None`: the first powered one.
        adapter: Option<String>,
    },
    /// A simulator in this process.
    Simulated,
}

impl Endpoint {
    /// A path (`/dev/ttyUSB0`) or `tcp://host:port`, with an IPv6 address in brackets.
    pub fn parse(text: &str) -> Option<Endpoint> {
        if let Some(peer) = text.strip_prefix("tcp://") {
            let (host, port) = peer.rsplit_once(':')?;
            // Without brackets nobody can tell where the address ends and the port begins.
            let host = rule::host(host).filter(|_| host.starts_with('[') || !host.contains(':'))?;
            let port = port.parse().ok().filter(|port| *port != 0)?;
            return Some(Endpoint::Tcp { host, port });
        }
        // A name alone (`ttyUSB0`) would depend on the directory that we were started in.
        let is_path = text.starts_with('/') && text.len() > 1 && !text.contains('\0');
        is_path.then(|| Endpoint::Serial { path: text.to_owned() })
    }

    /// A Bluetooth address in any spelling.
    pub fn on_radio(address: &str, adapter: Option<&str>) -> Endpoint {
        Endpoint::Ble {
            address: address.replace('-', ":").to_uppercase(),
            adapter: adapter.map(str::to_owned),
        }
    }

    /// Whether two batteries are at one and the same place. A Bluetooth device is one device,
    /// whichever adapter reaches it; of simulated batteries there are as many as are wanted.
    pub fn is_same(&self, other: &Endpoint) -> bool {
        match (self, other) {
            (Endpoint::Simulated, _) => false,
            (Endpoint::Ble { address, .. }, Endpoint::Ble { address: other, .. }) => {
                address == other
            }
            _ => self == other,
        }
    }
}

/// As it is written in the configuration; `simulated` for a battery without a place.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Serial { path } => f.write_str(path),
            Endpoint::Tcp { host, port } if host.contains(':') => {
                write!(f, "tcp://[{host}]:{port}")
            }
            Endpoint::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Endpoint::Ble { address, .. } => f.write_str(address),
            Endpoint::Simulated => f.write_str(rule::SIMULATED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_shown() {
        for text in
            ["/dev/ttyUSB0", "tcp://10.0.0.5:8899", "tcp://bridge.lan:23", "tcp://[fe80::1]:1"]
        {
            assert_eq!(Endpoint::parse(text).map(|place| place.to_string()).as_deref(), Some(text));
        }
        assert_eq!(
            Endpoint::parse("tcp://[::1]:8899"),
            Some(Endpoint::Tcp { host: "::1".into(), port: 8899 })
        );
    }

    #[test]
    fn a_bluetooth_device_is_one_device_in_any_spelling() {
        let place = Endpoint::on_radio("c8-47-80-37-02-e8", None);
        assert_eq!(place.to_string(), "C8:47:80:37:02:E8");
        assert!(place.is_same(&Endpoint::on_radio("C8:47:80:37:02:E8", Some("hci1"))));
        assert!(!place.is_same(&Endpoint::on_radio("C8:47:80:37:02:E9", None)));
        assert!(!Endpoint::Simulated.is_same(&Endpoint::Simulated));
    }

    #[test]
    fn half_places_are_refused() {
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
