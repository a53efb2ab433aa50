//! Which broker has which shard and which account, while it is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::port::PortTable;
use super::publisher::ShardHost;
use super::view::Placement;
use crate::engine::batch::{RecordAccumulator, ShardId};
use crate::engine::buffer::{AccountId, AccountKind};
use crate::engine::cluster::ClusterSnapshot;
use crate::engine::protocol::BrokerId;
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};

/// A broker that metadata does not list keeps its place for this long, in nanoseconds: one that is
/// restarted comes back to its connection, its level and its shard.
const ABSENT_MAX: u64 = 30_000_000_000;

/// Accounts of brokers that are gone are looked at this often, in nanoseconds.
const TIDY_INTERVAL: u64 = 1_000_000_000;

/// The account of a broker that is gone.
struct Leaving {
    account: AccountId,
    /// The first view without the broker.
    generation: u64,
}

/// Gives every broker of the cluster a shard and an account, and takes both back.
pub(super) struct Placements {
    accumulator: Arc<RecordAccumulator>,
    ports: Arc<PortTable>,
    shards_max: usize,
    brokers_max: usize,
    placed: Arc<BTreeMap<BrokerId, Placement>>,
    /// Brokers that metadata does not list, and since when.
    absent: BTreeMap<BrokerId, u64>,
    /// Accounts that lanes may still name.
    leaving: Vec<Leaving>,
    /// Brokers that there was no room for, with the reason.
    left_out: Arc<BTreeMap<BrokerId, Problem>>,
    next_look: u64,
}

impl Placements {
    /// Without brokers, which are spread over `shards_max` shards, and are `brokers_max` at most.
    pub(super) fn new(
        accumulator: Arc<RecordAccumulator>,
        ports: Arc<PortTable>,
        shards_max: usize,
        brokers_max: usize,
    ) -> Self {
        Placements {
            accumulator,
            ports,
            shards_max,
            brokers_max,
            placed: Arc::default(),
            absent: BTreeMap::new(),
            leaving: Vec::new(),
            left_out: Arc::default(),
            next_look: u64::MAX,
        }
    }

    /// Every broker that has a place.
    pub(super) fn placed(&self) -> &Arc<BTreeMap<BrokerId, Placement>> {
        &self.placed
    }

    /// The brokers that there was no room for, and why.
    pub(super) fn left_out(&self) -> &Arc<BTreeMap<BrokerId, Problem>> {
        &self.left_out
    }

    /// When [`Placements::is_due`] may become true by itself.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        (self.next_look != u64::MAX).then_some(self.next_look)
    }

    /// Whether [`Placements::update`] has something to do although metadata has not changed.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.next_look <= now
    }

    /// Follows the brokers of `snapshot`. `generation` is that of the view which will show the
    /// result.
    pub(super) fn update(
        &mut self,
        now: u64,
        snapshot: &ClusterSnapshot,
        generation: u64,
        host: &mut dyn ShardHost,
    ) {
        self.close_accounts();
        self.absent.retain(|id, _| !snapshot.brokers.contains_key(id));
        for &id in self.placed.keys().filter(|id| !snapshot.brokers.contains_key(id)) {
            self.absent.entry(id).or_insert(now);
        }
        let over = |since: u64| since.saturating_add(ABSENT_MAX) <= now;
        let over: Vec<_> =
            self.absent.iter().filter(|(_, since)| over(**since)).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.forget(id, generation));
        let mut left_out = BTreeMap::new();
        for (&id, address) in &snapshot.brokers {
            match self.placed.get(&id) {
                Some(placement) if placement.address == *address => {}
                Some(_) => {
                    if let Some(placement) = Arc::make_mut(&mut self.placed).get_mut(&id) {
                        placement.address = address.clone();
                    }
                }
                None => match self.place(id, generation, host) {
                    Ok((shard, account)) => {
                        let placement = Placement { shard, account, address: address.clone() };
                        Arc::make_mut(&mut self.placed).insert(id, placement);
                    }
                    Err(problem) => {
                        if !self.left_out.contains_key(&id) {
                            log::error!("{problem}");
                        }
                        left_out.insert(id, Problem::new(ProblemKind::Limit, problem));
                    }
                },
            }
        }
        if left_out != *self.left_out {
            self.left_out = Arc::new(left_out);
        }
        let absent = self.absent.values().min().map(|since| since.saturating_add(ABSENT_MAX));
        let tidy = !self.leaving.is_empty() || !self.left_out.is_empty();
        let tidy = tidy.then_some(now + TIDY_INTERVAL);
        self.next_look = [absent, tidy].into_iter().flatten().min().unwrap_or(u64::MAX);
    }

    /// A place for a broker that has none.
    fn place(
        &mut self,
        id: BrokerId,
        generation: u64,
        host: &mut dyn ShardHost,
    ) -> Result<(ShardId, AccountId), String> {
        if self.placed.len() >= self.brokers_max {
            // Who was absent for longest may never come back; who is there needs the place.
            if let Some((&id, _)) = self.absent.iter().min_by_key(|(_, since)| **since) {
                self.forget(id, generation);
            }
        }
        if self.placed.len() >= self.brokers_max {
            let max = self.brokers_max;
            return Err(format!("broker {id} is left out: brokers_max = {max} is reached"));
        }
        let account = self.accumulator.pool.open_account(AccountKind::Broker);
        let account = account.map_err(|error| format!("broker {id} is left out: {error}"))?;
        self.accumulator.add_broker(id, account);
        Ok((self.emptiest_shard(host), account))
    }

    /// The broker loses its place. Its account is closed once no lane names it any more.
    fn forget(&mut self, id: BrokerId, generation: u64) {
        self.absent.remove(&id);
        if let Some(placement) = Arc::make_mut(&mut self.placed).remove(&id) {
            log::debug!("broker {id} is gone");
            self.accumulator.remove_broker(id);
            self.leaving.push(Leaving { account: placement.account, generation });
        }
    }

    /// Closes the accounts that no lane names any more, and none will: every shard goes by a view
    /// without their brokers. What is charged to them still is so until it is released.
    fn close_accounts(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let applied = self.ports.iter().map(|port| port.applied()).min().unwrap_or(0);
        if self.leaving.iter().all(|leaving| leaving.generation > applied) {
            return;
        }
        let lanes = self.accumulator.lanes();
        self.leaving.retain(|leaving| {
            let named = leaving.generation > applied
                || lanes.iter().any(|lane| lane.account() == leaving.account);
            if !named {
                self.accumulator.pool.close_account(leaving.account);
            }
            named
        });
    }

    /// The shard with the fewest brokers; one is started only if none of those there are is empty.
    fn emptiest_shard(&self, host: &mut dyn ShardHost) -> ShardId {
        let mut brokers = vec![0_usize; self.shards_max];
        for placement in self.placed.values() {
            if let Some(count) = brokers.get_mut(usize::from(placement.shard.0)) {
                *count += 1;
            }
        }
        let emptiest = |is_there: &dyn Fn(ShardId) -> bool| {
            let all = (0..self.shards_max).map(|index| ShardId(index as u16));
            all.filter(|&id| is_there(id)).min_by_key(|id| brokers[usize::from(id.0)])
        };
        let shard = emptiest(&|_| true).unwrap_or(ShardId(0));
        if self.ports.port(shard).is_some() {
            return shard;
        }
        match host.start_shard(shard) {
            Ok(()) => shard,
            Err(error) => {
                log::warn!("no further event loop ({error}): brokers share those there are");
                emptiest(&|id| self.ports.port(id).is_some()).unwrap_or(ShardId(0))
            }
        }
    }
}
