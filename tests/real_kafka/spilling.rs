//! Records on disk, against a real broker. The process that is killed is this test binary, run
//! again.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tidegate::{Producer, SpillConfig};

use crate::kafka::{ClusterConfig, Kafka, unique_topic};

/// Where the killed process finds brokers, topic and folder.
const CHILD: [&str; 3] =
    ["TIDEGATE_TEST_SPILL_SERVERS", "TIDEGATE_TEST_SPILL_TOPIC", "TIDEGATE_TEST_FOLDER"];
const COUNT: usize = 200_000;
const LIMIT: Duration = Duration::from_secs(120);

fn producer(servers: &str, folder: &Path) -> Producer {
    let builder = Producer::builder(servers).buffer_memory(4 << 20).spill(SpillConfig::new(folder));
    builder.configure(|config| config.max_request_size = 128 << 10).build().expect("they work")
}

/// In the process that is to be killed: spills, and waits for that. Returns in any other.
pub fn be_killed() {
    let [Ok(servers), Ok(topic), Ok(folder)] = CHILD.map(std::env::var) else { return };
    let producer = producer(&servers, Path::new(&folder));
    let topic = producer.topic(&topic).expect("a legal name");
    for n in 0..COUNT {
        let value = format!("{n} {}", "x".repeat(80));
        drop(topic.send("customer-42", &value).expect("the disk takes it"));
    }
    println!("{:?}", producer.spill_status());
    std::thread::sleep(10 * LIMIT);
}

/// All brokers are killed, a process spills and is killed, brokers and process come back: Java's
/// consumer finds what was on disk, each record once, in order.
pub fn killed_process(kafka: &Kafka) {
    let cluster = kafka.start(&ClusterConfig::single());
    let name = unique_topic("spill");
    cluster.create_topic(&name, 1, 1, &[]);
    let servers = cluster.bootstrap_servers();
    cluster.kill(cluster.broker_ids()[0]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("a test knows its own file"))
        .envs(CHILD.into_iter().zip([&servers, &name, &folder.path().display().to_string()]))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started again");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let spilled = lines.next().expect("it says when it has sent all").expect("it is text");
    println!("killed with {spilled}");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    cluster.restart(cluster.broker_ids()[0]);
    let producer = producer(&servers, folder.path());
    println!("found {:?}", producer.spill_status());
    producer.flush().wait().expect("nothing stands in the way");
    producer.close(LIMIT).wait().expect("all is acknowledged");
    let number = |value: &[u8]| {
        let text = std::str::from_utf8(value).expect("it is text");
        text.split(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("a number")
    };
    let mut read = Vec::new();
    cluster.read_back_each(&name, |record| {
        read.push(number(record.value.expect("no null was sent")));
    });
    println!("{} records read, from {:?} to {:?}", read.len(), read.first(), read.last());
    // Those in memory were lost: at most its 4 MiB, of which unknown topics have a quarter.
    let first = *read.first().expect("something was on disk");
    assert!(first * 90 < 4 << 20, "{first}");
    assert!(read.len() > COUNT * 8 / 10, "{}", read.len());
    assert!(read.iter().copied().eq(first..first + read.len()), "a gap, or one twice");
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1, "but the lock");
}
