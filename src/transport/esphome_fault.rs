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
}

impl EsphomeFault {
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
            EsphomeFault::Version(_) => "update ESPHome on the device, or this program",
            EsphomeFault::Rejected(_)
            | EsphomeFault::BadFrame
            | EsphomeFault::Silent
            | EsphomeFault::Closed(_)
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
