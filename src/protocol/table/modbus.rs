//! Reads of Modbus registers, as the requests and replies of any other profile.

use super::key::Key;
use super::scalar::{Bytes, Token};
use super::schema::{Check, CheckKind, Field, Kind, Length, Order, Profile, Registers, Reply};

/// Writes `send` and the form of the replies for every `read`.
pub fn expand(profile: &mut Profile) {
    let Some(modbus) = &profile.modbus else { return };
    let at = modbus.prefix.0.len();
    let check = Check {
        kind: CheckKind::Crc16Modbus,
        order: Some(Order::Little),
        from: at,
        digits: false,
        accept: None,
    };
    let length = Length { at: at + 2, kind: Kind::U8, order: None, add: at as i64 + 5 };
    for request in &mut profile.requests {
        let Some((first, count)) = request.read else { continue };
        let function = request.function.unwrap_or(modbus.function);
        let start = |function: u8| {
            let mut bytes = modbus.prefix.clone();
            bytes.0.extend([Token::Unit, Token::Byte(function)]);
            bytes
        };
        let are_bits = function < 3;
        let data = if are_bits { count.div_ceil(8) } else { count.saturating_mul(2) };
        let mut send = start(function);
        let numbers = [first, count].into_iter().flat_map(u16::to_be_bytes);
        send.0.extend(numbers.map(Token::Byte));
        send.0.push(Token::Check);
        request.send = Some(send);
        request.name.get_or_insert_with(|| format!("{count} registers from {first:04X}"));
        let registers = Registers { first: first.into(), at: at as i64 + 3 };
        request.registers = (!are_bits).then_some(registers);
        for reply in &mut request.replies {
            let mut head = start(function);
            if !modbus.longer {
                head.0.push(u8::try_from(data).map_or(Token::Any, Token::Byte));
            }
            (reply.head, reply.tail) = (Some(head), Some(Bytes::default()));
            (reply.length, reply.check) = (Some(length), Some(check.clone()));
        }
        request.replies.extend((!request.replies.is_empty()).then(|| Reply {
            head: Some(start(function | 0x80)),
            size: Some(at + 5),
            tail: Some(Bytes::default()),
            check: Some(check.clone()),
            optional: true,
            fields: vec![Field { key: Key::Exception, at: at as i64 + 2, ..Field::default() }],
            ..Reply::default()
        }));
    }
}
