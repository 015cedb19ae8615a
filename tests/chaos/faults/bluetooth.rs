//! Faults of Bluetooth: of the adapter, of bluetoothd, and of the radio link.

use serde_json::{Value, json};

use super::{Fault, Undo, nothing};
use crate::plan::Random;
use crate::rig::Rig;

const fn fault(name: &'static str, apply: fn(&mut Rig, &mut Random) -> Undo) -> Fault {
    Fault { name, group: "bluetooth", apply }
}

/// Sends these commands to the fake bluetoothd, now and at the end.
fn commands(rig: &Rig, first: Value, last: Value) -> Undo {
    let Some(radio) = rig.radio.clone() else { return nothing() };
    radio.send(&first);
    Box::new(move |_| radio.send(&last))
}

/// Calls of this method fail in this way until the end.
fn calls(rig: &Rig, method: &str, mut failure: Value) -> Undo {
    failure["cmd"] = json!("fault");
    failure["method"] = json!(method);
    failure["times"] = json!(1_000_000);
    commands(rig, failure, json!({"cmd": "clear_faults"}))
}

/// Loses every n-th notification.
fn lose(rig: &Rig, every: u64) -> Undo {
    let Some(radio) = rig.radio.clone() else { return nothing() };
    let command = |every: u64| json!({"cmd": "spec", "set": {"lose": every}});
    radio.send_each(&command(every));
    Box::new(move |_| radio.send_each(&command(0)))
}

pub const FAULTS: &[Fault] = &[
    fault("adapter off", |rig, _| {
        commands(rig, json!({"cmd": "power", "on": false}), json!({"cmd": "power", "on": true}))
    }),
    fault("adapter pulled", |rig, _| {
        let switch = |on: bool| json!({"cmd": "adapter", "on": on});
        commands(rig, switch(false), switch(true))
    }),
    fault("bluetoothd killed", |rig, _| {
        let Some(radio) = rig.radio.clone() else { return nothing() };
        radio.kill_bluetoothd();
        Box::new(move |_| radio.restart())
    }),
    fault("bluetoothd restarted", |rig, random| {
        let down = 100 + random.below(2000);
        let restart = json!({"cmd": "restart", "down_ms": down, "crash": random.below(2) == 0});
        if let Some(radio) = &rig.radio {
            radio.send(&restart);
        }
        nothing()
    }),
    fault("D-Bus killed", |rig, _| {
        let Some(radio) = rig.radio.clone() else { return nothing() };
        radio.kill_bus();
        Box::new(move |_| radio.restart())
    }),
    fault("batteries out of range", |rig, _| {
        let visible = |on: bool| json!({"cmd": "visible", "on": on});
        let undo = commands(rig, visible(false), visible(true));
        if let Some(radio) = &rig.radio {
            radio.send(&json!({"cmd": "drop"}));
        }
        undo
    }),
    fault("Bluetooth connections lost", |rig, _| {
        if let Some(radio) = &rig.radio {
            radio.send(&json!({"cmd": "drop"}));
        }
        nothing()
    }),
    fault("Bluetooth connections fail", |rig, _| {
        let message = "le-connection-abort-by-local";
        calls(rig, "Connect", json!({"error": "Failed", "message": message}))
    }),
    fault("Bluetooth scans fail", |rig, _| {
        let failure = json!({"error": "Failed", "message": "Operation failed"});
        let undo = calls(rig, "StartDiscovery", failure);
        if let Some(radio) = &rig.radio {
            radio.send_each(&json!({"cmd": "remove_device"}));
        }
        undo
    }),
    fault("Bluetooth writes hang", |rig, _| calls(rig, "WriteValue", json!({"hang": true}))),
    fault("some notifications lost", |rig, random| lose(rig, 2 + random.below(40))),
    fault("all notifications lost", |rig, _| lose(rig, 1)),
];
