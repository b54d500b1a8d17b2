//! The promises of the strategies.

use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::{Candidate, Selector};
use crate::core::rng::Rng;
use crate::core::rules::Strategy;

const STRATEGIES: [Strategy; 4] = [
    Strategy::Priority,
    Strategy::RoundRobin,
    Strategy::LeastConnections,
    Strategy::HealthWeighted,
];

fn candidate(index: usize, weight: u32) -> Candidate {
    Candidate { index, weight, score: 1000, leases: 0 }
}

fn firsts(strategy: Strategy, candidates: &[Candidate], choices: usize) -> Vec<usize> {
    let mut selector = Selector::new();
    let mut rng = Rng::new(11);
    (0..choices).map(|_| selector.order(strategy, candidates, &mut rng)[0]).collect()
}

fn count(of: usize, among: &[usize]) -> usize {
    among.iter().filter(|index| **index == of).count()
}

#[test]
fn nothing_offered_nothing_chosen() {
    for strategy in STRATEGIES {
        assert!(Selector::new().order(strategy, &[], &mut Rng::new(1)).is_empty());
    }
}

#[test]
fn priority_is_the_order_of_the_file() {
    let order = Selector::new().order(
        Strategy::Priority,
        &[candidate(2, 1), candidate(0, 1), candidate(1, 9)],
        &mut Rng::new(1),
    );
    assert_eq!(order, [0, 1, 2]);
}

#[test]
fn rotation_is_smooth() {
    let chosen =
        firsts(Strategy::RoundRobin, &[candidate(0, 5), candidate(1, 1), candidate(2, 1)], 7);
    assert_eq!(chosen, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn rotation_starts_afresh_when_a_candidate_leaves() {
    let mut selector = Selector::new();
    let mut rng = Rng::new(1);
    let three = [candidate(0, 1), candidate(1, 1), candidate(2, 1)];
    let _first = selector.order(Strategy::RoundRobin, &three, &mut rng);
    let two = [candidate(0, 1), candidate(1, 1)];
    assert_eq!(selector.order(Strategy::RoundRobin, &two, &mut rng), [0, 1]);
    assert_eq!(selector.order(Strategy::RoundRobin, &two, &mut rng), [1, 0]);
}

#[test]
fn fewest_leases_in_proportion_to_weight() {
    let light = Candidate { leases: 3, ..candidate(0, 1) };
    let heavy = Candidate { leases: 8, ..candidate(1, 4) };
    let order =
        Selector::new().order(Strategy::LeastConnections, &[light, heavy], &mut Rng::new(1));
    assert_eq!(order, [1, 0], "two leases a weight are fewer than three");
}

#[test]
fn equals_are_chosen_evenly() {
    let chosen = firsts(Strategy::LeastConnections, &[candidate(0, 1), candidate(1, 1)], 2000);
    assert!((900..1100).contains(&count(0, &chosen)), "{}", count(0, &chosen));
}

#[test]
fn the_draw_follows_weight_times_score() {
    let candidates = [
        Candidate { score: 1000, ..candidate(0, 1) },
        Candidate { score: 500, ..candidate(1, 2) },
        Candidate { score: 500, ..candidate(2, 4) },
        Candidate { score: 0, ..candidate(3, 100) },
    ];
    let chosen = firsts(Strategy::HealthWeighted, &candidates, 40_000);
    for (index, share) in [(0, 10_000), (1, 10_000), (2, 20_000)] {
        let got = count(index, &chosen);
        assert!(got.abs_diff(share) < 500, "{index}: {got} of {share}");
    }
    assert_eq!(count(3, &chosen), 0, "a score of zero is never drawn first");
}

#[test]
fn with_every_score_at_zero_the_file_decides() {
    let zero = |index| Candidate { score: 0, ..candidate(index, 1) };
    let order = Selector::new().order(
        Strategy::HealthWeighted,
        &[zero(1), zero(0), zero(2)],
        &mut Rng::new(1),
    );
    assert_eq!(order, [0, 1, 2]);
}

fn any_candidates() -> impl prop::strategy::Strategy<Value = Vec<Candidate>> {
    prop::collection::btree_map(0_usize..20, (0_u32..10, 0_u16..=1000, 0_u32..50), 0..8).prop_map(
        |map| {
            map.into_iter()
                .map(|(index, (weight, score, leases))| Candidate { index, weight, score, leases })
                .collect()
        },
    )
}

proptest! {
    #[test]
    fn each_candidate_once_and_nothing_else(
        offers in prop::collection::vec((any_candidates(), 0_usize..4), 1..20), seed: u64,
    ) {
        let mut selector = Selector::new();
        let mut rng = Rng::new(seed);
        for (candidates, strategy) in offers {
            let mut order = selector.order(STRATEGIES[strategy], &candidates, &mut rng);
            order.sort_unstable();
            let offered: Vec<usize> = candidates.iter().map(|c| c.index).collect();
            prop_assert_eq!(order, offered);
        }
    }

    #[test]
    fn rotation_gives_exact_shares(weights in prop::collection::vec(1_u32..12, 1..7), rounds in 1_usize..4) {
        let candidates: Vec<Candidate> =
            weights.iter().enumerate().map(|(index, weight)| candidate(index, *weight)).collect();
        let total = usize::try_from(weights.iter().sum::<u32>()).unwrap();
        let chosen = firsts(Strategy::RoundRobin, &candidates, total * rounds);
        for (index, weight) in weights.iter().enumerate() {
            prop_assert_eq!(count(index, &chosen), usize::try_from(*weight).unwrap() * rounds);
        }
    }

    #[test]
    fn fewer_leases_at_equal_weight_come_first(candidates in any_candidates(), seed: u64) {
        let equal: Vec<Candidate> =
            candidates.into_iter().map(|c| Candidate { weight: 3, ..c }).collect();
        let order = Selector::new().order(Strategy::LeastConnections, &equal, &mut Rng::new(seed));
        let leases: Vec<u32> = order
            .iter()
            .filter_map(|index| equal.iter().find(|c| c.index == *index))
            .map(|c| c.leases)
            .collect();
        prop_assert!(leases.is_sorted());
    }
}
