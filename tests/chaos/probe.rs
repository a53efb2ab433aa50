//! A plain client that says when the brokers themselves can store records: one batch at a time,
//! without any of this crate's code.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use crate::kafka::{Cluster, Wire, wait_until};
use crate::stage::LIMIT;

/// Between two tries of a partition.
const PAUSE: Duration = Duration::from_millis(5);
/// What a broker may take for one batch, before it is asked again.
const ANSWER: Duration = Duration::from_millis(2_000);

/// Keeps writing to every partition of a topic, through whichever broker takes it.
pub struct Probe {
    stop: Arc<AtomicBool>,
    /// What each partition did since the last reset.
    seen: Arc<Mutex<BTreeMap<i32, Pause>>>,
    threads: Vec<JoinHandle<()>>,
}

/// When a partition took the last batch, and its longest time between two.
#[derive(Clone, Copy)]
struct Pause {
    last: Instant,
    longest: Duration,
    /// When that was over.
    end: Instant,
}

impl Probe {
    /// One thread for each partition of a topic that nobody else uses.
    pub fn start(cluster: &Cluster, topic: &str, partitions: i32) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let now = Instant::now();
        let fresh = Pause { last: now, longest: Duration::ZERO, end: now };
        let seen: BTreeMap<i32, Pause> = (0..partitions).map(|p| (p, fresh)).collect();
        let seen = Arc::new(Mutex::new(seen));
        let brokers: Vec<SocketAddr> =
            cluster.broker_ids().into_iter().map(|id| cluster.address(id)).collect();
        let threads = (0..partitions).map(|partition| {
            let (stop, seen, brokers) = (stop.clone(), seen.clone(), brokers.clone());
            let request = request(topic, partition);
            thread::spawn(move || {
                let wrote = || {
                    let now = Instant::now();
                    let mut seen = seen.lock().expect("no holder panics");
                    let pause = seen.get_mut(&partition).expect("every partition is there");
                    let since = now - std::mem::replace(&mut pause.last, now);
                    if since > pause.longest {
                        (pause.longest, pause.end) = (since, now);
                    }
                };
                probe(&stop, &brokers, &request, wrote);
            })
        });
        let threads = threads.collect();
        Probe { stop, seen, threads }
    }

    /// Forgets the pauses so far.
    pub fn reset(&self) {
        for pause in self.seen.lock().expect("no holder panics").values_mut() {
            pause.longest = Duration::ZERO;
        }
    }

    /// When the longest pause of a partition ended; waits until it has been written to since.
    #[track_caller]
    pub fn pause_end(&self, partition: i32, since: Instant) -> Instant {
        let seen = || self.seen.lock().expect("no holder panics")[&partition];
        assert!(wait_until(LIMIT, || seen().last > since), "no broker takes records");
        seen().end
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic was already reported by the thread that had it.
            let _ = thread.join();
        }
    }
}

fn probe(stop: &AtomicBool, brokers: &[SocketAddr], request: &ProduceRequest, wrote: impl Fn()) {
    let mut wires: Vec<Option<Wire>> = brokers.iter().map(|_| None).collect();
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        let taken = try_at(&mut wires[at], brokers[at], request);
        if taken == Some(true) {
            wrote();
        } else {
            if taken.is_none() {
                wires[at] = None;
            }
            at = (at + 1) % brokers.len();
        }
        thread::sleep(PAUSE);
    }
}

/// Whether the broker took it; nothing if it did not answer.
fn try_at(wire: &mut Option<Wire>, broker: SocketAddr, request: &ProduceRequest) -> Option<bool> {
    if wire.is_none() {
        let fresh = Wire::connect(broker).ok()?;
        fresh.set_answer_limit(ANSWER).ok()?;
        *wire = Some(fresh);
    }
    let answer = wire.as_mut()?.call(9, request).ok()?;
    Some(answer.responses.first()?.partition_responses.first()?.error_code == 0)
}

fn request(topic: &str, partition: i32) -> ProduceRequest {
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: NO_SEQUENCE,
        timestamp: 0,
        key: None,
        value: Some(b"probe"[..].into()),
        headers: IndexMap::default(),
    };
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut batch, &[record], &options).expect("it is well formed");
    let mut data = PartitionProduceData::default();
    data.index = partition;
    data.records = Some(batch.freeze());
    let mut in_topic = TopicProduceData::default();
    in_topic.name = TopicName(StrBytes::from_string(topic.to_owned()));
    in_topic.partition_data = vec![data];
    let mut request = ProduceRequest::default();
    request.acks = -1;
    request.timeout_ms = 1_500;
    request.topic_data = vec![in_topic];
    request
}
