//! What was sent, and what must be true of it. Knows nothing of how the client works.

use std::collections::BTreeSet;

use tidegate::internals::batch::CellHandle;
use tidegate::{Certainty, DeliveryError, DeliveryErrorCause};

use super::cluster::Cluster;
use super::partition::{Partition, code};
use super::plan::{Ending, MS, Plan};

/// From a delivery's deadline until it has resolved at the latest.
const LATE_MAX: u64 = 20 * MS;

/// A record's value: its number, where it goes, and bytes that follow from the number.
pub struct Content;

impl Content {
    const HEAD: usize = 6;

    pub fn write(id: u32, topic: usize, partition: usize, bytes: usize, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&[topic as u8, partition as u8]);
        out.extend((Self::HEAD..bytes.max(Self::HEAD)).map(|at| Self::byte(id, at)));
    }

    fn byte(id: u32, at: usize) -> u8 {
        (id as usize * 7 + at / 8) as u8
    }

    /// The number; it must be the value that [`Content::write`] made for this partition.
    pub fn read(value: &[u8], topic: usize, partition: usize) -> u32 {
        let (head, tail) = value.split_at_checked(Self::HEAD).expect("values are longer");
        let id = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        assert_eq!((head[4], head[5]), (topic as u8, partition as u8), "record {id} is misrouted");
        let same =
            tail.iter().enumerate().all(|(at, &byte)| byte == Self::byte(id, at + Self::HEAD));
        assert!(same, "record {id} has other bytes than were sent");
        id
    }
}

/// Whether a delivery may fail for that. What a retry mends is no reason.
fn is_reason(cause: &DeliveryErrorCause, plan: &Plan) -> bool {
    match cause {
        DeliveryErrorCause::TimedOut { .. } => true,
        DeliveryErrorCause::ClusterChanged { .. } => plan.changes_cluster,
        DeliveryErrorCause::Closed { .. } => plan.ending == Ending::FailAll,
        DeliveryErrorCause::LoopPanicked => plan.ending == Ending::Drop,
        DeliveryErrorCause::Broker { code, .. } => match code.0 {
            code::INVALID_RECORD => plan.poison > 0,
            code::MESSAGE_TOO_LARGE | code::TOPIC_AUTHORIZATION_FAILED => true,
            // Nobody will ever tell what the log holds of it.
            code::INVALID_EPOCH | code::UNKNOWN_PRODUCER_ID | code::OUT_OF_ORDER => true,
            _ => false,
        },
        _ => false,
    }
}

pub struct Sent {
    pub topic: usize,
    pub partition: usize,
    pub deadline: u64,
    pub handle: CellHandle,
    pub resolved: bool,
    /// How often the fallback was called with it.
    pub given: u32,
}

fn partition_of(cluster: &Cluster, topic: usize, partition: usize) -> &Partition {
    &cluster.topics[topic].partitions[partition]
}

/// Every log there is or was, with its topic and partition.
fn logs(cluster: &Cluster) -> impl Iterator<Item = (usize, usize, &Partition)> + Clone {
    let gone = cluster.gone.iter().map(|(topic, partition, it)| (*topic, *partition, it));
    let topics = cluster.topics.iter().enumerate();
    let there = topics.flat_map(|(topic, it)| {
        it.partitions.iter().enumerate().map(move |(partition, it)| (topic, partition, it))
    });
    gone.chain(there)
}

#[derive(Default)]
pub struct Oracle {
    /// By number.
    pub sent: Vec<Sent>,
    /// Everything before is resolved.
    from: usize,
}

impl Oracle {
    /// Looks for deliveries that should have resolved.
    pub fn check_deadlines(&mut self, now: u64) {
        for (id, sent) in self.sent.iter_mut().enumerate().skip(self.from) {
            sent.resolved |= sent.handle.try_outcome().is_some();
            let late = now > sent.deadline + LATE_MAX;
            assert!(sent.resolved || !late, "record {id} is unresolved past its deadline");
        }
        while self.sent.get(self.from).is_some_and(|sent| sent.resolved) {
            self.from += 1;
        }
    }

    /// The fallback was called with a record.
    pub fn note_given(&mut self, id: u32, error: &DeliveryError) {
        let sent = &mut self.sent[id as usize];
        sent.given += 1;
        assert_eq!(sent.handle.error(), Some(error), "record {id} is given back");
    }

    /// The fallback has got each record that failed, once, and no other. Of those in doubt it does
    /// not get what a late answer acknowledged, nor what was in flight on an event loop that ended.
    pub fn check_given(&self, cluster: &Cluster, plan: &Plan, has_fallback: bool) {
        let mut written = vec![false; self.sent.len()];
        for (.., it) in logs(cluster) {
            it.log.iter().flat_map(|it| &it.records).for_each(|&id| written[id as usize] = true);
        }
        for (id, sent) in self.sent.iter().enumerate() {
            let Some(error) = sent.handle.error().filter(|_| has_fallback) else {
                assert_eq!(sent.given, 0, "record {id} was acknowledged, and given back");
                continue;
            };
            // Of what was acknowledged like that the log may have lost its copy since.
            let may_be_lost = match plan.settings.acks {
                0 => true,
                1 => logs(cluster).any(|(.., it)| it.lost_tail),
                _ => false,
            };
            let was_dropped = *error.cause() == DeliveryErrorCause::LoopPanicked;
            let may_lack = error.certainty() == Certainty::Unknown
                && (written[id] || may_be_lost || was_dropped);
            let is_right = sent.given == 1 || sent.given == 0 && may_lack;
            assert!(is_right, "record {id} is given back {} times: {error}", sent.given);
        }
    }

    /// How many deliveries are unresolved.
    pub fn unresolved(&self) -> usize {
        self.sent.iter().filter(|sent| sent.handle.try_outcome().is_none()).count()
    }

    /// Compares what deliveries say with what is in the logs.
    pub fn check(&self, cluster: &Cluster, plan: &Plan) {
        // Written anywhere, ever; in a log that there is; and visible in the one looked at.
        let mut written = vec![false; self.sent.len()];
        let mut there = vec![false; self.sent.len()];
        let mut copies = vec![0_u32; self.sent.len()];
        for (topic, partition, it) in logs(cluster) {
            // By name, requests in flight may arrive some at the old topic, some at the new.
            let is_one_topic = plan.produce_max >= 13 || !cluster.topics[topic].is_recreated();
            let mut last = None;
            let mut seen: Vec<u32> = Vec::new();
            for (index, entry) in it.log.iter().enumerate() {
                for &id in &entry.records {
                    written[id as usize] = true;
                    there[id as usize] |= std::ptr::eq(it, partition_of(cluster, topic, partition));
                }
                if index >= it.deleted {
                    seen.extend(&entry.records);
                }
            }
            seen.iter().for_each(|&id| copies[id as usize] = 0);
            for id in seen {
                copies[id as usize] += 1;
                let twice = plan.settings.idempotent && copies[id as usize] > 1;
                assert!(!twice, "record {id} is in the log of {topic}/{partition} twice");
                if plan.keeps_order() && is_one_topic {
                    let before = last.replace(id);
                    let ordered = before.is_none_or(|before| before < id);
                    let place = format!("{topic}/{partition}");
                    assert!(ordered, "in {place}, {id} stands behind {before:?}");
                }
            }
        }
        for (id, sent) in self.sent.iter().enumerate() {
            let written = written[id];
            if let Some(error) = sent.handle.error() {
                assert!(is_reason(error.cause(), plan), "record {id} fails without need: {error}");
            }
            match (sent.handle.error(), sent.handle.try_outcome().is_some()) {
                (_, false) => panic!("record {id} is unresolved at the end"),
                (Some(error), _) if error.certainty() == Certainty::NotWritten => {
                    assert!(!there[id], "record {id} was said not to be written: {error}");
                }
                (Some(_), _) => {}
                (None, _) => self.check_acked(cluster, plan, id, written),
            }
        }
    }

    /// What had all the time that a recovery may take, after everything was healed, was written:
    /// at least if nothing before it in its partition was given up, with sequences that nobody
    /// knows the fate of.
    pub fn check_recovery(&self, well_since: u64) {
        let mut in_doubt = BTreeSet::new();
        for (id, sent) in self.sent.iter().enumerate() {
            let Some(error) = sent.handle.error() else { continue };
            let place = (sent.topic, sent.partition);
            let late = matches!(error.cause(), DeliveryErrorCause::TimedOut { .. });
            let needless = late && sent.deadline > well_since && !in_doubt.contains(&place);
            assert!(!needless, "record {id} expired though all was well: {error}");
            in_doubt.insert(place);
        }
    }

    fn check_acked(&self, cluster: &Cluster, plan: &Plan, id: usize, written: bool) {
        let sent = &self.sent[id];
        let mut its_logs = logs(cluster).filter(|it| (it.0, it.1) == (sent.topic, sent.partition));
        // Without the replicas' word a leader that is deposed takes records with it.
        let loses = plan.settings.acks == 1 && its_logs.clone().any(|(.., it)| it.lost_tail);
        let is_cut_off = its_logs.clone().any(|(.., it)| it.cut_off.contains(&(id as u32)));
        if plan.settings.acks == 0 || loses || is_cut_off {
            return;
        }
        assert!(written, "record {id} was acknowledged and is not in the log");
        if let Some(offset) = sent.handle.offset() {
            let is_there = its_logs.any(|(.., it)| it.record_at(offset) == Some(id as u32));
            assert!(is_there, "record {id} is not at its offset {offset}");
        }
    }
}
