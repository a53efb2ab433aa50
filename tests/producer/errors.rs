//! Mistakes of the user's, each with a typed error that says what to do.

use tidegate::embedded::Fault;
use tidegate::{Acks, BuildError, Certainty, DeliveryErrorCause, OnDrop, Record, SendErrorKind};

use super::*;

fn says(error: impl std::fmt::Display, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

#[test]
fn an_unknown_topic_is_an_error_after_its_limit() {
    let cluster = cluster(1, 1);
    let producer =
        builder(&cluster).configure(|c| c.topic_unknown_max = millis(300)).build().unwrap();
    let topic = producer.topic("nowhere").unwrap();
    let start = Instant::now();
    let deliveries: Vec<_> = (0..3).map(|_| topic.send("k", "v").unwrap()).collect();
    for delivery in deliveries {
        let error = failed(delivery);
        let DeliveryErrorCause::UnknownTopic { after, .. } = error.cause() else {
            panic!("{error}")
        };
        assert_eq!(*after, millis(300));
        assert_eq!((error.topic(), error.partition()), ("nowhere", None));
        assert_eq!(error.certainty(), Certainty::NotWritten);
        says(&error, &["nowhere", "does not exist", "create it", "not written"]);
    }
    assert!(start.elapsed() >= millis(300));
    // Later records have a limit of their own, and a topic that comes into being is found.
    let start = Instant::now();
    assert!(matches!(
        failed(topic.send("k", "v").unwrap()).cause(),
        DeliveryErrorCause::UnknownTopic { .. }
    ));
    assert!(start.elapsed() >= millis(300), "a second record waits its own time");
    let mut names = (0..5).map(|n| format!("late-{n}"));
    in_time(|| {
        let name = names.next().unwrap();
        let late = producer.topic(&name).unwrap();
        let delivery = late.send("k", "before it is there").unwrap();
        cluster.create_topic(&name, 2);
        outcome(delivery).is_ok()
    });
    // And one whose records were failed before.
    cluster.create_topic("nowhere", 2);
    eventually("it is found", || outcome(topic.send("k", "later").unwrap()).is_ok());
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn a_topic_is_created_where_both_sides_allow_it() {
    let start = || {
        EmbeddedCluster::builder().auto_create_topics(true).default_partitions(3).start().unwrap()
    };
    let cluster = start();
    let producer = builder(&cluster).allow_auto_create_topics(true).build().unwrap();
    let topic = producer.topic("new").unwrap();
    assert_eq!(acked(topic.send("k", "v").unwrap()).topic(), "new");
    assert_eq!(topic.partitions(), 3);
    // Only one side allows it.
    let cluster = start();
    let producer =
        builder(&cluster).configure(|c| c.topic_unknown_max = millis(200)).build().unwrap();
    says(failed(producer.topic("new").unwrap().send("k", "v").unwrap()), &["auto-creation"]);
}

#[test]
fn c40_a_record_over_the_limit_is_refused_and_handed_back() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).configure(|c| c.max_request_size = 10_000).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for known in [false, true] {
        let big = bytes::Bytes::from(vec![1_u8; 10_000]);
        let error = topic.send("key", big.clone()).unwrap_err();
        let SendErrorKind::RecordTooLarge { size, max } = *error.kind() else { panic!("{error}") };
        assert!(size > 10_000 && max == 10_000);
        says(
            &error,
            &["\"t\"", "max_request_size (max.request.size) = 10000", "max.message.bytes"],
        );
        assert!(!error.is_retriable());
        assert_eq!(error.into_record().value.unwrap().as_ptr(), big.as_ptr(), "without a copy");
        // Headers count too, and so does the key.
        let text = "h".repeat(9_990);
        assert!(topic.send_record(Record::new().header("h", &text)).is_err());
        assert!(topic.send(&text, ()).is_err());
        if !known {
            warm(&topic, 1);
        }
    }
    // The largest that is allowed arrives.
    let mut len = 9_999;
    while topic.send((), vec![0_u8; len]).is_err() {
        len -= 1;
    }
    assert!(len > 9_900);
    close(&producer);
    assert_eq!(cluster.records("t", 0)[1].value.as_ref().unwrap().len(), len);
}

#[test]
fn a_negative_timestamp_is_refused() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    for known in [false, true] {
        for timestamp in [-1, i64::MIN] {
            let record =
                || Record::new().value(bytes::Bytes::from_static(b"v")).timestamp(timestamp);
            let error = topic.send_record(record()).unwrap_err();
            assert_eq!(*error.kind(), SendErrorKind::NegativeTimestamp { timestamp });
            says(&error, &["timestamp", &timestamp.to_string(), "1970"]);
            assert!(!error.is_retriable());
            assert!(error.into_record().value.is_some(), "it is handed back");
        }
        if !known {
            warm(&topic, 1);
        }
    }
    let oldest = acked(topic.send_record(Record::new().value("v").timestamp(0)).unwrap());
    assert_eq!(oldest.timestamp(), 0);
    close(&producer);
    assert_eq!(cluster.records("t", 0).len(), 2);
}

/// Where the pool is as small as it may be.
#[test]
fn the_largest_record_moves_out_of_its_stash_in_the_smallest_pool() {
    use tidegate::Compression;
    for (compression, bytes) in [(Compression::None, 2 << 20), (Compression::Snappy, 3 << 20)] {
        let cluster = EmbeddedCluster::builder().start().unwrap();
        let producer =
            patient(&cluster).buffer_memory(bytes).compression(compression).build().unwrap();
        let topic = producer.topic("late").unwrap();
        let mut len = 1 << 20;
        let delivery = loop {
            match topic.send((), vec![7_u8; len]) {
                Ok(delivery) => break delivery,
                Err(_) => len -= 1,
            }
        };
        let tiny = Record::new().header("k", ()).header("k", ()).value("behind");
        let behind = topic.send_record(tiny).ok();
        cluster.create_topic("late", 1);
        acked(delivery);
        behind.into_iter().for_each(|delivery| drop(acked(delivery)));
        close(&producer);
        assert_eq!(cluster.records("late", 0)[0].value.as_ref().unwrap().len(), len);
    }
}

#[test]
fn a_topics_name_is_checked() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    for name in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
        let error = producer.topic(name).unwrap_err();
        assert!(matches!(error.kind(), SendErrorKind::InvalidTopic(_)));
        says(&error, &["illegal", name]);
    }
}

#[test]
fn a_bootstrap_list_is_checked_for_its_form() {
    for empty in ["", " ", ",", " , "] {
        let error = Producer::builder(empty).build().unwrap_err();
        assert_eq!(error, BuildError::NoBootstrapServers, "{empty:?}");
        says(error, &["bootstrap", "host:port"]);
    }
    for wrong in ["host", "host:", ":9092", "host:x", "host:70000", "ok:1,host", "::1:9092"] {
        let error = Producer::builder(wrong).build().unwrap_err();
        assert!(matches!(error, BuildError::InvalidAddress { .. }), "{wrong}: {error}");
        says(error, &["host:port"]);
    }
}

#[test]
fn f22_an_unresolvable_host_is_named_in_the_deliveries_errors() {
    let producer = Producer::builder("no-such-host.invalid:9092")
        .request_timeout(millis(200))
        .delivery_timeout(millis(600))
        .configure(|c| c.pinning = false)
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    // As soon as the system's resolver has given up, which may take seconds.
    eventually("the error names it", || {
        let error = failed(topic.send("k", "v").unwrap());
        assert_eq!(error.certainty(), Certainty::NotWritten);
        // No broker has said that the topic does not exist.
        assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
        error.to_string().contains("no-such-host.invalid")
    });
    // One of two that resolves is enough. The list may be one entry.
    let cluster = cluster(1, 1);
    let list = format!("no-such-host.invalid:9092,{}", cluster.bootstrap_servers());
    let producer = Producer::builder("").configure(|c| c.bootstrap_servers = vec![list]).build();
    let producer = producer.unwrap();
    acked(producer.topic("t").unwrap().send("k", "v").unwrap());
}

#[test]
fn an_unreachable_host_is_named_in_the_deliveries_errors() {
    let cluster = cluster(1, 1);
    let address = cluster.address(1);
    cluster.stop_broker(1);
    let producer = builder(&cluster)
        .request_timeout(millis(200))
        .delivery_timeout(millis(500))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    eventually("the error names it", || {
        let error = failed(topic.send("k", "v").unwrap());
        assert_eq!(error.certainty(), Certainty::NotWritten);
        error.to_string().contains(&address.to_string())
    });
}

#[test]
fn a_partition_out_of_range_is_refused() {
    let cluster = cluster(1, 3);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let words = ["named by the record", "does not exist", "has 3"];
    for partition in [3, 4, i32::MAX] {
        // Brokers are asked, unless they just were.
        match topic.send_record(to(partition, "v")) {
            Ok(delivery) => says(failed(delivery), &words),
            Err(error) => says(error, &words),
        }
    }
    acked(topic.send_record(to(2, "v")).unwrap());
}

#[test]
fn nothing_can_be_sent_after_close() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let unknown = producer.topic("unknown").unwrap();
    warm(&topic, 1);
    close(&producer);
    for topic in [&topic, &unknown] {
        let owned = bytes::Bytes::from_static(b"owned");
        let error = topic.send("k", owned.clone()).unwrap_err();
        assert_eq!(*error.kind(), SendErrorKind::Closed);
        says(&error, &["closed"]);
        assert_eq!(error.into_record().value, Some(owned));
    }
    assert_eq!(*producer.topic("t").unwrap_err().kind(), SendErrorKind::Closed);
}

#[test]
fn contradictions_are_found_before_anything_starts() {
    let build = |change: &dyn Fn(&mut tidegate::ProducerConfig)| {
        Producer::builder("localhost:9").configure(change).build().map(drop)
    };
    let error = build(&|c| {
        c.acks = Acks::Leader;
        c.enable_idempotence = Some(true);
    })
    .unwrap_err();
    assert!(matches!(error, BuildError::Conflict(_)));
    says(error, &["enable_idempotence=true", "acks=all", "it is 1"]);
    let error = build(&|c| c.buffer_memory = 1_500_000).unwrap_err();
    assert!(matches!(error, BuildError::PoolTooSmall { buffer_memory: 1_500_000, .. }));
    says(error, &["buffer_memory", "too small", "2097152"]);
    let error = build(&|c| c.delivery_timeout = secs(10)).unwrap_err();
    says(error, &["delivery_timeout", "request_timeout"]);
    let error = build(&|c| c.max_in_flight = 0).unwrap_err();
    assert!(matches!(error, BuildError::InvalidSetting { .. }));
    says(error, &["max_in_flight = 0"]);
    let error = build(&|c| c.low_watermark = Some(5)).unwrap_err();
    says(error, &["low_watermark = 5 needs high_watermark"]);
    // Each loop needs its scratch, and a largest record room to move out of its stash.
    let tight = |bytes| {
        let loops = EventLoops::shared(1).unpinned();
        let change = |c: &mut tidegate::ProducerConfig| {
            c.buffer_memory = bytes;
            c.compression = tidegate::Compression::Snappy;
            c.on_drop = OnDrop::Wait(Duration::ZERO);
        };
        Producer::builder("localhost:9").configure(change).event_loops(loops).build().map(drop)
    };
    says(tight(2 << 20).unwrap_err(), &["too small", "3145728"]);
    tight(3 << 20).unwrap();
    // As many brokers as pass can be had.
    let error = build(&|c| c.brokers_max = 65_534).unwrap_err();
    says(error, &["brokers_max", "65533"]);
    build(&|c| {
        (c.brokers_max, c.on_drop) = (65_533, OnDrop::Wait(Duration::ZERO));
    })
    .unwrap();
}

#[test]
fn c61_keys_keep_their_partitions_where_the_limit_of_lanes_is_reached() {
    let builder_of = EmbeddedCluster::builder().topic("few", 2).topic("many", 3).topic("more", 3);
    let cluster = builder_of.start().unwrap();
    let producer = builder(&cluster).configure(|c| c.lanes_max = 5).build().unwrap();
    let (few, many) = (producer.topic("few").unwrap(), producer.topic("many").unwrap());
    warm(&few, 2);
    warm(&many, 3);
    cluster.add_partitions("many", 12);
    // What a partition is asked for that has no lane.
    let error = failed(many.send_record(to(11, "v")).unwrap());
    assert_eq!(*error.cause(), DeliveryErrorCause::TooManyLanes { lanes_max: 5 });
    says(&error, &["many", "lanes_max", "5"]);
    assert_eq!(many.partitions(), 12);
    // A producer that has room says where each key belongs.
    let roomy = super::producer(&cluster);
    let elsewhere = roomy.topic("many").unwrap();
    let mut refused = 0;
    for n in 0..100_u32 {
        let key = n.to_be_bytes();
        let partition = acked(elsewhere.send(key, "v").unwrap()).partition();
        match many.send(key, "v") {
            Ok(delivery) => assert_eq!(acked(delivery).partition(), partition),
            Err(error) => {
                let kind = SendErrorKind::TooManyLanes { partition, lanes_max: 5 };
                assert_eq!(*error.kind(), kind);
                says(&error, &["many", "lanes_max", "5"]);
                assert!(partition >= 3);
                refused += 1;
            }
        }
    }
    assert!(refused > 50, "three of four partitions have no lane: {refused}");
    // Records without a key go where they can.
    (0..20).for_each(|_| assert!(acked(many.send((), "v").unwrap()).partition() < 3));
    // And a topic that finds no lane at all.
    let more = producer.topic("more").unwrap();
    eventually("it is known, and send says so at once", || match more.send((), "v") {
        Ok(stashed) => {
            let cause = DeliveryErrorCause::TooManyLanes { lanes_max: 5 };
            assert_eq!(*failed(stashed).cause(), cause);
            false
        }
        Err(error) => {
            matches!(error.kind(), SendErrorKind::TooManyLanes { lanes_max: 5, .. })
        }
    });
    acked(few.send("k", "v").unwrap());
}

#[test]
fn c59_a_record_whose_broker_is_one_too_many_is_told_which_setting_says_so() {
    let cluster = cluster(2, 2);
    let too_few = |builder: ProducerBuilder| builder.configure(|c| c.brokers_max = 1);
    let words = ["broker 2 is left out", "brokers_max = 1"];
    let producer =
        too_few(builder(&cluster).request_timeout(millis(100)).delivery_timeout(millis(500)));
    let producer = producer.build().unwrap();
    let topic = producer.topic("t").unwrap();
    goes_on(&topic, 0, "the first broker has the only place");
    let error = failed(topic.send_record(to(1, "v")).unwrap());
    assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
    assert_eq!((error.partition(), error.certainty()), (Some(1), Certainty::NotWritten));
    says(&error, &words);
    // Who asks need not wait for the error.
    let producer = too_few(patient(&cluster)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let waits = topic.send_record(to(1, "v")).unwrap();
    eventually("the status says it", || {
        let status = waits.status().to_string();
        words.iter().all(|word| status.contains(word))
    });
    acked(topic.send_record(to(0, "the others go on")).unwrap());
    producer.close(Duration::ZERO).wait().unwrap_err();
    says(failed(waits), &["closed"]);
}

#[test]
fn a_topic_that_may_not_be_written_fails_at_once() {
    let cluster = cluster(1, 1);
    cluster.script(Fault::metadata_error("t", 29).times(1_000_000));
    // Were it taken for an unknown topic, it would be waited for.
    let producer = patient(&cluster).configure(|c| c.topic_unknown_max = FAR).build().unwrap();
    let error = failed(producer.topic("t").unwrap().send("k", "v").unwrap());
    let cause = DeliveryErrorCause::Broker {
        code: tidegate::ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        message: None,
    };
    assert_eq!(*error.cause(), cause);
    says(&error, &["TOPIC_AUTHORIZATION_FAILED"]);
    // The permission came meanwhile.
    cluster.clear_faults();
    acked(producer.topic("t").unwrap().send("k", "v").unwrap());
}
