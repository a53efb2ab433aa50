//! Instructions that a record costs, counted by valgrind's callgrind: the same on a busy machine as
//! on a quiet one, so that a commit that makes sending slower is seen at once.
//!
//! ```sh
//! cargo run --release --manifest-path tests/shipped/Cargo.toml --example instructions
//! ```
//!
//! The library is the one that users get, without the switches of the tests. Each way to send is
//! run twice, with more records the second time; the difference is what records cost, whatever
//! starting and ending takes. It fails where the sending thread, which also takes the outcomes,
//! needs more than the limit: about a tenth above what it needed when the limit was set.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tidegate::embedded::EmbeddedCluster;
use tidegate::{Delivery, Producer, Record};

type Outcome = Result<(), Box<dyn Error>>;

const RECORDS: [u64; 2] = [100_000, 300_000];
const PARTITIONS: i32 = 12;
/// Deliveries that are kept before the older half of them is taken.
const KEPT: usize = 1 << 15;

/// A way to send 100 bytes, and how many instructions of the sending thread a record may take.
struct Way {
    name: &'static str,
    limit: u64,
}

const WAYS: [Way; 3] = [
    Way { name: "send", limit: 560 },
    Way { name: "send with a key", limit: 690 },
    Way { name: "send_record to a partition", limit: 720 },
];

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["broker"] => serve(),
        ["client", bootstrap, way, records] => send(bootstrap, way, records.parse()?),
        _ => measure(),
    }
}

/// A broker that answers everything and keeps nothing, until its input is closed.
fn serve() -> Outcome {
    let cluster =
        EmbeddedCluster::builder().topic("t", PARTITIONS).discard_payloads(true).start()?;
    println!("{}", cluster.bootstrap_servers());
    std::io::stdin().lines().try_for_each(|line| line.map(drop))?;
    Ok(())
}

fn send(bootstrap: &str, way: &str, records: u64) -> Outcome {
    let producer = Producer::builder(bootstrap).build()?;
    let topic = producer.topic("t")?;
    topic.send((), "the topic is known then")?.wait()?;
    let (value, keys) = ([7; 100], [1_u64, 2, 3, 4, 5, 6, 7].map(|n| (n << 40).to_be_bytes()));
    let mut kept: VecDeque<Delivery> = VecDeque::with_capacity(KEPT);
    for n in 0..records {
        if kept.len() == KEPT {
            for delivery in kept.drain(..KEPT / 2) {
                delivery.wait()?;
            }
        }
        kept.push_back(match way {
            "send" => topic.send((), &value)?,
            "send with a key" => topic.send(keys[n as usize % keys.len()], &value)?,
            _ => {
                let partition = (n % PARTITIONS as u64) as i32;
                topic.send_record(Record::new().value(&value).partition(partition))?
            }
        });
    }
    for delivery in kept {
        delivery.wait()?;
    }
    producer.close(Duration::from_secs(60)).wait()?;
    Ok(())
}

fn measure() -> Outcome {
    let this = std::env::current_exe()?;
    let folder = tempfile::tempdir()?;
    let mut broker =
        Command::new(&this).arg("broker").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut bootstrap = String::new();
    let out = broker.stdout.take().ok_or("the broker has no output")?;
    BufReader::new(out).read_line(&mut bootstrap)?;
    let mut over = Vec::new();
    println!("{:<28} {:>14} {:>8}", "instructions a record", "sending thread", "limit");
    for Way { name, limit } in WAYS {
        let mut counted = [0; 2];
        for (records, counted) in RECORDS.into_iter().zip(&mut counted) {
            *counted = count(&this, folder.path(), &[bootstrap.trim(), name], records)?;
        }
        let each = (counted[1] - counted[0]) / (RECORDS[1] - RECORDS[0]);
        println!("{name:<28} {each:>14} {limit:>8}");
        if each > limit {
            over.push(name);
        }
    }
    drop(broker.stdin.take());
    broker.wait()?;
    if over.is_empty() { Ok(()) } else { Err(format!("over the limit: {over:?}").into()) }
}

/// Instructions of the sending thread, which is the first of its process.
fn count(
    this: &Path,
    folder: &Path,
    what: &[&str; 2],
    records: u64,
) -> Result<u64, Box<dyn Error>> {
    let file = folder.join(format!("callgrind.{records}"));
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes", "--quiet"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(this)
        .arg("client")
        .args(what)
        .arg(records.to_string())
        .status()
        .map_err(|error| format!("valgrind cannot be run: {error}"))?;
    if !status.success() {
        return Err(format!("the client failed: {status}").into());
    }
    let written = std::fs::read_to_string(format!("{}-01", file.display()))?;
    let totals = written.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(totals.ok_or("callgrind wrote no totals")?.trim().parse()?)
}
