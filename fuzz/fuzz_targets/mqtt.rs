//! What a broker, or another client of it, sends: commands and retained messages.
#![no_main]

use bms_reader::model::derive::derive;
use bms_reader::model::{
    Alarm, Cell, DeviceId, DeviceState, LinkState, Millis, Millivolts, Profile, Reading, Snapshot,
};
use bms_reader::sink::mqtt::fuzzing::{Packet, exchange};
use bms_reader_fuzz::Input;

/// The battery is published, too, if all of these bits are set.
const PUBLISH: u8 = 0x1C;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let flags = input.byte();
    let mut packets = Vec::new();
    while !input.is_empty() {
        let retained = input.byte() & 1 != 0;
        let topic = String::from_utf8_lossy(input.text()).into_owned();
        packets.push(Packet { topic, payload: input.chunk().unwrap_or_default(), retained });
    }
    // Publishing takes much longer than reading packets.
    let publish = flags & PUBLISH == PUBLISH;
    exchange(&battery(flags & 2 != 0), flags & 1 != 0, publish, &packets);
});

/// A battery that was read, or one that never answered.
fn battery(read: bool) -> DeviceState {
    let id = DeviceId::new("rack").expect("an id");
    let mut state = DeviceState::new(Profile::new(id.clone(), "jk", "JK"));
    if read {
        let cells = vec![Cell { voltage: Some(Millivolts(3300)), ..Cell::default() }; 4];
        let mut reading = Reading { cells, ..Reading::default() };
        reading.alarms.note(Alarm::FuseBlown, true);
        let derived = derive(&reading);
        let (taken, took_ms) = (Millis(1), 1);
        let snapshot = Snapshot { device: id, sequence: 1, taken, took_ms, reading, derived };
        state.snapshot = Some(snapshot.into());
        state.link = LinkState::Online;
    }
    state
}
