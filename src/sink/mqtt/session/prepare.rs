//! The beginning of a connection: subscriptions, and what the broker retains.

use std::time::Duration;

use tokio::time::timeout;

use super::{MAX_COMMANDS, Publisher, SentBridge};
use crate::model::{EnergySource, EnergyTotals, Restored};
use crate::sink::mqtt::battery::PublishedBattery;
use crate::sink::mqtt::client::{Event, MqttClient};
use crate::sink::mqtt::echo::Echo;
use crate::sink::mqtt::error::MqttError;
use crate::sink::mqtt::inbound::Incoming;
use crate::sink::mqtt::topics;

const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The session continues without retained messages that have not arrived by then.
const RETAINED_TIMEOUT: Duration = Duration::from_secs(3);

/// What arrived while the connection was prepared.
#[derive(Debug, Default)]
struct Arrived {
    commands: Vec<Incoming>,
    /// Batteries whose announcements are still retained.
    intact: Vec<usize>,
}

impl Publisher {
    /// Subscribes and collects what the broker retains. Returns the commands that arrived meanwhile.
    ///
    /// What this run has announced before is not announced again if the broker still has it: on a
    /// slow link that takes longer than the connection may last.
    pub(super) async fn prepare(
        &mut self,
        client: &mut MqttClient,
    ) -> Result<Vec<Incoming>, MqttError> {
        self.all_arrived = false;
        self.sent_bridge = SentBridge::default();
        let mut arrived = Arrived::default();
        let is_connected = |event: &Event| matches!(event, Event::Connected(_));
        self.receive_until(is_connected, client, &mut arrived).await?;
        self.report_connected(client.version());

        let commands = self.parser().command_filters();
        let known = self.batteries.iter_mut().filter_map(PublishedBattery::acknowledged);
        let known: Vec<_> = known.map(|message| message.topic.clone()).collect();
        if !known.is_empty() {
            let filters = [commands.clone(), known].concat();
            self.collect(filters, commands.len(), client, &mut arrived).await?;
        }
        let mut filters = if arrived.intact.is_empty() { commands.clone() } else { Vec::new() };
        let permanent = filters.len();
        for (index, battery) in self.batteries.iter_mut().enumerate() {
            if arrived.intact.contains(&index) {
                battery.reset_values();
            } else {
                battery.reset();
                filters.extend(battery.topics.discovery_filters());
            }
            if !battery.energy_restored {
                let keys = [topics::ENERGY_CHARGED, topics::ENERGY_DISCHARGED, topics::ALARMS];
                filters.extend(keys.map(|key| battery.topics.topic(key)));
            }
        }
        if !filters.is_empty() {
            self.all_arrived = self.collect(filters, permanent, client, &mut arrived).await?;
            self.restore_energy();
        }
        Ok(arrived.commands)
    }

    /// Subscribes to these filters, all but the first `permanent` ones for a moment only. False when
    /// retained messages may still arrive.
    async fn collect(
        &mut self,
        mut filters: Vec<String>,
        permanent: usize,
        client: &mut MqttClient,
        arrived: &mut Arrived,
    ) -> Result<bool, MqttError> {
        client.subscribe(filters.clone()).await?;
        let is_subscribed = |event: &Event| matches!(event, Event::Subscribed(_));
        timeout(SUBSCRIBE_TIMEOUT, self.receive_until(is_subscribed, client, arrived))
            .await
            .unwrap_or(Err(MqttError::NoSubscribeAck))?;

        self.echo = Echo::new(&self.settings.client_id);
        client.publish([self.echo.message()]).await?;
        let expected = Event::Incoming(Incoming::Echo(self.echo.payload.clone()));
        let is_echo = |event: &Event| *event == expected;
        let echoed = self.receive_until(is_echo, client, arrived);
        let echoed = timeout(RETAINED_TIMEOUT, echoed).await.ok().transpose()?;
        if echoed.is_none() {
            tracing::debug!("MQTT: the broker did not return the echo in time");
        }
        let momentary = filters.split_off(permanent);
        if !momentary.is_empty() {
            client.unsubscribe(momentary).await?;
        }
        Ok(echoed.is_some())
    }

    async fn receive_until(
        &mut self,
        is_last: impl Fn(&Event) -> bool,
        client: &mut MqttClient,
        arrived: &mut Arrived,
    ) -> Result<(), MqttError> {
        loop {
            let event = client.next().await?;
            let last = is_last(&event);
            match event {
                Event::Subscribed(rejected) if rejected > 0 => tracing::warn!(
                    "MQTT: the broker rejected {rejected} subscriptions: commands and the removal \
                     of old entities will not work, energy counters start at 0. Check its access \
                     rules"
                ),
                Event::Incoming(Incoming::Retained(index, state)) => {
                    self.batteries[index].restore(state);
                }
                Event::Incoming(Incoming::Intact(index)) => arrived.intact.push(index),
                // Everything is about to be published anyway.
                Event::Incoming(
                    Incoming::Birth | Incoming::OwnOnline { .. } | Incoming::Echo(_),
                ) => {}
                Event::Incoming(command) if arrived.commands.len() < MAX_COMMANDS => {
                    arrived.commands.push(command);
                }
                Event::Incoming(_) | Event::Connected(_) | Event::Subscribed(_) => {}
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Lets the energy counters continue from the retained values, after the history file was asked for
    /// them. Until all have arrived, a battery needs both: the missing one may still arrive, and zero
    /// would replace it.
    pub(super) fn restore_energy(&mut self) {
        if !self.file_restored.is_cancelled() {
            return;
        }
        for battery in &mut self.batteries {
            let (charged, discharged) = (battery.retained_charged, battery.retained_discharged);
            let complete = self.all_arrived || (charged.is_some() && discharged.is_some());
            if !complete || std::mem::replace(&mut battery.energy_restored, true) {
                continue;
            }
            let found = (charged.is_some() || discharged.is_some()).then(|| EnergyTotals {
                charged: charged.unwrap_or_default(),
                discharged: discharged.unwrap_or_default(),
            });
            let id = &battery.id;
            match self.board.restore(id, found, EnergySource::Broker) {
                Some(Restored::Resumed(totals)) => tracing::info!(
                    "{id}: energy counters continue from {totals} (kept by the broker)"
                ),
                Some(Restored::Zero) => tracing::info!(
                    "{id}: energy counters start at 0: no earlier values on the broker"
                ),
                Some(Restored::Refused(totals)) => report_refused(battery, totals),
                Some(Restored::AlreadyKnown) | None => {}
            }
        }
    }
}

/// Logs totals of the broker that were not adopted, once.
pub(super) fn report_refused(battery: &mut PublishedBattery, totals: EnergyTotals) {
    if battery.reported_energy.replace(totals) != Some(totals) {
        tracing::warn!(
            "{}: impossible energy counters on the broker ({totals}) are ignored: the battery cannot \
             have reached them. To set them, publish {{\"energy_charged_kwh\": ..., \
             \"energy_discharged_kwh\": ...}} on {}",
            battery.id,
            battery.topics.topic(topics::CONFIG_COMMAND)
        );
    }
}
