//! Faults of serial ports.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use bms_reader::sim::faults;

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

/// Ends a fault of the simulator.
fn simulated(packs: &Packs, list: &str) -> Undo {
    packs.faults.set(faults::parse(list).expect("faults of the simulator"));
    let faults = packs.faults.clone();
    Box::new(move |_| faults.clear())
}

/// In per cent.
fn probability(random: &mut Random) -> f64 {
    (20 + random.below(81)) as f64 / 100.0
}

pub const FAULTS: &[Fault] = &[
    fault("port unplugged", |rig, random| {
        let number = pick(rig, random);
        rig.terminals[number].unplug();
        Box::new(move |rig| rig.terminals[number].plug_in())
    }),
    fault("port with a loose plug", |rig, random| {
        let number = pick(rig, random);
        for _ in 0..2 + random.below(3) {
            rig.terminals[number].unplug();
            thread::sleep(Duration::from_millis(random.below(300)));
            rig.terminals[number].plug_in();
            thread::sleep(Duration::from_millis(random.below(300)));
        }
        super::nothing()
    }),
    fault("port stuck", |rig, random| {
        let stuck = packs(rig, random).stuck;
        stuck.store(true, Ordering::Relaxed);
        Box::new(move |_| stuck.store(false, Ordering::Relaxed))
    }),
    fault("battery silent", |rig, random| simulated(&packs(rig, random), "silence")),
    fault("one battery of a bus silent", |rig, _| {
        let packs = &rig.terminals[0].packs;
        simulated(packs, &format!("silence@{}", packs.list[1].address))
    }),
    fault("noise on the line", |rig, random| {
        let list = format!("noise={0},echo={0}", probability(random));
        simulated(&packs(rig, random), &list)
    }),
    fault("replies cut off", |rig, random| {
        let list = format!("cut={0},checksum={0}", probability(random));
        simulated(&packs(rig, random), &list)
    }),
    fault("replies of another address", |rig, random| {
        let list = format!("foreign={}", probability(random));
        simulated(&packs(rig, random), &list)
    }),
    fault("requests rejected", |rig, random| {
        let packs = packs(rig, random);
        // A console rejects the log-in instead.
        simulated(&packs, if packs.is_console() { "login" } else { "rtn=04" })
    }),
    fault("bytes damaged", |rig, random| {
        let damage = packs(rig, random).damage;
        damage.store(1 + random.below(3), Ordering::Relaxed);
        Box::new(move |_| damage.store(0, Ordering::Relaxed))
    }),
    fault("two masters", |rig, random| {
        let rival = packs(rig, random).rival_ms;
        rival.store(1 + random.below(1500), Ordering::Relaxed);
        Box::new(move |_| rival.store(0, Ordering::Relaxed))
    }),
];
