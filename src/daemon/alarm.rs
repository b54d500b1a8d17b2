//! Wakes the loop when its next deadline has come.
//!
//! The runtime's timers count in milliseconds and round up twice, so a wake-up by them is one to two
//! milliseconds late. A timer of the kernel's is as exact as the clock. Thousands of endpoints make
//! thousands of deadlines, so what falls within [`GATHER`] of the latest wake-up shares the next one.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep_until;

use crate::core::time::Instant;
use crate::daemon::clock::Clock;

/// The least time between two wake-ups: one each probe would cost a fifth more CPU at a thousand
/// probes a second.
const GATHER: Duration = Duration::from_millis(1);

/// One alarm, for one deadline at a time.
#[derive(Debug)]
pub(crate) struct Alarm {
    clock: Clock,
    /// Absent where the kernel, or what confines us, grants none.
    timer: Option<AsyncFd<OwnedFd>>,
    set_to: Option<Instant>,
    /// When it rang last.
    rang: Instant,
}

impl Alarm {
    /// An alarm that is not set. Must be made within the runtime.
    pub(crate) fn new(clock: Clock) -> Self {
        let timer = timer().inspect_err(|error| {
            tracing::debug!(%error, "no timer of the kernel's; wake-ups are a millisecond late");
        });
        Self { clock, timer: timer.ok(), set_to: None, rang: Instant::START }
    }

    /// Returns at `deadline`, never before it, and later only by what is left of [`GATHER`]. Dropping
    /// the future and asking again for the same deadline loses nothing.
    pub(crate) async fn at(&mut self, deadline: Instant) {
        let deadline = deadline.max(self.rang + GATHER);
        if !self.rung(deadline).await.is_ok_and(|rung| rung) {
            sleep_until(self.clock.deadline(deadline)).await;
        }
        self.rang = self.clock.now();
    }

    /// Whether the kernel's timer told that the deadline has come; `false` where there is none.
    async fn rung(&mut self, deadline: Instant) -> Result<bool, Errno> {
        let Some(timer) = &self.timer else { return Ok(false) };
        if self.set_to != Some(deadline) {
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: self.clock.monotonic(deadline),
            };
            timerfd_settime(timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
            self.set_to = Some(deadline);
        }
        let expired = timer.async_io(Interest::READABLE, |fd| Ok(read(fd, &mut [0; 8])?)).await;
        self.set_to = None;
        Ok(expired.is_ok())
    }
}

#[expect(
    deprecated,
    reason = "the way that replaces it is unsafe, for types that may change their descriptor; an \
              `OwnedFd` never does"
)]
fn timer() -> std::io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    AsyncFd::with_interest(fd, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(3);

    fn sleeping() -> Alarm {
        Alarm { timer: None, ..Alarm::new(Clock::start()) }
    }

    #[tokio::test]
    async fn it_never_rings_before_its_deadline() {
        for mut alarm in [Alarm::new(Clock::start()), sleeping()] {
            for _ in 0..50 {
                let deadline = alarm.clock.now() + SOON / 10;
                alarm.at(deadline).await;
                assert!(alarm.clock.now() >= deadline);
            }
        }
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_rings_at_once() {
        let mut alarm = Alarm::new(Clock::start());
        alarm.at(Instant::START).await;
        let now = alarm.clock.now();
        alarm.at(now).await;
    }

    #[tokio::test]
    async fn deadlines_close_to_each_other_share_a_wake_up() {
        let mut alarm = Alarm::new(Clock::start());
        let begun = alarm.clock.now();
        for nth in 1..=20 {
            alarm.at(begun + GATHER / 10 * nth).await;
        }
        // Twenty deadlines within two milliseconds: the rest of the time is the gathering.
        assert!(alarm.clock.now() >= begun + GATHER * 19);
    }

    #[tokio::test]
    async fn an_alarm_set_anew_forgets_the_former_deadline() {
        let mut alarm = Alarm::new(Clock::start());
        assert!(alarm.timer.is_some());
        let (near, far) = (alarm.clock.now() + SOON, alarm.clock.now() + SOON * 10);
        tokio::select! {
            biased;
            () = alarm.at(near) => unreachable!("it lies ahead"),
            () = std::future::ready(()) => {}
        }
        alarm.at(far).await;
        assert!(alarm.clock.now() >= far);
    }

    #[tokio::test]
    async fn whoever_asks_again_for_the_same_deadline_is_woken_by_it() {
        let mut alarm = Alarm::new(Clock::start());
        let deadline = alarm.clock.now() + SOON;
        while alarm.clock.now() < deadline + SOON {
            tokio::select! {
                biased;
                () = alarm.at(deadline) => return,
                () = tokio::task::yield_now() => {}
            }
        }
        alarm.at(deadline).await;
    }
}
