//! What a consumer keeps of answers that are not to be kept: the memory of a process of its own.

#![cfg(target_os = "linux")]

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tidegate::{Consumer, StartAt};

#[path = "consumer/peer.rs"]
mod peer;
#[path = "support/resident.rs"]
mod resident;

use peer::{asked, batch, peer};
use resident::resident;

/// So many answers are given.
const ANSWERS: usize = 300;
/// What the process may grow by: the queue's 8 MiB, an answer and its copy, and threads.
const GROWTH: usize = 40 << 20;

/// The code of Kafka's error of that name, which is over some time.
const REQUEST_TIMED_OUT: i16 = 7;

#[test]
fn a_tail_that_is_cut_off_takes_no_memory() {
    // Each answer: one batch of some 70 bytes, and 1 MiB of a batch whose end is cut off.
    let peer = peer(false, |count, request| {
        if count > ANSWERS {
            return (REQUEST_TIMED_OUT, Vec::new());
        }
        let mut records = batch(asked(request), 0, 1);
        let mut tail = batch(asked(request) + 1, 0, 1);
        tail[8..12].copy_from_slice(&(8i32 << 20).to_be_bytes());
        records.extend(tail);
        records.resize(1 << 20, 7);
        (0, records)
    });
    let before = resident();
    let consumer = Consumer::builder(&peer.address.to_string())
        .topic("t", StartAt::Earliest)
        .configure(|config| config.queue_max_bytes = 8 << 20)
        .build()
        .unwrap();
    let start = Instant::now();
    while peer.fetches.load(Ordering::SeqCst) < ANSWERS {
        assert!(start.elapsed() < Duration::from_secs(60), "it asks for no more");
        thread::sleep(Duration::from_millis(5));
    }
    let grown = resident().saturating_sub(before);
    drop(consumer);
    assert!(grown < GROWTH, "{grown} bytes");
}
