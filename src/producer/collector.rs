//! Metrics in a registry of the crate `prometheus-client`.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::exposition::{Exposition, Family, Kind, Sample, Value, expose, told_buckets};
use super::producer::{Producer, Shared};

/// Tells a producer's metrics to a registry of `prometheus-client`:
/// [`Producer::prometheus_collector`].
///
/// It holds the producer weakly: dropping the producer closes it although the registry stays, and
/// from then on, unless a [`Topic`](crate::Topic) is left, nothing is told of it any more.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # use prometheus_client::{encoding::text, registry::Registry};
/// let mut registry = Registry::default();
/// registry.register_collector(Box::new(producer.prometheus_collector().with_partitions()));
///
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let mut page = String::new();
/// text::encode(&mut page, &registry)?;
/// assert!(page.contains("partition=\"0\""));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct PrometheusCollector {
    producers: Vec<Weak<Shared>>,
    with_partitions: bool,
}

impl Producer {
    /// This producer's metrics, to be put into a registry. They are counted anyway, and read when
    /// the registry is encoded.
    ///
    /// The names and labels are those of [`Metrics::prometheus`](crate::Metrics::prometheus).
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use tidegate::{Producer, embedded::EmbeddedCluster};
    /// use prometheus_client::{encoding::text, registry::Registry};
    ///
    /// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
    /// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
    /// let mut registry = Registry::default();
    /// registry.register_collector(Box::new(producer.prometheus_collector()));
    ///
    /// // For each scrape:
    /// let mut page = String::new();
    /// text::encode(&mut page, &registry)?;
    /// assert!(page.contains("tidegate_memory_free_bytes{client_id=\"tidegate\"}"));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "embedded"))]
    /// # fn main() {}
    /// ```
    pub fn prometheus_collector(&self) -> PrometheusCollector {
        let producers = vec![Arc::downgrade(&self.running().shared)];
        PrometheusCollector { producers, with_partitions: false }
    }
}

impl PrometheusCollector {
    /// Tells records for each partition, with the label `partition`, instead of for each topic.
    ///
    /// ```
    /// # use prometheus_client::registry::Registry;
    /// # fn example(producer: &tidegate::Producer, registry: &mut Registry) {
    /// let collector = producer.prometheus_collector().with_partitions();
    /// registry.register_collector(Box::new(collector));
    /// # }
    /// ```
    pub fn with_partitions(self) -> Self {
        PrometheusCollector { with_partitions: true, ..self }
    }

    /// Tells another producer's metrics too: a registry may name a metric only once, so that
    /// producers of one registry share a collector. Their `client_id`s must differ.
    ///
    /// ```
    /// # use tidegate::Producer;
    /// # use prometheus_client::registry::Registry;
    /// # fn example(orders: &Producer, audit: &Producer, registry: &mut Registry) {
    /// let collector = orders.prometheus_collector().and(audit);
    /// registry.register_collector(Box::new(collector));
    /// # }
    /// ```
    pub fn and(mut self, other: &Producer) -> Self {
        self.producers.push(Arc::downgrade(&other.running().shared));
        self
    }
}

impl Collector for PrometheusCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let alive = self.producers.iter().filter_map(Weak::upgrade);
        let metrics: Vec<_> = alive.map(|shared| shared.metrics()).collect();
        if metrics.is_empty() {
            return Ok(());
        }
        let metrics: Vec<_> = metrics.iter().collect();
        expose(&metrics, self.with_partitions, &mut Families(encoder))
    }
}

impl fmt::Debug for PrometheusCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrometheusCollector")
            .field("producers", &self.producers.len())
            .finish_non_exhaustive()
    }
}

struct Families<'a>(DescriptorEncoder<'a>);

impl Exposition for Families<'_> {
    fn family(
        &mut self,
        family: &Family,
        samples: &mut dyn Iterator<Item = Sample<'_>>,
    ) -> fmt::Result {
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Times | Kind::Sizes => MetricType::Histogram,
        };
        // The encoder gives it to counters itself.
        let name = family.name.strip_suffix("_total").unwrap_or(&family.name);
        let mut encoder = self.0.encode_descriptor(name, family.help, None, kind)?;
        for Sample { labels, value } in samples {
            encode(encoder.encode_family(&labels)?, family.kind, value)?;
        }
        Ok(())
    }
}

fn encode(mut encoder: MetricEncoder<'_>, kind: Kind, value: Value<'_>) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(number)) => {
            encoder.encode_counter::<NoLabelSet, _, u64>(&number, None)
        }
        (Kind::Counter, Value::Seconds(number)) => {
            encoder.encode_counter::<NoLabelSet, _, u64>(&number, None)
        }
        (_, Value::Whole(number)) => encoder.encode_gauge(&number),
        (_, Value::Seconds(number)) => encoder.encode_gauge(&number),
        (_, Value::Distribution(histogram)) => {
            let is_time = kind == Kind::Times;
            let unit = if is_time { 1e6 } else { 1.0 };
            let buckets = told_buckets(histogram, is_time);
            let count = buckets.iter().map(|(_, in_it)| in_it).sum();
            let sum = histogram.sum() as f64 / unit;
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        }
    }
}
