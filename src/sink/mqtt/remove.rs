//! Finds and clears what the broker retains about a battery, so that Home Assistant forgets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::model::EntryKey;
use crate::model::{DeviceId, Profile};
use crate::tasks::Task;

use super::client::{self, Event, MqttClient};
use super::echo::Echo;
use super::error::MqttError;
use super::inbound::{Incoming, MessageParser, parse_discovery};
use super::message::Message;
use super::topics::{self, Topics};
use super::{DISCONNECT_TIMEOUT, Settings};

/// For the connection and everything that happens on it.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Without the echo, what has arrived by then counts.
const RETAINED_TIMEOUT: Duration = Duration::from_secs(5);

/// What the broker retains about a battery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetainedTopics {
    /// In the order in which they have to be cleared.
    pub topics: Vec<String>,
    /// A program publishes the battery now.
    pub online: bool,
    /// The other batteries on this broker.
    pub others: BTreeSet<String>,
}

/// What became of the wish to remove a battery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// The broker retains nothing about it, but about these batteries.
    Nothing(BTreeSet<String>),
    /// A program publishes the battery now, so it was left alone.
    Online,
    /// `left` is what is still retained: the broker denied it, or it was published again.
    Removed { topics: Vec<String>, left: Vec<String> },
}

/// Clears everything that the broker retains about a battery; with `force` also while it is online.
pub async fn remove(settings: &Settings, id: &DeviceId, force: bool) -> Result<Removal, String> {
    let found = find_retained(settings, id).await?;
    if found.topics.is_empty() {
        return Ok(Removal::Nothing(found.others));
    }
    if found.online && !force {
        return Ok(Removal::Online);
    }
    clear_retained(settings, &found.topics).await?;
    let left = find_retained(settings, id).await?.topics;
    let topics = found.topics.into_iter().filter(|topic| !left.contains(topic)).collect();
    Ok(Removal::Removed { topics, left })
}

/// Connects and collects; changes nothing.
pub async fn find_retained(settings: &Settings, id: &DeviceId) -> Result<RetainedTopics, String> {
    let scope = Scope::new(settings, id);
    let messages = with_connection(settings, Work::Collect(scope.filters())).await?;
    Ok(scope.select(&messages))
}

/// Clears these topics.
pub async fn clear_retained(settings: &Settings, topics: &[String]) -> Result<(), String> {
    let messages = topics.iter().map(Message::clear).collect();
    with_connection(settings, Work::Publish(messages)).await.map(drop)
}

/// The retained topics of the program itself.
pub fn bridge_topics(settings: &Settings) -> [String; 3] {
    let bridge = topics::bridge(&settings.client_id);
    [topics::ONLINE, topics::INFO, topics::HEALTH].map(|key| format!("{bridge}/{key}"))
}

/// Payloads by topic.
type Messages = BTreeMap<String, Vec<u8>>;

/// What a connection is opened for.
enum Work {
    /// Returns the retained messages that match these filters.
    Collect(Vec<String>),
    Publish(Vec<Message>),
}

impl Work {
    async fn carry_out(
        self,
        client: &mut MqttClient,
        settings: &Settings,
    ) -> Result<Messages, MqttError> {
        match self {
            Work::Collect(filters) => collect(client, settings, filters).await,
            Work::Publish(messages) => {
                client.publish(messages).await?;
                client.wait_acknowledged().await?;
                Ok(Messages::new())
            }
        }
    }
}

/// Uses another client id than the service, which may be connected at the same time.
async fn with_connection(settings: &Settings, work: Work) -> Result<Messages, String> {
    let client_id = format!("{}-remove", settings.client_id);
    let mut own = Settings { client_id, ..settings.clone() };
    let attempt = async {
        own.locate_broker().await?;
        let parser = MessageParser::collecting(&own);
        let (task, mut client) = client::open(&own, parser, Arc::default(), Task::default());
        let session = async {
            while !matches!(client.next().await?, Event::Connected(_)) {}
            let result = work.carry_out(&mut client, settings).await?;
            // Everything has been acknowledged, however the connection ends.
            let _ = timeout(DISCONNECT_TIMEOUT, client.disconnect()).await;
            Ok(result)
        };
        tokio::select! {
            biased;
            result = session => result,
            error = task.run() => Err(error),
        }
    };
    let result = timeout(TIMEOUT, attempt).await.unwrap_or(Err(MqttError::NoAnswer));
    result.map_err(|error| error.to_string())
}

/// The retained messages that match the filters.
async fn collect(
    client: &mut MqttClient,
    settings: &Settings,
    mut filters: Vec<String>,
) -> Result<Messages, MqttError> {
    let mut messages = Messages::new();
    // Everything that is retained arrives before the message that is published after it.
    let echo = Echo::new(&format!("{}-remove", settings.client_id));
    filters.push(echo.topic.clone());
    client.subscribe(filters).await?;
    let all = async {
        loop {
            match client.next().await? {
                Event::Subscribed(0) => {
                    client.publish([echo.message()]).await?;
                }
                Event::Subscribed(_) => return Err(MqttError::SubscriptionRejected),
                Event::Incoming(Incoming::Collected(topic, payload)) => {
                    messages.insert(topic, payload);
                }
                Event::Incoming(Incoming::Echo(payload)) if payload == echo.payload => {
                    return Ok(());
                }
                Event::Incoming(_) | Event::Connected(_) => {}
            }
        }
    };
    timeout(RETAINED_TIMEOUT, all).await.unwrap_or(Ok(()))?;
    Ok(messages)
}

/// The topics of one battery, whose type may be unknown.
struct Scope {
    id: DeviceId,
    /// With an empty type.
    topics: Topics,
    /// The levels of the base topic's template.
    base: Vec<String>,
}

impl Scope {
    fn new(settings: &Settings, id: &DeviceId) -> Self {
        let (template, prefix) = (&settings.base_topic, &settings.discovery_prefix);
        let topics = Topics::new(template, prefix, &Profile::new(id.clone(), "", ""));
        let base = template.trim_matches('/').split('/').map(str::to_owned).collect();
        Scope { id: id.clone(), topics, base }
    }

    fn filters(&self) -> Vec<String> {
        let level = |level: &String, id: Option<&str>| match id {
            Some(id) if !level.contains("{type}") => level.replace("{id}", id),
            None if !level.contains('{') => level.clone(),
            _ => "+".to_owned(),
        };
        let base = |id| self.base.iter().map(|it| level(it, id)).collect::<Vec<_>>().join("/");
        let values = format!("{}/#", base(Some(self.id.as_str())));
        let all_batteries = format!("{}/{}", base(None), topics::META);
        [vec![values, all_batteries], self.topics.discovery_filters().to_vec()].concat()
    }

    /// Base topic and key of a topic that may be of this battery.
    fn split<'a>(&self, topic: &'a str) -> Option<(&'a str, &'a str)> {
        let (end, _) = topic.match_indices('/').nth(self.base.len() - 1)?;
        Some((&topic[..end], &topic[end + 1..]))
    }

    /// Whether the base topic alone shows that it belongs to this battery.
    fn names_battery(&self, base: &str) -> bool {
        let mut levels = self.base.iter().zip(base.split('/'));
        levels.any(|(template, level)| {
            let is_id = template.contains("{id}") && !template.contains("{type}");
            is_id && template.replace("{id}", self.id.as_str()) == level
        })
    }

    fn select(&self, messages: &Messages) -> RetainedTopics {
        let mut found = RetainedTopics::default();
        // Devices of modules before that of their stack, as Home Assistant needs it.
        let discovery = messages
            .iter()
            .filter(|(topic, payload)| parse_discovery(&self.topics, topic, payload).is_some());
        let mut discovery: Vec<_> = discovery
            .filter_map(|(topic, _)| Some((self.topics.parse_discovery(topic)?, topic.clone())))
            .collect();
        discovery.sort();
        found.topics.extend(discovery.into_iter().rev().map(|(_, topic)| topic));
        let meta_ids: BTreeMap<&str, String> = messages
            .iter()
            .filter_map(|(topic, payload)| {
                let (base, _) = self.split(topic).filter(|(_, key)| *key == topics::META)?;
                let meta: Value = serde_json::from_slice(payload).ok()?;
                Some((base, meta["id"].as_str()?.to_owned()))
            })
            .collect();
        found.others.extend(meta_ids.values().filter(|id| *id != self.id.as_str()).cloned());
        for (topic, payload) in messages {
            let Some((base, key)) = self.split(topic).filter(|(_, key)| is_own_key(key)) else {
                continue;
            };
            let is_own = meta_ids.get(base).map(|id| id == self.id.as_str());
            if is_own.unwrap_or_else(|| self.names_battery(base)) {
                found.online |= key == topics::ONLINE && payload == b"true";
                found.topics.push(topic.clone());
            }
        }
        found
    }
}

/// Other programs may retain messages below the same base topic.
fn is_own_key(key: &str) -> bool {
    let fixed = [topics::RAW, topics::ONLINE, topics::META, topics::ALARMS, topics::EVENT];
    fixed.contains(&key) || key.starts_with("cmd/") || EntryKey::parse(key).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::mqtt::test_data;

    fn scope(template: &str, id: &str) -> Scope {
        let settings = Settings { base_topic: template.into(), ..test_data::settings() };
        Scope::new(&settings, &DeviceId::new(id).unwrap())
    }

    fn select(template: &str, messages: &[(&str, &str)]) -> RetainedTopics {
        let messages =
            messages.iter().map(|(topic, payload)| (topic.to_string(), (*payload).into()));
        scope(template, "rack").select(&messages.collect())
    }

    #[test]
    fn filters_have_whole_level_wildcards() {
        let discovery = ["homeassistant/+/rack/+/config", "homeassistant/device/rack/config"];
        let filters = |template| scope(template, "rack").filters();
        let expected = |first: [&'static str; 2]| [first, discovery].concat();
        assert_eq!(filters("bms/{id}"), expected(["bms/rack/#", "bms/+/meta"]));
        assert_eq!(filters("bms/{type}/{id}/"), expected(["bms/+/rack/#", "bms/+/+/meta"]));
        assert_eq!(filters("x-{type}-{id}"), expected(["+/#", "+/meta"]));
        assert_eq!(filters("house"), expected(["house/#", "house/meta"]));
    }

    #[test]
    fn only_topics_of_the_battery_are_selected() {
        let own = r#"{"origin": {"name": "bms-reader"}, "components": {}}"#;
        let found = select(
            "bms/{id}",
            &[
                ("bms/rack/soc", "64.0"),
                ("bms/rack/cell_3_voltage", "3.3"),
                ("bms/rack/alarm_fuse_blown", "OFF"),
                ("bms/rack/online", "true"),
                ("bms/rack/cmd/read", "1"),
                ("bms/rack/notes", "of another program"),
                ("bms/other/meta", r#"{"id": "other"}"#),
                ("homeassistant/sensor/rack/soc/config", own),
                ("homeassistant/sensor/rack/load/config", r#"{"origin": {"name": "evcc"}}"#),
                ("homeassistant/device/rack/config", own),
                ("homeassistant/device/rack/module_2/config", own),
            ],
        );
        let topics = [
            "homeassistant/device/rack/module_2/config",
            "homeassistant/device/rack/config",
            "homeassistant/sensor/rack/soc/config",
            "bms/rack/alarm_fuse_blown",
            "bms/rack/cell_3_voltage",
            "bms/rack/cmd/read",
            "bms/rack/online",
            "bms/rack/soc",
        ];
        assert_eq!(found.topics, topics);
        assert!(found.online);
        assert_eq!(found.others, BTreeSet::from(["other".to_owned()]));
    }

    #[test]
    fn base_topic_without_the_id_needs_the_meta_message() {
        let soc = ("house/soc", "64.0");
        assert_eq!(select("house", &[soc]).topics, [""; 0]);
        let other = ("house/meta", r#"{"id": "shed"}"#);
        assert_eq!(select("house", &[soc, other]).topics, [""; 0]);
        let own = ("house/meta", r#"{"id": "rack"}"#);
        assert_eq!(select("house", &[soc, own]).topics, ["house/meta", "house/soc"]);
        let mixed = [("a-jk-rack/soc", "1.0"), ("a-jk-rack/meta", r#"{"id": "rack"}"#)];
        assert_eq!(select("a-{type}-{id}", &mixed).topics.len(), 2);
        assert_eq!(select("a-{type}-{id}", &mixed[..1]).topics.len(), 0);
    }
}
