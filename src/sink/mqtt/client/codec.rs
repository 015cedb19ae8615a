//! Splits the stream of the broker into packets, and skips messages that are too large.
//!
//! The library ends the connection over such a message. A retained one would arrive again on every
//! connection, so that anyone who may publish could silence this program for good.

use std::sync::Arc;

use rumqttc::mqttbytes::Error;
use rumqttc::{Codec, Packet};
use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::received::{Received, TooLarge};
use super::v5;
use crate::sink::mqtt::Version;
use crate::sink::mqtt::error::MqttError;
use crate::sink::mqtt::inbound::MessageParser;
use crate::sink::mqtt::limits::{MAX_CONTROL_PACKET, MAX_PACKET, MAX_PROPERTIES};
use crate::sink::mqtt::message::Message;

/// Types of packets in the upper half of their first byte.
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const DISCONNECT: u8 = 14;

#[derive(Debug)]
pub struct PacketCodec {
    inner: Codec,
    version: Version,
    parser: Arc<MessageParser>,
    /// Bytes of a skipped message that are still to come.
    skip: usize,
    /// Bytes that remained after the last call.
    buffered: usize,
    /// Counts calls with new bytes: part of a packet also shows that the broker is alive.
    pub progress: u64,
}

impl PacketCodec {
    pub fn new(version: Version, parser: Arc<MessageParser>) -> Self {
        let inner = Codec { max_incoming_size: MAX_PACKET, max_outgoing_size: MAX_PACKET };
        PacketCodec { inner, version, parser, skip: 0, buffered: 0, progress: 0 }
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
            return self.decode_whole(stream);
        }
        let Some((topic, end)) = topic(&stream[start..], length)? else { return Ok(None) };
        // A packet id is counted with the payload.
        let (mut size, limit) = (length - end, self.parser.max_payload(&topic));
        if self.version == Version::V5 {
            let id = if stream[0] & 6 == 0 { 0 } else { 2 };
            let Some(before) = stream.get(start + end + id - 1..) else { return Ok(None) };
            let Some((header, properties)) = remaining_length(before)? else { return Ok(None) };
            let properties = properties + header - 1;
            size = size.checked_sub(properties).ok_or(Error::BoundaryCrossed(properties))?;
            if properties > MAX_PROPERTIES {
                size += properties;
            }
        }
        if size <= limit {
            return self.decode_whole(stream);
        }
        self.skip = start + length;
        let skipped = self.skip.min(stream.len());
        stream.advance(skipped);
        self.skip -= skipped;
        Ok(Some(Received::TooLarge(TooLarge { topic, size, limit })))
    }

    fn decode_whole(&mut self, stream: &mut BytesMut) -> Result<Option<Received>, Error> {
        match (self.version, stream[0] >> 4, stream[1]) {
            (Version::V311, ..) => Ok(self.inner.decode(stream)?.map(Received::Packet)),
            // Of MQTT 3: this broker knows no other version.
            (_, CONNACK, 2) => Ok(Some(Received::Answer(Err(MqttError::VersionRefused)))),
            (_, DISCONNECT, length) => {
                // The library wants the length of the properties, which may be left out.
                let reason = if length == 0 { Some(&0) } else { stream.get(2) };
                Ok(reason.map(|reason| Received::Ended(v5::disconnect_reason(*reason))))
            }
            _ => v5::decode(stream),
        }
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

/// The topic of a PUBLISH packet, and where it ends. `None`: incomplete.
fn topic(variable_header: &[u8], length: usize) -> Result<Option<(String, usize)>, Error> {
    let [high, low, rest @ ..] = variable_header else { return Ok(None) };
    let size = usize::from(u16::from_be_bytes([*high, *low]));
    if size + 2 > length {
        return Err(Error::BoundaryCrossed(size));
    }
    let text = |topic| (String::from_utf8_lossy(topic).into_owned(), size + 2);
    Ok(rest.get(..size).map(text))
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
pub fn encode(message: &Message, version: Version, batch: &mut Vec<u8>) {
    let Message { topic, payload, retain, lifetime_s, .. } = message;
    batch.push(PUBLISH << 4 | u8::from(*retain));
    let mut length = 2 + topic.len() + payload.len();
    if version == Version::V5 {
        length += v5::properties_size(*lifetime_s);
    }
    while length > 0x7f {
        batch.push(length as u8 | 0x80);
        length >>= 7;
    }
    batch.push(length as u8);
    // `is_sendable` has checked both lengths.
    batch.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    batch.extend_from_slice(topic.as_bytes());
    if version == Version::V5 {
        v5::write_properties(*lifetime_s, batch);
    }
    batch.extend_from_slice(payload.as_bytes());
}

impl Encoder<Packet> for PacketCodec {
    type Error = Error;

    fn encode(&mut self, packet: Packet, stream: &mut BytesMut) -> Result<(), Error> {
        match self.version {
            Version::V311 => self.inner.encode(packet, stream),
            Version::V5 => v5::encode(packet, stream),
        }
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
        for (size, version) in [0, 1, 80, 120, 121, 20_000]
            .into_iter()
            .flat_map(|size| [Version::V311, Version::V5].map(|version| (size, version)))
        {
            let message = Message::value("bms/rack/soc", "x".repeat(size));
            let (mut batch, mut expected) = (Vec::new(), BytesMut::new());
            let publish = Publish::new(&message.topic, QoS::AtMostOnce, message.payload.clone());
            let publish = Packet::Publish(Publish { retain: true, ..publish });
            codec(version).encode(publish, &mut expected).unwrap();
            encode(&message, version, &mut batch);
            assert_eq!(batch, expected, "{size}, {version:?}");
        }
    }

    fn codec(version: Version) -> PacketCodec {
        let topics = Topics::new("bms/{id}", "homeassistant", &test_data::profile());
        PacketCodec::new(
            version,
            Arc::new(MessageParser::new(&test_data::settings(), vec![topics])),
        )
    }

    fn encoded(topic: &str, size: usize, version: Version) -> BytesMut {
        let mut stream = BytesMut::new();
        let publish = Packet::Publish(Publish::new(topic, QoS::AtMostOnce, vec![b'x'; size]));
        let mut codec = codec(version);
        codec.inner.max_outgoing_size = usize::MAX;
        codec.encode(publish, &mut stream).expect("a valid packet");
        stream
    }

    /// What is received when the bytes arrive in chunks of this size.
    fn received(bytes: &[u8], chunk: usize, version: Version) -> (Vec<String>, usize) {
        let (mut codec, mut stream, mut largest) = (codec(version), BytesMut::new(), 0);
        let mut topics = Vec::new();
        for chunk in bytes.chunks(chunk) {
            stream.extend_from_slice(chunk);
            largest = largest.max(stream.len());
            while let Some(received) = codec.decode(&mut stream).expect("valid packets") {
                topics.push(match received {
                    Received::Packet(Packet::Publish(publish)) => publish.topic,
                    Received::Packet(other) => format!("{other:?}"),
                    Received::TooLarge(skipped) => format!("- {}", skipped.topic),
                    other => format!("{other:?}"),
                });
            }
        }
        assert!(stream.is_empty());
        (topics, largest)
    }

    #[test]
    fn large_messages_are_skipped_and_the_next_ones_read() {
        [Version::V311, Version::V5].into_iter().for_each(skip_large_messages);
    }

    fn skip_large_messages(version: Version) {
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
            bytes.extend_from_slice(&encoded(topic, size, version));
        }
        bytes.extend_from_slice(&[0xd0, 0]);
        for chunk in [1, 7, 4096, bytes.len()] {
            let (topics, largest) = received(&bytes, chunk, version);
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
            for version in [Version::V311, Version::V5] {
                let result = codec(version).decode(&mut BytesMut::from(bytes));
                assert!(result.is_err(), "{bytes:?}");
            }
        }
    }

    #[test]
    fn properties_of_others_have_a_limit() {
        let mut skipped = Vec::new();
        for size in [1000, 5000] {
            let value = "x".repeat(size);
            let properties =
                [&[38, 0, 1, b'k'][..], &(size as u16).to_be_bytes(), value.as_bytes()];
            let properties = properties.concat();
            let topic = b"homeassistant/status";
            let varint = |length: usize| [length as u8 | 0x80, (length >> 7) as u8];
            let length = varint(properties.len());
            let body = [&[0, 20][..], topic, &length, &properties, b"online"].concat();
            let packet = [&[0x30][..], &varint(body.len()), &body].concat();
            for chunk in [1, packet.len()] {
                let (topics, _) = received(&packet, chunk, Version::V5);
                skipped.extend(topics);
            }
        }
        let (read, left_out) = ("homeassistant/status", "- homeassistant/status");
        assert_eq!(skipped, [read, read, left_out, left_out]);
        // Properties that are longer than the packet.
        let packet = [&[0x30, 25, 0, 20][..], b"homeassistant/status", &[9, 0, 0, 0]].concat();
        assert!(codec(Version::V5).decode(&mut BytesMut::from(&packet[..])).is_err());
    }

    #[test]
    fn answer_of_an_older_broker_refuses_the_version() {
        for code in [0, 1] {
            let mut stream = BytesMut::from(&[0x20, 2, 0, code][..]);
            let received = codec(Version::V5).decode(&mut stream);
            assert!(
                matches!(received, Ok(Some(Received::Answer(Err(MqttError::VersionRefused))))),
                "{received:?}"
            );
        }
    }

    #[test]
    fn reason_of_a_disconnect_is_read_with_and_without_properties() {
        let reason = |bytes: &[u8]| match codec(Version::V5).decode(&mut BytesMut::from(bytes)) {
            Ok(Some(Received::Ended(reason))) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(&[0xe0, 0]), "normal disconnection");
        assert_eq!(reason(&[0xe0, 1, 0x8e]), "session taken over");
        assert_eq!(reason(&[0xe0, 2, 0x93, 0]), "receive maximum exceeded");
        assert_eq!(reason(&[0xe0, 1, 7]), "reason 7");
        let incomplete = codec(Version::V5).decode(&mut BytesMut::from(&[0xe0, 1][..]));
        assert!(matches!(incomplete, Ok(None)), "{incomplete:?}");
    }
}
