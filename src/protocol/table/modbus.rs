//! Reads of Modbus registers, as the requests and replies of any other profile.

use super::key::Key;
use super::scalar::{Bytes, Token};
use super::schema::{Check, CheckKind, Field, Length, Order, Profile, Reply};

/// Writes `send` and the form of the replies for every `read`, and counts their places in bytes.
pub fn expand(profile: &mut Profile) {
    let Some(modbus) = &profile.modbus else { return };
    let kind = CheckKind::Crc16Modbus;
    let check = Some(Check { kind, order: Some(Order::Little), ..Check::default() });
    let length = Some(Length { at: 2, add: 5, ..Length::default() });
    for request in &mut profile.requests {
        let Some((first, count)) = request.read else { continue };
        let function = request.function.unwrap_or(modbus.function);
        let are_bits = function < 3;
        let data = if are_bits { count.div_ceil(8) } else { count.saturating_mul(2) };
        let frame = |function: u8, rest: &[Token]| {
            Some(Bytes([&[Token::Unit, Token::Byte(function)], rest].concat()))
        };
        let numbers = [first, count].into_iter().flat_map(u16::to_be_bytes).map(Token::Byte);
        request.send = frame(function, &numbers.chain([Token::Check]).collect::<Vec<_>>());
        request.name.get_or_insert_with(|| format!("{count} registers from {first:04X}"));
        for reply in &mut request.replies {
            let size = u8::try_from(data).map_or(Token::Any, Token::Byte);
            (reply.head, reply.tail) = (frame(function, &[size]), None);
            (reply.length, reply.check) = (length, check.clone());
            let registers = reply.fields.iter_mut().filter(|it| it.after.is_none() && !are_bits);
            registers.for_each(|field| field.at = 3 + 2 * (field.at - i64::from(first)));
        }
        request.replies.extend((!request.replies.is_empty()).then(|| Reply {
            head: frame(function | 0x80, &[]),
            size: Some(5),
            check: check.clone(),
            optional: true,
            fields: vec![Field { key: Key::Exception, at: 2, first: 1, ..Field::default() }],
            ..Reply::default()
        }));
    }
}
