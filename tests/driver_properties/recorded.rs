//! Batteries made of recorded exchanges.

use std::sync::LazyLock;

use bms_reader::model::Reading;
use bms_reader::protocol::driver::Medium;
use bms_reader::protocol::{CycleKind, Driver, DriverInfo, Options, Step, drivers};

use crate::common::play;
use crate::common::vectors::{Kind, Session, Vector, conversations, exist, vectors};

/// The exchanges that were recorded of one kind of battery, as far as a driver asks for them.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) info: &'static DriverInfo,
    pub(super) options: Options,
    session: Session,
}

impl Recorded {
    /// A battery for each medium and dialect of each driver. A driver that finds every dialect
    /// within a cycle gets each of them a second time, without a configured dialect.
    pub(super) fn each() -> impl Iterator<Item = &'static Recorded> {
        static ALL: LazyLock<Vec<Recorded>> =
            LazyLock::new(|| drivers().iter().flat_map(|info| Recorded::of(info)).collect());
        ALL.iter()
    }

    fn of(info: &'static DriverInfo) -> Vec<Recorded> {
        let kind = |options: &Options| {
            (options.medium == Medium::Ble, options.variant.clone(), options.barcode.clone())
        };
        let mut kinds: Vec<Vec<&'static Vector>> = Vec::new();
        for vector in vectors(info.name).iter().filter(|vector| vector.kind == Kind::Response) {
            match kinds.iter_mut().find(|same| kind(&same[0].options) == kind(&vector.options)) {
                Some(same) => same.push(vector),
                None => kinds.push(vec![vector]),
            }
        }
        let mut batteries: Vec<Recorded> =
            kinds.iter().map(|vectors| Recorded::complete(info, vectors)).collect();
        let configured = batteries.iter().filter(|it| it.options.variant.is_some());
        let detected: Vec<Recorded> = configured.map(Recorded::without_variant).collect();
        if detected.iter().all(|it| matches!(it.play(it.driver().as_mut()).end, Step::Done(_))) {
            batteries.extend(detected);
        }
        if batteries.is_empty() || info.bluetooth.is_some() {
            batteries.extend(Recorded::from_conversations(info));
        }
        batteries
    }

    /// The first conversation that consists of requests with one answer each. Where the battery
    /// sends unasked, or waits for acknowledgements, there is none.
    fn from_conversations(info: &'static DriverInfo) -> Option<Recorded> {
        let conversations = conversations(info).into_iter();
        let usable = conversations.filter(|it| !it.rejected && !it.expected.is_null());
        let recorded = usable.map(|conversation| {
            let exchanges: &'static [Vector] = Vector::of(info, &conversation).leak();
            let session = Session::new(exchanges.iter().collect());
            Recorded { info, options: conversation.options, session }
        });
        let mut recorded = recorded.filter(|it| !it.session.exchanges().is_empty());
        recorded.find(Recorded::answers_requests)
    }

    /// Every cycle can be played, and without an answer there is a request all the same.
    fn answers_requests(&self) -> bool {
        let (mut driver, mut session) = (self.driver(), self.session());
        let mut is_done = |_| {
            driver.start(CycleKind::Read);
            let outcome = play(driver.as_mut(), |request| session.chunks(request)).unwrap();
            matches!(outcome.end, Step::Done(_))
        };
        let silent = play(self.driver().as_mut(), |_| Vec::new()).unwrap();
        (0..4).all(&mut is_done) && !silent.asked.is_empty()
    }

    /// Whether a damaged frame is recognised, which the files of vectors verify for their driver.
    pub(super) fn has_checksum(&self) -> bool {
        !self.info.text && exist(self.info.name)
    }

    fn without_variant(&self) -> Recorded {
        let options = Options { variant: None, ..self.options.clone() };
        Recorded { options, session: self.session(), info: self.info }
    }

    /// The most complete session, and what other sessions answer beyond it.
    fn complete(info: &'static DriverInfo, vectors: &[&'static Vector]) -> Recorded {
        let requests = |vector: &Vector| {
            let mut requests: Vec<_> = vector.companions().iter().map(|it| &it.request).collect();
            requests.push(&vector.request);
            requests.sort_unstable();
            requests.dedup();
            requests.len()
        };
        // The first one of those with the most answers.
        let best = vectors.iter().rev().max_by_key(|vector| requests(vector)).unwrap();
        let mut exchanges = best.session().exchanges().to_vec();
        for other in vectors.iter().filter(|other| other.options == best.options) {
            if exchanges.iter().all(|known| known.request != other.request) {
                exchanges.push(other);
            }
        }
        Recorded { info, options: best.options.clone(), session: Session::new(exchanges) }
    }

    pub(super) fn driver(&self) -> Box<dyn Driver> {
        self.info.driver(&self.options)
    }

    /// The number of dialects that the driver has to tell apart.
    pub(super) fn dialects(&self) -> usize {
        let units = self.info.source.profile().map_or(0, |profile| profile.units.len());
        let variants = if self.options.variant.is_some() { 1 } else { self.info.variants.len() };
        variants.max(units).max(1)
    }

    pub(super) fn session(&self) -> Session {
        self.session.clone()
    }

    pub(super) fn answers(&self) -> Vec<&'static [u8]> {
        self.session.exchanges().iter().map(|exchange| &exchange.response[..]).collect()
    }

    /// A cycle in which everything goes well.
    pub(super) fn play(&self, driver: &mut dyn Driver) -> crate::common::Outcome {
        let mut session = self.session();
        play(driver, |request| session.chunks(request)).unwrap()
    }

    pub(super) fn good(&self) -> Reading {
        self.play(self.driver().as_mut()).reading()
    }
}
