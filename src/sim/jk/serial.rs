//! The dialects on serial lines: "4E 57", and the triggers of the PB series with or without a master.

use super::{Layout, record};
use crate::protocol::checksum::crc16_modbus;
use crate::protocol::jk::status::WARNINGS;
use crate::sim::pack::BALANCING;
use crate::sim::{Corruption, PackState, Responder, SimBrand, SimPack};

/// The GPS/RS485 socket.
pub static TTL: SimBrand = SimBrand {
    name: "jk:ttl",
    addresses: 1..=1,
    new: |pack| Box::new(TtlBoard(pack)),
    request_end: ttl_end,
    stream: None,
    notification: None,
    corrupt: |corrupt, answer| match corrupt {
        Corruption::Checksum => record::damaged(answer),
        // There is one board, and it never refuses.
        Corruption::Foreign | Corruption::Refused(_) => Vec::new(),
    },
};

/// Packs of the PB series without a master.
pub static PB: SimBrand = PB_WITHOUT_MASTER;

const PB_WITHOUT_MASTER: SimBrand = SimBrand {
    name: "jk:pb",
    addresses: 1..=15,
    new: |pack| Box::new(PbPack::new(pack)),
    request_end: pb_end,
    stream: None,
    notification: None,
    corrupt: pb_corrupt,
};

/// Packs of the PB series; the pack at address 0 polls the others.
pub static PB_WITH_MASTER: SimBrand =
    SimBrand { addresses: 0..=15, stream: Some(0.3), ..PB_WITHOUT_MASTER };

#[derive(Debug)]
struct TtlBoard(SimPack);

const TTL_HEADER: [u8; 2] = [0x4E, 0x57];

fn ttl_end(buffer: &[u8]) -> Option<usize> {
    let start = buffer.windows(2).position(|seen| seen == TTL_HEADER)?;
    let length = usize::from(u16::from_be_bytes(*buffer.get(start + 2..)?.first_chunk()?));
    let end = start + 2 + length;
    (buffer.len() >= end).then_some(end)
}

/// Appends record number, end mark and sum, and sets the length.
fn ttl_close(mut frame: Vec<u8>) -> Vec<u8> {
    frame.extend([0, 0, 0, 0, 0x68]);
    let length = u16::try_from(frame.len() + 2).unwrap_or_default();
    frame.splice(2..4, length.to_be_bytes());
    let sum: u32 = frame.iter().map(|&byte| u32::from(byte)).sum();
    frame.extend((sum & 0xFFFF).to_be_bytes());
    frame
}

impl Responder for TtlBoard {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let start = request.windows(2).position(|seen| seen == TTL_HEADER)?;
        let (body, sum) = request.get(start..)?.split_last_chunk::<4>()?;
        let sum_of_body = body.iter().map(|&byte| u32::from(byte)).sum::<u32>() & 0xFFFF;
        let is_read_all = body.get(8) == Some(&6) && sum_of_body == u32::from_be_bytes(*sum);
        is_read_all.then(|| {
            let mut frame = TTL_HEADER.to_vec();
            frame.extend([0, 0, 0, 0, 0, 0, 6, 0, 1]);
            frame.extend(tags(&self.0.state(seconds), self.0.switches[BALANCING]));
            ttl_close(frame)
        })
    }
}

/// All tags, in the order of recorded replies.
fn tags(state: &PackState, balancing: bool) -> Vec<u8> {
    let mut data = vec![0x79, u8::try_from(3 * state.cells.len()).unwrap_or_default()];
    for (number, cell) in (1_u8..).zip(&state.cells) {
        data.push(number);
        data.extend(word(cell.0));
    }
    let celsius = |deci: i32| if deci < 0 { 100 - deci / 10 } else { deci / 10 };
    let current = state.current.0 / 10;
    let sign = if current > 0 { 0x8000 } else { 0 };
    let status = i32::from(state.charging)
        | i32::from(state.discharging) << 1
        | i32::from(state.balancing.contains(&true)) << 2
        | 1 << 3;
    let sensor = state.sensors.first().map_or(0, |sensor| sensor.0);
    let words = [
        (0x80, celsius(state.mosfet.0)),
        (0x81, celsius(state.ambient.0)),
        (0x82, celsius(sensor)),
        (0x83, state.voltage.0 / 10),
        (0x84, sign | current.abs()),
        (0x87, i32::try_from(state.cycles).unwrap_or_default()),
        (0x8A, i32::try_from(state.cells.len()).unwrap_or_default()),
        (0x8B, state.word(&WARNINGS) as i32),
        (0x8C, status),
        (0x8E, 5840),
    ];
    for (tag, value) in words {
        data.push(tag);
        data.extend(word(value));
    }
    let percent = u8::try_from(state.soc.0 / 100).unwrap_or_default();
    data.extend([0x85, percent, 0x86, 2, 0x9D, balancing.into(), 0xAB, 1, 0xAC, 1]);
    for (tag, capacity) in [(0xAA, state.design.0), (0xB9, state.full.0)] {
        data.push(tag);
        data.extend(u32::try_from(capacity / 1000).unwrap_or_default().to_be_bytes());
    }
    data.push(0xB2);
    data.extend(*b"123456\0\0\0\0");
    data.push(0xB7);
    data.extend(*b"11.XW_S11.26___");
    data.push(0xBA);
    data.extend(*b"Input UserdaJK_SIM16S\0\0\0");
    data.extend([0xC0, 1]);
    data
}

fn word(value: i32) -> [u8; 2] {
    u16::try_from(value).unwrap_or_default().to_be_bytes()
}

#[derive(Debug)]
pub struct PbPack {
    pack: SimPack,
    /// The address that a master polls next.
    next: u8,
}

const TRIGGER: usize = 11;

/// Address and register of a trigger at the end of these bytes.
fn triggered(bytes: &[u8]) -> Option<(u8, u8)> {
    let (body, crc) = bytes.last_chunk::<TRIGGER>()?.split_last_chunk::<2>()?;
    match *body {
        [address, 0x10, 0x16, register, 0, 1, 2, 0, 0]
            if crc16_modbus(body).to_le_bytes() == *crc =>
        {
            Some((address, register))
        }
        _ => None,
    }
}

fn pb_end(buffer: &[u8]) -> Option<usize> {
    (TRIGGER..=buffer.len()).find(|&end| triggered(&buffer[..end]).is_some())
}

fn with_crc(mut frame: Vec<u8>) -> Vec<u8> {
    frame.extend(crc16_modbus(&frame).to_le_bytes());
    frame
}

fn pb_corrupt(corrupt: Corruption, answer: &[u8]) -> Vec<u8> {
    let behind = answer.len().saturating_sub(8);
    let (record, acknowledgement) = answer.split_at(behind);
    let address = acknowledgement.first().copied().unwrap_or_default();
    match corrupt {
        Corruption::Checksum => record::damaged(answer),
        Corruption::Foreign => {
            let mut foreign = acknowledgement.get(..6).unwrap_or_default().to_vec();
            foreign.splice(..1.min(foreign.len()), [address + 1]);
            [record, &with_crc(foreign)].concat()
        }
        Corruption::Refused(code) => with_crc(vec![address, 0x90, code]),
    }
}

impl PbPack {
    /// The pack at address 0 is the master.
    pub fn new(pack: SimPack) -> Self {
        PbPack { pack, next: 0 }
    }

    fn record(&mut self, register: u8, seconds: f64) -> Option<Vec<u8>> {
        Some(match register {
            0x20 => record::cells(Layout::Cells32, &self.pack.state(seconds), 0),
            0x1E => record::settings(&mut self.pack, seconds),
            0x1C => record::device(Layout::Cells32),
            _ => return None,
        })
    }
}

impl Responder for PbPack {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let (_, register) =
            triggered(request).filter(|(address, _)| *address == self.pack.address)?;
        let record = self.record(register, seconds)?;
        let acknowledgement = with_crc(vec![self.pack.address, 0x10, 0x16, register, 0, 1]);
        Some([record, vec![0], acknowledgement].concat())
    }

    /// A master reports itself, then polls each of the others.
    fn unsolicited(&mut self, seconds: f64) -> Option<Vec<u8>> {
        if self.pack.address != 0 {
            return None;
        }
        let address = self.next;
        self.next = (address + 1) % 16;
        match address {
            0 => self.record(0x20, seconds),
            other => Some(with_crc(vec![other, 0x10, 0x16, 0x20, 0, 1, 2, 0, 0])),
        }
    }
}
