//! Why a read failed.

use std::fmt;

use serde::Serialize;

use super::named_enum::named_enum;

named_enum! {
    /// The `error.type` of the `raw` JSON. The names are part of the contract.
    FaultKind {
        /// The serial device or TCP peer does not exist.
        PortNotFound = "port_not_found",
        PermissionDenied = "permission_denied",
        /// Another program has the port open.
        PortBusy = "port_busy",
        /// No advertisement of the Bluetooth device was received.
        DeviceNotFound = "device_not_found",
        /// The Bluetooth adapter is missing or off.
        AdapterNotFound = "adapter_not_found",
        /// The port or device is there but refuses the connection.
        ConnectFailed = "connect_failed",
        Timeout = "timeout",
        /// Only frames with a wrong checksum arrived.
        BadChecksum = "bad_checksum",
        BadFrame = "bad_frame",
        /// A valid frame of a version or kind that the driver does not know.
        UnsupportedFrame = "unsupported_frame",
        AuthFailed = "auth_failed",
        /// The battery replied with an error code.
        BmsError = "bms_error",
        /// The connection was lost during the read.
        Disconnected = "disconnected",
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The `error` object of the `raw` JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    #[serde(rename = "type")]
    pub kind: FaultKind,
    pub message: String,
    /// What the user can do about it.
    pub hint: String,
}

impl Fault {
    pub fn new(kind: FaultKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Fault { kind, message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}
