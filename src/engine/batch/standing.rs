//! What is told of a batch that has not resolved.

use super::{Batch, LaneHead};
use crate::engine::sync::CellId;
use crate::problem::Problem;

/// How a batch stands.
#[derive(Clone, Debug)]
pub struct BatchStanding {
    /// Its position in its lane.
    pub number: u64,
    /// When its deliveries fail, nanoseconds, monotonic.
    pub deadline: u64,
    /// Attempts begun.
    pub attempts: u32,
    /// What went wrong last.
    pub last_problem: Option<Problem>,
    /// Whether it may be in the log.
    pub in_doubt: bool,
    /// Batches of the lane that wait before it; not those in flight.
    pub ahead: usize,
}

impl Batch {
    /// Names its cell, until it is resolved.
    pub fn cell_id(&self) -> Option<CellId> {
        self.cell.as_ref().map(super::BatchCell::cell_id)
    }

    /// How it stands.
    pub fn standing(&self) -> BatchStanding {
        BatchStanding {
            number: self.number,
            deadline: self.deadline,
            attempts: self.state.attempts,
            last_problem: self.state.last_problem.clone(),
            in_doubt: self.state.unanswered || self.state.unanswered_unnumbered,
            ahead: 0,
        }
    }
}

impl LaneHead {
    /// Batches that wait in the lane, the open one included.
    pub fn waiting_batches(&self) -> usize {
        let open = usize::from(self.tail.open_since().is_some());
        self.retries.len() + self.tail.sealed_batches() + open
    }

    /// What went wrong last with the batch that is sent again next.
    pub fn last_problem(&self) -> Option<&Problem> {
        self.retries.front()?.state.last_problem.as_ref()
    }

    /// The batch that waits in the lane and has this cell, or else the oldest one that waits; and
    /// whether it is open, so that records still join it. A cell that no batch has is taken for the
    /// open batch's, whose owner its senders have under their lock.
    pub fn standing_of_waiting(&self, cell: Option<CellId>) -> Option<(BatchStanding, bool)> {
        let is_it = |batch: &Batch| cell.is_none_or(|cell| batch.has_cell(cell));
        if let Some(ahead) = self.retries.iter().position(|batch| is_it(batch)) {
            return Some((BatchStanding { ahead, ..self.retries[ahead].standing() }, false));
        }
        let before = self.retries.len();
        if let Some((place, standing)) = self.tail.standing_of_sealed(is_it) {
            return Some((BatchStanding { ahead: before + place, ..standing }, false));
        }
        let open_since = self.tail.open_since()?;
        let standing = BatchStanding {
            number: self.tail.opened().saturating_sub(1),
            deadline: open_since.saturating_add(self.tail.settings.delivery_timeout),
            attempts: 0,
            last_problem: None,
            in_doubt: false,
            ahead: before + self.tail.sealed_batches(),
        };
        Some((standing, true))
    }
}
