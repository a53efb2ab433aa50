//! Scripted faults: what goes wrong, where, and how often.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::log::error;

const PRODUCE: i16 = 0;

/// One scripted fault, or the same fault several times.
///
/// A fault waits in the cluster's script until something matches it, happens then, and is used up
/// after the count given by [`times`](Fault::times) (1 unless told). Where several match, the one
/// that was scripted first happens.
///
/// ```
/// use tidegate::embedded::Fault;
///
/// // The next two batches for orders-3 are written and then answered with REQUEST_TIMED_OUT.
/// let fault = Fault::produce_error("orders", 3, 7).after_append().times(2);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a fault happens only when it is given to EmbeddedCluster::script"]
pub struct Fault {
    pub(super) action: Action,
    times: usize,
    broker: Option<i32>,
    api_key: i16,
    topic: Option<String>,
    partition: Option<i32>,
    pub(super) after_append: bool,
    pub(super) message: Option<String>,
    pub(super) leader_hint: Option<(i32, i32)>,
    pub(super) log_start: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    // Of one partition in a produce request.
    ProduceError(i16),
    OmitPartition,
    RecordErrors(Vec<i32>),
    // Of a whole request.
    Delay(Duration),
    Silence,
    Close,
    Throttle(i32),
    // Of a connection.
    CloseOnAccept,
    // Of other requests.
    MetadataError(i16),
    InitProducerIdError(i16),
    CreateTopicsError(i16),
    FetchError(i16),
    GroupError(i16),
}

impl Action {
    fn is_of_request(&self) -> bool {
        matches!(self, Action::Delay(_) | Action::Silence | Action::Close | Action::Throttle(_))
    }

    fn is_of_partition(&self) -> bool {
        matches!(self, Action::ProduceError(_) | Action::OmitPartition | Action::RecordErrors(_))
    }
}

impl Fault {
    fn new(action: Action) -> Fault {
        Fault {
            action,
            times: 1,
            broker: None,
            api_key: PRODUCE,
            topic: None,
            partition: None,
            after_append: false,
            message: None,
            leader_hint: None,
            log_start: None,
        }
    }

    /// A batch for this partition is answered with an error `code` and not appended. (See
    /// [`after_append`](Fault::after_append), [`message`](Fault::message),
    /// [`leader_hint`](Fault::leader_hint).)
    pub fn produce_error(topic: &str, partition: i32, code: i16) -> Fault {
        Fault::new(Action::ProduceError(code)).partition(topic, partition)
    }

    /// A batch for any partition is answered with an error `code`; narrow it with
    /// [`topic`](Fault::topic), [`partition`](Fault::partition) or [`broker`](Fault::broker).
    pub fn produce_error_anywhere(code: i16) -> Fault {
        Fault::new(Action::ProduceError(code))
    }

    /// A batch is answered with INVALID_RECORD (87) and these indices as the culprits (KIP-467,
    /// produce version 8 and up), each with [`message`](Fault::message). It is not appended.
    pub fn record_errors(indices: impl Into<Vec<i32>>) -> Fault {
        Fault::new(Action::RecordErrors(indices.into()))
    }

    /// A partition is left out of the response, and its batch not appended unless
    /// [`after_append`](Fault::after_append) is given.
    pub fn omit_partition() -> Fault {
        Fault::new(Action::OmitPartition)
    }

    /// A produce request waits this long before it is handled
    /// ([`after_append`](Fault::after_append): before it is answered). Its connection waits with
    /// it, as connections do at real brokers.
    pub fn delay(by: Duration) -> Fault {
        Fault::new(Action::Delay(by))
    }

    /// A produce request is swallowed: not handled, never answered, and the connection goes on.
    /// ([`after_append`](Fault::after_append): handled, never answered.)
    pub fn silence() -> Fault {
        Fault::new(Action::Silence)
    }

    /// The connection is closed when a produce request was read, which is not handled.
    pub fn close_before_response() -> Fault {
        Fault::new(Action::Close)
    }

    /// A produce request is handled, its batches appended, and the connection closed instead of
    /// answering.
    pub fn close_after_append() -> Fault {
        Fault::new(Action::Close).after_append()
    }

    /// The next `n` connections are closed as soon as they are accepted.
    pub fn close_on_accept(n: usize) -> Fault {
        Fault::new(Action::CloseOnAccept).times(n)
    }

    /// A produce response carries this throttle time, in milliseconds, and its connection is not
    /// read for as long (KIP-219).
    pub fn throttle(ms: i32) -> Fault {
        Fault::new(Action::Throttle(ms))
    }

    /// A metadata response says this error about the topic.
    pub fn metadata_error(topic: &str, code: i16) -> Fault {
        Fault::new(Action::MetadataError(code)).topic(topic)
    }

    /// An InitProducerId request is answered with this error.
    pub fn init_producer_id_error(code: i16) -> Fault {
        Fault::new(Action::InitProducerIdError(code))
    }

    /// A topic that is to be created is refused with this error, and
    /// [`message`](Fault::message) if there is one.
    pub fn create_topics_error(code: i16) -> Fault {
        Fault::new(Action::CreateTopicsError(code))
    }

    /// What the coordinator of groups is asked, OffsetCommit or OffsetFetch, is answered with this
    /// error.
    pub fn group_error(code: i16) -> Fault {
        Fault::new(Action::GroupError(code))
    }

    /// A partition that is fetched, or whose offsets are asked for, is answered with this error.
    pub fn fetch_error(topic: &str, partition: i32, code: i16) -> Fault {
        Fault::new(Action::FetchError(code)).partition(topic, partition)
    }

    /// How often it happens; 1 unless told, and 0 is never.
    pub fn times(mut self, n: usize) -> Fault {
        self.times = n;
        self
    }

    /// It happens only at this broker.
    pub fn broker(mut self, id: i32) -> Fault {
        self.broker = Some(id);
        self
    }

    /// It happens only to this topic; a fault of a whole request: only to requests that contain it.
    pub fn topic(mut self, topic: &str) -> Fault {
        self.topic = Some(topic.to_owned());
        self
    }

    /// It happens only to this partition; a fault of a whole request: only to requests that contain
    /// it.
    pub fn partition(mut self, topic: &str, partition: i32) -> Fault {
        self.topic = Some(topic.to_owned());
        self.partition = Some(partition);
        self
    }

    /// For delay, silence and close: the kind of request it happens to, as Kafka's API key, instead
    /// of Produce (0). 1 is Fetch, 2 ListOffsets, 3 Metadata, 8 OffsetCommit, 9 OffsetFetch, 10
    /// FindCoordinator, 18 ApiVersions, 19 CreateTopics, 22 InitProducerId.
    pub fn api(mut self, api_key: i16) -> Fault {
        self.api_key = api_key;
        self
    }

    /// First the batch is validated and appended as if nothing were wrong, then the fault happens.
    /// If the append is refused, that refusal is the answer.
    pub fn after_append(mut self) -> Fault {
        self.after_append = true;
        self
    }

    /// The error message, or the message of each culprit for
    /// [`record_errors`](Fault::record_errors).
    pub fn message(mut self, text: &str) -> Fault {
        self.message = Some(text.to_owned());
        self
    }

    /// The error comes with this current leader and epoch (KIP-951, produce version 10 and up).
    pub fn leader_hint(mut self, leader: i32, epoch: i32) -> Fault {
        self.leader_hint = Some((leader, epoch));
        self
    }

    /// The error comes with this first offset of the log, instead of -1 for "not known".
    pub fn log_start(mut self, offset: i64) -> Fault {
        self.log_start = Some(offset);
        self
    }

    fn matches_broker(&self, broker: i32) -> bool {
        self.broker.is_none_or(|id| id == broker)
    }

    fn matches_partition(&self, topic: &str, partition: i32) -> bool {
        self.topic.as_deref().is_none_or(|name| name == topic)
            && self.partition.is_none_or(|index| index == partition)
    }

    /// The code a partition is answered with.
    pub(super) fn code(&self) -> i16 {
        match self.action {
            Action::ProduceError(code) => code,
            Action::RecordErrors(_) => error::INVALID_RECORD,
            _ => error::NONE,
        }
    }
}

impl IntoIterator for Fault {
    type Item = Fault;
    type IntoIter = std::iter::Once<Fault>;

    /// One fault is a script of its own.
    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(self)
    }
}

/// The faults that have not happened yet.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Length of the list, read without its lock: mostly there is no fault.
    pending: AtomicUsize,
    faults: Mutex<VecDeque<Fault>>,
}

impl Script {
    pub(super) fn add(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut list = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        list.extend(faults.into_iter().filter(|fault| fault.times > 0));
        self.pending.store(list.len(), Ordering::Release);
    }

    pub(super) fn clear(&self) {
        let mut list = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        list.clear();
        self.pending.store(0, Ordering::Release);
    }

    /// How many times faults will still happen, all together.
    pub(super) fn left(&self) -> usize {
        let list = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        list.iter().map(|fault| fault.times).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
    }

    pub(super) fn take_accept(&self, broker: i32) -> bool {
        self.take(|f| f.action == Action::CloseOnAccept && f.matches_broker(broker)).is_some()
    }

    /// A fault of a whole request; `contains` says whether the request has a partition that a
    /// predicate holds for, and is asked only about requests that have partitions.
    pub(super) fn take_request(
        &self,
        broker: i32,
        api_key: i16,
        contains: impl Fn(&dyn Fn(&str, i32) -> bool) -> bool,
    ) -> Option<Fault> {
        self.take(|f| {
            f.action.is_of_request()
                && f.api_key == api_key
                && f.matches_broker(broker)
                && (f.topic.is_none()
                    || contains(&|topic, index| f.matches_partition(topic, index)))
        })
    }

    pub(super) fn take_partition(&self, broker: i32, topic: &str, partition: i32) -> Option<Fault> {
        self.take(|f| {
            f.action.is_of_partition()
                && f.matches_broker(broker)
                && f.matches_partition(topic, partition)
        })
    }

    pub(super) fn take_metadata_error(&self, broker: i32, topic: &str) -> Option<i16> {
        let of_topic = |f: &Fault| f.topic.as_deref().is_none_or(|name| name == topic);
        let fault = self.take(|f| {
            matches!(f.action, Action::MetadataError(_)) && f.matches_broker(broker) && of_topic(f)
        })?;
        match fault.action {
            Action::MetadataError(code) => Some(code),
            _ => None,
        }
    }

    pub(super) fn take_init_producer_id_error(&self, broker: i32) -> Option<i16> {
        let fault = self.take(|f| {
            matches!(f.action, Action::InitProducerIdError(_)) && f.matches_broker(broker)
        })?;
        match fault.action {
            Action::InitProducerIdError(code) => Some(code),
            _ => None,
        }
    }

    pub(super) fn take_group_error(&self, broker: i32) -> Option<i16> {
        let fault =
            self.take(|f| matches!(f.action, Action::GroupError(_)) && f.matches_broker(broker))?;
        match fault.action {
            Action::GroupError(code) => Some(code),
            _ => None,
        }
    }

    pub(super) fn take_create_topics_error(
        &self,
        broker: i32,
        topic: &str,
    ) -> Option<(i16, Option<String>)> {
        let of_topic = |f: &Fault| f.topic.as_deref().is_none_or(|name| name == topic);
        let fault = self.take(|f| {
            let is_one = matches!(f.action, Action::CreateTopicsError(_));
            is_one && f.matches_broker(broker) && of_topic(f)
        })?;
        match fault.action {
            Action::CreateTopicsError(code) => Some((code, fault.message)),
            _ => None,
        }
    }

    pub(super) fn take_fetch_error(&self, broker: i32, topic: &str, partition: i32) -> Option<i16> {
        let fault = self.take(|f| {
            matches!(f.action, Action::FetchError(_))
                && f.matches_broker(broker)
                && f.matches_partition(topic, partition)
        })?;
        match fault.action {
            Action::FetchError(code) => Some(code),
            _ => None,
        }
    }

    fn take(&self, matches: impl Fn(&Fault) -> bool) -> Option<Fault> {
        if self.is_empty() {
            return None;
        }
        let mut list = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let at = list.iter().position(matches)?;
        let taken = list[at].clone();
        list[at].times -= 1;
        if list[at].times == 0 {
            list.remove(at);
        }
        self.pending.store(list.len(), Ordering::Release);
        Some(taken)
    }
}
