//! Faults of serial ports.

use super::{Fault, Undo};
use crate::line::Packs;
use crate::plan::Random;
use crate::rig::Rig;

const fn fault(name: &'static str, apply: fn(&mut Rig, &mut Random) -> Undo) -> Fault {
    Fault { name, group: "port", apply }
}

fn pick(rig: &Rig, random: &mut Random) -> usize {
    random.below(rig.terminals.len() as u64) as usize
}

/// The packs of a random port.
fn packs(rig: &Rig, random: &mut Random) -> Packs {
    rig.terminals[pick(rig, random)].packs.clone()
}

pub const FAULTS: &[Fault] = &[fault("port unplugged", |rig, random| {
    let number = pick(rig, random);
    rig.terminals[number].unplug();
    Box::new(move |rig| rig.terminals[number].plug_in())
})];
