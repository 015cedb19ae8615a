//! The result of a scan as text.

use super::{Environment, FoundDevice, FoundPort, ScanResult, by_address};
use crate::app::probe::{Identified, ProbeResult};
use crate::model::Fault;
use crate::protocol::{detection, drivers, uuid16};
use crate::remedy;
use crate::transport::ble::ProxyInfo;

const NO_DEVICE: &str = "\
No Bluetooth device in range. A battery does not advertise while a phone app or another program is \
connected to it.
";

/// A line to copy has no key: it would stay in the scrollback of the terminal and in bug reports.
const KEY_NOTE: &str = "  KEY: `key:` under `api: encryption:` in the YAML of the device. DEVICES_FILE or \
                        BLE_PROXIES_FILE keeps it out of the environment\n";

pub(super) fn render(result: &ScanResult) -> String {
    let devices = match &result.devices {
        Ok(devices) => render_devices(devices),
        Err(fault) => format!("Bluetooth is not available: {}\n  {}\n", fault.message, fault.hint),
    };
    render_ports(&result.ports) + &render_proxies(&result.proxies) + &devices
}

fn render_proxies(proxies: &[Result<ProxyInfo, Fault>]) -> String {
    let line = |proxy: &Result<ProxyInfo, Fault>| match proxy {
        Ok(info) => format!("Bluetooth proxy {info}\n"),
        Err(Fault { message, hint, .. }) => format!("Bluetooth proxy {message}\n  {hint}\n"),
    };
    let text: String = proxies.iter().map(line).collect();
    if text.is_empty() { text } else { text + "\n" }
}

fn render_ports(ports: &[FoundPort]) -> String {
    if ports.is_empty() {
        return format!("No serial port found: {}\n\n", remedy::PORT_MISSING.text());
    }
    let mut text = String::new();
    for port in ports {
        let path = &port.path();
        text += &format!("{path}\n");
        if let Some(device) = &port.found.device {
            text += &format!("  currently {device}\n");
        }
        text += &render_probe(port.probe.as_ref());
        if !port.is_missing() {
            // A bridge is reached over the network and not by a device.
            let is_device = !path.contains("://");
            let mount = if is_device { format!("--device {path}:{path} ") } else { String::new() };
            text += &render_settings(&mount, &port.environment());
            if *path != port.found.path {
                text += KEY_NOTE;
            }
        }
        text.push('\n');
    }
    let serial = drivers().iter().filter(|info| info.serial.is_some());
    let types: Vec<_> = serial.map(|info| info.name).collect();
    text += &format!("Types for a serial port: {}\n", types.join(", "));
    if ports.iter().all(|port| port.probe.is_none()) {
        text += "`bms-reader scan --probe` identifies the batteries; BMS_TYPE=auto does so at each start.\n";
    }
    text + "\n"
}

fn render_devices(devices: &[FoundDevice]) -> String {
    if devices.is_empty() {
        return NO_DEVICE.to_owned();
    }
    let (batteries, others): (Vec<_>, Vec<_>) =
        devices.iter().partition(|device| device.may_be_battery());
    let mut text = String::new();
    for device in batteries {
        text += &format!("{}\n", headline(device));
        if device.found.connected {
            text += "  connected to a program on this machine\n";
        }
        text += &render_guesses(device);
        text += &render_probe(device.probe.as_ref());
        // A proxy is reached over the network.
        let mount = if device.by_proxy { "" } else { "-v /run/dbus:/run/dbus:ro " };
        text += &render_settings(mount, &device.environment());
        text.push('\n');
    }
    if !others.is_empty() {
        text += "Other Bluetooth devices, which match no supported battery:\n";
    }
    text.extend(others.iter().map(|device| format!("  {}\n", headline(device))));
    text
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

fn render_guesses(device: &FoundDevice) -> String {
    let titles = detection::titles(&device.guesses);
    match device.guesses.first() {
        Some(guess) if guess.likely => format!("  probably {titles}\n"),
        Some(_) => format!("  possibly {titles}; other devices advertise the same\n"),
        None => String::new(),
    }
}

fn render_probe(probe: Option<&ProbeResult>) -> String {
    match probe {
        None => String::new(),
        Some(Ok(packs)) => {
            let name = |pack: &Identified| {
                let model = pack.model.as_ref().map(|model| format!(", {model}"));
                format!("{}{}", pack.driver.title, model.unwrap_or_default())
            };
            let names =
                |brands: &[Identified]| brands.iter().map(name).collect::<Vec<_>>().join(" or ");
            let packs = by_address(packs);
            let line = |brands: &&[Identified]| {
                let address = brands.first().and_then(|pack| pack.address).unwrap_or_default();
                format!("    address {address}: {}\n", names(brands))
            };
            let mut text = match &packs[..] {
                [only] => format!("  identified as {}\n", names(only)),
                several => {
                    let lines: String = several.iter().map(line).collect();
                    format!("  {} packs found\n{lines}", several.len())
                }
            };
            if packs.iter().any(|brands| brands.len() > 1) {
                text += "    answers several brands: compare the values with its display\n";
            }
            text
        }
        Some(Err(fault)) => format!("  {}\n    {}\n", fault.message, fault.hint),
    }
}

/// The lines to copy. `mount` is empty or ends with a blank.
fn render_settings(mount: &str, environment: &Environment) -> String {
    // A shell takes JSON and the query of a URL apart.
    let quoted = |value: &str| match value.contains(['"', '?', '&', ' ']) {
        true => format!("'{value}'"),
        false => value.to_owned(),
    };
    let pair = |(name, value): &(&str, String)| format!("{name}={}", quoted(value));
    let pairs: Vec<_> = environment.iter().map(pair).collect();
    // Without quotes YAML reads some addresses as numbers in base 60.
    let option = |(name, value): &(&str, String)| match value.contains('"') {
        true => format!("{}: '{value}'", name.to_lowercase()),
        false => format!("{}: \"{value}\"", name.to_lowercase()),
    };
    let options: Vec<_> = environment.iter().map(option).collect();
    format!(
        "  environment:  {}\n  docker run:   {mount}-e {}\n  add-on:       {}\n",
        pairs.join(" "),
        pairs.join(" -e "),
        options.join("\n                ")
    )
}

/// Assigned UUIDs in their short form: `ff00`.
pub(super) fn uuid(uuid: u128) -> String {
    let [a, b, c, d] = [uuid >> 96, uuid >> 80 & 0xFFFF, uuid >> 64 & 0xFFFF, uuid >> 48 & 0xFFFF];
    match u16::try_from(a) {
        Ok(short) if uuid16(short) == uuid => format!("{short:04x}"),
        _ => format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}", uuid & 0xFFFF_FFFF_FFFF),
    }
}
