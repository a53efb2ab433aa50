//! Moving stashed records that were sent together: into one batch, all at once.

use super::TopicLanes;
use super::drain::{Draining, Moved, Mover, Question, Waiting};
use super::open::{NeedRoom, Refusal, together_size};
use super::stash::StashedRecord;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::RecordParts;
use crate::error::DeliveryError;

impl Mover<'_> {
    /// Moves a run of records that were sent together. `None`: it is moved or has failed, and the
    /// caller goes on with what is behind it.
    pub(super) fn move_together(
        &mut self,
        draining: &mut Draining,
        left: &mut usize,
    ) -> Option<Moved> {
        draining.run.begin_again();
        let mut named = None;
        let mut records = Vec::with_capacity(draining.run.records() as usize);
        while let Some(record) = draining.run.next_record() {
            named = named.or(record.partition);
            records.push(Waiting::copy(PartitionId(0), &record));
        }
        if draining.run.window.damage().is_some() {
            return Some(Moved::Damaged);
        }
        let headers: Vec<_> = records.iter().map(Waiting::headers).collect();
        let whole = records.iter().zip(&headers);
        let parts: Vec<_> =
            whole.map(|(record, headers)| (record.timestamp, record.parts(headers))).collect();
        let first = &parts[0].1;
        let partition = match draining.together_at {
            Some(partition) => partition,
            None if named.is_none() && self.topic.partitioner.is_own() => {
                draining.run.begin_again();
                draining.is_asking = true;
                return Some(Moved::Ask(Question::Place(records.swap_remove(0))));
            }
            None => match self.partition_of(named, first) {
                Ok(partition) => partition,
                Err(error) => {
                    draining.fail_together(self.topic, error);
                    return None;
                }
            },
        };
        draining.together_at = Some(partition);
        let bytes = parts.iter().map(|(_, parts)| parts.payload_len()).sum();
        let total = together_size(&parts).expect("send_all() checked it before it was stashed");
        let lane = self.topic.lane(partition).expect("partition_of() found it");
        if !self.takes_spilled(lane) {
            draining.run.begin_again();
            return Some(Moved::NoRoom(lane.account(), NeedRoom::LEVEL));
        }
        loop {
            let (result, post) = lane.append_together(&self.context, (&parts, total), self.spare);
            if post {
                (self.post)(lane);
            }
            match result {
                Ok(handles) => {
                    handles.into_iter().for_each(|it| draining.table.forward_handle(it));
                    draining.untold = Some((partition, bytes));
                    draining.note_moved(self.topic, partition);
                    *left = left.saturating_sub(total);
                    return None;
                }
                Err(Refusal::NeedRoom(need)) => {
                    let account = lane.account();
                    if !self.take_room_for(account, need) {
                        draining.run.begin_again();
                        return Some(Moved::NoRoom(account, need));
                    }
                }
                Err(Refusal::Closed) => {
                    draining.fail_together(self.topic, self.ended(lane).1);
                    return None;
                }
            }
        }
    }
}

impl Draining {
    /// All of its records fail, which were sent together.
    pub(super) fn fail_together(&mut self, topic: &TopicLanes, error: DeliveryError) {
        let records = self.run.records();
        topic.failed_in_stash.add_shared(u64::from(records));
        self.run.begin_again();
        // Past them all.
        while let Some(record) = self.run.next_record() {
            let StashedRecord { partition, timestamp, key, value, headers } = record;
            let parts = RecordParts { key, value, headers: &headers };
            topic.give_record_back(partition, timestamp, &parts, &error);
        }
        self.table.fail(records, error);
    }
}
