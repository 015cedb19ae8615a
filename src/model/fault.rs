//! Why a read failed, in the words that users and their flows rely on.

use std::fmt;

use serde::Serialize;

/// The `error.type` of the `raw` JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The serial device or TCP peer does not exist.
    PortNotFound,
    /// The system refuses access.
    PermissionDenied,
    /// Another program holds the port.
    PortBusy,
    /// The Bluetooth device is not seen.
    DeviceNotFound,
    /// The Bluetooth adapter is missing or off.
    AdapterNotFound,
    /// The port or device is there, but no connection came about.
    ConnectFailed,
    /// No answer in time.
    Timeout,
    /// Answers came, damaged.
    BadChecksum,
    /// Answers came that make no sense.
    BadFrame,
    /// A sound answer of a kind that is not supported.
    UnsupportedFrame,
    /// A password or log-in was refused.
    AuthFailed,
    /// The battery itself answered with an error.
    BmsError,
    /// The connection broke in the middle.
    Disconnected,
}

impl FaultKind {
    /// Every kind, in the order of the contract.
    pub const ALL: &[FaultKind] = &[
        FaultKind::PortNotFound,
        FaultKind::PermissionDenied,
        FaultKind::PortBusy,
        FaultKind::DeviceNotFound,
        FaultKind::AdapterNotFound,
        FaultKind::ConnectFailed,
        FaultKind::Timeout,
        FaultKind::BadChecksum,
        FaultKind::BadFrame,
        FaultKind::UnsupportedFrame,
        FaultKind::AuthFailed,
        FaultKind::BmsError,
        FaultKind::Disconnected,
    ];

    /// The word of the contract.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::PortNotFound => "port_not_found",
            FaultKind::PermissionDenied => "permission_denied",
            FaultKind::PortBusy => "port_busy",
            FaultKind::DeviceNotFound => "device_not_found",
            FaultKind::AdapterNotFound => "adapter_not_found",
            FaultKind::ConnectFailed => "connect_failed",
            FaultKind::Timeout => "timeout",
            FaultKind::BadChecksum => "bad_checksum",
            FaultKind::BadFrame => "bad_frame",
            FaultKind::UnsupportedFrame => "unsupported_frame",
            FaultKind::AuthFailed => "auth_failed",
            FaultKind::BmsError => "bms_error",
            FaultKind::Disconnected => "disconnected",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a read failed: for machines, for people, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// For machines.
    #[serde(rename = "type")]
    pub kind: FaultKind,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Fault {
    /// A fault of that kind.
    pub fn new(kind: FaultKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Fault { kind, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}
