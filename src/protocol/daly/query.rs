//! The requests to Daly boards. What sets limits, the clock or the state of charge, restarts the
//! board or reads its password is not among them.

use super::registers::Registers;
use crate::model::Reading;
use crate::protocol::DecodeError;
use crate::protocol::query::Need;

/// A request.
#[derive(Debug)]
pub(super) struct Query {
    pub title: &'static str,
    pub need: Need,
    pub request: Request,
}

#[derive(Debug)]
pub(super) enum Request {
    /// Reads registers, from the first one on.
    Registers {
        first: u16,
        count: u8,
        decode: fn(&Registers, &mut Reading) -> Result<(), DecodeError>,
    },
    /// Reads by a command of A5.
    Command(u8),
    /// Sets a switch.
    Switch,
}

impl PartialEq for Query {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

/// The only request that writes.
pub(super) static SET_SWITCH: Query =
    Query { title: "Switch", need: Need::Required, request: Request::Switch };
