//! The way of records to disk, and what becomes of those that find no room there either.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::admission::{Admission, Admitted, LeftOut, Place, Waits};
use super::producer::Shared;
use super::unsent::HandBack;
use crate::config::SpillFull;
use crate::engine::batch::{NeedRoom, is_placing};
use crate::engine::buffer::{AccountId, Segment};
use crate::engine::cluster::Want;
use crate::engine::policy::Pressure;
use crate::engine::sync::wait_until;
use crate::error::SendErrorKind;
use crate::io::{RecoveredTopic, Spilled, ThreadDeadline, is_own_thread};
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};
use crate::user_code;

/// How often a thread looks whether the disk takes records again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Where a record waits that found no room on disk: the place, its account, the room that it needs
/// there, and what it has of it.
type WaitsFor<'a> = (Place<'a>, AccountId, Option<NeedRoom>, &'a mut Vec<Segment>);

impl Admission<'_> {
    /// Writes what is sent to the spill folder. `Err` inside: why it takes nothing, and if that is
    /// its quota, how many bytes it would have to take.
    pub(super) fn try_spill(
        &self,
        place: Place<'_>,
    ) -> Result<Result<LeftOut, (Problem, Option<u64>)>, SendErrorKind> {
        let Some(spill) = &self.shared.spill else {
            let text = "the backoff strategy spills, and the producer has no folder to spill to: \
                        set one (ProducerConfig::spill, tidegate.spill.directory)";
            return Ok(Err((Problem::new(ProblemKind::Limit, text), None)));
        };
        let cells = &self.shared.accumulator.cells;
        match spill.append(self.lanes, cells, place.partition(), self.records.all()) {
            Spilled::Taken { handles, asks } => {
                if asks {
                    self.shared.metadata.want(self.lanes.name.clone(), Want::Record);
                }
                Ok(Ok(LeftOut::Spilled(handles)))
            }
            Spilled::Refused(problem, needs) => Ok(Err((problem, needs))),
            Spilled::Closed => Err(SendErrorKind::Closed),
        }
    }

    /// The folder takes nothing, and the record may go to memory once there is room.
    pub(super) async fn handle_full_spill(
        &mut self,
        problem: Problem,
        pressure: &Pressure<'_>,
        (place, account, need, spare): WaitsFor<'_>,
    ) -> Result<Admitted, SendErrorKind> {
        let Some(spill) = &self.shared.spill else {
            return Err(SendErrorKind::SpillFull(problem));
        };
        match spill.full() {
            SpillFull::Drop => {
                self.count_dropped((place, account), pressure.scope);
                Ok(Admitted::LeftOut(LeftOut::Dropped))
            }
            SpillFull::Park(at_most) if self.how.waits == Waits::Task => {
                if at_most.is_zero() || is_placing() {
                    return Err(SendErrorKind::SpillFull(problem));
                }
                self.wait((place, account), need, spare).await?;
                Ok(Admitted::Again)
            }
            SpillFull::Park(at_most) if !is_own_thread() => {
                let left = at_most.saturating_sub(pressure.elapsed);
                let parked = self.park((place, account), need, spare, (left, pressure.scope));
                match parked {
                    Err(SendErrorKind::ParkTimedOut { .. }) => {
                        Err(SendErrorKind::SpillFull(problem))
                    }
                    parked => parked.map(|()| Admitted::Again),
                }
            }
            _ => Err(SendErrorKind::SpillFull(problem)),
        }
    }

    /// Writes what is sent behind the records of its topic that lie on disk, and waits for room
    /// there if that is what the settings say. `None`: the wait is over, and nothing was written.
    pub(super) async fn spill_behind(
        &mut self,
        place: Place<'_>,
    ) -> Result<Option<LeftOut>, SendErrorKind> {
        let (problem, needs) = match self.try_spill(place)? {
            Ok(left_out) => return Ok(Some(left_out)),
            Err(refused) => refused,
        };
        let Some(spill) = self.shared.spill.clone() else {
            return Err(SendErrorKind::SpillFull(problem));
        };
        let pressure = self.next_pressure(place, place.account());
        let left = match spill.full() {
            SpillFull::Drop if self.how.waits != Waits::AtOnce => {
                self.count_dropped((place, place.account()), pressure.scope);
                return Ok(Some(LeftOut::Dropped));
            }
            SpillFull::Park(at_most) => at_most.saturating_sub(pressure.elapsed),
            _ => Duration::ZERO,
        };
        let may_wait = match self.how.waits {
            Waits::AtOnce => false,
            Waits::Task => !is_placing(),
            Waits::Thread => !is_own_thread(),
        };
        if left.is_zero() || !may_wait {
            return Err(SendErrorKind::SpillFull(problem));
        }
        let Some(bytes) = needs else {
            // Nobody tells when a disk takes something again: a thread looks, a task cannot.
            if self.how.waits == Waits::Task {
                return Err(SendErrorKind::SpillFull(problem));
            }
            let deadline = ThreadDeadline::after(Some(left.min(LOOK_AGAIN)));
            let never = |_: &mut Context<'_>| Poll::<()>::Pending;
            wait_until(never, |parker| deadline.park(parker));
            return Ok(None);
        };
        let mut is_registered = false;
        let mut room = |context: &mut Context<'_>| {
            // The waker is taken out of the list when it is called: the second look is the last.
            if std::mem::replace(&mut is_registered, true) {
                return Poll::Ready(());
            }
            spill.room.register(context.waker());
            let has_ended = self.shared.accumulator.is_closed();
            if has_ended || spill.has_room(bytes) { Poll::Ready(()) } else { Poll::Pending }
        };
        if self.how.waits == Waits::Task {
            poll_fn(room).await;
            return Ok(None);
        }
        let deadline = ThreadDeadline::after(Some(left));
        let waited = wait_until(&mut room, |parker| deadline.park(parker));
        waited.map(|()| None).ok_or(SendErrorKind::SpillFull(problem))
    }
}

impl Shared {
    /// Puts what an earlier process has left on disk into the topics that it is of.
    pub(super) fn restore(self: &Arc<Self>, recovered: Vec<RecoveredTopic>) {
        let Some(spill) = &self.spill else { return };
        for topic in recovered {
            let name = topic.topic.clone();
            match self.open(&name) {
                Ok(handle) => {
                    spill.restore(&handle.lanes, &self.accumulator.cells, topic);
                    self.metadata.want(handle.lanes.name.clone(), Want::Record);
                }
                Err(kind) => log::error!(
                    "spill: records of topic {name} stay on disk, as it cannot be opened: {kind}"
                ),
            }
        }
    }

    /// Who gets what a close leaves: the spill folder, if there is one, and `hand_back` only what
    /// that cannot take.
    pub(super) fn keeping(self: &Arc<Self>, hand_back: Option<HandBack>) -> Option<HandBack> {
        let Some(spill) = self.spill.clone() else { return hand_back };
        let mut hand_back = hand_back;
        let mut lost = 0_u64;
        Some(Box::new(move |record| {
            let topic: Arc<str> = record.error().topic().into();
            if spill.keep(&topic, record) {
                return;
            }
            match &mut hand_back {
                Some(hand_back) => drop(user_code::call(|| hand_back(record))),
                None => {
                    lost += 1;
                    if lost.is_power_of_two() {
                        log::error!(
                            "spill: {lost} records that were left at a close could not be kept"
                        );
                    }
                }
            }
        }))
    }
}
