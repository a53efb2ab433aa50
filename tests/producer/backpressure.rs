//! Brokers stand still: memory stays at its budget, and the strategy decides.

use std::collections::HashSet;
use std::sync::Mutex;

use bytes::Bytes;
use tidegate::embedded::Fault;
use tidegate::{
    Backoff, BackoffStrategy, DeliveryErrorCause, DropRecords, ParkSender, Pressure, RejectRecords,
    SendErrorKind,
};

use super::*;

const BUDGET: usize = 8 << 20;

/// A producer with a small pool, whose topic is known.
fn paused(brokers: usize, builder: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> Paused {
    let cluster = cluster(brokers, brokers as i32);
    let producer = builder(super::builder(&cluster).buffer_memory(BUDGET)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, brokers as i32);
    (1..=brokers as i32).for_each(|id| cluster.pause_broker(id));
    Paused { cluster, producer, topic, brokers }
}

struct Paused {
    cluster: EmbeddedCluster,
    producer: Producer,
    topic: Topic,
    brokers: usize,
}

impl Paused {
    fn resume(&self) {
        (1..=self.brokers as i32).for_each(|id| self.cluster.resume_broker(id));
    }

    fn used(&self) -> usize {
        let memory = self.producer.memory();
        assert_eq!(memory.capacity, BUDGET);
        memory.capacity - memory.free
    }

    /// Everything comes back, and the log holds exactly `records` besides the warming ones.
    fn ends_with(&self, records: usize) {
        close(&self.producer);
        let partitions = 0..self.brokers as i32;
        let stored: i64 = partitions.map(|p| self.cluster.high_watermark("t", p)).sum();
        assert_eq!(stored as usize, records + self.brokers);
        assert_eq!(self.used(), 0);
        for levels in self.producer.broker_levels() {
            assert!(levels.writable && levels.charged == 0, "{levels:?}");
        }
    }
}

/// Values of all sizes, with and without key.
fn send_some(topic: &Topic, n: i32, partitions: i32) -> Result<Delivery, tidegate::SendError> {
    let value = vec![n as u8; [10, 100, 1_000, 30_000][n as usize % 4]];
    topic.send_record(tidegate::Record::new().value(&value[..]).partition(n % partitions))
}

#[test]
fn dropping_drops_and_counts() {
    for brokers in [1, 3] {
        let all = paused(brokers, |builder| builder.backoff(DropRecords));
        let deliveries: Vec<_> =
            (0..20_000).map(|n| send_some(&all.topic, n, brokers as i32).unwrap()).collect();
        assert!(all.used() <= BUDGET && all.used() > BUDGET / 2, "{} used", all.used());
        let dropped = all.producer.dropped_records();
        assert!(dropped > 10_000, "{dropped} dropped");
        all.resume();
        let outcomes = deliveries.into_iter().map(outcome);
        let (good, bad): (Vec<_>, Vec<_>) = outcomes.partition(Result::is_ok);
        assert_eq!(bad.len() as u64, dropped);
        for error in bad {
            let error = error.unwrap_err();
            assert_eq!(*error.cause(), DeliveryErrorCause::Dropped);
            assert_eq!(error.certainty(), tidegate::Certainty::NotWritten);
            assert!(error.to_string().contains("dropped"));
        }
        all.ends_with(good.len());
    }
}

#[test]
fn rejecting_errs_and_hands_an_owned_record_back() {
    let all = paused(1, |builder| builder.backoff(RejectRecords));
    let value = Bytes::from(vec![7_u8; 5_000]);
    let mut deliveries = Vec::new();
    let error = loop {
        match all.topic.send("borrowed", value.clone()) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break error,
        }
    };
    let SendErrorKind::Rejected { scope, queued, high, low } = *error.kind() else {
        panic!("{error}")
    };
    assert_eq!(scope, tidegate::PressureScope::Broker(1));
    assert!(low < high, "{low} {high}");
    assert!(queued >= high && high > BUDGET / 2 && queued <= BUDGET, "{queued} of {high}");
    assert!(error.is_retriable());
    let text = error.to_string();
    let queued = format!("{queued} bytes are queued for broker 1");
    assert!(text.contains("\"t\"") && text.contains(&queued), "{text}");
    let returned = error.into_record();
    assert_eq!(returned.key, None, "what was borrowed is still the caller's");
    assert_eq!(returned.value.as_ref().map(|v| v.as_ptr()), Some(value.as_ptr()));
    assert_eq!(all.producer.dropped_records(), 0);
    let count = deliveries.len();
    assert!(count * 5_000 > BUDGET / 2);
    all.resume();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    all.ends_with(count);
}

/// What is queued is under the high watermark again and not under the low one: "over the high
/// watermark" would be plainly wrong.
#[test]
fn between_the_watermarks_a_refusal_says_what_is_waited_for() {
    const RECORD: usize = 16_000;
    const ANSWERED: usize = 4;
    let (low, high) = (3 * RECORD, 10 * RECORD);
    let all = paused(1, |builder| {
        // Each record is a batch and, of one partition, a request.
        let builder = builder.batch_size(0).request_timeout(FAR).delivery_timeout(2 * FAR);
        builder.watermarks(low, high).backoff(RejectRecords)
    });
    let value = vec![7_u8; RECORD];
    let mut sent: Vec<_> = std::iter::from_fn(|| all.topic.send((), &value).ok()).collect();
    assert!(all.producer.broker_levels()[0].charged >= high);
    // The broker answers so many requests, and swallows the rest.
    all.cluster
        .script([Fault::delay(Duration::ZERO).times(ANSWERED), Fault::silence().times(1_000_000)]);
    all.resume();
    sent.drain(..ANSWERED).for_each(|delivery| drop(acked(delivery)));
    eventually("their memory is back", || {
        all.producer.broker_levels()[0].charged + (ANSWERED - 1) * RECORD < high
    });
    let error = all.topic.send((), &value).expect_err("it is writable below the low one only");
    let SendErrorKind::Rejected { queued, low: told_low, high: told_high, .. } = *error.kind()
    else {
        panic!("{error}")
    };
    assert!((low..high).contains(&queued), "{queued}");
    assert_eq!((told_low, told_high), (low, high));
    let text = error.to_string();
    let words = format!(
        "{queued} bytes are queued for broker 1, which went over the high watermark and takes no \
         more until it is below the low one ({low} bytes; the high one is {high} now)"
    );
    assert!(text.contains(&words), "{text}");
    all.producer.close(Duration::ZERO).wait().unwrap_err();
}

#[test]
fn parking_blocks_and_goes_on_when_the_broker_does() {
    let parked = Arc::new(Mutex::new(HashSet::new()));
    let seen = parked.clone();
    let strategy = move |pressure: &Pressure| {
        seen.lock().unwrap().insert(std::thread::current().id());
        ParkSender::default().decide(pressure)
    };
    let all = paused(1, |builder| builder.backoff(strategy));
    let total = 30_000;
    let deliveries = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let send = |n| send_some(&all.topic, n, 1).unwrap();
                scope.spawn(move || (0..total / 3).map(send).collect::<Vec<_>>())
            })
            .collect();
        eventually("all three are parked", || parked.lock().unwrap().len() == 3);
        assert!(!all.producer.broker_levels()[0].writable && all.used() <= BUDGET);
        assert!(senders.iter().all(|sender| !sender.is_finished()));
        all.resume();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect::<Vec<_>>()
    });
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    all.ends_with(total as usize);
}

#[test]
fn a_parked_senders_deadline_holds() {
    let all = paused(1, |builder| builder.backoff(ParkSender::for_at_most(millis(200))));
    let value = Bytes::from(vec![7_u8; 20_000]);
    let mut deliveries = Vec::new();
    let (error, took) = loop {
        let start = Instant::now();
        match all.topic.send((), value.clone()) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break (error, start.elapsed()),
        }
    };
    let SendErrorKind::ParkTimedOut { waited, scope } = *error.kind() else { panic!("{error}") };
    assert!(waited >= millis(200) && took >= waited && took < LONG, "{waited:?} {took:?}");
    assert_eq!(scope, tidegate::PressureScope::Broker(1));
    assert!(error.is_retriable() && error.to_string().contains("broker 1 takes"), "{error}");
    assert_eq!(error.into_record().value, Some(value));
    let count = deliveries.len();
    all.resume();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    all.ends_with(count);
}

#[test]
fn a_record_can_be_dropped_once_it_has_waited() {
    let strategy = |full: &Pressure<'_>| match full.elapsed < millis(50) {
        true => Backoff::Park { at_most: millis(50) },
        false => Backoff::Drop,
    };
    let all = paused(1, |builder| builder.backoff(strategy));
    let value = Bytes::from(vec![7_u8; 20_000]);
    let mut accepted = 0;
    let (dropped, took) = loop {
        let start = Instant::now();
        let delivery = all.topic.send((), value.clone()).unwrap();
        if all.producer.dropped_records() > 0 {
            break (delivery, start.elapsed());
        }
        accepted += 1;
    };
    assert_eq!(*failed(dropped).cause(), DeliveryErrorCause::Dropped);
    assert!(took >= millis(50), "{took:?}");
    all.resume();
    all.ends_with(accepted);
}

#[test]
fn close_wakes_parked_senders() {
    let all = paused(1, |builder| builder);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            loop {
                if let Err(error) = send_some(&all.topic, 3, 1) {
                    return error;
                }
            }
        });
        eventually("it parks", || !all.producer.broker_levels()[0].writable);
        let closing = all.producer.close(millis(100));
        assert_eq!(*sender.join().unwrap().kind(), SendErrorKind::Closed);
        closing.wait().unwrap_err();
    });
    assert_eq!(all.used(), 0, "a failed batch gives its memory back");
}

#[test]
fn transitions_of_the_watermark_are_observable() {
    let all = paused(1, |builder| builder.backoff(RejectRecords).watermarks(1 << 20, 4 << 20));
    let mut deliveries = Vec::new();
    let levels = || all.producer.broker_levels()[0];
    assert_eq!((levels().broker, levels().low, levels().high), (1, 1 << 20, 4 << 20));
    assert_eq!((levels().times_unwritable, levels().times_writable), (0, 0));
    while let Ok(delivery) = send_some(&all.topic, 3, 1) {
        deliveries.push(delivery);
        assert!(deliveries.len() < 10_000);
    }
    let now = levels();
    assert!(!now.writable && now.charged >= 4 << 20 && now.charged < (4 << 20) + 200_000);
    assert_eq!((now.times_unwritable, now.times_writable), (1, 0));
    let count = deliveries.len();
    all.resume();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    eventually("it is writable again", || levels().writable);
    assert_eq!((levels().times_unwritable, levels().times_writable), (1, 1));
    send_some(&all.topic, 1, 1).map(acked).unwrap();
    all.ends_with(count + 1);
}

#[test]
fn one_broker_that_stalls_does_not_hold_up_the_others() {
    let cluster = cluster(3, 3);
    let producer = builder(&cluster).buffer_memory(BUDGET).backoff(DropRecords).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    cluster.pause_broker(1);
    let mut stuck = Vec::new();
    while producer.dropped_records() == 0 {
        stuck.push(topic.send_record(to(0, "for the one that stalls")).unwrap());
    }
    let memory = producer.memory();
    assert!(memory.free >= BUDGET / 4, "it leaves room: {memory:?}");
    let before = producer.dropped_records();
    for round in 0..200 {
        let burst: Vec<_> =
            (0..50).map(|n| topic.send_record(to(1 + n % 2, "fine")).unwrap()).collect();
        burst.into_iter().for_each(|delivery| drop(acked(delivery)));
        assert_eq!(producer.dropped_records(), before, "round {round}");
    }
    // Records without a key go to those that take them.
    let mut partitions = [0; 3];
    for _ in 0..500 {
        partitions[acked(topic.send((), "sticky").unwrap()).partition() as usize] += 1;
    }
    assert_eq!(partitions[0], 0, "{partitions:?}");
    let dropped = stuck.pop().unwrap();
    assert_eq!(*failed(dropped).cause(), DeliveryErrorCause::Dropped);
    cluster.resume_broker(1);
    stuck.into_iter().for_each(|delivery| drop(acked(delivery)));
}

#[test]
fn a_parked_sender_does_not_hold_up_senders_to_other_brokers() {
    let cluster = cluster(3, 3);
    let producer = builder(&cluster).buffer_memory(BUDGET).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    cluster.pause_broker(2);
    std::thread::scope(|scope| {
        let parked = scope.spawn(|| {
            let send = |_| topic.send_record(to(1, &"x".repeat(20_000))).unwrap();
            (0..1_000).map(send).collect::<Vec<_>>()
        });
        let level = || producer.broker_levels().into_iter().find(|l| l.broker == 2).unwrap();
        eventually("it parks", || !level().writable);
        let big = "y".repeat(100_000);
        for n in 0..300 {
            let value = if n % 3 == 0 { &big[..] } else { "small" };
            acked(topic.send_record(to(2 * (n % 2), value)).unwrap());
        }
        assert!(!parked.is_finished());
        cluster.resume_broker(2);
        parked.join().unwrap().into_iter().for_each(|delivery| drop(acked(delivery)));
    });
    close(&producer);
}

#[test]
fn a_paused_broker_that_comes_back_after_its_timeout_doubles_nothing() {
    let cluster = cluster(2, 1);
    let builder = builder(&cluster).request_timeout(millis(200)).batch_size(5_000);
    let producer = builder.build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let leader = cluster.leader("t", 0).unwrap();
    cluster.pause_broker(leader);
    let asked = cluster.stats().requests_of(3);
    let deliveries: Vec<_> =
        (0..2_000).map(|n: u32| topic.send((), n.to_string()).unwrap()).collect();
    // It asks the other broker for metadata, because it has given up the connection to this one.
    assert!(cluster.wait_until(LONG, |stats| stats.requests_of(3) > asked));
    cluster.resume_broker(leader);
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
    let expected: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    assert_eq!(values(&cluster.records("t", 0))[1..], expected);
}
