//! Replies to commands.

use serde_json::json;

use crate::command::payload::accepted;
use crate::command::{Command, CommandError};

use super::message::Message;
use super::topics::{self, Topics};

/// The reply to a command. `cmd/read` has none: it is answered by the reading, and the caller logs
/// its error.
pub fn reply(
    topics: &Topics,
    command: &Command,
    result: Result<(), CommandError>,
) -> Result<Option<Message>, CommandError> {
    let key = match command {
        Command::Read => return result.map(|()| None),
        Command::Configure(_) => topics::CONFIG_COMMAND.to_owned(),
        Command::Switch(setting) => topics::switch_command(setting.switch),
    };
    let topic = topics.topic(&key);
    Ok(Some(match result {
        Ok(()) => Message::event(topics::command_result(&topic), accepted(command).to_string()),
        Err(error) => error_reply(&topic, &error.0),
    }))
}

/// The reply to a command that was not carried out.
pub fn error_reply(command_topic: &str, error: &str) -> Message {
    let payload = json!({ "ok": false, "error": error });
    Message::event(topics::command_result(command_topic), payload.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ConfigChange;
    use crate::model::{Setting, Switch};
    use crate::sink::mqtt::test_data;

    fn reply_to(command: &Command, result: Result<(), CommandError>) -> Option<Message> {
        let topics = Topics::new("bms/{id}", "homeassistant", &test_data::profile());
        reply(&topics, command, result).expect("no read command")
    }

    #[test]
    fn config_reply_repeats_the_fields() {
        let change = ConfigChange { paused: Some(true), ..ConfigChange::default() };
        let reply = reply_to(&Command::Configure(change), Ok(()));
        let payload = r#"{"ok":true,"paused":true}"#;
        assert_eq!(reply, Some(Message::event("bms/rack/cmd/config/result", payload)));
    }

    #[test]
    fn switch_reply_names_the_state() {
        let command = Command::Switch(Setting { switch: Switch::Discharging, on: false });
        let topic = "bms/rack/cmd/discharging/result";
        let expected = Message::event(topic, r#"{"ok":true,"discharging":"OFF"}"#);
        assert_eq!(reply_to(&command, Ok(())), Some(expected));
        let refused = reply_to(&command, Err(CommandError("busy".to_owned())));
        let expected = Message::event(topic, r#"{"ok":false,"error":"busy"}"#);
        assert_eq!(refused, Some(expected));
    }
}
