//! One message to the broker, independent of the client library.

/// What to publish, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub retain: bool,
    /// QoS 1: the broker acknowledges it. Otherwise QoS 0.
    pub at_least_once: bool,
    /// With MQTT 5 the broker forgets the message after this time; 0: never. Only for QoS 0.
    pub lifetime_s: u32,
}

impl Message {
    /// State that holds until it is replaced: discovery, availability, device information.
    pub fn retained(topic: impl Into<String>, payload: impl Into<String>) -> Self {
        let (topic, payload) = (topic.into(), payload.into());
        Message { topic, payload, retain: true, at_least_once: true, lifetime_s: 0 }
    }

    /// A measured value, sent with QoS 0: TCP delivers it in order, a new connection sends the
    /// newest values again anyway, and an acknowledgement for each of a hundred values at every
    /// read would only double the traffic.
    pub fn value(topic: impl Into<String>, payload: impl Into<String>) -> Self {
        Message { at_least_once: false, ..Message::retained(topic, payload) }
    }

    /// Something that happens now and is of no interest later.
    pub fn event(topic: impl Into<String>, payload: impl Into<String>) -> Self {
        Message { retain: false, ..Message::retained(topic, payload) }
    }

    /// Deletes the retained message on this topic.
    pub fn clear(topic: impl Into<String>) -> Self {
        Message::retained(topic, "")
    }
}
