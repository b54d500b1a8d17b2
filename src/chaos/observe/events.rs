//! The events of a sidecar, from as soon as it answers and over its restarts.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::admin::control_client::Client;
use crate::chaos::observe::Notebook;
use crate::core::record::EventRecord;

/// Time between two attempts to reach the sidecar.
const LOOK: Duration = Duration::from_millis(10);

/// Who listens; stops when dropped.
#[derive(Debug)]
pub struct Listener(JoinHandle<()>);

impl Listener {
    /// Tells `heard` of every event of the sidecar behind a control socket, until it says that it
    /// has heard enough.
    #[must_use]
    pub fn start(
        control: PathBuf,
        heard: impl FnMut(EventRecord) -> bool + Send + 'static,
    ) -> Self {
        Self(tokio::spawn(listen(control, heard)))
    }

    /// Notes every event.
    #[must_use]
    pub fn noting(control: PathBuf, notes: Notebook) -> Self {
        Self::start(control, move |record| {
            let now = notes.now();
            notes.with(|log| log.note_event(now, record.event));
            true
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(control: PathBuf, mut heard: impl FnMut(EventRecord) -> bool) {
    loop {
        if let Ok(client) = Client::connect(&control).await
            && let Ok(mut watch) = client.watch().await
        {
            while let Ok(Some(record)) = watch.next().await {
                if !heard(record) {
                    return;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
