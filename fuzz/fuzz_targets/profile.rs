//! Profile files: what loads must neither panic nor loop, as a driver of junk and as a simulator.
#![no_main]

use bms_reader::protocol::driver::{Medium, Options};
use bms_reader::protocol::info::Source;
use bms_reader::protocol::table::load;
use bms_reader::protocol::{CycleKind, profiles};
use bms_reader::sim::table::TablePack;
use bms_reader::sim::{Responder, SimPack};
use bms_reader_fuzz::{Input, cycle};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let Ok(text) = std::str::from_utf8(input.text()) else { return };
    let profile = match load::parse(text) {
        Ok(profile) => profile,
        Err(error) => {
            assert!(error.contains("line "), "no line in the error: {error}");
            return;
        }
    };
    let info = profiles::info(profile);
    let Source::Profile(profile) = info.source else { unreachable!("a profile is no code") };
    let media = [(Medium::Serial, info.serial.is_some()), (Medium::Ble, info.gatt.is_some())];
    for (medium, _) in media.into_iter().filter(|(_, exists)| *exists) {
        let mut driver = info.driver(&Options { medium, ..Options::default() });
        let mut answers = input;
        cycle(driver.as_mut(), CycleKind::Read, 64, |_| answers.chunk().map(<[u8]>::to_vec));
        let mut pack = TablePack::new(profile, medium, SimPack::fixed(1));
        cycle(driver.as_mut(), CycleKind::Read, 64, |request| pack.respond(request, 0.0));
        pack.unsolicited(1.0);
    }
});
