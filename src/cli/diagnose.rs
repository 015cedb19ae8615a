//! `diagnose`: everything that a bug report needs, as Markdown to paste, without secrets.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::{FINE, read};
use crate::config::{self, Config, Rejected, Told};
use crate::model::secret::MASK;
use crate::raw::raw;
use crate::sink::mqtt;
use crate::transport::ble::{self, AdapterFound};
use crate::transport::{LinkError, serial};

/// A text as short as this may stand in a report by chance.
const SHORTEST_SECRET: usize = 3;

pub(super) async fn run() -> u8 {
    let told = config::told(config::environment());
    let loaded = config::load(config::environment());
    let mut report = String::new();
    // Writing to a text cannot fail.
    let _ = write_report(&mut report, &told, &loaded).await;
    println!("{}", masked(&report, &told));
    FINE
}

async fn write_report(
    out: &mut String,
    told: &Told,
    loaded: &Result<Config, Rejected>,
) -> std::fmt::Result {
    writeln!(out, "### bms-reader {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out)?;
    for (what, fact) in machine() {
        writeln!(out, "- {what}: {fact}")?;
    }
    section(out, "What is set")?;
    for (name, value) in &told.values {
        writeln!(out, "{name}={value}")?;
    }
    writeln!(out, "```")?;
    match loaded {
        Err(rejected) => {
            warnings(out, &rejected.warnings)?;
            section(out, "Faults in the configuration")?;
            rejected.faults.iter().try_for_each(|fault| writeln!(out, "{fault}"))?;
            writeln!(out, "```")
        }
        Ok(config) => write_findings(out, config).await,
    }
}

async fn write_findings(out: &mut String, config: &Config) -> std::fmt::Result {
    warnings(out, &config.warnings)?;
    section(out, "Serial ports")?;
    for port in serial::list() {
        writeln!(out, "{} {}", port.path, port.device.as_deref().unwrap_or_default())?;
    }
    writeln!(out, "```")?;
    section(out, "Bluetooth")?;
    writeln!(out, "{}", adapters(&ble::adapters().await))?;
    writeln!(out, "```")?;
    section(out, "Broker")?;
    match &config.mqtt {
        None => writeln!(out, "not set")?,
        Some(settings) => match mqtt::probe(settings).await {
            Ok(()) => writeln!(out, "takes us")?,
            Err(reason) => writeln!(out, "{reason}")?,
        },
    }
    writeln!(out, "```")?;
    let board = read::read(&config.devices, None).await;
    for device in &config.devices {
        let Some(state) = board.latest(&device.profile.id) else { continue };
        section(out, &format!("One read of {}", device.profile.id))?;
        writeln!(out, "{:#}", raw(&state))?;
        writeln!(out, "```")?;
    }
    Ok(())
}

fn warnings(out: &mut String, warnings: &[String]) -> std::fmt::Result {
    if warnings.is_empty() {
        return Ok(());
    }
    section(out, "Warnings")?;
    warnings.iter().try_for_each(|warning| writeln!(out, "{warning}"))?;
    writeln!(out, "```")
}

/// A line about each adapter, or why there is none.
fn adapters(found: &Result<Vec<AdapterFound>, LinkError>) -> String {
    let line = |it: &AdapterFound| {
        format!("{} {} is {}", it.name, it.address, if it.powered { "on" } else { "off" })
    };
    match found {
        Ok(adapters) if adapters.is_empty() => "no adapter".to_owned(),
        Ok(adapters) => adapters.iter().map(line).collect::<Vec<_>>().join("\n"),
        Err(error) => format!("{error}\n{}", error.hint()),
    }
}

fn section(out: &mut String, title: &str) -> std::fmt::Result {
    writeln!(out, "\n#### {title}\n\n```text")
}

/// On what we run.
fn machine() -> Vec<(&'static str, String)> {
    let text = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let release = text("/etc/os-release").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(line.trim_matches('"').to_owned())
    });
    let place = if Path::new("/data/options.json").exists() {
        "Home Assistant add-on"
    } else if Path::new("/.dockerenv").exists() || release.is_none() {
        "container"
    } else {
        "host"
    };
    let facts = [
        ("machine", Some(std::env::consts::ARCH.to_owned())),
        ("kernel", text("/proc/sys/kernel/osrelease")),
        ("system", release),
        ("runs in", Some(place.to_owned())),
    ];
    facts.into_iter().filter_map(|(what, fact)| Some((what, fact?))).collect()
}

/// Without the secrets, and with the half of every Bluetooth address that tells one device from
/// another; the first half names the maker of its radio, which helps.
fn masked(report: &str, told: &Told) -> String {
    let mut text = report.to_owned();
    for secret in &told.secrets {
        if secret.expose().len() >= SHORTEST_SECRET {
            text = text.replace(secret.expose(), MASK);
        }
    }
    let bytes = text.clone().into_bytes();
    let mut shown = text.into_bytes();
    for start in 0..bytes.len() {
        if is_address(&bytes, start) {
            for (offset, byte) in shown.iter_mut().skip(start).take(17).enumerate() {
                if offset > 8 && offset % 3 != 2 {
                    *byte = b'x';
                }
            }
        }
    }
    String::from_utf8(shown).unwrap_or_default()
}

/// Whether `AA:BB:CC:DD:EE:FF` stands there, with colons, hyphens or underscores.
fn is_address(text: &[u8], start: usize) -> bool {
    let Some(place) = text.get(start..start + 17) else { return false };
    let part_of_more = |at: Option<&u8>| at.is_some_and(u8::is_ascii_hexdigit);
    !part_of_more(start.checked_sub(1).and_then(|before| text.get(before)))
        && !part_of_more(text.get(start + 17))
        && place.iter().enumerate().all(|(offset, byte)| match offset % 3 {
            2 => matches!(byte, b':' | b'-' | b'_'),
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    #[test]
    fn secrets_and_the_telling_half_of_addresses_are_masked_wherever_they_stand() {
        let told = Told { values: Vec::new(), secrets: vec![Secret::new("hunter2")] };
        let report = "as hunter2 at C8:47:80:37:02:E8, dev_c8_47_80_37_02_e8; 12:34:56 is a time";
        let shown = masked(report, &told);
        assert_eq!(shown, "as *** at C8:47:80:xx:xx:xx, dev_c8_47_80_xx_xx_xx; 12:34:56 is a time");
    }

    #[test]
    fn adapters_are_listed_or_the_reason_why_there_is_none() {
        let adapter = |name: &str, powered| AdapterFound {
            name: name.into(),
            address: "C8:47:80:37:02:E8".into(),
            powered,
        };
        let found = Ok(vec![adapter("hci0", true), adapter("hci1", false)]);
        let lines = "hci0 C8:47:80:37:02:E8 is on\nhci1 C8:47:80:37:02:E8 is off";
        assert_eq!(adapters(&found), lines);
        assert_eq!(adapters(&Ok(Vec::new())), "no adapter");
        let error = LinkError::NoAdapter { place: "hci7".into() };
        let (words, hint) = (error.to_string(), error.hint());
        assert_eq!(adapters(&Err(error)), format!("{words}\n{hint}"));
    }

    #[test]
    fn a_short_secret_does_not_eat_the_report() {
        let told = Told { values: Vec::new(), secrets: vec![Secret::new("a")] };
        assert_eq!(masked("a battery", &told), "a battery");
    }
}
