//! Bytes both ways: Bolt, Redis, `PostgreSQL`.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::core::outcome::Outcome;
use crate::output::proxy::desk::Desk;
use crate::output::proxy::dial::Stream;
use crate::output::proxy::lane::{Cut, Lane};
use crate::output::proxy::postgres;
use crate::output::proxy::splice::{Flow, Metered, pass};

/// Connects a caller with an endpoint until one of them, or the engine, has enough.
pub(super) async fn serve(desk: Arc<Desk>, mut client: TcpStream) {
    client.set_nodelay(true).ok();
    let Some((lane, cut, mut far)) = reach(&desk).await else {
        // The caller is to notice at once, not after its own deadline.
        client.set_zero_linger().ok();
        return;
    };
    let entered = lane.enter();
    let spec = desk.spec.load();
    let policy = &spec.policy;
    let flow = Flow::default();
    let watch = Watch { lane: &lane, desk: &desk, flow: &flow };
    let postgres = lane.upstream.scheme.starts_with("postgres") && lane.upstream.tls.is_some();
    let passing = async {
        if postgres {
            postgres::decline_tls(&mut client).await?;
        }
        let mut near = Metered { inner: &mut client, flow: &flow, tally: Some(&lane.tally) };
        if postgres {
            postgres::introduce(&mut near, &mut far).await?;
        }
        pass(&mut near, &mut far).await
    };
    let reset = tokio::select! {
        ended = passing => ended.is_err(),
        () = cut.done() => true,
        () = watch.judge(policy.first_byte_timeout) => false,
        () = flow.silence(policy.idle_timeout) => false,
    };
    if reset {
        client.set_zero_linger().ok();
        far.socket().set_zero_linger().ok();
    }
    drop(entered);
}

/// A connection to the first endpoint that takes one.
async fn reach(desk: &Desk) -> Option<(Arc<Lane>, Cut, Stream)> {
    let within = desk.spec.load().policy.connect_timeout;
    for lane in desk.order() {
        // Taken before the attempt: a cut that comes meanwhile counts.
        let cut = lane.cut();
        let began = Instant::now();
        let opened = tokio::select! {
            opened = lane.open(within) => opened,
            () = cut.done() => continue,
        };
        match opened {
            Ok(stream) => return Some((lane, cut, stream)),
            Err(unreached) => lane.ended(&desk.feedback, unreached.0, began.elapsed()),
        }
    }
    None
}

/// Judges an upstream by whether it answers.
struct Watch<'a> {
    lane: &'a Lane,
    desk: &'a Desk,
    flow: &'a Flow,
}

impl Watch<'_> {
    /// Tells the engine once whether the upstream answers, then waits for ever.
    async fn judge(&self, patience: Duration) -> ! {
        let began = Instant::now();
        tokio::select! {
            biased;
            () = self.flow.answered.happened() => self.answered(began),
            () = self.flow.asked.happened() => {
                let asked = Instant::now();
                match timeout(patience, self.flow.answered.happened()).await {
                    Ok(()) => self.answered(asked),
                    Err(_) => self.lane.ended(&self.desk.feedback, Outcome::Timeout, patience),
                }
            }
        }
        std::future::pending().await
    }

    fn answered(&self, since: Instant) {
        let took = since.elapsed();
        self.lane.answered(took);
        self.desk.proven(&self.lane.labels.endpoint);
        self.lane.ended(&self.desk.feedback, Outcome::Ok, took);
    }
}
