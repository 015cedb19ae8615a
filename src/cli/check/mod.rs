//! `check`: tries everything that is configured; each result is one line with its remedy.

mod bluetooth;

use super::args::{Command, PROGRAM};
use super::{FAILED, Outcome, SUCCESS, load_config, scan};
use crate::app;
use crate::config::Config;
use crate::model::Profile;
use crate::sink::{influx, mqtt, notify};
use crate::transport::Bluetooth;

pub(super) const COMMAND: Command = Command {
    name: "check",
    about: "Test the configuration, the ports, Bluetooth, the broker, InfluxDB and the services for \
            notifications, and suggest remedies; \
            without a battery list what is connected",
    positional: None,
    flags: &[],
    prepare: |_| Ok(Box::pin(run())),
};

async fn run() -> Outcome {
    let config = load_config()?;
    let count = config.devices.len();
    println!("OK    configuration: {count} {}", if count == 1 { "battery" } else { "batteries" });
    for warning in &config.warnings {
        println!("note  {warning}");
    }
    let bluetooth = app::bluetooth(&config.proxies);
    // Each one runs, whatever the others find.
    let results = [
        bluetooth::check_adapters(&config, &bluetooth).await,
        bluetooth::check_proxies(&bluetooth).await,
        check_batteries(&config, &bluetooth).await,
        check_broker(&config).await,
        check_influx(&config).await,
        check_notifications(&config).await,
    ];
    Ok(if results.contains(&false) { FAILED } else { SUCCESS })
}

async fn check_batteries(config: &Config, bluetooth: &Bluetooth) -> bool {
    if config.devices.is_empty() {
        println!("note  no battery is configured; copy the lines of a battery from this list:\n");
        println!("{}\n", scan::overview().await.trim_end());
        return true;
    }
    let mut all_ok = true;
    let states = app::read(&config.devices, bluetooth, None).await;
    for (device, state) in config.devices.iter().zip(states) {
        let (id, endpoint) = (&device.profile.id, &device.endpoint);
        let fault = state.attempt.and_then(|attempt| attempt.fault);
        if let (None, Some(snapshot)) = (&fault, state.snapshot) {
            let reading = &snapshot.reading;
            let model = reading.identity.model.as_deref().unwrap_or("unknown model");
            let (title, cells) = (&state.profile.title, reading.cells.len());
            println!(
                "OK    {id} at {endpoint}: {title} answered in {} ms, {model}, {cells} cells",
                snapshot.took_ms
            );
            if let Some(note) = settings_to_add(&device.profile, &state.profile) {
                println!("note  {id}: set {note}; without it the search is repeated at each start");
            }
            continue;
        }
        all_ok = false;
        let Some(fault) = fault else {
            println!("FAIL  {id} at {endpoint}: no answer");
            continue;
        };
        println!("FAIL  {id} at {endpoint}: {fault}\n      {}", fault.hint);
        if let Some(hint) =
            bluetooth::further_hint(endpoint, &fault, device.scan_timeout, bluetooth).await
        {
            println!("      {hint}");
        }
    }
    all_ok
}

/// What a search found that differs from the configuration.
fn settings_to_add(configured: &Profile, found: &Profile) -> Option<String> {
    let changed = |configured: Option<&str>, found: Option<&str>, name: &str| {
        found.filter(|found| configured != Some(found)).map(|found| format!("{name} to {found}"))
    };
    let (brand, address) = (Some(&*configured.brand), configured.address.as_deref());
    let parts = [
        changed(brand, Some(&*found.brand), "its type"),
        changed(address, found.address.as_deref(), "its slave ID"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

async fn check_broker(config: &Config) -> bool {
    // A warning reports that no broker is configured.
    let Some(settings) = &config.mqtt else { return true };
    let result = mqtt::probe(settings).await;
    let address = format!("{}:{}", settings.host, settings.port);
    match &result {
        Ok(()) => println!("OK    broker {address}: login accepted"),
        Err(reason) => println!("FAIL  broker {address}: {reason}"),
    }
    result.is_ok()
}

async fn check_influx(config: &Config) -> bool {
    let Some(influx::Settings { server, .. }) = &config.influx else { return true };
    let result = influx::probe(server).await;
    let label = server.label();
    match &result {
        Ok(()) => println!("OK    InfluxDB {label}: reachable"),
        Err(reason) => println!("FAIL  InfluxDB {label}: {reason}"),
    }
    result.is_ok()
}

/// Connects to each service without sending a message, which people would receive.
async fn check_notifications(config: &Config) -> bool {
    let Some(settings) = &config.notify else { return true };
    let mut all_ok = true;
    for target in &settings.targets {
        let label = target.label();
        match notify::probe(target, &settings.tls).await {
            Ok(()) => {
                println!("OK    {label}: reachable; `{PROGRAM} notify` sends a test message");
            }
            Err(reason) => {
                all_ok = false;
                println!("FAIL  {label}: {reason}");
            }
        }
    }
    all_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_names_what_the_search_found() {
        let profile = |brand: &str, address: &str| {
            let sample = Profile::sample("a");
            Profile { brand: brand.into(), address: Some(address.into()), ..sample }
        };
        let note =
            |brand, address| settings_to_add(&profile("daren", "1"), &profile(brand, address));
        assert_eq!(note("daren", "1"), None);
        assert_eq!(
            note("seplos", "0").as_deref(),
            Some("its type to seplos and its slave ID to 0")
        );
        assert_eq!(note("daren", "2").as_deref(), Some("its slave ID to 2"));
    }
}
