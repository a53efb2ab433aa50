//! The life of a producer under a rude application: code that panics or stands still, ends that
//! come while records are sent or brokers are down, thousands of producers, one core for all.

mod ends;
mod processes;
mod stuck;
mod user_code;

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{
    Delivery, DeliveryError, OnDrop, Producer, ProducerBuilder, Record, RecordMetadata, Topic,
};

/// Longer than anything that works takes, also on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A cluster with one topic, `t`.
fn cluster(brokers: usize, partitions: i32) -> EmbeddedCluster {
    EmbeddedCluster::builder().brokers(brokers).topic("t", partitions).start().unwrap()
}

/// Unpinned: tests run side by side.
fn builder(cluster: &EmbeddedCluster) -> ProducerBuilder {
    Producer::builder(&cluster.bootstrap_servers()).configure(|config| config.pinning = false)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What became of a delivery, which must not take for ever.
fn outcome(mut delivery: Delivery) -> Result<RecordMetadata, DeliveryError> {
    delivery.wait_timeout(LONG).expect("every delivery resolves")
}

fn acked(delivery: Delivery) -> RecordMetadata {
    outcome(delivery).expect("this delivery must succeed")
}

/// Sends to a partition, so that no partitioner is asked.
fn send_to(topic: &Topic, partition: i32, value: &str) -> Delivery {
    topic.send_record(Record::new().value(value).partition(partition)).unwrap()
}

/// Makes the topic known.
fn warm(topic: &Topic, partitions: i32) {
    (0..partitions).for_each(|partition| drop(acked(send_to(topic, partition, "warm"))));
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::sleep(millis(1));
    }
}

/// Where code of the test stands still until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    open: bool,
    waiting: usize,
}

impl Gate {
    /// Stands still; for ever, were it not for the test's end.
    fn stall(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.waiting += 1;
        changed.notify_all();
        drop(changed.wait_while(state, |state| !state.open).unwrap());
    }

    fn await_stalled(&self, count: usize) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let short = |state: &mut GateState| state.waiting < count;
        let (state, _) = changed.wait_timeout_while(state, LONG, short).unwrap();
        assert!(state.waiting >= count, "nobody came here");
    }

    fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }
}

/// A test that fails opens its gate, so that its threads end.
struct OpenAtLast(Gate);

impl Drop for OpenAtLast {
    fn drop(&mut self) {
        self.0.open();
    }
}
