//! The partitioner that is used unless another is set: murmur2 for keys, uniform stickiness else.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use super::{
    Moment, PartitionRequest, PartitionView, Partitioner, PartitionerFactory, Partitions, murmur2,
};
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

/// The default partitioner of one topic.
///
/// * A record with a key goes to `murmur2(key) & 0x7fffffff` modulo all partitions, leaderless ones
///   included, as with the Java client: equal keys stay together whichever client sent them. An
///   empty key is hashed like any other.
/// * Without a key, each sending thread sticks to a partition of its own until it has put a batch's
///   worth of bytes (`batch_size`) there or has been there for 100 ms (or `linger`, if that is
///   longer), then moves to another available one, all equally likely (the uniform stickiness of
///   KIP-794). Batches fill up, threads do not contend for a lane, and every partition gets its
///   share, also where there are few records. One that loses its leader, or whose broker is over
///   its high watermark, is left at once; new partitions join as soon as they are known.
///
/// A partitioner of your own may ask one of these for some of its records, and need not pass
/// [`Partitioner::on_appended`] on: what is not told of its records' lengths moves on after 16 KiB
/// of values, or by the time.
///
/// Memory: 8 KiB per topic, from the first record without a key on.
pub struct DefaultPartitioner {
    // Made on first use: a process may send keyed records to thousands of topics.
    slots: OnceLock<Box<[CachePadded<Slot>; SLOTS]>>,
    seed: u64,
}

impl DefaultPartitioner {
    /// A partitioner whose choices differ from process to process.
    pub fn new() -> Self {
        Self::with_seed(random_seed())
    }

    /// A partitioner that makes the same choices in every run, for simulations and tests.
    pub fn with_seed(seed: u64) -> Self {
        DefaultPartitioner { slots: OnceLock::new(), seed }
    }

    /// What [`Partitioner::partition`] does, for callers that know their view of the partitions and
    /// tell of every append.
    #[inline]
    pub(crate) fn choose<V: PartitionView>(
        &self,
        key: Option<&[u8]>,
        view: &V,
        moment: Option<Moment>,
    ) -> i32 {
        if let Some(key) = key {
            let hash = murmur2(key) & 0x7fff_ffff;
            return (hash % view.count().max(1) as u32) as i32;
        }
        let slot = self.slot();
        let sticky = slot.partition.load(Relaxed);
        let stays = moment.is_none_or(|moment| slot.stays(moment));
        // Exhausted and unset ones are negative.
        if sticky >= 0 && stays && view.is_available(sticky) {
            return sticky;
        }
        choose(slot, Partitions::new(view), (sticky, stays), moment)
    }

    /// What [`DefaultPartitioner::choose`] answers for a record without key, if this partition is
    /// available: for a caller that looks at the partition anyway.
    #[inline]
    pub(crate) fn sticky(&self, moment: Moment) -> Option<i32> {
        let slot = &self.slots.get()?[thread_number() as usize % SLOTS];
        let sticky = slot.partition.load(Relaxed);
        (sticky >= 0 && slot.stays(moment)).then_some(sticky)
    }

    /// What [`Partitioner::on_appended`] does.
    #[inline]
    pub(crate) fn count_appended(&self, partition: i32, bytes: usize, batch_size: usize) {
        // Nobody asked for stickiness yet: every record had a key.
        let Some(slots) = self.slots.get() else { return };
        let slot = &slots[thread_number() as usize % SLOTS];
        if slot.partition.load(Relaxed) != partition {
            return;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let total = slot.bytes.load(Relaxed).saturating_add(bytes);
        slot.bytes.store(total, Relaxed);
        if total as usize >= batch_size {
            slot.partition.store(partition | EXHAUSTED, Relaxed);
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

impl Slot {
    /// Whether the stay goes on at that moment. A clock that was set back ends it too.
    #[inline]
    fn stays(&self, moment: Moment) -> bool {
        moment.now_ms.wrapping_sub(self.since.load(Relaxed)) < moment.stay_ms
    }
}

impl Default for DefaultPartitioner {
    fn default() -> Self {
        DefaultPartitioner::new()
    }
}

impl Partitioner for DefaultPartitioner {
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        let chosen = self.choose(request.key, &request.partitions, request.moment);
        if request.key.is_none() {
            self.count_asked(chosen, request.value.map_or(0, <[u8]>::len));
        }
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

/// Gives every topic a [`DefaultPartitioner`] of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultPartitioners;

impl PartitionerFactory for DefaultPartitioners {
    fn for_topic(&self, _topic: &str) -> Arc<dyn Partitioner> {
        Arc::new(DefaultPartitioner::new())
    }
}

/// Moves `slot` to another available partition, each equally likely. `held` is what it held, and
/// whether the time for that is not over. Where nothing else is available it stays. Where nothing
/// is available at all, as before the leaders of a new topic are known, it sticks and moves among
/// all.
#[cold]
fn choose(
    slot: &Slot,
    partitions: Partitions<'_>,
    (held, stays): (i32, bool),
    moment: Option<Moment>,
) -> i32 {
    let count = partitions.count().max(1);
    let last = if held == NONE { NONE } else { held & !EXHAUSTED };
    let is_known = (0..count).contains(&last);
    let usable = |partition: i32| partition != last && partitions.is_available(partition);
    let chosen = (0..DRAWS_MAX)
        .map(|_| draw(slot, count))
        .find(|partition| usable(*partition))
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
    // The upper half scaled down: no division, and no bias that would matter.
    (((state >> 32) * range as u64) >> 32) as i32
}

fn make_slots(seed: u64) -> Box<[CachePadded<Slot>; SLOTS]> {
    Box::new(std::array::from_fn(|index| {
        // Neighbouring slots get seeds far apart; 0 is the one state that xorshift never leaves.
        let spread = (seed ^ index as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let state = (spread ^ (spread >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        CachePadded::new(Slot {
            partition: AtomicI32::new(NONE),
            bytes: AtomicU32::new(0),
            since: AtomicU32::new(0),
            untold: AtomicU32::new(0),
            random: AtomicU64::new((state ^ (state >> 32)).max(1)),
        })
    }))
}

/// A seed that differs from call to call and from process to process.
pub(crate) fn random_seed() -> u64 {
    // A fork's child goes on with the parent's random keys: its id tells the two apart.
    RandomState::new().hash_one((SLOTS, std::process::id()))
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
mod tests {
    use super::super::PartitionView;
    use super::*;

    const BATCH: usize = 1_000;

    struct Topic {
        count: i32,
        down: Vec<i32>,
    }

    impl PartitionView for Topic {
        fn count(&self) -> i32 {
            self.count
        }

        fn is_available(&self, partition: i32) -> bool {
            (0..self.count).contains(&partition) && !self.down.contains(&partition)
        }
    }

    fn topic(count: i32, down: &[i32]) -> Topic {
        Topic { count, down: down.to_vec() }
    }

    fn ask(partitioner: &DefaultPartitioner, topic: &Topic, key: Option<&[u8]>) -> i32 {
        partitioner.partition(&PartitionRequest::new("t", key, None, Partitions::new(topic)))
    }

    /// The partition of one unkeyed record that fills a batch.
    fn send_batch(partitioner: &DefaultPartitioner, topic: &Topic) -> i32 {
        let partition = ask(partitioner, topic, None);
        partitioner.on_appended(partition, BATCH, BATCH);
        partition
    }

    #[test]
    fn c35_keys_go_where_java_sends_them() {
        let partitioner = DefaultPartitioner::with_seed(1);
        // murmur2("21") is negative: masked, not negated, and over the leaderless ones as well.
        let expected = ((-973_932_308_i32) & 0x7fff_ffff) % 12;
        let all_down: Vec<i32> = (0..12).collect();
        assert_eq!(ask(&partitioner, &topic(12, &[]), Some(b"21")), expected);
        assert_eq!(ask(&partitioner, &topic(12, &all_down), Some(b"21")), expected);
        // An empty key is a key: it does not stick, and does not move when a batch is full.
        let empty = (murmur2(b"") & 0x7fff_ffff) as i32 % 12;
        for _ in 0..20 {
            assert_eq!(ask(&partitioner, &topic(12, &[]), Some(b"")), empty);
            partitioner.on_appended(empty, BATCH, BATCH);
        }
        assert!(partitioner.slots.get().is_none(), "keyed records took memory for stickiness");
    }

    #[test]
    fn sticks_until_a_batch_is_full_then_moves_on() {
        let partitioner = DefaultPartitioner::with_seed(2);
        let topic = topic(12, &[]);
        let mut last = NONE;
        for _ in 0..50 {
            let first = ask(&partitioner, &topic, None);
            assert_ne!(first, last, "a full batch was followed by the same partition");
            for record in 1..=10 {
                assert_eq!(ask(&partitioner, &topic, None), first, "record {record}");
                // What is appended elsewhere does not count here.
                partitioner.on_appended((first + 1) % 12, BATCH, BATCH);
                partitioner.on_appended(first, BATCH / 10, BATCH);
            }
            last = first;
        }
    }

    #[test]
    fn every_partition_gets_its_share() {
        let partitioner = DefaultPartitioner::with_seed(3);
        let topic = topic(12, &[]);
        let mut shares = [0_u32; 12];
        for _ in 0..12_000 {
            shares[send_batch(&partitioner, &topic) as usize] += 1;
        }
        // 1,000 expected; the standard deviation is about 30.
        assert!(shares.iter().all(|share| (850..1_150).contains(share)), "{shares:?}");
    }

    /// One record a time, `each` ms apart, told of or not: where they went.
    fn slowly(partitioner: &DefaultPartitioner, each: i64, count: i64, told: bool) -> Vec<i32> {
        let topic = topic(12, &[]);
        let ask = |n: i64| {
            let request = PartitionRequest::new("t", None, None, Partitions::new(&topic));
            let moment = Moment::new(1_700_000_000_000 + n * each, STAY_MS_MIN);
            let partition = partitioner.partition(&request.at(Some(moment)));
            if told {
                partitioner.on_appended(partition, 100, 256 * 1_024);
            }
            partition
        };
        (0..count).map(ask).collect()
    }

    #[test]
    fn few_records_spread_as_well() {
        for told in [false, true] {
            let partitioner = DefaultPartitioner::with_seed(8);
            // 100 a second: ten to a stay, and every partition within seconds.
            let partitions = slowly(&partitioner, 10, 500, told);
            for (index, pair) in partitions.windows(2).enumerate() {
                assert_eq!(pair[0] != pair[1], (index + 1) % 10 == 0, "{index}, told: {told}");
            }
            assert!((0..12).all(|partition| partitions.contains(&partition)), "{partitions:?}");
            // One in ten seconds: each elsewhere.
            let partitions = slowly(&partitioner, 10_000, 50, told);
            assert!(partitions.windows(2).all(|pair| pair[0] != pair[1]), "{partitions:?}");
            // And with time each partition gets its share.
            let mut shares = [0_u32; 12];
            for partition in slowly(&partitioner, 50, 24_000, told) {
                shares[partition as usize] += 1;
            }
            assert!(shares.iter().all(|share| (1_700..2_300).contains(share)), "{shares:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_ends_a_stay_and_no_more() {
        let partitioner = DefaultPartitioner::with_seed(9);
        let topic = topic(12, &[]);
        let at = |ms| partitioner.choose(None, &topic, Some(Moment::new(ms, STAY_MS_MIN)));
        let before = at(5_000_000);
        assert_eq!(at(5_000_099), before);
        let after = at(1_000_000);
        assert_ne!(after, before);
        assert_eq!(at(1_000_099), after);
    }

    #[test]
    fn a_wrapper_that_tells_of_no_append_spreads_its_records() {
        let inner = DefaultPartitioner::with_seed(10);
        let wrapper = |request: &PartitionRequest<'_>| match request.value {
            Some(b"special") => 0,
            _ => inner.partition(request),
        };
        let topic = topic(12, &[]);
        let value = [0; 100];
        let mut shares = [0_u32; 12];
        let mut last = NONE;
        let mut changes = 0;
        for _ in 0..60_000 {
            let partitions = Partitions::new(&topic);
            let request = PartitionRequest::new("t", None, Some(&value), partitions);
            let partition = Partitioner::partition(&wrapper, &request);
            changes += u32::from(partition != last);
            (last, shares[partition as usize]) = (partition, shares[partition as usize] + 1);
        }
        // 16 KiB at a time: batches are not torn to pieces either.
        assert!((400..600).contains(&changes), "{changes}");
        assert!(shares.iter().all(|share| (3_000..7_500).contains(share)), "{shares:?}");
        // One that tells of appends keeps to a batch's worth, however large its records are.
        let told = DefaultPartitioner::with_seed(11);
        let value = vec![0; 20_000];
        let ask = |_| {
            let request = PartitionRequest::new("t", None, Some(&value), Partitions::new(&topic));
            let partition = told.partition(&request);
            told.on_appended(partition, value.len(), 10 * value.len());
            partition
        };
        let partitions: Vec<i32> = (0..100).map(ask).collect();
        let changes = partitions.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(changes, 9, "{partitions:?}");
    }

    #[test]
    fn unavailable_partitions_are_left_and_skipped() {
        let partitioner = DefaultPartitioner::with_seed(4);
        let sticky = ask(&partitioner, &topic(12, &[]), None);
        let moved = ask(&partitioner, &topic(12, &[sticky]), None);
        assert_ne!(moved, sticky, "stayed with a partition that became unavailable");

        // One of many: found although random draws mostly miss it.
        let down: Vec<i32> = (0..1_000).filter(|partition| *partition != 777).collect();
        let lonely = topic(1_000, &down);
        for _ in 0..10 {
            assert_eq!(send_batch(&partitioner, &lonely), 777);
        }
        // The others share evenly, also where a scan has to find them.
        let down: Vec<i32> = (0..1_000).filter(|partition| partition % 250 != 0).collect();
        let few = topic(1_000, &down);
        let mut shares = [0_u32; 4];
        for _ in 0..4_000 {
            let partition = send_batch(&partitioner, &few);
            assert_eq!(partition % 250, 0);
            shares[partition as usize / 250] += 1;
        }
        assert!(shares.iter().all(|share| (850..1_150).contains(share)), "{shares:?}");
    }

    #[test]
    fn where_nothing_is_available_yet_batches_go_to_all() {
        let (partitioner, all_down) = (DefaultPartitioner::with_seed(3), topic(4, &[0, 1, 2, 3]));
        let mut batches = [0; 4];
        for _ in 0..1_000 {
            let partition = ask(&partitioner, &all_down, None);
            partitioner.on_appended(partition, BATCH / 2, BATCH);
            assert_eq!(ask(&partitioner, &all_down, None), partition, "its batch is not full");
            partitioner.on_appended(partition, BATCH / 2, BATCH);
            batches[partition as usize] += 1;
        }
        assert!(batches.iter().all(|&count| count > 150), "{batches:?}");
    }

    #[test]
    fn nothing_available_still_answers_within_range_and_sticks() {
        let partitioner = DefaultPartitioner::with_seed(5);
        let all_down = topic(3, &[0, 1, 2]);
        let first = ask(&partitioner, &all_down, None);
        assert!((0..3).contains(&first), "{first}");
        assert_eq!(ask(&partitioner, &all_down, None), first);
        assert_eq!(send_batch(&partitioner, &topic(1, &[])), 0);
        assert_eq!(send_batch(&partitioner, &topic(1, &[])), 0);
    }

    #[test]
    fn new_partitions_join() {
        let partitioner = DefaultPartitioner::with_seed(6);
        for _ in 0..10 {
            assert!((0..2).contains(&send_batch(&partitioner, &topic(2, &[]))));
        }
        let grown = topic(4, &[]);
        let seen: Vec<i32> = (0..100).map(|_| send_batch(&partitioner, &grown)).collect();
        assert!(seen.contains(&2) && seen.contains(&3), "{seen:?}");
    }

    #[test]
    fn threads_stick_on_their_own() {
        let partitioner = DefaultPartitioner::with_seed(7);
        let topic = topic(1_000, &[]);
        let mine = ask(&partitioner, &topic, None);
        let theirs: Vec<i32> = (0..8)
            .map(|_| {
                let other = std::thread::scope(|scope| {
                    let first = scope.spawn(|| {
                        let first = ask(&partitioner, &topic, None);
                        partitioner.on_appended(first, 10 * BATCH, BATCH);
                        first
                    });
                    first.join().expect("the thread does not panic")
                });
                assert_eq!(ask(&partitioner, &topic, None), mine, "moved by another thread");
                other
            })
            .collect();
        assert!(theirs.iter().any(|other| *other != mine), "{theirs:?} against {mine}");
    }
}
