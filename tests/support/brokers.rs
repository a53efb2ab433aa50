//! Embedded brokers in a child process, so that their allocations, memory, threads and descriptors
//! are not counted with the producer's. The child is the test binary itself, run again for the one
//! test that serves brokers.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tidegate::embedded::{EmbeddedCluster, EmbeddedTls};

/// Tells the child what to serve: brokers, partitions of the topic `t`, whether to discard, and
/// whether to encrypt.
const SPEC: &str = "TIDEGATE_TEST_BROKERS";

/// Brokers in another process. Dropping it ends them.
pub struct Brokers {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub bootstrap_servers: String,
    /// Whom to trust, if they encrypt.
    #[allow(dead_code)]
    pub authority_pem: String,
}

impl Brokers {
    /// `serving_test` is the name of the test that calls [`serve`].
    #[allow(dead_code)]
    pub fn start(serving_test: &str, brokers: usize, partitions: i32, discard: bool) -> Brokers {
        Brokers::serving(serving_test, format!("{brokers} {partitions} {discard} false"))
    }

    /// The same, with TLS.
    #[allow(dead_code)]
    pub fn start_encrypted(serving_test: &str, brokers: usize, partitions: i32) -> Brokers {
        Brokers::serving(serving_test, format!("{brokers} {partitions} false true"))
    }

    fn serving(serving_test: &str, spec: String) -> Brokers {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", serving_test, "--nocapture"])
            .env(SPEC, spec)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let (bootstrap_servers, authority_pem) = (String::new(), String::new());
        let mut started = Brokers { child, commands, answers, bootstrap_servers, authority_pem };
        started.bootstrap_servers = started.answer();
        started.authority_pem = started.answer().replace('|', "\n");
        started
    }

    /// The test harness prints lines of its own.
    fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.answers.read_line(&mut line).unwrap(), 0, "the brokers' process ended");
            if let Some((_, answer)) = line.split_once("brokers: ") {
                return answer.trim().to_owned();
            }
        }
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        self.answer()
    }

    /// All brokers stand still.
    #[allow(dead_code)]
    pub fn pause(&mut self) {
        self.ask("pause");
    }

    /// They go on.
    #[allow(dead_code)]
    pub fn resume(&mut self) {
        self.ask("resume");
    }

    /// Records and batches that were appended.
    #[allow(dead_code)]
    pub fn records_and_batches(&mut self) -> (u64, u64) {
        let answer = self.ask("records");
        let (records, batches) = answer.split_once(' ').unwrap();
        (records.parse().unwrap(), batches.parse().unwrap())
    }

    /// Connections that are open.
    #[allow(dead_code)]
    pub fn connections_open(&mut self) -> u64 {
        self.ask("connections").parse().unwrap()
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        // A child that is gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side: serves until its standard input ends. Returns at once in any other process.
pub fn serve() {
    let Ok(spec) = std::env::var(SPEC) else { return };
    let parts: Vec<&str> = spec.split(' ').collect();
    let mut builder = EmbeddedCluster::builder()
        .brokers(parts[0].parse().unwrap())
        .topic("t", parts[1].parse().unwrap())
        .discard_payloads(parts[2].parse().unwrap());
    let encrypts = parts[3] == "true";
    if encrypts {
        builder = builder.tls(EmbeddedTls::new());
    }
    let cluster = builder.start().unwrap();
    println!("brokers: {}", cluster.bootstrap_servers());
    let authority = if encrypts { cluster.authority_pem() } else { String::new() };
    println!("brokers: {}", authority.replace('\n', "|"));
    for line in std::io::stdin().lines() {
        let answer = match line.unwrap().as_str() {
            "pause" => {
                cluster.broker_ids().into_iter().for_each(|id| cluster.pause_broker(id));
                "paused".to_owned()
            }
            "resume" => {
                cluster.broker_ids().into_iter().for_each(|id| cluster.resume_broker(id));
                "resumed".to_owned()
            }
            "records" => {
                let stats = cluster.stats();
                format!("{} {}", stats.records(), stats.batches())
            }
            "connections" => cluster.stats().connections_open().to_string(),
            other => panic!("what is {other}?"),
        };
        println!("brokers: {answer}");
    }
}
