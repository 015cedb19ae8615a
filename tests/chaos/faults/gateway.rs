//! Faults of a gateway from TCP to a serial line.

use super::{Fault, Undo};
use crate::plan::Random;
use crate::rig::Rig;

const fn fault(name: &'static str, apply: fn(&mut Rig, &mut Random) -> Undo) -> Fault {
    Fault { name, group: "gateway", apply }
}

pub const FAULTS: &[Fault] = &[fault("half-open connection to the gateway", |rig, _| {
    rig.gateway.1.cut();
    super::nothing()
})];
