//! Batteries made of recorded answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bms_reader::model::Reading;
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::jk::{Command, request};
use bms_reader::protocol::{DRIVERS, Driver, DriverInfo, Options};

use crate::common::{Vector, play, usual, vectors};

/// A battery made of recorded answers: the first one for each question.
pub(super) struct Recorded {
    pub(super) info: &'static DriverInfo,
    options: Options,
    pub(super) answers: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What operators say about a battery of this brand: a driver may go another way for each.
pub(super) fn ways(info: &DriverInfo) -> Vec<Options> {
    let mut ways = vec![usual(info)];
    if info.name == "pylontech-sc0500" {
        // The controller of the recorded `info`.
        let barcode = Some("PPTAP00000000050".to_owned());
        ways.push(Options { barcode, ..usual(info) });
    }
    if info.name == "daly" {
        let variant = |name: &&str| Some((*name).to_owned());
        ways.extend(info.variants.iter().map(|it| Options { variant: variant(it), ..usual(info) }));
    }
    if info.name == "jk" {
        let by = |medium, variant: Option<&str>, address| Options {
            medium,
            variant: variant.map(str::to_owned),
            address,
            ..Options::default()
        };
        ways = vec![
            by(Medium::Ble, None, 1),
            by(Medium::Serial, Some("ttl"), 1),
            by(Medium::Serial, Some("pb"), 3),
        ];
    }
    ways
}

impl Recorded {
    pub(super) fn each() -> impl Iterator<Item = &'static Recorded> {
        static ALL: LazyLock<Vec<Recorded>> = LazyLock::new(|| {
            let each = |&info: &&'static DriverInfo| {
                ways(info).into_iter().map(move |options| Recorded::of(info, options))
            };
            DRIVERS.iter().flat_map(each).collect()
        });
        ALL.iter()
    }

    fn of(info: &'static DriverInfo, options: Options) -> Recorded {
        let mut answers: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut said = BTreeSet::new();
        let mut battery = Recorded { info, options, answers: BTreeMap::new() };
        for vector in vectors(info.name).into_iter().filter(|v| v.kind == "response") {
            let Some(question) = battery.question(&vector) else { continue };
            // A stream says several things after one question, each of them again and again.
            let kind = vector.json["expected"]["frame"].as_str().map(str::to_owned);
            let news = said.insert((question.clone(), kind.filter(|_| battery.streams())));
            if news {
                answers.entry(question).or_default().extend(vector.response);
            }
        }
        battery.answers = answers;
        battery
    }

    pub(super) fn driver(&self) -> Box<dyn Driver> {
        (self.info.new)(&self.options)
    }

    /// It asks in several dialects until one is answered.
    pub(super) fn finds_out(&self) -> bool {
        self.info.name == "daly" && self.options.variant.is_none()
    }

    pub(super) fn streams(&self) -> bool {
        let radio = self.options.medium == Medium::Ble;
        radio && self.info.gatt.is_some_and(|gatt| gatt.streams)
    }

    /// The question that a vector answers, as our driver puts it; `None` when it belongs to another
    /// way than this one.
    fn question(&self, vector: &Vector) -> Option<Vec<u8>> {
        let device = || request(Command::Device);
        let transport = match (self.info.name, self.options.variant.as_deref()) {
            ("jk", Some("ttl")) => "uart-ttl",
            ("jk", Some("pb")) => "rs485-pb",
            ("jk", _) => "ble",
            _ => return Some(vector.request.clone()),
        };
        match transport {
            _ if vector.json["transport"] != transport => None,
            // The padding of the recorded questions is random.
            "ble" if vector.request[4] == device()[4] => Some(device()),
            "ble" => Some(request(Command::Stream)),
            _ => Some(vector.request.clone()),
        }
    }

    pub(super) fn answer(&self, question: &[u8]) -> Vec<Vec<u8>> {
        self.answers.get(question).into_iter().cloned().collect()
    }

    /// A cycle in which everything goes well.
    pub(super) fn good(&self) -> Reading {
        self.cycle(self.driver().as_mut())
    }

    pub(super) fn cycle(&self, driver: &mut dyn Driver) -> Reading {
        play(driver, |question| self.answer(question)).unwrap().reading()
    }

    /// The questions of a good cycle.
    pub(super) fn questions(&self) -> Vec<Vec<u8>> {
        play(self.driver().as_mut(), |question| self.answer(question)).unwrap().asked
    }
}
