//! Metrics in the text format of Prometheus.

use std::fmt;

use super::exposition::{Exposition, Family, Kind, Label, Sample, Value, expose, told_buckets};
use crate::engine::batch::Metrics;
use crate::engine::meter::Histogram;

/// Metrics as a page that Prometheus scrapes (text format 0.0.4): [`Metrics::prometheus`].
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let page = producer.metrics().prometheus().to_string();
/// let line = "tidegate_acked_records_total{client_id=\"tidegate\",topic=\"orders\"} 1";
/// assert!(page.lines().any(|it| it == line));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PrometheusText<'a> {
    producers: Vec<&'a Metrics>,
    with_partitions: bool,
}

impl Metrics {
    /// The metrics as a page for Prometheus, to be served with the content type
    /// `text/plain; version=0.0.4`. Counters end in `_total`; times are in seconds. Records are
    /// told for each topic; [`PrometheusText::with_partitions`] tells them for each partition.
    /// Every line has the label `client_id`.
    ///
    /// ```no_run
    /// # fn example(producer: &tidegate::Producer) -> String {
    /// producer.metrics().prometheus().to_string()
    /// # }
    /// ```
    pub fn prometheus(&self) -> PrometheusText<'_> {
        PrometheusText { producers: vec![self], with_partitions: false }
    }
}

impl<'a> PrometheusText<'a> {
    /// Tells records for each partition, with the label `partition`, instead of for each topic:
    /// eleven lines for each partition.
    pub fn with_partitions(self) -> Self {
        PrometheusText { with_partitions: true, ..self }
    }

    /// The metrics of another producer on the same page, on which a metric may be named only once.
    /// The producers' `client_id`s must differ.
    ///
    /// ```no_run
    /// # fn example(orders: &tidegate::Producer, audit: &tidegate::Producer) -> String {
    /// orders.metrics().prometheus().and(&audit.metrics()).to_string()
    /// # }
    /// ```
    pub fn and(mut self, other: &'a Metrics) -> Self {
        self.producers.push(other);
        self
    }
}

impl fmt::Display for PrometheusText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        expose(&self.producers, self.with_partitions, &mut Page(f))
    }
}

struct Page<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Exposition for Page<'_, '_> {
    fn family(
        &mut self,
        family: &Family,
        samples: &mut dyn Iterator<Item = Sample<'_>>,
    ) -> fmt::Result {
        let Family { name, help, kind } = family;
        let type_name = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Times | Kind::Sizes => "histogram",
        };
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {type_name}")?;
        for Sample { labels, value } in samples {
            match value {
                Value::Whole(number) => self.line(name, "", labels, None, number)?,
                Value::Seconds(number) => self.line(name, "", labels, None, number)?,
                Value::Distribution(histogram) => {
                    self.distribution(name, labels, histogram, *kind == Kind::Times)?;
                }
            }
        }
        Ok(())
    }
}

impl Page<'_, '_> {
    fn distribution(
        &mut self,
        name: &str,
        labels: &[Label],
        histogram: &Histogram,
        is_time: bool,
    ) -> fmt::Result {
        let mut below = 0;
        for (bound, in_it) in told_buckets(histogram, is_time) {
            below += in_it;
            self.line(name, "_bucket", labels, Some(bound), below)?;
        }
        match is_time {
            true => self.line(name, "_sum", labels, None, histogram.sum() as f64 / 1e6)?,
            false => self.line(name, "_sum", labels, None, histogram.sum())?,
        }
        self.line(name, "_count", labels, None, below)
    }

    fn line(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &[Label],
        bound: Option<f64>,
        value: impl fmt::Display,
    ) -> fmt::Result {
        write!(self.0, "{name}{suffix}{{")?;
        for (index, (label, value)) in labels.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(self.0, "{comma}{label}=\"{}\"", Escaped(value))?;
        }
        match bound {
            None => {}
            Some(bound) if bound.is_infinite() => self.0.write_str(",le=\"+Inf\"")?,
            Some(bound) => write!(self.0, ",le=\"{bound}\"")?,
        }
        writeln!(self.0, "}} {value}")
    }
}

/// A label's value: a `client_id` may have any character.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_producers_share_a_page() {
        let metrics = |name: &str| Metrics { client_id: name.into(), ..Metrics::default() };
        let (one, two) = (metrics("a \"b\"\\\n"), metrics("two"));
        let page = one.prometheus().and(&two).to_string();
        let head = "# HELP tidegate_memory_free_bytes Buffer memory that is not taken.\n\
                    # TYPE tidegate_memory_free_bytes gauge\n\
                    tidegate_memory_free_bytes{client_id=\"a \\\"b\\\"\\\\\\n\"} 0\n\
                    tidegate_memory_free_bytes{client_id=\"two\"} 0\n\
                    # HELP";
        assert!(page.contains(head), "{page}");
    }
}
