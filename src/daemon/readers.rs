//! What is shown to readers, drawn when somebody looks.
//!
//! Invariants
//! 1. What nobody reads costs nothing: neither status nor metrics are drawn on a timer, and a
//!    status that nobody asked for again is not kept.
//! 2. However many look, a status is drawn no more often than once in [`DRAW_GAP`] for each
//!    [`DRAW_GAP_ENDPOINTS`]; a person who asks over the operators' socket gets the present one.
//! 3. Readers of a drawing that is younger than that take it from a cell and leave the loop alone.
//! 4. A reader whom the loop does not answer within [`PATIENCE`] is told so.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant as Moment, timeout};

use crate::admin::document::StatusDocument;
use crate::core::status::Status;
use crate::core::time::Instant;
use crate::daemon::driver::Driver;
use crate::telemetry::metric::{CATALOGUE, MetricsHandle};

/// Least time between two drawings for readers who come by themselves.
const DRAW_GAP: Duration = Duration::from_millis(100);
/// Endpoints that add another [`DRAW_GAP`]: drawing a large status must not cost a core.
const DRAW_GAP_ENDPOINTS: usize = 200;
/// How long a drawing that nobody asks for again is kept.
const KEPT: Duration = Duration::from_secs(5);
/// How long the loop may take to answer a reader.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a reader wants to see.
#[derive(Debug)]
pub(crate) enum Look {
    /// The status, as programs read it.
    Document(oneshot::Sender<Arc<StatusDocument>>),
    /// The status, to make metrics of.
    Status(oneshot::Sender<Box<Status>>),
}

/// A drawing for everybody who looks soon enough after it.
#[derive(Debug)]
struct Shown {
    document: Arc<StatusDocument>,
    until: Moment,
}

/// Where readers ask; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    looks: mpsc::Sender<Look>,
    shown: Arc<ArcSwapOption<Shown>>,
    metrics: MetricsHandle,
}

impl Readers {
    pub(crate) fn new(looks: mpsc::Sender<Look>, metrics: MetricsHandle) -> Self {
        Self { looks, shown: Arc::default(), metrics }
    }

    /// What the loop keeps of its drawings; what it draws, these readers see.
    pub(crate) fn drawn(&self) -> Drawn {
        Drawn {
            stale: false,
            at: Instant::default(),
            document: None,
            shown: Arc::clone(&self.shown),
        }
    }

    /// The status, not older than readers may expect; `None` when the loop does not answer.
    pub(crate) async fn document(&self) -> Option<Arc<StatusDocument>> {
        if let Some(shown) = &*self.shown.load()
            && Moment::now() < shown.until
        {
            return Some(Arc::clone(&shown.document));
        }
        self.look(Look::Document).await
    }

    /// The metrics of this moment; `None` when the loop does not answer.
    ///
    /// Probes go on between one metric and the next: with thousands of endpoints it is a long page.
    pub(crate) async fn metrics(&self) -> Option<String> {
        let status = self.look(Look::Status).await?;
        let mut text = self.metrics.begin();
        for metric in CATALOGUE {
            self.metrics.write(metric, &status, &mut text);
            tokio::task::yield_now().await;
        }
        Some(text)
    }

    async fn look<T>(&self, wanted: impl FnOnce(oneshot::Sender<T>) -> Look) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.looks.send(wanted(reply)).await.ok()?;
            answer.await.ok()
        };
        timeout(PATIENCE, asked).await.ok().flatten()
    }
}

/// The latest drawing.
#[derive(Debug)]
pub(crate) struct Drawn {
    /// Whether something happened since.
    stale: bool,
    at: Instant,
    document: Option<Arc<StatusDocument>>,
    shown: Arc<ArcSwapOption<Shown>>,
}

impl Drawn {
    /// Something happened: the drawing no longer shows the present.
    pub(crate) const fn outdate(&mut self) {
        self.stale = true;
    }

    /// Lets go of a drawing that nobody asks for any more.
    pub(crate) fn tidy(&mut self, now: Instant) {
        if now >= self.at + KEPT && self.document.take().is_some() {
            self.shown.store(None);
        }
    }

    fn keep(&mut self, document: &Arc<StatusDocument>, now: Instant, gap: Duration) {
        (self.stale, self.at) = (false, now);
        self.document = Some(Arc::clone(document));
        let shown = Shown { document: Arc::clone(document), until: Moment::now() + gap };
        self.shown.store(Some(Arc::new(shown)));
    }

    fn fresh(&self, now: Instant, gap: Duration) -> Option<Arc<StatusDocument>> {
        let good = !self.stale || now < self.at + gap;
        self.document.as_ref().filter(|_| good).map(Arc::clone)
    }
}

impl Driver {
    pub(super) fn on_look(&mut self, look: Look) {
        // Whoever asked may have given up.
        match look {
            Look::Document(reply) => {
                let kept = self.drawn.fresh(self.clock.now(), self.draw_gap());
                reply.send(kept.unwrap_or_else(|| self.draw())).ok();
            }
            Look::Status(reply) => {
                let status = self.engine.status(self.clock.now());
                reply.send(Box::new(status)).ok();
            }
        }
    }

    /// Draws the present status.
    pub(super) fn draw(&mut self) -> Arc<StatusDocument> {
        let now = self.clock.now();
        let (clock, policy) = (self.clock, self.source.info(&self.clock));
        let status = self.engine.status(now);
        let document =
            StatusDocument::new(&status, policy, self.sidecar.clone(), &|at| clock.rfc3339(at));
        let mut document = self.effects.with_phases(document);
        self.effects.uptake.show(&mut document, now);
        document.references = self.references.documents(&self.clock);
        document.backup = self.backups.document();
        document.redis = self.redis.document();
        let document = Arc::new(document);
        let gap = self.draw_gap();
        self.drawn.keep(&document, now, gap);
        document
    }

    fn draw_gap(&self) -> Duration {
        let endpoints = self.effects.policy.services.values().map(|one| one.endpoints.len());
        let steps = endpoints.sum::<usize>() / DRAW_GAP_ENDPOINTS + 1;
        DRAW_GAP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Instant {
        Instant::new(Duration::from_millis(millis))
    }

    fn drawn() -> Drawn {
        let document = serde_json::from_value(serde_json::json!({
            "schema": 1,
            "revision": 0,
            "sidecar": { "name": "", "version": "", "pid": 1, "started_at": "" },
            "policy": { "digest": "", "valid": true, "loaded_at": "", "path": "" },
            "services": {},
        }));
        let document = Some(Arc::new(document.unwrap()));
        Drawn { stale: false, at: at(1_000), document, shown: Arc::default() }
    }

    #[test]
    fn readers_share_a_drawing_until_something_happened_and_its_time_is_over() {
        let mut drawn = drawn();
        assert!(drawn.fresh(at(9_000), GAP).is_some(), "nothing happened");
        drawn.outdate();
        assert!(drawn.fresh(at(1_099), GAP).is_some(), "too soon to draw another");
        assert!(drawn.fresh(at(1_100), GAP).is_none());
    }

    #[test]
    fn a_drawing_that_nobody_asks_for_is_not_kept() {
        let mut drawn = drawn();
        drawn.tidy(at(5_999));
        assert!(drawn.document.is_some());
        drawn.tidy(at(6_000));
        assert!(drawn.document.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn readers_who_come_soon_after_a_drawing_leave_the_loop_alone() {
        let (looks, mut asked) = mpsc::channel(1);
        let readers = Readers::new(looks, crate::telemetry::metric::install());
        let document = drawn().document.unwrap();
        readers.drawn().keep(&document, at(1_000), GAP);
        assert!(readers.document().await.is_some());
        assert!(asked.try_recv().is_err(), "the loop was asked");
        tokio::time::advance(GAP).await;
        assert!(readers.document().await.is_none(), "nobody draws another");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_of_a_loop_that_stands_still_is_told_so_in_time() {
        let (looks, _never_read) = mpsc::channel(1);
        let readers = Readers::new(looks, crate::telemetry::metric::install());
        assert!(readers.document().await.is_none());
        assert!(readers.metrics().await.is_none());
    }
}
