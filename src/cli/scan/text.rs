//! What was found, for people.

use std::fmt::Write;

use super::probe::Answer;
use super::{Device, Findings, Port};
use crate::cli::without_heading;
use crate::protocol::DRIVERS;
use crate::protocol::uuid16;

pub(super) fn render(findings: &Findings) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail, here and below.
    let _ = ports(&mut text, &findings.ports);
    let _ = match &findings.devices {
        Ok(list) => devices(&mut text, list),
        Err(fault) => {
            writeln!(text, "No Bluetooth: {}\n  {}", without_heading(&fault.message), fault.hint)
        }
    };
    text
}

fn ports(text: &mut String, ports: &[Port]) -> std::fmt::Result {
    if ports.is_empty() {
        writeln!(text, "No serial port found. Is the adapter plugged in? In Docker, pass it with")?;
        writeln!(
            text,
            "  --device /dev/ttyUSB0      (or whatever `ls -l /dev/serial/by-id` shows)\n"
        )?;
        return Ok(());
    }
    for port in ports {
        let path = &port.found.path;
        writeln!(text, "{path}")?;
        if let Some(device) = &port.found.device {
            writeln!(text, "  is now {device}")?;
        }
        answer(text, port.answer.as_ref())?;
        match port.is_missing() {
            true => writeln!(text)?,
            false => lines(text, &format!("--device {path}:{path}"), &port.environment())?,
        }
    }
    let known: Vec<_> =
        DRIVERS.iter().filter(|info| info.serial.is_some()).map(|info| info.name).collect();
    writeln!(text, "Types for a serial port: {}", known.join(", "))?;
    if ports.iter().all(|port| port.answer.is_none()) {
        writeln!(
            text,
            "`bms-reader scan --probe` asks who is there; BMS_TYPE=auto does it at each start."
        )?;
    }
    writeln!(text)
}

fn devices(text: &mut String, devices: &[Device]) -> std::fmt::Result {
    let (batteries, others): (Vec<_>, Vec<_>) =
        devices.iter().partition(|device| device.is_of_interest());
    for device in batteries {
        writeln!(text, "{}", headline(device))?;
        if device.found.connected {
            writeln!(text, "  a program of this machine is connected to it")?;
        }
        guesses(text, device)?;
        answer(text, device.answer.as_ref())?;
        lines(text, "-v /run/dbus:/run/dbus:ro", &device.environment())?;
    }
    match (devices.is_empty(), others.is_empty()) {
        (true, _) => writeln!(
            text,
            "No Bluetooth device in reach. A battery is silent while a phone app or another \
             program is connected to it."
        ),
        (_, true) => Ok(()),
        (false, false) => {
            writeln!(text, "Bluetooth devices that look like no battery that is known:")?;
            others.iter().try_for_each(|device| writeln!(text, "  {}", headline(device)))
        }
    }
}

/// Address, name, strength and services in one line.
fn headline(device: &Device) -> String {
    let found = &device.found;
    let mut parts = vec![found.address.clone()];
    // A name is whatever its owner wrote, and a terminal obeys control characters.
    parts.extend(found.name.as_ref().map(|name| name.replace(char::is_control, " ")));
    parts.extend(found.rssi.map(|rssi| format!("{rssi} dBm")));
    parts.push(format!("at {}", found.adapter));
    let services: Vec<_> = found.services.iter().map(|service| uuid(*service)).collect();
    if !services.is_empty() {
        parts.push(format!("services {}", services.join(" ")));
    }
    parts.join("  ")
}

fn guesses(text: &mut String, device: &Device) -> std::fmt::Result {
    let likely: Vec<_> =
        device.guesses.iter().filter(|it| it.likely).map(|it| it.driver.title).collect();
    if !likely.is_empty() {
        return writeln!(text, "  looks like {}", likely.join(" or "));
    }
    let possible: Vec<_> = device.guesses.iter().map(|it| it.driver.title).collect();
    if possible.is_empty() {
        return Ok(());
    }
    writeln!(text, "  perhaps {}; others advertise the same", possible.join(" or "))
}

fn answer(text: &mut String, answer: Option<&Answer>) -> std::fmt::Result {
    match answer {
        None => Ok(()),
        Some(Ok(answered)) => {
            let model = answered.model.as_ref().map(|model| format!(", {model}"));
            writeln!(text, "  answers as {}{}", answered.driver.title, model.unwrap_or_default())
        }
        Some(Err(fault)) => writeln!(text, "  {}\n    {}", fault.message, fault.hint),
    }
}

/// The ready-made lines.
fn lines(text: &mut String, mount: &str, environment: &[(&str, &str)]) -> std::fmt::Result {
    let plain: Vec<_> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let flags: Vec<_> = plain.iter().map(|pair| format!("-e {pair}")).collect();
    writeln!(text, "  environment:  {}", plain.join(" "))?;
    writeln!(text, "  docker run:   {mount} {}", flags.join(" "))?;
    for (index, (name, value)) in environment.iter().enumerate() {
        let head = if index == 0 { "add-on:" } else { "" };
        // A colon makes a number in base 60 of some addresses, for YAML.
        writeln!(text, "  {head:<13} {}: \"{value}\"", name.to_lowercase())?;
    }
    writeln!(text)
}

/// `ff00` where Bluetooth has assigned a short one.
pub(super) fn uuid(uuid: u128) -> String {
    let short = u16::try_from(uuid >> 96).ok().filter(|short| uuid16(*short) == uuid);
    let [a, b, c, d] = [uuid >> 96, uuid >> 80 & 0xFFFF, uuid >> 64 & 0xFFFF, uuid >> 48 & 0xFFFF];
    match short {
        Some(short) => format!("{short:04x}"),
        None => format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}", uuid & 0xFFFF_FFFF_FFFF),
    }
}
