//! Faults of a gateway from TCP to a serial line.

use std::thread;
use std::time::Duration;

use bms_reader::sim::{self, faults::Rule};

use super::{Fault, Undo};
use crate::plan::Random;
use crate::rig::Rig;

const fn fault(name: &'static str, apply: fn(&mut Rig, &mut Random) -> Undo) -> Fault {
    Fault { name, group: "gateway", apply }
}

pub const FAULTS: &[Fault] = &[
    fault("gateway half-open", |rig, _| {
        rig.gateway.1.cut();
        super::nothing()
    }),
    fault("gateway refuses", |rig, _| {
        rig.gateway.1.refuse(true);
        rig.gateway.1.drop_connections();
        Box::new(|rig| rig.gateway.1.refuse(false))
    }),
    fault("gateway stalled", |rig, _| {
        rig.gateway.1.stall(true);
        Box::new(|rig| rig.gateway.1.stall(false))
    }),
    fault("gateway delayed", |rig, random| {
        rig.gateway.1.delay(Duration::from_millis(100 + random.below(3000)));
        Box::new(|rig| rig.gateway.1.delay(Duration::ZERO))
    }),
    fault("gateway slow", |rig, random| {
        rig.gateway.1.throttle(50 + random.below(1000));
        Box::new(|rig| rig.gateway.1.throttle(0))
    }),
    fault("gateway floods", |rig, random| {
        rig.gateway.1.flood(1 + random.below(20_000));
        Box::new(|rig| rig.gateway.1.flood(0))
    }),
    fault("gateway drops connections", |rig, random| {
        let (gateway, pause) = (rig.gateway.1.clone(), random.below(900));
        super::repeat(move || {
            gateway.drop_connections();
            thread::sleep(Duration::from_millis(pause + 50));
        })
    }),
    fault("battery behind the gateway silent", |rig, _| {
        rig.gateway.0.faults.add(Rule::always(sim::Fault::Silence));
        Box::new(|rig| rig.gateway.0.faults.clear())
    }),
];
