//! The handshake `Noise_NNpsk0_25519_ChaChaPoly_SHA256` and the ciphers that it results in.
//!
//! The key schedule is a pure function of what both sides know, so recorded handshakes test it and
//! a device for tests can be built from it.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::SystemRandom;
use ring::{digest, error::Unspecified};

/// Longer than a hash, so it is hashed.
const SUITE: &[u8] = b"Noise_NNpsk0_25519_ChaChaPoly_SHA256";
/// `NoiseAPIInit` and the length of our hello, which is empty.
const PROLOGUE: &[u8] = b"NoiseAPIInit\0\0";

pub const KEY: usize = 32;
pub const TAG: usize = 16;

type Hash = [u8; 32];

/// The pre-shared key of a device. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub [u8; KEY]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What both sides know after the first message of the handshake.
#[derive(Clone)]
pub struct Started {
    chaining_key: Hash,
    hash: Hash,
    /// Follows the public key of the client.
    pub tag: [u8; TAG],
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Started")
    }
}

/// What both sides know after the second message.
#[derive(Debug)]
pub struct Finished {
    /// Follows the public key of the device.
    pub tag: [u8; TAG],
    pub from_client: Cipher,
    pub from_device: Cipher,
}

/// After the first message, with the public key of the client.
pub fn start(key: &Key, client: &[u8; KEY]) -> Result<Started, Unspecified> {
    let suite = sha256(&[SUITE]);
    let hash = sha256(&[&suite, PROLOGUE]);
    let [chaining_key, mixed, _] = expand(&suite, &key.0)?;
    let hash = sha256(&[&sha256(&[&hash, &mixed]), client]);
    let [chaining_key, cipher_key, _] = expand(&chaining_key, client)?;
    let tag = tag(&cipher_key, &hash)?;
    Ok(Started { chaining_key, hash: sha256(&[&hash, &tag]), tag })
}

/// After the second message, with the public key of the device and the agreed secret.
pub fn finish(
    started: &Started,
    device: &[u8; KEY],
    agreed: &[u8],
) -> Result<Finished, Unspecified> {
    let hash = sha256(&[&started.hash, device]);
    let [chaining_key, ..] = expand(&started.chaining_key, device)?;
    let [chaining_key, cipher_key, _] = expand(&chaining_key, agreed)?;
    let tag = tag(&cipher_key, &hash)?;
    let [from_client, from_device, _] = expand(&chaining_key, &[])?;
    let [from_client, from_device] = [Cipher::new(&from_client)?, Cipher::new(&from_device)?];
    Ok(Finished { tag, from_client, from_device })
}

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Of the HKDF of Noise, which produces two or three hashes.
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        3 * 32
    }
}

/// Three hashes; the first two are also what the HKDF with two outputs produces.
fn expand(chaining_key: &Hash, input: &[u8]) -> Result<[Hash; 3], Unspecified> {
    let mut bytes = [0; 3 * 32];
    let extracted = Salt::new(HKDF_SHA256, chaining_key).extract(input);
    extracted.expand(&[&[]], Length)?.fill(&mut bytes)?;
    let mut hashes = [Hash::default(); 3];
    for (hash, bytes) in hashes.iter_mut().zip(bytes.chunks(32)) {
        hash.copy_from_slice(bytes);
    }
    Ok(hashes)
}

/// Of an empty text.
fn tag(key: &Hash, hash: &Hash) -> Result<[u8; TAG], Unspecified> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key)?);
    let sealed = key.seal_in_place_separate_tag(nonce(0), Aad::from(hash), &mut [])?;
    let mut tag = [0; TAG];
    tag.copy_from_slice(sealed.as_ref());
    Ok(tag)
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// One direction of an encrypted connection.
pub struct Cipher {
    key: LessSafeKey,
    messages: u64,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    fn new(key: &Hash) -> Result<Self, Unspecified> {
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key)?);
        Ok(Cipher { key, messages: 0 })
    }

    fn next_nonce(&mut self) -> Nonce {
        let nonce = nonce(self.messages);
        self.messages += 1;
        nonce
    }

    /// Encrypts a message and appends its tag.
    pub fn seal(&mut self, message: &mut Vec<u8>) -> Result<(), Unspecified> {
        let nonce = self.next_nonce();
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), message)
    }

    /// Decrypts a message in place.
    pub fn open<'a>(&mut self, message: &'a mut [u8]) -> Result<&'a [u8], Unspecified> {
        let nonce = self.next_nonce();
        Ok(self.key.open_in_place(nonce, Aad::empty(), message)?)
    }
}

/// One side of a handshake, with a key pair of its own.
pub struct Side {
    private: EphemeralPrivateKey,
    pub public: [u8; KEY],
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Side")
    }
}

impl Side {
    pub fn generate() -> Result<Self, Unspecified> {
        let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())?;
        let mut public = [0; KEY];
        public.copy_from_slice(private.compute_public_key()?.as_ref());
        Ok(Side { private, public })
    }

    /// The secret that this side agrees on with the other one.
    pub fn agree(self, other: &[u8; KEY]) -> Result<[u8; KEY], Unspecified> {
        let other = UnparsedPublicKey::new(&X25519, other);
        let agreed = agree_ephemeral(self.private, &other, |secret| secret.try_into().ok());
        agreed?.ok_or(Unspecified)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hex, vectors};
    use super::*;

    fn array(value: &serde_json::Value) -> [u8; KEY] {
        hex(value).try_into().unwrap()
    }

    fn frame(step: &serde_json::Value) -> Vec<u8> {
        hex(&step["frame"]).split_off(3)
    }

    #[test]
    fn recorded_handshake_is_reproduced() {
        let noise = &vectors()["noise"];
        let key = Key(std::array::from_fn(|index| index as u8));
        let [client, device, agreed] = ["client_ephemeral_public", "server_ephemeral_public", "dh"]
            .map(|at| array(&noise[at]));
        let started = start(&key, &client).unwrap();
        assert_eq!(frame(&noise["steps"][2]), [&[0], &client[..], &started.tag].concat());
        let mut finished = finish(&started, &device, &agreed).unwrap();
        assert_eq!(frame(&noise["steps"][3]), [&[0], &device[..], &finished.tag].concat());
        for step in noise["steps"].as_array().unwrap().iter().skip(4) {
            let is_client = step["from"] == "client";
            let cipher =
                if is_client { &mut finished.from_client } else { &mut finished.from_device };
            let mut message = hex(&step["clear"]);
            cipher.seal(&mut message).unwrap();
            assert_eq!(message, frame(step));
        }
    }

    #[test]
    fn both_sides_agree_and_a_flipped_bit_is_noticed() {
        let [client, device] = [Side::generate().unwrap(), Side::generate().unwrap()];
        let [client_public, device_public] = [client.public, device.public];
        let [one, other] = [client.agree(&device_public), device.agree(&client_public)];
        assert_eq!(one, other);
        let key = Key([7; KEY]);
        let started = start(&key, &client_public).unwrap();
        let agreed = one.unwrap();
        let mut sender = finish(&started, &device_public, &agreed).unwrap().from_client;
        let mut receiver = finish(&started, &device_public, &agreed).unwrap().from_client;
        let mut message = b"request".to_vec();
        sender.seal(&mut message).unwrap();
        message[3] ^= 1;
        assert!(receiver.open(&mut message).is_err());
        assert_eq!(format!("{key:?}{sender:?}"), "***Cipher");
    }
}
