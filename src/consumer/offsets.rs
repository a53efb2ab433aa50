//! Questions for offsets that nothing is read from.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{About, ConsumerAnswer};
use super::consumer::Consumer;
use crate::config::StartAt;
use crate::engine::protocol::PartitionId;
use crate::error::ConsumeErrorCause;
use crate::io::FetchCall;

impl Consumer {
    /// Asks where a partition's log begins ([`StartAt::Earliest`]), which offset its next record
    /// gets ([`StartAt::Latest`]), or which is the first record that is not older than a time
    /// ([`StartAt::Time`], in milliseconds since the Unix epoch): its offset, or `None` where no
    /// record is so new. (Java: `beginningOffsets`, `endOffsets`, `offsetsForTimes`.) What is read
    /// stays as it is; [`Consumer::seek`] takes an offset that was found. The topic must be one
    /// that this consumer reads, the partition any of it.
    ///
    /// The partition's leader is asked (ListOffsets). Leaders that move, and connections that are
    /// lost, are followed and made anew until `timeout` has passed. One answer of a broker is
    /// awaited before it is asked the next thing: where it waits for records, that takes up to
    /// [`fetch_max_wait`](crate::ConsumerConfig::fetch_max_wait), 500 ms, so that a shorter
    /// `timeout` may be too short.
    ///
    /// With [`IsolationLevel::ReadCommitted`](crate::IsolationLevel::ReadCommitted) the log ends
    /// before the first transaction that is open, also for times. A time before 1970 is one of
    /// 1970; an offset ([`StartAt::Offset`]) is its own answer, and nobody is asked.
    ///
    /// ```
    /// # #[cfg(feature = "embedded")] {
    /// # use tidegate::{Producer, embedded::EmbeddedCluster};
    /// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
    /// # let servers = cluster.bootstrap_servers();
    /// # let producer = Producer::builder(&servers).build()?;
    /// # for item in ["2 pairs of shoes", "1 hat", "a discount"] {
    /// #     producer.topic("orders")?.send("customer-42", item)?.wait()?;
    /// # }
    /// # use std::time::Duration;
    /// use tidegate::{Consumer, StartAt};
    ///
    /// let consumer = Consumer::builder(&servers).topic("orders", StartAt::Latest).build()?;
    /// let find = |at| consumer.find_offset("orders", 0, at, Duration::from_secs(10));
    /// assert_eq!(find(StartAt::Earliest).wait()?, Some(0));
    /// assert_eq!(find(StartAt::Latest).wait()?, Some(3));
    /// assert_eq!(find(StartAt::Time(1_600_000_000_000)).wait()?, Some(0)); // since 2020
    /// assert_eq!(find(StartAt::Time(4_000_000_000_000)).wait()?, None); // since 2096
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ConsumeError`](crate::ConsumeError), of the partition: the consumer does not read the
    /// topic (`NotRead`); there is no such partition, the principal may not ask, or a time is asked
    /// of a broker before Kafka 0.10.1 (`Refused`); the topic does not exist (`Topic`); no leader
    /// has answered in time (`TimedOut`).
    pub fn find_offset(
        &self,
        topic: &str,
        partition: i32,
        at: StartAt,
        timeout: Duration,
    ) -> ConsumerAnswer<Option<i64>> {
        let topic: Arc<str> = topic.into();
        let about = About { topic: topic.clone(), partition: Some(partition) };
        let (answer, tell) = ConsumerAnswer::new(about, timeout);
        if self.born.is_current() {
            let partition = PartitionId(partition);
            self.handle.call(FetchCall::Find { topic, partition, at, tell }, timeout);
        } else {
            tell(Err(ConsumeErrorCause::Forked));
        }
        answer
    }
}
