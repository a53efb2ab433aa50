//! Lanes whose leader says that there is no such topic.
//!
//! It may be so for a moment only, while brokers tell each other of a new topic or a move. If it
//! lasts the topic was deleted, and is absent from the view in the end. Meanwhile what such a lane
//! holds must not count for its leader: other lanes of that broker would find no room.

use super::shard::{Action, LaneEntry, Shard};
use super::view::View;
use crate::engine::batch::{LaneId, ShardId};
use crate::engine::buffer::{AccountId, BufferPool};
use crate::engine::protocol::ErrorCode;

/// After so many such answers without a success in between, the shard sets the lane aside. A single
/// one may be from a broker that has not heard of a new topic, or of a move, yet.
const UNKNOWN_ANSWERS_MAX: u32 = 2;

/// Whether an answer says that there is no such topic.
pub(super) fn is_unknown(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID)
}

impl LaneEntry {
    /// Whether the lane is charged to the stash.
    pub(super) fn is_set_aside(&self) -> bool {
        self.unknown_answers >= UNKNOWN_ANSWERS_MAX
    }

    /// Charges the lane to its leader's account, and has it move to the leader's shard if that is
    /// not `own`.
    pub(super) fn charge_to_leader(&mut self, pool: &BufferPool, view: &View, own: ShardId) {
        let leader = self.head.leader;
        match leader.and_then(|leader| view.placements.get(&leader.broker)) {
            Some(placement) => {
                // A lane that is set aside is charged to the stash until its leader takes a batch.
                if !self.is_set_aside() {
                    self.head.tail.set_leader_account(pool, placement.account, true);
                }
                self.head.moving_to = Some(placement.shard).filter(|&shard| shard != own);
            }
            None => {
                let account = self.head.tail.account();
                // The account of a broker that is gone is about to be another's.
                let stays = view.placements.values().any(|it| it.account == account);
                let account = if stays { account } else { AccountId::LEADERLESS };
                self.head.tail.set_leader_account(pool, account, false);
            }
        }
    }
}

impl Shard {
    /// The lane's leader says that there is no such topic.
    pub(super) fn note_unknown(&mut self, id: LaneId) {
        let Some(entry) = self.lane_mut(id) else { return };
        entry.unknown_answers = entry.unknown_answers.saturating_add(1);
        let topic = entry.head.tail.topic.clone();
        self.actions.push_back(Action::WantTopic(topic));
    }

    /// Sets the lane aside if its leader has denied the topic often enough: charges what the lane
    /// holds to the stash's account. Once that holds its part of the pool (a quarter, as a rule),
    /// senders to the lane find no room, while those to the leader's other lanes do.
    pub(super) fn set_aside(&mut self, id: LaneId) {
        let pool = self.pool.clone();
        let Some(entry) = self.lane_mut(id) else { return };
        if !entry.is_set_aside() || entry.head.leader.is_none() {
            return;
        }
        let head = &mut entry.head;
        head.tail.set_leader_account(&pool, AccountId::STASH, false);
        // A sender that holds the lane seals it, and posts; the next refusal finds that batch.
        head.tail.try_seal();
        head.charge_to(AccountId::STASH);
    }

    /// The leader took a batch: the topic exists.
    pub(super) fn take_back(&mut self, id: LaneId) {
        let (view, pool) = (self.view.clone(), self.pool.clone());
        let Some(entry) = self.lane_mut(id) else { return };
        if entry.unknown_answers == 0 {
            return;
        }
        entry.unknown_answers = 0;
        let leader = entry.head.leader;
        if let Some(placement) = leader.and_then(|leader| view.placements.get(&leader.broker)) {
            entry.head.tail.set_leader_account(&pool, placement.account, true);
            entry.head.charge_to(placement.account);
        }
    }
}
