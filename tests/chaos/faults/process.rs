//! The program or its machine stops for a while, and its clocks jump.

use std::thread;
use std::time::{Duration, Instant};

use bms_reader::sim::faults::{Fault as SimFault, Rule};
use nix::sys::signal::Signal;

use super::{Fault, Undo};
use crate::plan::Random;
use crate::program::signal;
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

/// Longer than any value may live.
fn long(random: &mut Random) -> u32 {
    120 + random.below(40_000) as u32
}

/// All clocks but the monotonic one move on, as in a suspend.
fn sleep_through(rig: &Rig, seconds: u32) {
    rig.clock.jump(i64::from(seconds), seconds);
    rig.observer.age_values();
}

fn silence_batteries(rig: &Rig, silent: bool) {
    for packs in rig.packs() {
        packs.faults.clear();
        if silent {
            packs.faults.add(Rule::always(SimFault::Silence));
        }
    }
}

pub const FAULTS: &[Fault] = &[
    fault("program suspended", |rig, _| {
        rig.program.signal(Signal::SIGSTOP);
        Box::new(|rig| rig.program.signal(Signal::SIGCONT))
    }),
    fault("program suspended, batteries silent afterwards", |rig, random| {
        rig.program.signal(Signal::SIGSTOP);
        silence_batteries(rig, true);
        let end = Instant::now() + Duration::from_secs(3 + random.below(45));
        let program = rig.program.pid();
        let undo = super::repeat(move || {
            if Instant::now() > end {
                signal(program, Signal::SIGCONT);
            }
            thread::sleep(Duration::from_millis(100));
        });
        Box::new(|rig| {
            undo(rig);
            silence_batteries(rig, false);
            rig.program.signal(Signal::SIGCONT);
        })
    }),
    fault("program killed and started again", |rig, _| {
        rig.observer.expect_kill();
        rig.program.restart();
        rig.observer.expect_start();
        super::nothing()
    }),
    fault("machine suspended", |rig, _| {
        rig.suspend_all(true);
        Box::new(|rig| rig.suspend_all(false))
    }),
    fault("machine suspended for hours", |rig, random| {
        rig.suspend_all(true);
        let seconds = long(random);
        Box::new(move |rig| {
            sleep_through(rig, seconds);
            rig.suspend_all(false);
        })
    }),
    fault("machine suspended for hours, batteries silent afterwards", |rig, random| {
        rig.suspend_all(true);
        silence_batteries(rig, true);
        sleep_through(rig, long(random));
        rig.suspend_all(false);
        Box::new(|rig| silence_batteries(rig, false))
    }),
    fault("clock an hour ahead", |rig, _| jump(rig, HOUR)),
    fault("clock an hour back", |rig, _| jump(rig, -HOUR)),
    fault("clock years ahead", |rig, _| jump(rig, 10 * YEAR)),
    fault("clock years back", |rig, _| jump(rig, -10 * YEAR)),
];
