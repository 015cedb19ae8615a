//! A starting point for a new profile: what recorded requests and replies have in common.

use std::fmt::Write;

use super::number::unsigned;
use super::schema::{CheckKind, Order};
use crate::protocol::checksum::crc16_modbus;

/// Voltages of cells in millivolts.
const CELL: std::ops::RangeInclusive<u64> = 2000..=4500;
/// Difference between the cells of one battery.
const SPREAD: u64 = 400;
/// Fewer similar numbers are a coincidence.
const MIN_CELLS: usize = 3;

/// A request and its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    pub request: Vec<u8>,
    pub reply: Vec<u8>,
}

/// The text of a profile that reads these replies, with a table of what they contain.
pub fn profile(name: &str, exchanges: &[Exchange]) -> String {
    let replies: Vec<&[u8]> = exchanges.iter().map(|it| it.reply.as_slice()).collect();
    let order = if longest_run(&replies, Order::Little) > longest_run(&replies, Order::Big) {
        Order::Little
    } else {
        Order::Big
    };
    let modbus = exchanges.iter().all(|it| registers(&it.request).is_some());
    let unit = exchanges.first().and_then(|it| it.request.first()).copied().unwrap_or(1);
    // Requests that are repeated have more than one reply.
    let mut once: Vec<&Exchange> = Vec::new();
    for exchange in exchanges {
        let is_known = |it: &&Exchange| {
            it.request == exchange.request
                && (!it.request.is_empty() || it.reply.get(..2) == exchange.reply.get(..2))
        };
        if !once.iter().any(is_known) {
            once.push(exchange);
        }
    }
    let mut out = format!(
        "# Check every line, name what you know, then run: bms-reader profile check {name}.yaml\n\
         name: {name}\n\
         title: {name}\n\
         verified: one recording\n\
         # scan:\n\
         #   - {{name: \"ABC*\", service: FFF0}}\n\
         # ble:\n\
         #   - {{notify: [FFF0/FFF1], write: FFF0/FFF2}}\n\
         serial: {{baud: [9600]}}\n\
         order: {}\n",
        if order == Order::Big { "big" } else { "little" },
    );
    if modbus {
        out += &format!("modbus: {{}}\nunits: [{unit}]\n");
    } else {
        out += &frame(&replies);
    }
    if exchanges.iter().any(|exchange| exchange.request.is_empty()) {
        out += "streams: true\n";
    }
    out += "requests:\n";
    let first: Vec<&[u8]> = once.iter().map(|it| it.reply.as_slice()).collect();
    for exchange in once {
        out += &request(exchange, modbus, order, &first);
    }
    out
}

/// First register and count of a Modbus read.
fn registers(request: &[u8]) -> Option<(u8, u16, u16)> {
    let (frame, crc) = request.split_last_chunk::<2>()?;
    let &[_, function @ 3..=4, first_high, first_low, count_high, count_low] = frame else {
        return None;
    };
    let is_valid = crc16_modbus(frame).to_le_bytes() == *crc;
    let word = |high, low| u16::from_be_bytes([high, low]);
    is_valid.then_some((function, word(first_high, first_low), word(count_high, count_low)))
}

/// The form that all replies share.
fn frame(replies: &[&[u8]]) -> String {
    let mut parts = Vec::new();
    let head = common(replies, |reply, at| reply.get(at).copied()).min(2);
    if let Some(first) = replies.first().filter(|_| head > 0) {
        parts.push(format!("head: {}", hex(&first[..head])));
    }
    let check = check(replies);
    let tail = match check {
        Some((.., tail)) => tail,
        None => common(replies, |reply, at| reply.iter().rev().nth(at).copied()).min(2),
    };
    match length(replies) {
        Some((at, "u8", add)) => parts.push(format!("length: {{at: {at}, add: {add}}}")),
        Some((at, kind, add)) => {
            parts.push(format!("length: {{at: {at}, type: {kind}, add: {add}}}"));
        }
        None => {
            if let Some(first) = replies.first().filter(|_| !sizes_vary(replies)) {
                parts.push(format!("size: {}", first.len()));
            }
        }
    }
    if let Some((kind, order, from, _)) = check {
        parts.push(format!("check: {{type: {kind}, order: {order}, from: {from}}}"));
    }
    if let Some(first) = replies.first().filter(|reply| tail > 0 && tail < reply.len()) {
        parts.push(format!("tail: {}", hex(&first[first.len() - tail..])));
    }
    format!("frame: {{{}}}\n", parts.join(", "))
}

fn sizes_vary(replies: &[&[u8]]) -> bool {
    replies.iter().any(|reply| reply.len() != replies[0].len())
}

/// Number of places, from 0, at which all replies have the same byte.
fn common(replies: &[&[u8]], byte: impl Fn(&[u8], usize) -> Option<u8>) -> usize {
    let Some(first) = replies.first().filter(|_| replies.len() > 1) else { return 0 };
    let same = |at: &usize| replies.iter().all(|reply| byte(reply, *at) == byte(first, *at));
    (0..first.len()).take_while(same).count()
}

/// Place, type and difference of a number that tells the length of every reply.
fn length(replies: &[&[u8]]) -> Option<(usize, &'static str, i64)> {
    let varies = sizes_vary(replies);
    for (kind, width) in [("u16", 2), ("u8", 1)] {
        for at in 0..8 {
            let number = |reply: &&[u8]| {
                reply.get(at..at + width).map(|field| unsigned(field, Order::Big) as i64)
            };
            let differences: Option<Vec<i64>> =
                replies.iter().map(|reply| Some(reply.len() as i64 - number(reply)?)).collect();
            let Some(differences) = differences else { continue };
            let Some(&first) = differences.first() else { continue };
            let constant = differences.iter().all(|difference| *difference == first);
            let plausible = (0..=16).contains(&first) && (varies || (3..=13).contains(&first));
            if constant && plausible {
                return Some((at, kind, first));
            }
        }
    }
    None
}

/// Kind, order and first byte of a checksum that is right in every reply, and the bytes behind it.
fn check(replies: &[&[u8]]) -> Option<(&'static str, &'static str, usize, usize)> {
    let kinds = [
        (CheckKind::Crc16Modbus, "crc16-modbus"),
        (CheckKind::Crc16Xmodem, "crc16-xmodem"),
        (CheckKind::NegatedSum16, "negated-sum16"),
        (CheckKind::Sum16, "sum16"),
        (CheckKind::Crc8, "crc8"),
        (CheckKind::Sum8, "sum8"),
        (CheckKind::InvertedSum8, "inverted-sum8"),
        (CheckKind::Xor8, "xor8"),
    ];
    for (kind, name) in kinds {
        for (order, order_name) in [(Order::Big, "big"), (Order::Little, "little")] {
            for (from, tail) in (0..4).flat_map(|from| (0..4).map(move |tail| (from, tail))) {
                let fits = |reply: &&[u8]| {
                    let end = reply.len().checked_sub(tail + kind.width());
                    let Some(end) = end.filter(|end| *end > from + 2) else { return false };
                    let found = unsigned(&reply[end..end + kind.width()], order);
                    u64::from(kind.of(&reply[from..end])) == found
                };
                let enough = kind.width() == 2 || replies.len() > 1;
                if enough && !replies.is_empty() && replies.iter().all(fits) {
                    return Some((name, order_name, from, tail));
                }
            }
        }
    }
    None
}

fn request(exchange: &Exchange, modbus: bool, order: Order, all: &[&[u8]]) -> String {
    let Exchange { request, reply } = exchange;
    let mut out = String::new();
    let (places, base): (&dyn Fn(usize) -> String, usize) = match registers(request) {
        Some((function, first, count)) if modbus => {
            let _ = writeln!(out, "  - read: [0x{first:04X}, {count}]");
            if function != 3 {
                let _ = writeln!(out, "    function: {function}");
            }
            (&move |at| format!("0x{:04X}", usize::from(first) + (at - 3) / 2), 3)
        }
        _ => {
            if !request.is_empty() {
                let _ = writeln!(out, "  - send: {}", hex(request));
            }
            (&|at| at.to_string(), 0)
        }
    };
    // The shortest beginning that no other reply has.
    let is_unique = |size: &usize| {
        let same = |other: &&&[u8]| other.get(..*size) == reply.get(..*size);
        reply.len() > *size && all.iter().filter(same).count() == 1
    };
    let mut head = String::new();
    if let Some(size) = (2..=6).find(is_unique).filter(|_| !modbus) {
        head += &format!("head: {}\n        ", hex(&reply[..size]));
    }
    if !modbus && sizes_vary(all) && length(all).is_none() {
        head += &format!("size: {}\n        ", reply.len());
    }
    let begin = if request.is_empty() { "  - " } else { "    " };
    let _ = writeln!(out, "{begin}replies:\n      - {head}fields:");
    if let Some((at, count)) = run(reply, order).filter(|(_, count)| *count >= MIN_CELLS) {
        let at = places(at);
        let _ = writeln!(
            out,
            "          - {{key: cells, at: {at}, type: u16, scale: 0.001, count: {count}, absent: 0}}"
        );
    }
    out += "          # place: number of 16 bits, of 8 bits\n";
    let step = if modbus { 2 } else { 1 };
    for at in (base..reply.len().saturating_sub(1)).step_by(step) {
        let word = unsigned(&reply[at..at + 2], order);
        if word != 0 {
            let _ = writeln!(out, "          # {}: {word}, {}", places(at), reply[at]);
        }
    }
    out
}

fn longest_run(replies: &[&[u8]], order: Order) -> usize {
    replies.iter().filter_map(|reply| run(reply, order)).map(|(_, count)| count).max().unwrap_or(0)
}

/// Place and number of the longest row of similar numbers that can be cells.
fn run(reply: &[u8], order: Order) -> Option<(usize, usize)> {
    let word = |at: usize| reply.get(at..at + 2).map(|field| unsigned(field, order));
    let row = |start: usize| {
        let first = word(start)?;
        let similar = |at: &usize| {
            word(*at).is_some_and(|it| CELL.contains(&it) && it.abs_diff(first) <= SPREAD)
        };
        Some((start, (start..reply.len()).step_by(2).take_while(similar).count()))
    };
    // Of two equally long ones the first.
    (0..reply.len()).rev().filter_map(row).max_by_key(|(_, count)| *count)
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::table::load::parse;

    fn exchange(request: &[u8], reply: &[u8]) -> Exchange {
        Exchange { request: request.to_vec(), reply: reply.to_vec() }
    }

    fn with_sum(mut bytes: Vec<u8>) -> Vec<u8> {
        let sum = crate::protocol::checksum::sum8(&bytes);
        bytes.push(sum);
        bytes
    }

    #[test]
    fn form_of_frames_is_found() {
        let cells = [0x0C, 0xE4, 0x0C, 0xE5, 0x0C, 0xE6, 0x0C, 0xE4];
        let values = with_sum([&[0x5A, 0xA5, 1, 8][..], &cells].concat());
        let pack = with_sum(vec![0x5A, 0xA5, 2, 4, 0x14, 0x88, 0, 64]);
        let exchanges = [exchange(&[0x5A, 1], &values), exchange(&[0x5A, 2], &pack)];
        let text = profile("mine", &exchanges);
        assert!(text.contains("head: 5A A5, length: {at: 3, add: 5}"), "{text}");
        assert!(text.contains("check: {type: sum8, order: big, from: 0}"), "{text}");
        assert!(text.contains("{key: cells, at: 4, type: u16, scale: 0.001, count: 4"), "{text}");
        parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }

    #[test]
    fn modbus_is_recognised() {
        let request = [0x01, 0x03, 0x00, 0x00, 0x00, 0x27, 0x05, 0xD0];
        let text = profile("mine", &[exchange(&request, &[1, 3, 4, 0x14, 0x88, 0, 1, 0, 0])]);
        assert!(text.contains("modbus: {}\nunits: [1]\n"), "{text}");
        assert!(text.contains("read: [0x0000, 39]"), "{text}");
        assert!(text.contains("# 0x0000: 5256, 20"), "{text}");
    }
}
