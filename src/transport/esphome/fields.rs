//! The part of protobuf that the API uses: numbers and bytes, by field number.

/// A number has at most ten bytes.
const MAX_VARINT: usize = 10;

/// The number at the beginning, and how many bytes it takes. `Ok(None)`: more bytes are needed.
pub fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Malformed> {
    let mut number = 0;
    for (index, byte) in bytes.iter().take(MAX_VARINT).enumerate() {
        // Bits above the 64th are dropped, as every decoder does.
        number |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((number, index + 1)));
        }
    }
    if bytes.len() < MAX_VARINT { Ok(None) } else { Err(Malformed) }
}

/// Bytes that no sender of this protocol produces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Zero is the default, which is not sent.
pub fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        put_varint(out, u64::from(field) << 3);
        put_varint(out, number);
    }
}

pub fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Of any width.
    Number(u64),
    /// Text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
}

/// The fields of a message. Ends at the first malformed one.
#[derive(Debug, Clone)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let (number, length) = varint(self.0).ok()??;
        self.0 = self.0.get(length..)?;
        Some(number)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of fixed width, the least significant byte first.
    fn fixed(&mut self, length: usize) -> Option<Value<'a>> {
        let bytes = self.take(length)?;
        let number = bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Some(Value::Number(number))
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => self.fixed(8)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.fixed(4)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        field
    }
}

/// The last number with this field number; a missing one is 0.
pub fn number(payload: &[u8], field: u64) -> u64 {
    let numbers = Fields(payload).filter_map(|(key, value)| match value {
        Value::Number(number) if key == field => Some(number),
        _ => None,
    });
    numbers.last().unwrap_or_default()
}

/// Every value of bytes with this field number.
pub fn every_bytes(payload: &[u8], field: u64) -> impl Iterator<Item = &[u8]> {
    Fields(payload).filter_map(move |(key, value)| match value {
        Value::Bytes(bytes) if key == field => Some(bytes),
        _ => None,
    })
}

/// The last bytes with this field number; missing ones are empty.
pub fn bytes(payload: &[u8], field: u64) -> &[u8] {
    every_bytes(payload, field).last().unwrap_or_default()
}

/// Every number with this field number, packed or not.
pub fn every_number(payload: &[u8], field: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    for (_, value) in Fields(payload).filter(|(key, _)| *key == field) {
        match value {
            Value::Number(number) => numbers.push(number),
            Value::Bytes(packed) => {
                let mut packed = Fields(packed);
                numbers.extend(std::iter::from_fn(|| packed.number()));
            }
        }
    }
    numbers
}

/// A text without control characters, because it is logged.
pub fn text(payload: &[u8], field: u64) -> String {
    String::from_utf8_lossy(bytes(payload, field)).replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_read_as_written() {
        let mut message = Vec::new();
        put_number(&mut message, 1, 300);
        put_number(&mut message, 2, 0);
        put_bytes(&mut message, 3, b"BMS bus");
        put_number(&mut message, 16, u64::MAX);
        assert_eq!(message[..3], [0x08, 0xAC, 0x02]);
        assert_eq!((number(&message, 1), number(&message, 2)), (300, 0));
        assert_eq!((text(&message, 3).as_str(), number(&message, 16)), ("BMS bus", u64::MAX));
    }

    #[test]
    fn fixed_and_repeated_fields_are_read() {
        let message = [0x0D, 1, 2, 0, 0, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x1A, 1, 7, 0x1A, 1, 8];
        assert_eq!((number(&message, 1), number(&message, 2)), (513, 1));
        assert_eq!(every_bytes(&message, 3).collect::<Vec<_>>(), [[7], [8]]);
        assert_eq!((every_number(&message, 1), every_number(&message, 3)), (vec![513], vec![7, 8]));
    }

    #[test]
    fn malformed_field_ends_the_message() {
        for rest in [&[0x0B][..], &[0x12, 5, 1], &[0xFF; 11], &[0x09, 1], &[0x12, 0xFF, 0xFF]] {
            let message = [&[0x08, 1][..], rest].concat();
            assert_eq!(Fields(&message).count(), 1, "{rest:?}");
        }
    }

    #[test]
    fn text_has_no_control_characters() {
        assert_eq!(text(b"\x0A\x04a\n\xFFb", 1), "a \u{FFFD}b");
    }

    proptest! {
        #[test]
        fn varint_is_read_as_written(number: u64, rest: Vec<u8>) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            let length = bytes.len();
            for end in 0..length {
                prop_assert_eq!(varint(&bytes[..end]), Ok(None));
            }
            bytes.extend(rest);
            prop_assert_eq!(varint(&bytes), Ok(Some((number, length))));
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            prop_assert!(Fields(&bytes).count() <= bytes.len());
            prop_assert!(every_number(&bytes, 1).len() <= bytes.len());
        }
    }
}
