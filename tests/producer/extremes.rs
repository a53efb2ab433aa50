//! Values and situations that nobody means, and that must do no harm.

use tidegate::embedded::Fault;
use tidegate::{Acks, Certainty, Compression, DeliveryErrorCause, ParkSender, RejectRecords};

use super::*;

#[test]
fn the_longest_times_there_are() {
    let cluster = cluster(1, 1);
    let producer =
        builder(&cluster).backoff(ParkSender::for_at_most(Duration::MAX)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let mut delivery = topic.send((), "v").unwrap();
    delivery.wait_timeout(Duration::MAX).unwrap().unwrap();
    producer.close(Duration::MAX).wait().unwrap();

    let cluster = super::cluster(1, 1);
    let producer = builder(&cluster)
        .buffer_memory(2 << 20)
        .backoff(ParkSender::for_at_most(Duration::MAX))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            (0..100).map(|_| topic.send((), &[0_u8; 100_000]).unwrap()).collect::<Vec<_>>()
        });
        eventually("it parks", || !producer.broker_levels()[0].writable);
        cluster.resume_broker(1);
        sender.join().unwrap().into_iter().for_each(|delivery| drop(acked(delivery)));
    });
}

#[test]
fn no_time_at_all() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).configure(|c| c.part_filled_floor = Some(Duration::ZERO));
    let producer = producer.backoff(ParkSender::for_at_most(Duration::ZERO)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let delivery = topic.send((), "v").unwrap();
    acked(delivery);
    // Nothing is left: closing in no time is not too late.
    eventually("flushed", || block_on(producer.flush()).is_ok());
    drop(producer.close(Duration::ZERO).wait());
}

#[test]
fn one_request_at_a_time() {
    let cluster = cluster(1, 4);
    let producer =
        builder(&cluster).batch_size(0).configure(|c| c.max_in_flight = 1).build().unwrap();
    let topic = producer.topic("t").unwrap();
    cluster.script(Fault::produce_error_anywhere(7).after_append().times(3));
    let deliveries: Vec<_> =
        (0..400).map(|n| topic.send_record(to(n % 4, &n.to_string())).unwrap()).collect();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    for partition in 0..4 {
        let expected: Vec<String> =
            (0..400).filter(|n| n % 4 == partition).map(|n| n.to_string()).collect();
        assert_eq!(values(&cluster.records("t", partition)), expected);
    }
}

#[test]
fn tiny_requests() {
    let cluster = cluster(1, 4);
    let producer = builder(&cluster).configure(|c| c.request_bytes_max = Some(1)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries: Vec<_> =
        (0..2_000).map(|n| topic.send_record(to(n % 4, "v")).unwrap()).collect();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
}

#[test]
fn records_that_expire_in_flight_leave_no_gap_and_no_double() {
    for batch_size in [0, 256 * 1_024] {
        in_time(|| records_that_expire_in_flight(batch_size));
    }
}

/// Returns whether the machine was quick enough for what must not expire.
fn records_that_expire_in_flight(batch_size: usize) -> bool {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster)
        .batch_size(batch_size)
        .request_timeout(millis(300))
        .delivery_timeout(millis(400))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    goes_on(&topic, 0, "warm");
    cluster.pause_broker(1);
    let lost: Vec<_> = (0..50).map(|n| topic.send((), format!("lost {n}")).unwrap()).collect();
    let mut certain = 0;
    for delivery in lost {
        let error = failed(delivery);
        assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
        certain += usize::from(error.certainty() == Certainty::NotWritten);
    }
    cluster.resume_broker(1);
    let kept: Vec<_> = (0..50).map(|n| topic.send((), format!("kept {n}")).unwrap()).collect();
    let kept: Vec<_> = kept.into_iter().map(outcome).collect();
    close(&producer);
    let stored = values(&cluster.records("t", 0));
    let mut all_in_time = true;
    for (n, outcome) in kept.iter().enumerate() {
        let value = format!("kept {n}");
        match outcome {
            Ok(at) => assert_eq!(stored[at.offset().unwrap() as usize], value),
            Err(error) => {
                assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
                all_in_time = false;
            }
        }
        let times = stored.iter().filter(|stored| **stored == value).count();
        assert!(times == 1 || times == 0 && outcome.is_err(), "{value} is there {times} times");
    }
    let mut written: Vec<_> = stored.iter().filter(|v| v.starts_with("lost")).collect();
    let count = written.len();
    assert!(count <= 50 - certain, "{count} written, {certain} certainly not");
    written.dedup();
    assert_eq!(written.len(), count, "none is doubled");
    assert_eq!(producer.memory().free, producer.memory().capacity);
    all_in_time
}

#[test]
fn memory_of_records_that_expired_in_flight_comes_back() {
    let cluster = cluster(2, 2);
    let producer = builder(&cluster)
        .buffer_memory(4 << 20)
        .request_timeout(millis(200))
        .delivery_timeout(millis(300))
        .backoff(RejectRecords)
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    (0..2).for_each(|partition| goes_on(&topic, partition, "warm"));
    for _ in 0..3 {
        (1..=2).for_each(|id| cluster.pause_broker(id));
        let mut deliveries = Vec::new();
        while let Ok(delivery) = topic.send_record(to(0, &"x".repeat(10_000))) {
            deliveries.push(delivery);
        }
        while let Ok(delivery) = topic.send_record(to(1, &"x".repeat(100))) {
            deliveries.push(delivery);
        }
        deliveries.into_iter().for_each(|delivery| drop(failed(delivery)));
        // Also while the broker still stands still: its connection has timed out.
        eventually("room comes back", || producer.memory().free == producer.memory().capacity);
        (1..=2).for_each(|id| cluster.resume_broker(id));
        eventually("it goes on", || {
            let delivery = topic.send_record(to(0, "after")).unwrap();
            outcome(delivery).is_ok()
        });
    }
}

#[test]
fn an_idle_connection_is_closed_and_made_again() {
    let cluster = cluster(1, 1);
    let producer =
        builder(&cluster).configure(|c| c.connections_max_idle = millis(50)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for _ in 0..3 {
        acked(topic.send((), "v").unwrap());
        eventually("the idle one is closed", || cluster.stats().connections_open() <= 1);
    }
    assert!(cluster.stats().broker(1).connections_accepted >= 4);
    assert_eq!(cluster.stats().duplicates(), 0);
}

#[test]
fn a_connection_that_the_broker_closes_while_idle_is_no_error() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).configure(|c| c.retries = 0).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    for _ in 0..3 {
        cluster.stop_broker(1);
        cluster.restart_broker(1).unwrap();
        // What is sent before it has noticed may be lost with the connection; later ones are not.
        drop(outcome(topic.send((), "v").unwrap()));
        acked(topic.send((), "v").unwrap());
    }
}

#[test]
fn tasks_that_wait_for_stashed_records_are_woken() {
    let cluster = cluster(1, 3);
    cluster.pause_broker(1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let delivery = topic.send_record(to(n % 3, "v")).unwrap();
            let unwanted = topic.send_record(to(n % 3, "unwanted")).unwrap();
            let (sender, receiver) = std::sync::mpsc::channel();
            let task = std::thread::spawn(move || {
                let mut delivery = delivery;
                sender.send(delivery.wait_timeout(Duration::ZERO).is_none()).unwrap();
                block_on(delivery)
            });
            assert!(receiver.recv().unwrap(), "it waits");
            drop(unwanted);
            task
        })
        .collect();
    cluster.resume_broker(1);
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.join().unwrap().unwrap().partition(), n as i32 % 3);
    }
    close(&producer);
    let stored: i64 = (0..3).map(|p| cluster.high_watermark("t", p)).sum();
    assert_eq!(stored, 80);
}

#[test]
fn a_thousand_topics_at_once() {
    let cluster = EmbeddedCluster::builder().brokers(2).auto_create_topics(true).start().unwrap();
    let producer = builder(&cluster).allow_auto_create_topics(true).build().unwrap();
    let deliveries: Vec<_> = (0..1_000)
        .map(|n| producer.topic(&format!("topic-{n}")).unwrap().send("k", "v").unwrap())
        .collect();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(acked(delivery).to_string(), format!("topic-{n}-0@0"));
    }
    close(&producer);
}

#[test]
fn threads_that_make_the_same_topic_get_the_same() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    drop(producer.topic("t").unwrap().send((), "v").unwrap());
                }
            });
        }
    });
    close(&producer);
    let records = cluster.records("t", 0);
    assert_eq!(records.len(), 800);
    assert!(records.iter().all(|record| i64::from(record.sequence) == record.offset));
}

#[test]
fn a_big_record_in_a_tight_pool_with_compression() {
    let cluster = cluster(3, 6);
    let producer = builder(&cluster)
        .buffer_memory(3 << 20)
        .compression(Compression::Lz4 { level: 1 })
        .event_loops(EventLoops::per_broker().unpinned())
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    let big = vec![b'x'; 1_000_000];
    let deliveries: Vec<_> = (0..30)
        .map(|n| topic.send_record(Record::new().value(&big).partition(n % 6)).unwrap())
        .collect();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
}

#[test]
fn a_peer_that_is_no_kafka_costs_a_connection_only() {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let server = std::thread::spawn(move || {
        let answers: [&[u8]; 4] = [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            &[0xff; 64],
            // What a TLS port answers.
            &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50],
        ];
        for n in 0.. {
            let (mut socket, _) = listener.accept().unwrap();
            if stopped.load(std::sync::atomic::Ordering::SeqCst) {
                return;
            }
            let _ = socket.write_all(answers[n % 4]);
        }
    });
    let producer = Producer::builder(&address.to_string())
        .request_timeout(millis(200))
        .delivery_timeout(millis(500))
        .configure(|c| c.pinning = false)
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    eventually("the error names it", || {
        let error = failed(topic.send((), "v").unwrap());
        assert_eq!(error.certainty(), Certainty::NotWritten);
        error.to_string().contains(&address.to_string())
    });
    // A right one beside it is found.
    let cluster = cluster(1, 1);
    let both = format!("{address},{}", cluster.bootstrap_servers());
    let producer = Producer::builder(&both).build().unwrap();
    acked(producer.topic("t").unwrap().send((), "v").unwrap());
    drop(producer);
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    drop(std::net::TcpStream::connect(address));
    server.join().unwrap();
}

#[test]
fn a_close_while_brokers_are_away_does_not_wait_for_their_backoff() {
    let cluster = cluster(2, 2);
    let producer = patient(&cluster).configure(|c| {
        c.reconnect_backoff = FAR;
        c.reconnect_backoff_max = FAR;
    });
    let producer = producer.build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    cluster.stop_broker(1);
    let gone = topic.send_record(to(0, "v")).unwrap();
    acked(topic.send_record(to(1, "v")).unwrap());
    let start = Instant::now();
    producer.close(millis(300)).wait().unwrap_err();
    assert!(start.elapsed() < LONG);
    assert!(matches!(*failed(gone).cause(), DeliveryErrorCause::Closed { .. }));
}

#[test]
fn the_lowest_watermarks_there_are() {
    let cluster = cluster(1, 3);
    let producer = builder(&cluster).watermarks(0, 1).build().unwrap();
    let topic = producer.topic("t").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let topic = &topic;
            scope.spawn(move || {
                for _ in 0..200 {
                    drop(topic.send_record(to(thread, "v")).unwrap());
                }
            });
        }
    });
    close(&producer);
    assert_eq!(cluster.stats().records(), 600);
}

#[test]
fn f22_a_name_with_several_addresses_is_tried_for_all_of_them() {
    // It is ::1 too on most systems, where nobody listens.
    let cluster = cluster(1, 1);
    let list = format!("localhost:{}", cluster.address(1).port());
    let producer = Producer::builder(&list).build().unwrap();
    acked(producer.topic("t").unwrap().send((), "v").unwrap());
}

#[test]
fn acks_of_none_resolve_while_the_broker_stands_still() {
    let cluster = cluster(1, 2);
    let producer = builder(&cluster)
        .acks(Acks::None)
        .buffer_memory(16 << 20)
        .request_timeout(millis(300))
        .delivery_timeout(millis(500))
        .backoff(RejectRecords)
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    (0..2).for_each(|partition| goes_on(&topic, partition, "warm"));
    cluster.pause_broker(1);
    let big = "x".repeat(100_000);
    let mut deliveries = Vec::new();
    // More than the system's buffers take.
    while deliveries.len() < 2_000 {
        match topic.send_record(to(deliveries.len() as i32 % 2, &big)) {
            Ok(delivery) => deliveries.push(delivery),
            Err(_) => break,
        }
    }
    let (mut good, mut bad) = (0, 0);
    for delivery in deliveries {
        match outcome(delivery) {
            Ok(at) => {
                assert_eq!(at.offset(), None);
                good += 1;
            }
            Err(error) => {
                let timed_out = matches!(error.cause(), DeliveryErrorCause::TimedOut { .. });
                assert!(timed_out, "{error}");
                bad += 1;
            }
        }
    }
    assert!(good > 0 && bad > 0, "{good} written, {bad} not");
    cluster.resume_broker(1);
    eventually("it goes on", || {
        topic.send((), "after").is_ok_and(|delivery| outcome(delivery).is_ok())
    });
    eventually("room comes back", || producer.memory().free == producer.memory().capacity);
    close(&producer);
}

#[test]
fn a_strategy_may_ask_the_producer() {
    let cluster = cluster(1, 1);
    let slot = Arc::new(std::sync::OnceLock::<Producer>::new());
    let asked = slot.clone();
    let strategy = move |_: &tidegate::Pressure| {
        let producer = asked.get().unwrap();
        assert!(!producer.broker_levels().is_empty() && producer.memory().capacity > 0);
        drop(producer.topic("t").unwrap());
        tidegate::Backoff::Drop
    };
    let producer = builder(&cluster).backoff(strategy).watermarks(0, 10_000).build().unwrap();
    // The strategy holds a clone: it is closed by hand below.
    assert!(slot.set(producer.clone()).is_ok());
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    while producer.dropped_records() == 0 {
        drop(topic.send((), "v").unwrap());
    }
    cluster.resume_broker(1);
    close(&producer);
}
