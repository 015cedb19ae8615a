//! The Bluetooth proxies: ESPHome devices near the batteries.

use serde_json::Value;

use super::Device;
use super::endpoint::Endpoint;
use super::error::ConfigError;
use super::esphome::SerialPort;
use super::rule;
use super::values::Values;
use super::variables::{BLE_PROXIES, BMS_ADAPTER};
use crate::model::Secret;

/// More are a mistake.
const MAX_PROXIES: usize = 32;
/// The name of the adapter that stands for all proxies.
const ANY: &str = "proxies";

/// One entry of `BLE_PROXIES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BleProxy {
    /// Without a serial port.
    pub device: SerialPort,
    /// `None`: as the device calls itself.
    pub name: Option<String>,
}

pub(super) fn all(values: &Values) -> Vec<BleProxy> {
    let Some(text) = values.explicit(&BLE_PROXIES) else { return Vec::new() };
    let parsed: Vec<_> = match text.trim_start().starts_with('[') {
        true => values.json_array(&BLE_PROXIES).unwrap_or_default().iter().map(element).collect(),
        false => addresses(text).map(|it| address(it).ok_or(ADDRESS)).collect(),
    };
    if parsed.len() > MAX_PROXIES {
        values.reject(&BLE_PROXIES, format!("at most {MAX_PROXIES} proxies"));
    }
    let mut proxies: Vec<BleProxy> = Vec::new();
    for (number, proxy) in (1..).zip(parsed) {
        let is_known =
            |it: &BleProxy| proxies.iter().any(|other| other.device.is_same_device(&it.device));
        let proxy = match proxy {
            Ok(proxy) if is_known(&proxy) => Err("a device that is not listed before"),
            other => other,
        };
        match proxy {
            Ok(proxy) => proxies.push(proxy),
            Err(allowed) => {
                let name = format!("{}, proxy {number}", values.name_of(&BLE_PROXIES));
                values.error(ConfigError::new(name, allowed, BLE_PROXIES.example));
            }
        }
    }
    proxies
}

const ADDRESS: &str = "host, host:port or host?key=... with a key of 44 characters";
const ELEMENT: &str = "an object with host, and perhaps port, key and name";
const NAME: &str = "a name of letters, digits, -, _ and ., other than proxies";

fn addresses(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|address| !address.is_empty())
}

fn address(text: &str) -> Option<BleProxy> {
    let text = text.strip_prefix("esphome://").unwrap_or(text);
    let device = SerialPort::parse(&format!("esphome://{text}"))?;
    device.name.is_none().then_some(BleProxy { device, name: None })
}

fn element(value: &Value) -> Result<BleProxy, &'static str> {
    let fields = match value {
        Value::String(text) => return address(text).ok_or(ADDRESS),
        Value::Object(fields) => fields,
        _ => return Err(ELEMENT),
    };
    let [mut host, mut port, mut key, mut name] = [const { None }; 4];
    for (field, value) in fields {
        let place = match field.to_lowercase().as_str() {
            "host" => &mut host,
            "port" => &mut port,
            "key" => &mut key,
            "name" => &mut name,
            _ => return Err(ELEMENT),
        };
        *place = match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null => None,
            _ => return Err(ELEMENT),
        };
    }
    let host = host.ok_or(ELEMENT)?;
    let is_bare = host.contains(':') && !host.starts_with('[');
    let host = if is_bare { format!("[{host}]") } else { host };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let key = key.filter(|key| !key.is_empty()).map(|key| format!("?key={key}"));
    let mut proxy = address(&format!("{host}{port}{}", key.unwrap_or_default())).ok_or(ADDRESS)?;
    if name.as_ref().is_some_and(|name| !rule::is_adapter(name) || name == ANY) {
        return Err(NAME);
    }
    proxy.name = name;
    Ok(proxy)
}

/// A serial port of one of these devices has its key. Reports batteries that need a proxy where there
/// is none.
pub(super) fn share(values: &Values, proxies: &[BleProxy], devices: &mut [Device]) {
    let unset = || {
        let reason = format!("{} is {ANY}", values.name_of(&BMS_ADAPTER));
        values.require(&BLE_PROXIES, &reason);
    };
    for device in devices {
        match &mut device.endpoint {
            Endpoint::Esphome(port) if port.key.is_none() => {
                let proxy = proxies.iter().find(|proxy| proxy.device.is_same_device(port));
                port.key = proxy.and_then(|proxy| proxy.device.key.clone());
            }
            Endpoint::Ble { adapter: Some(adapter), .. } if adapter == ANY => unset(),
            _ => {}
        }
    }
}

/// The keys, for a search in other texts.
pub(super) fn secrets(text: &str) -> Vec<Secret> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(list)) => {
            let key = |it: &Value| it.get("key")?.as_str().map(Secret::new);
            let of_address = |it: &Value| it.as_str().and_then(address_key);
            list.iter().filter_map(|it| key(it).or_else(|| of_address(it))).collect()
        }
        _ => addresses(text).filter_map(address_key).collect(),
    }
}

fn address_key(text: &str) -> Option<Secret> {
    let (_, query) = text.split_once('?')?;
    let (_, key) = query.split_once('=')?;
    Some(Secret::new(key))
}
