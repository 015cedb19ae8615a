//! Several simulated batteries on one bus, with faults.

use super::battery::Battery;
use super::faults::{Fault, Faults};
use super::rng::Rng;
use super::{Corruption, Responder, SimBrand, SimPack};

/// Bytes kept of an incomplete request; the requests of all brands are much shorter.
const REQUEST_LIMIT: usize = 1024;

/// Maximum noise on each side of a reply, in bytes.
const NOISE: usize = 12;

/// Batteries of one brand on one bus.
#[derive(Debug)]
pub struct Bus {
    brand: &'static SimBrand,
    packs: Vec<(u8, Box<dyn Responder>)>,
    faults: Faults,
    rng: Rng,
    last_reply: Option<(u8, f64)>,
    request_count: u64,
}

impl Bus {
    pub fn new(brand: &'static SimBrand, seed: u64, faults: Faults) -> Self {
        let rng = Rng::new(seed);
        Bus { brand, packs: Vec::new(), faults, rng, last_reply: None, request_count: 0 }
    }

    /// Creates a bus with one [`Bus::battery`] per address.
    pub fn with_batteries(
        brand: &'static SimBrand,
        addresses: &[u8],
        seed: u64,
        faults: Faults,
    ) -> Self {
        let mut bus = Bus::new(brand, seed, faults.clone());
        for &address in addresses {
            let pack = SimPack::new(address, Bus::battery(seed, address), faults.clone());
            bus.add(address, brand.pack(pack));
        }
        bus
    }

    /// The battery that [`Bus::with_batteries`] puts at this address.
    pub fn battery(seed: u64, address: u8) -> Battery {
        Battery::active(seed.wrapping_add(u64::from(address)))
    }

    pub fn add(&mut self, address: u8, pack: Box<dyn Responder>) {
        self.packs.push((address, pack));
    }

    /// Address and simulated time of the last reply.
    pub fn last_reply(&self) -> Option<(u8, f64)> {
        self.last_reply
    }

    pub fn request_count(&self) -> u64 {
        self.request_count
    }

    /// The bytes on the bus after a request; often empty.
    pub fn reply(&mut self, request: &[u8], seconds: f64) -> Vec<u8> {
        self.request_count += 1;
        self.deliver(request, seconds)
    }

    fn deliver(&mut self, request: &[u8], seconds: f64) -> Vec<u8> {
        let own = self
            .packs
            .iter_mut()
            .find_map(|(address, pack)| Some((*address, pack.respond(request, seconds)?)));
        let Some((address, own)) = own else {
            let faults = self.faults.faults_for_line(&mut self.rng);
            return self.apply_faults(request, None, &faults);
        };
        self.last_reply = Some((address, seconds));
        let faults = self.faults.faults_for_reply(address, &mut self.rng);
        self.apply_faults(request, Some(own), &faults)
    }

    /// The bytes on the bus without a request of the reader; often empty. If a pack polls another
    /// one, they include the reply of that pack.
    pub fn unsolicited(&mut self, seconds: f64) -> Vec<u8> {
        let frames: Vec<_> = self
            .packs
            .iter_mut()
            .filter_map(|(address, pack)| Some((*address, pack.unsolicited(seconds)?)))
            .collect();
        let mut bytes = Vec::new();
        for (address, own) in frames {
            self.last_reply = Some((address, seconds));
            let reply = self.deliver(&own, seconds);
            let faults = self.faults.faults_for_reply(address, &mut self.rng);
            bytes.extend(self.apply_faults(&[], Some(own), &faults));
            bytes.extend(reply);
        }
        bytes
    }

    pub fn brand(&self) -> &'static SimBrand {
        self.brand
    }

    fn apply_faults(&mut self, request: &[u8], own: Option<Vec<u8>>, faults: &[Fault]) -> Vec<u8> {
        let active = |fault| faults.contains(&fault);
        let mut bytes = Vec::new();
        if active(Fault::Echo) {
            bytes.extend(request);
        }
        if active(Fault::Noise) {
            self.add_noise(&mut bytes);
        }
        if let Some(mut own) = own {
            if active(Fault::Foreign) {
                bytes.extend(self.brand.corrupt(Corruption::Foreign, &own));
            }
            for fault in faults {
                match fault {
                    Fault::Refuse(code) => {
                        own = self.brand.corrupt(Corruption::Refused(*code), &own);
                    }
                    Fault::Checksum => own = self.brand.corrupt(Corruption::Checksum, &own),
                    _ => {}
                }
            }
            if active(Fault::Cut) {
                own.truncate(1 + self.rng.below(own.len().saturating_sub(1)));
            }
            if !active(Fault::Silence) {
                bytes.extend(own);
            }
        }
        if active(Fault::Noise) {
            self.add_noise(&mut bytes);
        }
        bytes
    }

    fn add_noise(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.rng.below(NOISE) {
            bytes.push((self.rng.next_u64() >> 24) as u8);
        }
    }

    /// Starts a connection; requests are collected in the buffer.
    pub fn connect(&mut self) -> RequestBuffer {
        self.packs.iter_mut().for_each(|(_, pack)| pack.connected());
        RequestBuffer { brand: self.brand, buffer: Vec::new() }
    }
}

/// Collects requests that arrive in pieces.
#[derive(Debug)]
pub struct RequestBuffer {
    brand: &'static SimBrand,
    buffer: Vec<u8>,
}

impl RequestBuffer {
    /// The oldest bytes are dropped if they do not form a request.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
        let excess = self.buffer.len().saturating_sub(REQUEST_LIMIT);
        self.buffer.drain(..excess);
    }

    pub fn next_request(&mut self) -> Option<Vec<u8>> {
        let end = self.brand.request_end(&self.buffer)?.min(self.buffer.len());
        Some(self.buffer.drain(..end).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::daren;
    use crate::sim::faults::{Rule, parse};

    const REQUEST: &[u8] = b"~22014A42E00201FD28\r";

    fn bus(faults: &Faults) -> Bus {
        let mut bus = Bus::new(&daren::BRAND, 1, faults.clone());
        for address in [1, 2] {
            let pack = SimPack { faults: faults.clone(), ..SimPack::fixed(address) };
            bus.add(address, daren::BRAND.pack(pack));
        }
        bus
    }

    /// The bytes on the bus with and without these faults.
    fn bytes(faults: &str, request: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let good = bus(&Faults::default()).reply(request, 0.0);
        (bus(&Faults::new(parse(faults).unwrap())).reply(request, 0.0), good)
    }

    fn contains(bytes: &[u8], part: &[u8]) -> bool {
        bytes.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn silence_affects_only_its_address() {
        assert_eq!(bytes("silence", REQUEST).0, b"");
        assert_eq!(bytes("silence@1", REQUEST).0, b"");
        let (other, good) = bytes("silence@2", REQUEST);
        assert_eq!(other, good);
        assert!(!good.is_empty());
    }

    #[test]
    fn noise_surrounds_an_intact_reply() {
        let (noisy, good) = bytes("noise", REQUEST);
        let start = noisy.windows(good.len()).position(|window| window == good).unwrap();
        assert!((1..=NOISE).contains(&start));
        assert!((1..=NOISE).contains(&(noisy.len() - start - good.len())));
    }

    #[test]
    fn wrong_checksum_differs_in_one_digit() {
        let (spoiled, good) = bytes("checksum", REQUEST);
        assert_eq!(spoiled.len(), good.len());
        assert_eq!(spoiled.iter().zip(&good).filter(|(a, b)| a != b).count(), 1);
    }

    #[test]
    fn cut_reply_is_a_prefix() {
        let (cut, good) = bytes("cut", REQUEST);
        assert!(!cut.is_empty() && cut.len() < good.len() && good.starts_with(&cut));
    }

    #[test]
    fn echo_precedes_the_reply_and_occurs_without_one() {
        let (echoed, good) = bytes("echo", REQUEST);
        assert_eq!(echoed, [REQUEST, &good].concat());
        assert_eq!(bytes("echo", b"~22094A4F0000FD84\r").0, b"~22094A4F0000FD84\r");
        assert_eq!(bytes("checksum,cut,foreign", b"~22094A4F0000FD84\r").0, b"");
    }

    #[test]
    fn foreign_reply_precedes_or_replaces_the_right_one() {
        let (both, good) = bytes("foreign", REQUEST);
        assert!(both.starts_with(b"~22024A00E0C6"));
        assert!(both.ends_with(&good) && both.len() == 2 * good.len());
        assert_eq!(bytes("foreign,silence", REQUEST).0, both[..good.len()]);
    }

    #[test]
    fn refusals_and_conditions_change_the_reply() {
        assert_eq!(bytes("rtn=05", REQUEST).0, b"~22014A050000FDA1\r");
        assert!(bytes("cells=15", REQUEST).0.starts_with(b"~22014A0020C2"));
        let (alarmed, good) = bytes("alarm=cell_overvoltage", REQUEST);
        assert_eq!(alarmed.len(), good.len());
        assert_ne!(alarmed, good);
    }

    #[test]
    fn counts_are_decremented_by_replies_only() {
        let faults = Faults::new(vec![Rule::next(Fault::Silence, 2).at(1)]);
        let mut bus = bus(&faults);
        assert!(bus.reply(b"~22094A4F0000FD84\r", 0.0).is_empty());
        assert!(!bus.reply(b"~22024A4F0000FD8B\r", 0.0).is_empty());
        let lengths = [(); 3].map(|()| bus.reply(REQUEST, 0.0).len());
        assert_eq!(lengths, [0, 0, 216]);
    }

    #[test]
    fn each_of_sixteen_packs_replies_at_its_own_address() {
        let addresses: Vec<u8> = daren::BRAND.addresses.clone().collect();
        assert_eq!(addresses.len(), 16);
        let mut bus = Bus::with_batteries(&daren::BRAND, &addresses, 5, Faults::default());
        for address in addresses {
            // The right checksums from address 0 to 15, as the digits of the address add up.
            let sum = 0xFD8D - u16::from(address % 10 + if address > 9 { 17 } else { 0 });
            let request = format!("~22{address:02X}4A4F0000{sum:04X}\r");
            let reply = String::from_utf8(bus.reply(request.as_bytes(), 7.0)).unwrap();
            assert!(reply.starts_with(&format!("~22{address:02X}4A00E002C8")), "{reply}");
            assert_eq!(bus.last_reply(), Some((address, 7.0)));
        }
    }

    #[test]
    fn reply_follows_from_seed_address_and_time() {
        let mut bus = Bus::with_batteries(&daren::BRAND, &[1, 2], 5, Faults::default());
        let bytes = String::from_utf8(bus.reply(REQUEST, 40_000.0)).unwrap();
        let (address, seconds) = bus.last_reply().unwrap();
        let state = Bus::battery(5, address).state(seconds);
        let expected = format!("00{:04X}{:04X}10", state.soc.0, state.voltage.0 / 10);
        assert_eq!(bytes[13..25], expected);
        assert_ne!(state, Bus::battery(5, 2).state(seconds));
    }

    #[test]
    fn request_buffer_joins_pieces_and_is_bounded() {
        let mut requests = bus(&Faults::default()).connect();
        for byte in REQUEST {
            assert_eq!(requests.next_request(), None);
            requests.push(&[*byte]);
        }
        assert_eq!(requests.next_request().unwrap(), REQUEST);
        requests.push(&[REQUEST, b"half"].concat());
        assert_eq!(requests.next_request().unwrap(), REQUEST);
        assert_eq!(requests.next_request(), None);
        for _ in 0..1000 {
            requests.push(&[0x55; 100]);
            assert!(requests.buffer.len() <= REQUEST_LIMIT);
        }
        requests.push(REQUEST);
        let request = requests.next_request().unwrap();
        assert!(contains(&request, REQUEST));
        assert!(!bus(&Faults::default()).reply(&request, 0.0).is_empty());
    }
}
