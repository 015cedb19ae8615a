//! `diagnose`: the contents of a bug report as Markdown, without secrets.

mod mask;

use std::fmt::{self, Write};
use std::fs;
use std::path::Path;

use super::args::Command;
use super::{Outcome, SUCCESS, read};
use crate::config::{self, Config, Diagnostics, RedactedConfig};
use crate::raw::raw;
use crate::sink::mqtt;
use crate::transport::ble::AdapterInfo;
use crate::transport::{Bluetooth, LinkError, serial};

pub(super) const COMMAND: Command = Command {
    name: "diagnose",
    about: "Print the contents of a bug report as Markdown; secrets, hosts and Bluetooth addresses \
            are masked",
    positional: None,
    flags: &[],
    prepare: |_| Ok(Box::pin(run())),
};

async fn run() -> Outcome {
    let redacted = config::redacted(config::environment());
    let loaded = config::load(config::environment());
    let mut report = String::new();
    // Writing into a String cannot fail.
    let _ = write_report(&mut report, &redacted, &loaded).await;
    println!("{}", mask::masked(&report, &redacted));
    Ok(SUCCESS)
}

async fn write_report(
    report: &mut String,
    redacted: &RedactedConfig,
    loaded: &Result<Config, Diagnostics>,
) -> fmt::Result {
    writeln!(report, "### bms-reader {}\n", env!("CARGO_PKG_VERSION"))?;
    for (what, fact) in machine() {
        writeln!(report, "- {what}: {fact}")?;
    }
    let variables = redacted.values.iter();
    let variables = variables.map(|(name, value)| format!("{name}={}", mask::shown(name, value)));
    write_section(report, "Configuration", variables)?;
    match loaded {
        Err(diagnostics) => {
            write_warnings(report, &diagnostics.warnings)?;
            let errors = diagnostics.errors.iter().map(ToString::to_string);
            write_section(report, "Errors in the configuration", errors)
        }
        Ok(config) => write_results(report, config).await,
    }
}

async fn write_results(report: &mut String, config: &Config) -> fmt::Result {
    write_warnings(report, &config.warnings)?;
    let ports = serial::list().into_iter();
    let ports = ports.map(|it| format!("{} {}", it.path, it.device.unwrap_or_default()));
    write_section(report, "Serial ports", ports)?;
    let bluetooth = Bluetooth::default();
    write_section(report, "Bluetooth", [adapters(&bluetooth.adapters().await)])?;
    let broker = match &config.mqtt {
        None => "not configured".to_owned(),
        Some(settings) => {
            mqtt::probe(settings).await.map_or_else(|error| error, |()| "login accepted".to_owned())
        }
    };
    write_section(report, "Broker", [broker])?;
    let board = read::read(&config.devices, &bluetooth, None).await;
    for device in &config.devices {
        let Some(state) = board.latest(&device.profile.id) else { continue };
        let title = format!("One read of {}", device.profile.id);
        write_section(report, &title, [format!("{:#}", raw(&state))])?;
    }
    Ok(())
}

fn write_warnings(report: &mut String, warnings: &[String]) -> fmt::Result {
    match warnings.is_empty() {
        true => Ok(()),
        false => write_section(report, "Warnings", warnings.iter().cloned()),
    }
}

fn write_section(
    report: &mut String,
    title: &str,
    lines: impl IntoIterator<Item = String>,
) -> fmt::Result {
    writeln!(report, "\n#### {title}\n\n```text")?;
    lines.into_iter().try_for_each(|line| writeln!(report, "{line}"))?;
    writeln!(report, "```")
}

/// A line per adapter, or why there is none.
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

/// Facts about the machine.
fn machine() -> Vec<(&'static str, String)> {
    let text = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let release = text("/etc/os-release").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(line.trim_matches('"').to_owned())
    });
    let installation = if Path::new("/data/options.json").exists() {
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
        ("runs in", Some(installation.to_owned())),
    ];
    facts.into_iter().filter_map(|(what, fact)| Some((what, fact?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_listed_or_the_error_is_shown() {
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
        let (message, hint) = (error.to_string(), error.hint());
        assert_eq!(adapters(&Err(error)), format!("{message}\n{hint}"));
    }
}
