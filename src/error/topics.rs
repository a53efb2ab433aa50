//! What stands in the way of a topic that is to be created.

use std::sync::Arc;
use std::time::Duration;

use super::words::{in_its_words, last_cause};
use crate::engine::protocol::ErrorCode;
use crate::problem::{Problem, ProblemKind};

/// A topic was not created: [`Producer::create_topic`](crate::Producer::create_topic).
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # use tidegate::NewTopic;
/// let error = producer.create_topic("orders", NewTopic::new()).wait().unwrap_err();
/// assert_eq!(error.topic(), "orders");
/// assert_eq!(error.to_string(), "topic \"orders\" was not created: there is one of this name");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("topic \"{topic}\" was not created: {kind}")]
pub struct CreateTopicError {
    topic: Arc<str>,
    kind: CreateTopicErrorKind,
}

/// Why a topic was not created.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::{CreateTopicErrorKind, NewTopic};
///
/// match producer.create_topic("orders", NewTopic::new()).wait() {
///     Ok(()) => println!("created"),
///     // So it is there, whoever created it.
///     Err(error) if *error.kind() == CreateTopicErrorKind::AlreadyExists => {}
///     Err(error) => return Err(error.into()),
/// }
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateTopicErrorKind {
    /// There is a topic of this name, perhaps with other partitions and settings.
    #[error("there is one of this name")]
    AlreadyExists,
    /// The cluster refused it: it may not be created by this user, or not like this.
    #[error("the broker answered {code}{}", in_its_words(message))]
    Refused {
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's own words, if it sent any.
        message: Option<Arc<str>>,
    },
    /// No broker will create it, however often it is asked: all are too old, or refuse the login;
    /// or the system has no thread to ask on.
    #[error("{0}")]
    Failed(#[source] Problem),
    /// Its time passed. If a broker was asked and did not answer, the topic may have been created.
    #[error("not within {after:?}{}", last_cause(last))]
    TimedOut {
        /// The time it had.
        after: Duration,
        /// What stood in the way.
        #[source]
        last: Option<Problem>,
    },
    /// Kafka does not allow the name.
    #[error("its name is illegal: {0}")]
    InvalidTopic(&'static str),
    /// What it is to be created with cannot be.
    #[error("{0}")]
    InvalidSetting(Box<super::BuildError>),
    /// The producer is closed, or was closed meanwhile: the topic may have been created.
    #[error("the producer is closed")]
    Closed,
    /// The process was forked: the child has none of the producer's threads.
    #[error("this process is a fork of the one that built the producer: build a new one here")]
    Forked,
    /// Waiting for it on one of the producer's own threads would stop what it waits for.
    #[error("waited for on a thread of the producer itself, where it would wait for ever")]
    OwnThread,
}

impl CreateTopicError {
    pub(crate) fn new(topic: Arc<str>, kind: CreateTopicErrorKind) -> Self {
        CreateTopicError { topic, kind }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Why it was not created.
    pub fn kind(&self) -> &CreateTopicErrorKind {
        &self.kind
    }
}

impl CreateTopicErrorKind {
    /// The same for those whose records wait for the topic.
    pub(crate) fn to_problem(&self) -> Problem {
        let kind = match self {
            CreateTopicErrorKind::AlreadyExists => {
                ProblemKind::Broker(ErrorCode::TOPIC_ALREADY_EXISTS)
            }
            CreateTopicErrorKind::Refused { code, .. } => ProblemKind::Broker(*code),
            CreateTopicErrorKind::Failed(problem) => problem.kind(),
            CreateTopicErrorKind::TimedOut { last: Some(last), .. } => last.kind(),
            CreateTopicErrorKind::TimedOut { .. } => ProblemKind::TimedOut,
            CreateTopicErrorKind::Closed => ProblemKind::Closed,
            _ => ProblemKind::Limit,
        };
        Problem::new(kind, format_args!("it was not created: {self}"))
    }
}
