//! An attempt as the `raw` JSON that MQTT, HTTP, `read` and `decode` share.

use serde_json::Value;

use crate::model::DeviceState;

/// The whole state of a battery, in the shape of the contract.
pub fn raw(_state: &DeviceState) -> Value {
    Value::Null
}
