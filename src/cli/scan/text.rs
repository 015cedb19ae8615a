//! The result of a scan as text.

use std::fmt::{self, Write};

use super::probe::ProbeResult;
use super::{Environment, FoundDevice, FoundPort, ScanResult};
use crate::protocol::DRIVERS;
use crate::protocol::uuid16;

pub(super) fn render(result: &ScanResult) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write_ports(&mut text, &result.ports);
    let _ = match &result.devices {
        Ok(devices) => write_devices(&mut text, devices),
        Err(fault) => {
            writeln!(text, "Bluetooth is not available: {}\n  {}", fault.message, fault.hint)
        }
    };
    text
}

fn write_ports(text: &mut String, ports: &[FoundPort]) -> fmt::Result {
    if ports.is_empty() {
        return writeln!(
            text,
            "No serial port found. Is the adapter plugged in? In Docker, pass it on with\n  \
             --device /dev/ttyUSB0      (`ls -l /dev/serial/by-id` on the host shows its name)\n"
        );
    }
    for port in ports {
        let path = &port.found.path;
        writeln!(text, "{path}")?;
        if let Some(device) = &port.found.device {
            writeln!(text, "  currently {device}")?;
        }
        write_probe(text, port.probe.as_ref())?;
        match port.is_missing() {
            true => writeln!(text)?,
            false => write_settings(text, &format!("--device {path}:{path}"), port.environment())?,
        }
    }
    let serial = DRIVERS.iter().filter(|info| info.serial.is_some());
    let known: Vec<_> = serial.map(|info| info.name).collect();
    writeln!(text, "Types for a serial port: {}", known.join(", "))?;
    if ports.iter().all(|port| port.probe.is_none()) {
        writeln!(
            text,
            "`bms-reader scan --probe` identifies the batteries; BMS_TYPE=auto does so at each start."
        )?;
    }
    writeln!(text)
}

fn write_devices(text: &mut String, devices: &[FoundDevice]) -> fmt::Result {
    if devices.is_empty() {
        return writeln!(
            text,
            "No Bluetooth device in range. A battery does not advertise while a phone app or another \
             program is connected to it."
        );
    }
    let (batteries, others): (Vec<_>, Vec<_>) =
        devices.iter().partition(|device| device.may_be_battery());
    for device in batteries {
        writeln!(text, "{}", headline(device))?;
        if device.found.connected {
            writeln!(text, "  connected to a program on this machine")?;
        }
        write_guesses(text, device)?;
        write_probe(text, device.probe.as_ref())?;
        write_settings(text, "-v /run/dbus:/run/dbus:ro", device.environment())?;
    }
    if !others.is_empty() {
        writeln!(text, "Other Bluetooth devices, which match no supported battery:")?;
    }
    others.iter().try_for_each(|device| writeln!(text, "  {}", headline(device)))
}

/// Address, name, signal strength, adapter and services in one line.
fn headline(device: &FoundDevice) -> String {
    let found = &device.found;
    let mut parts = vec![found.address.clone()];
    // Names are arbitrary, and a terminal interprets control characters.
    parts.extend(found.name.as_ref().map(|name| name.replace(char::is_control, " ")));
    parts.extend(found.rssi.map(|rssi| format!("{rssi} dBm")));
    parts.push(format!("at {}", found.adapter));
    let services: Vec<_> = found.services.iter().map(|service| uuid(*service)).collect();
    if !services.is_empty() {
        parts.push(format!("services {}", services.join(" ")));
    }
    parts.join("  ")
}

fn write_guesses(text: &mut String, device: &FoundDevice) -> fmt::Result {
    let titles = |likely: bool| {
        let guesses = device.guesses.iter().filter(|guess| guess.likely == likely);
        guesses.map(|guess| guess.driver.title).collect::<Vec<_>>().join(" or ")
    };
    match (titles(true), titles(false)) {
        (likely, _) if !likely.is_empty() => writeln!(text, "  probably {likely}"),
        (_, possible) if !possible.is_empty() => {
            writeln!(text, "  possibly {possible}; other devices advertise the same")
        }
        _ => Ok(()),
    }
}

fn write_probe(text: &mut String, probe: Option<&ProbeResult>) -> fmt::Result {
    match probe {
        None => Ok(()),
        Some(Ok(identified)) => {
            let model = identified.model.as_ref().map(|model| format!(", {model}"));
            let title = identified.driver.title;
            writeln!(text, "  identified as {title}{}", model.unwrap_or_default())
        }
        Some(Err(fault)) => writeln!(text, "  {}\n    {}", fault.message, fault.hint),
    }
}

/// The lines to copy.
fn write_settings(text: &mut String, mount: &str, environment: Environment<'_>) -> fmt::Result {
    let pairs = environment.map(|(name, value)| format!("{name}={value}"));
    writeln!(text, "  environment:  {}", pairs.join(" "))?;
    writeln!(text, "  docker run:   {mount} -e {}", pairs.join(" -e "))?;
    for (index, (name, value)) in environment.iter().enumerate() {
        let head = if index == 0 { "add-on:" } else { "" };
        // Without quotes YAML reads some addresses as numbers in base 60.
        writeln!(text, "  {head:<13} {}: \"{value}\"", name.to_lowercase())?;
    }
    writeln!(text)
}

/// Assigned UUIDs in their short form: `ff00`.
pub(super) fn uuid(uuid: u128) -> String {
    let [a, b, c, d] = [uuid >> 96, uuid >> 80 & 0xFFFF, uuid >> 64 & 0xFFFF, uuid >> 48 & 0xFFFF];
    match u16::try_from(a) {
        Ok(short) if uuid16(short) == uuid => format!("{short:04x}"),
        _ => format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}", uuid & 0xFFFF_FFFF_FFFF),
    }
}
