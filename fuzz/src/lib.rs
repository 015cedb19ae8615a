//! What the targets share: the layout of their inputs, which `fuzz/seeds` writes, and one cycle of a
//! driver.

use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{CycleKind, Driver, DriverInfo, Options, Step};

/// More calls of `step` than any cycle needs: a stack answers pack by pack, and each damaged reply
/// repeats its request.
const MAX_STEPS: usize = 20_000;

/// The rest of an input. What is missing at its end is 0 or empty.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// Big endian.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their number, which is a word; `None` at the end of the input.
    pub fn chunk(&mut self) -> Option<&'a [u8]> {
        (!self.is_empty()).then(|| {
            let count = usize::from(self.word());
            self.take(count)
        })
    }

    /// Up to the next zero byte or the end, without it.
    pub fn text(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let text = self.take(end);
        self.take(1);
        text
    }

    /// The item whose name has the hash that comes next, so that seeds outlast changes of the list;
    /// any other word chooses some item.
    pub fn pick<T: Copy>(&mut self, items: &[T], name: impl Fn(&T) -> &'static str) -> T {
        let hash = self.word();
        let named = items.iter().find(|item| name_hash(name(item)) == hash);
        *named.unwrap_or(&items[usize::from(hash) % items.len()])
    }
}

/// The same as in `fuzz/seeds`.
fn name_hash(name: &str) -> u16 {
    name.bytes().fold(0, |hash: u16, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
}

/// The settings of a battery that `flags` choose: the dialect, the medium, and whether it has a
/// barcode.
pub fn options(info: &DriverInfo, flags: u8, address: u8) -> Options {
    let dialect = usize::from(flags & 0x03);
    let variant = dialect.checked_sub(1).and_then(|index| info.variants.get(index));
    let ble = info.gatt.is_some() && (flags & 0x04 != 0 || info.serial.is_none());
    Options {
        address,
        medium: if ble { Medium::Ble } else { Medium::Serial },
        mac: ble.then_some([0x11, 0x22, 0x33, 0x44, 0x55, 0x66]),
        name: ble.then(|| "MockBLEDevice".to_owned()),
        variant: variant.map(|name| (*name).to_owned()),
        barcode: (flags & 0x08 != 0).then(|| "PPTAP00000000050".to_owned()),
        ..Options::default()
    }
}

/// One cycle with a battery that answers with what `answer` returns, in pieces of `piece` bytes.
pub fn cycle(
    driver: &mut dyn Driver,
    kind: CycleKind,
    piece: usize,
    mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) {
    driver.start(kind);
    let mut answered = None;
    for _ in 0..MAX_STEPS {
        let step = driver.step();
        assert_eq!(step, driver.step(), "step changes something");
        match step {
            Step::Pause(_) => driver.advance(),
            Step::Send(request) => {
                assert!(!request.is_empty(), "an empty request");
                driver.advance();
                answered = answer(&request);
            }
            Step::Await(_) => match answered.take().or_else(|| answer(&[])) {
                Some(bytes) => bytes.chunks(piece.max(1)).for_each(|piece| driver.receive(piece)),
                None => driver.handle_timeout(),
            },
            Step::Done(_) | Step::Failed(_) => return,
        }
    }
    panic!("no end after {MAX_STEPS} steps");
}
