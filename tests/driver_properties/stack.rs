//! The stack of modules behind an SC0500: more than one pack, so the state of a pack does not
//! describe it.

use bms_reader::model::Reading;
use bms_reader::sim::Battery;
use bms_reader::sim::pylontech_sc0500::{self, StackState};

/// The console without a login counts modules from the far end, the one with a login from the
/// controller, and only one of them knows the cycles, only the other the charge.
pub(super) fn assert_reads_as(reading: &Reading, battery: &mut Battery, seconds: f64) {
    let stack = StackState::of(battery, pylontech_sc0500::MODULES, seconds);
    let pack = &reading.pack;
    assert_eq!((pack.voltage, pack.current), (Some(stack.voltage()), Some(stack.first().current)));
    assert_eq!(pack.remaining_energy.map(|it| it.0), Some(stack.energy() * 1000));
    let words = &pack.console_status;
    let words = [&words.base, &words.voltage, &words.current, &words.temperature];
    assert_eq!(words.map(|word| word.clone().unwrap()), stack.states());
    let logged_in = pack.cycles.is_some();
    let mut modules: Vec<usize> = (0..stack.modules.len()).collect();
    let mut cells: Vec<_> = stack.cells().collect();
    if logged_in {
        assert_eq!(pack.cycles, Some(stack.first().cycles));
        assert_eq!(pack.soc, None);
    } else {
        assert_eq!(pack.soc.map(|soc| soc.0 / 100), Some(stack.percent()));
        assert_eq!(pack.remaining.map(|it| it.0), Some(stack.first().remaining.0));
        modules.reverse();
        cells = cells.chunks(15).rev().flatten().copied().collect();
    }
    let read = reading.cells.iter().map(|cell| (cell.voltage.unwrap(), cell.temperature.unwrap()));
    assert_eq!(read.collect::<Vec<_>>(), cells);
    let serials = modules.into_iter().map(|module| Some(StackState::serial(module)));
    assert!(reading.modules.iter().map(|module| module.serial.clone()).eq(serials));
    assert!(reading.modules.iter().zip(0..).all(|(it, n)| it.cells == (15 * n..15 * (n + 1))));
    assert_eq!(reading.identity.serial.as_deref(), Some(pylontech_sc0500::BARCODE));
    assert_eq!(pack.error_code, Some(stack.error_code()));
    assert!(!reading.alarms.is_empty() && !reading.alarms.any_active());
}
