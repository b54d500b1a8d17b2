//! Answers what operators ask over the control socket, and what the watcher tells.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::admin::control::ControlRequest;
use crate::admin::protocol::{
    Answer, ControlFailure, FailureCode, HistoryQuery, Request, Response,
};
use crate::core::id::ServiceName;
use crate::core::input::{Command, Input};
use crate::daemon::driver::Driver;
use crate::daemon::keeper::Query;
use crate::daemon::reload::{Invalid, Proven, prove};
use crate::policy::diff::PolicyDiff;
use crate::telemetry::metric::{self, Reload};
use crate::watch::{SourceEvent, WatchMode};

impl Driver {
    pub(super) fn on_control(&mut self, asked: ControlRequest) {
        let ControlRequest { request, reply } = asked;
        match request {
            Request::Ping => answer(reply, Ok(Answer::Pong(self.sidecar.clone()))),
            Request::Status => {
                let document = self.draw().as_ref().clone();
                answer(reply, Ok(Answer::Status(Box::new(document))));
            }
            Request::Explain { service } => answer(reply, self.explanation(&service)),
            Request::Command { command } => self.command(command, reply),
            Request::History { query } => self.history(query, reply),
            Request::Policy => {
                answer(reply, Ok(Answer::Policy(self.source.info(&self.clock))));
            }
            Request::Reload => {
                self.source.waiting.push(reply);
                self.watcher.poke();
            }
            Request::Backup => {
                let now = self.clock.now();
                let snapshot = self.engine.snapshot(now);
                // The keeper does it before it is asked for what to back up.
                drop(self.effects.save(&snapshot, now));
                self.backups.ask(reply);
            }
            // The socket serves these itself, from the hub.
            Request::Watch => answer(reply, Ok(Answer::Watching)),
        }
    }

    fn explanation(&self, service: &ServiceName) -> Response {
        let Some(explanation) = self.engine.explain(self.clock.now(), service) else {
            let message = format!("no service named `{service}`");
            return Err(ControlFailure::new(FailureCode::NotFound, &message)
                .with_help("`mcp-failover status` lists the services"));
        };
        serde_json::to_value(explanation).map(Answer::Explanation).map_err(|error| {
            ControlFailure::new(FailureCode::Failed, &format!("write the explanation: {error}"))
        })
    }

    fn command(&mut self, command: Command, reply: oneshot::Sender<Response>) {
        let ticket = self.effects.expect_answer(reply);
        self.step(Input::Commanded { ticket, command });
    }

    fn history(&self, query: HistoryQuery, reply: oneshot::Sender<Response>) {
        let keeper = self.effects.keeper.clone();
        let query = Query { service: query.service, limit: query.n.min(HistoryQuery::COUNT_MAX) };
        self.effects.tasks.spawn(async move {
            answer(reply, Ok(Answer::History(keeper.history(query).await)));
        });
    }

    pub(super) fn on_source(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Changed { text, forced, .. } => {
                self.source.text = text;
                self.read_policy(forced);
            }
            SourceEvent::ExtraChanged(files) => {
                tracing::info!(files = files.len(), "a secret file or a template changed");
                self.read_policy(false);
            }
            SourceEvent::Missing => {
                self.refuse("the policy file is gone; the policy in force stays".to_owned());
            }
            SourceEvent::Unreadable(why) => self.refuse(why),
            SourceEvent::Restored => self.read_policy(false),
            SourceEvent::StaleBindMount(remedy) => {
                metric::watch_stale_bind_mount(true);
                tracing::error!("{remedy}");
            }
            SourceEvent::FragileBindMount(remedy) => tracing::warn!("{remedy}"),
            SourceEvent::Mode(mode, why) => watched_by(mode, why.as_deref()),
        }
    }

    /// Compiles the latest text and puts it in force, or doubts it.
    fn read_policy(&mut self, forced: bool) {
        let began = self.clock.now();
        match prove(&self.source.path, &self.source.text) {
            Ok(proven) => {
                let result = self.put_in_force(proven);
                self.count(result, self.clock.now() - began);
                self.tell_waiting(None);
            }
            Err(invalid) if forced => self.reject(&invalid),
            Err(invalid) => {
                // Mending a secret file that is named but unreadable must be noticed.
                self.watcher.also_seen(invalid.secrets.clone());
                self.source.doubt(invalid, began);
            }
        }
    }

    /// A text that had its time to become whole is judged.
    pub(super) fn judge_source(&mut self) {
        if let Some(invalid) = self.source.take_doubt() {
            self.reject(&invalid);
        }
    }

    fn reject(&mut self, invalid: &Invalid) {
        self.watcher.also_seen(invalid.secrets.clone());
        tracing::error!("the policy is invalid; the one in force stays\n{}", invalid.text);
        self.source.complain(invalid.lines.clone());
        self.count(Reload::Invalid, Duration::ZERO);
        let failure = ControlFailure::new(FailureCode::PolicyInvalid, &invalid.lines.join("; "))
            .with_help("`mcp-failover check` shows each place");
        self.tell_waiting(Some(&failure));
        self.drawn.outdate();
    }

    fn refuse(&mut self, why: String) {
        tracing::error!("{why}");
        let failure = ControlFailure::new(FailureCode::Failed, &why);
        self.source.complain(vec![why]);
        self.count(Reload::Unreadable, Duration::ZERO);
        self.tell_waiting(Some(&failure));
        self.drawn.outdate();
    }

    fn put_in_force(&mut self, proven: Proven) -> Reload {
        let Proven { policy, text, secrets } = proven;
        let now = self.clock.now();
        self.watcher.also_seen(secrets);
        let digest = policy.digest;
        let same = digest == self.source.digest();
        self.source.accepted(digest, now);
        if same {
            self.drawn.outdate();
            return Reload::Unchanged;
        }
        let policy = Arc::new(policy);
        let changes = PolicyDiff::between(&self.effects.policy, &policy).summary().join("; ");
        tracing::info!(%digest, changes, "a new policy is in force");
        let old = std::mem::replace(&mut self.effects.policy, Arc::clone(&policy));
        self.effects.forget_missing(&old);
        self.effects.uptake.apply(&policy);
        self.effects.child.send_if_modified(|child| {
            let changed = *child != policy.child;
            child.clone_from(&policy.child);
            changed
        });
        self.outputs.apply(&policy.outputs);
        self.backups.apply(&policy);
        self.redis.apply(&policy);
        self.surfaces.apply(&policy);
        self.references.apply(&policy.references);
        self.effects.sharing.apply(&policy);
        if policy.sidecar.state_dir != old.sidecar.state_dir {
            self.effects.move_store(&policy.sidecar.state_dir);
        }
        self.sidecar.name.clone_from(&policy.sidecar.name);
        if *policy.rules == *old.rules {
            self.effects.republish(now);
        } else {
            self.step(Input::RulesReplaced(Arc::clone(&policy.rules)));
        }
        let at = self.clock.wall_ms();
        self.effects.keeper.keep_policy(text, digest.0, at);
        self.drawn.outdate();
        Reload::Applied
    }

    fn count(&self, result: Reload, took: Duration) {
        let now = Duration::from_millis(self.clock.wall_ms()).as_secs_f64();
        metric::reloaded(result, took, now);
    }

    fn tell_waiting(&mut self, failure: Option<&ControlFailure>) {
        let info = self.source.info(&self.clock);
        for reply in std::mem::take(&mut self.source.waiting) {
            let response = failure
                .map_or_else(|| Ok(Answer::Policy(info.clone())), |failure| Err(failure.clone()));
            answer(reply, response);
        }
    }
}

fn answer(reply: oneshot::Sender<Response>, response: Response) {
    // Whoever asked may have hung up.
    reply.send(response).ok();
}

fn watched_by(mode: WatchMode, why: Option<&str>) {
    let counted = match mode {
        WatchMode::Inotify => metric::WatchMode::Notify,
        WatchMode::Poll => metric::WatchMode::Poll,
    };
    metric::watch_mode(counted);
    if let Some(why) = why {
        tracing::warn!(mode = mode.label(), "watching the policy: {why}");
    }
}
