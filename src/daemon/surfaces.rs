//! The listening sides, each rebound live when its part of the policy changes.
//!
//! Invariant: a surface that cannot be bound is tried again and said loudly; it never stops the
//! sidecar and never undoes a reload.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::control::{ControlRequest, ControlSocket};
use crate::admin::http::AdminState;
use crate::admin::hub::EventHub;
use crate::alert::{Pace, Sender};
use crate::policy::model::{Admin, Alert, Policy};

/// How long to wait before a surface that could not be bound is tried again.
const REBIND_MIN: Duration = Duration::from_millis(500);
/// The longest such wait.
const REBIND_MAX: Duration = Duration::from_secs(30);

/// What the surfaces should be.
#[derive(Debug)]
pub(crate) struct Surfaces {
    admin: watch::Sender<Admin>,
    control: watch::Sender<PathBuf>,
    alerts: watch::Sender<Alerts>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// Who is told, and in whose name.
#[derive(Clone, Debug)]
struct Alerts {
    sidecar: String,
    alerts: Vec<Alert>,
}

/// What the surfaces serve from.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) admin: AdminState,
    pub(crate) requests: mpsc::Sender<ControlRequest>,
    pub(crate) hub: EventHub,
}

impl Surfaces {
    /// Starts every surface that the policy asks for.
    ///
    /// `control` overrides the policy's path of the control socket.
    pub(crate) fn start(policy: &Policy, served: Served) -> Self {
        let stop = CancellationToken::new();
        let (admin, admin_wanted) = watch::channel(policy.admin.clone());
        let (control, control_wanted) = watch::channel(policy.control.socket.clone());
        let (alerts, alerts_wanted) = watch::channel(wanted_alerts(policy));
        let Served { admin: state, requests, hub } = served;
        let tasks = vec![
            tokio::spawn(serve_admin(admin_wanted, state, stop.clone())),
            tokio::spawn(serve_control(control_wanted, requests, hub.clone(), stop.clone())),
            tokio::spawn(serve_alerts(alerts_wanted, hub, stop.clone())),
        ];
        Self { admin, control, alerts, stop, tasks }
    }

    /// Makes the surfaces what a new policy asks for; those that did not change are left alone.
    pub(crate) fn apply(&self, policy: &Policy) {
        set(&self.admin, policy.admin.clone());
        set(&self.control, policy.control.socket.clone());
        // A secret in an alert's URL may have changed without a visible difference.
        self.alerts.send_replace(wanted_alerts(policy));
    }

    /// Ends them all.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            // A task that panicked has been logged by the panic hook.
            task.await.ok();
        }
    }
}

fn wanted_alerts(policy: &Policy) -> Alerts {
    Alerts { sidecar: policy.sidecar.name.clone(), alerts: policy.alerts.clone() }
}

fn set<T: PartialEq>(cell: &watch::Sender<T>, wanted: T) {
    cell.send_if_modified(|current| {
        let differs = *current != wanted;
        *current = wanted;
        differs
    });
}

async fn serve_admin(
    mut wanted: watch::Receiver<Admin>,
    state: AdminState,
    stop: CancellationToken,
) {
    loop {
        let admin = wanted.borrow_and_update().clone();
        let this = stop.child_token();
        let serving = async {
            let Some(address) = admin.listen else { return this.cancelled().await };
            let bind = || TcpListener::bind(address);
            let Some(listener) = persist("admin", &address, bind, &this).await else { return };
            announce(&listener, address);
            let state = AdminState { allowed_hosts: admin.allowed_hosts.clone(), ..state.clone() };
            crate::admin::http::serve(listener, state, this.clone()).await;
        };
        if !until_changed(serving, &mut wanted, &this).await {
            return;
        }
    }
}

async fn serve_control(
    mut wanted: watch::Receiver<PathBuf>,
    requests: mpsc::Sender<ControlRequest>,
    hub: EventHub,
    stop: CancellationToken,
) {
    loop {
        let path = wanted.borrow_and_update().clone();
        let this = stop.child_token();
        let serving = async {
            let bind = || ControlSocket::bind(&path);
            let Some(socket) = persist("control", &shown(&path), bind, &this).await else { return };
            socket.serve(requests.clone(), hub.clone(), this.clone()).await;
        };
        if !until_changed(serving, &mut wanted, &this).await {
            return;
        }
    }
}

async fn serve_alerts(mut wanted: watch::Receiver<Alerts>, hub: EventHub, stop: CancellationToken) {
    loop {
        let Alerts { sidecar, alerts } = wanted.borrow_and_update().clone();
        let this = stop.child_token();
        let serving = tell(sidecar, alerts, &hub, &this);
        if !until_changed(serving, &mut wanted, &this).await {
            return;
        }
    }
}

async fn tell(sidecar: String, alerts: Vec<Alert>, hub: &EventHub, stop: &CancellationToken) {
    // The client costs memory that a sidecar without receivers does not spend.
    if alerts.is_empty() {
        return;
    }
    match crate::alert::Client::new() {
        Ok(client) => {
            let sender = Sender { sidecar, client, pace: Pace::default() };
            crate::alert::run(alerts, sender, hub.feed(), stop.clone()).await;
        }
        Err(error) => tracing::error!(%error, "nobody will be alerted"),
    }
}

/// Serves until something else is wanted; false when it is over for good.
async fn until_changed<T>(
    serving: impl Future<Output = ()>,
    wanted: &mut watch::Receiver<T>,
    this: &CancellationToken,
) -> bool {
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => tokio::select! {
            () = this.cancelled() => false,
            changed = wanted.changed() => changed.is_ok(),
        },
        changed = wanted.changed() => {
            this.cancel();
            serving.await;
            changed.is_ok()
        }
    }
}

/// Binds, however long it takes; `None` when it is no longer wanted.
async fn persist<T, F: Future<Output = std::io::Result<T>>>(
    surface: &'static str,
    place: &(dyn std::fmt::Display + Sync),
    bind: impl Fn() -> F,
    stop: &CancellationToken,
) -> Option<T> {
    let mut wait = REBIND_MIN;
    loop {
        match bind().await {
            Ok(bound) => return Some(bound),
            Err(error) => tracing::error!(
                surface, %place, %error, retry_seconds = wait.as_secs_f64(), "cannot listen"
            ),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(wait) => wait = wait.saturating_mul(2).min(REBIND_MAX),
        }
    }
}

fn announce(listener: &TcpListener, wanted: SocketAddr) {
    let address = listener.local_addr().unwrap_or(wanted);
    tracing::info!("status page and metrics at http://{address}/");
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
