//! A writer without manners.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use mcp_failover::watch::SourceEvent;
use tokio::time::Instant;

use super::{Watched, folder, put, replace, text_of};

/// Small, seeded, and good enough to be rude.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// One rude act; whatever it is, a file of that name may hold anything afterwards, or be gone.
fn disturb(path: &Path, dice: &mut Dice, round: u64) {
    let length = usize::try_from(dice.roll(9_000)).expect("small");
    let text = format!("{round} ").repeat(length / 4);
    match dice.roll(6) {
        0 => replace(path, &text),
        1 => put(path, ""),
        2 => drop(fs::remove_file(path)),
        3 => fs::write(path, [0xff, 0xfe, 0x00]).expect("written"),
        4 => drop(File::options().append(true).open(path).map(|mut file| file.write_all(b"half"))),
        _ => {
            let mut file = File::create(path).expect("truncated");
            for piece in text.as_bytes().chunks(1_000) {
                file.write_all(piece).expect("a piece written");
            }
        }
    }
}

#[tokio::test]
async fn ten_thousand_rude_writes_end_with_the_last_content() {
    let (_dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let end = Instant::now() + Duration::from_secs(8);
    for round in 0..10_000 {
        disturb(&path, &mut dice, round);
        // The watcher shares this thread; let it see the middle of things.
        if round % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            while let Ok(event) = watched.events.try_recv() {
                watched.told.push(event);
            }
        }
        if end < Instant::now() {
            break;
        }
    }
    put(&path, "the last word");
    watched.expect_text("the last word").await;
    assert_eq!(watched.rest().await, []);
    let texts: Vec<&str> = watched.told.iter().filter_map(text_of).collect();
    assert!(texts.windows(2).all(|pair| pair[0] != pair[1]), "the same text is never told twice");
}

#[tokio::test]
async fn trouble_and_its_end_come_in_turn() {
    let (_dir, path) = folder();
    let mut watched = Watched::holding(&path, "one").await;
    let mut dice = Dice(7);
    for round in 0..40 {
        disturb(&path, &mut dice, round);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    put(&path, "the last word");
    watched.expect_text("the last word").await;
    let mut troubled = false;
    for event in &watched.told {
        match event {
            SourceEvent::Missing | SourceEvent::Unreadable(_) => troubled = true,
            SourceEvent::Restored => {
                assert!(troubled, "restored without trouble: {:?}", watched.told);
                troubled = false;
            }
            _ => {}
        }
    }
    assert!(!troubled, "{:?}", watched.told);
}
