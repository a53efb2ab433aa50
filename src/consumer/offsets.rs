//! Offsets that are asked for or committed, while nothing of what is read changes.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{About, ConsumerAnswer};
use super::consumer::Consumer;
use crate::config::StartAt;
use crate::engine::protocol::PartitionId;
use crate::error::ConsumeErrorCause;
use crate::io::FetchCall;
use crate::problem::{Problem, ProblemKind};

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
    /// [`StartAt::Committed`] is what [`Consumer::committed`] asks for.
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
        if at == StartAt::Committed {
            return self.committed(topic, partition, timeout);
        }
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

    /// Has offsets kept for the consumer's group ([`group_id`](crate::ConsumerConfig::group_id)):
    /// topic, partition, and the offset that is read next,
    /// [`ConsumedBatch::next_offset`](crate::ConsumedBatch::next_offset). A later run begins there
    /// with [`StartAt::Committed`], and so do other clients of the group. (Java: `commitSync` and
    /// `commitAsync`, with `assign`.) Of a partition that is named twice the last offset counts.
    /// The partitions may be any, read by this consumer or not.
    ///
    /// Nothing is committed by itself: commit what is done with. The consumer is no member of its
    /// group. Where a group has members, its offsets are theirs, and this is an error.
    ///
    /// The group's coordinator is asked (FindCoordinator, OffsetCommit), over a connection of its
    /// own. One that moves or is lost is found again until `timeout` has passed. Commits of one
    /// consumer are kept in the order of the calls. After an error that is not `Refused` or
    /// `GroupInUse` the offsets may have been kept, all or some. Needs brokers from Kafka 0.10 on.
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
    /// use tidegate::{Consumer, OffsetReset, StartAt};
    ///
    /// let within = Duration::from_secs(10);
    /// for run in 0..3 {
    ///     let consumer = Consumer::builder(&servers)
    ///         .topic("orders", StartAt::Committed)
    ///         .group_id("audit")
    ///         .auto_offset_reset(OffsetReset::Earliest) // the first time
    ///         .build()?;
    ///     let batch = consumer.poll(within).ok_or("no record within 10 s")??;
    ///     assert_eq!(batch.first_offset(), run);
    ///     // … what is to be done with it …
    ///     let next = (batch.topic(), batch.partition(), batch.next_offset());
    ///     consumer.commit(&[next], within).wait()?;
    /// }
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ConsumeError`](crate::ConsumeError): no group is set (`NoGroup`); it has members
    /// (`GroupInUse`); the principal may not use the group or read the topic, or an offset is
    /// negative (`Refused`); the coordinator has not answered in time (`TimedOut`).
    pub fn commit(&self, offsets: &[(&str, i32, i64)], timeout: Duration) -> ConsumerAnswer<()> {
        let about = match offsets {
            [(topic, partition, _)] => {
                About { topic: (*topic).into(), partition: Some(*partition) }
            }
            // An error names the partition that it is of.
            _ => About { topic: "".into(), partition: None },
        };
        let (answer, tell) = ConsumerAnswer::new(about, timeout);
        if !self.born.is_current() {
            tell(Err(ConsumeErrorCause::Forked));
            return answer;
        }
        let is_wrong = |&&(_, partition, offset): &&(&str, i32, i64)| partition < 0 || offset < 0;
        if let Some((topic, partition, offset)) = offsets.iter().find(is_wrong) {
            let text = format_args!("{topic}-{partition}@{offset}: both begin with 0");
            let problem = Problem::new(ProblemKind::Limit, text);
            tell(Err(ConsumeErrorCause::Refused(problem)));
            return answer;
        }
        let offsets = offsets.iter().map(|&(topic, partition, offset)| {
            ((Arc::from(topic), PartitionId(partition)), offset)
        });
        let offsets = offsets.collect();
        self.handle.call(FetchCall::Commit { offsets, tell }, timeout);
        answer
    }

    /// Asks which offset of a partition is kept for the consumer's group, as
    /// [`Consumer::commit`] or another client of the group has committed it; `None` where none is.
    /// (Java: `committed`.) A commit that this consumer has begun before is waited for, and offsets
    /// that a transaction has not committed yet are too (from Kafka 2.5 on).
    ///
    /// ```
    /// # #[cfg(feature = "embedded")] {
    /// # use tidegate::embedded::EmbeddedCluster;
    /// # let cluster = EmbeddedCluster::builder().topic("orders", 2).start()?;
    /// # let servers = cluster.bootstrap_servers();
    /// # use std::time::Duration;
    /// # use tidegate::{Consumer, StartAt};
    /// let within = Duration::from_secs(10);
    /// let consumer = Consumer::builder(&servers)
    ///     .topic("orders", StartAt::Latest)
    ///     .group_id("audit")
    ///     .build()?;
    /// consumer.commit(&[("orders", 0, 42)], within).wait()?;
    /// assert_eq!(consumer.committed("orders", 0, within).wait()?, Some(42));
    /// assert_eq!(consumer.committed("orders", 1, within).wait()?, None);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Consumer::commit`].
    pub fn committed(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> ConsumerAnswer<Option<i64>> {
        let topic: Arc<str> = topic.into();
        let about = About { topic: topic.clone(), partition: Some(partition) };
        let (answer, tell) = ConsumerAnswer::new(about, timeout);
        if self.born.is_current() {
            let of = (topic, PartitionId(partition));
            self.handle.call(FetchCall::Committed { of, tell }, timeout);
        } else {
            tell(Err(ConsumeErrorCause::Forked));
        }
        answer
    }
}
