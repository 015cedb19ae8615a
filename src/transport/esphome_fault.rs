//! Why a device does not serve us.

/// The remedy is [`EsphomeFault::hint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EsphomeFault {
    #[error("the encryption key is wrong")]
    WrongKey,
    #[error("it requires encryption, and no key is configured")]
    KeyRequired,
    #[error("it does not encrypt, and a key is configured")]
    NotEncrypted,
    #[error("what answers is not the API of ESPHome")]
    NotEsphome,
    /// The name has changed since the first connection.
    #[error("another device answers: {found} instead of {expected}")]
    OtherDevice { expected: String, found: String },
    #[error("{}", no_port(name.as_deref(), ports))]
    NoPort { name: Option<String>, ports: Vec<String> },
    /// Another client uses the serial port.
    #[error("another client uses the port")]
    PortBusy,
    /// `status` is a number of the API; the text is that of the device.
    #[error("it refuses to open the port (status {status}) {text}")]
    PortRefused { status: u64, text: String },
    #[error("it refuses the connection: {0}")]
    Rejected(String),
    #[error("it sends a damaged frame")]
    BadFrame,
    #[error("it speaks version {0} of the API")]
    Version(u64),
    #[error("it does not answer")]
    Silent,
    /// The reason is that of the system.
    #[error("{0}")]
    Closed(String),
    #[error("the system has no random numbers")]
    NoRandomness,
    /// As a Bluetooth proxy. The reason is that of another error.
    #[error("the Bluetooth proxy cannot be reached: {0}")]
    Unreachable(String),
    #[error("it is no Bluetooth proxy")]
    NoProxy,
    #[error("it receives advertisements and cannot connect")]
    OnlyListens,
    /// It serves one client.
    #[error("the Bluetooth proxy is used by another program, probably Home Assistant")]
    ProxyBusy,
    #[error("the Bluetooth proxy receives no Bluetooth device at all")]
    ReceivesNothing,
    #[error("all {0} connections of the Bluetooth proxy are in use")]
    NoSlot(u64),
    #[error("another client of the Bluetooth proxy is connected to the battery")]
    BatteryTaken,
    #[error("the battery wants a PIN, which a Bluetooth proxy cannot give")]
    PinRequired,
}

impl EsphomeFault {
    /// Whether a Bluetooth proxy may serve us again without any change of its configuration.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            EsphomeFault::Unreachable(_) | EsphomeFault::ProxyBusy | EsphomeFault::ReceivesNothing
        )
    }

    /// What the operator can do.
    pub fn hint(&self) -> &'static str {
        match self {
            EsphomeFault::WrongKey => {
                "copy the key under `api: encryption: key:` in the YAML of the device; a device \
                 without one there gets it from Home Assistant, and no other client can connect"
            }
            EsphomeFault::KeyRequired => {
                "add ?key= with the key under `api: encryption: key:` in the YAML of the device"
            }
            EsphomeFault::NotEncrypted => {
                "remove the key here, or add `api: encryption: key:` to the YAML of the device"
            }
            EsphomeFault::NotEsphome => {
                "check the address and the port; the API of ESPHome has port 6053"
            }
            EsphomeFault::OtherDevice { .. } => {
                "check the address; give the device a fixed one in your router"
            }
            EsphomeFault::NoPort { .. } => {
                "write the `name:` under `serial_proxy:` in the YAML of the device after its address"
            }
            EsphomeFault::PortBusy => {
                "only one client can use a port: remove the integration that reads it from Home \
                 Assistant, or restart the device"
            }
            EsphomeFault::PortRefused { .. } => {
                "check `uart:` and `serial_proxy:` in the YAML of the device"
            }
            EsphomeFault::NoProxy => {
                "add `esp32_ble_tracker:` and `bluetooth_proxy:` to the YAML of the device"
            }
            EsphomeFault::OnlyListens => {
                "set `active: true` under `bluetooth_proxy:` in the YAML of the device, and update \
                 ESPHome"
            }
            EsphomeFault::ProxyBusy => {
                "use an ESP32 of its own as the proxy, and do not add it to Home Assistant"
            }
            EsphomeFault::ReceivesNothing => {
                "restart the device; if Home Assistant uses it as its proxy, use one of its own here"
            }
            EsphomeFault::NoSlot(_) => {
                "set a higher `connection_slots:` under `bluetooth_proxy:` (up to 9), or add a proxy"
            }
            EsphomeFault::BatteryTaken => {
                "a battery accepts one connection: disable the integration of Home Assistant that \
                 reads it, or restart the proxy"
            }
            EsphomeFault::PinRequired => {
                "read it with a Bluetooth adapter of this machine, or remove the PIN"
            }
            EsphomeFault::Version(_) => "update ESPHome on the device, or this program",
            EsphomeFault::Rejected(_)
            | EsphomeFault::BadFrame
            | EsphomeFault::Silent
            | EsphomeFault::Closed(_)
            | EsphomeFault::Unreachable(_)
            | EsphomeFault::NoRandomness => {
                "check the power and the Wi-Fi of the device; it serves a few clients at a time"
            }
        }
    }
}

fn no_port(name: Option<&str>, ports: &[String]) -> String {
    let wanted = match name {
        Some(name) => format!("it has no serial port {name:?}"),
        None if ports.is_empty() => return "it has no serial port".to_owned(),
        None => "it has several serial ports".to_owned(),
    };
    if ports.is_empty() { wanted } else { format!("{wanted}; it has {}", ports.join(", ")) }
}
