//! Produce requests out of ready lanes.
//!
//! A request holds at most one batch of a lane. Full batches use the connection's whole window. A
//! part-filled batch goes when fewer than [`PART_FILLED_IN_FLIGHT`] requests are in flight, none
//! waits for the socket, and the last one left long enough ago for a loop that is as busy as this
//! one ([`LoopLoad`](super::load::LoopLoad)), or `part_filled_floor` ago: a lone record leaves at
//! once, and a busy lane fills its batches by itself. The broker answers a connection's
//! requests one after the other, so a third small request would not be answered earlier.

use std::collections::VecDeque;

use super::broker::{Broker, Queued};
use super::shard::Shard;
use crate::engine::batch::{Batch, LaneId, LaneTail};
use crate::engine::connection::{InFlightBatch, Request, RequestKind};
use crate::engine::protocol::compression::{Codec, Compression, use_lz4_header_of_magic_0};
use crate::engine::protocol::records::{BATCH_HEADER_LEN, RecordFormat};
use crate::engine::protocol::{
    PRODUCE_AROUND_BATCH_MAX, PRODUCE_HEAD_MAX, ProduceEncoder, VERSION_TOPIC_IDS_MIN,
};
use crate::problem::{Problem, ProblemKind};

/// Requests in flight from which on part-filled batches wait for more records.
const PART_FILLED_IN_FLIGHT: usize = 2;

/// Requests that may wait for the socket. While it takes no more bytes, a further request would
/// leave no earlier for being made now; made later, its batches have more records.
const UNWRITTEN_MAX: usize = 2;

/// Requests of the window that suspect lanes leave to the healthy ones, at the least.
const HEALTHY_WINDOW_MIN: usize = 2;

/// After so many requests that passed them over, suspect lanes get one, and so do part-filled
/// batches: otherwise they would wait for ever while full batches use the whole window.
const PASSED_OVER_MAX: u32 = 8;

/// Passes over the queues that send nothing, in a row, before the pump gives up. Each pass takes
/// entries out of one queue that are not valid any more, and there are three queues; a fourth such
/// pass means that a queue is refilled as fast as it is emptied.
const PASSES_IN_VAIN_MAX: u32 = 4;

/// Which queue of a broker a request is filled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Full,
    Suspect,
}

impl Shard {
    /// Sends as many requests as the window of a broker's connection has room for.
    pub(super) fn pump(&mut self, now: u64, index: usize) {
        if self.brokers[index].is_left {
            return self.close_if_left(now, index);
        }
        // `part_filled_may_go` sets it again if only the floor holds part-filled batches back.
        if !planted!(PastFloorIsDeadline) {
            self.brokers[index].part_filled_at = None;
        }
        let broker = &mut self.brokers[index];
        if broker.is_wanted()
            && let Some(connection) = broker.connection_mut()
        {
            connection.renew_login(now);
        }
        let mut in_vain = 0;
        while in_vain < PASSES_IN_VAIN_MAX {
            let broker = &self.brokers[index];
            let Some(connection) = broker.connection() else { return };
            // The broker has moved. Attempts at its old address settle first: were more sent there,
            // the connection to the new address would never get its turn.
            if broker.next_address.is_some() {
                return;
            }
            if !connection.may_send(now) {
                return;
            }
            if connection.was_assumed_wrongly(now) {
                if connection.in_flight() == 0 {
                    let text = "it was taken for an old broker, and has said since what it speaks";
                    self.close(now, index, &Problem::new(ProblemKind::Closed, text));
                }
                return;
            }
            let in_flight = connection.in_flight();
            let unwritten = connection.unwritten();
            let limit = broker.request_limit.in_flight_max(self.config.in_flight_max);
            if in_flight >= limit.min(connection.window()) || unwritten >= UNWRITTEN_MAX {
                return;
            }
            let part_filled = self.part_filled_may_go(now, index);
            let broker = &mut self.brokers[index];
            let healthy = !broker.full.is_empty() || part_filled && !broker.part_filled.is_empty();
            let suspects_may_go =
                in_flight + HEALTHY_WINDOW_MIN < self.config.in_flight_max || in_flight == 0;
            let suspects_turn = broker.suspects_passed_over >= PASSED_OVER_MAX;
            let queue = if broker.suspect.is_empty() || healthy && !suspects_turn {
                Queue::Full
            } else {
                Queue::Suspect
            };
            match queue {
                Queue::Full if !healthy => return,
                Queue::Full => broker.suspects_passed_over += u32::from(!broker.suspect.is_empty()),
                Queue::Suspect if !suspects_may_go && !suspects_turn => return,
                Queue::Suspect => {}
            }
            // The queues may name lanes that have moved, or whose sealed batch has expired. A pass
            // that met only such lanes has taken them out, so the next finds those behind them.
            let is_turn = queue == Queue::Suspect && suspects_turn;
            let sent = self.send_request(now, index, (queue, is_turn), part_filled);
            if sent && queue == Queue::Suspect {
                self.brokers[index].suspects_passed_over = 0;
            }
            in_vain = if sent { 0 } else { in_vain + 1 };
            if self.close_unfit(now, index) {
                return;
            }
        }
    }

    /// Whether part-filled batches may go now. If only the floor holds them back, sets
    /// `part_filled_at` to the time at which they may.
    fn part_filled_may_go(&mut self, now: u64, index: usize) -> bool {
        let floor = self.config.part_filled_floor.unwrap_or_else(|| self.load.floor());
        let broker = &mut self.brokers[index];
        if broker.part_filled.is_empty() {
            return false;
        }
        let turn = broker.part_filled_passed_over >= PASSED_OVER_MAX;
        if turn || self.pool.under_pressure(broker.account) {
            return true;
        }
        let Some(connection) = broker.connection() else { return false };
        if connection.unwritten() > 0 || connection.in_flight() >= PART_FILLED_IN_FLIGHT {
            return false;
        }
        let may_go_at = connection.last_sent().saturating_add(floor);
        if now < may_go_at {
            broker.part_filled_at = Some(may_go_at);
            return false;
        }
        true
    }

    /// Makes one request of the ready lanes and sends it. Returns false if there was nothing.
    fn send_request(
        &mut self,
        now: u64,
        index: usize,
        (queue, is_turn): (Queue, bool),
        part_filled: bool,
    ) -> bool {
        let Some(version) = self.produce_version(now, index) else { return false };
        let Some(connection) = self.brokers[index].connection_mut() else { return false };
        let mut request = connection.new_request();
        let turned_away = self.turned_away;
        self.requests += 1;
        let mut bytes = PRODUCE_HEAD_MAX + connection.client_id().len();
        let part_filled = part_filled && queue == Queue::Full;
        let part_filled_first =
            part_filled && self.brokers[index].part_filled_passed_over >= PASSED_OVER_MAX;
        self.brokers[index].acks_turns.begin_request(is_turn || part_filled_first);
        let mut part_filled_taken = 0;
        if part_filled_first {
            self.take_part_filled(now, index, &mut request, &mut bytes);
            part_filled_taken = request.batches.len();
        }
        self.take_full(now, index, queue, &mut request, &mut bytes);
        if part_filled && !part_filled_first && !self.is_full(&request, bytes) {
            let before = request.batches.len();
            self.take_part_filled(now, index, &mut request, &mut bytes);
            part_filled_taken = request.batches.len() - before;
        }
        let broker = &mut self.brokers[index];
        let passed_over = !broker.part_filled.is_empty() && part_filled_taken == 0;
        broker.part_filled_passed_over =
            if passed_over { broker.part_filled_passed_over + 1 } else { 0 };
        if request.batches.is_empty() {
            if let Some(connection) = self.brokers[index].connection_mut() {
                connection.recycle(request);
            }
            return self.turned_away != turned_away;
        }
        // From version 13 on requests carry topic ids; a topic whose id is unknown needs an older
        // version, which names it.
        let named = request.batches.iter().any(|entry| entry.topic_id.is_zero());
        let version_max = if named { VERSION_TOPIC_IDS_MIN - 1 } else { version };
        self.encode(index, version.min(version_max), &mut request);
        self.brokers[index].acks_turns.served(request.kind.acks());
        self.count_request(now, index, &request);
        if let Some(connection) = self.brokers[index].connection_mut() {
            connection.send(now, request);
        }
        self.count_in_flight(index);
        true
    }

    /// Moves one batch of each lane that is ready with a sealed one, in rotation.
    fn take_full(
        &mut self,
        now: u64,
        index: usize,
        queue: Queue,
        request: &mut Request,
        bytes: &mut usize,
    ) {
        let waiting = queue_of(&mut self.brokers[index], queue).len();
        let serial = self.requests;
        for _ in 0..waiting {
            if self.is_full(request, *bytes) {
                return;
            }
            let Some(&queued) = queue_of(&mut self.brokers[index], queue).front() else { return };
            let id = queued.lane;
            if self.visiting(queued).is_some() && !self.fits(id, index, request, *bytes) {
                return;
            }
            queue_of(&mut self.brokers[index], queue).pop_front();
            let Some(acks) = self.acks_of(queued) else { continue };
            if !self.brokers[index].acks_turns.may_join(request, acks) {
                queue_of(&mut self.brokers[index], queue).push_back(queued);
                continue;
            }
            let Some(entry) = self.visiting(queued) else { continue };
            if entry.in_request == serial {
                // The request has a batch of this lane. The lane goes to the end of the queue, so
                // that those behind it are not held up.
                queue_of(&mut self.brokers[index], queue).push_back(queued);
                continue;
            }
            entry.in_full = false;
            self.take_batch(now, id, index, request, bytes);
        }
    }

    fn take_part_filled(
        &mut self,
        now: u64,
        index: usize,
        request: &mut Request,
        bytes: &mut usize,
    ) {
        let serial = self.requests;
        for _ in 0..self.brokers[index].part_filled.len() {
            if self.is_full(request, *bytes) {
                return;
            }
            let Some(queued) = self.brokers[index].part_filled.pop_front() else { return };
            let id = queued.lane;
            let Some(acks) = self.acks_of(queued) else { continue };
            if !self.brokers[index].acks_turns.may_join(request, acks) {
                self.brokers[index].part_filled.push_back(queued);
                continue;
            }
            let Some(entry) = self.visiting(queued) else { continue };
            entry.in_part_filled = false;
            // The lane's sealed batch goes first, or has just gone with this request; its
            // part-filled batch waits for a request of its own.
            if entry.in_full || entry.in_request == serial {
                if !entry.in_full {
                    entry.in_part_filled = true;
                    self.brokers[index].part_filled.push_back(queued);
                }
                continue;
            }
            // If a sender holds the lane's lock it seals the batch when it unlocks, and posts.
            if entry.head.has_sealed() || entry.head.tail.try_seal() {
                if !self.fits(id, index, request, *bytes) {
                    // An open batch's length is known only once it is sealed. This one is too long
                    // for the request, and goes with the next.
                    self.examine(now, id);
                    return;
                }
                self.take_batch(now, id, index, request, bytes);
            }
        }
    }

    /// The acknowledgements that the records of a queued lane ask for; `None` if it has left.
    fn acks_of(&mut self, queued: Queued) -> Option<i16> {
        self.visiting(queued).map(|entry| entry.head.tail.settings.acks)
    }

    /// Whether a request takes no further batch. An empty request always takes one, even where its
    /// head alone is over `request_bytes`.
    fn is_full(&self, request: &Request, bytes: usize) -> bool {
        !request.batches.is_empty() && bytes >= self.config.request_bytes
    }

    /// Whether the lane's next batch may go with what is in the request already. A batch that is
    /// too long for any request goes alone.
    fn fits(&self, id: LaneId, index: usize, request: &Request, bytes: usize) -> bool {
        let Some(Some(entry)) = self.lanes.get(id.0 as usize) else { return true };
        let mut next = entry.head.next_len().unwrap_or(0);
        if self.brokers[index].format().is_message_set() {
            // How long its set is shows once it is drained.
            next += entry.head.next_growth();
        }
        let next = next + bytes_around(&entry.head.tail);
        let limit = self.brokers[index].request_limit.bytes(self.config.request_bytes_max);
        request.batches.is_empty() || bytes + next <= limit
    }

    /// Drains one batch of a lane into the request and queues the lane again if it has more.
    fn take_batch(
        &mut self,
        now: u64,
        id: LaneId,
        index: usize,
        request: &mut Request,
        bytes: &mut usize,
    ) {
        let rules = self.drain_rules(now, id, Some(index));
        let (broker, serial) = (self.brokers[index].id, self.requests);
        let cluster = self.brokers[index].cluster;
        let Some(entry) = self.lane_mut(id) else { return };
        let leads = entry.head.leader.is_some_and(|leader| leader.broker == broker)
            && entry.head.cluster() == cluster;
        if leads && self.fail_unfit(id, index) {
            return self.examine(now, id);
        }
        let Some(entry) = self.lane_mut(id) else { return };
        let drainable = entry.head.drainable(now, rules) == crate::engine::batch::Drainable::Now;
        if leads
            && drainable
            && let Some(mut batch) = entry.head.drain(rules)
        {
            batch.state.broker = Some(broker);
            entry.in_request = serial;
            let topic_id = entry.head.topic_id();
            let around = bytes_around(&entry.head.tail);
            let acks = entry.head.tail.settings.acks;
            let numbers = rules.idempotent;
            let Some((batch, wire_len)) = self.finish(now, index, id, batch, numbers) else {
                return;
            };
            *bytes += wire_len + around;
            request.kind = RequestKind::Produce { acks };
            request.batches.push(InFlightBatch { lane: id, topic_id, batch, wire_len });
        }
        self.examine(now, id);
    }

    /// Makes a drained batch ready for its broker. Returns it with its length in the request, or
    /// `None` if it cannot go as it is: its attempt has ended then.
    fn finish(
        &mut self,
        now: u64,
        index: usize,
        id: LaneId,
        mut batch: Box<Batch>,
        is_numbered: bool,
    ) -> Option<(Box<Batch>, usize)> {
        let format = self.brokers[index].format();
        if !batch.is_packed_for(format) || !self.brokers[index].takes(batch.codec()) {
            batch = self.unpack_for_another(now, id, batch)?;
        }
        if format.is_message_set() {
            let (mut batch, wire_len) = self.fit_into_message_set(now, index, id, batch)?;
            self.void_numbers(id, &mut batch);
            return Some((batch, wire_len));
        }
        self.compress(index, id, &mut batch, None);
        if !is_numbered {
            self.void_numbers(id, &mut batch);
        }
        batch.write_header();
        let wire_len = batch.len();
        Some((batch, wire_len))
    }

    /// A batch goes without numbers, and those that its lane has given are void.
    fn void_numbers(&mut self, id: LaneId, batch: &mut Batch) {
        if let Some(entry) = self.lane_mut(id) {
            entry.head.void_numbers(batch);
        }
    }

    /// Compresses a batch, unless it was tried before. That never waits for room: the output goes
    /// through the loop's scratch and back over its source, if it is smaller. `set_len` is what the
    /// batch comes to as a message set, for a broker that takes those.
    pub(super) fn compress(
        &mut self,
        index: usize,
        id: LaneId,
        batch: &mut Batch,
        set_len: Option<usize>,
    ) {
        let broker = &self.brokers[index];
        let lane = self.lanes.get(id.0 as usize).and_then(Option::as_ref);
        let compression = lane.and_then(|lane| broker.compression(&lane.head.tail.settings));
        let (format, compression) = (broker.format(), &compression.unwrap_or_default());
        let Some(slot) = &self.scratch else { return };
        if *compression == Compression::None || batch.is_finished() {
            return;
        }
        let (compressor, codec) = (&mut self.compressor, compression.codec());
        let records_len = batch.len() - BATCH_HEADER_LEN;
        // The scratch may be lent to a batch that was unpacked. Batches then go uncompressed:
        // waiting for the scratch could hold up every lane of the loop.
        let tried = slot.with(|scratch| {
            let room = records_len.min(scratch.len());
            let scratch = &mut scratch[..room];
            let made = match set_len {
                Some(set_len) => {
                    let chunks = batch.message_set_chunks(format);
                    compressor.compress(compression, chunks, set_len, scratch)
                }
                None => {
                    let records = batch.record_slices();
                    compressor.compress(compression, records, records_len, scratch)
                }
            };
            match made.filter(|&len| len < records_len) {
                Some(len) => {
                    if format == RecordFormat::MessagesV0 && codec == Codec::Lz4 {
                        use_lz4_header_of_magic_0(&mut scratch[..len]);
                    }
                    batch.replace_records(codec, format, &scratch[..len]);
                    broker.meter.plain_bytes.add(records_len as u64);
                    broker.meter.packed_bytes.add(len as u64);
                }
                None => batch.stays_plain(format),
            }
        });
        batch.state.uncompressed = tried.is_none();
    }

    fn encode(&mut self, index: usize, version: i16, request: &mut Request) {
        let lanes = &self.lanes;
        let topic_of = |id: LaneId| {
            let entry = lanes[id.0 as usize].as_ref();
            let lane = &entry.expect("a lane with a batch in flight stays").head.tail;
            (&lane.topic, lane.partition)
        };
        // Batches of one topic must stand together.
        request.batches.sort_unstable_by(|a, b| {
            let ((left, left_partition), (right, right_partition)) =
                (topic_of(a.lane), topic_of(b.lane));
            let left = (left.as_ptr(), a.topic_id, left_partition);
            left.cmp(&(right.as_ptr(), b.topic_id, right_partition))
        });
        let same_topic = |a: &InFlightBatch, b: &InFlightBatch| {
            a.topic_id == b.topic_id
                && std::ptr::eq(topic_of(a.lane).0.as_ptr(), topic_of(b.lane).0.as_ptr())
        };
        let config = &self.config;
        let Some(connection) = self.brokers[index].connection_mut() else { return };
        let acks = request.kind.acks();
        request.version = version;
        request.correlation = connection.next_correlation();
        let mut encoder = ProduceEncoder::begin(
            &mut request.framing,
            version,
            request.correlation,
            connection.client_id(),
            None,
            acks,
            config.request_timeout_ms,
            request.batches.chunk_by(same_topic).count(),
        );
        for topic in request.batches.chunk_by(same_topic) {
            encoder.topic(topic_of(topic[0].lane).0, topic[0].topic_id, topic.len());
            for entry in topic {
                let partition = topic_of(entry.lane).1;
                request.splices.push(encoder.partition(partition, entry.wire_len));
                encoder.end_partition();
            }
            encoder.end_topic();
        }
        request.wire_len = encoder.finish();
    }
}

/// What a request holds around a batch of the lane, in bytes at the most.
pub(super) fn bytes_around(lane: &LaneTail) -> usize {
    PRODUCE_AROUND_BATCH_MAX + lane.topic.len()
}

fn queue_of(broker: &mut Broker, queue: Queue) -> &mut VecDeque<Queued> {
    match queue {
        Queue::Full => &mut broker.full,
        Queue::Suspect => &mut broker.suspect,
    }
}
