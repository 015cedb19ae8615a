//! The reply to `info`: the identity of the battery and of the modules behind the console.
//!
//! Keys depend on the firmware; the blocks of the modules (BMU) may be missing altogether.
//! (Log of a controller with eight modules in 70p4z/tparse; parser tests of juankypunk/PylonInsight.)

use std::collections::BTreeMap;

use super::table::field;
use crate::model::{Identity, MilliampHours, Reading};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    pub identity: Identity,
    /// Serial number of the controller of a stack, the argument of `tbar`.
    pub module_barcode: Option<String>,
    pub design: Option<MilliampHours>,
    /// Number of cells of the whole stack.
    pub cells: Option<usize>,
    /// Serial numbers by BMU number; BMU 0 is next to the controller.
    pub modules: BTreeMap<usize, String>,
}

impl Info {
    /// `None` if the reply contains none of the known keys.
    pub fn parse(lines: &[String]) -> Option<Info> {
        let mut info = Info::default();
        let mut barcode = None;
        let mut soft = None;
        let mut bmu = None;
        for line in lines {
            // `BMU 4 Barcode` begins the module with this number.
            let rest = line.strip_prefix("BMU ");
            let number = rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            if number.is_some() {
                bmu = number;
                continue;
            }
            // `Module:   : HP...` has two colons.
            if let (Some(number), Some(rest)) = (bmu, line.strip_prefix("Module:")) {
                let serial = rest.trim_start_matches([' ', ':']).trim();
                if !serial.is_empty() {
                    info.modules.insert(number, serial.to_owned());
                }
                continue;
            }
            let Some((key, value)) = field(line) else { continue };
            let text = Some(value.to_owned());
            match key.as_str() {
                "Manufacturer" => info.identity.manufacturer = text,
                "Device name" => info.identity.model = text,
                "Board version" => info.identity.hardware = info.identity.hardware.or(text),
                "Hard version" => info.identity.hardware = text,
                "Main Soft version" => info.identity.software = text,
                "Soft version" => soft = text,
                "Barcode" => barcode = text,
                "Module Barcode" => info.module_barcode = text,
                "Specification" => info.design = rated_capacity(value),
                "Cell Number" => info.cells = value.parse().ok(),
                _ => {}
            }
        }
        info.identity.software = info.identity.software.or(soft);
        info.identity.serial = info.module_barcode.clone().or(barcode);
        (info != Info::default()).then_some(info)
    }

    pub fn apply(&self, reading: &mut Reading) {
        reading.identity = self.identity.clone().into();
        reading.pack.design = self.design;
        reading.received.device_info = true;
    }
}

/// Parses the ampere-hours of `384V/50AH`.
fn rated_capacity(specification: &str) -> Option<MilliampHours> {
    let (_, capacity) = specification.split_once('/')?;
    let hours: i64 = capacity.trim().trim_end_matches(['A', 'a', 'H', 'h']).parse().ok()?;
    Some(MilliampHours(hours.checked_mul(1000)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Info> {
        let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        Info::parse(&lines)
    }

    #[test]
    fn barcode_is_the_serial_number_of_a_single_pack() {
        let info = parse(
            "Device name : US2000C\nBoard version : PHANTOMSAV10R03\nSoft  version : V2.4\n\
             Barcode : PPTBH02400710243\nSpecification : 48V/50AH\nCell Number : 15",
        );
        let info = info.unwrap();
        assert_eq!(info.identity.serial.as_deref(), Some("PPTBH02400710243"));
        assert_eq!(info.identity.hardware.as_deref(), Some("PHANTOMSAV10R03"));
        assert_eq!(info.identity.software.as_deref(), Some("V2.4"));
        assert_eq!((info.design, info.cells), (Some(MilliampHours(50_000)), Some(15)));
        assert!(info.module_barcode.is_none() && info.modules.is_empty());
    }

    #[test]
    fn controller_board_is_not_a_module() {
        let info = parse("Module Barcode : PPTAP1\nBMU 1 Barcode\nModule:   : HP1   \nPCBA:  : H2")
            .unwrap();
        assert_eq!(info.modules, BTreeMap::from([(1, "HP1".to_owned())]));
        assert_eq!(info.module_barcode.as_deref(), Some("PPTAP1"));
    }

    #[test]
    fn reply_without_known_keys_is_none() {
        assert_eq!(parse("Command completed successfully"), None);
        assert_eq!(parse("Specification : much"), None);
    }
}
