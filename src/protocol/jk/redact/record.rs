//! Record 03, and what may be a part of it.

use super::reply;
use crate::protocol::jk::record::{COMMAND, COMMAND_HEADER, RECORD, RECORD_HEADER};

/// Positions that are removed. They contain the name, the passcode and the date of manufacture, and
/// the passcode of the dealer, the text of the user and the passcode of the settings. None of them is
/// read. The passcodes are 16 bytes away from the ends, so up to 16 bytes may be missing or doubled.
const REMOVED: [std::ops::Range<usize>; 2] = [46..86, 97..150];
/// The serial number is read. Behind lost bytes a passcode may be in its place.
const SERIAL: std::ops::Range<usize> = 86..97;
/// The fifth byte of a record is its kind.
const DEVICE: u8 = 3;
/// Length of a model and of a name. The passcode is behind the name.
const NAME: usize = 16;
/// The length of the shortest passcode that boards accept.
const MIN_TEXT: usize = 4;

/// The beginning of a record.
struct Start {
    /// The place of its first byte, which may have been lost.
    at: usize,
    is_exact: bool,
}

pub(super) fn redact(seen: &[u8], shown: &mut [u8], is_stream: bool) {
    // Up to here text is removed, and up to there the current frame is known.
    let mut text_end = if is_stream { seen.len() } else { 0 };
    let (mut known_end, mut text_start) = (0, 0);
    for at in 0..seen.len() {
        let rest = &seen[at..];
        if rest.starts_with(&COMMAND_HEADER) {
            remove_text(seen, shown, text_start..at.min(text_end), is_stream);
            (known_end, text_start) = (at + COMMAND, at + COMMAND);
        } else if let Some(start) = start(seen, at).filter(|it| it.is_exact || at >= known_end) {
            remove_text(seen, shown, text_start..at.min(text_end), is_stream);
            let end = next_header(seen, at + RECORD_HEADER.len(), start.at + RECORD);
            if is_device(seen, &start) {
                remove_passcodes(seen, shown, &start, end);
            }
            (known_end, text_start) = (end, end);
            text_end = text_end.max(end + RECORD);
        } else if at >= known_end && is_model(rest) && at >= text_end {
            // A record without its header: this is the model, or the name, which is equal at first.
            (text_start, text_end) = (at + NAME, at + RECORD);
        }
    }
    remove_text(seen, shown, text_start..seen.len().min(text_end), is_stream);
}

/// Also finds the header of a record of which one byte was lost, damaged or received twice.
fn start(seen: &[u8], at: usize) -> Option<Start> {
    let rest = &seen[at..];
    if rest.starts_with(&RECORD_HEADER) {
        return Some(Start { at, is_exact: true });
    }
    let [a, b, c, d] = RECORD_HEADER;
    let first = match *rest.first_chunk::<4>()? {
        [x, y, z, _] if [[b, c, d], [a, c, d], [a, b, d], [a, b, c]].contains(&[x, y, z]) => {
            // The rest of a header that is exact is no header.
            (x == a || at == 0 || seen[at - 1] != a).then(|| at.saturating_sub(1))?
        }
        [x, _, y, z] if [x, y, z] == [a, c, d] => at,
        [x, y, _, z] if [x, y, z] == [a, b, d] => at,
        _ => return None,
    };
    let text = seen.get(first + 7..first + 10).unwrap_or_default();
    text.iter().all(is_printable).then_some(Start { at: first, is_exact: false })
}

/// Record 03 begins with the model. Records 01 and 02 have numbers there: millivolts, or volts as a
/// float, whose last byte is 3F or 40.
fn is_device(seen: &[u8], start: &Start) -> bool {
    let is_named = match seen.get(start.at + 7..start.at + 10) {
        Some(text) => text.iter().all(is_printable) && !matches!(text, [.., 0x3F | 0x40]),
        None => false,
    };
    is_named || !start.is_exact || seen.get(start.at + 4) == Some(&DEVICE)
}

fn remove_passcodes(seen: &[u8], shown: &mut [u8], start: &Start, end: usize) {
    let end = end.min(seen.len());
    let position = |at: usize| at - start.at;
    // The date of manufacture in front of the serial number is where it belongs, or was removed before.
    let front = seen.get(start.at + REMOVED[0].start..start.at + SERIAL.start).unwrap_or_default();
    let is_aligned = match front {
        [] => false,
        [.., a, b, c, d, e, f, 0, 0] if [a, b, c, d, e, f].iter().all(|it| it.is_ascii_digit()) => {
            true
        }
        front => front.iter().all(|byte| *byte == 0),
    };
    let mut removed: u8 = 0;
    for (at, byte) in shown.iter_mut().enumerate().take(end).skip(start.at) {
        let is_removed = REMOVED.iter().any(|range| range.contains(&position(at)));
        if is_removed || (SERIAL.contains(&position(at)) && !is_aligned) {
            removed = removed.wrapping_add(*byte);
            *byte = 0;
        }
        if position(at) == RECORD - 1 && start.is_exact {
            *byte = byte.wrapping_sub(removed);
        }
    }
}

/// The first header from here on, or the end.
fn next_header(seen: &[u8], from: usize, end: usize) -> usize {
    let is_header = |at: &usize| {
        let rest = seen.get(*at..).unwrap_or_default();
        rest.starts_with(&RECORD_HEADER) || rest.starts_with(&COMMAND_HEADER)
    };
    (from..end).find(is_header).unwrap_or(end)
}

fn is_model(rest: &[u8]) -> bool {
    matches!(rest, [b'J', b'K', b'-' | b'_', ..])
}

/// Removes runs of printable characters. Replies with a header of their own are no text.
fn remove_text(seen: &[u8], shown: &mut [u8], range: std::ops::Range<usize>, is_stream: bool) {
    let mut at = range.start;
    while at < range.end {
        if !is_stream && reply::begins(&seen[at..]) {
            return;
        }
        let is_text = |at: &usize| is_printable(&seen[*at]) && !reply::begins(&seen[*at..]);
        let run = (at..range.end).take_while(is_text).count();
        if run >= MIN_TEXT {
            shown[at..at + run].fill(0);
        }
        at += run.max(1);
    }
}

fn is_printable(byte: &u8) -> bool {
    matches!(byte, 0x20..=0x7E)
}
