//! Every topic of the program.

use std::fmt;

use crate::model::{EntryKey, Profile, Switch};

use DiscoveryTarget::{Device, Entity};

// Levels below the base topic of a battery.
/// The complete reading as JSON.
pub const RAW: &str = "raw";
/// Readings that the broker may have missed.
pub const HISTORY: &str = "history";
/// `true` while the battery answers.
pub const ONLINE: &str = "online";
/// Name, type, address and versions of the battery as JSON.
pub const META: &str = "meta";
/// JSON list of the active alarms.
pub const ALARMS: &str = "alarms";
/// An alarm starts or ends.
pub const EVENT: &str = "event";
/// The retained energy totals let the counters continue after a restart without a history file.
pub const ENERGY_CHARGED: &str = "energy_charged";
pub const ENERGY_DISCHARGED: &str = "energy_discharged";
/// Any message triggers a read.
pub const READ_COMMAND: &str = "cmd/read";
/// Changes address, interval and timeouts.
pub const CONFIG_COMMAND: &str = "cmd/config";

// Levels below [`bridge`], besides `online`.
/// A message sent here returns after everything that the broker has queued for this client.
const PING: &str = "ping";
/// What the program is, and which batteries it publishes, as JSON.
pub const INFO: &str = "info";
/// How the reads of each battery go, as JSON.
pub const HEALTH: &str = "health";
/// Settings of all batteries, which the operator retains.
pub const REMOTE_CONFIG: &str = "config";
/// Changes the level of the log until the program ends.
pub const LOG_LEVEL_COMMAND: &str = "cmd/log_level";
/// Ends the program, so that it is started again.
pub const RESTART_COMMAND: &str = "cmd/restart";

/// The topics of one battery.
#[derive(Debug, Clone)]
pub struct Topics {
    base: String,
    prefix: String,
    id: String,
}

impl Topics {
    /// `template` is the base topic with `{id}` and `{type}`, `prefix` the discovery prefix.
    pub fn new(template: &str, prefix: &str, profile: &Profile) -> Self {
        let id = profile.id.as_str();
        let base = template.replace("{id}", id).replace("{type}", &profile.brand);
        Topics {
            base: base.trim_matches('/').to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            id: id.to_owned(),
        }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// A value key or one of the constants above, below the base topic.
    pub fn topic(&self, key: &str) -> String {
        format!("{}/{key}", self.base)
    }

    /// The topic of a value.
    pub fn value(&self, key: EntryKey) -> String {
        text(self.base.len() + 32, format_args!("{}/{key}", self.base))
    }

    /// The reverse of [`Topics::topic`].
    pub fn key<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(&self.base)?.strip_prefix('/')
    }

    pub fn discovery(&self, target: &DiscoveryTarget) -> String {
        let Topics { prefix, id, .. } = self;
        match target {
            Entity(component, key) => format!("{prefix}/{component}/{id}/{key}/config"),
            Device(None) => format!("{prefix}/device/{id}/config"),
            Device(Some(module)) => format!("{prefix}/device/{id}/module_{module}/config"),
        }
    }

    /// The reverse of [`Topics::discovery`].
    pub fn parse_discovery(&self, topic: &str) -> Option<DiscoveryTarget> {
        let rest = topic.strip_prefix(&self.prefix)?.strip_prefix('/')?.strip_suffix("/config")?;
        let levels: Vec<&str> = rest.split('/').collect();
        let module = |key: &str| key.strip_prefix("module_")?.parse().ok();
        match levels[..] {
            ["device", id] if id == self.id => Some(Device(None)),
            ["device", id, key] if id == self.id && module(key).is_some() => {
                Some(Device(module(key)))
            }
            [component, id, key] if id == self.id => Some(Entity(component.into(), key.into())),
            _ => None,
        }
    }

    /// Filters that match all discovery topics of this battery.
    pub fn discovery_filters(&self) -> [String; 2] {
        [Entity("+".into(), "+".into()), Device(None)].map(|target| self.discovery(&target))
    }
}

/// A text that is hardly ever longer than this, so that it is not moved while it grows.
pub fn text(length: usize, content: fmt::Arguments<'_>) -> String {
    let mut text = String::with_capacity(length);
    // Cannot fail.
    let _ = fmt::Write::write_fmt(&mut text, content);
    text
}

/// What a discovery message describes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiscoveryTarget {
    Entity(String, String),
    /// The whole device, or one module of a stack, counted from 1.
    Device(Option<usize>),
}

/// Command topic of a switch, below the base topic; the payload is `ON` or `OFF`.
pub fn switch_command(switch: Switch) -> String {
    format!("cmd/{}", switch.name())
}

/// Topic of the reply to a command.
pub fn command_result(command: &str) -> String {
    format!("{command}/result")
}

/// The base of the topics of the program itself.
pub fn bridge(client_id: &str) -> String {
    format!("bms/bridge/{}", topic_level(client_id))
}

/// Availability of the program itself, which is its last will.
pub fn bridge_online(client_id: &str) -> String {
    format!("{}/{ONLINE}", bridge(client_id))
}

/// Matches [`bridge_online`] of this client only.
pub fn bridge_online_filter(client_id: &str) -> String {
    format!("bms/+/{}/online", topic_level(client_id))
}

pub fn echo(client_id: &str) -> String {
    format!("{}/{PING}", bridge(client_id))
}

/// Home Assistant publishes `online` here when it has started (its "birth message").
pub fn birth(prefix: &str) -> String {
    format!("{}/status", prefix.trim_matches('/'))
}

/// A client id with the characters replaced that would split or widen a topic.
fn topic_level(client_id: &str) -> String {
    let safe = |c: char| if c.is_control() || "/+#$".contains(c) { '_' } else { c };
    if client_id.is_empty() { "_".to_owned() } else { client_id.chars().map(safe).collect() }
}

/// Whether this may be the key of a value or an entity, from whichever version.
pub fn is_value_key(key: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=64).contains(&key.len())
        && key.bytes().all(is_plain)
        && ![RAW, HISTORY, ONLINE, META, ALARMS].contains(&key)
}

/// Whether a broker accepts this topic for publishing; an invalid one ends the connection.
pub fn is_publishable(topic: &str) -> bool {
    let is_forbidden = |byte| matches!(byte, b'+' | b'#' | 0);
    (1..=usize::from(u16::MAX)).contains(&topic.len()) && !topic.bytes().any(is_forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::mqtt::test_data;

    #[test]
    fn base_topic_template_is_expanded() {
        let profile = test_data::profile();
        let topics = Topics::new("bms/{type}/{id}/", "homeassistant", &profile);
        assert_eq!(topics.topic("soc"), "bms/daren/rack/soc");
        assert_eq!(topics.key("bms/daren/rack/soc"), Some("soc"));
        assert_eq!(topics.key("bms/daren/rack2/soc"), None);
        let result = command_result(&topics.topic(CONFIG_COMMAND));
        assert_eq!(result, "bms/daren/rack/cmd/config/result");
    }

    #[test]
    fn only_own_discovery_topics_are_parsed() {
        let topics = Topics::new("bms/{id}", "ha/x", &test_data::profile());
        let entity = |component: &str, key: &str| Entity(component.to_owned(), key.to_owned());
        for (target, topic) in [
            (entity("sensor", "soc"), "ha/x/sensor/rack/soc/config"),
            (entity("sensor", "module_2"), "ha/x/sensor/rack/module_2/config"),
            (entity("device", "soc"), "ha/x/device/rack/soc/config"),
            (Device(None), "ha/x/device/rack/config"),
            (Device(Some(2)), "ha/x/device/rack/module_2/config"),
        ] {
            assert_eq!(topics.discovery(&target), topic);
            assert_eq!(topics.parse_discovery(topic), Some(target));
        }
        for foreign in [
            "ha/x/sensor/other/soc/config",
            "ha/x/sensor/rack/soc/state",
            "ha/x/sensor/rack/a/b/config",
            "ha/x/device/other/config",
            "ha/xsensor/rack/soc/config",
        ] {
            assert_eq!(topics.parse_discovery(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn client_id_is_one_topic_level() {
        assert_eq!(bridge_online("a/b+c#"), "bms/bridge/a_b_c_/online");
        assert!(is_publishable(&echo("#/+")));
        assert!(!is_publishable("bms/+/x"));
        assert!(!is_publishable(""));
    }
}
