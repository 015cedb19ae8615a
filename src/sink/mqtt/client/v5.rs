//! MQTT 5. Inside of the program packets are those of 3.1.1; this module translates both ways, and adds
//! what only MQTT 5 has.

use std::fmt::Debug;

use rumqttc::mqttbytes::Error;
use rumqttc::v5::mqttbytes::v5::{
    Codec, ConnAck, Connect, ConnectReturnCode as Code, Disconnect, DisconnectReasonCode, Filter,
    LastWill, Login, Packet, PingReq, PubAck, PubAckReason, Publish, PublishProperties, Subscribe,
    SubscribeReasonCode, Unsubscribe,
};
use rumqttc::v5::mqttbytes::{Error as Error5, QoS};
use rumqttc::{Packet as Packet4, QoS as QoS4};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use super::received::{Agreed, Received};
use crate::sink::mqtt::Version;
use crate::sink::mqtt::discovery::ORIGIN;
use crate::sink::mqtt::error::MqttError;
use crate::sink::mqtt::limits::{MAX_INFLIGHT, MAX_PACKET};

/// User properties of every message: which program published it, and the version of its topics and payloads.
const USER_PROPERTIES: [(&str, &str); 2] = [("origin", ORIGIN), ("schema", "1")];
const EXPIRY: u8 = 2;
const USER_PROPERTY: u8 = 38;

/// `None`: incomplete.
pub fn decode(stream: &mut BytesMut) -> Result<Option<Received>, Error> {
    // The callers have checked the size.
    let mut codec = Codec { max_incoming_size: None, max_outgoing_size: None };
    Ok(codec.decode(stream).map_err(malformed)?.map(received))
}

pub fn encode(packet: Packet4, stream: &mut BytesMut) -> Result<(), Error> {
    let mut codec = Codec { max_incoming_size: None, max_outgoing_size: None };
    codec.encode(translated(packet)?, stream).map_err(malformed)
}

fn malformed(error: Error5) -> Error {
    match error {
        Error5::Io(error) => Error::Io(error),
        other => {
            tracing::debug!("MQTT: {other}");
            Error::MalformedPacket
        }
    }
}

fn received(packet: Packet) -> Received {
    Received::Packet(match packet {
        Packet::ConnAck(answer) => return Received::Answer(answered(&answer)),
        Packet::PubAck(PubAck { pkid, reason, .. }) => match reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {
                Packet4::PubAck(rumqttc::PubAck { pkid })
            }
            refused => return Received::Reasons(pkid, vec![Some(words(&refused))]),
        },
        Packet::SubAck(ack) => {
            let codes = ack.return_codes.into_iter();
            let refusal = |code| match code {
                SubscribeReasonCode::Success(_) => None,
                refused => Some(words(&refused)),
            };
            return Received::Reasons(ack.pkid, codes.map(refusal).collect());
        }
        Packet::UnsubAck(ack) => Packet4::UnsubAck(rumqttc::UnsubAck { pkid: ack.pkid }),
        Packet::Publish(Publish { qos, retain, topic, pkid, payload, .. }) => {
            let qos = if qos == QoS::AtMostOnce { QoS4::AtMostOnce } else { QoS4::AtLeastOnce };
            let topic = String::from_utf8_lossy(&topic).into_owned();
            let publish = rumqttc::Publish::new(topic, qos, payload);
            Packet4::Publish(rumqttc::Publish { pkid, retain, ..publish })
        }
        Packet::PingResp(_) => Packet4::PingResp,
        // The program requests nothing that is answered with any other packet.
        _ => Packet4::PingReq,
    })
}

fn answered(answer: &ConnAck) -> Result<Agreed, MqttError> {
    match answer.code {
        Code::Success => {}
        Code::BadUserNamePassword => {
            return Err(MqttError::LoginRefused("wrong user or password"));
        }
        Code::NotAuthorized => return Err(MqttError::LoginRefused("not authorised")),
        Code::UnsupportedProtocolVersion => return Err(MqttError::VersionRefused),
        other => return Err(MqttError::Refused(words(&other).into())),
    }
    let mut agreed = Agreed { version: Version::V5, ..Agreed::default() };
    if let Some(limits) = &answer.properties {
        // A message that exceeds them would end the connection.
        if limits.retain_available == Some(0) || limits.max_qos == Some(0) {
            return Err(MqttError::VersionRefused);
        }
        let max_packet = limits.max_packet_size.map_or(MAX_PACKET, |size| size as usize);
        agreed.max_packet = max_packet.min(MAX_PACKET);
        agreed.max_inflight =
            limits.receive_max.map_or(MAX_INFLIGHT, usize::from).clamp(1, MAX_INFLIGHT);
        agreed.keep_alive = limits.server_keep_alive.filter(|seconds| *seconds > 0);
    }
    Ok(agreed)
}

pub fn disconnect_reason(code: u8) -> String {
    DisconnectReasonCode::try_from(code)
        .map_or_else(|_| format!("reason {code}"), |code| words(&code))
}

/// `NotAuthorized` as "not authorized".
fn words(code: &dyn Debug) -> String {
    let mut words = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

fn translated(packet: Packet4) -> Result<Packet, Error> {
    Ok(match packet {
        Packet4::Connect(connect) => {
            let will = connect.last_will.map(|will| {
                LastWill::new(will.topic, will.message, QoS::AtLeastOnce, will.retain, None)
            });
            let login = connect
                .login
                .map(|login| Login { username: login.username, password: login.password });
            let (keep_alive, client_id) = (connect.keep_alive, connect.client_id);
            // Without an expiry the session ends with the connection.
            let connect = Connect { keep_alive, client_id, clean_start: true, properties: None };
            Packet::Connect(connect, will, login)
        }
        Packet4::Publish(rumqttc::Publish { topic, payload, pkid, retain, qos, .. }) => {
            let qos = if qos == QoS4::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            let user_properties =
                USER_PROPERTIES.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
            let properties = PublishProperties { user_properties, ..PublishProperties::default() };
            let publish = Publish::new(topic, qos, payload, Some(properties));
            Packet::Publish(Publish { pkid, retain, ..publish })
        }
        Packet4::PubAck(ack) => Packet::PubAck(PubAck::new(ack.pkid, None)),
        Packet4::Subscribe(subscribe) => {
            let filters = subscribe.filters.into_iter();
            let filters = filters.map(|filter| Filter::new(filter.path, QoS::AtMostOnce));
            let filters = filters.collect();
            Packet::Subscribe(Subscribe { pkid: subscribe.pkid, filters, properties: None })
        }
        Packet4::Unsubscribe(rumqttc::Unsubscribe { pkid, topics }) => {
            Packet::Unsubscribe(Unsubscribe { pkid, filters: topics, properties: None })
        }
        Packet4::PingReq => Packet::PingReq(PingReq),
        Packet4::Disconnect => {
            Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection))
        }
        _ => return Err(Error::MalformedPacket),
    })
}

/// The properties of a message of QoS 0, with their length. `lifetime_s`: 0 for a message that never expires.
pub fn write_properties(lifetime_s: u32, packet: &mut Vec<u8>) {
    packet.push(properties_size(lifetime_s) as u8 - 1);
    if lifetime_s > 0 {
        packet.push(EXPIRY);
        packet.extend_from_slice(&lifetime_s.to_be_bytes());
    }
    for (name, value) in USER_PROPERTIES {
        packet.push(USER_PROPERTY);
        for text in [name, value] {
            packet.extend_from_slice(&(text.len() as u16).to_be_bytes());
            packet.extend_from_slice(text.as_bytes());
        }
    }
}

/// The size of what [`write_properties`] adds: less than 128 bytes.
pub fn properties_size(lifetime_s: u32) -> usize {
    let texts = USER_PROPERTIES.map(|(name, value)| 5 + name.len() + value.len());
    1 + if lifetime_s > 0 { 5 } else { 0 } + texts.iter().sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_codes_are_words() {
        assert_eq!(words(&PubAckReason::NotAuthorized), "not authorized");
        assert_eq!(words(&DisconnectReasonCode::SessionTakenOver), "session taken over");
    }

    #[test]
    fn answer_of_the_broker_limits_the_connection() {
        // 20 messages at once, packets of 1000 bytes, a keep-alive of 30 s.
        let bytes = [0x20, 14, 0, 0, 11, 0x21, 0, 20, 0x27, 0, 0, 3, 232, 0x13, 0, 30];
        let Ok(Some(Received::Answer(Ok(agreed)))) = decode(&mut BytesMut::from(&bytes[..])) else {
            panic!("not accepted");
        };
        let expected = Agreed {
            version: Version::V5,
            max_packet: 1000,
            max_inflight: 20,
            keep_alive: Some(30),
        };
        assert_eq!(agreed, expected);
    }

    #[test]
    fn refusals_are_told_apart() {
        let refusal = |code: u8| match decode(&mut BytesMut::from(&[0x20, 3, 0, code, 0][..])) {
            Ok(Some(Received::Answer(Err(error)))) => error,
            other => panic!("{other:?}"),
        };
        assert!(matches!(refusal(0x84), MqttError::VersionRefused));
        assert!(refusal(0x86).is_login_refused() && refusal(0x87).is_login_refused());
        assert!(refusal(0x89).to_string().contains("server busy"));
    }
}
