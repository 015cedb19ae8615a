//! A recorded conversation, played to a driver: the vectors of a profile.

use serde_json::Value;

use crate::model::Secret;
use crate::protocol::driver::Medium;
use crate::protocol::{CycleKind, Driver, DriverInfo, Options, Step};

/// Cycles after which a driver knows everything that a conversation contains.
const CYCLES: usize = 4;
/// More steps than any cycle has.
const MAX_STEPS: usize = 4000;

/// A Bluetooth address, for the handshakes that are computed from one.
const MAC: [u8; 6] = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Write(Vec<u8>),
    Notify(Vec<u8>),
}

/// Cuts a notification into the pieces that the driver receives. The flag is set for the first
/// notification after a request.
pub type Delivery = dyn Fn(&[u8], bool) -> Vec<Vec<u8>>;

/// One recorded conversation.
#[derive(Debug, Clone)]
pub struct Conversation {
    pub name: String,
    pub events: Vec<Event>,
    /// What a driver knows about the battery.
    pub options: Options,
    /// What the conversation must yield; null where nothing is expected.
    pub expected: Value,
    /// The frames are damaged, and a driver must refuse them.
    pub rejected: bool,
}

impl Conversation {
    /// The conversations of a vectors file; the error names the conversation and what it lacks.
    pub fn all(file: &Value) -> Result<Vec<Self>, String> {
        let list = file["conversations"].as_array();
        let list = list.ok_or("there is no list `conversations`")?;
        let numbered = list.iter().zip(1..);
        numbered
            .map(|(json, number)| {
                let name = json["test"].as_str().map(str::to_owned);
                let name = name.unwrap_or_else(|| format!("conversation {number}"));
                let events = json["conversation"].as_array().ok_or("no list `conversation`");
                let events = events.map_err(str::to_owned).and_then(|it| events_of(it));
                Ok(Conversation {
                    events: events.map_err(|error| format!("{name}: {error}"))?,
                    options: Options {
                        name: json["device"]["name"].as_str().map(str::to_owned),
                        password: json["secret"].as_str().map(Secret::new),
                        ..ble_options()
                    },
                    expected: json["expected"].clone(),
                    rejected: json["rejected"].is_string(),
                    name,
                })
            })
            .collect()
    }

    /// The last reading that the driver makes of it, or why there is none.
    pub fn play(&self, info: &DriverInfo, options: &Options, delivery: &Delivery) -> Step {
        let mut driver = info.driver(options);
        let mut battery = Battery::new(&self.events, delivery);
        let mut end = battery.cycle(driver.as_mut());
        for _ in 1..CYCLES {
            battery.delivered = 0;
            let next = battery.cycle(driver.as_mut());
            // The frames of a stream are used up, perhaps in the middle of a reading.
            let streams = info.gatt.is_some_and(|gatt| gatt.streams);
            let is_cut = streams && matches!((&end, &next), (Step::Done(_), Step::Failed(_)));
            if battery.delivered == 0 || is_cut {
                break;
            }
            end = next;
        }
        end
    }
}

/// The options of a battery on Bluetooth.
pub fn ble_options() -> Options {
    Options { medium: Medium::Ble, mac: Some(MAC), ..Options::default() }
}

fn events_of(list: &[Value]) -> Result<Vec<Event>, String> {
    let events = list.iter().map(|event| {
        let bytes = |key: &str| Some(from_hex(event.get(key)?.as_str()?));
        let (event, bytes): (fn(Vec<u8>) -> Event, _) = match (bytes("write"), bytes("notify")) {
            (Some(bytes), None) => (Event::Write, bytes),
            (None, Some(bytes)) => (Event::Notify, bytes),
            // Other events, such as the names of services, are of no use here.
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err("an event is `write` or `notify`, not both".into()),
        };
        bytes.map(event).map(Some).ok_or_else(|| "bytes are pairs of hexadecimal digits".into())
    });
    events.filter_map(Result::transpose).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let digit = |c: char| c.to_digit(16);
    let byte = |pair: &[char]| match *pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

/// The battery side of a conversation.
struct Battery<'a> {
    events: &'a [Event],
    used: Vec<bool>,
    /// Index of the next notification.
    next: usize,
    delivery: &'a Delivery,
    /// Nothing was delivered since the last request.
    fresh: bool,
    /// Notifications in this cycle.
    delivered: usize,
}

impl<'a> Battery<'a> {
    fn new(events: &'a [Event], delivery: &'a Delivery) -> Self {
        let used = vec![false; events.len()];
        Battery { events, used, next: 0, delivery, fresh: true, delivered: 0 }
    }

    /// Goes to the recorded request; an unknown one has no answer.
    fn receive(&mut self, request: &[u8]) {
        let same =
            |at: &usize| matches!(&self.events[*at], Event::Write(bytes) if bytes == request);
        let all: Vec<usize> = (0..self.events.len()).filter(same).collect();
        let at = all.iter().find(|at| !self.used[**at]).or(all.last()).copied();
        self.fresh = true;
        // What a battery sent before the request may arrive after it.
        if let Some(at) = at.filter(|at| !self.used[*at] && self.next < *at) {
            let between = &self.events[self.next..at];
            if between.iter().all(|event| matches!(event, Event::Notify(_))) {
                self.used[at] = true;
                return;
            }
        }
        self.next = at.map_or(self.events.len(), |at| at + 1);
        if let Some(at) = at {
            self.used[at] = true;
        }
    }

    /// The next notification, in pieces.
    fn notification(&mut self) -> Option<Vec<Vec<u8>>> {
        while matches!(self.events.get(self.next), Some(Event::Write(_))) && self.used[self.next] {
            self.next += 1;
        }
        let Some(Event::Notify(bytes)) = self.events.get(self.next) else { return None };
        self.next += 1;
        self.delivered += 1;
        Some((self.delivery)(bytes, std::mem::take(&mut self.fresh)))
    }

    fn cycle(&mut self, driver: &mut dyn Driver) -> Step {
        driver.start(CycleKind::Read);
        let mut step = driver.step();
        for _ in 0..MAX_STEPS {
            match step {
                Step::Send(bytes) => {
                    self.receive(&bytes);
                    driver.advance();
                }
                Step::Pause(_) => driver.advance(),
                Step::Await(_) => match self.notification() {
                    Some(pieces) => pieces.iter().for_each(|piece| driver.receive(piece)),
                    None => driver.handle_timeout(),
                },
                end => return end,
            }
            step = driver.step();
        }
        // A driver that never ends its cycle is still sending or waiting.
        step
    }
}
