//! Checked readers shared by drivers: no answer of a battery is trusted to be long enough.

/// The answer was over before all its fields were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it ends after {length} bytes")]
pub struct Exhausted {
    /// How long it was.
    pub length: usize,
}

/// Reads big-endian fields one after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins at the front.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Exhausted> {
        let end = self.at.saturating_add(count);
        let field = self.bytes.get(self.at..end).ok_or(Exhausted { length: self.bytes.len() })?;
        self.at = end;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Exhausted> {
        let length = self.bytes.len();
        self.take(N)?.try_into().map_err(|_| Exhausted { length })
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Exhausted> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two bytes, unsigned.
    pub fn u16(&mut self) -> Result<u16, Exhausted> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, unsigned.
    pub fn u32(&mut self) -> Result<u32, Exhausted> {
        self.array().map(u32::from_be_bytes)
    }

    /// Two bytes, two's complement.
    pub fn i16(&mut self) -> Result<i16, Exhausted> {
        self.array().map(i16::from_be_bytes)
    }

    /// Bytes that were not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }
}

/// The text of a field of fixed width. What is not printable ASCII is padding or an unset flash
/// cell (NUL, FF), and some boards have it in the middle of a serial number too, so it is left out
/// wherever it stands. An empty field is `None`.
pub fn text(field: &[u8]) -> Option<String> {
    let printable: String =
        field.iter().filter(|b| matches!(b, 0x20..=0x7E)).map(|&b| char::from(b)).collect();
    let trimmed = printable.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// The CRC of Modbus RTU, which goes low byte first.
pub fn crc16_modbus(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, &byte| {
        (0..8).fold(
            crc ^ u16::from(byte),
            |crc, _| {
                if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xA001 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_big_endian_and_the_end_is_an_error() {
        let mut reader = Reader::new(&[0x01, 0x02, 0x03, 0xFF, 0xFE, 0x09]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.i16(), Ok(-2));
        assert_eq!(reader.remaining(), 1);
        assert_eq!(reader.u16(), Err(Exhausted { length: 6 }));
        assert_eq!(reader.take(usize::MAX), Err(Exhausted { length: 6 }));
        assert_eq!(reader.u8(), Ok(9), "a field that does not fit takes nothing");
    }

    #[test]
    fn padding_is_no_text() {
        assert_eq!(text(b"DJM2205180061       "), Some("DJM2205180061".to_owned()));
        assert_eq!(text(b"T1\0\0"), Some("T1".to_owned()));
        assert_eq!(text(b"72\x006"), Some("726".to_owned()));
        for empty in [&b"\xFF\xFF"[..], b"\0\0", b"   ", b""] {
            assert_eq!(text(empty), None);
        }
    }

    #[test]
    fn the_crc_is_that_of_modbus() {
        assert_eq!(crc16_modbus(b"123456789"), 0x4B37);
    }
}
