//! `diagnose`: everything that a bug report needs, as Markdown to paste, without secrets.

mod mask;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::line::Command;
use super::{FINE, read};
use crate::config::{self, Config, Diagnostics, RedactedConfig};
use crate::raw::raw;
use crate::sink::mqtt;
use crate::transport::ble::AdapterInfo;
use crate::transport::{Bluetooth, LinkError, serial};

pub(super) const COMMAND: Command = Command {
    name: "diagnose",
    does: "Print what a bug report needs, as Markdown to paste; secrets, hosts and Bluetooth \
           addresses are masked",
    operand: None,
    flags: &[],
    prepare: |_| Ok(Box::pin(run())),
};

async fn run() -> u8 {
    let told = config::redacted(config::environment());
    let loaded = config::load(config::environment());
    let mut report = String::new();
    // Writing to a text cannot fail.
    let _ = write_report(&mut report, &told, &loaded).await;
    println!("{}", mask::masked(&report, &told));
    FINE
}

async fn write_report(
    out: &mut String,
    told: &RedactedConfig,
    loaded: &Result<Config, Diagnostics>,
) -> std::fmt::Result {
    writeln!(out, "### bms-reader {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out)?;
    for (what, fact) in machine() {
        writeln!(out, "- {what}: {fact}")?;
    }
    section(out, "What is set")?;
    for (name, value) in &told.values {
        writeln!(out, "{name}={}", mask::shown(name, value))?;
    }
    writeln!(out, "```")?;
    match loaded {
        Err(rejected) => {
            warnings(out, &rejected.warnings)?;
            section(out, "Faults in the configuration")?;
            rejected.errors.iter().try_for_each(|fault| writeln!(out, "{fault}"))?;
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
    writeln!(out, "{}", adapters(&Bluetooth::default().adapters().await))?;
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
fn adapters(found: &Result<Vec<AdapterInfo>, LinkError>) -> String {
    let line = |it: &AdapterInfo| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_listed_or_the_reason_why_there_is_none() {
        let adapter = |name: &str, powered| AdapterInfo {
            name: name.into(),
            address: "C8:47:80:37:02:E8".into(),
            powered,
        };
        let found = Ok(vec![adapter("hci0", true), adapter("hci1", false)]);
        let lines = "hci0 C8:47:80:37:02:E8 is on\nhci1 C8:47:80:37:02:E8 is off";
        assert_eq!(adapters(&found), lines);
        assert_eq!(adapters(&Ok(Vec::new())), "no adapter");
        let error = LinkError::NoAdapter { adapter: Some("hci7".into()) };
        let (words, hint) = (error.to_string(), error.hint());
        assert_eq!(adapters(&Err(error)), format!("{words}\n{hint}"));
    }
}
