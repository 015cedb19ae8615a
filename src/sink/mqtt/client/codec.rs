//! Splits the stream of the broker into packets, and skips messages that are too large.
//!
//! The library ends the connection over such a message. A retained one would arrive again on every
//! connection, so that anyone who may publish could silence this program for good.

use std::sync::Arc;

use rumqttc::mqttbytes::Error;
use rumqttc::{Codec, Packet};
use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::sink::mqtt::inbound::MessageParser;
use crate::sink::mqtt::limits::{MAX_CONTROL_PACKET, MAX_PACKET};
use crate::sink::mqtt::message::Message;

/// Type of a PUBLISH packet in the upper half of its first byte.
const PUBLISH: u8 = 3;

#[derive(Debug)]
pub enum Received {
    Packet(Packet),
    TooLarge(TooLarge),
}

/// A message that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLarge {
    pub topic: String,
    pub size: usize,
    pub limit: usize,
}

#[derive(Debug)]
pub struct PacketCodec {
    inner: Codec,
    parser: Arc<MessageParser>,
    /// Bytes of a skipped message that are still to come.
    skip: usize,
    /// Bytes that remained after the last call.
    buffered: usize,
    /// Counts calls with new bytes: part of a packet also shows that the broker is alive.
    pub progress: u64,
}

impl PacketCodec {
    pub fn new(parser: Arc<MessageParser>) -> Self {
        let inner = Codec { max_incoming_size: MAX_PACKET, max_outgoing_size: MAX_PACKET };
        PacketCodec { inner, parser, skip: 0, buffered: 0, progress: 0 }
    }

    fn next(&mut self, stream: &mut BytesMut) -> Result<Option<Received>, Error> {
        let skipped = self.skip.min(stream.len());
        stream.advance(skipped);
        self.skip -= skipped;
        let Some((start, length)) = remaining_length(stream)? else { return Ok(None) };
        if stream[0] >> 4 != PUBLISH {
            if length > MAX_CONTROL_PACKET {
                return Err(Error::PayloadSizeLimitExceeded(length));
            }
            return Ok(self.inner.decode(stream)?.map(Received::Packet));
        }
        let Some(topic) = topic(&stream[start..], length)? else { return Ok(None) };
        // A packet id is counted with the payload.
        let (size, limit) = (length - 2 - topic.len(), self.parser.max_payload(&topic));
        if size <= limit {
            return Ok(self.inner.decode(stream)?.map(Received::Packet));
        }
        self.skip = start + length;
        let skipped = self.skip.min(stream.len());
        stream.advance(skipped);
        self.skip -= skipped;
        Ok(Some(Received::TooLarge(TooLarge { topic, size, limit })))
    }
}

/// Where the variable header starts, and the number of bytes from there. `None`: incomplete.
fn remaining_length(stream: &[u8]) -> Result<Option<(usize, usize)>, Error> {
    let mut length = 0;
    for (index, byte) in stream.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((index + 2, length)));
        }
    }
    if stream.len() > 4 { Err(Error::MalformedRemainingLength) } else { Ok(None) }
}

/// The topic of a PUBLISH packet. `None`: incomplete.
fn topic(variable_header: &[u8], length: usize) -> Result<Option<String>, Error> {
    let [high, low, rest @ ..] = variable_header else { return Ok(None) };
    let size = usize::from(u16::from_be_bytes([*high, *low]));
    if size + 2 > length {
        return Err(Error::BoundaryCrossed(size));
    }
    Ok(rest.get(..size).map(|topic| String::from_utf8_lossy(topic).into_owned()))
}

impl Decoder for PacketCodec {
    type Item = Received;
    type Error = Error;

    fn decode(&mut self, stream: &mut BytesMut) -> Result<Option<Received>, Error> {
        self.progress += u64::from(stream.len() > self.buffered);
        let result = self.next(stream);
        self.buffered = stream.len();
        result
    }
}

/// Adds a message of QoS 0 to a batch. The packets of the library own their texts, so each would be copied.
pub fn encode(message: &Message, batch: &mut Vec<u8>) {
    let Message { topic, payload, retain, .. } = message;
    batch.push(PUBLISH << 4 | u8::from(*retain));
    let mut length = 2 + topic.len() + payload.len();
    while length > 0x7f {
        batch.push(length as u8 | 0x80);
        length >>= 7;
    }
    batch.push(length as u8);
    // `is_sendable` has checked both lengths.
    batch.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    batch.extend_from_slice(topic.as_bytes());
    batch.extend_from_slice(payload.as_bytes());
}

impl Encoder<Packet> for PacketCodec {
    type Error = Error;

    fn encode(&mut self, packet: Packet, stream: &mut BytesMut) -> Result<(), Error> {
        self.inner.encode(packet, stream)
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::{Publish, QoS};

    use super::*;
    use crate::sink::mqtt::test_data;
    use crate::sink::mqtt::topics::Topics;

    #[test]
    fn batch_has_the_bytes_of_the_library() {
        for size in [0, 1, 120, 121, 20_000] {
            let message = Message::value("bms/rack/soc", "x".repeat(size));
            let (mut batch, mut expected) = (Vec::new(), BytesMut::new());
            let publish = Publish::new(&message.topic, QoS::AtMostOnce, message.payload.clone());
            let publish = Packet::Publish(Publish { retain: true, ..publish });
            codec().encode(publish, &mut expected).unwrap();
            encode(&message, &mut batch);
            assert_eq!(batch, expected, "{size}");
        }
    }

    fn codec() -> PacketCodec {
        let topics = Topics::new("bms/{id}", "homeassistant", &test_data::profile());
        PacketCodec::new(Arc::new(MessageParser::new(&test_data::settings(), vec![topics])))
    }

    fn encoded(topic: &str, size: usize) -> BytesMut {
        let mut stream = BytesMut::new();
        let publish = Publish::new(topic, QoS::AtMostOnce, vec![b'x'; size]);
        Packet::Publish(publish).write(&mut stream, usize::MAX).expect("a valid packet");
        stream
    }

    /// What is received when the bytes arrive in chunks of this size.
    fn received(bytes: &[u8], chunk: usize) -> (Vec<String>, usize) {
        let (mut codec, mut stream, mut largest) = (codec(), BytesMut::new(), 0);
        let mut topics = Vec::new();
        for chunk in bytes.chunks(chunk) {
            stream.extend_from_slice(chunk);
            largest = largest.max(stream.len());
            while let Some(received) = codec.decode(&mut stream).expect("valid packets") {
                topics.push(match received {
                    Received::Packet(Packet::Publish(publish)) => publish.topic,
                    Received::Packet(other) => format!("{other:?}"),
                    Received::TooLarge(skipped) => format!("- {}", skipped.topic),
                });
            }
        }
        assert!(stream.is_empty());
        (topics, largest)
    }

    #[test]
    fn large_messages_are_skipped_and_the_next_ones_read() {
        let mut bytes = BytesMut::new();
        let list = [
            ("homeassistant/status", 2_000_000),
            ("homeassistant/status", 6),
            ("bms/rack/cmd/config", 4097),
            ("bms/rack/cmd/config", 4096),
            ("homeassistant/sensor/rack/soc/config", 262_145),
            ("homeassistant/sensor/rack/soc/config", 262_144),
            ("bms/rack/alarms", 65_537),
            ("bms/rack/energy_charged", 65),
            ("bms/other/anything", 1),
        ];
        for (topic, size) in list {
            bytes.extend_from_slice(&encoded(topic, size));
        }
        bytes.extend_from_slice(&[0xd0, 0]);
        for chunk in [1, 7, 4096, bytes.len()] {
            let (topics, largest) = received(&bytes, chunk);
            assert_eq!(
                topics,
                [
                    "- homeassistant/status",
                    "homeassistant/status",
                    "- bms/rack/cmd/config",
                    "bms/rack/cmd/config",
                    "- homeassistant/sensor/rack/soc/config",
                    "homeassistant/sensor/rack/soc/config",
                    "- bms/rack/alarms",
                    "- bms/rack/energy_charged",
                    "- bms/other/anything",
                    "PingResp",
                ]
            );
            assert!(chunk > 5000 || largest < 300_000, "{largest} bytes are buffered");
        }
    }

    #[test]
    fn endless_length_and_long_topic_are_errors() {
        for bytes in [
            &[0x30, 0xff, 0xff, 0xff, 0xff, 1][..],
            &[0x30, 4, 0, 9, b'x', b'x'],
            &[0x90, 0xff, 0xff, 0x7f],
        ] {
            assert!(codec().decode(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }
}
