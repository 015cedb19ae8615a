//! Reproducible random numbers: the same seed gives the same battery and the same faults.

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift
/// generators, scrambled", 2016).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(hash(seed, 0).max(1))
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The remainder is below `bound`, so it fits.
        (self.next_u64() >> 16).checked_rem(bound as u64).unwrap_or(0) as usize
    }
}

/// The `index`-th number of a seed, independent of how many numbers were taken before (the finalizer
/// of SplitMix64).
pub fn hash(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A hash of seed and index, reduced below `bound`.
pub fn hash_below(seed: u64, index: u64, bound: u64) -> i64 {
    // The remainder is far below the sign bit.
    (hash(seed, index) % bound) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_matches_the_published_sequence() {
        // First outputs of SplitMix64 for seed 1234567, as its reference implementation prints them.
        let outputs = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!([hash(1_234_567, 0), hash(1_234_567, 1)], outputs);
    }

    #[test]
    fn sequence_depends_on_the_seed() {
        let draws = |seed| {
            let mut rng = Rng::new(seed);
            [rng.below(1000), rng.below(1000), rng.below(1000), rng.below(1000)]
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        assert_eq!(Rng::new(1).below(0), 0);
    }

    #[test]
    fn every_number_below_the_bound_occurs() {
        let mut rng = Rng::new(3);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[rng.below(10)] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}
