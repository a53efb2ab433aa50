//! What goes wrong on the way, and what the user sees of it.

use tidegate::embedded::Fault;
use tidegate::{Acks, Certainty, DeliveryErrorCause, ErrorCode, TopicConfig};

use super::*;

/// One partition, warm, 20 small batches on their way at once, and the values they must leave.
fn send_batches(topic: &Topic, range: std::ops::Range<u32>) -> Vec<Delivery> {
    range.map(|n| topic.send_record(to(0, &n.to_string())).unwrap()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Small batches, so that many are in flight; quick retries, so that tests are.
fn quick(cluster: &EmbeddedCluster) -> ProducerBuilder {
    builder(cluster).batch_size(0).configure(|c| {
        c.retry_backoff = millis(5);
        c.retry_backoff_max = millis(20);
        c.reconnect_backoff = millis(5);
        c.reconnect_backoff_max = millis(20);
        c.metadata_min_refresh = millis(10);
    })
}

/// Sends 200 batches through `faults`, then expects each record once, in order, and where its
/// delivery says.
fn survives(name: &str, faults: impl IntoIterator<Item = Fault>) {
    let cluster = cluster(1, 1);
    let producer = quick(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send_record(to(0, "0")).unwrap());
    cluster.script(faults);
    let deliveries = send_batches(&topic, 1..200);
    for (n, delivery) in deliveries.into_iter().enumerate() {
        let at = outcome(delivery).unwrap_or_else(|error| panic!("{name}: {error}"));
        let offset = at.offset();
        assert!(offset.is_none() || offset == Some(n as i64 + 1), "{name}: {offset:?} for {n}");
    }
    close(&producer);
    assert_eq!(cluster.faults_left(), 0, "{name}: the faults happened");
    assert_eq!(values(&cluster.records("t", 0)), numbers(0..200), "{name}");
    let records = cluster.records("t", 0);
    let in_order = records.iter().all(|r| i64::from(r.sequence) == r.offset);
    assert!(in_order || records.iter().any(|r| r.producer_epoch > 0), "{name}: sequences");
    assert_eq!(producer.memory().free, producer.memory().capacity, "{name}");
}

#[test]
fn retriable_errors_are_retried_in_order_and_once() {
    // Storage, leader not available, not leader, timeout, network, too few replicas, fenced epoch.
    for code in [56, 5, 6, 7, 13, 19, 3, 74] {
        survives(&format!("error {code}"), [Fault::produce_error("t", 0, code).times(3)]);
    }
}

#[test]
fn c11_errors_after_the_append_double_nothing() {
    for code in [7, 20, 13] {
        let fault = Fault::produce_error("t", 0, code).after_append().times(4);
        survives(&format!("error {code} after the append"), [fault]);
    }
}

#[test]
fn a_mixture_of_errors_doubles_and_reorders_nothing() {
    for round in 0..4 {
        let mut faults = Vec::new();
        for n in 0..12 {
            faults.push(match (n + round) % 6 {
                0 => Fault::produce_error("t", 0, 7).after_append(),
                1 => Fault::produce_error("t", 0, 19),
                2 => Fault::omit_partition(),
                3 => Fault::close_after_append(),
                4 => Fault::close_before_response(),
                _ => Fault::omit_partition().after_append(),
            });
        }
        survives(&format!("mixture {round}"), faults);
    }
}

#[test]
fn a_lost_connection_loses_and_doubles_nothing() {
    survives("closed before", [Fault::close_before_response().times(3)]);
    survives("closed after", [Fault::close_after_append().times(3)]);
    survives("closed on accept", [Fault::close_before_response(), Fault::close_on_accept(3)]);
}

#[test]
fn c22_a_partition_that_a_response_leaves_out_is_sent_again() {
    survives("omitted", [Fault::omit_partition().times(3)]);
    survives("omitted after the append", [Fault::omit_partition().after_append().times(3)]);
}

#[test]
fn c07_a_sequence_gap_at_the_broker_begins_a_new_epoch() {
    survives("out of order", [Fault::produce_error("t", 0, 45)]);
    survives("unknown producer", [Fault::produce_error("t", 0, 59)]);
    survives("invalid epoch", [Fault::produce_error("t", 0, 47)]);
}

#[test]
fn c06_a_duplicate_is_a_success_without_offset() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(Fault::produce_error("t", 0, 46).after_append());
    let at = acked(topic.send_record(to(0, "v")).unwrap());
    assert_eq!((at.offset(), at.to_string().as_str()), (None, "t-0@?"));
    assert_eq!(acked(topic.send_record(to(0, "w")).unwrap()).offset(), Some(2));
}

#[test]
fn fatal_errors_fail_at_once_with_code_and_words() {
    let cluster = cluster(1, 2);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    for code in [29, 10, 87, 31, -1, 9_999] {
        cluster.script(Fault::produce_error("t", 0, code).message("the broker's own words"));
        let error = failed(topic.send_record(to(0, "fails")).unwrap());
        let DeliveryErrorCause::Broker { code: got, message } = error.cause() else {
            panic!("{error}")
        };
        assert_eq!((*got, message.as_deref()), (ErrorCode(code), Some("the broker's own words")));
        assert_eq!((error.partition(), error.broker()), (Some(0), Some(1)));
        // A broker that says that it failed, or what nobody understands, proves nothing.
        let proves = ErrorCode(code).is_known() && code != -1;
        let certainty = if proves { Certainty::NotWritten } else { Certainty::Unknown };
        assert_eq!(error.certainty(), certainty, "{code}");
        let text = error.to_string();
        assert!(text.contains("t-0") && text.contains("the broker's own words"), "{text}");
        // The lane goes on, and the other was never in trouble.
        acked(topic.send_record(to(0, "goes on")).unwrap());
        acked(topic.send_record(to(1, "fine")).unwrap());
    }
    close(&producer);
    assert!(!values(&cluster.records("t", 0)).contains(&"fails".to_owned()));
}

#[test]
fn a_fatal_error_among_many_in_flight_fails_only_its_own_batch() {
    let cluster = cluster(1, 1);
    let producer = quick(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    cluster.script(Fault::produce_error("t", 0, 87));
    let deliveries = send_batches(&topic, 0..50);
    cluster.resume_broker(1);
    let outcomes: Vec<_> = deliveries.into_iter().map(outcome).collect();
    let failures = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert_eq!(failures, 1, "{outcomes:?}");
    let failed_at = outcomes.iter().position(Result::is_err).unwrap();
    let mut expected = numbers(0..50);
    expected.remove(failed_at);
    assert_eq!(values(&cluster.records("t", 0))[1..], expected);
}

#[test]
fn a_batch_too_large_for_the_broker_fails_with_its_code() {
    let cluster =
        EmbeddedCluster::builder().topic("t", 1).message_bytes_max(10_000).start().unwrap();
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let error = failed(topic.send((), vec![0_u8; 20_000]).unwrap());
    let DeliveryErrorCause::Broker { code, .. } = error.cause() else { panic!("{error}") };
    assert_eq!(*code, ErrorCode::MESSAGE_TOO_LARGE);
    acked(topic.send((), "small").unwrap());
}

#[test]
fn a_silent_broker_is_given_up_and_asked_again() {
    for after_append in [false, true] {
        let cluster = cluster(1, 1);
        let producer = quick(&cluster).request_timeout(millis(300)).build().unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 1);
        let fault = Fault::silence();
        cluster.script(if after_append { fault.after_append() } else { fault });
        let start = Instant::now();
        // Alone: the answer to a later request would tell at once that one is missing.
        acked(topic.send_record(to(0, "0")).unwrap());
        assert!(start.elapsed() >= millis(300));
        cluster.script(Fault::silence());
        let deliveries = send_batches(&topic, 1..20);
        deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
        assert_eq!(values(&cluster.records("t", 0))[1..], numbers(0..20));
    }
}

#[test]
fn a_record_times_out_as_unknown_if_it_was_sent() {
    let cluster = cluster(1, 1);
    let producer =
        quick(&cluster).request_timeout(millis(150)).delivery_timeout(millis(500)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    goes_on(&topic, 0, "warm");
    cluster.script(Fault::silence().times(1_000_000));
    let mut attempts = 0;
    in_time(|| {
        let requests = cluster.stats().broker(1).produce_requests;
        let start = Instant::now();
        attempts += 1;
        let error = failed(topic.send((), format!("v{attempts}")).unwrap());
        assert!(start.elapsed() >= millis(500));
        assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
        if cluster.stats().broker(1).produce_requests == requests {
            return false;
        }
        assert_eq!(error.certainty(), Certainty::Unknown);
        assert_eq!((error.partition(), error.broker()), (Some(0), Some(1)));
        let text = error.to_string();
        assert!(
            text.contains("delivery_timeout (delivery.timeout.ms) = 500ms")
                && text.contains("may have"),
            "{text}"
        );
        true
    });
    cluster.clear_faults();
    goes_on(&topic, 0, "after");
    close(&producer);
    let mut stored = values(&cluster.records("t", 0));
    // Several may have been sent of these, each its own record.
    stored.dedup_by(|a, b| a == b && !a.starts_with('v'));
    assert_eq!(stored.remove(0), "warm");
    assert_eq!(stored.pop().as_deref(), Some("after"));
    // What the broker came to read when it had its voice back may be there: nobody denied it.
    let once_each = stored.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(once_each && stored.iter().all(|value| value.starts_with('v')), "{stored:?}");
}

#[test]
fn a_record_times_out_as_not_written_if_it_was_never_sent() {
    let cluster = cluster(1, 1);
    let producer =
        quick(&cluster).request_timeout(millis(100)).delivery_timeout(millis(400)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    goes_on(&topic, 0, "warm");
    cluster.stop_broker(1);
    // The producer may not have noticed yet: the first may be on its way already.
    drop(outcome(topic.send((), "first").unwrap()));
    let start = Instant::now();
    let error = failed(topic.send((), "v").unwrap());
    let took = start.elapsed();
    assert!(took >= millis(400), "{took:?}");
    assert_eq!(error.certainty(), Certainty::NotWritten, "{error}");
    let DeliveryErrorCause::TimedOut { after, last } = error.cause() else { panic!("{error}") };
    assert_eq!(*after, millis(400));
    assert!(
        last.as_ref().is_some_and(|last| !last.message().is_empty()),
        "the error says why: {error}"
    );
    cluster.restart_broker(1).unwrap();
    goes_on(&topic, 0, "after");
}

#[test]
fn an_error_that_proves_nothing_was_written_times_out_so() {
    let cluster = cluster(1, 5);
    // It waits for its second attempt when it expires: an attempt that is under way proves nothing.
    let producer = quick(&cluster)
        .request_timeout(millis(100))
        .delivery_timeout(millis(300))
        .retry_policy(|_attempt: u32, _random: u64| millis(900))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    (0..5).for_each(|partition| goes_on(&topic, partition, "warm"));
    cluster.script(Fault::produce_error_anywhere(19).times(1_000_000));
    let mut partitions = 0..5;
    in_time(|| {
        let start = Instant::now();
        let partition = partitions.next().unwrap();
        let error = failed(topic.send_record(to(partition, "v")).unwrap());
        let answered = error.to_string().contains("NOT_ENOUGH_REPLICAS");
        if !answered && start.elapsed() > millis(400) {
            return false;
        }
        assert!(answered, "{error}");
        assert_eq!(error.certainty(), Certainty::NotWritten, "{error}");
        true
    });
    cluster.clear_faults();
    goes_on(&topic, 0, "after");
}

#[test]
fn without_retries_a_retriable_error_fails_at_once() {
    let cluster = cluster(1, 1);
    let producer = quick(&cluster).configure(|c| c.retries = 0).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(Fault::produce_error("t", 0, 7));
    let error = failed(topic.send((), "v").unwrap());
    let DeliveryErrorCause::Broker { code, .. } = error.cause() else { panic!("{error}") };
    assert_eq!((*code, error.certainty()), (ErrorCode::REQUEST_TIMED_OUT, Certainty::Unknown));
    cluster.script(Fault::close_after_append());
    let error = failed(topic.send((), "v").unwrap());
    assert!(matches!(error.cause(), DeliveryErrorCause::Disconnected(_)), "{error}");
    assert_eq!(error.certainty(), Certainty::Unknown);
    acked(topic.send((), "after").unwrap());
}

/// A leader that is not one any more has written nothing by itself; one whose disk failed may have,
/// and with acks=1 nobody but that leader knows.
#[test]
fn c11_with_acks_1_a_failed_disk_leaves_a_record_in_doubt_and_a_deposed_leader_does_not() {
    let cluster = cluster(1, 1);
    let producer = quick(&cluster).acks(Acks::Leader).configure(|c| c.retries = 0).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    for (code, certainty) in [
        (ErrorCode::KAFKA_STORAGE_ERROR, Certainty::Unknown),
        (ErrorCode::NOT_LEADER_OR_FOLLOWER, Certainty::NotWritten),
    ] {
        cluster.script(Fault::produce_error("t", 0, code.0));
        let error = failed(topic.send((), "v").unwrap());
        assert_eq!(*error.cause(), DeliveryErrorCause::Broker { code, message: None }, "{error}");
        assert_eq!(error.certainty(), certainty, "{error}");
    }
    acked(topic.send((), "after").unwrap());
}

#[test]
fn one_partition_in_trouble_does_not_hold_up_the_others() {
    let cluster = cluster(1, 3);
    let producer = quick(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    cluster.script(Fault::produce_error("t", 0, 19).times(1_000_000));
    let mut stuck = send_batches(&topic, 0..20);
    for n in 0..200 {
        acked(topic.send_record(to(1 + n % 2, "fine")).unwrap());
    }
    assert!(stuck.iter_mut().all(|delivery| delivery.try_take().is_none()));
    cluster.clear_faults();
    stuck.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_eq!(values(&cluster.records("t", 0))[1..], numbers(0..20));
}

#[test]
fn a_throttle_is_honoured() {
    let cluster = cluster(1, 1);
    let producer = quick(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(Fault::throttle(400));
    let start = Instant::now();
    acked(topic.send((), "throttled").unwrap());
    acked(topic.send((), "after").unwrap());
    assert!(start.elapsed() >= millis(400), "sent after {:?}", start.elapsed());
}

#[test]
fn f12_a_throttled_broker_with_full_buffers_is_not_taken_for_a_dead_one() {
    // The broker reads nothing for seven seconds, several times as long as the kernel is told to
    // wait for a peer that takes no byte; more was written than the buffers on the way hold.
    const LARGE: usize = 6 << 20;
    let cluster = EmbeddedCluster::builder()
        .brokers(1)
        .topic("t", 8)
        .message_bytes_max(2 * LARGE)
        .start()
        .unwrap();
    let producer = builder(&cluster)
        .enable_idempotence(false)
        .request_timeout(millis(2_000))
        .delivery_timeout(FAR)
        .buffer_memory(16 * LARGE)
        .configure(|config| config.max_request_size = 2 * LARGE)
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 8);
    let accepted = cluster.stats().broker(1).connections_accepted;
    cluster.script(Fault::throttle(7_000));
    let value = "x".repeat(LARGE);
    let sent: Vec<_> = (0..8).map(|n| topic.send_record(to(n, &value)).unwrap()).collect();
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    let stats = cluster.stats();
    assert_eq!(stats.broker(1).connections_accepted, accepted, "it was given up");
    assert_eq!(stats.records(), 8 + 8, "something was written twice");
}

#[test]
fn a_slow_answer_is_waited_for() {
    let cluster = cluster(1, 1);
    let producer = quick(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(Fault::delay(millis(200)).after_append());
    let start = Instant::now();
    acked(topic.send((), "slow").unwrap());
    assert!(start.elapsed() >= millis(200));
    assert_eq!((cluster.stats().duplicates(), cluster.records("t", 0).len()), (0, 2));
}

#[test]
fn a_producer_id_is_asked_for_until_there_is_one() {
    let cluster = cluster(1, 1);
    cluster.script([
        Fault::init_producer_id_error(15).times(2),
        Fault::close_before_response().api(22),
        Fault::init_producer_id_error(14),
    ]);
    let producer = quick(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send((), "v").unwrap());
    assert_eq!(cluster.faults_left(), 0);
}

#[test]
fn an_unanswered_request_for_a_producer_id_is_asked_again() {
    let cluster = cluster(1, 1);
    cluster.script(Fault::silence().api(22));
    let producer = quick(&cluster).request_timeout(millis(200)).build().unwrap();
    acked(producer.topic("t").unwrap().send((), "v").unwrap());
    let cluster = super::cluster(1, 1);
    cluster.script([Fault::silence().api(3), Fault::silence().api(18)]);
    let producer = quick(&cluster).request_timeout(millis(200)).build().unwrap();
    acked(producer.topic("t").unwrap().send((), "v").unwrap());
}

#[test]
fn a_producer_id_that_is_refused_is_named_when_records_time_out() {
    let cluster = cluster(1, 1);
    cluster.script(Fault::init_producer_id_error(31).times(1_000_000));
    let producer =
        quick(&cluster).request_timeout(millis(100)).delivery_timeout(millis(500)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    in_time(|| {
        let error = failed(topic.send((), "v").unwrap());
        assert_eq!(error.certainty(), Certainty::NotWritten);
        error.to_string().contains("CLUSTER_AUTHORIZATION_FAILED")
    });
}

#[test]
fn acks_of_none_survive_a_lost_connection() {
    let cluster = cluster(1, 1);
    let producer = quick(&cluster).acks(Acks::None).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(Fault::produce_error("t", 0, 6));
    for n in 0..20 {
        drop(outcome(topic.send((), n.to_string()).unwrap()));
    }
    // An acks=0 error closes the connection at real brokers; whatever happens, it goes on.
    eventually("records arrive again", || {
        acked(topic.send((), "after").unwrap());
        values(&cluster.records("t", 0)).contains(&"after".to_owned())
    });
    close(&producer);
}

/// Two requests in one go: the broker answers the first with a pause of a minute, and reads the
/// second only after that.
fn send_into_a_throttle(
    cluster: &EmbeddedCluster,
    producer: &Producer,
    topic: &Topic,
) -> [Delivery; 2] {
    let in_flight = |n| {
        eventually("so many requests are on their way", || {
            producer.report().brokers[0].requests_in_flight == n
        });
    };
    in_flight(0);
    cluster.script(Fault::throttle(60_000));
    cluster.pause_broker(1);
    let sent = [1, 2].map(|n| {
        let delivery = topic.send((), "v").unwrap();
        in_flight(n);
        delivery
    });
    cluster.resume_broker(1);
    sent
}

/// The throttle is believed, because another topic's records may take two minutes.
#[test]
fn c31_f12_under_a_throttle_of_a_minute_a_record_expires_on_time_and_the_connection_stays() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let cluster = EmbeddedCluster::builder().topic("t", 1).topic("brief", 1).start().unwrap();
    let producer = builder(&cluster)
        .request_timeout(secs(1))
        .topic_config("brief", TopicConfig::new().delivery_timeout(TIMEOUT))
        .build()
        .unwrap();
    let (topic, brief) = (producer.topic("t").unwrap(), producer.topic("brief").unwrap());
    warm(&topic, 1);
    goes_on(&brief, 0, "known");
    let accepted = cluster.stats().broker(1).connections_accepted;
    let [throttled, mut waits] = send_into_a_throttle(&cluster, &producer, &topic);
    acked(throttled);
    let start = Instant::now();
    let error = failed(brief.send((), "expires").unwrap());
    let took = start.elapsed();
    assert!((TIMEOUT..10 * TIMEOUT).contains(&took), "{took:?}");
    assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
    assert_eq!(error.certainty(), Certainty::NotWritten, "{error}");
    assert!(error.to_string().contains("quota"), "the cause is known: {error}");
    assert_eq!(cluster.stats().broker(1).connections_accepted, accepted, "it was given up");
    assert!(waits.try_take().is_none(), "it has time");
    producer.close(Duration::ZERO).wait().unwrap_err();
}

#[test]
fn c31_f12_a_throttle_gives_no_record_in_flight_longer_than_its_delivery_timeout() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    in_time(|| {
        let cluster = cluster(1, 1);
        let producer =
            builder(&cluster).request_timeout(TIMEOUT).delivery_timeout(TIMEOUT).build().unwrap();
        let topic = producer.topic("t").unwrap();
        goes_on(&topic, 0, "known");
        let start = Instant::now();
        let [throttled, expires] = send_into_a_throttle(&cluster, &producer, &topic);
        if outcome(throttled).is_err() {
            return false;
        }
        let error = failed(expires);
        let took = start.elapsed();
        assert!((TIMEOUT..10 * TIMEOUT).contains(&took), "{took:?}");
        assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
        assert_eq!(error.certainty(), Certainty::Unknown, "{error}");
        true
    });
}
