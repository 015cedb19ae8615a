//! Faults of the broker and of the connection to it.

use std::thread;
use std::time::Duration;

use super::{Fault, Undo};
use crate::plan::Random;
use crate::rig::Rig;

const fn fault(name: &'static str, apply: fn(&mut Rig, &mut Random) -> Undo) -> Fault {
    Fault { name, group: "broker", apply }
}

pub const FAULTS: &[Fault] = &[
    fault("broker stopped", |rig, _| {
        rig.broker.stop();
        Box::new(|rig| rig.broker.restart())
    }),
    fault("broker frozen", |rig, _| {
        rig.broker.freeze();
        Box::new(|rig| rig.broker.resume())
    }),
    fault("connections refused", |rig, _| {
        rig.link.refuse(true);
        rig.link.drop_connections();
        Box::new(|rig| rig.link.refuse(false))
    }),
    fault("every n-th connection dropped", |rig, random| {
        rig.link.drop_every(2 + random.below(3) as u32);
        let link = rig.link.clone();
        let undo = super::repeat(move || {
            link.drop_connections();
            thread::sleep(Duration::from_secs(1));
        });
        Box::new(|rig| {
            undo(rig);
            rig.link.drop_every(0);
        })
    }),
    fault("half-open connection to the broker", |rig, _| {
        rig.link.cut();
        super::nothing()
    }),
];
