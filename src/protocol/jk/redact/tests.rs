use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::protocol::jk::record::{RECORD, RECORD_HEADER, checksum};
use crate::protocol::jk::ttl::{HEAD, HEADER, TAIL};

const MODEL: &[u8; 16] = b"JK_B2A20S20P\0\0\0\0";
const VERSIONS: &[u8; 16] = b"11.XW\0\0\x0011.288H\0";

/// Record 03 with these passcodes.
fn device(passcode: &[u8; 16], dealer: &[u8; 5], settings: &[u8; 16]) -> Vec<u8> {
    let mut bytes = [&RECORD_HEADER[..], &[3, 9], MODEL, VERSIONS, &[7; 8], MODEL].concat();
    bytes.extend(passcode);
    bytes.extend(b"240123\0\x003081642035\0");
    bytes.extend(dealer);
    bytes.extend(b"Input Userdata\0\0");
    bytes.extend(settings);
    bytes.resize(RECORD - 1, 0);
    bytes.push(checksum(&bytes));
    bytes
}

fn record(kind: u8) -> Vec<u8> {
    let mut bytes = [&RECORD_HEADER[..], &[kind, 9], &[0xE4, 0x0C].repeat(146), &[1]].concat();
    bytes.push(checksum(&bytes));
    bytes
}

/// A reply with these tags.
fn answer(data: &[u8]) -> Vec<u8> {
    let mut frame = HEADER.to_vec();
    let length = u16::try_from(HEAD + data.len() + TAIL - HEADER.len()).unwrap();
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0, 0, 6, 0, 1]);
    frame.extend(data);
    frame.extend([0, 0, 0, 0, 0x68]);
    let sum: u32 = frame.iter().map(|&byte| u32::from(byte)).sum();
    frame.extend([0, 0]);
    frame.extend(u16::try_from(sum & 0xFFFF).unwrap().to_be_bytes());
    frame
}

fn tags(password: &[u8; 10]) -> Vec<u8> {
    let cells = [0x79, 3, 1, 0xB2, 0xB2, 0x80, 0, 0xB2, 0x83, 0xB2, 0x79, 0x85, 0xB2];
    let (before, behind) = ([0xB0, 0, 10, 0xB1, 20], b"\xB3\0\xB4Input Us\xB52101\xC0\x01");
    [&cells[..], &before, &[0xB2], password, behind].concat()
}

/// What a capture contains of bytes that arrive in pieces.
fn captured(bytes: &[u8], piece: usize, redact: fn(&mut [u8])) -> Vec<u8> {
    let mut shown = Vec::new();
    for start in (0..bytes.len()).step_by(piece) {
        let mut seen = bytes[..bytes.len().min(start + piece)].to_vec();
        redact(&mut seen);
        shown.extend(&seen[start..]);
    }
    shown
}

#[test]
fn passcodes_are_removed_and_checksum_adjusted() {
    let secret = device(b"Secret-Passcode!", b"Deal!", b"Settings12345678");
    let expected = device(&[0; 16], &[0; 5], &[0; 16]);
    for piece in [1, 7, 20, 128, 300] {
        for redact in [redact, redact_stream] {
            let shown = captured(&[&secret[..], &record(2)].concat(), piece, redact);
            let (shown, cells) = shown.split_at(RECORD);
            assert_eq!(cells, record(2));
            assert_eq!(checksum(&shown[..299]), shown[299]);
            // Model, versions and serial number.
            assert_eq!((&shown[..46], &shown[86..97]), (&expected[..46], &expected[86..97]));
            assert!(shown[46..86].iter().chain(&shown[97..150]).all(|byte| *byte == 0));
            let mut damaged = secret.clone();
            damaged[200] ^= 1;
            let damaged = captured(&damaged, piece, redact);
            assert_ne!(checksum(&damaged[..299]), damaged[299]);
        }
    }
}

/// The driver removes passcodes, and then the capture does so for every type.
#[test]
fn second_redaction_changes_nothing() {
    let secret = device(b"Secret-Passcode!", b"Deal!", b"Settings12345678");
    let once = captured(&secret, 300, redact_stream);
    assert_eq!(captured(&once, 300, redact), once);
}

#[test]
fn password_is_removed_and_sum_adjusted() {
    // Sums that lose their high byte and such that do not.
    for password in [*b"1234567890", [0xFF; 10], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0; 10]] {
        let reply = [&b"\x4E\x4E"[..], &answer(&tags(&password)), b"\0\x57"].concat();
        let expected = [&b"\x4E\x4E"[..], &answer(&tags(&[0; 10])), b"\0\x57"].concat();
        for piece in [1, 3, 10, 64] {
            let bytes = captured(&[&reply[..], &reply].concat(), piece, redact);
            assert_eq!(bytes, [&expected[..], &expected].concat(), "{password:?}, {piece}");
        }
    }
}

#[test]
fn everything_from_an_unknown_tag_on_is_removed() {
    let mut bytes = answer(&[0x85, 50, 0x77, 0xB2, b'1', b'2']);
    redact(&mut bytes);
    assert_eq!(bytes, answer(&[0x85, 50, 0, 0, 0, 0]));
}

#[test]
fn surrounding_bytes_have_no_effect() {
    let secret = device(b"Secret-Passcode!", b"Deal!", b"Settings12345678");
    let half = [&b"\x55\xAA\x55"[..], &record(2)[..200], &record(1)].concat();
    assert_eq!(captured(&half, 64, redact_stream), half);
    let stream = [half.clone(), NOISE.to_vec(), secret.clone(), secret.clone()].concat();
    let device = captured(&secret, 300, redact);
    let expected = [half, NOISE.to_vec(), device.clone(), device].concat();
    assert_eq!(captured(&stream, 150, redact), expected);
}

#[test]
fn noise_within_a_record_is_kept() {
    let secret = device(b"Secret-Passcode!", b"Deal!", b"Settings12345678");
    let noisy = [&secret[..70], NOISE, &secret[70..]].concat();
    let mut left = captured(&noisy, 304, redact);
    assert_eq!(left.drain(70..74).collect::<Vec<_>>(), NOISE);
    assert_eq!(left, captured(&secret, 300, redact));
}

/// Every frame with one byte lost, damaged or received twice.
fn variations(frame: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..frame.len()).flat_map(move |at| {
        let (head, tail) = frame.split_at(at);
        let damaged = move |with: u8| [head, &[tail[0] ^ with], &tail[1..]].concat();
        [
            damaged(1),
            damaged(8),
            damaged(0xFF),
            [head, &tail[1..]].concat(),
            [head, &tail[..1], tail].concat(),
        ]
    })
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A passcode whose place in the frame was damaged is another one.
fn assert_no_secret(frame: &[u8], secrets: &[&[u8]]) {
    for bytes in variations(frame) {
        for piece in [100, bytes.len()] {
            let shown = captured(&bytes, piece, redact);
            for secret in secrets {
                assert!(!contains(&shown, secret), "{}", shown.escape_ascii());
            }
        }
    }
}

#[test]
fn no_single_fault_reveals_a_passcode_of_a_record() {
    for (passcode, settings) in [
        (b"Secret-Passcode!", b"Settings12345678"),
        (b"qwer\0\0\0\0\0\0\0\0\0\0\0\0", b"zx.vb\0\0\0\0\0\0\0\0\0\0\0"),
    ] {
        let frame = device(passcode, b"Deal!", settings);
        assert_no_secret(&frame, &[&passcode[..4], &passcode[2..4], b"eal!", &settings[1..5]]);
        assert_no_secret(
            &[&record(2)[..], &frame].concat(),
            &[&passcode[..4], b"eal!", &settings[..5]],
        );
    }
}

#[test]
fn no_single_fault_reveals_the_password_of_a_reply() {
    for password in [b"qwertyuiop", b"zx.v\0\0\0\0\0\0"] {
        let frame = answer(&tags(password));
        assert_no_secret(&frame, &[&password[..3], &password[1..4]]);
        assert_no_secret(&[&frame[..], &frame].concat(), &[&password[..3]]);
    }
}

#[test]
fn record_without_its_beginning_reveals_no_passcode() {
    let device = device(b"Secret-Passcode!", b"Deal!", b"Settings12345678");
    let secrets = [&b"Secret"[..], b"Passcode", b"eal!", b"Settings"];
    // In the middle of a stream, and as the first of it, while the model or the name is left.
    let stream = [&record(2)[..], &[0xAA, 0x55]].concat();
    for (before, lost) in [(&stream[..], 1..140), (&[], 1..46)] {
        for lost in lost {
            for piece in [20, 128, 600] {
                let shown = captured(&[before, &device[lost..]].concat(), piece, redact);
                assert!(
                    secrets.iter().all(|it| !contains(&shown, it)),
                    "{lost}: {}",
                    shown.escape_ascii()
                );
            }
        }
    }
    for lost in 1..140 {
        let shown = captured(&device[lost..], 20, redact_stream);
        assert!(secrets.iter().all(|it| !contains(&shown, it)), "{lost}: {}", shown.escape_ascii());
    }
}

#[test]
fn frames_of_other_brands_are_kept() {
    let mut kept = 0;
    for path in std::fs::read_dir("tests/vectors").unwrap().map(|entry| entry.unwrap().path()) {
        let is_other = path.extension().is_some_and(|it| it == "json")
            && !path.file_name().unwrap().to_string_lossy().starts_with("jk");
        if is_other {
            let file = serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap();
            for frame in frames(&file) {
                assert_eq!(captured(&frame, 20, redact), frame, "{path:?}");
                kept += 1;
            }
        }
    }
    assert!(kept > 200, "{kept}");
}

/// All texts of hex digits.
fn frames(value: &Value) -> BTreeSet<Vec<u8>> {
    match value {
        Value::String(text) => from_hex(text).into_iter().collect(),
        Value::Array(list) => list.iter().flat_map(frames).collect(),
        Value::Object(map) => map.values().flat_map(frames).collect(),
        _ => BTreeSet::new(),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}
