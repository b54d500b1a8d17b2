//! When to break and when to heal, and whether it went right.
//!
//! Pure: it is told what was seen and when, and says what to do next.

use std::time::Duration;

use tokio::time::Instant;

/// How long the demo shows a healthy service before it breaks it.
const WELL: Duration = Duration::from_secs(6);
/// How long it shows the service on its backup before it heals the primary.
const AWAY: Duration = Duration::from_secs(5);
/// The same for a run that nobody watches.
const ONCE: Duration = Duration::from_millis(1500);
/// How long a stage of such a run may take: many times what it does take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where the play is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scene {
    /// Nothing is published yet.
    Starting,
    /// The primary serves.
    Well,
    /// The primary is broken, and still published.
    Down,
    /// The backup is published.
    Away,
    /// The primary is healed, and not published yet.
    Returning,
}

impl Scene {
    const fn missed(self) -> &'static str {
        match self {
            Self::Starting => "the env file did not name the primary",
            Self::Well => "the primary was not broken",
            Self::Down => "the env file did not name the secondary after the primary broke",
            Self::Away => "the primary was not healed",
            Self::Returning => "the env file did not name the primary again after it was healed",
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cue {
    /// Nothing yet.
    Wait,
    /// Make the primary refuse connections.
    Break,
    /// Make the primary slower than its deadline.
    Slow,
    /// Make the primary serve again.
    Heal,
    /// It is over, and it went right.
    Done,
    /// A stage did not come in time.
    Missed(&'static str),
}

/// When things were seen in the latest cycle.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) broken: Option<Instant>,
    pub(super) detected: Option<Instant>,
    pub(super) decided: Option<Instant>,
    pub(super) published: Option<Instant>,
    pub(super) healed: Option<Instant>,
    pub(super) returned: Option<Instant>,
}

/// The play.
#[derive(Debug)]
pub(super) struct Script {
    once: bool,
    auto: bool,
    scene: Scene,
    since: Instant,
    faults: u32,
    times: Times,
}

impl Script {
    /// One that begins now.
    pub(super) fn new(once: bool, now: Instant) -> Self {
        let times = Times::default();
        Self { once, auto: true, scene: Scene::Starting, since: now, faults: 0, times }
    }

    /// Whether the play goes on by itself.
    pub(super) const fn auto(&self) -> bool {
        self.auto
    }

    /// Leaves the play to the person at the keyboard, or takes it back.
    pub(super) const fn set_auto(&mut self, auto: bool) {
        self.auto = auto;
    }

    /// When things were seen.
    pub(super) const fn times(&self) -> Times {
        self.times
    }

    /// Takes note of what the primary does and which endpoint is published.
    pub(super) fn observe(&mut self, faulty: bool, published: Option<&str>, now: Instant) {
        let scene = match (faulty, published) {
            (_, None) => Scene::Starting,
            (false, Some("primary")) => Scene::Well,
            (false, Some(_)) => Scene::Returning,
            (true, Some("primary")) => Scene::Down,
            (true, Some(_)) => Scene::Away,
        };
        if scene == self.scene {
            return;
        }
        match (self.scene, scene) {
            (_, Scene::Down) => self.times = Times { broken: Some(now), ..Times::default() },
            (Scene::Down, Scene::Away) => self.times.published = Some(now),
            (Scene::Away, Scene::Returning) => self.times.healed = Some(now),
            (Scene::Returning, Scene::Well) => self.times.returned = Some(now),
            _ => {}
        }
        self.scene = scene;
        self.since = now;
    }

    /// Takes note that the primary was found unhealthy.
    pub(super) fn detected(&mut self, now: Instant) {
        self.times.detected.get_or_insert(now);
    }

    /// Takes note that the move away was decided.
    pub(super) fn decided(&mut self, now: Instant) {
        self.times.decided.get_or_insert(now);
    }

    /// What to do now.
    pub(super) fn cue(&mut self, now: Instant) -> Cue {
        if self.once && self.scene == Scene::Well && self.times.returned.is_some() {
            return Cue::Done;
        }
        let passed = now.duration_since(self.since);
        if self.once && passed > DEADLINE {
            return Cue::Missed(self.scene.missed());
        }
        let pause = |usual| if self.once { ONCE } else { usual };
        match self.scene {
            Scene::Well if self.auto && passed >= pause(WELL) => {
                self.faults += 1;
                // Every other fault is of the silent kind.
                if self.faults.is_multiple_of(2) { Cue::Slow } else { Cue::Break }
            }
            Scene::Away if self.auto && passed >= pause(AWAY) => Cue::Heal,
            Scene::Starting | Scene::Well | Scene::Down | Scene::Away | Scene::Returning => {
                Cue::Wait
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_cycle_ends_when_the_primary_is_published_again() {
        let start = Instant::now();
        let at = |secs: u64| start + Duration::from_secs(secs);
        let mut script = Script::new(true, start);
        assert_eq!(script.cue(at(0)), Cue::Wait);
        script.observe(false, Some("primary"), at(1));
        assert_eq!(script.cue(at(2)), Cue::Wait);
        assert_eq!(script.cue(at(3)), Cue::Break);
        script.observe(true, Some("primary"), at(3));
        script.detected(at(4));
        script.decided(at(4));
        script.observe(true, Some("secondary"), at(5));
        assert_eq!(script.cue(at(7)), Cue::Heal);
        script.observe(false, Some("secondary"), at(7));
        assert_eq!(script.cue(at(8)), Cue::Wait);
        script.observe(false, Some("primary"), at(12));
        assert_eq!(script.cue(at(12)), Cue::Done);
        let times = script.times();
        assert_eq!(times.published, Some(at(5)));
        assert_eq!(times.returned, Some(at(12)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_that_does_not_come_is_named() {
        let start = Instant::now();
        let mut script = Script::new(true, start);
        let late = start + DEADLINE + Duration::from_secs(1);
        assert_eq!(script.cue(late), Cue::Missed(Scene::Starting.missed()));
        script.observe(true, Some("primary"), late);
        assert_eq!(script.cue(late + DEADLINE * 2), Cue::Missed(Scene::Down.missed()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_at_the_keyboard_is_not_interrupted() {
        let start = Instant::now();
        let mut script = Script::new(false, start);
        script.observe(false, Some("primary"), start);
        script.set_auto(false);
        assert_eq!(script.cue(start + DEADLINE), Cue::Wait);
        script.set_auto(true);
        assert_eq!(script.cue(start + DEADLINE), Cue::Break);
    }
}
