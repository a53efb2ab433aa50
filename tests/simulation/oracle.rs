//! What was sent, and what must be true of it. Knows nothing of how the client works.

use tidegate::batch::CellHandle;
use tidegate::{Certainty, DeliveryErrorCause};

use super::cluster::Cluster;
use super::partition::code;
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
        DeliveryErrorCause::Closed => plan.ending == Ending::FailAll,
        DeliveryErrorCause::LoopPanicked => plan.ending == Ending::Drop,
        DeliveryErrorCause::Broker { code, .. } => match code.0 {
            code::INVALID_RECORD => plan.poison > 0,
            code::MESSAGE_TOO_LARGE | code::TOPIC_AUTHORIZATION_FAILED => true,
            // Nobody will ever tell what the log holds of it.
            code::INVALID_EPOCH | code::UNKNOWN_PRODUCER_ID => true,
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

    /// How many deliveries are unresolved.
    pub fn unresolved(&self) -> usize {
        self.sent.iter().filter(|sent| sent.handle.try_outcome().is_none()).count()
    }

    /// Compares what deliveries say with what is in the logs.
    pub fn check(&self, cluster: &Cluster, plan: &Plan) {
        let mut copies = vec![0_u32; self.sent.len()];
        for (topic, partition) in cluster.all() {
            let it = &cluster.topics[topic].partitions[partition];
            let mut last = None;
            for &id in it.log.iter().flat_map(|entry| &entry.records) {
                copies[id as usize] += 1;
                if plan.keeps_order() {
                    let before = last.replace(id);
                    let ordered = before.is_none_or(|before| before < id);
                    let place = format!("{topic}/{partition}");
                    assert!(ordered, "in {place}, {id} stands behind {before:?}");
                }
            }
        }
        for (id, sent) in self.sent.iter().enumerate() {
            let copies = copies[id];
            if let Some(error) = sent.handle.error() {
                assert!(is_reason(error.cause(), plan), "record {id} fails without need: {error}");
            }
            assert!(!plan.settings.idempotent || copies < 2, "record {id} is in the log twice");
            match (sent.handle.error(), sent.handle.try_outcome().is_some()) {
                (_, false) => panic!("record {id} is unresolved at the end"),
                (Some(error), _) if error.certainty() == Certainty::NotWritten => {
                    assert_eq!(copies, 0, "record {id} was said not to be written: {error}");
                }
                (Some(_), _) => {}
                (None, _) => self.check_acked(cluster, plan, id, copies),
            }
        }
    }

    fn check_acked(&self, cluster: &Cluster, plan: &Plan, id: usize, copies: u32) {
        let sent = &self.sent[id];
        let it = &cluster.topics[sent.topic].partitions[sent.partition];
        // Without the replicas' word a leader that is deposed takes records with it.
        if plan.settings.acks == 0 || plan.settings.acks == 1 && it.lost_tail {
            return;
        }
        assert!(copies > 0, "record {id} was acknowledged and is not in the log");
        if let Some(offset) = sent.handle.offset() {
            let at = it.log.partition_point(|entry| entry.end() <= offset);
            let found = it.log.get(at).map(|entry| entry.records[(offset - entry.offset) as usize]);
            assert_eq!(found, Some(id as u32), "record {id} is not at its offset {offset}");
        }
    }
}
