//! Topics that the application has created.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::producer::Producer;
use crate::config::{NewTopic, check_topic_name};
use crate::engine::sync::{Generation, OneShot, block_on};
use crate::error::{CreateTopicError, CreateTopicErrorKind};
use crate::io::is_own_thread;

type Outcome = Result<(), CreateTopicError>;

/// Resolves when the topic was created, or is known not to be. It has begun when it is returned,
/// polled or not: [`Producer::create_topic`].
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::NewTopic;
///
/// let creation = producer.create_topic("orders", NewTopic::new().partitions(3));
/// creation.wait()?; // a future too
/// assert!(cluster.leader("orders", 2).is_some());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "create_topic() begins at once, but only waiting tells whether it succeeds"]
pub struct TopicCreation {
    topic: Arc<str>,
    outcome: Arc<OneShot<Outcome>>,
    born: Generation,
}

impl Producer {
    /// Has the cluster create a topic (KIP-4, CreateTopics). On a thread of the producer's own with
    /// a connection of its own, to the controller; nothing that is sent waits for it. What stands
    /// in the way (no broker reachable, a controller that moves) is tried again until
    /// [`NewTopic::timeout`] has passed. At most 32 calls are under way at once; others wait for
    /// one to end, and their time runs meanwhile. Needs brokers from Kafka 0.11 on.
    ///
    /// Other brokers may take a moment to hear of the topic. Records that are sent meanwhile wait
    /// as for any topic that is not known yet.
    ///
    /// A service that must start while Kafka is away does not wait for this. It has topics created
    /// with their first record instead
    /// ([`ProducerConfig::create_topics`](crate::ProducerConfig::create_topics)), which holds up
    /// nothing but those records.
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tidegate::embedded::EmbeddedCluster;
    /// use tidegate::{CreateTopicErrorKind, NewTopic, Producer};
    ///
    /// let cluster = EmbeddedCluster::builder().start()?;
    /// let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
    /// let orders = NewTopic::new().partitions(3).setting("retention.ms", "86400000");
    /// match producer.create_topic("orders", orders).wait() {
    ///     Ok(()) => println!("created"),
    ///     Err(error) if *error.kind() == CreateTopicErrorKind::AlreadyExists => {}
    ///     Err(error) => return Err(error.into()),
    /// }
    /// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "embedded"))]
    /// # fn main() {}
    /// ```
    ///
    /// If an attempt goes unanswered and the next one finds the topic there, that counts as
    /// created.
    pub fn create_topic(&self, name: &str, topic: NewTopic) -> TopicCreation {
        let shared = self.shared();
        let outcome = Arc::new(OneShot::default());
        let teller = Teller { topic: name.into(), outcome: outcome.clone() };
        let creation = TopicCreation { topic: name.into(), outcome, born: Generation::current() };
        if let Err(reason) = check_topic_name(name) {
            teller.tell(Err(CreateTopicErrorKind::InvalidTopic(reason)));
        } else if let Err(error) = topic.validate(str::to_owned) {
            teller.tell(Err(CreateTopicErrorKind::InvalidSetting(Box::new(error))));
        } else if !shared.born.is_current() {
            teller.tell(Err(CreateTopicErrorKind::Forked));
        } else if shared.accumulator.is_closed() {
            teller.tell(Err(CreateTopicErrorKind::Closed));
        } else {
            let tell = move |outcome| teller.tell(outcome);
            shared.metadata.create_topic(name.into(), Arc::new(topic), tell);
        }
        creation
    }
}

/// Sets the outcome; that the producer was closed, if it is dropped before.
struct Teller {
    topic: Arc<str>,
    outcome: Arc<OneShot<Outcome>>,
}

impl Teller {
    fn tell(&self, outcome: Result<(), CreateTopicErrorKind>) {
        let named = |kind| CreateTopicError::new(self.topic.clone(), kind);
        self.outcome.set(outcome.map_err(named));
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.tell(Err(CreateTopicErrorKind::Closed));
    }
}

impl TopicCreation {
    /// Blocks the calling thread until the topic was created, or is known not to be.
    ///
    /// # Errors
    /// Why it was not created.
    pub fn wait(mut self) -> Result<(), CreateTopicError> {
        let topic = self.topic.clone();
        let mut poll = |context: &mut Context<'_>| Pin::new(&mut self).poll(context);
        if is_own_thread() {
            return match poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => Err(CreateTopicError::new(topic, CreateTopicErrorKind::OwnThread)),
            };
        }
        block_on(poll)
    }
}

impl Future for TopicCreation {
    type Output = Result<(), CreateTopicError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.born.is_current() {
            let kind = CreateTopicErrorKind::Forked;
            return Poll::Ready(Err(CreateTopicError::new(self.topic.clone(), kind)));
        }
        self.outcome.poll(context)
    }
}

impl std::fmt::Debug for TopicCreation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicCreation").field("topic", &self.topic).finish_non_exhaustive()
    }
}
