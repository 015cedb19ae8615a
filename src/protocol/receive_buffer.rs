//! Bytes that wait for the rest of their frame.

use std::ops::Deref;

/// A queue of bytes. Taking bytes from its front moves the rest only once as many were taken as are
/// left, so that junk costs the same per byte in a long buffer as in a short one.
#[derive(Debug, Default, Clone)]
pub(super) struct ReceiveBuffer {
    bytes: Vec<u8>,
    /// Bytes that were taken.
    start: usize,
}

impl ReceiveBuffer {
    pub fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes bytes from the front.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        if self.start >= self.len() {
            work::add(self.len());
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Drops bytes from the end.
    pub fn drop_last(&mut self, count: usize) {
        self.bytes.truncate(self.bytes.len().saturating_sub(count).max(self.start));
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }
}

impl Deref for ReceiveBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

/// Counts bytes that are moved or searched, so that tests can compare them with the bytes received.
pub(crate) mod work {
    #[cfg(test)]
    thread_local! {
        static COUNT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    #[cfg(test)]
    pub fn add(bytes: usize) {
        COUNT.set(COUNT.get() + bytes);
    }

    #[cfg(not(test))]
    pub fn add(_bytes: usize) {}

    /// The bytes since the last call.
    #[cfg(test)]
    pub fn take() -> usize {
        COUNT.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::driver::{Medium, Options};
    use crate::protocol::{CycleKind, Driver, Step, drivers};

    #[test]
    fn bytes_leave_in_their_order() {
        let mut buffer = ReceiveBuffer::default();
        for (count, first) in [(1, 0), (3, 1), (100, 4)] {
            buffer.extend(&[0, 1, 2, 3, 4, 5][buffer.len().min(6)..]);
            assert_eq!(buffer.first(), Some(&first));
            buffer.consume(count);
        }
        assert!(buffer.is_empty());
        buffer.extend(&[7, 8, 9]);
        buffer.consume(1);
        buffer.drop_last(1);
        assert_eq!(*buffer, [8]);
        buffer.drop_last(9);
        assert!(buffer.is_empty());
    }

    /// Waits until the driver takes bytes, and gives it all of them in pieces; each timeout continues
    /// with the next request. Returns the bytes that it took.
    fn feed(driver: &mut dyn Driver, junk: &[u8], piece: usize) -> usize {
        let mut taken = 0;
        for piece in junk.chunks(piece) {
            for _ in 0..100 {
                match driver.step() {
                    Step::Send(_) | Step::Pause(_) => driver.advance(),
                    Step::Await(_) => break,
                    Step::Done(_) | Step::Failed(_) => driver.start(CycleKind::Read),
                }
            }
            if matches!(driver.step(), Step::Await(_)) {
                driver.receive(piece);
                taken += piece.len();
            }
        }
        taken
    }

    /// Whatever a line sends, the work for one of its bytes does not grow with the bytes before it.
    #[test]
    fn junk_costs_the_same_per_byte_in_every_driver() {
        let mut random = 1_u32;
        let mut noise: Vec<u8> = Vec::new();
        while noise.len() < 64 * 1024 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.push(random.to_be_bytes()[0]);
        }
        let mut worst = Vec::new();
        for info in drivers() {
            let media =
                [(Medium::Serial, info.serial.is_some()), (Medium::Ble, info.gatt.is_some())];
            for (medium, _) in media.into_iter().filter(|(_, exists)| *exists) {
                let variants = info.variants.iter().map(|name| Some((*name).to_owned()));
                for variant in variants.chain([None]) {
                    let mut driver =
                        info.driver(&Options { medium, variant, ..Options::default() });
                    for (name, junk) in [("noise", &noise[..]), ("zeros", &[0; 64 * 1024])] {
                        for piece in [20, 64 * 1024] {
                            driver.reset();
                            work::take();
                            let taken = feed(driver.as_mut(), junk, piece);
                            let per_byte = work::take() as f64 / taken.max(1) as f64;
                            worst.push((per_byte, taken, info.name, medium, name, piece));
                        }
                    }
                }
            }
        }
        worst.sort_by(|left, right| right.0.total_cmp(&left.0));
        // Where a frame has no start mark, one of 20 bytes may begin at every byte.
        assert!(worst[0].0 < 32.0, "{:#?}", &worst[..10]);
    }
}
