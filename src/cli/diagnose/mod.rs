//! `diagnose`: the contents of a bug report as Markdown, without secrets.

mod mask;

use std::fs;

use super::args::Command;
use super::{Outcome, SUCCESS, print};
use crate::app;
use crate::config::{self, Config, Diagnostics};
use crate::model::Installation;
use crate::raw::raw;
use crate::sink::mqtt;
use crate::transport::ble::AdapterInfo;
use crate::transport::{LinkError, serial};

pub(super) const COMMAND: Command = Command {
    name: "diagnose",
    about: "Print the contents of a bug report as Markdown; secrets, hosts and Bluetooth addresses \
            are masked",
    positional: None,
    flags: &[],
    prepare: |_| Ok(Box::pin(run())),
};

/// A heading and the lines below it.
type Section = (String, Vec<String>);

async fn run() -> Outcome {
    let redacted = config::redacted(config::environment());
    let variables = redacted.values.iter();
    let variables = variables.map(|(name, value)| format!("{name}={}", mask::shown(name, value)));
    let mut sections = vec![("Configuration".to_owned(), variables.collect())];
    match config::load(config::environment()) {
        Ok(config) => {
            sections.extend(warnings(config.warnings.clone()));
            sections.extend(results(&config).await);
        }
        Err(Diagnostics { errors, warnings: list }) => {
            let errors = errors.iter().map(ToString::to_string).collect();
            sections.extend(warnings(list));
            sections.push(("Errors in the configuration".to_owned(), errors));
        }
    }
    let mut report = format!("### bms-reader {}\n\n", env!("CARGO_PKG_VERSION"));
    report.extend(machine().iter().map(|(what, fact)| format!("- {what}: {fact}\n")));
    for (title, lines) in sections {
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        report.push_str(&format!("\n#### {title}\n\n```text\n{lines}```\n"));
    }
    print(mask::masked(&report, &redacted))?;
    Ok(SUCCESS)
}

fn warnings(warnings: Vec<String>) -> Option<Section> {
    (!warnings.is_empty()).then(|| ("Warnings".to_owned(), warnings))
}

/// What the ports, the adapters, the broker and the batteries answer.
async fn results(config: &Config) -> Vec<Section> {
    let ports = serial::list().into_iter();
    let ports = ports.map(|port| format!("{} {}", port.path, port.device.unwrap_or_default()));
    let bluetooth = app::bluetooth(&config.proxies);
    let broker = match &config.mqtt {
        None => "not configured".to_owned(),
        Some(settings) => {
            mqtt::probe(settings).await.map_or_else(|error| error, |()| "login accepted".to_owned())
        }
    };
    let mut sections = vec![
        ("Serial ports".to_owned(), ports.collect()),
        ("Bluetooth".to_owned(), vec![adapters(&bluetooth.adapters().await)]),
        ("Broker".to_owned(), vec![broker]),
        ("Notifications".to_owned(), vec![notifications(config)]),
    ];
    for state in app::read(&config.devices, &bluetooth, None).await {
        let title = format!("One read of {}", state.profile.id);
        sections.push((title, vec![format!("{:#}", raw(&state))]));
    }
    sections
}

/// The services without their servers.
fn notifications(config: &Config) -> String {
    let targets = config.notify.iter().flat_map(|settings| &settings.targets);
    let names: Vec<_> = targets.map(|target| target.service.name).collect();
    if names.is_empty() { "not configured".to_owned() } else { names.join(", ") }
}

/// A line per adapter, or why there is none.
fn adapters(found: &Result<Vec<AdapterInfo>, LinkError>) -> String {
    let line = |adapter: &AdapterInfo| {
        format!(
            "{} {} is {}",
            adapter.name,
            adapter.address,
            if adapter.powered { "on" } else { "off" }
        )
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
    let installation = match config::installation(&config::environment()) {
        Installation::HomeAssistant => "Home Assistant add-on",
        Installation::Container => "container",
        Installation::Host => "host",
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
