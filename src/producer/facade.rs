//! Metrics for the facade that the crate `metrics` is.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Weak};

use metrics::{Key, Label as FacadeLabel, Level, Metadata, Recorder, Unit, with_recorder};

use super::exposition::{Exposition, Family, Kind, Label, Sample, Value, expose};
use super::producer::{Producer, Shared};
use crate::engine::meter::Histogram;

const METADATA: Metadata<'static> = Metadata::new("tidegate", Level::INFO, Some(module_path!()));

/// Publishes a producer's metrics to the recorder of the crate `metrics`:
/// [`Producer::metrics_facade`].
///
/// It holds the producer weakly, so that dropping the producer closes it. One is enough for a
/// producer: each tells the recorder what came since it told last, so two would count twice.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let mut facade = producer.metrics_facade().with_partitions();
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert!(facade.publish()); // to the recorder that is installed, if one is
/// drop(producer);
/// while facade.publish() {
///     std::thread::yield_now(); // A loop that publishes ends a moment after its producer.
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MetricsFacade {
    producer: Weak<Shared>,
    with_partitions: bool,
    is_described: bool,
    /// As of the last time, as the distributions: the facade is told only what came since.
    counters: HashMap<Key, u64>,
    /// What was told last, so that what is no longer there can be set to 0.
    gauges: HashSet<Key>,
    distributions: HashMap<Key, Histogram>,
}

impl Producer {
    /// The way of this producer's metrics into the facade `metrics`. Nothing is published until
    /// [`MetricsFacade::publish`] is called, from time to time, by a thread or a task of the
    /// application.
    ///
    /// The names and labels are those of [`Metrics::prometheus`](crate::Metrics::prometheus).
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use tidegate::{Producer, embedded::EmbeddedCluster};
    /// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
    /// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
    /// // Once the recorder is installed:
    /// let mut facade = producer.metrics_facade();
    /// let publisher = std::thread::spawn(move || {
    ///     while facade.publish() {
    ///         std::thread::sleep(Duration::from_millis(10)); // or seconds
    ///     }
    /// });
    /// // ... and when the producer and its topics are dropped, the thread ends.
    /// drop(producer);
    /// publisher.join().unwrap();
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "embedded"))]
    /// # fn main() {}
    /// ```
    pub fn metrics_facade(&self) -> MetricsFacade {
        MetricsFacade {
            producer: Arc::downgrade(&self.running().shared),
            with_partitions: false,
            is_described: false,
            counters: HashMap::new(),
            gauges: HashSet::new(),
            distributions: HashMap::new(),
        }
    }
}

impl MetricsFacade {
    /// Publishes records for each partition, with the label `partition`, instead of for each topic.
    ///
    /// ```
    /// # fn example(producer: &tidegate::Producer) {
    /// let mut facade = producer.metrics_facade().with_partitions();
    /// facade.publish();
    /// # }
    /// ```
    pub fn with_partitions(self) -> Self {
        MetricsFacade { with_partitions: true, ..self }
    }

    /// Publishes what was counted, to the recorder that is in effect on the calling thread. The
    /// first call also describes every metric. Returns whether the producer is still there.
    ///
    /// * Counters are incremented by what came since the last call, also where a count has begun
    ///   anew: of a producer that was built again, a topic that was forgotten, a broker that was
    ///   gone. The one that is in seconds,
    ///   `tidegate_broker_throttle_seconds_total`, is a gauge here: the facade's counters are whole
    ///   numbers.
    /// * A gauge of a broker or topic that is gone is set to 0.
    /// * Of a distribution, the values that came since the last call are recorded, each up to an
    ///   eighth too large. A recorder that keeps no count of equal values takes them one by one:
    ///   one for each batch, or for each request.
    ///
    /// ```
    /// # fn example(facade: &mut tidegate::MetricsFacade) {
    /// assert!(facade.publish(), "the producer is gone");
    /// # }
    /// ```
    pub fn publish(&mut self) -> bool {
        let metrics = self.producer.upgrade().map(|shared| shared.metrics());
        with_recorder(|recorder| {
            let mut publication = Publication {
                recorder,
                before: self,
                counters: HashMap::new(),
                gauges: HashSet::new(),
                distributions: HashMap::new(),
            };
            if let Some(metrics) = &metrics {
                let by_partition = publication.before.with_partitions;
                // It writes nothing that could fail.
                let _ = expose(&[metrics], by_partition, &mut publication);
            }
            publication.end();
        });
        metrics.is_some()
    }
}

impl fmt::Debug for MetricsFacade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsFacade").finish_non_exhaustive()
    }
}

/// One call of [`MetricsFacade::publish`].
struct Publication<'a> {
    recorder: &'a dyn Recorder,
    before: &'a mut MetricsFacade,
    counters: HashMap<Key, u64>,
    gauges: HashSet<Key>,
    distributions: HashMap<Key, Histogram>,
}

impl Exposition for Publication<'_> {
    fn family(
        &mut self,
        family: &Family,
        samples: &mut dyn Iterator<Item = Sample<'_>>,
    ) -> fmt::Result {
        if !self.before.is_described {
            self.describe(family);
        }
        for Sample { labels, value } in samples {
            let key = key(&family.name, labels);
            match value {
                Value::Whole(number) if family.kind == Kind::Counter => {
                    self.count(key, number);
                }
                Value::Whole(number) => self.set(key, number as f64),
                Value::Seconds(number) => self.set(key, number),
                Value::Distribution(histogram) => {
                    self.record(key, histogram, family.kind == Kind::Times);
                }
            }
        }
        Ok(())
    }
}

impl Publication<'_> {
    fn describe(&self, family: &Family) {
        let (name, help) = (family.name.clone().into(), family.help.into());
        let bare = family.name.strip_suffix("_total").unwrap_or(&family.name);
        let unit = match bare.rsplit('_').next() {
            Some("seconds") => Unit::Seconds,
            Some("bytes") => Unit::Bytes,
            _ => Unit::Count,
        };
        let is_whole = !bare.ends_with("_seconds");
        match family.kind {
            Kind::Counter if is_whole => self.recorder.describe_counter(name, Some(unit), help),
            Kind::Counter | Kind::Gauge => self.recorder.describe_gauge(name, Some(unit), help),
            Kind::Times | Kind::Sizes => self.recorder.describe_histogram(name, Some(unit), help),
        }
    }

    fn count(&mut self, key: Key, number: u64) {
        let before = self.before.counters.get(&key).copied().unwrap_or(0);
        // A count that is lower than before has begun anew.
        let since = number.checked_sub(before).unwrap_or(number);
        self.recorder.register_counter(&key, &METADATA).increment(since);
        self.counters.insert(key, number);
    }

    fn set(&mut self, key: Key, number: f64) {
        self.recorder.register_gauge(&key, &METADATA).set(number);
        self.gauges.insert(key);
    }

    fn record(&mut self, key: Key, histogram: &Histogram, is_time: bool) {
        let before = self.before.distributions.get(&key);
        let latest = before.map_or_else(|| histogram.clone(), |before| histogram.since(before));
        let handle = self.recorder.register_histogram(&key, &METADATA);
        for (value, count) in latest.buckets() {
            let value = if is_time { value as f64 / 1e6 } else { value as f64 };
            handle.record_many(value, count as usize);
        }
        self.distributions.insert(key, histogram.clone());
    }

    fn end(self) {
        for gone in self.before.gauges.difference(&self.gauges) {
            self.recorder.register_gauge(gone, &METADATA).set(0.0);
        }
        self.before.is_described = true;
        self.before.counters = self.counters;
        self.before.gauges = self.gauges;
        self.before.distributions = self.distributions;
    }
}

fn key(name: &str, labels: &[Label]) -> Key {
    let labels = labels.iter().map(|(name, value)| FacadeLabel::new(*name, value.clone()));
    Key::from_parts(name.to_owned(), labels.collect::<Vec<_>>())
}
