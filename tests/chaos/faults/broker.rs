//! Faults of the broker and of the connection to it.

use std::fs;
use std::thread;
use std::time::Duration;

use rumqttc::{Client, MqttOptions};

use super::{Fault, Undo};
use crate::plan::Random;
use crate::rig::{CLIENT_ID, Rig};

const fn fault(name: &'static str, apply: fn(&mut Rig, &mut Random) -> Undo) -> Fault {
    Fault { name, group: "broker", apply }
}

pub const FAULTS: &[Fault] = &[
    fault("broker stopped", |rig, _| {
        rig.broker.stop();
        Box::new(|rig| rig.broker.restart())
    }),
    fault("broker emptied", |rig, _| {
        rig.broker.stop();
        let _ = fs::remove_file(rig.broker.folder().join("mosquitto.db"));
        rig.broker.restart();
        super::nothing()
    }),
    fault("broker frozen", |rig, _| {
        rig.broker.freeze();
        Box::new(|rig| rig.broker.resume())
    }),
    fault("broker with a full disk", |rig, _| {
        // The broker writes a new file and renames it. It cannot replace a folder.
        let place = rig.broker.folder().join("mosquitto.db.new");
        let _ = fs::create_dir_all(place.join("full"));
        Box::new(move |_| drop(fs::remove_dir_all(place)))
    }),
    fault("broker kills every session", |rig, random| {
        // An administrator disconnects clients, or the broker restarts again and again.
        let (link, pause) = (rig.link.clone(), 200 + random.below(3000));
        super::repeat(move || {
            link.drop_connections();
            thread::sleep(Duration::from_millis(pause));
        })
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
    fault("connection to the broker half-open", |rig, _| {
        rig.link.cut();
        super::nothing()
    }),
    fault("connection to the broker stalled", |rig, _| {
        rig.link.stall(true);
        Box::new(|rig| rig.link.stall(false))
    }),
    fault("connection to the broker slow", |rig, random| {
        rig.link.throttle(3_000 + random.below(30_000));
        Box::new(|rig| rig.link.throttle(0))
    }),
    fault("connection to the broker delayed", |rig, random| {
        rig.link.delay(Duration::from_millis(50 + random.below(1500)));
        Box::new(|rig| rig.link.delay(Duration::ZERO))
    }),
    fault("junk from the broker", |rig, random| {
        rig.link.flood(1 + random.below(5_000));
        Box::new(|rig| rig.link.flood(0))
    }),
    fault("another client with the same id", |rig, _| {
        let port = rig.broker.port();
        super::repeat(move || {
            let mut options = MqttOptions::new(CLIENT_ID, "127.0.0.1", port);
            options.set_keep_alive(Duration::from_secs(5));
            let (_client, mut connection) = Client::new(options, 1);
            let _ = connection.recv_timeout(Duration::from_millis(500));
            thread::sleep(Duration::from_millis(400));
        })
    }),
];
