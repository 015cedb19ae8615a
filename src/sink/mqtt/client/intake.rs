//! Applies the limits to what the broker sends, before anything is queued.

use std::sync::Arc;

use super::received::TooLarge;
use crate::command::Command;
use crate::model::Uptime;
use crate::sink::mqtt::inbound::{Incoming, MessageParser};
use crate::sink::mqtt::limits::{self, Rate};

#[derive(Debug)]
pub struct Intake {
    parser: Arc<MessageParser>,
    /// The last one is for the commands to the program itself.
    batteries: Vec<Battery>,
    too_large: Rate,
    retained_commands: Rate,
    overflows: Rate,
    /// Bytes of other retained messages that are still accepted.
    collected: usize,
}

#[derive(Debug)]
struct Battery {
    reads: Rate,
    commands: Rate,
    /// Limits the log lines about refused commands.
    refusals: Rate,
    /// Bytes of retained messages that are still accepted.
    retained: usize,
}

impl Battery {
    fn new() -> Self {
        Battery {
            reads: Rate::new(limits::READS),
            commands: Rate::new(limits::COMMANDS),
            refusals: Rate::new(limits::LOG_LINES),
            retained: limits::MAX_RETAINED,
        }
    }
}

impl Intake {
    pub fn new(parser: Arc<MessageParser>) -> Self {
        let log = || Rate::new(limits::LOG_LINES);
        let batteries = (0..=parser.batteries()).map(|_| Battery::new()).collect();
        let (too_large, retained_commands, overflows) = (log(), log(), log());
        let collected = limits::MAX_COLLECTED;
        Intake { parser, batteries, too_large, retained_commands, overflows, collected }
    }

    /// `None` when the message is of no interest, or exceeds a limit.
    pub fn take(
        &mut self,
        topic: &str,
        payload: &[u8],
        retained: bool,
        now: Uptime,
    ) -> Option<Incoming> {
        let incoming = self.parser.parse(topic, payload, retained)?;
        match &incoming {
            Incoming::Command(index, command) => {
                let is_read = *command == Command::Read;
                self.admit(*index, topic, is_read, now)?;
            }
            Incoming::InvalidCommand(index, _) => self.admit(*index, topic, false, now)?,
            Incoming::Bridge(_) | Incoming::InvalidBridge(_) | Incoming::RemoteConfig(_) => {
                self.admit(self.parser.batteries(), topic, false, now)?;
            }
            Incoming::RetainedCommand(_) => {
                self.retained_commands.admit(now)?;
            }
            Incoming::Retained(index, _) => {
                let battery = self.batteries.get_mut(*index)?;
                let Some(rest) = battery.retained.checked_sub(payload.len()) else {
                    if battery.refusals.admit(now).is_some() {
                        tracing::warn!(
                            "MQTT: ignored the retained message on {topic}: the broker retains more \
                             than {} KiB for this battery. Delete what does not belong there",
                            limits::MAX_RETAINED / 1024
                        );
                    }
                    return None;
                };
                battery.retained = rest;
            }
            Incoming::Collected(topic, _) => {
                let Some(rest) = self.collected.checked_sub(topic.len() + payload.len()) else {
                    self.report_overflow(now);
                    return None;
                };
                self.collected = rest;
            }
            Incoming::Birth
            | Incoming::OwnOnline { .. }
            | Incoming::Echo(_)
            | Incoming::Intact(_) => {}
        }
        Some(incoming)
    }

    fn admit(&mut self, index: usize, topic: &str, is_read: bool, now: Uptime) -> Option<()> {
        let battery = self.batteries.get_mut(index)?;
        let rate = if is_read { &mut battery.reads } else { &mut battery.commands };
        if rate.admit(now).is_some() {
            return Some(());
        }
        if let Some(refused) = battery.refusals.admit(now) {
            let limit = if is_read { limits::READS } else { limits::COMMANDS };
            tracing::warn!(
                "MQTT: too many commands on {topic}, {} ignored: only one every {} s is carried out. \
                 Check which program sends them",
                refused + 1,
                limit.interval.as_secs()
            );
        }
        None
    }

    pub fn report_too_large(&mut self, message: &TooLarge, now: Uptime) {
        let TooLarge { topic, size, limit } = message;
        if self.too_large.admit(now).is_some() {
            tracing::warn!(
                "MQTT: ignored a message of {size} bytes on {topic}: at most {limit} bytes are \
                 accepted there. If the broker retains it, delete it: publish an empty retained \
                 message on this topic"
            );
        }
    }

    pub fn report_overflow(&mut self, now: Uptime) {
        if let Some(dropped) = self.overflows.admit(now) {
            let dropped = dropped + 1;
            tracing::warn!(
                "MQTT: messages arrive faster than they are handled, {dropped} are ignored. Check \
                 which program sends them"
            );
        }
    }
}
