//! Senders of small records, as fast as they can or at a steady rate, and what became of their
//! records.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate::{Delivery, DeliveryError, Topic};

use crate::kafka::wait_until;

const VALUE: [u8; 100] = [7; 100];
const BURST: usize = 500;
/// How often a sender with a steady rate looks at what is due.
const PACE: Duration = Duration::from_millis(5);
/// How often a sender looks at its deliveries.
const COLLECT: Duration = Duration::from_millis(20);
/// How long a sender waits after a record that was refused.
const REFUSED: Duration = Duration::from_millis(1);

/// Running senders to one topic. Dropping it ends them and looks at no delivery any more.
pub struct Load {
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<Vec<Delivery>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    acked: AtomicU64,
    failed: AtomicU64,
    first_error: Mutex<Option<String>>,
}

impl Load {
    /// So many senders of records without key, as fast as they can.
    pub fn start(topic: &Topic, senders: usize) -> Load {
        let shared = Arc::new(Shared::default());
        let start = |_| shared.start(topic, || BURST);
        Load { senders: (0..senders).map(start).collect(), shared }
    }

    /// One sender that sends each record when it is due, or later all that it was kept from.
    pub fn paced(topic: &Topic, per_second: u64) -> Load {
        let shared = Arc::new(Shared::default());
        let (start, mut before) = (Instant::now(), 0);
        let sender = shared.start(topic, move || {
            thread::sleep(PACE);
            let due = start.elapsed().as_millis() as u64 * per_second / 1_000;
            (due - std::mem::replace(&mut before, due)) as usize
        });
        Load { senders: vec![sender], shared }
    }

    /// Records that were accepted so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Records that were acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Relaxed)
    }

    /// Records that were accepted and failed so far.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// The first error, of `send` or of a delivery, in words.
    pub fn first_error(&self) -> Option<String> {
        self.shared.first_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many records were acknowledged from now on.
    #[track_caller]
    pub fn wait_for_more(&self, more: u64, limit: Duration) {
        let before = self.acked();
        let went_on = wait_until(limit, || self.acked() >= before + more);
        let (acked, error) = (self.acked() - before, self.first_error());
        assert!(went_on, "{acked} of {more} records acknowledged in {limit:?}; {error:?}");
    }

    /// Records acknowledged a second, while `span` passes.
    pub fn rate(&self, span: Duration) -> f64 {
        let (start, before) = (Instant::now(), self.acked());
        thread::sleep(span);
        (self.acked() - before) as f64 / start.elapsed().as_secs_f64()
    }

    /// Ends sending and waits until every delivery is resolved.
    #[track_caller]
    pub fn settle(&mut self, limit: Duration) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let end = Instant::now() + limit;
        for sender in std::mem::take(&mut self.senders) {
            for mut delivery in sender.join().expect("no sender panics") {
                let left = end.saturating_duration_since(Instant::now());
                let outcome = delivery.wait_timeout(left);
                let (acked, failed) = (self.acked(), self.failed());
                let outcome = outcome.unwrap_or_else(|| {
                    panic!("unresolved after {limit:?}, {acked} acknowledged, {failed} failed")
                });
                self.shared.count(&outcome);
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Starts a sender, which asks again and again how many records to send next.
    fn start(
        self: &Arc<Shared>,
        topic: &Topic,
        burst: impl FnMut() -> usize + Send + 'static,
    ) -> JoinHandle<Vec<Delivery>> {
        let (topic, shared) = (topic.clone(), self.clone());
        thread::spawn(move || shared.send(&topic, burst))
    }

    /// Sends until told to stop; gives the deliveries that are not resolved.
    fn send(&self, topic: &Topic, mut burst: impl FnMut() -> usize) -> Vec<Delivery> {
        let mut held = Vec::new();
        let mut collected = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            for _ in 0..burst() {
                match topic.send((), &VALUE) {
                    Ok(delivery) => held.push(delivery),
                    Err(error) => {
                        self.note(|| error.to_string());
                        thread::sleep(REFUSED);
                        break;
                    }
                }
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
            if collected.elapsed() >= COLLECT {
                held.retain_mut(|delivery| match delivery.try_take() {
                    None => true,
                    Some(outcome) => {
                        self.count(&outcome);
                        false
                    }
                });
                collected = Instant::now();
            }
        }
        held
    }

    fn count<T>(&self, outcome: &Result<T, DeliveryError>) {
        match outcome {
            Ok(_) => {
                self.acked.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.note(|| error.to_string());
            }
        }
    }

    fn note(&self, words: impl FnOnce() -> String) {
        let mut first = self.first_error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(words);
    }
}
