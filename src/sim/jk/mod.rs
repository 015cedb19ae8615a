//! Simulated JK boards, over Bluetooth here and on serial lines in `serial`.
//!
//! The record encoder is independent of the driver on purpose; status words, checksums
//! and the frames around the records are shared.

mod record;
mod serial;

use super::{Corruption, Responder, SimBrand, SimPack};
use crate::protocol::jk::record::NOISE;

pub use serial::{PB, PB_WITH_MASTER, PbPack, TTL};

pub static BRAND: SimBrand = SimBrand {
    stream: Some(0.5),
    notification: Some(128),
    ..SimBrand::serial(
        "jk",
        1..=1,
        |pack| Box::new(JkBoard::new(pack, Layout::Cells32)),
        record::command_end,
        |corrupt, reply| match corrupt {
            Corruption::Checksum => record::damaged(reply),
            // Bluetooth frames have no address.
            Corruption::Foreign => Vec::new(),
            // A board that ignores a command still acknowledges it.
            Corruption::Refused(_) => record::acknowledgement(),
        },
    )
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Firmware up to 10.
    Cells24,
    /// Firmware from 11 on.
    Cells32,
}

#[derive(Debug)]
pub struct JkBoard {
    pub pack: SimPack,
    layout: Layout,
    /// 96 was received on this connection.
    streaming: bool,
    counter: u8,
}

impl JkBoard {
    pub fn new(pack: SimPack, layout: Layout) -> Self {
        JkBoard { pack, layout, streaming: false, counter: 0 }
    }
}

impl Responder for JkBoard {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let (code, value) = record::command(request)?;
        let mut reply = match code {
            0x97 => record::device(self.layout),
            0x96 => {
                self.streaming = true;
                record::settings(&mut self.pack, seconds)
            }
            _ => Vec::new(),
        };
        if let (0x1D..=0x1F, &[on, 0, 0, 0]) = (code, value) {
            self.pack.switches[usize::from(code - 0x1D)] = on != 0;
        }
        reply.extend(record::acknowledgement());
        reply.extend(NOISE);
        Some(reply)
    }

    /// Record 02 once the stream was requested; before that, commands to the Bluetooth module.
    fn unsolicited(&mut self, seconds: f64) -> Option<Vec<u8>> {
        if !self.streaming {
            return Some(NOISE.to_vec());
        }
        self.counter = self.counter.wrapping_add(1);
        let mut bytes = record::cells(self.layout, &self.pack.state(seconds), self.counter);
        if self.counter.is_multiple_of(3) {
            bytes.extend(NOISE);
        }
        Some(bytes)
    }

    fn connected(&mut self) {
        self.streaming = false;
    }
}
