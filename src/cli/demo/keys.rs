//! Single keys from the terminal, without waiting for a line.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
};
use tokio::sync::mpsc;

/// The keyboard, key by key; as it was before when dropped.
#[derive(Debug)]
pub(super) struct Keys {
    before: Termios,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pressed: mpsc::UnboundedReceiver<char>,
}

impl Keys {
    /// Takes the keyboard, if there is one and it is ours.
    pub(super) fn open() -> Option<Self> {
        let stdin = io::stdin();
        let ours = || tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp());
        if !stdin.is_terminal() || !ours() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut single = before.clone();
        // Signals stay: Ctrl-C works as everywhere.
        single.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        // A read ends after a tenth of a second without a key, so that the thread can be ended.
        single.special_codes[SpecialCodeIndex::VMIN] = 0;
        single.special_codes[SpecialCodeIndex::VTIME] = 1;
        tcsetattr(&stdin, OptionalActions::Now, &single).ok()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, pressed) = mpsc::unbounded_channel();
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("keys".into());
        let thread = thread.spawn(move || read(&sender, &stopped)).ok();
        Some(Self { before, stop, thread, pressed })
    }

    /// Waits for a key.
    pub(super) async fn next(&mut self) -> Option<char> {
        self.pressed.recv().await
    }
}

fn read(sender: &mpsc::UnboundedSender<char>, stopped: &AtomicBool) {
    let mut byte = [0_u8; 1];
    while !stopped.load(Ordering::Relaxed) {
        match rustix::io::read(io::stdin(), &mut byte) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => {
                if sender.send(char::from(byte[0])).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        // There is nobody to tell if the terminal is gone.
        tcsetattr(io::stdin(), OptionalActions::Now, &self.before).ok();
    }
}
