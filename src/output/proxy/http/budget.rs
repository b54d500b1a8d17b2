//! How many requests may be sent once more: a share of those that came, and a few a second.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Retries saved up at most, however many requests went well before.
const SAVED_MAX: u64 = 100;
/// What one retry costs.
const COST: u64 = 1_000;

/// The budget of one proxy.
#[derive(Debug)]
pub(in crate::output::proxy) struct Budget(Mutex<Account>);

#[derive(Debug)]
struct Account {
    /// In thousandths of a retry.
    saved: u64,
    at: Instant,
}

impl Budget {
    pub(in crate::output::proxy) fn new(now: Instant) -> Self {
        Self(Mutex::new(Account { saved: 10 * COST, at: now }))
    }

    /// A request came in.
    pub(super) fn deposit(&self, permille: u32) {
        let mut account = self.lock();
        account.saved = (account.saved + u64::from(permille)).min(SAVED_MAX * COST);
    }

    /// Whether one retry may be made; it is then paid for.
    pub(super) fn withdraw(&self, per_second: u32, now: Instant) -> bool {
        let mut account = self.lock();
        let millis = u64::try_from((now - account.at).as_millis()).unwrap_or(u64::MAX);
        account.at = now;
        let gained = millis.saturating_mul(u64::from(per_second));
        account.saved = account.saved.saturating_add(gained).min(SAVED_MAX * COST);
        let enough = account.saved >= COST;
        if enough {
            account.saved -= COST;
        }
        enough
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spend(budget: &Budget, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(0, now)).count()
    }

    #[tokio::test]
    async fn a_fifth_of_the_requests_may_be_sent_again() {
        let now = Instant::now();
        let budget = Budget::new(now);
        spend(&budget, now);
        (0..50).for_each(|_| budget.deposit(200));
        assert_eq!(spend(&budget, now), 10);
    }

    #[tokio::test]
    async fn a_few_a_second_are_always_allowed() {
        let now = Instant::now();
        let budget = Budget::new(now);
        spend(&budget, now);
        assert!(!budget.withdraw(10, now + Duration::from_millis(50)));
        assert!(budget.withdraw(10, now + Duration::from_millis(100)));
    }

    #[tokio::test]
    async fn good_times_do_not_pay_for_a_storm() {
        let now = Instant::now();
        let budget = Budget::new(now);
        (0..1_000_000).for_each(|_| budget.deposit(200));
        assert_eq!(spend(&budget, now), 100);
    }
}
