//! `scan`: what is connected, and the lines to put into the configuration.

use serde_json::json;

use super::FINE;
use crate::protocol::DRIVERS;
use crate::transport::serial::{self, PortFound};

pub(super) fn run(_seconds: u64, as_json: bool) -> u8 {
    let ports = serial::list();
    if as_json {
        let found: Vec<_> = ports.iter().map(describe).collect();
        println!("{}", json!({"serial": found}));
        return FINE;
    }
    if ports.is_empty() {
        println!("No serial port found. Is the adapter plugged in? In Docker, pass it with");
        println!("  --device /dev/ttyUSB0      (or whatever `ls -l /dev/serial/by-id` shows)");
        return FINE;
    }
    for port in &ports {
        show(port);
    }
    println!("Types for a serial port: {}", serial_types().join(", "));
    FINE
}

fn describe(port: &PortFound) -> serde_json::Value {
    json!({
        "path": port.path,
        "device": port.device,
        "environment": {"BMS_TYPE": serial_types().first(), "BMS_PORT": port.path},
    })
}

fn show(port: &PortFound) {
    let make = serial_types().first().copied().unwrap_or_default();
    println!("{}", port.path);
    if let Some(device) = &port.device {
        println!("  is now {device}");
    }
    println!("  environment:  BMS_TYPE={make} BMS_PORT={}", port.path);
    println!("  docker run:   --device {0}:{0} -e BMS_TYPE={make} -e BMS_PORT={0}", port.path);
    println!("  add-on:       bms_type: {make}");
    println!("                bms_port: {}", port.path);
    println!();
}

fn serial_types() -> Vec<&'static str> {
    DRIVERS.iter().filter(|info| info.serial.is_some()).map(|info| info.name).collect()
}
