//! The requests to Daly boards. What sets limits, the clock or the state of charge, restarts the
//! board or reads its password is not among them.

use super::registers::Registers;
use crate::model::Reading;
use crate::protocol::{DecodeError, Need};

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
    Switch,
}

impl Query {
    pub(super) const fn registers(
        title: &'static str,
        need: Need,
        (first, count): (u16, u8),
        decode: fn(&Registers, &mut Reading) -> Result<(), DecodeError>,
    ) -> Self {
        Query { title, need, request: Request::Registers { first, count, decode } }
    }

    pub(super) const fn command(title: &'static str, need: Need, command: u8) -> Self {
        Query { title, need, request: Request::Command(command) }
    }
}

impl PartialEq for Query {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

/// The only request that writes.
pub(super) static SET_SWITCH: Query =
    Query { title: "Switch", need: Need::Required, request: Request::Switch };
