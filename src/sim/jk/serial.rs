//! The dialects on serial lines: "4E 57", and the triggers of the PB series with or without a master.

use super::{Layout, record};
use crate::protocol::jk::pb::{TRIGGER, Topic, trigger, triggered};
use crate::protocol::jk::status::WARNINGS;
use crate::protocol::jk::ttl::{HEADER, sum};
use crate::protocol::modbus::with_crc;
use crate::sim::pack::BALANCING;
use crate::sim::payload::Payload;
use crate::sim::{Corruption, PackState, Responder, SimBrand, SimPack};

/// The GPS/RS485 socket.
pub static TTL: SimBrand =
    SimBrand::serial("jk:ttl", 1..=1, |pack| Box::new(TtlBoard(pack)), ttl_end, ttl_corrupt);

/// Packs of the PB series without a master.
pub static PB: SimBrand = PB_WITHOUT_MASTER;

const PB_WITHOUT_MASTER: SimBrand =
    SimBrand::serial("jk:pb", 1..=15, |pack| Box::new(PbPack::new(pack)), pb_end, pb_corrupt);

/// Packs of the PB series; the pack at address 0 polls the others.
pub static PB_WITH_MASTER: SimBrand =
    SimBrand { addresses: 0..=15, stream: Some(0.3), ..PB_WITHOUT_MASTER };

#[derive(Debug)]
struct TtlBoard(SimPack);

/// There is one board, and it never refuses.
fn ttl_corrupt(corruption: Corruption, reply: &[u8]) -> Vec<u8> {
    if corruption == Corruption::Checksum { record::damaged(reply) } else { Vec::new() }
}

fn ttl_end(buffer: &[u8]) -> Option<usize> {
    let start = buffer.windows(2).position(|seen| seen == HEADER)?;
    let length = usize::from(u16::from_be_bytes(*buffer.get(start + 2..)?.first_chunk()?));
    let end = start + 2 + length;
    (buffer.len() >= end).then_some(end)
}

/// Appends record number, end mark and sum, and sets the length.
fn ttl_close(mut frame: Vec<u8>) -> Vec<u8> {
    frame.extend([0, 0, 0, 0, 0x68]);
    let length = u16::try_from(frame.len() + 2).unwrap_or_default();
    frame.splice(2..4, length.to_be_bytes());
    frame.extend(sum(&frame).to_be_bytes());
    frame
}

impl Responder for TtlBoard {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let start = request.windows(2).position(|seen| seen == HEADER)?;
        let (body, received) = request.get(start..)?.split_last_chunk()?;
        let is_read_all = body.get(8) == Some(&6) && sum(body) == u32::from_be_bytes(*received);
        is_read_all.then(|| {
            let mut frame = HEADER.to_vec();
            frame.extend([0, 0, 0, 0, 0, 0, 6, 0, 1]);
            frame.extend(tags(&self.0.state(seconds), self.0.switches[BALANCING]));
            ttl_close(frame)
        })
    }
}

/// All tags, in the order of recorded replies.
fn tags(state: &PackState, balancing: bool) -> Vec<u8> {
    let mut data = Payload::default();
    data.byte(0x79).byte(3 * state.cells.len() as u8);
    for (number, cell) in (1..).zip(&state.cells) {
        data.byte(number).word(cell.0);
    }
    let celsius = |deci: i32| if deci < 0 { 100 - deci / 10 } else { deci / 10 };
    let current = state.current.0 / 10;
    let sign = if current > 0 { 0x8000 } else { 0 };
    let status = i32::from(state.charging)
        | i32::from(state.discharging) << 1
        | i32::from(state.balancing.contains(&true)) << 2
        | 1 << 3;
    let sensor = state.sensors.first().map_or(0, |sensor| sensor.0);
    let percent = (state.soc.0 / 100) as u8;
    data.byte(0x80).word(celsius(state.mosfet.0)).byte(0x81).word(celsius(state.ambient.0));
    data.byte(0x82).word(celsius(sensor)).byte(0x83).word(state.voltage.0 / 10);
    data.byte(0x84).word(sign | current.abs()).extend([0x85, percent, 0x86, 2]);
    data.byte(0x87).word(state.cycles as i32).byte(0x8A).word(state.cells.len() as i32);
    data.byte(0x8B).word(state.word(&WARNINGS) as i32).byte(0x8C).word(status);
    data.byte(0x8E).word(5840).extend([0x9D, balancing.into()]);
    data.byte(0xAA).four_bytes(state.design.0 / 1000).extend([0xAB, 1, 0xAC, 1]);
    data.byte(0xB2).text("123456", 10, 0).byte(0xB7).text("11.XW_S11.26___", 15, 0);
    data.byte(0xB9).four_bytes(state.full.0 / 1000);
    data.byte(0xBA).text("Input UserdaJK_SIM16S", 24, 0).extend([0xC0, 1]);
    data.into_bytes()
}

#[derive(Debug)]
pub struct PbPack {
    pack: SimPack,
    /// The address that a master polls next.
    next: u8,
}

fn pb_end(buffer: &[u8]) -> Option<usize> {
    (TRIGGER..=buffer.len()).find(|&end| triggered(&buffer[end - TRIGGER..]).is_some())
}

fn pb_corrupt(corrupt: Corruption, reply: &[u8]) -> Vec<u8> {
    let behind = reply.len().saturating_sub(8);
    let (record, acknowledgement) = reply.split_at(behind);
    let address = acknowledgement.first().copied().unwrap_or_default();
    match corrupt {
        Corruption::Checksum => record::damaged(reply),
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

    fn record(&mut self, topic: Topic, seconds: f64) -> Vec<u8> {
        match topic {
            Topic::Live => record::cells(Layout::Cells32, &self.pack.state(seconds), 0),
            Topic::Settings => record::settings(&mut self.pack, seconds),
            Topic::Device => record::device(Layout::Cells32),
        }
    }
}

impl Responder for PbPack {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let own = |(address, _): &(u8, Topic)| *address == self.pack.address;
        let (address, topic) = triggered(request.last_chunk::<TRIGGER>()?).filter(own)?;
        let record = self.record(topic, seconds);
        let acknowledgement = with_crc(vec![address, 0x10, 0x16, topic.register(), 0, 1]);
        Some([record, vec![0], acknowledgement].concat())
    }

    /// A master reports itself, then polls each of the others.
    fn unsolicited(&mut self, seconds: f64) -> Option<Vec<u8>> {
        if self.pack.address != 0 {
            return None;
        }
        let address = self.next;
        self.next = (address + 1) % 16;
        Some(match address {
            0 => self.record(Topic::Live, seconds),
            other => trigger(Topic::Live, other),
        })
    }
}
