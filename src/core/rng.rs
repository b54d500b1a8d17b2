//! Seeded randomness: the same seed gives the same decisions.

/// `SplitMix64` (Steele, Lea, Flood 2014): small, fast, and good enough to spread timers.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Rng(u64);

impl Rng {
    /// Starts a sequence.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number of the sequence.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`; zero when `bound` is zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }
}

/// Scrambles a number: equal inputs give equal outputs, near ones do not.
#[must_use]
pub const fn mix(raw: u64) -> u64 {
    let mut z = raw;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
