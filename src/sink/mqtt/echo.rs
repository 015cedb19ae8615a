//! A message to the program itself: everything that the broker retains arrives before it.

use super::message::Message;
use super::topics;
use crate::random::random;

#[derive(Debug)]
pub struct Echo {
    pub topic: String,
    /// Random, because other clients may publish on this topic, too.
    pub payload: String,
}

impl Echo {
    pub fn new(client_id: &str) -> Self {
        let number = (random() * f64::from(u32::MAX)) as u32;
        Echo { topic: topics::echo(client_id), payload: format!("{number:08x}") }
    }

    /// QoS 0, because a message of QoS 1 may be overtaken.
    pub fn message(&self) -> Message {
        let message = Message::event(self.topic.clone(), self.payload.clone());
        Message { at_least_once: false, ..message }
    }
}
