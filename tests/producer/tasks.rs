//! Sending from tasks: waiting for room without holding the thread, and never waiting at all.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tidegate::{BackoffStrategy, DropRecords, Pressure, SendError, SendErrorKind};

use super::*;

const BUDGET: usize = 8 << 20;

type Sending<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Delivery, SendError>> + Send + 'a>>;

/// Brokers that stand still, a topic with a partition on each, and a producer with a small pool.
struct Still {
    cluster: EmbeddedCluster,
    producer: Producer,
    topic: Topic,
}

impl Still {
    fn new(brokers: i32) -> Still {
        Still::with(brokers, |builder| builder)
    }

    fn with(brokers: i32, change: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> Still {
        let cluster = cluster(brokers as usize, brokers);
        let builder = patient(&cluster).buffer_memory(BUDGET);
        let producer = change(builder).build().unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, brokers);
        (1..=brokers).for_each(|id| cluster.pause_broker(id));
        Still { cluster, producer, topic }
    }

    /// Sends to a partition until there is no room. Returns the deliveries.
    fn fill(&self, partition: i32) -> Vec<Delivery> {
        let value = vec![7; 5_000];
        let record = || Record::new().partition(partition).value(&value[..]);
        let mut deliveries = Vec::new();
        loop {
            match self.topic.try_send_record(record()) {
                Ok(delivery) => deliveries.push(delivery),
                Err(error) => {
                    assert!(matches!(error.kind(), SendErrorKind::Rejected { .. }), "{error}");
                    return deliveries;
                }
            }
        }
    }

    /// A task's attempt, before its first poll.
    fn send<'a>(&'a self, partition: i32, value: &'a [u8]) -> Sending<'a> {
        Box::pin(self.topic.send_record_async(Record::new().partition(partition).value(value)))
    }

    fn stored(&self, partition: i32) -> Vec<Vec<u8>> {
        let records = self.cluster.records("t", partition).into_iter();
        records.map(|record| record.value.unwrap().to_vec()).collect()
    }
}

/// Counts its wakes.
#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(sending: &mut Sending<'_>, woken: &Arc<Woken>) -> Poll<Result<Delivery, SendError>> {
    sending.as_mut().poll(&mut Context::from_waker(&Waker::from(woken.clone())))
}

#[test]
fn a_task_waits_for_room_and_its_thread_does_not() {
    let still = Still::new(1);
    let sent = still.fill(0);
    let woken = Arc::new(Woken::default());
    let mut sending = still.send(0, &[1; 5_000]);
    assert!(poll(&mut sending, &woken).is_pending());
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    still.cluster.resume_broker(1);
    acked(block_on(sending).unwrap());
    let count = sent.len();
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    // With the warming one.
    assert_eq!(still.stored(0).len(), count + 2);
    close(&still.producer);
}

#[test]
fn tasks_for_other_brokers_go_on_while_one_stands_still() {
    let still = Still::with(2, |builder| builder.watermarks(BUDGET / 8, BUDGET / 4));
    let _sent = still.fill(0);
    let woken = Arc::new(Woken::default());
    let mut held_up: Vec<_> = (0..10).map(|_| still.send(0, b"held up")).collect();
    held_up.iter_mut().for_each(|sending| assert!(poll(sending, &woken).is_pending()));
    still.cluster.resume_broker(2);
    for _ in 0..2_000 {
        acked(block_on(still.send(1, &[2; 5_000])).unwrap());
    }
    held_up.iter_mut().for_each(|sending| assert!(poll(sending, &woken).is_pending()));
    still.cluster.resume_broker(1);
    held_up.into_iter().for_each(|sending| drop(acked(block_on(sending).unwrap())));
    close(&still.producer);
}

#[test]
fn a_task_that_is_dropped_sends_nothing_and_leaves_its_place() {
    let still = Still::new(1);
    let _sent = still.fill(0);
    let woken = Arc::new(Woken::default());
    let mut first = still.send(0, b"first");
    let mut second = still.send(0, b"second");
    let never = still.send(0, b"never polled");
    assert!(poll(&mut first, &woken).is_pending() && poll(&mut second, &woken).is_pending());
    drop(first);
    still.cluster.resume_broker(1);
    acked(block_on(second).unwrap());
    drop(never);
    // Also of those that could go on, and were not polled again.
    still.cluster.pause_broker(1);
    let _sent = still.fill(0);
    let mut late = still.send(0, b"late");
    assert!(poll(&mut late, &woken).is_pending());
    let before = woken.0.load(Ordering::SeqCst);
    still.cluster.resume_broker(1);
    eventually("it is woken", || woken.0.load(Ordering::SeqCst) > before);
    drop(late);
    close(&still.producer);
    let stored = still.stored(0);
    for (value, is_there) in
        [(&b"first"[..], false), (b"second", true), (b"never polled", false), (b"late", false)]
    {
        assert_eq!(stored.iter().any(|stored| stored == value), is_there, "{value:?}");
    }
    let memory = still.producer.memory();
    assert_eq!(memory.free, memory.capacity, "what was kept for it is free again");
}

#[test]
fn closing_ends_the_wait_of_tasks() {
    let still = Still::new(1);
    let _sent = still.fill(0);
    let woken = Arc::new(Woken::default());
    let mut sending = still.send(0, b"too late");
    assert!(poll(&mut sending, &woken).is_pending());
    let closing = still.producer.close(LONG);
    let error = block_on(sending).unwrap_err();
    assert!(matches!(error.kind(), SendErrorKind::Closed), "{error}");
    still.cluster.resume_broker(1);
    closing.wait().unwrap();
    let error = block_on(still.topic.send_async("k", "v")).unwrap_err();
    assert!(matches!(error.kind(), SendErrorKind::Closed), "{error}");
}

#[test]
fn the_strategy_decides_for_tasks_too() {
    let still = Still::with(1, |builder| builder.backoff(DropRecords));
    let _sent = still.fill(0);
    let error = failed(block_on(still.topic.send_async("k", "v")).unwrap());
    assert_eq!(*error.cause(), tidegate::DeliveryErrorCause::Dropped);
    still.cluster.resume_broker(1);
    close(&still.producer);
}

#[test]
fn trying_never_waits_and_asks_no_strategy() {
    struct Asked(AtomicBool);
    impl BackoffStrategy for Asked {
        fn decide(&self, _pressure: &Pressure) -> tidegate::Backoff {
            self.0.store(true, Ordering::SeqCst);
            tidegate::Backoff::Drop
        }
    }
    let asked = Arc::new(Asked(AtomicBool::new(false)));
    let strategy = asked.clone();
    let still =
        Still::with(1, |builder| builder.backoff(move |full: &Pressure| strategy.decide(full)));
    let sent = still.fill(0);
    let value = bytes::Bytes::from_static(b"mine");
    let error = still.topic.try_send((), value.clone()).unwrap_err();
    assert_eq!(error.into_record().value, Some(value), "it is handed back");
    assert!(!asked.0.load(Ordering::SeqCst));
    still.cluster.resume_broker(1);
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    acked(still.topic.try_send("k", "there is room again").unwrap());
    close(&still.producer);
}

#[test]
fn tasks_wait_for_room_before_their_topic_is_known_too() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
    cluster.pause_broker(1);
    let producer = patient(&cluster).buffer_memory(BUDGET).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let value = vec![7; 5_000];
    let sent: Vec<_> = std::iter::from_fn(|| topic.try_send((), &value[..]).ok()).collect();
    let woken = Arc::new(Woken::default());
    let mut sending: Sending<'_> = Box::pin(topic.send_async((), &value[..]));
    assert!(poll(&mut sending, &woken).is_pending());
    cluster.resume_broker(1);
    acked(block_on(sending).unwrap());
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
}

#[test]
fn a_lane_that_moves_takes_those_along_who_wait_at_its_old_leader() {
    let still = Still::with(2, |builder| {
        let builder = builder.watermarks(BUDGET / 8, BUDGET / 4);
        builder.configure(|config| config.metadata_max_age = millis(100))
    });
    let _sent = still.fill(0);
    let woken = Arc::new(Woken::default());
    let mut sending = still.send(0, &[1; 5_000]);
    assert!(poll(&mut sending, &woken).is_pending());
    // The first broker hangs on with what was sent to it.
    still.cluster.resume_broker(2);
    assert!(still.cluster.move_leader("t", 0, 2));
    let delivery = block_on(sending).unwrap();
    still.cluster.resume_broker(1);
    acked(delivery);
    close(&still.producer);
}

#[test]
fn those_who_wait_for_the_stash_go_on_once_their_topic_is_known() {
    let cluster = cluster(1, 1);
    let builder = patient(&cluster).buffer_memory(BUDGET);
    let producer = builder.configure(|c| c.topic_unknown_max = FAR).build().unwrap();
    let nowhere = producer.topic("nowhere").unwrap();
    let value = vec![7; 5_000];
    let _kept: Vec<_> = std::iter::from_fn(|| nowhere.try_send((), &value[..]).ok()).collect();
    cluster.pause_broker(1);
    let topic = producer.topic("t").unwrap();
    let woken = Arc::new(Woken::default());
    let mut sending: Sending<'_> = Box::pin(topic.send_async((), &value[..]));
    assert!(poll(&mut sending, &woken).is_pending());
    cluster.resume_broker(1);
    acked(block_on(sending).unwrap());
    drop(producer.close(Duration::ZERO));
}

/// Eight threads that are parked and eight tasks that wait, at a pool that is always full.
#[test]
fn threads_and_tasks_have_their_turns() {
    const SENDERS: usize = 8;
    let cluster = cluster(1, 8);
    let producer = builder(&cluster).buffer_memory(BUDGET).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 8);
    let (by_threads, by_tasks) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = AtomicBool::new(false);
    let value = vec![7_u8; 100_000];
    let record = |n: usize| Record::new().partition(n as i32).value(&value[..]);
    thread::scope(|scope| {
        for n in 0..SENDERS {
            let (topic, done, counts) = (&topic, &done, (&by_threads, &by_tasks));
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    drop(topic.send_record(record(n)).unwrap());
                    counts.0.fetch_add(1, Ordering::SeqCst);
                }
            });
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    drop(block_on(topic.send_record_async(record(n))).unwrap());
                    counts.1.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        eventually("thousands are sent", || {
            by_threads.load(Ordering::SeqCst) + by_tasks.load(Ordering::SeqCst) > 10_000
        });
        done.store(true, Ordering::SeqCst);
    });
    let (threads, tasks) = (by_threads.into_inner(), by_tasks.into_inner());
    let share = tasks as f64 / (threads + tasks) as f64;
    assert!((0.4..0.6).contains(&share), "tasks sent {share}: {tasks} and {threads}");
    close(&producer);
}

/// Polls a future that waits for room.
fn poll_ready(
    ready: &mut (impl Future<Output = Result<(), SendError>> + Unpin),
    woken: &Arc<Woken>,
) -> Poll<Result<(), SendError>> {
    std::pin::Pin::new(ready).poll(&mut Context::from_waker(&Waker::from(woken.clone())))
}

#[test]
fn ready_resolves_when_some_broker_takes_records() {
    let still = Still::new(2);
    let woken = Arc::<Woken>::default();
    assert!(matches!(poll_ready(&mut Box::pin(still.topic.ready()), &woken), Poll::Ready(Ok(()))));
    still.fill(0);
    // The other broker takes records.
    assert!(matches!(poll_ready(&mut Box::pin(still.topic.ready()), &woken), Poll::Ready(Ok(()))));
    still.fill(1);
    let mut ready = Box::pin(still.topic.ready());
    assert!(poll_ready(&mut ready, &woken).is_pending());
    still.cluster.resume_broker(2);
    eventually("the task is woken", || woken.0.load(Ordering::SeqCst) > 0);
    eventually("it is ready", || matches!(poll_ready(&mut ready, &woken), Poll::Ready(Ok(()))));
    drop(ready);
    drop(still.topic.try_send((), "now").expect("one broker has room, and nothing is kept"));
    still.cluster.resume_broker(1);
    close(&still.producer);
    assert_eq!(still.producer.memory().free, still.producer.memory().capacity);
}

#[test]
fn ready_stands_in_the_line_and_leaves_it() {
    let still = Still::new(1);
    still.fill(0);
    let woken = Arc::<Woken>::default();
    let mut first = Box::pin(still.topic.ready());
    assert!(poll_ready(&mut first, &woken).is_pending());
    let mut second = still.send(0, b"second");
    assert!(poll(&mut second, &woken).is_pending());
    // Whoever gives up holds up nobody.
    drop(first);
    still.cluster.resume_broker(1);
    let mut sent = None;
    eventually("the other is sent", || {
        if let Poll::Ready(result) = poll(&mut second, &woken) {
            sent = Some(result.unwrap());
        }
        sent.is_some()
    });
    acked(sent.unwrap());
    drop(second);
    still.cluster.pause_broker(1);
    still.fill(0);
    let mut last = Box::pin(still.topic.ready());
    assert!(poll_ready(&mut last, &woken).is_pending());
    let closing = still.producer.close(Duration::ZERO);
    eventually("a close ends the wait", || match poll_ready(&mut last, &woken) {
        Poll::Ready(Err(error)) => *error.kind() == SendErrorKind::Closed,
        Poll::Ready(Ok(())) => panic!("a closed producer takes nothing"),
        Poll::Pending => false,
    });
    drop(closing);
    still.cluster.resume_broker(1);
}

#[test]
fn ready_is_an_error_where_the_producer_may_have_no_more_partitions() {
    let cluster = EmbeddedCluster::builder().topic("a", 1).topic("t", 1).start().unwrap();
    let producer = builder(&cluster).configure(|config| config.lanes_max = 1).build().unwrap();
    let first = producer.topic("a").unwrap();
    warm(&first, 1);
    let topic = producer.topic("t").unwrap();
    eventually("the topic is known", || topic.partitions() == 1);
    let ready = poll_ready(&mut Box::pin(topic.ready()), &Arc::default());
    let Poll::Ready(Err(error)) = ready else { panic!("{ready:?}") };
    assert!(matches!(error.kind(), SendErrorKind::TooManyLanes { .. }), "{error}");
    close(&producer);
}

#[test]
fn ready_waits_for_room_of_an_unknown_topic() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let producer = patient(&cluster).buffer_memory(4 << 20).build().unwrap();
    let topic = producer.topic("later").unwrap();
    let woken = Arc::<Woken>::default();
    assert!(matches!(poll_ready(&mut Box::pin(topic.ready()), &woken), Poll::Ready(Ok(()))));
    let value = vec![7; 10_000];
    while topic.try_send((), &value).is_ok() {}
    // What is left of the last segment is too little for a record and enough for a smaller one.
    let mut ready = Box::pin(topic.ready());
    eventually("the stash is full", || {
        let _ = topic.try_send((), &value[..3_000]);
        poll_ready(&mut ready, &woken).is_pending()
    });
    cluster.create_topic("later", 1);
    eventually("the topic is known", || {
        matches!(poll_ready(&mut ready, &woken), Poll::Ready(Ok(())))
    });
    drop(ready);
    producer.close(LONG).wait().unwrap();
}
