//! Reading fields from a reply: no reply is trusted to be long enough.

use super::error::DecodeError;

/// The order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    Big,
    Little,
}

/// Reads one field after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    order: ByteOrder,
}

impl<'a> Reader<'a> {
    /// At the start of fields whose numbers have the high byte first.
    pub fn big_endian(bytes: &'a [u8]) -> Self {
        Reader { bytes, position: 0, order: ByteOrder::Big }
    }

    /// At the start of fields whose numbers have the low byte first.
    pub fn little_endian(bytes: &'a [u8]) -> Self {
        Reader { bytes, position: 0, order: ByteOrder::Little }
    }

    /// The same bytes, at this position.
    pub fn at(&self, position: usize) -> Self {
        Reader { position: position.min(self.bytes.len()), ..*self }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.position.saturating_add(count);
        let too_short = DecodeError::TooShort(self.bytes.len());
        let field = self.bytes.get(self.position..end).ok_or(too_short)?;
        self.position = end;
        Ok(field)
    }

    /// Passes over `count` bytes.
    pub fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        self.take(count).map(|_| ())
    }

    /// Bytes that were not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// An unsigned number of up to eight bytes.
    fn unsigned(&mut self, width: usize) -> Result<u64, DecodeError> {
        let append = |number, &byte: &u8| number << 8 | u64::from(byte);
        let field = self.take(width)?.iter();
        Ok(match self.order {
            ByteOrder::Big => field.fold(0, append),
            ByteOrder::Little => field.rev().fold(0, append),
        })
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.unsigned(1).map(|number| number as u8)
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.unsigned(2).map(|number| number as u16)
    }

    pub fn u24(&mut self) -> Result<u32, DecodeError> {
        self.unsigned(3).map(|number| number as u32)
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.unsigned(4).map(|number| number as u32)
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.unsigned(8)
    }

    /// Eight bits, two's complement.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.u8().map(u8::cast_signed)
    }

    /// 16 bits, two's complement.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.u16().map(u16::cast_signed)
    }

    /// 32 bits, two's complement.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.u32().map(u32::cast_signed)
    }

    /// 32 bits, IEEE 754.
    pub fn f32(&mut self) -> Result<f32, DecodeError> {
        self.u32().map(f32::from_bits)
    }

    /// This many unsigned numbers of 16 bits.
    pub fn u16s(&mut self, count: usize) -> Result<Vec<u16>, DecodeError> {
        (0..count).map(|_| self.u16()).collect()
    }

    /// As many bytes as an array holds.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let length = self.bytes.len();
        self.take(N)?.try_into().map_err(|_| DecodeError::TooShort(length))
    }

    /// As many unsigned numbers of 16 bits as an array holds.
    pub fn words<const N: usize>(&mut self) -> Result<[u16; N], DecodeError> {
        let mut words = [0; N];
        for word in &mut words {
            *word = self.u16()?;
        }
        Ok(words)
    }

    /// Everything must have been read.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(DecodeError::Length(self.bytes.len())) }
    }
}

/// The text of a field of fixed width. What is not printable ASCII is padding or an unset flash
/// cell (NUL, FF), and some boards have it in the middle of a serial number too, so it is left out
/// wherever it is. An empty field is `None`.
pub fn text(field: &[u8]) -> Option<String> {
    let printable: String =
        field.iter().filter(|b| matches!(b, 0x20..=0x7E)).map(|&b| char::from(b)).collect();
    let trimmed = printable.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_beyond_the_end_is_an_error_and_reads_nothing() {
        let mut reader = Reader::big_endian(&[0x01, 0x02, 0x03, 0xFF, 0xFE, 0x09]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.i16(), Ok(-2));
        assert_eq!(reader.remaining(), 1);
        assert_eq!(reader.u16(), Err(DecodeError::TooShort(6)));
        assert_eq!(reader.take(usize::MAX), Err(DecodeError::TooShort(6)));
        assert_eq!(reader.u8(), Ok(9));
        assert_eq!(reader.at(usize::MAX).u8(), Err(DecodeError::TooShort(6)));
    }

    #[test]
    fn numbers_of_every_width_in_both_orders() {
        let bytes = [0x80, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x81];
        let (big, little) = (Reader::big_endian(&bytes), Reader::little_endian(&bytes));
        assert_eq!(big.at(0).u24(), Ok(0x80_0203));
        assert_eq!(little.at(0).u24(), Ok(0x03_0280));
        assert_eq!(big.at(0).i32(), Ok(-0x7FFD_FCFC));
        assert_eq!(little.at(0).u32(), Ok(0x0403_0280));
        assert_eq!(big.at(0).u64(), Ok(0x8002_0304_0506_0781));
        assert_eq!(little.at(0).u64(), Ok(0x8107_0605_0403_0280));
        assert_eq!((big.at(7).i8(), big.at(1).i8()), (Ok(-0x7F), Ok(2)));
        assert_eq!(Reader::little_endian(&1.5_f32.to_le_bytes()).f32(), Ok(1.5));
        assert_eq!(big.at(1).u16s(2), Ok(vec![0x0203, 0x0405]));
        assert_eq!(little.at(6).words(), Ok([0x8107]));
        assert_eq!(big.at(6).bytes(), Ok([0x07, 0x81]));
        assert_eq!((big.at(7).end(), big.at(8).end()), (Err(DecodeError::Length(8)), Ok(())));
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
}
