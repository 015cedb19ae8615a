//! Frames with and without encryption.

use super::fields::{put_varint, varint};
use super::noise::{Finished, KEY, Key, Side, Started, TAG, finish, start};
use crate::transport::esphome_fault::EsphomeFault;

/// First byte of a frame.
const PLAIN: u8 = 0;
const NOISE: u8 = 1;

/// The limit of ESPHome, in bytes of one payload.
pub const MAX_PAYLOAD: usize = 32_768;
/// Type and length in front of the payload of an encrypted frame.
const INNER_HEADER: usize = 4;
const NOISE_HEADER: usize = 3;
/// How an ESPHome device begins the text of a refusal.
const WRONG_KEY: &str = "Handshake MAC failure";
/// Longer texts of a device are truncated in messages.
const SHOWN: usize = 80;

/// One message of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: u64,
    pub payload: Vec<u8>,
}

/// Splits the received bytes into messages, and builds frames.
#[derive(Debug)]
pub struct Framing {
    received: Vec<u8>,
    state: State,
    /// What the device calls itself before the key is checked.
    pub name: Option<String>,
}

#[derive(Debug)]
enum State {
    /// `answered`: the device has sent a frame.
    Plain {
        answered: bool,
    },
    /// Our part of the handshake is sent. `greeted`: the hello of the device has arrived.
    Handshake {
        side: Side,
        started: Started,
        greeted: bool,
    },
    Encrypted(Box<Finished>),
    /// After an error.
    Failed,
}

impl Framing {
    /// The bytes to send first are written to `out`.
    pub fn new(key: Option<&Key>, out: &mut Vec<u8>) -> Result<Self, EsphomeFault> {
        let state = match key {
            None => State::Plain { answered: false },
            Some(key) => {
                let side = Side::generate().map_err(|_| EsphomeFault::NoRandomness)?;
                let started = start(key, &side.public).map_err(|_| EsphomeFault::WrongKey)?;
                out.extend(noise_frame(&[]));
                out.extend(noise_frame(&[&[0], &side.public[..], &started.tag].concat()));
                State::Handshake { side, started, greeted: false }
            }
        };
        Ok(Framing { received: Vec::new(), state, name: None })
    }

    /// Whether messages can be sent.
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Plain { .. } | State::Encrypted(_))
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The next complete message. Call it until it returns `None`, so that less than one frame is
    /// kept.
    pub fn next_message(&mut self) -> Result<Option<Message>, EsphomeFault> {
        loop {
            let next = match &self.state {
                State::Plain { answered } => return self.plain_message(*answered),
                State::Failed => return Ok(None),
                State::Handshake { .. } | State::Encrypted(_) => self.noise_body()?,
            };
            let Some(mut body) = next else { return Ok(None) };
            if let State::Encrypted(ciphers) = &mut self.state {
                let message = ciphers.from_device.open(&mut body).ok().and_then(inner_message);
                return message.map(Some).ok_or(EsphomeFault::BadFrame);
            }
            self.shake_hands(&body)?;
        }
    }

    fn plain_message(&mut self, answered: bool) -> Result<Option<Message>, EsphomeFault> {
        match self.received.first() {
            None => return Ok(None),
            Some(&PLAIN) => {}
            Some(_) if answered => return Err(EsphomeFault::BadFrame),
            // It cannot decode our frame and says so in its own.
            Some(&NOISE) => return Err(EsphomeFault::KeyRequired),
            Some(_) => return Err(EsphomeFault::NotEsphome),
        }
        let mut at = 1;
        let mut numbers = [0; 2];
        for number in &mut numbers {
            let rest = self.received.get(at..).unwrap_or_default();
            let Some((value, length)) = varint(rest).map_err(|_| EsphomeFault::BadFrame)? else {
                return Ok(None);
            };
            (*number, at) = (value, at + length);
        }
        let [length, kind] = numbers;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(EsphomeFault::BadFrame);
        }
        let Some(payload) = self.received.get(at..at + length) else { return Ok(None) };
        let message = Message { kind, payload: payload.to_vec() };
        self.received.drain(..at + length);
        self.state = State::Plain { answered: true };
        Ok(Some(message))
    }

    fn noise_body(&mut self) -> Result<Option<Vec<u8>>, EsphomeFault> {
        match self.received.first() {
            None => return Ok(None),
            Some(&NOISE) => {}
            Some(&PLAIN) if !self.is_established() => return Err(EsphomeFault::NotEncrypted),
            Some(_) if !self.is_established() => return Err(EsphomeFault::NotEsphome),
            Some(_) => return Err(EsphomeFault::BadFrame),
        }
        let Some(header) = self.received.get(1..NOISE_HEADER) else { return Ok(None) };
        let end = NOISE_HEADER + usize::from(header[0]) * 256 + usize::from(header[1]);
        let Some(body) = self.received.get(NOISE_HEADER..end) else { return Ok(None) };
        let body = body.to_vec();
        self.received.drain(..end);
        Ok(Some(body))
    }

    /// The two messages of the device: its name, and its part of the handshake.
    fn shake_hands(&mut self, body: &[u8]) -> Result<(), EsphomeFault> {
        if let State::Handshake { greeted: greeted @ false, .. } = &mut self.state {
            *greeted = true;
            let Some((1, name)) = body.split_first() else { return Err(rejected(body)) };
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            self.name = Some(shown(name)).filter(|name| !name.is_empty());
            return Ok(());
        }
        let State::Handshake { side, started, .. } =
            std::mem::replace(&mut self.state, State::Failed)
        else {
            return Ok(());
        };
        let Some((0, body)) = body.split_first() else { return Err(rejected(body)) };
        let public = body.first_chunk::<KEY>().filter(|_| body.len() == KEY + TAG);
        let public = public.ok_or(EsphomeFault::BadFrame)?;
        let agreed = side.agree(public).map_err(|_| EsphomeFault::BadFrame)?;
        let finished = finish(&started, public, &agreed).map_err(|_| EsphomeFault::BadFrame)?;
        // The key of the tag is used once, so the time that the comparison takes reveals nothing.
        if body.get(KEY..) != Some(&finished.tag[..]) {
            return Err(EsphomeFault::WrongKey);
        }
        self.state = State::Encrypted(Box::new(finished));
        Ok(())
    }

    /// Appends the frame of a message.
    pub fn write(
        &mut self,
        kind: u64,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EsphomeFault> {
        let State::Encrypted(ciphers) = &mut self.state else {
            out.push(PLAIN);
            put_varint(out, payload.len() as u64);
            put_varint(out, kind);
            out.extend_from_slice(payload);
            return Ok(());
        };
        let mut body = Vec::with_capacity(INNER_HEADER + payload.len() + TAG);
        body.extend((kind as u16).to_be_bytes());
        body.extend((payload.len() as u16).to_be_bytes());
        body.extend_from_slice(payload);
        ciphers.from_client.seal(&mut body).map_err(|_| EsphomeFault::BadFrame)?;
        out.extend(noise_frame(&body));
        Ok(())
    }
}

fn noise_frame(body: &[u8]) -> Vec<u8> {
    let mut frame = vec![NOISE];
    frame.extend((body.len() as u16).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// The length inside may be smaller than the rest of the body, which is padding.
fn inner_message(body: &[u8]) -> Option<Message> {
    let (header, rest) = body.split_first_chunk::<INNER_HEADER>()?;
    let [kind, length] = [[header[0], header[1]], [header[2], header[3]]].map(u16::from_be_bytes);
    let payload = rest.get(..length.into())?.to_vec();
    Some(Message { kind: kind.into(), payload })
}

/// A handshake that the device refuses with a text.
fn rejected(body: &[u8]) -> EsphomeFault {
    let text = shown(body.get(1..).unwrap_or_default());
    if text.starts_with(WRONG_KEY) { EsphomeFault::WrongKey } else { EsphomeFault::Rejected(text) }
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{hex, vectors};
    use super::*;

    fn plain() -> Framing {
        Framing::new(None, &mut Vec::new()).unwrap()
    }

    fn encrypted() -> Framing {
        Framing::new(Some(&Key([7; KEY])), &mut Vec::new()).unwrap()
    }

    fn all(
        framing: &mut Framing,
        bytes: &[u8],
        piece: usize,
    ) -> Result<Vec<Message>, EsphomeFault> {
        let mut messages = Vec::new();
        for piece in bytes.chunks(piece.max(1)) {
            framing.push(piece);
            while let Some(message) = framing.next_message()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn recorded_plaintext_frames_are_read_and_written_in_any_pieces() {
        let recorded = vectors()["messages"].as_array().unwrap().clone();
        let mut stream = Vec::new();
        for message in &recorded {
            let mut frame = Vec::new();
            let kind = message["type"].as_u64().unwrap();
            plain().write(kind, &hex(&message["payload"]), &mut frame).unwrap();
            assert_eq!(frame, hex(&message["plaintext_frame"]), "{}", message["what"]);
            stream.extend(frame);
        }
        for piece in [1, 2, 7, stream.len()] {
            let read = all(&mut plain(), &stream, piece).unwrap();
            assert_eq!(read.len(), recorded.len());
            for (read, message) in read.iter().zip(&recorded) {
                assert_eq!(read.payload, hex(&message["payload"]));
            }
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let refusals = &vectors()["noise"]["refusals"];
        let hello = hex(&vectors()["noise"]["steps"][1]["frame"]);
        for piece in [1, 100] {
            let wrong_key = [&hello[..], &hex(&refusals[0]["frame"])].concat();
            let mut framing = encrypted();
            assert_eq!(all(&mut framing, &wrong_key, piece), Err(EsphomeFault::WrongKey));
            assert_eq!(framing.name.as_deref(), Some("garage"));
            let bad_indicator = hex(&refusals[1]["frame"]);
            assert_eq!(all(&mut plain(), &bad_indicator, piece), Err(EsphomeFault::KeyRequired));
            let plaintext = hex(&refusals[2]["bytes"]);
            assert_eq!(all(&mut encrypted(), &plaintext, piece), Err(EsphomeFault::NotEncrypted));
        }
        for framing in [&mut plain(), &mut encrypted()] {
            assert_eq!(all(framing, b"HTTP/1.1 400", 100), Err(EsphomeFault::NotEsphome));
        }
        let text = EsphomeFault::Rejected("Bad handshake".to_owned());
        assert_eq!(all(&mut encrypted(), b"\x01\0\x0E\x01Bad handshake", 100), Ok(Vec::new()));
        let refused = [&hello[..], b"\x01\0\x0E\x01Bad handshake"].concat();
        assert_eq!(all(&mut encrypted(), &refused, 100), Err(text));
    }

    #[test]
    fn handshake_with_another_key_fails() {
        let steps = &vectors()["noise"]["steps"];
        // The recorded reply belongs to another key pair, as that of a device with another key.
        let replies = [hex(&steps[1]["frame"]), hex(&steps[3]["frame"])].concat();
        assert_eq!(all(&mut encrypted(), &replies, 5), Err(EsphomeFault::WrongKey));
    }

    #[test]
    fn oversized_frame_is_rejected_before_it_arrives() {
        let mut frame = vec![0];
        put_varint(&mut frame, MAX_PAYLOAD as u64 + 1);
        put_varint(&mut frame, 7);
        assert_eq!(all(&mut plain(), &frame, 100), Err(EsphomeFault::BadFrame));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_bounded(bytes: Vec<u8>, piece in 1..50_usize, key: bool) {
            let mut framing = if key { encrypted() } else { plain() };
            let read = all(&mut framing, &bytes, piece);
            let length: usize = read.iter().flatten().map(|message| message.payload.len()).sum();
            prop_assert!(length <= bytes.len());
            prop_assert!(framing.received.len() <= bytes.len());
        }
    }
}
