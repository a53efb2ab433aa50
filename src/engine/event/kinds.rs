//! What can happen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::meter::counted;
use crate::error::DeliveryError;
use crate::problem::Problem;

/// Something that happened to a producer: [`Producer::events`](crate::Producer::events).
///
/// Events of one topic, and those of one broker, come in the order in which they happened.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 3).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::Event;
///
/// let mut events = producer.events()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let found = events.find_map(|event| match event {
///     Event::TopicFound { topic, partitions } => Some((topic, partitions)),
///     _ => None,
/// });
/// assert_eq!(found, Some(("orders".into(), 3)));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Metadata names a broker that was not named before.
    BrokerFound {
        /// Its node id.
        broker: i32,
        /// Where it listens.
        address: String,
    },
    /// Metadata names the broker no longer.
    BrokerGone {
        /// Its node id.
        broker: i32,
    },
    /// The brokers are of another cluster now
    /// ([`ClusterChange`](crate::ClusterChange) says what that means for records).
    ClusterChanged {
        /// The id of the cluster before, where brokers told it.
        before: Option<Arc<str>>,
        /// The id of the cluster now.
        now: Option<Arc<str>>,
    },
    /// A connection to a broker is ready.
    Connected {
        /// Its node id.
        broker: i32,
        /// Where it listens.
        address: String,
    },
    /// A connection to a broker could not be made, or was lost while requests waited for their
    /// answers. One that is closed, by either side, while it waits for nothing raises no event; a
    /// [`Connected`](Event::Connected) follows when there are records for that broker again.
    Disconnected {
        /// Its node id.
        broker: i32,
        /// Where it listens.
        address: String,
        /// Why.
        problem: Problem,
    },
    /// A broker asked for a pause: the client is over its quota.
    Throttled {
        /// Its node id.
        broker: i32,
        /// How long.
        pause: Duration,
    },
    /// The partitions of a topic are known.
    TopicFound {
        /// Its name.
        topic: Arc<str>,
        /// How many partitions it has.
        partitions: i32,
    },
    /// Brokers say that a topic does not exist any more.
    TopicGone {
        /// Its name.
        topic: Arc<str>,
    },
    /// A topic has more partitions than before; or fewer, if it was deleted and created again.
    PartitionsChanged {
        /// Its name.
        topic: Arc<str>,
        /// How many it had.
        before: i32,
        /// How many it has.
        now: i32,
    },
    /// A partition has another leader, or none.
    LeaderMoved {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The leader's node id before; `None` if there was none.
        before: Option<i32>,
        /// The leader's node id; `None` while there is none.
        now: Option<i32>,
    },
    /// A broker went over its high watermark: what is sent there waits, or is dropped or rejected,
    /// as the backoff strategy says.
    Unwritable {
        /// Its node id.
        broker: i32,
        /// Bytes that wait or are in flight for it.
        charged: usize,
        /// The high watermark.
        high: usize,
    },
    /// A broker is below its low watermark again.
    Writable {
        /// Its node id.
        broker: i32,
    },
    /// Records failed, together and of the same cause. Their deliveries tell it too.
    Failed {
        /// The error.
        error: DeliveryError,
        /// How many records.
        records: u32,
    },
    /// The listener was too slow, or more happened at once than the ring holds: so many events are
    /// missing here.
    Missed {
        /// How many.
        events: u64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::BrokerFound { broker, address } => write!(f, "broker {broker} is at {address}"),
            Event::BrokerGone { broker } => {
                write!(f, "broker {broker} is in the cluster no longer")
            }
            Event::ClusterChanged { before, now } => {
                let id = |id: &Option<Arc<str>>| id.clone().unwrap_or_default();
                write!(f, "the brokers are of cluster {}, before of {}", id(now), id(before))
            }
            Event::Connected { broker, address } => {
                write!(f, "connected to broker {broker} at {address}")
            }
            Event::Disconnected { broker, address, problem } => {
                let words = problem.words_at(*broker, address);
                write!(f, "not connected to broker {broker} at {address}: {words}")
            }
            Event::Throttled { broker, pause } => {
                write!(f, "broker {broker} asks for a pause of {pause:?} (a quota)")
            }
            Event::TopicFound { topic, partitions } => {
                write!(f, "topic {topic} has {partitions} partitions")
            }
            Event::TopicGone { topic } => write!(f, "topic {topic} does not exist any more"),
            Event::PartitionsChanged { topic, before, now } => {
                write!(f, "topic {topic} has {now} partitions, and had {before}")
            }
            Event::LeaderMoved { topic, partition, before, now } => {
                let id = |leader: &Option<i32>| match leader {
                    Some(id) => format!("broker {id}"),
                    None => "nobody".to_owned(),
                };
                write!(f, "{topic}-{partition} is led by {}, before by {}", id(now), id(before))
            }
            Event::Unwritable { broker, charged, high } => {
                write!(f, "broker {broker} is over its high watermark: {charged} of {high} bytes")
            }
            Event::Writable { broker } => write!(f, "broker {broker} is below its low watermark"),
            Event::Failed { error, records } => {
                write!(f, "{} failed: {error}", counted(u64::from(*records), "record"))
            }
            Event::Missed { events } => write!(f, "{} missing here", counted(*events, "event")),
        }
    }
}
