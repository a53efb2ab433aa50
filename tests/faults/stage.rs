//! Embedded brokers behind proxies, and the oracle that judges what became of records.

use std::collections::HashMap;

use tidegate::Certainty;
use tidegate::embedded::{EmbeddedCluster, EmbeddedClusterBuilder, EmbeddedRecord};

use super::*;

/// A cluster with the topic `t`, a proxy in front of each broker.
pub struct Stage {
    // Dropped first: a broker that ends waits for what is at work on its connections.
    pub proxies: Vec<Proxy>,
    pub cluster: EmbeddedCluster,
}

/// A record on its way.
pub struct Sent {
    pub topic: String,
    pub partition: i32,
    /// Unlike that of any other record of the test.
    pub value: String,
    pub delivery: Delivery,
}

/// How deliveries ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub acked: usize,
    pub unknown: usize,
    pub not_written: usize,
}

impl Stage {
    pub fn new(brokers: usize, partitions: i32) -> Stage {
        Stage::of(EmbeddedCluster::builder().brokers(brokers).topic("t", partitions))
    }

    pub fn of(builder: EmbeddedClusterBuilder) -> Stage {
        let cluster = builder.start().unwrap();
        let proxies: Vec<Proxy> =
            cluster.broker_ids().into_iter().map(|id| Proxy::to(cluster.address(id))).collect();
        for (id, proxy) in (1..).zip(&proxies) {
            cluster.advertise(id, proxy.address());
        }
        Stage { proxies, cluster }
    }

    /// The proxy in front of a broker.
    pub fn proxy(&self, id: i32) -> &Proxy {
        &self.proxies[id as usize - 1]
    }

    /// The addresses of all proxies.
    pub fn bootstrap_servers(&self) -> String {
        let addresses: Vec<_> = self.proxies.iter().map(|p| p.address().to_string()).collect();
        addresses.join(",")
    }

    /// Unpinned, as tests run side by side; batches of one record, so that many are in flight;
    /// quick retries, so that tests are.
    pub fn builder(&self) -> ProducerBuilder {
        quick(Producer::builder(&self.bootstrap_servers()))
    }

    pub fn producer(&self) -> Producer {
        self.builder().build().unwrap()
    }

    /// Holds what became of the records against the logs: acknowledged is in the log, once, at its
    /// offset; order per partition; nothing twice; not written is not there.
    pub fn judge(&self, sent: Vec<Sent>) -> Tally {
        let mut logs: HashMap<(String, i32), HashMap<String, i64>> = HashMap::new();
        let mut last: HashMap<(String, i32), i64> = HashMap::new();
        let mut tally = Tally::default();
        for Sent { topic, partition, value, delivery } in sent {
            let outcome = outcome(delivery);
            let place = (topic, partition);
            // Read when the delivery has resolved: what is acknowledged must be there by now.
            let log = logs.entry(place.clone()).or_default();
            if outcome.is_ok() && !log.contains_key(&value) {
                *log = self.positions(&place.0, partition);
            }
            let found = log.get(&value).copied();
            match outcome {
                Ok(metadata) => {
                    tally.acked += 1;
                    assert!(found.is_some(), "{:?} is lost: {metadata}", start_of(&value));
                    assert!(metadata.offset().is_none_or(|offset| found == Some(offset)));
                    let before = last.insert(place, found.unwrap());
                    assert!(before < found, "{:?} was overtaken: {metadata}", start_of(&value));
                }
                Err(error) if error.certainty() == Certainty::Unknown => tally.unknown += 1,
                Err(error) => {
                    tally.not_written += 1;
                    let there = self.positions(&place.0, partition).contains_key(&value);
                    assert!(!there, "{:?} is in the log: {error}", start_of(&value));
                }
            }
        }
        for topic in logs.keys() {
            self.positions(&topic.0, topic.1);
        }
        tally
    }

    /// [`Stage::judge`], where nothing may fail.
    pub fn judge_all_acked(&self, sent: Vec<Sent>) {
        let count = sent.len();
        let tally = self.judge(sent);
        assert_eq!(tally, Tally { acked: count, ..Tally::default() });
    }

    /// Values of a log, each there once, and their offsets.
    fn positions(&self, topic: &str, partition: i32) -> HashMap<String, i64> {
        let mut positions = HashMap::new();
        let log = self.cluster.records(topic, partition);
        for record in &log {
            let value = text(record);
            if let Some(before) = positions.insert(value.clone(), record.offset) {
                let written = [&log[before as usize], record]
                    .map(|r| (r.offset, r.producer_id, r.producer_epoch, r.sequence));
                let value = start_of(&value);
                panic!("{value:?} is in {topic}-{partition} twice: {written:?}");
            }
        }
        positions
    }
}

/// Enough of a value to know it by.
fn start_of(value: &str) -> &str {
    &value[..value.len().min(40)]
}

/// A record's value.
pub fn text(record: &EmbeddedRecord) -> String {
    let value = record.value.clone().expect("no null here");
    String::from_utf8(value.to_vec()).expect("what was sent is text")
}

/// See [`Stage::builder`].
pub fn quick(builder: ProducerBuilder) -> ProducerBuilder {
    builder.batch_size(0).configure(|c| {
        c.pinning = false;
        c.retry_backoff = millis(1);
        c.retry_backoff_max = millis(10);
        c.reconnect_backoff = millis(1);
        c.reconnect_backoff_max = millis(10);
        c.metadata_min_refresh = millis(5);
    })
}

/// Sends a record to `t`.
pub fn send(topic: &Topic, partition: i32, value: String) -> Sent {
    let delivery = topic.send_record(to(partition, &value)).unwrap();
    Sent { topic: "t".to_owned(), partition, value, delivery }
}
