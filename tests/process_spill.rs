//! A process that is killed while it spills, and while it sends what it has spilled.
//!
//! The process is this test binary, run again for one test. Brokers stay here, and so does the
//! producer that comes after it.

#![cfg(unix)]

#[path = "support/client_process.rs"]
mod client_process;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{
    Producer, ProducerBuilder, Record, SendErrorKind, SpillConfig, SpillFull, SpillInDoubt,
    SpillStatus,
};

/// The same name as in [`client_process`].
const BOOTSTRAP: &str = "TIDEGATE_TEST_BOOTSTRAP";
const FOLDER: &str = "TIDEGATE_TEST_FOLDER";
/// How often each is killed; the thousand is `TIDEGATE_TEST_KILLS=1000`.
const KILLS: &str = "TIDEGATE_TEST_KILLS";
const ON_DISK: &str = "on disk: ";
const LONG: Duration = Duration::from_secs(60);
const PARTITIONS: usize = 3;
/// Records of one process.
const RECORDS: usize = 2_500;

fn builder(bootstrap: &str, spill: SpillConfig) -> ProducerBuilder {
    Producer::builder(bootstrap).spill(spill).buffer_memory(1 << 20).batch_size(16 << 10).configure(
        |config| {
            config.pinning = false;
            config.max_request_size = 64 << 10;
        },
    )
}

/// The killed process: sends, and says which records were on disk when `send` returned.
#[test]
fn child() {
    let Ok(bootstrap) = std::env::var(BOOTSTRAP) else { return };
    let folder = std::env::var(FOLDER).unwrap();
    let producer = builder(&bootstrap, SpillConfig::new(Path::new(&folder))).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let spilled = || producer.spill_status().unwrap().spilled_records;
    let mut out = std::io::stdout().lock();
    for number in 0..RECORDS {
        let before = spilled();
        let value = format!("{number:0>1000}");
        let partition = (number % PARTITIONS) as i32;
        drop(topic.send_record(Record::new().partition(partition).value(&value)).unwrap());
        if spilled() > before {
            writeln!(out, "{ON_DISK}{number}").unwrap();
            out.flush().unwrap();
        }
    }
    writeln!(out, "{ON_DISK}all").unwrap();
    out.flush().unwrap();
    std::thread::sleep(10 * LONG);
}

struct Killed {
    /// What was on disk for certain.
    on_disk: BTreeSet<usize>,
}

fn start(cluster: &EmbeddedCluster, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(BOOTSTRAP, cluster.bootstrap_servers())
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Has a process spill, and kills it: after so many records, or, if it has sent all before, when
/// `is_time`.
fn killed(
    cluster: &EmbeddedCluster,
    folder: &Path,
    after: usize,
    is_time: impl Fn() -> bool,
) -> Killed {
    let mut child = start(cluster, folder);
    let mut on_disk = BTreeSet::new();
    // Kept until the process is gone, which would panic, and close its producer, at a closed pipe.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.by_ref() {
        let line = line.unwrap();
        match line.split_once(ON_DISK) {
            Some((_, "all")) => {
                let start = Instant::now();
                while !is_time() {
                    assert!(start.elapsed() < LONG, "the time never comes");
                }
                break;
            }
            Some((_, number)) => drop(on_disk.insert(number.parse().unwrap())),
            None => {}
        }
        if on_disk.len() == after {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    Killed { on_disk }
}

fn deliver_rest(cluster: &EmbeddedCluster, spill: SpillConfig) -> SpillStatus {
    let producer = builder(&cluster.bootstrap_servers(), spill).build().unwrap();
    let found = producer.spill_status().unwrap();
    producer.flush().wait().unwrap();
    producer.close(LONG).wait().unwrap();
    found
}

/// The numbers in the log of a partition.
fn numbers(cluster: &EmbeddedCluster, partition: usize) -> Vec<usize> {
    let records = cluster.records("t", partition as i32);
    let value = |record: &tidegate::embedded::EmbeddedRecord| {
        std::str::from_utf8(record.value.as_deref().unwrap()).unwrap().parse().unwrap()
    };
    records.iter().map(value).collect()
}

fn kills() -> usize {
    std::env::var(KILLS).ok().map_or(6, |kills| kills.parse().unwrap())
}

/// What lies in files of their own because it is in doubt.
fn set_aside(folder: &Path) -> usize {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "indoubt")).count()
}

fn check(cluster: &EmbeddedCluster, folder: &Path, killed: &Killed, in_doubt: SpillInDoubt) {
    let found = deliver_rest(cluster, SpillConfig::new(folder).in_doubt(in_doubt));
    let mut seen = BTreeSet::new();
    let mut doubled = 0;
    for partition in 0..PARTITIONS {
        let mut newest = None;
        for number in numbers(cluster, partition) {
            match seen.insert(number) {
                true => {
                    assert!(newest < Some(number), "{number} came after {newest:?}");
                    newest = Some(number);
                }
                false => doubled += 1,
            }
        }
    }
    let missing = killed.on_disk.difference(&seen).count() as u64;
    match in_doubt {
        SpillInDoubt::Send => assert_eq!(missing, 0, "{found:?}"),
        _ => {
            assert!(missing <= found.set_aside_records, "{missing}: {found:?}");
            assert_eq!(found.set_aside_records > 0, set_aside(folder) > 0);
        }
    }
    assert!(doubled <= found.in_doubt_records, "{doubled}: {found:?}");
}

#[test]
fn f36_a_process_killed_while_it_spills_loses_nothing_that_was_on_disk() {
    for round in 0..kills() {
        let cluster = EmbeddedCluster::builder().topic("t", PARTITIONS as i32).start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        cluster.pause_broker(1);
        let after = 1 + round * 997 % 1_200;
        let killed = killed(&cluster, folder.path(), after, || true);
        assert_eq!(killed.on_disk.len(), after);
        cluster.resume_broker(1);
        check(&cluster, folder.path(), &killed, SpillInDoubt::Send);
    }
}

#[test]
fn f36_a_process_killed_while_it_sends_what_it_spilled_loses_nothing_or_doubles_nothing() {
    for round in 0..kills() {
        let cluster = EmbeddedCluster::builder().topic("t", PARTITIONS as i32).start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        cluster.pause_broker(1);
        let written = || (0..PARTITIONS as i32).map(|it| cluster.high_watermark("t", it)).sum();
        let wanted = 1 + (round as i64 * 797) % RECORDS as i64;
        let is_resumed = std::cell::Cell::new(false);
        let is_time = || {
            if !is_resumed.replace(true) {
                cluster.resume_broker(1);
            }
            let written: i64 = written();
            written >= wanted
        };
        let killed = killed(&cluster, folder.path(), usize::MAX, is_time);
        let in_doubt = match round % 2 {
            0 => SpillInDoubt::Send,
            _ => SpillInDoubt::SetAside,
        };
        check(&cluster, folder.path(), &killed, in_doubt);
    }
}

/// The process may write files of 2 MiB at most: so it is with a disk that is full.
#[test]
fn f37_a_disk_that_is_full_refuses_records_and_loses_none() {
    let name = "f37_a_disk_that_is_full_refuses_records_and_loses_none";
    if client_process::bootstrap().is_none() {
        let cluster = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
        let shell = "trap '' XFSZ; ulimit -f 4096;";
        client_process::run(name, shell, &cluster.bootstrap_servers(), |asks| match asks {
            "pause" => cluster.pause_broker(1),
            "resume" => cluster.resume_broker(1),
            sent => {
                let sent: usize = sent.parse().unwrap();
                assert_eq!(numbers(&cluster, 0), (0..sent).collect::<Vec<_>>());
            }
        });
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let spill = SpillConfig::new(folder.path()).full(SpillFull::Reject);
    let producer = builder(&client_process::bootstrap().unwrap(), spill).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let send = |number: usize| topic.send((), format!("{number:0>1000}"));
    let mut deliveries = vec![send(0).unwrap()];
    producer.flush().wait().unwrap();
    client_process::ask("pause");
    let error = loop {
        match send(deliveries.len()) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), SendErrorKind::SpillFull(_)), "{error}");
    // In the system's words.
    assert!(error.to_string().contains("too large"), "{error}");
    assert!(send(deliveries.len()).is_err(), "it stays so");
    client_process::ask("resume");
    let sent = deliveries.len();
    for mut delivery in deliveries {
        delivery.wait_timeout(LONG).expect("it resolves").unwrap();
    }
    client_process::ask(&sent.to_string());
    producer.close(LONG).wait().unwrap();
}
