//! Every topic string of the program. Nothing outside this file spells one.

use crate::model::Profile;
use crate::model::reading::Switch;

const DEVICE: &str = "device";
const MODULE: &str = "module_";

/// Where one battery is published, commanded and announced.
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

    /// One value.
    pub fn value(&self, key: &str) -> String {
        format!("{}/{key}", self.base)
    }

    /// The whole reading.
    pub fn raw(&self) -> String {
        self.value("raw")
    }

    /// Whether the battery answers.
    pub fn online(&self) -> String {
        self.value("online")
    }

    /// Who and where the battery is.
    pub fn meta(&self) -> String {
        self.value("meta")
    }

    /// The active alarms.
    pub fn alarms(&self) -> String {
        self.value("alarms")
    }

    /// An alarm starts or ends.
    pub fn event(&self) -> String {
        self.value("event")
    }

    /// Energy in and out, whose last values are the only memory that a program without a file has.
    pub fn totals(&self) -> [String; 2] {
        [self.value("energy_charged"), self.value("energy_discharged")]
    }

    /// Anything published here triggers a read.
    pub fn read_command(&self) -> String {
        self.value("cmd/read")
    }

    /// Changes how the battery is asked.
    pub fn config_command(&self) -> String {
        self.value("cmd/config")
    }

    /// What became of such a change.
    pub fn config_result(&self) -> String {
        self.value("cmd/config/result")
    }

    /// Turns a switch: `ON` or `OFF`.
    pub fn switch_command(&self, switch: Switch) -> String {
        self.value(&format!("cmd/{}", switch.name()))
    }

    /// What became of that.
    pub fn switch_result(&self, switch: Switch) -> String {
        self.value(&format!("cmd/{}/result", switch.name()))
    }

    /// Discovery of one entity.
    pub fn entity(&self, component: &str, key: &str) -> String {
        format!("{}/{component}/{}/{key}/config", self.prefix, self.id)
    }

    /// Discovery of the whole device, or of the device of one module of a stack.
    pub fn device(&self, module: Option<usize>) -> String {
        match module {
            None => format!("{}/device/{}/config", self.prefix, self.id),
            Some(number) => self.entity(DEVICE, &format!("{MODULE}{number}")),
        }
    }

    /// The module whose device a component and key from [`Topics::parse_entity`] announce.
    pub fn module(component: &str, key: &str) -> Option<usize> {
        key.strip_prefix(MODULE).filter(|_| component == DEVICE)?.parse().ok()
    }

    /// Filters that match all discovery topics of this battery, in both formats. The devices of
    /// modules look like entities of a component of their own.
    pub fn announcements(&self) -> [String; 2] {
        [self.entity("+", "+"), self.device(None)]
    }

    /// Component and key, when the topic is one that [`Topics::entity`] makes.
    pub fn parse_entity<'a>(&self, topic: &'a str) -> Option<(&'a str, &'a str)> {
        let rest = topic.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        let mut levels = rest.strip_suffix("/config")?.split('/');
        let (component, id, key) = (levels.next()?, levels.next()?, levels.next()?);
        (id == self.id && levels.next().is_none()).then_some((component, key))
    }
}

/// Whether the program itself is there: its last will.
pub fn bridge_online(client_id: &str) -> String {
    format!("bms/bridge/{}/online", one_level(client_id))
}

/// What we send here comes back to us behind everything that the broker had for us before.
pub fn echo(client_id: &str) -> String {
    format!("bms/bridge/{}/ping", one_level(client_id))
}

/// Home Assistant says here that it has started.
pub fn birth(prefix: &str) -> String {
    format!("{}/status", prefix.trim_matches('/'))
}

/// A client id may hold characters that would cut or widen a topic.
fn one_level(client_id: &str) -> String {
    let safe = |c: char| if c.is_control() || "/+#$".contains(c) { '_' } else { c };
    if client_id.is_empty() { "_".to_owned() } else { client_id.chars().map(safe).collect() }
}

/// Whether a broker would take this topic for publishing; a wrong one ends the connection.
pub fn is_publishable(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= usize::from(u16::MAX) && !topic.contains(['+', '#', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::mqtt::test_data;

    #[test]
    fn templates_are_filled_in() {
        let profile = test_data::profile();
        let topics = Topics::new("bms/{type}/{id}/", "homeassistant", &profile);
        assert_eq!(topics.value("soc"), "bms/daren/rack/soc");
        assert_eq!(topics.config_result(), "bms/daren/rack/cmd/config/result");
        assert_eq!(topics.entity("sensor", "soc"), "homeassistant/sensor/rack/soc/config");
        assert_eq!(topics.device(None), "homeassistant/device/rack/config");
        assert_eq!(topics.device(Some(2)), "homeassistant/device/rack/module_2/config");
    }

    #[test]
    fn entity_topics_are_recognised_and_strangers_are_not() {
        let topics = Topics::new("bms/{id}", "ha/x", &test_data::profile());
        let made = topics.entity("sensor", "cell_1_voltage");
        assert_eq!(topics.parse_entity(&made), Some(("sensor", "cell_1_voltage")));
        let module = topics.device(Some(2));
        let (component, key) = topics.parse_entity(&module).expect("it looks like an entity");
        assert_eq!(Topics::module(component, key), Some(2));
        assert_eq!(Topics::module("sensor", "module_2"), None);
        assert_eq!(Topics::module("device", "soc"), None);
        for stranger in [
            "ha/x/sensor/other/soc/config",
            "ha/x/sensor/rack/soc/state",
            "ha/x/sensor/rack/a/b/config",
            "ha/x/device/rack/config",
            "ha/xsensor/rack/soc/config",
        ] {
            assert_eq!(topics.parse_entity(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn a_client_id_is_one_level_of_a_topic() {
        assert_eq!(bridge_online("a/b+c#"), "bms/bridge/a_b_c_/online");
        assert!(is_publishable(&echo("#/+")));
        assert!(!is_publishable("bms/+/x"));
        assert!(!is_publishable(""));
    }
}
