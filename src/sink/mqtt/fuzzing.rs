//! The handling of packets without a broker, for `fuzz/`.

use std::time::Duration;

use crate::model::DeviceState;

use super::battery::PublishedBattery;
use super::command_reply::reply;
use super::inbound::{Incoming, MessageParser};
use super::message::Message;
use super::topics::is_publishable;
use super::{Discovery, Publish, Settings, Version};

/// A packet from the broker.
#[derive(Debug)]
pub struct Packet<'a> {
    pub topic: String,
    pub payload: &'a [u8],
    pub retained: bool,
}

/// Handles the packets. With `publish` it also publishes the battery, and handles what was published
/// as retained packets.
///
/// # Panics
///
/// When a message is not one that a broker accepts and this program understands.
#[allow(clippy::panic)]
pub fn exchange(state: &DeviceState, device_format: bool, publish: bool, packets: &[Packet<'_>]) {
    let settings = settings(device_format);
    let mut battery = PublishedBattery::new(&settings, &state.profile);
    let parser = MessageParser::new(&settings, vec![battery.topics.clone()]);
    let mut replies = Vec::new();
    for packet in packets {
        match parser.parse(&packet.topic, packet.payload, packet.retained) {
            Some(Incoming::Retained(_, retained)) => battery.restore(retained),
            Some(Incoming::InvalidCommand(_, message)) => replies.push(message),
            Some(Incoming::Command(_, command)) => {
                replies.extend(reply(&battery.topics, &command, Ok(())).ok().flatten());
            }
            _ => {}
        }
    }
    check_payloads(&replies);
    if publish {
        publish_and_restore(&mut battery, state, &settings, &parser);
    }
}

fn publish_and_restore(
    battery: &mut PublishedBattery,
    state: &DeviceState,
    settings: &Settings,
    parser: &MessageParser,
) {
    let announced = battery.discovery(state, settings, "bms_reader/status");
    let reported = battery.report(state, settings, state.read_at.unwrap_or_default());
    check_payloads(&announced);
    check_payloads(&battery.alarm_events(state));
    for message in announced.iter().chain(&reported) {
        assert!(is_publishable(&message.topic), "{message:?}");
        let parsed = parser.parse(&message.topic, message.payload.as_bytes(), true);
        if let Some(Incoming::Retained(_, retained)) = parsed {
            battery.restore(retained);
        }
    }
}

fn check_payloads(messages: &[Message]) {
    for Message { topic, payload, .. } in messages {
        assert!(is_publishable(topic), "{topic}");
        let is_json = serde_json::from_str::<serde_json::Value>(payload).is_ok();
        assert!(payload.is_empty() || payload == super::battery::UNKNOWN || is_json, "{payload}");
    }
}

fn settings(device_format: bool) -> Settings {
    Settings {
        supervisor: None,
        host: String::new(),
        port: 0,
        login: None,
        client_id: "bms-reader".into(),
        keep_alive: Duration::ZERO,
        version: Version::V311,
        tls: None,
        base_topic: "bms/{id}".into(),
        discovery_prefix: "homeassistant".into(),
        discovery: if device_format { Discovery::Device } else { Discovery::Entity },
        publish: Publish::All,
        allow_config: true,
        remote_config: true,
        dashboard: None,
        ingress: None,
        victron: Default::default(),
        backfill: None,
    }
}
