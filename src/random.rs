//! A little chance, so that programs and batteries do not do everything at the same moment.

use std::hash::{BuildHasher, RandomState};

/// A random number in `0.0..1.0`; the standard library seeds each hasher anew.
pub fn random() -> f64 {
    share(RandomState::new().hash_one(0_u8))
}

/// 53 bits fit a double exactly, so that it never becomes 1.
fn share(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_itself_never_comes() {
        assert_eq!(share(0), 0.0);
        assert!(share(u64::MAX) < 1.0);
        assert!((0.0..1.0).contains(&random()));
    }
}
