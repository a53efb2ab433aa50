//! What a producer tells of itself: why a record waits, whether all is well, and what was counted.

use tidegate::embedded::{EmbeddedClusterBuilder, Fault};
use tidegate::{
    Acks, Compression, ConnectionState, DropRecords, HealthReason, HealthState, Plain, ProblemKind,
    WaitsFor,
};

use super::*;

/// Waits until the record waits for what `is_it` says, and returns the sentence.
fn waits_for(delivery: &Delivery, is_it: impl Fn(&WaitsFor) -> bool) -> String {
    let mut told = String::new();
    let start = Instant::now();
    loop {
        let status = delivery.status();
        if status.waits_for.as_ref().is_some_and(&is_it) {
            return status.to_string();
        }
        told.clone_from(&status.to_string());
        assert!(start.elapsed() < LONG, "the last status was: {told}");
        std::thread::sleep(millis(1));
    }
}

/// Waits until the producer's health is this and has such a reason, and returns its text.
fn is_health(
    producer: &Producer,
    state: HealthState,
    has: impl Fn(&HealthReason) -> bool,
) -> String {
    let start = Instant::now();
    loop {
        let health = producer.health();
        if health.state == state && health.reasons.iter().any(&has) {
            return health.to_string();
        }
        assert!(start.elapsed() < LONG, "the last health was: {health}");
        std::thread::sleep(millis(1));
    }
}

fn is_ready(producer: &Producer) {
    eventually("the producer is ready", || producer.health().state == HealthState::Ready);
    assert_eq!(producer.health().to_string(), "ready");
}

#[test]
fn a_producer_that_has_delivered_something_is_not_down() {
    let cluster = cluster(1, 1);
    for _ in 0..100 {
        let producer = patient(&cluster).build().unwrap();
        warm(&producer.topic("t").unwrap(), 1);
        let health = producer.health();
        assert_ne!(health.state, HealthState::Down, "{health}");
    }
}

#[test]
fn a_producer_that_sends_nothing_is_down_soon_after_its_brokers_are() {
    let cluster = cluster(2, 1);
    let producer = patient(&cluster).build().unwrap();
    warm(&producer.topic("t").unwrap(), 1);
    is_ready(&producer);
    for broker in cluster.broker_ids() {
        cluster.stop_broker(broker);
    }
    let health = is_health(&producer, HealthState::Down, |it| {
        matches!(it, HealthReason::Metadata { answered: Some(_), problem: Some(_), .. })
    });
    assert!(health.contains("the last answer about leaders is"), "{health}");
    for broker in cluster.broker_ids() {
        cluster.restart_broker(broker).unwrap();
    }
    is_ready(&producer);
}

#[test]
fn a_record_for_a_cluster_that_is_away_says_whom_was_asked_and_what_happened() {
    // Nothing listens there, whatever ports other tests take.
    let port = "127.0.0.1:1";
    let producer = Producer::builder(port)
        .configure(|config| config.pinning = false)
        .delivery_timeout(2 * FAR)
        .build()
        .unwrap();
    let delivery = producer.topic("t").unwrap().send("k", "v").unwrap();
    let told = waits_for(&delivery, |it| {
        matches!(it, WaitsFor::Metadata { problem: Some(problem), .. }
            if problem.kind() == ProblemKind::Refused)
    });
    assert!(told.starts_with("t: no broker has said what partitions the topic has"), "{told}");
    assert!(told.contains(port), "{told}");
    let health = is_health(&producer, HealthState::Down, |it| {
        matches!(it, HealthReason::Metadata { answered: None, problem: Some(_), .. })
    });
    assert!(health.starts_with("down: no broker has answered yet"), "{health}");
    let report = producer.report().to_string();
    assert!(report.contains("metadata: none yet"), "{report}");
    assert!(report.contains("t: records wait for"), "{report}");
    let closed = producer.close(Duration::ZERO).wait().unwrap_err();
    assert!(closed.to_string().contains("last cause: "), "{closed}");
    assert_eq!(producer.health().to_string(), "down: the producer is closed");
    assert!(delivery.status().waits_for.is_none(), "{}", delivery.status());
    let error = failed(delivery);
    assert!(error.to_string().contains(&format!("last cause: {port}")), "{error}");
    assert_eq!(error.problem().map(|problem| problem.kind()), Some(ProblemKind::Refused));
}

#[test]
fn a_record_for_a_topic_that_does_not_exist_says_so() {
    let cluster = cluster(2, 1);
    let producer =
        builder(&cluster).configure(|config| config.topic_unknown_max = FAR).build().unwrap();
    acked(producer.topic("t").unwrap().send("k", "v").unwrap());
    is_ready(&producer);
    let delivery = producer.topic("misspelt").unwrap().send("k", "v").unwrap();
    let told = waits_for(&delivery, |it| matches!(it, WaitsFor::Topic { .. }));
    assert!(told.starts_with("misspelt: brokers say for "), "{told}");
    let health = is_health(&producer, HealthState::Degraded, |it| {
        matches!(it, HealthReason::UnknownTopics { count: 1, .. })
    });
    assert_eq!(health, "degraded: records wait for unknown topics: misspelt");
    assert!(producer.report().topics.iter().any(|topic| &*topic.topic == "misspelt"));
    cluster.create_topic("misspelt", 1);
    acked(delivery);
    is_ready(&producer);
}

#[test]
fn a_record_without_a_leader_says_so_and_health_counts_the_partitions() {
    let cluster = cluster(2, 2);
    let producer = patient(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    cluster.set_leaderless("t", 1);
    let delivery = topic.send_record(to(1, "v")).unwrap();
    let told = waits_for(&delivery, |it| matches!(it, WaitsFor::Leader));
    assert!(told.starts_with("t-1: the partition has no leader"), "{told}");
    let health = is_health(&producer, HealthState::Degraded, |it| {
        matches!(it, HealthReason::Leaderless { partitions: 1 })
    });
    assert_eq!(health, "degraded: 1 partition has no leader");
    cluster.move_leader("t", 1, cluster.broker_ids()[0]);
    acked(delivery);
    is_ready(&producer);
}

#[test]
fn a_record_for_a_broker_that_is_down_names_it_and_the_others_stay_reachable() {
    let cluster = cluster(2, 2);
    let producer = patient(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let down = cluster.leader("t", 0).unwrap();
    cluster.stop_broker(down);
    let delivery = topic.send_record(to(0, "v")).unwrap();
    let told = waits_for(&delivery, |it| {
        matches!(it, WaitsFor::Connection { broker, failures: 2.., problem: Some(problem), .. }
            if *broker == down && problem.kind() == ProblemKind::Refused)
    });
    assert!(told.contains(&format!("t-0: broker {down} at ")), "{told}");
    assert!(told.contains("attempts failed"), "{told}");
    let health = is_health(
        &producer,
        HealthState::Degraded,
        |it| matches!(it, HealthReason::Broker { broker, failures: 2.., .. } if *broker == down),
    );
    assert!(health.contains(&format!("broker {down} at ")), "{health}");
    let report = producer.report();
    let broker = report.brokers.iter().find(|broker| broker.broker == down).unwrap();
    assert!(broker.state != ConnectionState::Ready && broker.problem.is_some(), "{broker}");
    let partition = report.partitions.iter().find(|it| it.partition == 0).unwrap();
    assert_eq!((partition.leader, partition.batches_waiting), (Some(down), 1), "{partition}");
    // Another producer, which is closed instead, tells the same.
    let other = patient(&cluster).build().unwrap();
    let waits = other.topic("t").unwrap().send_record(to(0, "v")).unwrap();
    waits_for(&waits, |it| matches!(it, WaitsFor::Connection { failures: 1.., .. }));
    let closed = other.close(Duration::ZERO).wait().unwrap_err();
    let error = failed(waits).to_string();
    let words = format!("last cause: broker {down} at ");
    assert!(error.contains(&words) && closed.to_string().contains(&words), "{error}; {closed}");
    cluster.restart_broker(down).unwrap();
    acked(delivery);
    is_ready(&producer);
}

#[test]
fn a_record_of_a_producer_that_is_not_let_in_names_the_login() {
    let cluster: EmbeddedClusterBuilder = EmbeddedCluster::builder().topic("t", 1);
    let cluster = cluster.user("alice", "alice-secret").start().unwrap();
    let login = Plain::new("alice", "secret-but-wrong");
    let producer = builder(&cluster).sasl(login).delivery_timeout(2 * FAR).build().unwrap();
    let delivery = producer.topic("t").unwrap().send("k", "v").unwrap();
    let is_refused = |problem: &tidegate::Problem| problem.kind() == ProblemKind::Authentication;
    let told = waits_for(
        &delivery,
        |it| matches!(it, WaitsFor::Metadata { problem: Some(problem), .. } if is_refused(problem)),
    );
    assert!(told.contains("the broker refused the login") && !told.contains("secret"), "{told}");
    let health = is_health(&producer, HealthState::Down, |it| match it {
        HealthReason::Metadata { problem: Some(problem), .. } => is_refused(problem),
        _ => false,
    });
    assert!(health.contains("invalid credentials") && !health.contains("secret"), "{health}");
    producer.close(Duration::ZERO).wait().unwrap_err();
}

#[test]
fn a_record_of_a_throttled_producer_says_how_long_the_pause_is() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script([Fault::throttle(60_000)]);
    warm(&topic, 1);
    let delivery = topic.send("k", "v").unwrap();
    let told = waits_for(
        &delivery,
        |it| matches!(it, WaitsFor::Throttle { left, .. } if *left > secs(30)),
    );
    assert!(told.contains("asked for a pause (a quota)"), "{told}");
    is_health(
        &producer,
        HealthState::Degraded,
        |it| matches!(it, HealthReason::Throttled { left, .. } if *left > secs(30)),
    );
    let broker = &producer.metrics().brokers[0];
    assert_eq!((broker.throttles, broker.throttle_time), (1, secs(60)));
    producer.close(Duration::ZERO).wait().unwrap_err();
}

#[test]
fn a_record_behind_a_full_window_and_one_in_flight_are_told_apart() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster)
        .configure(|config| (config.max_in_flight, config.enable_idempotence) = (1, Some(false)))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let first = topic.send("k", "1").unwrap();
    let told = waits_for(&first, |it| matches!(it, WaitsFor::Answer { is_written: true, .. }));
    assert!(told.starts_with("t-0: broker 1 was asked "), "{told}");
    let second = topic.send("k", "2").unwrap();
    let told = waits_for(&second, |it| {
        matches!(it, WaitsFor::Turn { requests_in_flight: 1, batches_in_flight: 1, .. })
    });
    assert!(told.starts_with("t-0: its turn: broker 1 has 1 request"), "{told}");
    let partition = &producer.report().partitions[0];
    assert_eq!((partition.batches_waiting, partition.batches_in_flight), (1, 1), "{partition}");
    cluster.resume_broker(1);
    acked(first);
    acked(second);
}

#[test]
fn a_record_that_lingers_says_for_how_long() {
    let cluster = cluster(1, 1);
    let producer = lingering(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let delivery = topic.send("k", "v").unwrap();
    let told = waits_for(&delivery, |it| matches!(it, WaitsFor::Linger { left } if *left > LONG));
    assert!(told.contains("more records may join its batch") && told.contains("it fails in"));
    let open_for = producer.metrics().topics[0].partitions[0].open_for;
    assert!(open_for.is_some());
    assert_eq!(producer.health().state, HealthState::Ready, "lingering is no trouble");
    producer.flush().wait().unwrap();
    assert!(delivery.status().waits_for.is_none());
    acked(delivery);
}

#[test]
fn a_record_whose_acknowledgement_was_lost_may_be_in_the_log_already() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script([Fault::close_after_append(), Fault::silence()]);
    let delivery = topic.send("k", "v").unwrap();
    let told = waits_for(&delivery, |it| matches!(it, WaitsFor::Answer { is_written: true, .. }));
    eventually("the record is sent again", || delivery.status().attempts == 2);
    let status = delivery.status();
    assert!(status.maybe_written && status.last_problem.is_some(), "{status}");
    let again = status.to_string();
    assert!(again.contains("; attempt 2; before: "), "{told}, then {again}");
    assert!(again.contains("; it may be in the log already; it fails in "), "{again}");
    producer.close(Duration::ZERO).wait().unwrap_err();
}

#[test]
fn a_record_that_is_sent_again_after_an_error_names_the_error_and_the_pause() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster)
        .configure(|config| (config.retry_backoff, config.retry_backoff_max) = (FAR, FAR))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    // NOT_ENOUGH_REPLICAS_AFTER_APPEND
    cluster.script([Fault::produce_error("t", 0, 20)]);
    let delivery = topic.send("k", "v").unwrap();
    let told = waits_for(
        &delivery,
        |it| matches!(it, WaitsFor::Backoff { left, problem: Some(_) } if *left > LONG),
    );
    assert!(told.contains("NOT_ENOUGH_REPLICAS_AFTER_APPEND"), "{told}");
    producer.close(Duration::ZERO).wait().unwrap_err();
}

#[test]
fn a_record_without_a_producer_id_says_so_and_the_producer_is_down() {
    let cluster = cluster(1, 1);
    // COORDINATOR_LOAD_IN_PROGRESS
    cluster.script([Fault::init_producer_id_error(14).times(usize::MAX)]);
    let producer = patient(&cluster).build().unwrap();
    let delivery = producer.topic("t").unwrap().send("k", "v").unwrap();
    let told = waits_for(&delivery, |it| matches!(it, WaitsFor::ProducerId { problem: Some(_) }));
    assert!(told.contains("COORDINATOR_LOAD_IN_PROGRESS"), "{told}");
    let is_it = |it: &HealthReason| matches!(it, HealthReason::ProducerId { problem: Some(_) });
    is_health(&producer, HealthState::Down, is_it);
    cluster.clear_faults();
    acked(delivery);
    is_ready(&producer);
}

#[test]
fn asked_in_a_waker_nothing_waits_for_the_loop_that_asks() {
    struct Asks(std::sync::Mutex<Option<(Producer, Delivery)>>, std::sync::mpsc::Sender<Duration>);
    impl Wake for Asks {
        fn wake(self: Arc<Self>) {
            if let Some((producer, delivery)) = self.0.lock().unwrap().take() {
                let start = Instant::now();
                let _ = (delivery.status(), producer.report(), producer.health());
                self.1.send(start.elapsed()).unwrap();
            }
        }
    }
    let cluster = cluster(1, 1);
    let producer = lingering(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let (sender, took) = std::sync::mpsc::channel();
    let mut awaited = topic.send("k", "1").unwrap();
    let flush = producer.flush();
    let other = topic.send("k", "2").unwrap();
    let asks = Arc::new(Asks(std::sync::Mutex::new(Some((producer.clone(), other))), sender));
    let waker = Waker::from(asks);
    if std::pin::Pin::new(&mut awaited).poll(&mut Context::from_waker(&waker)).is_pending() {
        flush.wait().unwrap();
        let took = took.recv_timeout(LONG).unwrap();
        assert!(took < millis(95), "it waited for itself: {took:?}");
    }
    close(&producer);
}

#[test]
fn what_is_counted_is_what_happened() {
    let cluster = cluster(2, 4);
    let producer = lingering(&cluster).compression(Compression::Lz4 { level: 9 }).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let text = "the same words again and again ".repeat(30);
    let mut deliveries = Vec::new();
    for n in 0..400 {
        deliveries.push(topic.send_record(to(n % 4, &text)).unwrap());
    }
    producer.flush().wait().unwrap();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    // Refused for good: MESSAGE_TOO_LARGE cannot be mended for a single record.
    cluster.script([Fault::produce_error("t", 2, 29)]);
    let refused = topic.send_record(to(2, "no")).unwrap();
    producer.flush().wait().unwrap();
    failed(refused);

    let metrics = producer.metrics();
    let records = metrics.records;
    assert_eq!((records.records, records.acked_records, records.failed_records), (401, 400, 1));
    assert_eq!((metrics.failed.total, metrics.failed.refused), (1, 1));
    assert_eq!(metrics.topics.len(), 1);
    assert_eq!(metrics.topics[0].records, records);
    let per_partition: Vec<_> =
        metrics.topics[0].partitions.iter().map(|it| it.records.acked_records).collect();
    assert_eq!(per_partition, [100; 4]);
    let bytes = 400 * text.len() as u64;
    assert!(records.bytes > bytes && records.bytes < bytes + bytes / 10, "{records:?}");
    assert!(records.acked_bytes < bytes / 4, "they were compressed: {records:?}");
    let (mut requests, mut batches, mut sent) = (0, 0, 0);
    for broker in &metrics.brokers {
        assert!(broker.is_connected && broker.connects == 1, "{broker:?}");
        assert_eq!(broker.responses, broker.requests);
        assert_eq!(broker.request_latency_us.count(), broker.responses);
        assert_eq!(broker.in_flight, 0);
        assert!(broker.packed_bytes < broker.plain_bytes / 4);
        requests += broker.requests;
        batches += broker.batch_records.count();
        sent += broker.request_records;
    }
    assert_eq!((requests, sent), (metrics.requests, 401));
    assert_eq!(batches, records.batches);
    close(&producer);
    assert_eq!(producer.metrics().records.acked_records, 400, "after the close too");
}

#[test]
fn a_retry_a_loss_and_a_drop_are_counted_where_they_happened() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster)
        .acks(Acks::All)
        .backoff(DropRecords)
        .configure(|config| {
            (config.high_watermark, config.low_watermark) = (Some(128 << 10), Some(64 << 10))
        })
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script([Fault::close_before_response()]);
    warm(&topic, 1);
    let metrics = producer.metrics();
    assert_eq!((metrics.records.retries, metrics.connection_failures), (1, 1));
    assert_eq!(metrics.connects, 2);
    cluster.pause_broker(1);
    let big = "x".repeat(10_000);
    let deliveries: Vec<_> = (0..40).map(|_| topic.send((), &big).unwrap()).collect();
    let dropped = producer.dropped_records();
    assert!(dropped > 0);
    let metrics = producer.metrics();
    assert_eq!(metrics.topics[0].partitions[0].records.dropped_records, dropped);
    let health = is_health(&producer, HealthState::Degraded, |it| {
        matches!(it, HealthReason::Unwritable { high: 131_072, .. })
    });
    assert!(health.contains("takes records slower than they are sent"), "{health}");
    cluster.resume_broker(1);
    let acked = deliveries.into_iter().map(outcome).filter(Result::is_ok).count();
    assert_eq!(acked as u64 + dropped, 40);
    is_ready(&producer);
}

#[test]
fn the_page_for_prometheus_has_each_family_once_and_sums_that_agree() {
    let cluster = cluster(2, 2);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let metrics = producer.metrics();
    let page = metrics.prometheus().to_string();
    let mut families = std::collections::BTreeSet::new();
    for line in page.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(family) => {
                let (name, _) = family.split_once(' ').unwrap();
                assert!(families.insert(name.to_owned()), "{name} is there twice");
            }
            None if line.starts_with('#') => {}
            None => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                value.parse::<f64>().unwrap();
                let name = name.split('{').next().unwrap();
                let bare =
                    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let known = families.contains(name) || bare.is_some_and(|it| families.contains(it));
                assert!(known, "{line} has no TYPE before it");
            }
        }
    }
    let value = |page: &str, start: &str| {
        let line = page.lines().find(|line| line.starts_with(start));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).expect(start)
    };
    assert_eq!(
        value(&page, "tidegate_acked_records_total{client_id=\"tidegate\",topic=\"t\"}"),
        2.0
    );
    let broker = metrics.brokers[0].broker;
    let labels = format!("client_id=\"tidegate\",broker=\"{broker}\"");
    let latency = format!("tidegate_broker_request_latency_seconds_count{{{labels}}}");
    assert_eq!(value(&page, &latency), metrics.brokers[0].responses as f64);
    let infinite =
        format!("tidegate_broker_request_latency_seconds_bucket{{{labels},le=\"+Inf\"}}");
    assert_eq!(value(&page, &infinite), metrics.brokers[0].responses as f64);
    let single = format!("tidegate_broker_batch_records_bucket{{{labels},le=\"1\"}}");
    assert_eq!(value(&page, &single), metrics.brokers[0].batch_records.count() as f64);
    let detailed = metrics.prometheus().with_partitions().to_string();
    let each = "tidegate_acked_records_total{client_id=\"tidegate\",topic=\"t\",partition=\"1\"}";
    assert_eq!(value(&detailed, each), 1.0);
}
