//! Records on disk while brokers take none.

use std::fs;
use std::path::{Path, PathBuf};

use tidegate::{
    BuildError, Certainty, CloseError, DeliveryErrorCause, ProducerConfig, Purge, SendErrorKind,
    SpillConfig, SpillFull, SpillInDoubt, SpillStatus, SpillSync,
};

use super::*;

/// A folder of one test, gone with it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn config(&self) -> SpillConfig {
        SpillConfig::new(self.path())
    }

    /// Its files with this ending, oldest first.
    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|it| it == extension));
        files.sort();
        files
    }
}

/// Little memory, so that little has to be sent until it is full.
fn spilling(cluster: &EmbeddedCluster, spill: SpillConfig) -> ProducerBuilder {
    builder(cluster).spill(spill).buffer_memory(1 << 20).batch_size(16 << 10).configure(|config| {
        config.max_request_size = 64 << 10;
        (config.reconnect_backoff, config.reconnect_backoff_max) = (millis(5), millis(50));
        (config.retry_backoff, config.retry_backoff_max) = (millis(5), millis(50));
    })
}

fn status(producer: &Producer) -> SpillStatus {
    producer.spill_status().expect("it spills")
}

fn value(number: usize) -> String {
    format!("{number:0>1000}")
}

fn send(topic: &Topic, number: usize) -> Delivery {
    let value = value(number);
    let record = Record::new().partition((number % 3) as i32).key("k").value(&value);
    topic.send_record(record).unwrap()
}

/// Sends from this number on until so many records lie on disk. Returns the deliveries of all.
fn fill(producer: &Producer, topic: &Topic, (first, spilled): (usize, u64)) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while status(producer).spilled_records < spilled {
        deliveries.push(send(topic, first + deliveries.len()));
    }
    deliveries
}

/// The numbers of the values in a partition's log.
fn numbers(cluster: &EmbeddedCluster, partition: i32) -> Vec<usize> {
    let records = cluster.records("t", partition);
    let number = |record: &EmbeddedRecord| {
        let value = record.value.as_deref().expect("no null here");
        std::str::from_utf8(value).unwrap().parse().unwrap()
    };
    records.iter().map(number).collect()
}

/// Each of so many records is in its partition's log once, in order.
fn assert_whole(cluster: &EmbeddedCluster, count: usize) {
    for partition in 0..3 {
        let expected: Vec<_> = (partition as usize..count).step_by(3).collect();
        let found = numbers(cluster, partition);
        assert_eq!(found.len(), expected.len(), "partition {partition}");
        assert_eq!(found, expected, "partition {partition}");
    }
}

#[test]
fn an_outage_goes_to_disk_and_comes_back_in_order() {
    let (cluster, folder) = (cluster(1, 3), Folder::new());
    let producer = spilling(&cluster, folder.config()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let mut deliveries = fill_while_paused(&cluster, &producer, &topic, 5_000);
    assert!(status(&producer).bytes > 5_000_000, "{:?}", status(&producer));
    let last = deliveries.last_mut().unwrap();
    assert!(last.wait_timeout(Duration::ZERO).is_none(), "it is on disk only");
    cluster.resume_broker(1);
    let count = 1 + deliveries.len();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_whole(&cluster, count);
    // What is sent now goes straight to its lane, and the files are gone.
    eventually("the folder is empty", || status(&producer).bytes == 0);
    assert!(folder.files("spill").is_empty());
    let before = status(&producer).spilled_records;
    acked(topic.send("k", "afterwards").unwrap());
    assert_eq!(status(&producer).spilled_records, before);
}

/// The broker stands still until so many records lie on disk.
fn fill_while_paused(
    cluster: &EmbeddedCluster,
    producer: &Producer,
    topic: &Topic,
    spilled: u64,
) -> Vec<Delivery> {
    acked(send(topic, 0));
    cluster.pause_broker(1);
    fill(producer, topic, (1, spilled))
}

#[test]
fn a_close_keeps_on_disk_what_was_not_sent_and_the_next_producer_sends_it() {
    let (cluster, folder) = (cluster(1, 3), Folder::new());
    let producer = spilling(&cluster, folder.config()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    acked(send(&topic, 0));
    stop(&cluster, &producer);
    let deliveries = fill(&producer, &topic, (1, 2_000));
    let closed = producer.close(millis(50)).wait();
    assert!(matches!(closed, Err(CloseError::TimedOut { .. })), "{closed:?}");
    let count = 1 + deliveries.len();
    for delivery in deliveries {
        let error = delivery.wait().unwrap_err();
        assert_eq!(*error.cause(), DeliveryErrorCause::LeftInSpill, "{error}");
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
    cluster.restart_broker(1).unwrap();
    let next = spilling(&cluster, folder.config()).build().unwrap();
    let recovered = status(&next);
    assert_eq!(recovered.recovered_records as usize, count - 1);
    assert_eq!((recovered.in_doubt_records, recovered.set_aside_records), (0, 0));
    // Behind those of the process before.
    let topic = next.topic("t").unwrap();
    let new: Vec<_> = (count..count + 30).map(|number| send(&topic, number)).collect();
    next.flush().wait().unwrap();
    new.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_whole(&cluster, count + 30);
    eventually("the folder is empty", || status(&next).bytes == 0);
    next.close(LONG).wait().unwrap();
    assert!(folder.files("spill").is_empty());
}

#[test]
fn one_broker_that_stalls_holds_up_its_topic_and_no_other() {
    let (cluster, folder) = (cluster(2, 3), Folder::new());
    cluster.create_topic("other", 1);
    for partition in 0..3 {
        cluster.move_leader("t", partition, 1 + partition % 2);
    }
    cluster.move_leader("other", 0, 1);
    let producer = spilling(&cluster, folder.config()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let other = producer.topic("other").unwrap();
    (0..3).for_each(|number| drop(acked(send(&topic, number))));
    acked(other.send((), "warm").unwrap());
    cluster.pause_broker(2);
    let deliveries = fill(&producer, &topic, (3, 1_000));
    // More than memory has room for, were it not written.
    for number in 0..2_000 {
        acked(other.send((), value(number)).unwrap());
    }
    assert_eq!(cluster.high_watermark("other", 0), 2_001);
    cluster.resume_broker(2);
    let count = 3 + deliveries.len();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_whole(&cluster, count);
    eventually("the folder is empty", || status(&producer).bytes == 0);
}

#[test]
fn a_leader_that_fails_over_takes_what_is_on_disk_for_it() {
    let (cluster, folder) = (cluster(2, 3), Folder::new());
    assert!((0..3).all(|partition| cluster.move_leader("t", partition, 2)));
    // What is in flight at the old leader is sent to the new one after so long.
    let producer =
        spilling(&cluster, folder.config()).request_timeout(millis(500)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    (0..3).for_each(|number| drop(acked(send(&topic, number))));
    cluster.pause_broker(2);
    let deliveries = fill(&producer, &topic, (3, 1_000));
    cluster.fail_over(2);
    let count = 3 + deliveries.len();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_whole(&cluster, count);
}

#[test]
fn records_of_a_topic_that_nobody_knows_yet_go_to_disk_too() {
    let (cluster, folder) = (cluster(1, 3), Folder::new());
    cluster.stop_broker(1);
    let producer = spilling(&cluster, folder.config()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries = fill(&producer, &topic, (0, 1_000));
    cluster.restart_broker(1).unwrap();
    let count = deliveries.len();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_whole(&cluster, count);
}

#[test]
fn f38_two_producers_do_not_share_a_folder() {
    let (cluster, folder) = (cluster(1, 1), Folder::new());
    let first = spilling(&cluster, folder.config()).build().unwrap();
    let error = spilling(&cluster, folder.config()).build().unwrap_err();
    assert!(matches!(error, BuildError::Conflict(_)), "{error}");
    assert!(error.to_string().contains("is used by another producer"), "{error}");
    first.close(LONG).wait().unwrap();
    spilling(&cluster, folder.config()).build().unwrap();
}

#[test]
fn f37_beyond_the_quota_a_record_is_refused_dropped_or_waits() {
    let quota = 4 << 20;
    for full in [SpillFull::Reject, SpillFull::Drop, SpillFull::Park(LONG)] {
        let (cluster, folder) = (cluster(1, 3), Folder::new());
        let spill = folder.config().quota(quota).full(full);
        let producer = spilling(&cluster, spill).build().unwrap();
        let topic = producer.topic("t").unwrap();
        acked(topic.send_record(to(0, "warm")).unwrap());
        cluster.pause_broker(1);
        let send =
            |number: usize| topic.send_record(Record::new().partition(1).value(value(number)));
        let (mut deliveries, mut number) = (Vec::new(), 0);
        let is_full = || match full {
            SpillFull::Drop => producer.dropped_records() > 0,
            SpillFull::Reject => false,
            _ => status(&producer).bytes + 2_000 > quota,
        };
        while !is_full() {
            match send(number) {
                Ok(delivery) => deliveries.push(delivery),
                Err(error) => {
                    assert_eq!(full, SpillFull::Reject);
                    assert!(matches!(error.kind(), SendErrorKind::SpillFull(_)), "{error}");
                    assert!(error.is_retriable(), "{error}");
                    assert!(error.to_string().contains("4194304"), "{error}");
                    break;
                }
            }
            number += 1;
        }
        if full == SpillFull::Drop {
            let error = deliveries.pop().unwrap().wait().unwrap_err();
            assert_eq!(*error.cause(), DeliveryErrorCause::Dropped);
            number -= 1;
        }
        if let SpillFull::Park(_) = full {
            // It waits until the broker has taken what is on disk.
            let waiting = std::thread::scope(|scope| {
                let sender = scope
                    .spawn(|| (0..10).map(|more| send(number + more).unwrap()).collect::<Vec<_>>());
                eventually("one found no room", || status(&producer).refused_records > 0);
                assert!(!sender.is_finished());
                cluster.resume_broker(1);
                sender.join().unwrap()
            });
            deliveries.extend(waiting);
            number += 10;
        }
        assert!(status(&producer).bytes <= quota);
        cluster.resume_broker(1);
        deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
        assert_eq!(numbers(&cluster, 1), (0..number).collect::<Vec<_>>());
    }
}

#[test]
fn a_close_ends_the_wait_for_room_on_disk() {
    watched(|| {
        let (cluster, folder) = (cluster(1, 3), Folder::new());
        let spill = folder.config().quota(4 << 20).full(SpillFull::Park(FAR));
        let producer = spilling(&cluster, spill).build().unwrap();
        let topic = producer.topic("t").unwrap();
        acked(send(&topic, 0));
        cluster.pause_broker(1);
        let mut deliveries = Vec::new();
        while status(&producer).bytes + 2_000 <= 4 << 20 {
            deliveries.push(send(&topic, 1 + deliveries.len()));
        }
        std::thread::scope(|scope| {
            let wait = || {
                let long = [b'x'; 4_000];
                topic.send((), &long[..]).map(drop)
            };
            let thread = scope.spawn(wait);
            let task = scope.spawn(|| {
                let long = [b'x'; 4_000];
                block_on(topic.send_async((), &long[..])).map(drop)
            });
            eventually("both wait", || status(&producer).refused_records >= 2);
            drop(producer.close(millis(10)).wait());
            for sender in [thread, task] {
                let error = sender.join().unwrap().unwrap_err();
                assert!(matches!(error.kind(), SendErrorKind::Closed), "{error}");
            }
        });
    });
}

#[test]
fn what_is_on_disk_for_a_topic_that_does_not_exist_is_sent_once_it_does() {
    let (cluster, folder) = (EmbeddedCluster::builder().start().unwrap(), Folder::new());
    let soon = |c: &mut ProducerConfig| c.topic_unknown_max = millis(100);
    let producer = spilling(&cluster, folder.config()).configure(soon).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let mut deliveries = fill(&producer, &topic, (0, 500));
    // What waits in memory fails; the name may be misspelt.
    let error = failed(deliveries.remove(0));
    assert!(error.cause().is_topic_missing(), "{error}");
    let last = deliveries.last().unwrap();
    assert!(last.status().waits_for.is_some(), "{}", last.status());
    cluster.create_topic("t", 3);
    let on_disk = deliveries.split_off(deliveries.len() - 500);
    on_disk.into_iter().for_each(|delivery| drop(acked(delivery)));
}

#[test]
fn a_file_that_cannot_be_read_now_is_read_later() {
    let (cluster, folder) = (cluster(1, 3), Folder::new());
    let producer = spilling(&cluster, folder.config()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries = fill_while_paused(&cluster, &producer, &topic, 1_000);
    let path = folder.files("spill").pop().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    fs::create_dir(&path).unwrap();
    let in_memory = deliveries.len() as i64 - 1_000;
    cluster.resume_broker(1);
    eventually("what was in memory is written", || {
        (0..3).map(|partition| cluster.high_watermark("t", partition)).sum::<i64>() > in_memory
    });
    fs::remove_dir(&path).unwrap();
    fs::rename(&elsewhere, &path).unwrap();
    let count = 1 + deliveries.len();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_whole(&cluster, count);
}

#[test]
fn records_that_are_sent_together_stay_together_on_disk() {
    let (cluster, folder) = (cluster(1, 3), Folder::new());
    let producer = spilling(&cluster, folder.config()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let mut deliveries = fill_while_paused(&cluster, &producer, &topic, 10);
    let values: Vec<_> = (0..5).map(value).collect();
    let records: Vec<_> =
        values.iter().map(|value| Record::new().partition(2).value(value)).collect();
    let together = topic.send_all(records).unwrap();
    let before = status(&producer).spilled_records;
    assert!(before >= 15);
    cluster.resume_broker(1);
    deliveries.drain(..).for_each(|delivery| drop(acked(delivery)));
    together.wait().unwrap();
    let log = cluster.records("t", 2);
    let first = log.len() - 5;
    assert!(
        log[first..]
            .iter()
            .zip(&values)
            .all(|(record, value)| { record.value.as_deref() == Some(value.as_bytes()) })
    );
}

#[test]
fn what_is_purged_is_gone_from_the_disk_too() {
    let (cluster, folder) = (cluster(1, 3), Folder::new());
    let producer = spilling(&cluster, folder.config()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let mut deliveries = fill_while_paused(&cluster, &producer, &topic, 500);
    producer.purge(Purge::QueuedAndInFlight);
    let error = deliveries.pop().unwrap().wait().unwrap_err();
    assert_eq!(*error.cause(), DeliveryErrorCause::Purged, "{error}");
    eventually("the folder is empty", || status(&producer).bytes == 0);
    cluster.resume_broker(1);
    producer.close(LONG).wait().unwrap();
    assert!(folder.files("spill").is_empty());
}

/// Leaves some 500 records on disk, of a producer that has never reached a broker.
fn leave(cluster: &EmbeddedCluster, folder: &Folder) -> usize {
    cluster.stop_broker(1);
    let producer = spilling(cluster, folder.config()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries = fill(&producer, &topic, (0, 500));
    assert!(producer.close(Duration::ZERO).wait().is_err());
    let count = deliveries.len();
    for delivery in deliveries {
        assert_eq!(*failed(delivery).cause(), DeliveryErrorCause::LeftInSpill);
    }
    cluster.restart_broker(1).unwrap();
    count
}

fn deliver_rest(cluster: &EmbeddedCluster, spill: SpillConfig) -> SpillStatus {
    let producer = spilling(cluster, spill).build().unwrap();
    let found = status(&producer);
    producer.flush().wait().unwrap();
    producer.close(LONG).wait().unwrap();
    found
}

#[test]
fn f37_a_record_that_was_half_written_is_cut_off() {
    let (cluster, folder) = (cluster(1, 3), Folder::new());
    let count = leave(&cluster, &folder);
    let last = folder.files("spill").pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() - 3]).unwrap();
    let found = deliver_rest(&cluster, folder.config());
    assert_eq!(found.recovered_records as usize, count - 1);
    assert_whole(&cluster, count - 1);
    assert!(folder.files("damaged").is_empty());
}

#[test]
fn f37_a_file_that_was_changed_is_set_aside_from_there_on_and_the_rest_is_sent() {
    let (cluster, folder) = (cluster(1, 3), Folder::new());
    let count = leave(&cluster, &folder);
    let last = folder.files("spill").pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&last, &bytes).unwrap();
    let found = deliver_rest(&cluster, folder.config());
    let sent = found.recovered_records as usize;
    assert!(sent > 100 && sent < count - 100, "{sent} of {count}");
    assert_whole(&cluster, sent);
    let aside = fs::read(&folder.files("damaged")[0]).unwrap();
    assert!(bytes.ends_with(&aside));
    assert!(folder.files("spill").is_empty());
    // It is no obstacle to the next one.
    assert_eq!(deliver_rest(&cluster, folder.config()).recovered_records, 0);
}

#[test]
fn f37_a_file_that_changes_under_the_producer_costs_what_cannot_be_read_and_no_more() {
    let (cluster, folder) = (cluster(1, 3), Folder::new());
    let producer = spilling(&cluster, folder.config()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries = fill_while_paused(&cluster, &producer, &topic, 2_000);
    let path = folder.files("spill").pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    cluster.resume_broker(1);
    let sent = deliveries.len();
    let errors: Vec<_> = deliveries.into_iter().filter_map(|it| outcome(it).err()).collect();
    for error in &errors {
        assert!(matches!(error.cause(), DeliveryErrorCause::SpillUnreadable(_)), "{error}");
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
    // At most what lies in one run.
    assert!((1..=260).contains(&errors.len()), "{}", errors.len());
    let written: usize = (0..3).map(|partition| numbers(&cluster, partition).len()).sum();
    assert_eq!(written, 1 + sent - errors.len());
    eventually("the rest is kept", || !folder.files("damaged").is_empty());
    eventually("the folder is empty", || status(&producer).bytes == 0);
}

#[test]
fn something_else_in_the_folder_is_no_obstacle() {
    let (cluster, folder) = (cluster(1, 3), Folder::new());
    fs::write(folder.path().join("notes.txt"), "hello").unwrap();
    fs::write(folder.path().join("00000000000000000007.spill"), vec![b'x'; 10_000]).unwrap();
    fs::write(folder.path().join("00000000000000000008.spill"), "").unwrap();
    let producer = spilling(&cluster, folder.config()).build().unwrap();
    acked(producer.topic("t").unwrap().send("k", "v").unwrap());
    assert_eq!(status(&producer).bytes, 0);
    assert_eq!(folder.files("damaged").len(), 1);
    assert!(folder.files("spill").is_empty() && folder.files("txt").len() == 1);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_at_build() {
    let (cluster, folder) = (cluster(1, 1), Folder::new());
    let path = folder.path().join("file");
    fs::write(&path, "no folder").unwrap();
    let error = spilling(&cluster, SpillConfig::new(&path)).build().unwrap_err();
    assert!(matches!(error, BuildError::System { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_strategy_that_spills_without_a_folder_refuses() {
    let cluster = cluster(1, 3);
    let strategy = tidegate::SpillRecords;
    let producer = patient(&cluster).buffer_memory(1 << 20).batch_size(16 << 10).backoff(strategy);
    let small = |c: &mut ProducerConfig| c.max_request_size = 64 << 10;
    let producer = producer.configure(small).build().unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send("k", "warm").unwrap());
    cluster.pause_broker(1);
    let error = loop {
        if let Err(error) = topic.send("k", value(1)) {
            break error;
        }
    };
    assert!(matches!(error.kind(), SendErrorKind::SpillFull(_)), "{error}");
    assert!(error.to_string().contains("tidegate.spill.directory"), "{error}");
    assert!(producer.spill_status().is_none());
    drop(producer.close(Duration::ZERO).wait());
}

#[test]
fn settings_are_properties_too() {
    let config = ProducerConfig::from_properties([
        ("bootstrap.servers", "localhost:9092"),
        ("tidegate.spill.directory", "/var/spool/agent"),
        ("tidegate.spill.quota", "10000000"),
        ("tidegate.spill.sync", "1000"),
        ("tidegate.spill.full", "drop"),
        ("tidegate.spill.in.doubt", "set-aside"),
    ])
    .unwrap();
    let expected = SpillConfig::new(Path::new("/var/spool/agent"))
        .quota(10_000_000)
        .sync(SpillSync::Every(secs(1)))
        .full(SpillFull::Drop)
        .in_doubt(SpillInDoubt::SetAside);
    assert_eq!(config.spill, Some(expected));
    for (name, value, part) in [
        ("tidegate.spill.quota", "100", "4194304"),
        ("tidegate.spill.quota", "10000000", "folder"),
        ("tidegate.spill.sync", "0", "always"),
        ("tidegate.spill.full", "explode", "park"),
    ] {
        let directory = if part == "folder" { "" } else { "/x" };
        let properties = [
            ("bootstrap.servers", "localhost:9092"),
            ("tidegate.spill.directory", directory),
            (name, value),
        ];
        let properties = properties.into_iter().filter(|(_, value)| !value.is_empty());
        let config = ProducerConfig::from_properties(properties);
        let error = config.and_then(|config| config.validate()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
