//! Random numbers for jitter.

use std::hash::{BuildHasher, RandomState};

/// A random number in `0.0..1.0`, from the random keys that the standard library gives each hasher.
pub fn random() -> f64 {
    unit_interval(RandomState::new().hash_one(0_u8))
}

/// 53 bits fit an `f64` exactly, so the result is never rounded up to 1.
fn unit_interval(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_is_never_one() {
        assert_eq!(unit_interval(0), 0.0);
        assert!(unit_interval(u64::MAX) < 1.0);
        assert!((0.0..1.0).contains(&random()));
    }
}
