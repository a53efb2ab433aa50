//! Metrics in the form of librdkafka's statistics.

use std::collections::HashMap;
use std::fmt;

use super::json::{Object, write_object};
use crate::engine::batch::{BrokerMetrics, Metrics, PartitionMetrics, TopicMetrics};
use crate::engine::meter::{ConnectionState, Histogram};

/// Metrics as the JSON that librdkafka gives to `stats_cb`: [`Metrics::librdkafka_json`].
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # use serde_json::Value;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let metrics = producer.metrics();
/// let page = metrics.librdkafka_json().named("shop#producer-1").to_string();
/// let json: Value = serde_json::from_str(&page)?;
/// assert_eq!((&json["name"], &json["txmsgs"]), (&"shop#producer-1".into(), &1.into()));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LibrdkafkaJson<'a> {
    metrics: &'a Metrics,
    before: Option<&'a Metrics>,
    name: Option<&'a str>,
}

impl Metrics {
    /// The metrics as JSON with the field names of librdkafka's statistics, for dashboards and
    /// alerts that read those. Its `Display` is one line.
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use tidegate::{Producer, embedded::EmbeddedCluster};
    /// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
    /// # let producer = Producer::builder(&cluster.bootstrap_servers()).client_id("shop").build()?;
    /// producer.topic("orders")?.send("key", "value")?.wait()?;
    /// let before = producer.metrics();
    /// // ... an interval later:
    /// let now = producer.metrics();
    /// let statistics = now.librdkafka_json().since(&before).to_string();
    /// assert!(statistics.contains(r#""client_id":"shop""#));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "embedded"))]
    /// # fn main() {}
    /// ```
    ///
    /// Only fields that mean the same are there:
    ///
    /// * At the top: `name`, `client_id`, `type`, `ts` and `age` (both in microseconds since the
    ///   producer was built), `time` (in seconds), `msg_size` and `msg_size_max` (buffer memory
    ///   that is taken, and all of it), `metadata_cache_cnt`, `txmsgs` and `txmsg_bytes` (to the
    ///   brokers that are listed), `brokers`, `topics`.
    /// * In `brokers`, by `host:port/id`: `name`, `nodeid`, `nodename`, `source`, `state`,
    ///   `stateage` (in microseconds), `waitresp_cnt`, `int_latency` and `rtt` (in microseconds),
    ///   `throttle` (in milliseconds), `req` (only `Produce`), `toppars`.
    /// * In `topics`: `topic`, `metadata_age` (in milliseconds, of the last answer about all
    ///   topics), `batchsize`, `batchcnt`, `partitions`.
    /// * In `partitions`: `partition`, `leader`, `msgs` (those of a batch that is still open are
    ///   counted once it is closed).
    ///
    /// A window (`int_latency`, `rtt`) has `min`, `max`, `avg`, `sum`, `stddev`, `p50` to `p99_99`,
    /// `outofrange` and `cnt`, told within an eighth, but for `avg`, `sum` and `cnt`, which are
    /// exact. librdkafka's begin anew with each emission, and so do these with
    /// [`LibrdkafkaJson::since`]; without it they reach back to the start of the producer.
    /// `int_latency` has a value for each batch, that of its first record, and `rtt` for each
    /// produce request. Of `throttle`, `batchsize` and `batchcnt` there are `avg`, `sum` and `cnt`,
    /// of the last two for acknowledged batches.
    ///
    /// Left out are:
    ///
    /// * `tx`, `txbytes`, `rx`, `rxbytes`, `txidle`, `rxidle`: they are of requests of all kinds,
    ///   and only produce requests are counted here. See `req`.
    /// * `msg_cnt`, `msg_max`, `msgq_cnt` and its like, `outbuf_cnt`, `outbuf_latency`,
    ///   `waitresp_msg_cnt`, `msgs_inflight`: what waits is counted in batches and in bytes, not in
    ///   records, and requests do not queue: one is made when it can be written.
    /// * `txmsgs` and `txbytes` of a partition: they are counted there when they are sent, and here
    ///   when they are acknowledged.
    /// * `connects`, `disconnects`, `txerrs`, `rxerrs`, `req_timeouts`: attempts that failed and
    ///   connections that were lost are one number here.
    /// * `txretries`: batches are sent again, not requests.
    /// * `replyq`, `wakeups`, `buf_grow`, `zbuf_grow`, `hdrsize`, `rxcorriderrs`, `rxpartial`,
    ///   `desired`, `unknown`, the `age` of a topic: they are of parts of librdkafka that are not
    ///   here.
    /// * `eos`, `next_ack_seq`, `next_err_seq`, `acked_msgid`: each partition has an identity of
    ///   its own.
    /// * `cgrp`, `simple_cnt`, `rxmsgs`, `rxmsg_bytes`, offsets and lags: they are a consumer's.
    pub fn librdkafka_json(&self) -> LibrdkafkaJson<'_> {
        LibrdkafkaJson { metrics: self, before: None, name: None }
    }
}

impl<'a> LibrdkafkaJson<'a> {
    /// Windows hold what came since an earlier snapshot of the same producer, as librdkafka's do.
    ///
    /// ```
    /// # fn example(before: &tidegate::Metrics, now: &tidegate::Metrics) {
    /// println!("{}", now.librdkafka_json().since(before));
    /// # }
    /// ```
    pub fn since(self, before: &'a Metrics) -> Self {
        LibrdkafkaJson { before: Some(before), ..self }
    }

    /// The value of `name`, where librdkafka numbers its instances (`rdkafka#producer-1`). Without
    /// it the name is `CLIENT_ID#producer`.
    ///
    /// ```
    /// # fn example(metrics: &tidegate::Metrics) {
    /// println!("{}", metrics.librdkafka_json().named("shop#producer-1"));
    /// # }
    /// ```
    pub fn named(self, name: &'a str) -> Self {
        LibrdkafkaJson { name: Some(name), ..self }
    }
}

impl fmt::Display for LibrdkafkaJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metrics = self.metrics;
        let client_id = &metrics.client_id;
        write_object(f, |top| {
            match self.name {
                Some(name) => top.text("name", name)?,
                None => top.text("name", &format!("{client_id}#producer"))?,
            }
            top.text("client_id", client_id)?;
            top.text("type", "producer")?;
            // librdkafka's clock counts from any start, this one from the building.
            top.number("ts", metrics.age.as_micros() as i64)?;
            top.number("time", metrics.time_ms / 1_000)?;
            top.number("age", metrics.age.as_micros() as i64)?;
            let taken = metrics.memory_capacity.saturating_sub(metrics.memory_free);
            top.number("msg_size", taken as u64)?;
            top.number("msg_size_max", metrics.memory_capacity as u64)?;
            let known = metrics.topics.iter().filter(|topic| !topic.partitions.is_empty());
            top.number("metadata_cache_cnt", known.count() as u64)?;
            top.object("brokers", |brokers| self.brokers(brokers))?;
            top.object("topics", |topics| self.topics(topics))?;
            let sum = |of: fn(&BrokerMetrics) -> u64| metrics.brokers.iter().map(of).sum::<u64>();
            top.number("txmsgs", sum(|it| it.request_records))?;
            top.number("txmsg_bytes", sum(|it| it.batch_bytes.sum()))
        })
    }
}

impl LibrdkafkaJson<'_> {
    fn brokers(&self, brokers: &mut Object<'_, '_>) -> fmt::Result {
        let mut led: HashMap<i32, Vec<(&str, &PartitionMetrics)>> = HashMap::new();
        for topic in &self.metrics.topics {
            for partition in &topic.partitions {
                if let Some(leader) = partition.leader {
                    led.entry(leader).or_default().push((&topic.topic, partition));
                }
            }
        }
        let earlier: HashMap<_, _> =
            self.before.iter().flat_map(|it| &it.brokers).map(|it| (it.broker, it)).collect();
        for broker in &self.metrics.brokers {
            let before = earlier.get(&broker.broker).copied();
            let toppars = led.get(&broker.broker).map_or(&[][..], Vec::as_slice);
            brokers.object(&format!("{}/{}", broker.address, broker.broker), |object| {
                one_broker(object, broker, before, toppars)
            })?;
        }
        Ok(())
    }

    fn topics(&self, topics: &mut Object<'_, '_>) -> fmt::Result {
        let earlier: HashMap<_, _> =
            self.before.iter().flat_map(|it| &it.topics).map(|it| (&it.topic, it)).collect();
        for topic in &self.metrics.topics {
            let before = earlier.get(&topic.topic).copied();
            topics.object(&topic.topic, |object| self.one_topic(object, topic, before))?;
        }
        Ok(())
    }

    fn one_topic(
        &self,
        object: &mut Object<'_, '_>,
        topic: &TopicMetrics,
        before: Option<&TopicMetrics>,
    ) -> fmt::Result {
        object.text("topic", &topic.topic)?;
        if let Some(age) = self.metrics.metadata_age {
            object.number("metadata_age", age.as_millis() as i64)?;
        }
        let (now, before) = (&topic.records, before.map(|it| it.records).unwrap_or_default());
        let batches = now.acked_batches.saturating_sub(before.acked_batches);
        let bytes = now.acked_bytes.saturating_sub(before.acked_bytes);
        let records = now.acked_records.saturating_sub(before.acked_records);
        object.object("batchsize", |it| sums(it, bytes, batches))?;
        object.object("batchcnt", |it| sums(it, records, batches))?;
        object.object("partitions", |partitions| {
            for partition in &topic.partitions {
                partitions.object(&partition.partition.to_string(), |object| {
                    object.number("partition", partition.partition)?;
                    object.number("leader", partition.leader.unwrap_or(-1))?;
                    object.number("msgs", partition.records.records)
                })?;
            }
            Ok(())
        })
    }
}

fn one_broker(
    object: &mut Object<'_, '_>,
    broker: &BrokerMetrics,
    before: Option<&BrokerMetrics>,
    toppars: &[(&str, &PartitionMetrics)],
) -> fmt::Result {
    let since = |of: fn(&BrokerMetrics) -> &Histogram| match before {
        Some(before) => of(broker).since(of(before)),
        None => of(broker).clone(),
    };
    object.text("name", &format!("{}/{}", broker.address, broker.broker))?;
    object.number("nodeid", broker.broker)?;
    object.text("nodename", &broker.address)?;
    object.text("source", "learned")?;
    object.text("state", state_name(broker.state))?;
    object.number("stateage", broker.state_for.as_micros() as i64)?;
    object.number("waitresp_cnt", broker.in_flight)?;
    object.object("int_latency", |it| window(it, &since(|it| &it.queue_time_us)))?;
    object.object("rtt", |it| window(it, &since(|it| &it.request_latency_us)))?;
    // The meter of a broker that was gone meanwhile has begun anew.
    let before = before.filter(|before| before.throttles <= broker.throttles);
    let throttles = broker.throttles - before.map_or(0, |it| it.throttles);
    let earlier = before.map(|it| it.throttle_time).unwrap_or_default();
    let throttled = broker.throttle_time.saturating_sub(earlier);
    object.object("throttle", |it| sums(it, throttled.as_millis() as u64, throttles))?;
    object.object("req", |it| it.number("Produce", broker.requests))?;
    object.object("toppars", |all| {
        for (topic, partition) in toppars {
            all.object(&format!("{topic}-{}", partition.partition), |toppar| {
                toppar.text("topic", topic)?;
                toppar.number("partition", partition.partition)
            })?;
        }
        Ok(())
    })
}

fn state_name(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::Down => "DOWN",
        ConnectionState::Connecting => "CONNECT",
        ConnectionState::Handshaking => "APIVERSION_QUERY",
        ConnectionState::LoggingIn => "AUTH",
        ConnectionState::Ready => "UP",
    }
}

/// What is known of a distribution of which only the sum was kept.
fn sums(object: &mut Object<'_, '_>, sum: u64, count: u64) -> fmt::Result {
    object.number("avg", sum.checked_div(count).unwrap_or(0))?;
    object.number("sum", sum)?;
    object.number("cnt", count)
}

fn window(object: &mut Object<'_, '_>, histogram: &Histogram) -> fmt::Result {
    object.number("min", histogram.quantile(0.0))?;
    object.number("max", histogram.max())?;
    object.number("avg", histogram.mean())?;
    object.number("sum", histogram.sum())?;
    object.number("stddev", deviation(histogram))?;
    for (name, share) in [
        ("p50", 0.5),
        ("p75", 0.75),
        ("p90", 0.9),
        ("p95", 0.95),
        ("p99", 0.99),
        ("p99_99", 0.9999),
    ] {
        object.number(name, histogram.quantile(share))?;
    }
    // All values have a bucket.
    object.number("outofrange", 0)?;
    object.number("cnt", histogram.count())
}

/// The standard deviation, as if each value were the largest of its bucket.
fn deviation(histogram: &Histogram) -> u64 {
    let count = histogram.count() as f64;
    if count == 0.0 {
        return 0;
    }
    let mean = histogram.buckets().map(|(value, n)| value as f64 * n as f64).sum::<f64>() / count;
    let squares = histogram.buckets().map(|(value, n)| (value as f64 - mean).powi(2) * n as f64);
    (squares.sum::<f64>() / count).sqrt() as u64
}
