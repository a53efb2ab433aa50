//! Events: what an application hears that listens.

use std::sync::mpsc;

use tidegate::embedded::Fault;
use tidegate::{DropRecords, Event, Events};

use super::*;

/// Waits for such an event, over others.
fn await_event(events: &mut Events, what: &str, is_it: impl Fn(&Event) -> bool) -> Event {
    let start = Instant::now();
    loop {
        match events.next_timeout(LONG) {
            Some(event) if is_it(&event) => return event,
            Some(_) => assert!(start.elapsed() < LONG, "no event says: {what}"),
            None => panic!("no event says: {what}"),
        }
    }
}

#[test]
fn brokers_topics_partitions_and_leaders_are_told_as_they_change() {
    let cluster = cluster(2, 2);
    let producer = producer(&cluster);
    let mut events = producer.events().unwrap();
    let topic = producer.topic("t").unwrap();
    let found = await_event(&mut events, "the topic", |it| matches!(it, Event::TopicFound { .. }));
    assert_eq!(found.to_string(), "topic t has 2 partitions");
    warm(&topic, 2);
    let leader = cluster.leader("t", 0).unwrap();
    await_event(
        &mut events,
        "the connection",
        |it| matches!(it, Event::Connected { broker, .. } if *broker == leader),
    );
    let other = cluster.broker_ids().into_iter().find(|&id| id != leader).unwrap();
    cluster.move_leader("t", 0, other);
    warm(&topic, 2);
    let moved = await_event(&mut events, "the move", |it| {
        matches!(it, Event::LeaderMoved { partition: 0, before, now, .. }
            if *before == Some(leader) && *now == Some(other))
    });
    let words = format!("t-0 is led by broker {other}, before by broker {leader}");
    assert_eq!(moved.to_string(), words);
    cluster.add_partitions("t", 5);
    acked(topic.send_record(to(4, "v")).unwrap());
    await_event(&mut events, "the partitions", |it| {
        matches!(it, Event::PartitionsChanged { before: 2, now: 5, .. })
    });
    // A connection that is lost while nobody needs it is no event: brokers close idle ones too.
    cluster.stop_broker(other);
    let waits = topic.send_record(to(0, "v")).unwrap();
    let lost = await_event(
        &mut events,
        "the loss",
        |it| matches!(it, Event::Disconnected { broker, .. } if *broker == other),
    );
    assert!(lost.to_string().contains(&format!("not connected to broker {other}")), "{lost}");
    producer.close(Duration::ZERO).wait().ok();
    failed(waits);
    // It ends with the producer.
    assert!(events.by_ref().count() < 1_000);
    assert!(events.try_next().is_none());
    assert!(producer.events().unwrap().next().is_none(), "after the close nothing happens");
}

#[test]
fn failed_records_are_told_with_their_error_and_a_callback_that_panics_hears_the_next() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let (sender, heard) = mpsc::channel();
    producer
        .on_event(move |event| {
            if let Event::Failed { error, records } = event {
                sender.send((error.clone(), *records)).unwrap();
                panic!("the application's own fault: part of the test");
            }
        })
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    for _ in 0..2 {
        // MESSAGE_TOO_LARGE, of a single record.
        cluster.script([Fault::produce_error("t", 0, 10)]);
        let told = failed(topic.send("k", "v").unwrap());
        let (error, records) = heard.recv_timeout(LONG).unwrap();
        assert_eq!((&error, records), (&told, 1));
    }
    close(&producer);
    assert!(heard.recv_timeout(LONG).is_err(), "the closure is gone with the producer");
}

#[test]
fn a_broker_that_goes_over_its_watermark_and_comes_back_is_told_both_times() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster)
        .backoff(DropRecords)
        .configure(|config| {
            (config.high_watermark, config.low_watermark) = (Some(128 << 10), Some(64 << 10));
        })
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let mut events = producer.events().unwrap();
    cluster.pause_broker(1);
    let big = "x".repeat(10_000);
    let deliveries: Vec<_> = (0..40).map(|_| topic.send((), &big).unwrap()).collect();
    await_event(&mut events, "it is full", |it| match it {
        Event::Unwritable { broker: 1, charged, high } => *charged > *high && *high == 128 << 10,
        _ => false,
    });
    cluster.resume_broker(1);
    await_event(&mut events, "it is not", |it| matches!(it, Event::Writable { broker: 1 }));
    deliveries.into_iter().for_each(|delivery| drop(outcome(delivery)));
    cluster.script([Fault::throttle(50)]);
    warm(&topic, 1);
    await_event(
        &mut events,
        "the pause",
        |it| matches!(it, Event::Throttled { broker: 1, pause } if *pause == millis(50)),
    );
}

#[test]
fn a_listener_that_is_slow_is_told_how_much_it_missed_and_holds_nobody_up() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).configure(|config| config.events_max = 4).build().unwrap();
    let mut events = producer.events().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script([Fault::produce_error("t", 0, 10).times(20)]);
    for _ in 0..20 {
        failed(topic.send("k", "v").unwrap());
    }
    close(&producer);
    let told: Vec<Event> = events.by_ref().collect();
    let missed: u64 = told
        .iter()
        .map(|event| if let Event::Missed { events } = event { *events } else { 0 })
        .sum();
    assert!(told.len() <= 6 && missed > 0, "{told:?}");
    let failures = told.iter().filter(|it| matches!(it, Event::Failed { .. })).count() as u64;
    assert!(failures + missed >= 20, "{told:?}");
}

#[test]
fn a_task_awaits_events() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let mut events = producer.events().unwrap();
    let _topic = producer.topic("t").unwrap();
    block_on(async {
        while let Some(event) = events.next_event().await {
            if let Event::TopicFound { topic, partitions: 1 } = event {
                assert_eq!(&*topic, "t");
                return;
            }
        }
        panic!("the topic was never told");
    });
    drop(events);
    close(&producer);
}

#[test]
fn a_callback_that_never_returns_does_not_keep_a_close() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let (block, blocked) = mpsc::channel::<()>();
    let (sender, entered) = mpsc::channel();
    let blocked = std::sync::Mutex::new(blocked);
    producer
        .on_event(move |_| {
            let _ = sender.send(());
            let _ = blocked.lock().unwrap().recv();
        })
        .unwrap();
    warm(&producer.topic("t").unwrap(), 1);
    entered.recv_timeout(LONG).unwrap();
    let error = producer.close(secs(1)).wait().expect_err("one thread is stuck");
    assert!(error.to_string().contains("tidegate-call"), "{error}");
    drop(block);
}
