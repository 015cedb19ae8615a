//! What an incoming message means.

use serde_json::{Map, Value, json};

use crate::command::Command;
use crate::command::payload::{parse_config, parse_on_off};
use crate::model::{Energy, Setting, Switch};
use crate::remedy;

use super::Settings;
use super::alarms;
use super::bridge::{self, BridgeCommand};
use super::command_reply::error_reply;
use super::discovery::{ORIGIN, platform};
use super::json::object;
use super::limits;
use super::message::Message;
use super::topics::{self, DiscoveryTarget, Topics};

/// A message for this program. The index is that of the battery in the list passed to
/// [`MessageParser::new`].
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    Command(usize, Command),
    /// The command is invalid or not allowed; this is the reply.
    InvalidCommand(usize, Message),
    /// Topic of a retained command. It would run again at every connection, so it never runs.
    RetainedCommand(String),
    Retained(usize, RetainedState),
    Bridge(BridgeCommand),
    /// Settings for all batteries. They may be retained.
    RemoteConfig(Vec<u8>),
    /// As [`Incoming::InvalidCommand`], for a command to the program itself.
    InvalidBridge(Message),
    /// Topic and payload of any retained message.
    Collected(String, Vec<u8>),
    /// The broker still retains what this run announced for the battery.
    Intact(usize),
    /// On the topic of the program's own `online`.
    OwnOnline {
        online: bool,
        retained: bool,
    },
    /// Home Assistant has started.
    Birth,
    /// The payload on the topic of [`Echo`](super::echo::Echo).
    Echo(String),
}

/// What an earlier run published and the broker retained.
#[derive(Debug, Clone, PartialEq)]
pub enum RetainedState {
    /// A discovery message, with the components that it describes by their keys.
    Discovery(DiscoveryTarget, Map<String, Value>),
    EnergyCharged(Energy),
    EnergyDischarged(Energy),
    /// The objects of the list of active alarms.
    Alarms(Vec<Map<String, Value>>),
}

/// Recognises messages by their topic.
#[derive(Debug)]
pub struct MessageParser {
    batteries: Vec<Topics>,
    /// The last acknowledged announcement of each battery.
    announced: Vec<Option<Message>>,
    birth: String,
    echo: String,
    /// Base of the topics of the program itself.
    bridge: String,
    own_online: String,
    /// Whether every retained message is reported.
    collects: bool,
    allow_config: bool,
    remote_config: bool,
}

impl MessageParser {
    pub fn new(settings: &Settings, batteries: Vec<Topics>) -> Self {
        MessageParser {
            announced: vec![None; batteries.len()],
            batteries,
            birth: topics::birth(&settings.discovery_prefix),
            echo: topics::echo(&settings.client_id),
            bridge: topics::bridge(&settings.client_id),
            own_online: topics::bridge_online(&settings.client_id),
            collects: false,
            allow_config: settings.allow_config,
            remote_config: settings.remote_config,
        }
    }

    /// A parser for no battery that reports every retained message.
    pub fn collecting(settings: &Settings) -> Self {
        MessageParser { collects: true, ..MessageParser::new(settings, Vec::new()) }
    }

    pub fn with_announced(self, announced: Vec<Option<Message>>) -> Self {
        MessageParser { announced, ..self }
    }

    pub fn batteries(&self) -> usize {
        self.batteries.len()
    }

    /// The longest payload that is accepted on a topic, in bytes.
    pub fn max_payload(&self, topic: &str) -> usize {
        if self.is_remote_config(topic) {
            return limits::MAX_REMOTE_CONFIG;
        }
        if topic == self.birth || topic == self.echo || self.bridge_key(topic).is_some() {
            return limits::MAX_SHORT;
        }
        let limit = |topics: &Topics| match topics.key(topic) {
            Some(key) => Some(limits::max_payload(key)),
            None => topics.parse_discovery(topic).map(|_| limits::MAX_ANNOUNCEMENT),
        };
        let other = if self.collects { limits::MAX_ANNOUNCEMENT } else { 0 };
        self.batteries.iter().find_map(limit).unwrap_or(other)
    }

    /// `None` when the message is of no interest.
    pub fn parse(&self, topic: &str, payload: &[u8], retained: bool) -> Option<Incoming> {
        // An answer to a topic that no broker accepts would end the connection.
        if !topics::is_publishable(topic) {
            return None;
        }
        if topic == self.birth {
            return (payload == b"online").then_some(Incoming::Birth);
        }
        if topic == self.echo {
            let payload = String::from_utf8(payload.to_owned()).ok()?;
            return (!retained).then_some(Incoming::Echo(payload));
        }
        if self.collects && retained {
            return Some(Incoming::Collected(topic.to_owned(), payload.to_owned()));
        }
        if topic == self.own_online {
            return Some(Incoming::OwnOnline { online: payload != b"false", retained });
        }
        if self.is_remote_config(topic) {
            return Some(Incoming::RemoteConfig(payload.to_owned()));
        }
        if let Some(command) =
            self.bridge_key(topic).and_then(|key| self.parse_bridge(key, payload))
        {
            return match command {
                _ if retained && payload.is_empty() => None,
                _ if retained => Some(Incoming::RetainedCommand(topic.to_owned())),
                Ok(command) => Some(Incoming::Bridge(command)),
                Err(error) => Some(Incoming::InvalidBridge(error_reply(topic, &error))),
            };
        }
        let mut batteries = self.batteries.iter().enumerate();
        batteries.find_map(|(index, topics)| {
            let command = topics.key(topic).and_then(|key| self.parse_command(key, payload));
            match command {
                Some(_) if retained && payload.is_empty() => None,
                Some(_) if retained => Some(Incoming::RetainedCommand(topic.to_owned())),
                Some(Ok(command)) => Some(Incoming::Command(index, command)),
                Some(Err(error)) => {
                    Some(Incoming::InvalidCommand(index, error_reply(topic, &error)))
                }
                None if retained && self.is_intact(index, topic, payload) => {
                    Some(Incoming::Intact(index))
                }
                None if retained => {
                    Some(Incoming::Retained(index, parse_retained(topics, topic, payload)?))
                }
                None => None,
            }
        })
    }

    /// Topics to subscribe to for as long as the connection lasts.
    pub fn command_filters(&self) -> Vec<String> {
        let commands = self.batteries.iter().flat_map(|topics| {
            let fixed = [topics::READ_COMMAND, topics::CONFIG_COMMAND].map(str::to_owned);
            let switches = Switch::ALL.map(topics::switch_command);
            fixed.into_iter().chain(switches).map(|key| topics.topic(&key))
        });
        let bridge = [topics::LOG_LEVEL_COMMAND, topics::RESTART_COMMAND];
        let remote_config = self.remote_config.then_some(topics::REMOTE_CONFIG);
        let bridge = bridge.into_iter().chain(remote_config);
        let bridge = bridge.map(|key| format!("{}/{key}", self.bridge));
        let own = [&self.birth, &self.echo, &self.own_online].map(String::clone);
        commands.chain(bridge).chain(own).collect()
    }

    /// The level of a topic of the program itself.
    fn bridge_key<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&self.bridge)?.strip_prefix('/')
    }

    fn is_remote_config(&self, topic: &str) -> bool {
        self.remote_config && self.bridge_key(topic) == Some(topics::REMOTE_CONFIG)
    }

    fn parse_bridge(&self, key: &str, payload: &[u8]) -> Option<Result<BridgeCommand, String>> {
        let command = bridge::parse_command(key, payload)?;
        Some(if self.allow_config { command } else { Err(config_off(key)) })
    }

    fn is_intact(&self, index: usize, topic: &str, payload: &[u8]) -> bool {
        let announced = self.announced.get(index).and_then(Option::as_ref);
        announced
            .is_some_and(|message| message.topic == topic && message.payload.as_bytes() == payload)
    }

    /// `None` when the key is not that of a command.
    fn parse_command(&self, key: &str, payload: &[u8]) -> Option<Result<Command, String>> {
        Some(match key {
            topics::READ_COMMAND => Ok(Command::Read),
            topics::CONFIG_COMMAND if !self.allow_config => Err(config_off(key)),
            topics::CONFIG_COMMAND => parse_config(payload).map(Command::Configure),
            _ => {
                let is_switch = |switch: &Switch| topics::switch_command(*switch) == key;
                let switch = Switch::ALL.into_iter().find(is_switch)?;
                parse_on_off(payload).map(|on| Command::Switch(Setting { switch, on }))
            }
        })
    }
}

fn config_off(key: &str) -> String {
    let on = remedy::assignment("ALLOW_CONFIG", "true");
    format!("{key} is switched off; set {on} to allow it")
}

fn parse_retained(topics: &Topics, topic: &str, payload: &[u8]) -> Option<RetainedState> {
    let energy = || Energy::from_kwh(std::str::from_utf8(payload).ok()?);
    match topics.key(topic) {
        Some(topics::ENERGY_CHARGED) => energy().map(RetainedState::EnergyCharged),
        Some(topics::ENERGY_DISCHARGED) => energy().map(RetainedState::EnergyDischarged),
        Some(topics::ALARMS) => alarms::parse_list(payload).map(RetainedState::Alarms),
        _ => parse_discovery(topics, topic, payload),
    }
}

/// `None` when another program published it.
pub fn parse_discovery(topics: &Topics, topic: &str, payload: &[u8]) -> Option<RetainedState> {
    let target = topics.parse_discovery(topic)?;
    let mut discovery: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    let origin = discovery.get("origin").or_else(|| discovery.get("o"))?;
    if origin["name"] != ORIGIN {
        return None;
    }
    let mut components = match &target {
        DiscoveryTarget::Entity(component, key) => object(json!({ key: platform(component) })),
        DiscoveryTarget::Device(_) => object(discovery.remove("components").unwrap_or_default()),
    };
    components.retain(|key, _| topics::is_value_key(key));
    Some(RetainedState::Discovery(target, components))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ConfigChange;
    use crate::sink::mqtt::test_data;

    fn parser() -> MessageParser {
        let topics = Topics::new("bms/{id}", "homeassistant", &test_data::profile());
        MessageParser::new(&test_data::settings(), vec![topics])
    }

    fn sent(topic: &str, payload: &[u8]) -> Option<Incoming> {
        parser().parse(topic, payload, false)
    }

    fn retained(topic: &str, payload: &[u8]) -> Option<RetainedState> {
        match parser().parse(topic, payload, true)? {
            Incoming::Retained(0, state) => Some(state),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn commands_are_parsed_and_errors_answered() {
        let read = Incoming::Command(0, Command::Read);
        assert_eq!(sent("bms/rack/cmd/read", b""), Some(read));
        let config = Command::Configure(ConfigChange::default());
        assert_eq!(sent("bms/rack/cmd/config", b"{}"), Some(Incoming::Command(0, config)));
        let off = Command::Switch(Setting { switch: Switch::Charging, on: false });
        assert_eq!(sent("bms/rack/cmd/charging", b"OFF"), Some(Incoming::Command(0, off)));
        for topic in ["bms/rack/cmd/config", "bms/rack/cmd/charging"] {
            match sent(topic, b"?") {
                Some(Incoming::InvalidCommand(0, reply)) => {
                    assert_eq!(reply.topic, format!("{topic}/result"));
                    assert!(reply.payload.starts_with(r#"{"ok":false,"error":"#), "{reply:?}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sent("bms/rack/cmd/config/result", b"{}"), None);
    }

    #[test]
    fn retained_commands_are_ignored() {
        let keys = ["read", "config", "charging", "discharging", "balancing"];
        for topic in keys.map(|key| format!("bms/rack/cmd/{key}")) {
            let incoming = parser().parse(&topic, b"ON", true);
            assert_eq!(incoming, Some(Incoming::RetainedCommand(topic.clone())));
            assert_eq!(parser().parse(&topic, b"", true), None);
            assert!(parser().command_filters().contains(&topic));
        }
    }

    #[test]
    fn topic_with_a_wildcard_is_ignored() {
        let own = br#"{"origin": {"name": "bms-reader"}}"#;
        for key in ["module_+", "#", "so\0c"] {
            let topic = format!("homeassistant/sensor/rack/{key}/config");
            assert_eq!(parser().parse(&topic, own, true), None, "{topic}");
        }
    }

    #[test]
    fn only_online_is_a_birth_message() {
        assert_eq!(sent("homeassistant/status", b"online"), Some(Incoming::Birth));
        assert_eq!(sent("homeassistant/status", b"offline"), None);
    }

    #[test]
    fn retained_energy_and_alarms_are_parsed() {
        let energy = Energy::from_kwh("12.345").map(RetainedState::EnergyCharged);
        assert_eq!(retained("bms/rack/energy_charged", b"12.345"), energy);
        let energy = Energy::from_kwh("0.0").map(RetainedState::EnergyDischarged);
        assert_eq!(retained("bms/rack/energy_discharged", b"0.0"), energy);
        assert_eq!(retained("bms/rack/energy_charged", b"unknown"), None);
        assert_eq!(sent("bms/rack/energy_charged", b"1.0"), None, "published by this run");
        assert_eq!(retained("bms/rack/alarms", b"[]"), Some(RetainedState::Alarms(Vec::new())));
        assert_eq!(retained("bms/rack/alarms", br#"["fuse_blown"]"#), None, "not an object");
    }

    #[test]
    fn config_command_can_be_switched_off() {
        let settings = Settings { allow_config: false, ..test_data::settings() };
        let topics = Topics::new("bms/{id}", "homeassistant", &test_data::profile());
        let parser = MessageParser::new(&settings, vec![topics]);
        let parse = |topic| parser.parse(topic, b"{\"paused\": true}", false);
        match parse("bms/rack/cmd/config") {
            Some(Incoming::InvalidCommand(0, reply)) => {
                assert!(reply.payload.contains("ALLOW_CONFIG"), "{reply:?}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(parse("bms/rack/cmd/read"), Some(Incoming::Command(0, Command::Read)));
    }

    #[test]
    fn announcement_of_this_run_is_recognised() {
        let topic = "homeassistant/sensor/rack/soc/config";
        let own = r#"{"origin": {"name": "bms-reader"}}"#;
        let parser = parser().with_announced(vec![Some(Message::retained(topic, own))]);
        assert_eq!(parser.parse(topic, own.as_bytes(), true), Some(Incoming::Intact(0)));
        for (topic, payload) in
            [(topic, &b"{}"[..]), ("homeassistant/sensor/rack/soh/config", own.as_bytes())]
        {
            assert_ne!(parser.parse(topic, payload, true), Some(Incoming::Intact(0)));
        }
    }

    #[test]
    fn announced_keys_that_are_no_values_are_ignored() {
        let payload = br#"{"o": {"name": "bms-reader"}, "components":
            {"online": {}, "raw": {}, "cmd/read": {}, "a/#": {}, "": {}, "cell_1_voltage": {}}}"#;
        match retained("homeassistant/device/rack/config", payload) {
            Some(RetainedState::Discovery(_, components)) => {
                assert_eq!(components.keys().collect::<Vec<_>>(), ["cell_1_voltage"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_own_retained_discovery_counts() {
        let topic = "homeassistant/sensor/rack/soc/config";
        let own = br#"{"origin": {"name": "bms-reader"}}"#;
        let target = DiscoveryTarget::Entity("sensor".into(), "soc".into());
        let components = object(json!({ "soc": { "platform": "sensor" } }));
        let entity = RetainedState::Discovery(target, components);
        assert_eq!(retained(topic, own), Some(entity.clone()));
        assert_eq!(retained(topic, br#"{"o": {"name": "bms-reader"}}"#), Some(entity));
        assert_eq!(sent(topic, own), None);
        for foreign in [&br#"{"origin": {"name": "zigbee2mqtt"}}"#[..], b"{}", b"", b"\xff"] {
            assert_eq!(retained(topic, foreign), None);
        }
        let device = br#"{"o": {"name": "bms-reader"}, "components": {"soc": {}}}"#;
        for (topic, module) in [
            ("homeassistant/device/rack/config", None),
            ("homeassistant/device/rack/module_2/config", Some(2)),
        ] {
            let target = DiscoveryTarget::Device(module);
            let expected = RetainedState::Discovery(target, object(json!({ "soc": {} })));
            assert_eq!(retained(topic, device), Some(expected));
        }
    }
}
