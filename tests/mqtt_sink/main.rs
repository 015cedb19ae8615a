//! The MQTT sink with a real broker, observed by another client of that broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod alarm_events;
mod availability;
mod bridge;
#[cfg(feature = "tls")]
#[path = "../common/certificate.rs"]
mod certificate;
mod commands;
mod discovery;
mod energy;
mod fixture;
mod hostile;
#[path = "../common/mosquitto.rs"]
mod mosquitto;
mod mqtt5;
#[path = "../common/proxy.rs"]
mod proxy;
mod publishing;
mod reconnecting;
mod slow_link;
#[cfg(feature = "tls")]
mod tls;

const DEVICE: &str = "homeassistant/device/rack/config";
const BRIDGE: &str = "bms/bridge/bms-reader-rack/online";
const EVENT: &str = "bms/rack/event";
