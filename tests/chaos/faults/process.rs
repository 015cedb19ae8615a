//! The program or its machine stops for a while, and its clocks jump.

use std::thread;
use std::time::{Duration, Instant};

use bms_reader::sim::faults::{Fault as SimFault, Rule};
use nix::sys::signal::Signal;

use super::{Fault, Undo};
use crate::plan::Random;
use crate::rig::Rig;

const fn fault(name: &'static str, apply: fn(&mut Rig, &mut Random) -> Undo) -> Fault {
    Fault { name, group: "process", apply }
}

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

fn jump(rig: &mut Rig, seconds: i64) -> Undo {
    rig.clock.jump(seconds, 0);
    Box::new(move |rig| rig.clock.jump(-seconds, 0))
}

/// Nothing runs, and the clocks other than the monotonic one have moved on by `seconds` afterwards.
fn suspend_machine(rig: &mut Rig, seconds: u32) -> Undo {
    rig.suspend_all(true);
    Box::new(move |rig| {
        rig.clock.jump(i64::from(seconds), seconds);
        // Every value is old now.
        rig.observer.forget_reads();
        rig.suspend_all(false);
    })
}

pub const FAULTS: &[Fault] = &[
    fault("program suspended", |rig, _| {
        rig.program.signal(Signal::SIGSTOP);
        Box::new(|rig| rig.program.signal(Signal::SIGCONT))
    }),
    fault("program suspended, batteries silent afterwards", |rig, random| {
        rig.program.signal(Signal::SIGSTOP);
        for packs in rig.packs() {
            packs.faults.add(Rule::always(SimFault::Silence));
        }
        let end = Instant::now() + Duration::from_secs(3 + random.below(45));
        let program = rig.program.pid();
        let undo = super::repeat(move || {
            if Instant::now() > end {
                crate::program::signal(program, Signal::SIGCONT);
            }
            thread::sleep(Duration::from_millis(100));
        });
        Box::new(|rig| {
            undo(rig);
            rig.packs().for_each(|packs| packs.faults.clear());
            rig.program.signal(Signal::SIGCONT);
        })
    }),
    fault("machine suspended", |rig, _| suspend_machine(rig, 0)),
    fault("machine suspended for hours", |rig, random| {
        suspend_machine(rig, 60 + random.below(40_000) as u32)
    }),
    fault("clock an hour ahead", |rig, _| jump(rig, HOUR)),
    fault("clock an hour back", |rig, _| jump(rig, -HOUR)),
    fault("clock years ahead", |rig, _| jump(rig, 10 * YEAR)),
    fault("clock years back", |rig, _| jump(rig, -10 * YEAR)),
];
