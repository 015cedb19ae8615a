//! "4E 57" replies, and what may be a part of one.

use crate::protocol::jk::tags;
use crate::protocol::jk::ttl::{END_MARK, HEAD, HEADER, LONGEST, TAIL};

const PASSWORD: u8 = 0xB2;
const CELLS: u8 = 0x79;
/// The tag behind the cells.
const BEHIND_CELLS: u8 = 0x80;

pub(super) fn redact(seen: &[u8], shown: &mut [u8]) {
    let mut at = 0;
    while at < seen.len() {
        let rest = &seen[at..];
        let end = if begins(rest) {
            let length = usize::from(u16::from_be_bytes([rest[2], rest[3]])) + HEADER.len();
            frame(seen, shown, at, at + length)
        } else if let Some(skipped) = beginning_lost(rest) {
            let end = next_reply(seen, at + skipped, at + LONGEST);
            let mut tags = Tags::default();
            tags.walk(seen, shown, at + skipped..end);
            end
        } else {
            at + 1
        };
        at = end;
    }
}

/// Whether a reply begins here. `false` while there is nothing to remove yet.
pub(super) fn begins(rest: &[u8]) -> bool {
    let Some(&[a, b, high, low, _, _, _, _, command, _, kind]) = rest.first_chunk::<HEAD>() else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([high, low])) + HEADER.len();
    [a, b] == HEADER
        && (HEAD + TAIL..=LONGEST).contains(&length)
        && matches!(command, 3 | 6)
        && matches!(kind, 1 | 2)
}

/// The tags from which on a reply without its beginning is recognised; `None` if this is none.
fn beginning_lost(rest: &[u8]) -> Option<usize> {
    match *rest {
        [CELLS, length, ..] if length > 0 && length % 3 == 0 => {
            let length = usize::from(length);
            let is_followed = rest.get(2 + length) == Some(&BEHIND_CELLS);
            cells(&rest[1..]).filter(|_| is_followed).map(|length| 1 + length)
        }
        // The tags in front of the password.
        [0xB0, _, _, 0xB1, _, PASSWORD, ..] => Some(5),
        _ => None,
    }
}

/// Returns the end of what belongs to the reply.
fn frame(seen: &[u8], shown: &mut [u8], start: usize, end: usize) -> usize {
    let limit = next_reply(seen, start + HEAD, end);
    let mut tags = Tags::default();
    tags.walk(seen, shown, start + HEAD..limit.min(end - TAIL));
    let mark = end - 5;
    if !tags.passed_password {
        // With a wrong length the password may be here; the record number is not read.
        shown.iter_mut().take(mark.min(limit)).skip(end - TAIL).for_each(|byte| *byte = 0);
    }
    if begins(seen.get(limit..).unwrap_or_default()) {
        return limit;
    }
    if seen.get(mark).is_some_and(|byte| *byte != END_MARK) {
        let end = next_reply(seen, mark, start + LONGEST);
        shown[mark..end].fill(0);
        return end;
    }
    // The sum is in the last two of its four bytes. Each of them is adjusted separately.
    let sum =
        |bytes: &[u8]| bytes.iter().fold(0, |sum: u16, byte| sum.wrapping_add((*byte).into()));
    let [old, new] = [seen, &*shown].map(|bytes| bytes.get(start..=mark).map_or(0, sum));
    let differences = new.to_be_bytes().into_iter().zip(old.to_be_bytes());
    for (at, (new, old)) in (end - 2..end).zip(differences) {
        if let Some(byte) = shown.get_mut(at) {
            *byte = byte.wrapping_add(new.wrapping_sub(old));
        }
    }
    end
}

/// The beginning of the next reply, or the end.
fn next_reply(seen: &[u8], from: usize, end: usize) -> usize {
    let end = end.min(seen.len());
    (from..end).find(|at| begins(&seen[*at..])).unwrap_or(end)
}

/// Tags in their order. Behind one that cannot be there, everything is removed.
#[derive(Default)]
struct Tags {
    last: u8,
    passed_password: bool,
}

impl Tags {
    fn walk(&mut self, seen: &[u8], shown: &mut [u8], range: std::ops::Range<usize>) {
        let mut at = range.start;
        while at < range.end {
            let tag = seen[at];
            let length = match tag {
                CELLS => cells(&seen[at + 1..range.end]),
                _ => tags::length(tag),
            };
            let is_expected = tag > self.last && (tag <= PASSWORD || self.passed_password);
            let Some(length) = length.filter(|_| is_expected) else {
                shown[at..range.end].fill(0);
                return;
            };
            let end = at + 1 + length;
            if tag == PASSWORD {
                shown[at + 1..end.min(range.end)].fill(0);
                self.passed_password = end <= range.end;
            }
            self.last = tag;
            at = end;
        }
    }
}

/// Length of the value of the cells, as far as it is there; `None` where they are not numbered, because
/// the length of a value is wrong.
fn cells(behind: &[u8]) -> Option<usize> {
    let [length, cells @ ..] = behind else { return Some(0) };
    let length = usize::from(*length);
    let is_cell = |(cell, number): (&[u8], u8)| cell.first() == Some(&number);
    let cells = cells.get(..length).unwrap_or(cells);
    cells.chunks(3).zip(1..).all(is_cell).then_some(1 + length)
}
