//! A Daren pack as the reader meets it on RS485: the other side of `protocol::daren`.
//!
//! It has an encoder of its own on purpose: a mistake in a shared one would hide itself. Layouts:
//! the vendor's protocol document (BMS-BASEN, DR-1363) and captured frames, which the tests below
//! compare with. No error answer of a real pack is known; the codes follow the document.

mod info;

use super::ascii_frame::{self, Marks, code};
use super::battery::Battery;
use super::faults::Faults;
use super::state::PackState;
use super::{Responder, SimBrand};

const MARKS: Marks = Marks { version: 0x22, cid1: 0x4A };

/// Daren, for the registry.
pub static BRAND: SimBrand = SimBrand {
    name: "daren",
    addresses: 0..=15,
    new: |address, battery, faults| Box::new(DarenPack::new(address, battery).with_faults(faults)),
    request_end: ascii_frame::request_end,
    stream: None,
    notification: None,
    corrupt: |corrupt, answer| MARKS.corrupt(corrupt, answer),
};

/// What a pack says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nameplate {
    /// Who made it; at most 20 characters.
    pub manufacturer: String,
    /// Hardware type; at most 10 characters, as the two that follow.
    pub hardware: String,
    /// Product code.
    pub product: String,
    /// Project code.
    pub project: String,
    /// Product id; at most 30 characters.
    pub product_id: String,
    /// Serial number of the pack; at most 20 characters, so that it fits everywhere.
    pub serial: String,
    /// Serial number of its electronics; at most 20 characters.
    pub bms_serial: String,
    /// Firmware version.
    pub software: [u8; 3],
    /// Version of the boot loader.
    pub boot: [u8; 2],
    /// Year since 2000, month, day.
    pub born: [u8; 3],
}

impl Nameplate {
    fn of(address: u8) -> Self {
        Nameplate {
            manufacturer: "SIMULATED".into(),
            hardware: "T1_G".into(),
            product: "SIM48100".into(),
            project: "16S100A".into(),
            product_id: "SIM-JC48100".into(),
            serial: format!("SIMPACK{address:04}"),
            bms_serial: format!("SIMBMS{address:04}"),
            software: [1, 0, 2],
            boot: [1, 1],
            born: [25, 6, 13],
        }
    }
}

/// Which group byte a pack accepts in service 42: the documents disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The address or 01.
    Either,
    /// Only 01, as the vendor's document says.
    One,
    /// Only the address, as the vendor's program sends.
    Address,
}

/// One pack.
#[derive(Debug)]
pub struct DarenPack {
    address: u8,
    battery: Battery,
    nameplate: Nameplate,
    faults: Faults,
    group: Group,
}

impl DarenPack {
    /// A pack with this battery inside.
    pub fn new(address: u8, battery: Battery) -> Self {
        DarenPack {
            address,
            battery,
            nameplate: Nameplate::of(address),
            faults: Faults::default(),
            group: Group::Either,
        }
    }

    /// A pack that never changes: [`PackState::at_rest`].
    pub fn fixed(address: u8) -> Self {
        DarenPack::new(address, Battery::fixed(PackState::at_rest()))
    }

    /// Lets the alarms and cell counts among these faults come true.
    pub fn with_faults(self, faults: Faults) -> Self {
        DarenPack { faults, ..self }
    }

    /// Accepts only this group byte.
    pub fn accepting(self, group: Group) -> Self {
        DarenPack { group, ..self }
    }

    /// What the pack says about itself.
    pub fn nameplate(&self) -> &Nameplate {
        &self.nameplate
    }

    /// What the pack reports at this time.
    pub fn state(&mut self, seconds: f64) -> PackState {
        self.battery.state(seconds).with_conditions(&self.faults.conditions(self.address))
    }

    fn answer(&mut self, service: u8, info: &[u8], seconds: f64) -> Result<Vec<u8>, u8> {
        match (service, info) {
            (0x42, [group]) if self.accepts(*group) => Ok(info::live_values(&self.state(seconds))),
            (0x47, [_]) => Ok(info::system_parameters(&self.state(seconds), &self.nameplate)),
            (0x4F, []) => Ok(vec![0xC8]),
            (0x51, []) => Ok(info::manufacturer(&self.nameplate)),
            (0x83, [_, 1]) => Ok(info::counters()),
            (0xB0, [group, 1, module, 0xFF, 0]) => {
                let data = match module {
                    3 => info::identity(&self.nameplate),
                    4 => info::capacities(&self.state(seconds)),
                    _ => return Err(code::DATA),
                };
                let length = u8::try_from(data.len()).unwrap_or(0);
                Ok([&[0xB0, *group, 1, *module, 0xFF, length], &data[..]].concat())
            }
            (0x42 | 0x47 | 0x83 | 0xB0, [_, ..]) => Err(code::DATA),
            (0x42 | 0x47 | 0x4F | 0x51 | 0x83 | 0xB0, _) => Err(code::FORMAT),
            _ => Err(code::SERVICE),
        }
    }

    fn accepts(&self, group: u8) -> bool {
        match self.group {
            Group::Either => group == 1 || group == self.address,
            Group::One => group == 1,
            Group::Address => group == self.address,
        }
    }
}

impl Responder for DarenPack {
    fn respond(&mut self, request: &[u8], seconds: f64) -> Option<Vec<u8>> {
        let body = MARKS.body(request)?;
        if ascii_frame::address(body)? != self.address {
            return None;
        }
        let answered =
            MARKS.checked(body).and_then(|(service, info)| self.answer(service, &info, seconds));
        Some(match answered {
            Ok(info) => MARKS.frame(self.address, code::OK, &info),
            Err(code) => MARKS.frame(self.address, code, &[]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Alarm;
    use crate::model::units::Millivolts;
    use crate::sim::faults::{Fault, Rule, parse};

    fn answer(pack: &mut DarenPack, request: &str) -> Option<String> {
        pack.respond(request.as_bytes(), 0.0).map(|answer| String::from_utf8(answer).unwrap())
    }

    /// The code of an answer that carries no data.
    fn refusal(pack: &mut DarenPack, service: u8, info: &[u8]) -> Option<u8> {
        let answer = pack.respond(&MARKS.frame(1, service, info), 0.0)?;
        (answer.len() == 18).then(|| MARKS.checked(MARKS.body(&answer).unwrap()).unwrap().0)
    }

    #[test]
    fn the_pack_at_rest_answers_with_what_it_is() {
        let answer = answer(&mut DarenPack::fixed(1), "~22014A42E00201FD28\r").unwrap();
        assert!(answer.starts_with("~22014A00E0C600190014B6100CED0CF00CF2"), "{answer}");
        assert_eq!(answer.len(), 216);
    }

    #[test]
    fn fixed_answers_are_those_of_captured_packs() {
        let mut pack = DarenPack::fixed(1);
        assert_eq!(answer(&mut pack, "~22014A4F0000FD8C\r").unwrap(), "~22014A00E002C8FD14\r");
        let types = answer(&mut pack, "~22014A510000FDA0\r").unwrap();
        assert!(types.starts_with("~22014A0060465431"), "{types}");
        let counters = answer(&mut pack, "~22014A83C0040101FCC2\r").unwrap();
        assert!(counters.starts_with("~22014A00103C8301"), "{counters}");
        let limits = answer(&mut pack, "~22014A47E00201FD23\r").unwrap();
        assert!(
            limits.starts_with("~22014A006082000E4209C4003CFFFB2EE00E4209C400102EE0"),
            "{limits}"
        );
        let identity = answer(&mut pack, "~22014AB0600A010103FF00FB6C\r").unwrap();
        assert!(identity.starts_with("~22014A0040EEB0010103FF71"), "{identity}");
        let capacities = answer(&mut pack, "~22014AB0600A010104FF00FB6B\r").unwrap();
        assert!(capacities.starts_with("~22014A00D030B0010104FF121900"), "{capacities}");
    }

    #[test]
    fn requests_for_others_are_not_answered() {
        let mut pack = DarenPack::fixed(2);
        assert_eq!(answer(&mut pack, "~22014A42E00201FD28\r"), None);
        assert_eq!(answer(&mut pack, "~22024A4"), None);
        assert!(answer(&mut pack, "~22024A42E00201FD27\r").is_some());
    }

    #[test]
    fn bad_requests_are_refused() {
        let mut pack = DarenPack::fixed(1);
        assert_eq!(answer(&mut pack, "~22014A42E00201FD29\r").unwrap(), "~22014A020000FDA4\r");
        assert_eq!(refusal(&mut pack, 0x42, &[1]), None);
        assert_eq!(refusal(&mut pack, 0x42, &[7]), Some(code::DATA));
        assert_eq!(refusal(&mut pack, 0x42, &[]), Some(code::FORMAT));
        assert_eq!(refusal(&mut pack, 0x99, &[1]), Some(code::SERVICE));
        assert_eq!(refusal(&mut pack, 0xB0, &[1, 1, 9, 0xFF, 0]), Some(code::DATA));
        // Operation 2 would write.
        assert_eq!(refusal(&mut pack, 0xB0, &[1, 2, 3, 0xFF, 0]), Some(code::DATA));
    }

    #[test]
    fn packs_differ_in_the_group_they_accept() {
        let tries = |group| {
            let mut pack = DarenPack::fixed(5).accepting(group);
            [1, 5, 6]
                .map(|info| pack.respond(&MARKS.frame(5, 0x42, &[info]), 0.0).unwrap().len() > 18)
        };
        assert_eq!(tries(Group::Either), [true, true, false]);
        assert_eq!(tries(Group::One), [true, false, false]);
        assert_eq!(tries(Group::Address), [false, true, false]);
    }

    #[test]
    fn conditions_come_true_while_they_last() {
        let faults = Faults::new(parse("alarm=fuse_blown@1,cells=15").unwrap());
        let mut pack = DarenPack::fixed(1).with_faults(faults.clone());
        let state = pack.state(0.0);
        assert!(state.alarms.contains(&Alarm::FuseBlown));
        assert_eq!((state.cells.len(), state.voltage), (15, Millivolts(49_710)));
        let answer = answer(&mut pack, "~22014A42E00201FD28\r").unwrap();
        assert!(answer.starts_with("~22014A0020C2"), "{answer}");

        faults.set(vec![Rule::always(Fault::Alarm(Alarm::FuseBlown)).at(2)]);
        assert_eq!(pack.state(0.0), PackState::at_rest());
    }
}
