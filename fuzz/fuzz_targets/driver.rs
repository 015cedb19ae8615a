//! Any driver of the registry, with a battery that answers whatever the fuzzer likes.
#![no_main]

use std::sync::LazyLock;

use bms_reader::protocol::driver::{Medium, Side};
use bms_reader::protocol::{self, CycleKind, Driver, DriverInfo, Options, Step};

/// More calls of `step` than any cycle may need.
const STEPS: usize = 200;

/// Named by `FUZZ_DRIVER`, so that each driver gets its own time and corpus.
static DRIVER: LazyLock<&'static DriverInfo> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_DRIVER").expect("FUZZ_DRIVER names the driver");
    protocol::find(&name).expect("FUZZ_DRIVER is the name of a driver")
});

// Three bytes configure the battery; the rest are its answers, which `fuzz/seeds` writes likewise.
// Two cycles, so that what a session remembers is used too.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let [flags, address, chunk, answers @ ..] = input else { return };
    let mut driver = DRIVER.driver(&options(*flags, *address));
    // FF occurs in no text protocol and rarely in most others. Where it is common, the whole input
    // answers each request.
    let whole = flags & 0x10 != 0;
    let mut split = answers.split(|&byte| byte == 0xFF);
    let mut next = || if whole { Some(answers) } else { split.next() };
    for _ in 0..2 {
        driver.start(CycleKind::Read);
        cycle(driver.as_mut(), usize::from(*chunk).max(1), &mut next);
    }
    driver.redact(Side::Battery, &mut answers.to_vec());
    driver.redact(Side::Reader, &mut answers.to_vec());
});

fn options(flags: u8, address: u8) -> Options {
    let dialect = usize::from(flags & 0x03);
    let variant = dialect.checked_sub(1).and_then(|index| DRIVER.variants.get(index));
    let ble = DRIVER.gatt.is_some() && (flags & 0x04 != 0 || DRIVER.serial.is_none());
    Options {
        address,
        medium: if ble { Medium::Ble } else { Medium::Serial },
        variant: variant.map(|name| (*name).to_owned()),
        barcode: (flags & 0x08 != 0).then(|| "PPTAP00000000050".to_owned()),
        ..Options::default()
    }
}

fn cycle<'a>(driver: &mut dyn Driver, chunk: usize, next: &mut impl FnMut() -> Option<&'a [u8]>) {
    let mut answer = None;
    for _ in 0..STEPS {
        let step = driver.step();
        assert_eq!(step, driver.step(), "step changes something");
        match step {
            Step::Pause(_) => driver.advance(),
            Step::Send(request) => {
                assert!(!request.is_empty(), "an empty request");
                driver.advance();
                answer = next();
            }
            Step::Await(_) => match answer.take() {
                Some(bytes) => bytes.chunks(chunk).for_each(|chunk| driver.receive(chunk)),
                None => driver.handle_timeout(),
            },
            Step::Done(_) | Step::Failed(_) => return,
        }
    }
    panic!("no end after {STEPS} steps");
}
