//! One message to the broker, before any client library has seen it.

/// What is sent, and what the broker shall do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: String,
    /// The broker keeps it for whoever comes later.
    pub retain: bool,
    /// The broker has to confirm it (QoS 1).
    pub confirmed: bool,
}

impl Message {
    /// A fact that stays true until it is changed: discovery, availability, identity.
    pub fn fact(topic: impl Into<String>, payload: impl Into<String>) -> Self {
        Message { topic: topic.into(), payload: payload.into(), retain: true, confirmed: true }
    }

    /// A measured value. It is not confirmed (QoS 0): TCP already delivers it in order, a broken
    /// connection sends the newest values again anyway, and a confirmation for each of a hundred
    /// values at every read would double the traffic for nothing.
    pub fn value(topic: impl Into<String>, payload: impl Into<String>) -> Self {
        Message { confirmed: false, ..Message::fact(topic, payload) }
    }

    /// Something that happens now and is of no interest later.
    pub fn event(topic: impl Into<String>, payload: impl Into<String>) -> Self {
        Message { retain: false, ..Message::fact(topic, payload) }
    }

    /// Makes the broker forget what it keeps there.
    pub fn erase(topic: impl Into<String>) -> Self {
        Message::fact(topic, "")
    }
}
