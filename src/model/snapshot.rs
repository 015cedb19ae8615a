//! One good read of one battery.

use super::derived::Derived;
use super::profile::DeviceId;
use super::reading::Reading;
use super::units::Millis;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub device: DeviceId,
    /// Counts the good reads of this battery, from 1.
    pub sequence: u64,
    /// When the read ended.
    pub taken: Millis,
    /// Duration of the read in milliseconds.
    pub took_ms: u64,
    pub reading: Reading,
    pub derived: Derived,
}

impl Snapshot {
    /// Numbers (from 1) of the cells that are being balanced; `None` when the battery does not
    /// report it.
    pub fn balancing_cells(&self) -> Option<Vec<usize>> {
        let cells = &self.reading.cells;
        cells.iter().any(|cell| cell.balancing.is_some()).then(|| {
            let numbers = (1..).zip(cells).filter(|(_, cell)| cell.balancing == Some(true));
            numbers.map(|(number, _)| number).collect()
        })
    }

    /// Some boards report only that they balance, and not which cells.
    pub fn is_balancing(&self) -> Option<bool> {
        let known = self.reading.cells.iter().filter_map(|cell| cell.balancing);
        let cells = known.reduce(|one, other| one || other);
        cells.or_else(|| self.reading.states.get("balancing").copied())
    }
}
