//! Tests of the support that runs real Apache Kafka: what the other tests rely on.

#[path = "support/kafka/mod.rs"]
mod kafka;
#[path = "support/proxy/mod.rs"]
mod proxy;

use std::io::{BufRead, BufReader};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka::{
    Cluster, ClusterConfig, Kafka, Session, Test, TimestampType, V0_11, V2_7, Wire, unique_topic,
    wait_until,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType as BatchTimestampType,
};
use proxy::Proxy;

/// Hidden arguments: this binary as the child that starts a broker and then dies.
const CHILD_ABORTS: &str = "--child-that-aborts";
const CHILD_IS_KILLED: &str = "--child-that-is-killed";

/// Killing a broker took 0.2 s.
const GONE_LIMIT: Duration = Duration::from_secs(60);

/// Brokers on a slow disk were seen to stand still for ten seconds.
const PATIENCE: Duration = Duration::from_secs(180);

const TESTS: &[Test] = &[
    Test { name: "records_come_back_as_they_were_produced", run: records_come_back },
    Test { name: "many_records_come_back_quickly", run: many_records_come_back },
    Test { name: "topics_are_created_altered_and_deleted", run: topics },
    Test { name: "java_partitions_follow_the_keys", run: java_partitions },
    Test { name: "a_quota_throttles", run: quota },
    Test { name: "a_leader_moves_without_a_kill", run: leader_moves },
    Test { name: "a_killed_leader_is_replaced_and_returns", run: killed_leader },
    Test { name: "a_stopped_leader_is_replaced_and_goes_on", run: stopped_leader },
    Test { name: "a_terminated_single_node_keeps_its_data", run: restarted_single },
    Test { name: "brokers_of_old_releases_run_and_are_read", run: old_releases },
    Test { name: "brokers_behind_proxies_advertise_them", run: behind_proxies },
    Test { name: "without_java_tests_are_ignored_or_fail", run: without_java },
    Test { name: "what_codecs_unpack_goes_with_the_cluster", run: codecs },
    Test { name: "nothing_is_left_after_a_panic", run: nothing_left_after_panic },
    Test { name: "nothing_is_left_after_an_abort", run: nothing_left_after_abort },
    Test { name: "nothing_is_left_after_a_kill", run: nothing_left_after_kill },
];

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(CHILD_ABORTS) => child(true),
        Some(CHILD_IS_KILLED) => child(false),
        _ => kafka::run(TESTS),
    }
}

fn records_come_back(kafka: &Kafka) {
    let cluster = kafka.shared_single();
    let topic = unique_topic("records");
    cluster.create_topic(&topic, 3, 1, &[]);
    let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let mut tagged = record(2, 1_700_000_000_002, bytes("k"), bytes("tagged"));
    tagged.headers.insert(text("none"), None);
    tagged.headers.insert(text("empty"), bytes(""));
    tagged.headers.insert(text("größe"), bytes("\u{0}\n"));
    let sent = [
        record(0, 1_700_000_000_000, None, None),
        record(1, 1_700_000_000_001, bytes(""), bytes("")),
        tagged,
    ];
    produce(&cluster, &topic, 1, &sent);
    produce(&cluster, &topic, 2, &[record(0, 5, None, bytes("other partition"))]);

    let read = cluster.read_back(&topic);
    let seen: Vec<(i32, i64, i64)> =
        read.iter().map(|record| (record.partition, record.offset, record.timestamp)).collect();
    let expected = [
        (1, 0, 1_700_000_000_000),
        (1, 1, 1_700_000_000_001),
        (1, 2, 1_700_000_000_002),
        (2, 0, 5),
    ];
    assert_eq!(seen, expected);
    assert!(read.iter().all(|record| record.timestamp_type == TimestampType::CreateTime));
    assert_eq!((&read[0].key, &read[0].value), (&None, &None));
    assert_eq!((&read[1].key, &read[1].value), (&Some(vec![]), &Some(vec![])));
    assert_eq!(read[2].value.as_deref(), Some(&b"tagged"[..]));
    let headers = [
        ("none".to_owned(), None),
        ("empty".to_owned(), Some(vec![])),
        ("größe".to_owned(), Some(b"\0\n".to_vec())),
    ];
    assert_eq!(read[2].headers, headers);
    assert!(read[3].headers.is_empty());
}

fn many_records_come_back(kafka: &Kafka) {
    const BATCHES: i64 = 100;
    const BATCH: i64 = 1_000;
    let cluster = kafka.shared_single();
    let topic = unique_topic("many");
    cluster.create_topic(&topic, 1, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let value = Bytes::from(vec![7; 300]);
    let records: Vec<Record> =
        (0..BATCH).map(|offset| record(offset, 0, None, Some(value.clone()))).collect();
    for _ in 0..BATCHES {
        produce(&cluster, &topic, 0, &records);
    }
    let mut next = 0;
    let start = Instant::now();
    let count = cluster.read_back_each(&topic, |record| {
        assert_eq!(record.offset, next);
        assert_eq!(record.value, Some(&value[..]));
        assert_eq!(record.timestamp_type, TimestampType::LogAppendTime);
        next += 1;
    });
    println!("read {count} records of 300 bytes in {:?}", start.elapsed());
    assert_eq!(count, u64::try_from(BATCHES * BATCH).expect("a product of positive numbers"));
}

fn topics(kafka: &Kafka) {
    let cluster = kafka.shared_three();
    let topic = unique_topic("topics");
    cluster.create_topic(&topic, 2, 3, &[("max.message.bytes", "5000")]);
    assert_eq!(cluster.topic_config(&topic, "max.message.bytes").as_deref(), Some("5000"));
    assert_eq!(cluster.topic_config(&topic, "min.insync.replicas").as_deref(), Some("2"));
    let view = cluster.partition(&topic, 1);
    assert_eq!((view.replicas.len(), view.in_sync.len()), (3, 3));

    cluster.create_partitions(&topic, 5);
    assert!(cluster.leader(&topic, 4).is_some());
    cluster.alter_topic_config(&topic, &[("max.message.bytes", Some("7000"))]);
    assert_eq!(cluster.topic_config(&topic, "max.message.bytes").as_deref(), Some("7000"));
    cluster.alter_topic_config(&topic, &[("max.message.bytes", None)]);
    assert_eq!(cluster.topic_config(&topic, "max.message.bytes").as_deref(), Some("1048588"));

    cluster.delete_topic(&topic);
    // A topic of the same name can be created at once: the old one is gone everywhere.
    cluster.create_topic(&topic, 1, 3, &[]);
    assert!(cluster.read_back(&topic).is_empty());
}

fn java_partitions(kafka: &Kafka) {
    let cluster = kafka.shared_single();
    let topic = unique_topic("keys");
    cluster.create_topic(&topic, 7, 1, &[]);
    let keys: Vec<Vec<u8>> = (0..200_u32).map(|i| i.to_be_bytes().repeat(2)).collect();
    let partitions = cluster.java_partitions(&topic, &keys);
    let mut read: Vec<(Vec<u8>, i32)> = cluster
        .read_back(&topic)
        .into_iter()
        .map(|record| (record.key.expect("every record was sent with a key"), record.partition))
        .collect();
    read.sort();
    let mut sent: Vec<(Vec<u8>, i32)> = keys.into_iter().zip(partitions).collect();
    sent.sort();
    assert_eq!(read, sent);
    assert!((0..7).all(|partition| sent.iter().any(|&(_, used)| used == partition)));
}

fn quota(kafka: &Kafka) {
    let cluster = kafka.shared_single();
    let topic = unique_topic("quota");
    cluster.create_topic(&topic, 1, 1, &[]);
    let client = "throttled-client";
    cluster.set_client_quota(Some(client), "producer_byte_rate", Some(1_000.0));
    let mut wire = Wire::connect_as(cluster.address(1), client).expect("the broker listens");
    let request = produce_request(&topic, 0, &[record(0, 0, None, Some(vec![0; 5_000].into()))]);
    let throttled = wait_until(PATIENCE, || {
        let answer = wire.call(9, &request).expect("the broker answers");
        answer.throttle_time_ms > 0
    });
    assert!(throttled, "20 times the rate and never throttled");
    cluster.set_client_quota(Some(client), "producer_byte_rate", None);
}

fn leader_moves(kafka: &Kafka) {
    let cluster = kafka.shared_three();
    let topic = unique_topic("moves");
    cluster.create_topic(&topic, 1, 3, &[]);
    for to in [2, 3, 1] {
        cluster.move_leader(&topic, 0, to);
        assert_eq!(cluster.leader(&topic, 0), Some(to));
        produce(&cluster, &topic, 0, &[record(0, 0, None, None)]);
    }
    assert_eq!(cluster.read_back(&topic).len(), 3);

    let small = unique_topic("moves");
    cluster.create_topic(&small, 1, 1, &[]);
    let elsewhere = cluster.leader(&small, 0).map(|leader| leader % 3 + 1);
    let elsewhere = elsewhere.expect("a created topic has leaders");
    cluster.move_leader(&small, 0, elsewhere);
    assert_eq!(cluster.partition(&small, 0).replicas, [elsewhere]);
}

fn killed_leader(kafka: &Kafka) {
    let cluster = kafka.private_three();
    let topic = unique_topic("killed");
    cluster.create_topic(&topic, 1, 3, &[]);
    produce(&cluster, &topic, 0, &[record(0, 1, None, None)]);
    let killed = cluster.leader(&topic, 0).expect("a created topic has leaders");
    let pid = cluster.pid(killed).expect("the broker runs");
    let address = cluster.address(killed);
    cluster.kill(killed);
    assert_eq!(kafka::state_of(pid), None);
    assert_eq!(cluster.pid(killed), None);

    let next = cluster.wait_for_leader(&topic, 0, |leader| leader != killed);
    assert_ne!(next, killed);
    produce(&cluster, &topic, 0, &[record(0, 2, None, None)]);
    // Java must be able to read with one of three brokers down.
    assert_eq!(cluster.read_back(&topic).len(), 2);

    cluster.restart(killed);
    cluster.wait_in_sync(&topic);
    assert_eq!(cluster.address(killed), address);
    cluster.move_leader(&topic, 0, killed);
    produce(&cluster, &topic, 0, &[record(0, 3, None, None)]);
    let timestamps: Vec<i64> = cluster.read_back(&topic).iter().map(|r| r.timestamp).collect();
    assert_eq!(timestamps, [1, 2, 3]);
}

fn stopped_leader(kafka: &Kafka) {
    let cluster = kafka.start(&ClusterConfig::three().session(Session::Fast));
    let topic = unique_topic("stopped");
    cluster.create_topic(&topic, 1, 3, &[]);
    produce(&cluster, &topic, 0, &[record(0, 1, None, None)]);
    let stopped = cluster.leader(&topic, 0).expect("a created topic has leaders");
    let pid = cluster.pid(stopped).expect("the broker runs");
    // Stopped only after it is quiet, so that the last answer is not cut in two.
    cluster.stop(stopped);
    assert_eq!(kafka::state_of(pid), Some('T'));
    let mut wire = Wire::connect(cluster.address(stopped)).expect("the kernel still accepts");
    wire.set_answer_limit(Duration::from_millis(300)).expect("a time-out above zero");
    let request = produce_request(&topic, 0, &[record(0, 2, None, None)]);
    wire.call(9, &request).expect_err("a stopped broker does not answer");
    drop(wire);

    cluster.wait_for_leader(&topic, 0, |leader| leader != stopped);
    produce(&cluster, &topic, 0, &[record(0, 3, None, None)]);
    cluster.cont(stopped);
    cluster.wait_ready();
    cluster.wait_in_sync(&topic);
    assert_eq!(cluster.pid(stopped), Some(pid));

    // The two that remain keep the third's partitions available after an orderly end.
    cluster.terminate(stopped);
    produce(&cluster, &topic, 0, &[record(0, 4, None, None)]);
}

fn restarted_single(kafka: &Kafka) {
    let cluster = kafka.private_single();
    let topic = unique_topic("restarted");
    cluster.create_topic(&topic, 1, 1, &[]);
    produce(&cluster, &topic, 0, &[record(0, 1, None, None)]);
    cluster.terminate(1);
    assert!(cluster.pids().is_empty());
    cluster.restart(1);
    cluster.wait_for_leader(&topic, 0, |leader| leader == 1);
    assert_eq!(cluster.read_back(&topic).len(), 1);
}

/// Releases with ZooKeeper; three brokers with a kill, and one. The oldest, whose brokers take no
/// record batches, are the business of tests/real_kafka.
fn old_releases(kafka: &Kafka) {
    let cluster = kafka.start(&ClusterConfig::three().release(&V0_11));
    let topic = unique_topic("old");
    cluster.create_topic(&topic, 1, 3, &[]);
    produce(&cluster, &topic, 0, &[record(0, 1, None, None)]);
    let killed = cluster.leader(&topic, 0).expect("a created topic has leaders");
    cluster.kill(killed);
    cluster.wait_for_leader(&topic, 0, |leader| leader != killed);
    produce(&cluster, &topic, 0, &[record(0, 2, None, None)]);
    cluster.restart(killed);
    cluster.wait_in_sync(&topic);
    assert_eq!(cluster.read_back(&topic).len(), 2);
    drop(cluster);

    let cluster = kafka.start(&ClusterConfig::single().release(&V2_7));
    cluster.create_topic(&topic, 2, 1, &[]);
    produce(&cluster, &topic, 1, &[record(0, 1, None, None)]);
    cluster.terminate(1);
    cluster.restart(1);
    assert_eq!(cluster.read_back(&topic).len(), 1);
    cluster.delete_topic(&topic);
    cluster.create_topic(&topic, 1, 1, &[]);
    assert!(cluster.read_back(&topic).is_empty());
}

fn behind_proxies(kafka: &Kafka) {
    let proxies = [Proxy::start(), Proxy::start(), Proxy::start()];
    let ports = proxies.each_ref().map(|proxy| proxy.address().port());
    let cluster = kafka.start(&ClusterConfig::three().behind(&ports));
    for (id, proxy) in (1..).zip(&proxies) {
        proxy.forward_to(cluster.proxied_address(id));
    }
    let topic = unique_topic("proxied");
    cluster.create_topic(&topic, 3, 3, &[]);

    let bootstrap = proxies[2].address().to_string();
    let producer = tidegate::Producer::builder(&bootstrap)
        .configure(|config| config.pinning = false)
        .build()
        .expect("an address is all it needs");
    let to = producer.topic(&topic).expect("the name is legal");
    for proxy in &proxies {
        // A connection begins with ApiVersions and Metadata: the second answer to Produce.
        proxy.script(|frame| match frame.answers(proxy::api::PRODUCE) && frame.nth == 3 {
            true => proxy::Act::CutAt(0),
            false => proxy::Act::Pass,
        });
    }
    for n in 0..30 {
        let record = tidegate::Record::new().value("v").partition(n % 3);
        let delivery = to.send_record(record).expect("there is room");
        delivery.wait().expect("a lost acknowledgement is asked for again");
    }
    let records = cluster.read_back(&topic);
    assert_eq!(records.len(), 30, "each once");
    for (id, proxy) in (1..).zip(&proxies) {
        let seen = proxy.seen();
        assert!(
            seen.requests_of(proxy::api::PRODUCE) >= 11 && seen.accepted >= 2,
            "{id}: {seen:?}"
        );
    }
    drop(producer);
}

fn without_java(_kafka: &Kafka) {
    let binary = std::env::current_exe().expect("a running binary has a path");
    let run = |required: bool| {
        let mut command = Command::new(&binary);
        command.env("PATH", "/nonexistent").env_remove("CI").env_remove("TIDEGATE_REQUIRE_KAFKA");
        if required {
            command.env("TIDEGATE_REQUIRE_KAFKA", "1");
        }
        let output = command.output().expect("this binary can be started again");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (success, text) = run(false);
    let summary = format!("0 passed; 0 failed; {} ignored", TESTS.len());
    assert!(success && text.contains(&summary), "{text}");
    assert!(text.contains("no Kafka: java is not installed"), "{text}");
    let (success, text) = run(true);
    let summary = format!("0 passed; {} failed", TESTS.len());
    assert!(!success && text.contains(&summary), "{text}");
}

/// A broker and Java's consumer unpack native libraries into files, which those that are killed
/// do not remove: they must lie where the cluster's data does.
fn codecs(kafka: &Kafka) {
    let cluster = kafka.private_single();
    let is_unpacked = |folder: &Path, library: &str| {
        let files = std::fs::read_dir(folder).expect("the folder is there");
        files
            .map(|file| file.expect("the folder can be read").file_name())
            .any(|name| name.to_string_lossy().contains(library))
    };
    let node = cluster.log(1).parent().expect("the log lies in a folder").to_owned();
    for (codec, library) in [("lz4", "liblz4-java"), ("snappy", "libsnappyjava")] {
        let topic = unique_topic(codec);
        cluster.create_topic(&topic, 1, 1, &[("compression.type", codec)]);
        produce(&cluster, &topic, 0, &[record(0, 1, None, None)]);
        assert!(is_unpacked(&node, library), "{codec} unpacked nothing in {}", node.display());
        assert_eq!(cluster.read_back(&topic).len(), 1);
    }
    assert!(node.starts_with(cluster.folder()), "{}", node.display());
}

fn nothing_left_after_panic(kafka: &Kafka) {
    let left = panic::catch_unwind(AssertUnwindSafe(|| {
        let cluster = kafka.private_single();
        let left = (cluster.pids(), cluster.folder().to_owned());
        panic::resume_unwind(Box::new(left));
    }));
    let left = left.expect_err("the closure panics");
    let (pids, folder) =
        left.downcast_ref::<(Vec<u32>, PathBuf)>().expect("the payload is what was thrown");
    assert_eq!(pids.len(), 1);
    assert_eq!(kafka::state_of(pids[0]), None);
    assert!(!folder.exists(), "{} is left", folder.display());
}

fn nothing_left_after_abort(_kafka: &Kafka) {
    let (mut child, pid, folder) = start_child(CHILD_ABORTS);
    let status = child.wait().expect("the child can be waited for");
    assert!(!status.success(), "the child aborts");
    assert_gone(pid, &folder);
}

fn nothing_left_after_kill(_kafka: &Kafka) {
    let (mut child, pid, folder) = start_child(CHILD_IS_KILLED);
    assert!(kafka::state_of(pid).is_some(), "the broker lives as long as the child");
    child.kill().expect("the child runs");
    child.wait().expect("the child can be waited for");
    assert_gone(pid, &folder);
}

/// A broker of a dead process ends; its data goes when the next process starts clusters.
fn assert_gone(pid: u32, folder: &Path) {
    assert!(wait_until(GONE_LIMIT, || kafka::state_of(pid).is_none()), "process {pid} is left");
    let (mut child, _, last) = start_child(CHILD_IS_KILLED);
    let gone = !folder.exists();
    // The closed pipe lets this child end in order, and take its own data along.
    drop(child.stdin.take());
    let status = child.wait().expect("the child can be waited for");
    assert!(status.success(), "the child ended with {status}");
    assert!(gone, "{} is left", folder.display());
    assert!(!last.exists(), "{} is left", last.display());
}

/// Starts this binary as a child, and waits until it has named its broker and its folder.
fn start_child(argument: &str) -> (Child, u32, PathBuf) {
    let binary = std::env::current_exe().expect("a running binary has a path");
    let mut child = Command::new(binary)
        .arg(argument)
        // Waiting for a slot of its own while this process holds one could block both for good.
        .env(kafka::SLOT_HELD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this binary can be started again");
    let stdout = child.stdout.take().expect("standard output was set to a pipe above");
    let mut lines = BufReader::new(stdout).lines();
    let mut line = || lines.next().expect("two lines").expect("the child writes text");
    let pid = line().parse().expect("the first line is a process id");
    (child, pid, PathBuf::from(line()))
}

/// The child: starts a broker, says which, and then aborts or waits to be killed.
fn child(abort: bool) -> ExitCode {
    let kafka = kafka::availability().expect("the parent had Kafka");
    let cluster = kafka.private_single();
    println!("{}\n{}", cluster.pids()[0], cluster.folder().display());
    if abort {
        std::process::abort();
    }
    // The parent kills this process, or closes the pipe.
    let _ = std::io::stdin().read_line(&mut String::new());
    ExitCode::SUCCESS
}

/// A record for a batch that begins at offset 0 and has no sequence: the encoder cuts a batch in
/// two where sequences do not ascend with the offsets.
fn record(offset: i64, timestamp: i64, key: Option<Bytes>, value: Option<Bytes>) -> Record {
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: BatchTimestampType::Creation,
        offset,
        sequence: NO_SEQUENCE + i32::try_from(offset).expect("a batch is small"),
        timestamp,
        key,
        value,
        headers: Default::default(),
    }
}

fn produce_request(topic: &str, partition: i32, records: &[Record]) -> ProduceRequest {
    let mut batch = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut batch, records, &options).expect("the records are well formed");
    let mut data = PartitionProduceData::default();
    data.index = partition;
    data.records = Some(batch.freeze());
    let mut in_topic = TopicProduceData::default();
    in_topic.name = TopicName(text(topic));
    in_topic.partition_data = vec![data];
    let mut request = ProduceRequest::default();
    request.acks = -1;
    request.timeout_ms = 10_000;
    request.topic_data = vec![in_topic];
    request
}

/// Produces one batch to the partition's leader, wherever it is by then, in the version of Produce
/// that all releases with record batches have.
fn produce(cluster: &Cluster, topic: &str, partition: i32, records: &[Record]) {
    let request = produce_request(topic, partition, records);
    let mut last = 0;
    let done = wait_until(PATIENCE, || {
        let Some(leader) = cluster.leader(topic, partition) else {
            return false;
        };
        let answer = Wire::connect(cluster.address(leader)).and_then(|mut w| w.call(3, &request));
        // The metadata may still name a broker that is gone.
        let Ok(answer) = answer else {
            return false;
        };
        last = answer.responses[0].partition_responses[0].error_code;
        let retriable = ResponseError::try_from_code(last).is_some_and(|e| e.is_retriable());
        assert!(last == 0 || retriable, "producing to {topic}-{partition}: error {last}");
        last == 0
    });
    assert!(done, "producing to {topic}-{partition}: error {last} for {PATIENCE:?}");
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}
