//! Uniform stickiness (KIP-794): where records go whose key does not decide.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use super::{Moment, PartitionRequest, PartitionView, Partitioner, Partitions};
use crate::engine::random;

/// Threads that stick to partitions of their own; further ones share. A power of two.
const SLOTS: usize = 64;
const _: () = assert!(SLOTS.is_power_of_two());

/// Set on a slot's partition that has had its batch's worth: the next record chooses another. The
/// mark is the sign: one comparison tells a partition to stay with from one that is exhausted.
const EXHAUSTED: i32 = i32::MIN;

/// A slot that has not chosen yet.
const NONE: i32 = -1;

/// A stay with a partition takes at least so long, in milliseconds, unless a batch's worth comes
/// sooner: at 100 records a second that is ten of them. A batch's worth would take half a minute
/// there. Shorter stays would send the first records of more brokers alone, one in a request.
pub const STAY_MS_MIN: u32 = 100;

/// A partitioner that is asked and not told of appends moves on after so many bytes of values: the
/// default `batch.size` of the Java client, whose measure it is.
const UNTOLD_BYTES: u32 = 16 * 1024;

/// What a record counts besides its value where nobody tells how long it was.
const UNTOLD_OVERHEAD: usize = 32;

/// Random draws before all partitions are looked at: enough unless most are unavailable.
const DRAWS_MAX: u32 = 8;

/// What a thread (or several, beyond [`SLOTS`]) sticks to in one topic.
///
/// Only hints: two threads that share a slot may overwrite each other's counts, which makes them
/// stick a little longer and harms nothing. So all accesses are relaxed loads and stores.
struct Slot {
    partition: AtomicI32,
    bytes: AtomicU32,
    /// When the stay began, in milliseconds.
    since: AtomicU32,
    /// Bytes that it was asked for since it was last told of an append.
    untold: AtomicU32,
    random: AtomicU64,
}

/// The thousandths of its high watermark up to which a broker counts as quick: a healthy one has
/// less in its open batches and in flight. As long as all are below it, levels decide nothing.
const LOAD_USUAL: u32 = 100;

/// A broker at its high watermark, or over it.
const LOAD_MAX: u32 = 1_000;

/// The weight of a partition whose broker is quick.
const WEIGHT_FULL: u32 = 1_000;

/// Uniform stickiness for one topic: keys, if there are any, decide nothing (the Java client's
/// `UniformStickyPartitioner`, and its `partitioner.ignore.keys=true`).
///
/// Each sending thread sticks to a partition of its own until it has put a batch's worth of bytes
/// (`batch_size`) there or has been there for 100 ms (or `linger`, if that is longer), then moves
/// to another available one. Batches fill up, threads do not contend for a lane, and every
/// partition gets its share, also where there are few records. A partition that loses its leader,
/// or whose broker is over its high watermark, is left at once; new partitions join as soon as they
/// are known.
///
/// All are equally likely, unless it is adaptive, which is the default (KIP-794): a broker that has
/// more than a tenth of its high watermark waiting is slow, and its partitions are chosen less
/// often, by the square of that level. So a broker that takes a tenth of what the others take gets
/// about a tenth, with a third of its watermark waiting.
///
/// A partitioner of your own may ask one of these for some of its records, and need not pass
/// [`Partitioner::on_appended`] on: what is not told of its records' lengths moves on after 16 KiB
/// of values, or by the time.
///
/// Memory: 8 KiB per topic, from the first record on.
///
/// ```
/// use tidegate::{PartitionRequest, PartitionView, Partitioner, Partitions, StickyPartitioner};
///
/// struct Twelve;
/// impl PartitionView for Twelve {
///     fn count(&self) -> i32 {
///         12
///     }
///     fn is_available(&self, partition: i32) -> bool {
///         (0..12).contains(&partition)
///     }
/// }
///
/// let sticky = StickyPartitioner::new();
/// let record = PartitionRequest::new("clicks", Some(b"a key"), None, Partitions::new(&Twelve));
/// let first = sticky.partition(&record.at_ms(1_000));
/// assert_eq!(sticky.partition(&record.at_ms(1_099)), first);
/// assert_ne!(sticky.partition(&record.at_ms(1_100)), first);
/// ```
pub struct StickyPartitioner {
    // Made on first use: a process may send keyed records to thousands of topics.
    slots: OnceLock<Box<[CachePadded<Slot>; SLOTS]>>,
    seed: u64,
    is_adaptive: bool,
}

impl StickyPartitioner {
    /// A partitioner whose choices differ from process to process.
    pub fn new() -> Self {
        Self::with_seed(random::seed())
    }

    /// A partitioner that makes the same choices in every run, for simulations and tests.
    pub fn with_seed(seed: u64) -> Self {
        StickyPartitioner { slots: OnceLock::new(), seed, is_adaptive: true }
    }

    /// Whether partitions of slow brokers are chosen less often. Default: yes. Java's
    /// `partitioner.adaptive.partitioning.enable`.
    #[must_use]
    pub fn adaptive(self, is_adaptive: bool) -> Self {
        StickyPartitioner { is_adaptive, ..self }
    }

    /// What [`Partitioner::partition`] does, for callers that know their view of the partitions and
    /// tell of every append.
    #[inline]
    pub(crate) fn choose<V: PartitionView>(&self, view: &V, moment: Option<Moment>) -> i32 {
        let slot = self.slot();
        let sticky = slot.partition.load(Relaxed);
        let stays = moment.is_none_or(|moment| slot.stays(moment));
        // Exhausted and unset ones are negative.
        if sticky >= 0 && stays && view.is_available(sticky) {
            return sticky;
        }
        choose(slot, Partitions::new(view), (sticky, stays), moment, self.is_adaptive)
    }

    /// Whether a partition was ever asked for.
    #[cfg(test)]
    pub(super) fn has_begun(&self) -> bool {
        self.slots.get().is_some()
    }

    /// The calling thread's stay with a partition, if it goes on. Whether the partition is
    /// available is for the caller to see, who looks at it anyway.
    #[inline(always)]
    pub(crate) fn stay(&self, moment: Moment) -> Option<Stay<'_>> {
        let slot = &self.slots.get()?[thread_number() as usize % SLOTS];
        let partition = slot.partition.load(Relaxed);
        (partition >= 0 && slot.stays(moment)).then_some(Stay { slot, partition })
    }

    /// What [`Partitioner::on_appended`] does.
    #[inline]
    pub(crate) fn count_appended(&self, partition: i32, bytes: usize, batch_size: usize) {
        // Nobody asked for stickiness yet: every record had a key.
        let Some(slots) = self.slots.get() else { return };
        let slot = &slots[thread_number() as usize % SLOTS];
        if slot.partition.load(Relaxed) == partition {
            Stay { slot, partition }.count_appended(bytes, batch_size);
        }
    }

    /// A record was asked for, and may never be told of: a wrapper passes questions on, and often
    /// nothing else.
    fn count_asked(&self, partition: i32, value: usize) {
        let slot = self.slot();
        let before = slot.untold.load(Relaxed);
        let bytes = u32::try_from(value + UNTOLD_OVERHEAD).unwrap_or(u32::MAX);
        let untold = before.saturating_add(bytes);
        // A record that is told of comes here with nothing before it, however long it is.
        let is_exhausted = before > 0 && untold >= UNTOLD_BYTES;
        slot.untold.store(if is_exhausted { 0 } else { untold }, Relaxed);
        if is_exhausted {
            slot.partition.store(partition | EXHAUSTED, Relaxed);
        }
    }

    #[inline]
    fn slot(&self) -> &Slot {
        let slots = self.slots.get_or_init(|| make_slots(self.seed));
        &slots[thread_number() as usize % SLOTS]
    }
}

/// A thread's stay with a partition.
pub(crate) struct Stay<'a> {
    slot: &'a Slot,
    partition: i32,
}

impl Stay<'_> {
    /// The partition.
    #[inline]
    pub(crate) fn partition(&self) -> i32 {
        self.partition
    }

    /// So many bytes were appended there. A batch's worth ends the stay.
    #[inline]
    pub(crate) fn count_appended(&self, bytes: usize, batch_size: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let total = self.slot.bytes.load(Relaxed).saturating_add(bytes);
        self.slot.bytes.store(total, Relaxed);
        if total as usize >= batch_size {
            self.slot.partition.store(self.partition | EXHAUSTED, Relaxed);
        }
    }
}

impl Slot {
    /// Whether the stay goes on at that moment. A clock that was set back ends it too.
    #[inline]
    fn stays(&self, moment: Moment) -> bool {
        moment.now_ms.wrapping_sub(self.since.load(Relaxed)) < moment.stay_ms
    }
}

impl Default for StickyPartitioner {
    fn default() -> Self {
        StickyPartitioner::new()
    }
}

impl Partitioner for StickyPartitioner {
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        let chosen = self.choose(&request.partitions, request.moment);
        self.count_asked(chosen, request.value.map_or(0, <[u8]>::len));
        chosen
    }

    fn on_appended(&self, partition: i32, bytes: usize, batch_size: usize) {
        if let Some(slots) = self.slots.get() {
            // Whoever tells of one append tells of each.
            slots[thread_number() as usize % SLOTS].untold.store(0, Relaxed);
        }
        self.count_appended(partition, bytes, batch_size);
    }
}

/// Moves `slot` to another available partition, each as likely as its weight says. `held` is what
/// it held, and whether the time for that is not over. Where nothing else is available it stays.
/// Where nothing is available at all, as before the leaders of a new topic are known, it sticks and
/// moves among all.
#[cold]
fn choose(
    slot: &Slot,
    partitions: Partitions<'_>,
    (held, stays): (i32, bool),
    moment: Option<Moment>,
    is_adaptive: bool,
) -> i32 {
    let count = partitions.count().max(1);
    let last = if held == NONE { NONE } else { held & !EXHAUSTED };
    let is_known = (0..count).contains(&last);
    let usable = |partition: i32| partition != last && partitions.is_available(partition);
    let chosen = draw_usable(slot, partitions, (last, count), is_adaptive)
        .or_else(|| {
            let others = (0..count).filter(|partition| usable(*partition)).count() as i32;
            let nth = if others == 0 { return None } else { draw(slot, others) };
            // Availability may change between the two looks; then the next best rule applies.
            (0..count).filter(|partition| usable(*partition)).nth(nth as usize)
        })
        .or_else(|| (is_known && partitions.is_available(last)).then_some(last));
    let chosen = match chosen {
        Some(chosen) => chosen,
        None if is_known && held == last && stays => return last,
        // Another one, each equally likely.
        None if is_known && count > 1 => (last + 1 + draw(slot, count - 1)) % count,
        None => draw(slot, count),
    };
    slot.bytes.store(0, Relaxed);
    // Where the time is not known the next record that knows it ends the stay.
    slot.since.store(moment.map_or(0, |moment| moment.now_ms), Relaxed);
    slot.partition.store(chosen, Relaxed);
    chosen
}

/// A number from 0 and below `range`, which is positive, from the slot's own generator.
fn draw(slot: &Slot, range: i32) -> i32 {
    let state = random::step(slot.random.load(Relaxed));
    slot.random.store(state, Relaxed);
    random::below(state, range)
}

/// How likely a partition is to be chosen whose broker has this load, from 1 to [`WEIGHT_FULL`].
/// Inversely to the load, as in KIP-794, and by its square: what has to wait at a slow broker until
/// its share has fallen to its rate is memory that the others lack.
fn weight(load: u32) -> u32 {
    if load <= LOAD_USUAL {
        return WEIGHT_FULL;
    }
    let load = load.min(LOAD_MAX);
    (WEIGHT_FULL * LOAD_USUAL * LOAD_USUAL / (load * load)).max(1)
}

/// One of the available partitions at random, each as likely as its weight says: what is drawn is
/// passed over as often as its weight is short of the full one. `last` is not drawn, but in place
/// of one whose broker has more waiting. `None` if too few partitions are available.
fn draw_usable(
    slot: &Slot,
    partitions: Partitions<'_>,
    (last, count): (i32, i32),
    is_adaptive: bool,
) -> Option<i32> {
    // The one with the least load of those that were passed over.
    let mut passed_over: Option<(u32, i32)> = None;
    for _ in 0..DRAWS_MAX {
        let partition = draw(slot, count);
        if partition == last && passed_over.is_none() || !partitions.is_available(partition) {
            continue;
        }
        if !is_adaptive {
            return Some(partition);
        }
        let load = partitions.load(partition);
        let is_least = passed_over.is_none_or(|(least, _)| load < least);
        if partition == last && !is_least {
            continue;
        }
        let weight = weight(load);
        if weight == WEIGHT_FULL || draw(slot, WEIGHT_FULL as i32) < weight as i32 {
            return Some(partition);
        }
        if is_least {
            passed_over = Some((load, partition));
        }
    }
    passed_over.map(|(_, partition)| partition)
}

fn make_slots(seed: u64) -> Box<[CachePadded<Slot>; SLOTS]> {
    Box::new(std::array::from_fn(|index| {
        // Neighbouring slots get states far apart.
        let state = random::state_of(random::scatter(seed ^ index as u64));
        CachePadded::new(Slot {
            partition: AtomicI32::new(NONE),
            bytes: AtomicU32::new(0),
            since: AtomicU32::new(0),
            untold: AtomicU32::new(0),
            random: AtomicU64::new(state),
        })
    }))
}

/// A thread that has no number yet.
const UNNUMBERED: u32 = u32::MAX;

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(UNNUMBERED) };
}

/// The calling thread's number, counted from 0 through the whole process in order of first use.
#[inline]
fn thread_number() -> u32 {
    // Also asked in destructors of other thread-locals, when this one may be gone.
    let known = NUMBER.try_with(Cell::get).unwrap_or(UNNUMBERED);
    if known == UNNUMBERED { number_thread() } else { known }
}

#[cold]
fn number_thread() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let new = NEXT.fetch_add(1, Relaxed) & (UNNUMBERED >> 1);
    let _ = NUMBER.try_with(|number| number.set(new));
    new
}

#[cfg(test)]
mod tests;
