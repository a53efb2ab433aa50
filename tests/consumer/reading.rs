//! What is read, from where on.

use std::time::{Duration, SystemTime};

use tidegate::{Compression, Record, StartAt};

use super::{
    cluster, compressing, consumer, eventually, next, nothing_comes, numbered, producer, read,
    records, send, values,
};

#[test]
fn records_come_back_as_they_were_sent() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let sent = [
        Record::new().key("k").value("v").header("a", "1").header("a", None::<&str>).timestamp(at),
        Record::new().value("").timestamp(at),
        Record::new().key("tombstone").timestamp(at),
    ];
    let topic = producer.topic("t").unwrap();
    for record in sent.clone() {
        topic.send_record(record).unwrap().wait().unwrap();
    }
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    let mut seen = 0;
    while seen < sent.len() {
        let batch = next(&consumer).unwrap();
        assert_eq!((batch.topic(), batch.partition()), ("t", 0));
        assert_eq!(batch.first_offset(), seen as i64);
        for record in &batch {
            let record = record.unwrap();
            let expected = &sent[seen];
            assert_eq!(record.offset, seen as i64);
            assert_eq!(record.timestamp_ms, 1_700_000_000_000);
            assert_eq!(record.key, expected.key_payload().as_option());
            assert_eq!(record.value, expected.value_payload().as_option());
            assert_eq!(record.headers().collect::<Vec<_>>(), expected.headers());
            seen += 1;
        }
        assert_eq!(batch.next_offset(), seen as i64);
        assert!(!batch.is_log_append_time());
    }
}

#[test]
fn every_codec_is_read_from_many_partitions() {
    const PARTITIONS: i32 = 6;
    const EACH: u32 = 500;
    let codecs = [
        Compression::None,
        Compression::gzip(),
        Compression::snappy(),
        Compression::lz4(),
        Compression::zstd(),
    ];
    for compression in codecs {
        let cluster = cluster(3, PARTITIONS);
        let producer = compressing(&cluster, compression);
        for partition in 0..PARTITIONS {
            send(&producer, partition, numbered(0..EACH));
        }
        let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
        let read = read(&consumer, (EACH as usize) * PARTITIONS as usize);
        for (partition, offset, value) in read {
            assert_eq!(value, offset.to_string(), "{compression:?} {partition}");
        }
        assert_eq!(consumer.lag(), Some(0));
    }
}

#[test]
fn partitions_are_read_from_where_they_are_told() {
    let cluster = cluster(1, 5);
    let producer = producer(&cluster);
    for partition in 0..5 {
        send(&producer, partition, numbered(0..3));
    }
    let consumer = consumer(&cluster)
        .partitions("t", [0], StartAt::Offset(2))
        .partitions("t", [1], StartAt::Latest)
        .partitions("t", [2], StartAt::Time(0))
        .partitions("t", [3], StartAt::Time(i64::MAX))
        .build()
        .unwrap();
    let mut first = read(&consumer, 4);
    first.sort();
    let expected = [(0, 2, "2"), (2, 0, "0"), (2, 1, "1"), (2, 2, "2")];
    assert_eq!(first, expected.map(|(partition, at, value)| (partition, at, value.to_owned())));
    eventually("both ends are known", || consumer.lag() == Some(0));
    for partition in 0..5 {
        send(&producer, partition, ["new".to_owned()]);
    }
    let mut new: Vec<_> = read(&consumer, 4).into_iter().map(|it| (it.0, it.1)).collect();
    new.sort();
    assert_eq!(new, [(0, 3), (1, 3), (2, 3), (3, 3)], "and not the partition that nobody named");
    nothing_comes(&consumer);
}

#[test]
fn a_batch_that_holds_the_offset_begins_with_it() {
    let cluster = cluster(1, 1);
    let producer = compressing(&cluster, Compression::lz4());
    send(&producer, 0, numbered(0..100));
    let consumer = consumer(&cluster).topic("t", StartAt::Offset(70)).build().unwrap();
    let first = next(&consumer).unwrap();
    assert_eq!((first.first_offset(), records(&first)[0].1), (70, 70));
    let mut all = records(&first);
    while all.len() < 30 {
        all.extend(records(&next(&consumer).unwrap()));
    }
    assert_eq!(values(&all), numbered(70..100).collect::<Vec<_>>());
}

#[test]
fn a_record_is_found_by_its_time() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    for second in [10, 20, 30] {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let record = Record::new().value("v").timestamp(at);
        topic.send_record(record).unwrap().wait().unwrap();
    }
    let consumer = consumer(&cluster).topic("t", StartAt::Time(15_000)).build().unwrap();
    assert_eq!(next(&consumer).unwrap().first_offset(), 1);
}

#[test]
fn a_record_that_is_larger_than_what_is_fetched_comes_all_the_same() {
    let cluster = cluster(1, 2);
    let producer = producer(&cluster);
    let large = "x".repeat(700_000);
    for partition in [0, 1] {
        send(&producer, partition, ["a".to_owned(), large.clone(), "b".to_owned()]);
    }
    let consumer = consumer(&cluster)
        .topic("t", StartAt::Earliest)
        .configure(|config| {
            config.fetch_max_bytes = 10_000;
            config.max_partition_fetch_bytes = 1_000;
            config.queue_max_bytes = 20_000;
        })
        .build()
        .unwrap();
    let read = read(&consumer, 6);
    assert_eq!(read.iter().filter(|record| record.2 == large).count(), 2);
}

#[test]
fn a_seek_goes_anywhere_and_leaves_out_what_was_fetched() {
    let cluster = cluster(1, 2);
    let producer = producer(&cluster);
    send(&producer, 0, numbered(0..10));
    send(&producer, 1, numbered(0..1));
    let consumer = consumer(&cluster)
        .topic("t", StartAt::Earliest)
        .configure(|config| config.fetch_max_wait = Duration::from_millis(20))
        .build()
        .unwrap();
    read(&consumer, 11);
    for _ in 0..20 {
        assert!(consumer.seek("t", 0, StartAt::Offset(4)));
        let again = read(&consumer, 6);
        assert_eq!(again[0], (0, 4, "4".to_owned()));
        let status = &consumer.partitions()[0];
        assert_eq!((status.position, status.high_watermark), (Some(10), Some(10)));
        assert_eq!((status.lag(), status.log_start), (Some(0), Some(0)));
    }
    assert!(consumer.seek("t", 0, StartAt::Earliest));
    assert_eq!(read(&consumer, 10)[0].1, 0);
    assert!(consumer.seek("t", 0, StartAt::Latest));
    eventually("the end is known", || consumer.lag() == Some(0));
    send(&producer, 0, ["new".to_owned()]);
    assert_eq!(read(&consumer, 1), [(0, 10, "new".to_owned())]);
    assert!(!consumer.seek("t", 2, StartAt::Earliest), "there is no such partition");
    assert!(!consumer.seek("other", 0, StartAt::Earliest));
}

#[test]
fn a_paused_partition_is_not_read_and_the_others_are() {
    let cluster = cluster(1, 2);
    let producer = producer(&cluster);
    send(&producer, 0, numbered(0..1));
    send(&producer, 1, numbered(0..1));
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    read(&consumer, 2);
    assert!(consumer.pause("t", 0) && !consumer.pause("t", 9));
    assert!(consumer.partitions()[0].is_paused);
    // A fetch that asks for it may be under way: it is over, and with it a wait of 500 ms, once
    // records of the other partition have come.
    send(&producer, 1, numbered(1..2));
    read(&consumer, 1);
    send(&producer, 0, numbered(1..2));
    send(&producer, 1, numbered(2..3));
    assert_eq!(read(&consumer, 1), [(1, 2, "2".to_owned())]);
    nothing_comes(&consumer);
    assert!(consumer.resume("t", 0));
    assert_eq!(read(&consumer, 1), [(0, 1, "1".to_owned())]);
}

#[test]
fn partitions_that_are_added_are_read_from_their_first_record() {
    for start in [StartAt::Earliest, StartAt::Latest] {
        let cluster = cluster(1, 1);
        let producer = producer(&cluster);
        let consumer = consumer(&cluster)
            .topic("t", start)
            .client(|client| client.metadata_max_age = Duration::from_millis(200))
            .build()
            .unwrap();
        eventually("the topic is known", || consumer.lag() == Some(0));
        assert!(cluster.add_partitions("t", 2));
        let topic = producer.topic("t").unwrap();
        let record = Record::new().value("v").partition(1);
        topic.send_record(record).unwrap().wait().unwrap();
        assert_eq!(read(&consumer, 1), [(1, 0, "v".to_owned())], "{start:?}");
    }
}
