//! What the two dialects with registers have in common.

use super::values::{current, degrees, soc};
use crate::model::{Millivolts, Probe, Reading, SensorLocation};
use crate::protocol::values;
use crate::protocol::{DecodeError, Reader, text};

/// Sensors among the cells for which there are registers.
const MAX_SENSORS: u16 = 8;

/// The content of consecutive registers.
#[derive(Debug)]
pub(super) struct Registers {
    first: u16,
    words: Vec<u16>,
}

impl Registers {
    pub(super) fn read(
        first: u16,
        count: u8,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        Ok(Registers { first, words: reader.u16s(count.into())? })
    }

    /// The content of a register; 0 where it was not read.
    pub(super) fn at(&self, register: u16) -> u16 {
        self.slice(register, 1).first().copied().unwrap_or_default()
    }

    fn slice(&self, first: u16, count: u16) -> &[u16] {
        let start = usize::from(first.saturating_sub(self.first));
        self.words.get(start..start + usize::from(count)).unwrap_or_default()
    }

    /// Bytes of which the low one of a register comes first. No recording of the failures has a bit
    /// set that would prove this order.
    pub(super) fn low_bytes_first<const N: usize>(&self, first: u16) -> [u8; N] {
        let mut bytes = [0; N];
        let registers = self.slice(first, N.div_ceil(2) as u16);
        let all = registers.iter().flat_map(|register| register.to_le_bytes());
        bytes.iter_mut().zip(all).for_each(|(byte, value)| *byte = value);
        bytes
    }

    fn text(&self, first: u16, count: u16) -> Option<String> {
        let registers = self.slice(first, count);
        text(&registers.iter().flat_map(|register| register.to_be_bytes()).collect::<Vec<u8>>())
    }

    /// Software, hardware and serial number, one after the other in this many registers each.
    pub(super) fn note_names(&self, [software, hardware, serial]: [u16; 3], into: &mut Reading) {
        let names = &mut into.identity;
        names.software = self.text(self.first, software);
        names.hardware = self.text(self.first + software, hardware);
        names.serial = self.text(self.first + software + hardware, serial);
        into.received.device_info = true;
    }

    /// Cells from the first register on, then sensors, voltage, current and state of charge; the
    /// number of cells and that of sensors are in `counts` and the register after it.
    pub(super) fn note_live(
        &self,
        max_cells: u16,
        counts: u16,
        into: &mut Reading,
    ) -> Result<(), DecodeError> {
        let cells = values::count("cell count", self.at(counts), 1..=max_cells.into())?;
        let sensors = values::count("sensor count", self.at(counts + 1), 0..=MAX_SENSORS.into())?;
        let voltage = max_cells + MAX_SENSORS;
        let pack = &mut into.pack;
        pack.voltage = Some(Millivolts(i32::from(self.at(voltage)) * 100));
        pack.current = Some(current(i32::from(self.at(voltage + 1)) - 30_000)?);
        pack.soc = Some(soc(self.at(voltage + 2))?);
        into.cells = values::cells(self.slice(0, cells as u16));
        let temperatures = self.slice(max_cells, sensors as u16).iter();
        let locations = std::iter::repeat(SensorLocation::Cells);
        into.probes = values::probes(locations, temperatures.map(|&raw| degrees(raw)));
        into.received.cell_info = true;
        Ok(())
    }
}

/// The temperature of the transistors.
pub(super) fn note_mosfet(raw: u16, into: &mut Reading) {
    into.probes.push(Probe { location: SensorLocation::Mosfet, value: degrees(raw) });
}

/// Which cells are balancing, unless a bit stands for a cell that does not exist: older tables have
/// a mileage in these registers.
pub(super) fn note_balancing(mask: u64, into: &mut Reading) {
    if mask & !values::fitted(&into.cells, 64) == 0 {
        values::set_balancing(&mut into.cells, mask);
    }
}
