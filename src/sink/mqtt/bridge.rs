//! The program itself on the broker: what it is, how it reads its batteries, and its commands.

use serde_json::{Map, Value, json};

use crate::model::{DeviceState, Installation, LinkState, Millis};
use crate::remedy;

use super::json::object;
use super::topics;
use super::{Discovery, Publish, Settings, Version};

/// What the log can be set to, as in `LOG_LEVEL`.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeCommand {
    LogLevel(&'static str),
    Restart,
}

impl BridgeCommand {
    /// The level of its topic.
    pub fn key(self) -> &'static str {
        match self {
            BridgeCommand::LogLevel(_) => topics::LOG_LEVEL_COMMAND,
            BridgeCommand::Restart => topics::RESTART_COMMAND,
        }
    }

    /// The reply to a command that is carried out.
    pub fn accepted(self) -> Value {
        match self {
            BridgeCommand::LogLevel(level) => json!({ "ok": true, "log_level": level }),
            BridgeCommand::Restart => json!({ "ok": true }),
        }
    }
}

/// `None` when the topic is not that of a command.
pub fn parse_command(key: &str, payload: &[u8]) -> Option<Result<BridgeCommand, String>> {
    match key {
        topics::RESTART_COMMAND => Some(Ok(BridgeCommand::Restart)),
        topics::LOG_LEVEL_COMMAND => Some(parse_level(payload).map(BridgeCommand::LogLevel)),
        _ => None,
    }
}

fn parse_level(payload: &[u8]) -> Result<&'static str, String> {
    let word = payload.trim_ascii();
    // As in `LOG_LEVEL`, which has the word of Python, too.
    let word = if word.eq_ignore_ascii_case(b"warning") { b"warn" } else { word };
    let level = LEVELS.into_iter().find(|level| level.as_bytes().eq_ignore_ascii_case(word));
    level.ok_or_else(|| format!("send one of {}", LEVELS.join(", ")))
}

/// What an operator of many programs wants to know about this one; nothing secret. `batteries`: the base
/// topic of each by its ID.
pub fn info(settings: &Settings, batteries: Map<String, Value>, started: Millis) -> Value {
    let installation = match remedy::installation() {
        Installation::HomeAssistant => "home_assistant",
        Installation::Container => "container",
        Installation::Host => "host",
    };
    let refresh = match settings.publish {
        Publish::Changes(refresh) => Some(refresh.as_secs()),
        Publish::All => None,
    };
    let discovery = match settings.discovery {
        Discovery::Entity => "entity",
        Discovery::Device => "device",
        Discovery::Off => "off",
    };
    Value::Object(object(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": started.iso8601(),
        "installation": installation,
        "batteries": batteries,
        "mqtt_version": match settings.version {
            Version::V311 => "3.1.1",
            Version::V5 => "5",
        },
        "refresh_s": refresh,
        "discovery": discovery,
        "allow_config": settings.allow_config,
        "remote_config": settings.remote_config,
    })))
}

/// How the reads of each battery went since the start of the program.
pub fn health(states: impl Iterator<Item = DeviceState>, connections: u64) -> Value {
    let battery = |state: DeviceState| {
        let counters = &state.counters;
        let errors = counters.faults().map(|(kind, count)| (kind.to_string(), count.into()));
        let health = object(json!({
            "online": state.link == LinkState::Online,
            "last_read": state.snapshot.as_ref().map(|snapshot| snapshot.taken.iso8601()),
            "reads": counters.reads,
            "errors": errors.collect::<Map<_, _>>(),
            "reconnects": counters.reconnects,
        }));
        (state.profile.id.to_string(), Value::Object(health))
    };
    json!({ "connections": connections, "batteries": states.map(battery).collect::<Map<_, _>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fault, FaultKind};
    use crate::sink::mqtt::test_data;

    #[test]
    fn commands_are_recognised_by_their_topic() {
        let level = |payload| parse_command(topics::LOG_LEVEL_COMMAND, payload);
        for (payload, expected) in
            [(&b"debug"[..], "debug"), (b" TRACE ", "trace"), (b"Warning", "warn")]
        {
            assert_eq!(level(payload), Some(Ok(BridgeCommand::LogLevel(expected))));
        }
        for payload in [&b""[..], b"verbose", b"bms_reader=debug", b"\xff"] {
            let error = level(payload).expect("a command").expect_err("no level");
            assert!(error.contains("error, warn, info, debug, trace"), "{error}");
        }
        assert_eq!(parse_command("cmd/restart", b""), Some(Ok(BridgeCommand::Restart)));
        assert_eq!(parse_command("cmd/read", b""), None);
    }

    #[test]
    fn info_names_batteries_and_no_secret() {
        let login = Some(("user".into(), crate::model::Secret::new("geheim")));
        let settings = Settings { login, ..test_data::settings() };
        let batteries = [("rack".to_owned(), json!("bms/rack"))].into_iter().collect();
        let info = info(&settings, batteries, Millis(1_771_097_625_510));
        assert_eq!(info["batteries"], json!({ "rack": "bms/rack" }));
        assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(info["started"], "2026-02-14T19:33:45Z");
        assert_eq!(info["refresh_s"], 300);
        let text = info.to_string();
        assert!(!text.contains("geheim") && !text.contains("user"), "{text}");
    }

    #[test]
    fn health_counts_errors_by_type() {
        let mut state = test_data::state(test_data::reading(16), 1);
        let fault = Fault::new(FaultKind::BadChecksum, "x", "y");
        state.record_attempt(Millis(1), 0, true, Some(fault));
        let unread = test_data::unread_state();
        let found = health([state].into_iter(), 2);
        let expected = json!({ "online": true, "last_read": "2026-02-14T19:34:15Z", "reads": 1,
            "errors": { "bad_checksum": 1 }, "reconnects": 0 });
        assert_eq!(found, json!({ "connections": 2, "batteries": { "rack": expected } }));
        let unread = health([unread].into_iter(), 1);
        assert_eq!(unread["batteries"]["rack"]["last_read"], Value::Null);
    }
}
