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
    /// Tells `heard` of every event of the sidecar behind a control socket, and whether it is the
    /// first of its connection, until it says that it has heard enough.
    #[must_use]
    pub fn start(
        control: PathBuf,
        heard: impl FnMut(EventRecord, bool) -> bool + Send + 'static,
    ) -> Self {
        Self(tokio::spawn(listen(control, heard)))
    }

    /// Notes every event, and how many were lost between two.
    #[must_use]
    pub fn noting(control: PathBuf, notes: Notebook) -> Self {
        let mut last = 0;
        Self::start(control, move |record, first| {
            let now = notes.now();
            let lost = if first { 0 } else { record.seq.abs_diff(last).abs_diff(1) };
            last = record.seq;
            notes.with(|log| {
                log.lost_events += lost;
                log.note_event(now, record.event);
            });
            true
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(control: PathBuf, mut heard: impl FnMut(EventRecord, bool) -> bool) {
    loop {
        if let Ok(client) = Client::connect(&control).await
            && let Ok(mut watch) = client.watch().await
        {
            let mut first = true;
            while let Ok(Some(record)) = watch.next().await {
                if !heard(record, std::mem::take(&mut first)) {
                    return;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
