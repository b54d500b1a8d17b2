//! Halving over time in integers, so that whatever decays can be compared, hashed and replayed.
//!
//! Invariants
//! 1. No time passed: nothing lost. A whole number of half-lives: exactly that many halvings.
//! 2. More time never leaves more.
//! 3. Between whole half-lives the error is below 2^-15 of the value, plus one for rounding down.

use std::time::Duration;

/// Bits of the fraction of a half-life that are looked at.
const FRACTION_BITS: u32 = 16;

/// 2^-1/2, 2^-1/4, 2^-1/8 … in units of 2^-63: each is the square root of the one before.
const ROOTS: [u128; 16] = {
    let mut roots = [0; 16];
    let mut square = 1_u128 << 125;
    let mut at = 0;
    while at < roots.len() {
        let root = square.isqrt();
        #[expect(clippy::indexing_slicing, reason = "const evaluation; bounded by the loop")]
        let slot = &mut roots[at];
        *slot = root;
        square = root << 63;
        at += 1;
    }
    roots
};

/// What is left of `value` after `elapsed`; everything is lost at once with a zero half-life.
#[must_use]
pub fn decayed(value: u64, elapsed: Duration, half_life: Duration) -> u64 {
    if elapsed.is_zero() {
        return value;
    }
    let Some(whole) = elapsed.as_nanos().checked_div(half_life.as_nanos()) else { return 0 };
    // What is below one after the whole halvings still matters to the rest, so it is kept.
    let kept =
        u32::try_from(whole).ok().and_then(|whole| (u128::from(value) << 63).checked_shr(whole));
    let Some(mut left) = kept else { return 0 };
    let rest = elapsed.as_nanos() % half_life.as_nanos();
    let fraction = (rest << FRACTION_BITS) / half_life.as_nanos();
    for (bit, root) in (0..FRACTION_BITS).rev().zip(ROOTS) {
        if fraction >> bit & 1 == 1 {
            left = ((left >> 63) * root) + (((left & ((1 << 63) - 1)) * root) >> 63);
        }
    }
    u64::try_from(left >> 63).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    #[test]
    fn whole_half_lives_halve_exactly() {
        assert_eq!(decayed(1000, Duration::ZERO, LIFE), 1000);
        assert_eq!(decayed(1000, LIFE, LIFE), 500);
        assert_eq!(decayed(1000, LIFE * 3, LIFE), 125);
        assert_eq!(decayed(u64::MAX, LIFE * 64, LIFE), 0);
    }

    #[test]
    fn half_a_half_life_leaves_the_root_of_one_half() {
        assert_eq!(decayed(1_000_000, LIFE / 2, LIFE), 707_106);
    }

    #[test]
    fn a_zero_half_life_forgets_at_once() {
        assert_eq!(decayed(1000, Duration::from_nanos(1), Duration::ZERO), 0);
        assert_eq!(decayed(1000, Duration::ZERO, Duration::ZERO), 1000);
    }

    proptest! {
        #[test]
        fn more_time_never_leaves_more(
            value in any::<u64>(), a in 0_u64..10_000_000, b in 0_u64..10_000_000,
        ) {
            let (short, long) = (Duration::from_millis(a.min(b)), Duration::from_millis(a.max(b)));
            prop_assert!(decayed(value, long, LIFE) <= decayed(value, short, LIFE));
        }

        #[test]
        fn the_error_is_as_small_as_promised(value in 0_u32.., millis in 0_u64..1_000_000) {
            let exact = f64::from(value) * (-Duration::from_millis(millis).div_duration_f64(LIFE)).exp2();
            let got = u32::try_from(decayed(u64::from(value), Duration::from_millis(millis), LIFE)).unwrap();
            prop_assert!((f64::from(got) - exact).abs() <= exact / 32_768.0 + 1.0);
        }
    }
}
