//! `check`: tries everything that the configuration names, and says for each what is fine and what
//! to do.

mod air;

use super::line::Command;
use super::{FAILED, FINE, complain, read, scan};
use crate::config::{self, Config};
use crate::sink::mqtt;

pub(super) const COMMAND: Command = Command {
    name: "check",
    does: "Try the configuration, the ports, Bluetooth and the broker, and say what to do; without a \
           battery list what is there",
    operand: None,
    flags: &[],
    prepare: |_| Ok(Box::pin(run())),
};

async fn run() -> u8 {
    let config = match config::load(config::environment()) {
        Ok(config) => config,
        Err(rejected) => return complain(&rejected),
    };
    let count = config.devices.len();
    println!("fine  configuration: {count} {}", if count == 1 { "battery" } else { "batteries" });
    for warning in &config.warnings {
        println!("note  {warning}");
    }
    let adapters = air::adapters(&config).await;
    let batteries = batteries(&config).await;
    let broker = broker(&config).await;
    if adapters && batteries && broker { FINE } else { FAILED }
}

async fn batteries(config: &Config) -> bool {
    if config.devices.is_empty() {
        println!("note  no battery is configured; set the lines of one that is here:\n");
        println!("{}\n", scan::around().await.trim_end());
        return true;
    }
    let board = read::read(&config.devices, None).await;
    let mut all_well = true;
    for device in &config.devices {
        let profile = &device.profile;
        let place = &device.endpoint;
        let Some(state) = board.latest(&profile.id) else { continue };
        match (state.attempt.and_then(|attempt| attempt.fault), state.snapshot) {
            (None, Some(snapshot)) => {
                let identity = &snapshot.reading.identity;
                let model = identity.model.as_deref().unwrap_or("model unknown");
                let title = &state.profile.title;
                println!(
                    "fine  {} at {place}: {title} answers in {} ms, {model}, {} cells",
                    profile.id,
                    snapshot.took_ms,
                    snapshot.reading.cells.len()
                );
                if device.driver.is_none() {
                    println!("note  {}: set its type to {}", profile.id, state.profile.brand);
                }
            }
            (fault, _) => {
                all_well = false;
                let text = fault.as_ref().map_or_else(|| "no answer".into(), ToString::to_string);
                println!("FAIL  {} at {place}: {text}", profile.id);
                let Some(fault) = fault else { continue };
                println!("      {}", fault.hint);
                if let Some(more) = air::more(place, &fault, device.scan_timeout).await {
                    println!("      {more}");
                }
            }
        }
    }
    all_well
}

async fn broker(config: &Config) -> bool {
    // That none was named is among the warnings.
    let Some(settings) = &config.mqtt else { return true };
    match mqtt::probe(settings).await {
        Ok(()) => {
            println!("fine  broker {}:{} takes us", settings.host, settings.port);
            true
        }
        Err(reason) => {
            println!("FAIL  broker {}:{}: {reason}", settings.host, settings.port);
            false
        }
    }
}
