//! `remove`: clears what the broker retains about a battery, so that Home Assistant forgets it.

use super::args::{Command, Flag, FlagValue};
use super::{CommandError, FAILED, Outcome, SUCCESS, failed, load_config, misconfigured};
use crate::config::Config;
use crate::model::DeviceId;
use crate::sink::mqtt::{self, Removal};

pub(super) const COMMAND: Command = Command {
    name: "remove",
    about: "Remove a battery from Home Assistant and from the broker: its entities, values and \
            energy counters",
    positional: Some(("ID", "ID of a battery or bank that is no longer configured")),
    flags: &[Flag::new(
        "yes",
        FlagValue::None,
        "Remove it even if it is configured here or online",
    )],
    prepare: |matches| {
        let text = matches.positional();
        let id = DeviceId::new(text).ok_or_else(|| {
            format!("{text:?} is not an ID: letters, digits, _ and - (as in the topics)")
        })?;
        Ok(Box::pin(run(id, matches.has("yes"))))
    },
};

async fn run(id: DeviceId, force: bool) -> Outcome {
    let config = load_config()?;
    if is_configured(&config, &id) && !force {
        return Err(misconfigured(format!(
            "{id} is configured here and would be published again at the next start; remove it \
             from the configuration first, or use --yes"
        )));
    }
    let settings = config.mqtt.as_ref().ok_or_else(|| {
        misconfigured("MQTT_HOST is not set; set it, and the login, to the broker of the battery")
    })?;
    let removal = mqtt::remove(settings, &id, force).await;
    let (topics, left) = match removal.map_err(|error| mqtt_error(settings, error))? {
        Removal::Nothing(others) => {
            let others: Vec<_> = others.into_iter().collect();
            let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
            println!(
                "Nothing to remove: the broker retains nothing about {id}. Its batteries: {others}"
            );
            return Ok(FAILED);
        }
        Removal::Online => {
            return Err(failed(format!(
                "{id} is online: a running bms-reader publishes it. Stop that one or remove {id} \
                 from its configuration first, or use --yes"
            )));
        }
        Removal::Removed { topics, left } => (topics, left),
    };
    for topic in &topics {
        println!("{topic}");
    }
    let Some(example) = left.first() else {
        println!("Removed {id}: {} retained topics", topics.len());
        return Ok(SUCCESS);
    };
    Err(failed(format!(
        "{} topics of {id} are still retained, such as {example}: the broker denies access, or a \
         running bms-reader publishes {id} again",
        left.len(),
    )))
}

fn is_configured(config: &Config, id: &DeviceId) -> bool {
    let batteries = config.devices.iter().map(|device| &device.profile.id);
    let banks = config.banks.iter().map(|bank| &bank.profile.id);
    batteries.chain(banks).any(|configured| configured == id)
}

fn mqtt_error(settings: &mqtt::Settings, error: String) -> CommandError {
    match settings.host.is_empty() {
        true => failed(format!("broker: {error}")),
        false => failed(format!("broker {}:{}: {error}", settings.host, settings.port)),
    }
}
