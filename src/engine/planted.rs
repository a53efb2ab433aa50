//! Known ways to get it wrong, for the simulation: it switches one on and must notice.
//!
//! Only with the feature `internals`. Without it, `planted!` is a constant `false`, and nothing of
//! this is in the library.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::locking::lock;

/// A bug that this client does not have, and that others had. In brackets where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`Bug::story` says what each is")]
pub enum Bug {
    RenumbersOnRetry,
    ReusesSequenceAfterExpiry,
    MovesWithInFlights,
    RecyclesAtExpiry,
    RenumbersUnanswered,
    CompletesByPosition,
    TakesOlderLeaderEpoch,
    ForgetsUnknownTopic,
    BumpsBesideInFlights,
    DuplicateIsFailure,
    DropsOmittedPartition,
    CompletesTwice,
    RetriesOutOfOrder,
    OutOfOrderProves,
    ManyBeforeFirstSuccess,
    WrapsSequenceToNegative,
    WrapsEpoch,
    SplitsOutOfOrder,
    PiecesShareSequences,
    DeposedLeaderWroteNothing,
    DisconnectWroteNothing,
    InFlightNeverExpires,
    PastFloorIsDeadline,
    HeadAloneProves,
    LastAloneProves,
    OutOfOrderNeverProves,
    ProofNeverAges,
    RequestsNeverShrink,
    StaysWithFruitlessBroker,
    CarriesProducerIdAlong,
    StaysAtOldAddress,
    WritesOneRound,
    DropsActions,
}

/// Every bug, and what goes wrong with it.
const STORIES: [(Bug, &str); 33] = [
    (Bug::RenumbersOnRetry, "a retried batch gets new sequences"),
    (
        Bug::ReusesSequenceAfterExpiry,
        "the sequences of an expired batch are given to the next one [franz-go 1217]",
    ),
    (Bug::MovesWithInFlights, "a new leader is asked while attempts at the old one are in flight"),
    (
        Bug::RecyclesAtExpiry,
        "memory of a batch that expires in flight is used again at once [KAFKA-19012]",
    ),
    (Bug::RenumbersUnanswered, "a batch whose attempt went unanswered moves into a new epoch"),
    (Bug::CompletesByPosition, "answers are taken by position, not by partition"),
    (
        Bug::TakesOlderLeaderEpoch,
        "metadata with an older leader epoch is believed [librdkafka 4976]",
    ),
    (
        Bug::ForgetsUnknownTopic,
        "sequences start over after a topic was briefly unknown [librdkafka 1.9.0]",
    ),
    (
        Bug::BumpsBesideInFlights,
        "a new epoch begins beside old in-flights [KAFKA-12152, librdkafka 4953]",
    ),
    (Bug::DuplicateIsFailure, "DUPLICATE_SEQUENCE_NUMBER fails the delivery"),
    (Bug::DropsOmittedPartition, "a partition that a response leaves out is forgotten"),
    (Bug::CompletesTwice, "a batch that was failed is completed again by its answer"),
    (Bug::RetriesOutOfOrder, "a later batch is sent again before an earlier one"),
    (
        Bug::OutOfOrderProves,
        "new batches go beside a retry, and OUT_OF_ORDER_SEQUENCE_NUMBER passes for a \
                 proof that it was not written, once the broker remembers it no longer",
    ),
    (
        Bug::ManyBeforeFirstSuccess,
        "several batches go to a broker that does not know the id yet [franz-go 223]",
    ),
    (
        Bug::WrapsSequenceToNegative,
        "the sequence behind the last is negative [franz-go 226, librdkafka 3720]",
    ),
    (Bug::WrapsEpoch, "the epoch behind the last is 0, of the same producer id"),
    (Bug::SplitsOutOfOrder, "the rest of a split batch goes behind later batches"),
    (Bug::PiecesShareSequences, "the rest of a split batch has the next batch's sequences"),
    (
        Bug::DeposedLeaderWroteNothing,
        "NOT_LEADER_OR_FOLLOWER is taken for a proof that nothing was written",
    ),
    (
        Bug::DisconnectWroteNothing,
        "a lost connection is taken for a proof that nothing was written",
    ),
    (Bug::InFlightNeverExpires, "what is in flight is not looked at when deadlines pass"),
    (Bug::PastFloorIsDeadline, "a loop polls without waiting while a socket is full"),
    (
        Bug::HeadAloneProves,
        "OUT_OF_ORDER of the first batch passes for a proof that none behind it was \
                 written, at a broker that remembers the last one only",
    ),
    (
        Bug::LastAloneProves,
        "OUT_OF_ORDER of the first and the last batch passes for a proof that none between \
                 them was written",
    ),
    (
        Bug::OutOfOrderNeverProves,
        "a batch whose predecessor was cut off is asked about until it expires",
    ),
    (
        Bug::ProofNeverAges,
        "after a long silence several batches go to a broker that forgot the producer",
    ),
    (
        Bug::RequestsNeverShrink,
        "a request that is too long for the broker is sent again as it is, for ever",
    ),
    (
        Bug::StaysWithFruitlessBroker,
        "the metadata channel stays with a broker whose answers change nothing",
    ),
    (Bug::CarriesProducerIdAlong, "the old producer id is used at another cluster"),
    (
        Bug::StaysAtOldAddress,
        "requests go over the connection to a broker's old address [librdkafka 1285]",
    ),
    (Bug::WritesOneRound, "a turn writes once, and does not say that there is more to write"),
    (Bug::DropsActions, "a turn forgets what the shard asks its driver for"),
];

impl Bug {
    /// Every one.
    pub fn all() -> impl Iterator<Item = Bug> {
        STORIES.iter().map(|(bug, _)| *bug)
    }

    /// What goes wrong, and where it did.
    pub fn story(self) -> &'static str {
        let own = STORIES.iter().find(|(bug, _)| *bug == self);
        own.map_or("", |(_, story)| story)
    }
}

thread_local! {
    static SWITCHED: Cell<Option<Bug>> = const { Cell::new(None) };
    static FIRST_SEQUENCE: Cell<i32> = const { Cell::new(0) };
}

/// Switches a bug on for this thread, or all off.
pub fn switch(bug: Option<Bug>) {
    SWITCHED.set(bug);
}

/// Whether the bug is switched on.
pub fn is_on(bug: Bug) -> bool {
    SWITCHED.get() == Some(bug)
}

/// Has producer ids on this thread begin at another sequence than 0: a broker takes any from a
/// producer that it does not know.
pub fn begin_at(sequence: i32) {
    FIRST_SEQUENCE.set(sequence);
}

/// The sequence that a producer id begins with.
pub fn first_sequence() -> i32 {
    FIRST_SEQUENCE.get()
}

/// What the next turn of any event loop begins with.
static NEXT_TURN: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);
static HAS_NEXT_TURN: AtomicBool = AtomicBool::new(false);

/// Has the next turn of any event loop of the process begin with this, which may panic: nothing
/// that an application does can make a loop panic.
pub fn at_next_turn(act: impl FnOnce() + Send + 'static) {
    *lock(&NEXT_TURN) = Some(Box::new(act));
    HAS_NEXT_TURN.store(true, Ordering::SeqCst);
}

/// By event loops.
pub fn begin_turn() {
    if HAS_NEXT_TURN.load(Ordering::Relaxed) && HAS_NEXT_TURN.swap(false, Ordering::SeqCst) {
        let act = lock(&NEXT_TURN).take();
        if let Some(act) = act {
            act();
        }
    }
}

/// How long the machine was asleep, beyond what the system knows of, in nanoseconds.
static ASLEEP: AtomicU64 = AtomicU64::new(0);

/// Has every loop of the process find, in a turn of its own, that the machine was asleep for so
/// long: no test can suspend the machine. It wakes no loop, as the end of a suspend does not.
pub fn sleep_for(span: Duration) {
    ASLEEP.fetch_add(span.as_nanos() as u64, Ordering::SeqCst);
}

/// For the clock that counts sleeps.
pub fn asleep_ns() -> u64 {
    ASLEEP.load(Ordering::SeqCst)
}
