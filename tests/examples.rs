//! The examples as a user starts them: as processes, judged by what they print and how they end.

#[path = "support/example.rs"]
mod example;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Output;
use std::time::Instant;

use example::example;
use serde_json::Value;
use tidegate::embedded::{EmbeddedCluster, Fault};

fn run(name: &str, arguments: &[&str]) -> Output {
    example(name).args(arguments).output().expect("the example was found just now")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("examples print UTF-8")
}

fn name(event: &Value) -> &str {
    event["name"].as_str().expect("each event has a name")
}

fn events(output: &Output) -> Vec<Value> {
    let lines = text(&output.stdout);
    lines.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// The events between `startup_complete` and the two at the end, and the last of those.
fn records_and_data(mut events: Vec<Value>) -> (Vec<Value>, Value) {
    let data = events.pop().expect("there are events");
    assert_eq!(name(&data), "tool_data");
    assert_eq!(name(&events.pop().expect("there are more")), "shutdown_complete");
    assert_eq!(name(&events.remove(0)), "startup_complete");
    (events, data)
}

#[test]
fn secured_sends_and_shows_what_refusals_look_like() {
    let output = run("secured", &["--count", "500"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    let line = |start: &str| stdout.lines().find(|line| line.starts_with(start)).unwrap_or("");
    assert!(stdout.contains("500 records sent and acknowledged"), "{stdout}");
    assert!(stdout.contains("the brokers hold 500 records"), "{stdout}");
    assert!(line("a wrong password:").contains("the broker refused the login (PLAIN)"), "{stdout}");
    assert!(line("an unknown authority:").contains("ssl.truststore"), "{stdout}");
    assert!(!stdout.contains("open"), "a password is told: {stdout}");
}

#[test]
fn explain_shows_what_a_record_waits_for_and_what_happens() {
    let output = run("explain", &["--count", "500"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    let line = |start: &str| stdout.lines().find(|line| line.starts_with(start)).unwrap_or("");
    assert!(stdout.contains("\nhealth: ready\n"), "{stdout}");
    assert!(line("status: orders-0: broker ").contains("it fails in "), "{stdout}");
    assert!(line("health: degraded: broker ").contains("Connection refused"), "{stdout}");
    assert!(stdout.contains("\nsent:   orders-0@0\n"), "{stdout}");
    assert!(line("event:  not connected to broker ").contains("Connection refused"), "{stdout}");
    assert!(stdout.contains("\nrecords: 501 acknowledged, 0 failed"), "{stdout}");
    assert_eq!(stderr, "", "no record failed");
}

#[test]
fn metrics_prometheus_prints_its_pages() {
    let output = run("metrics_prometheus", &["--count", "500"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(
        stdout.contains("\ntidegate_producer_acked_records_total{client_id=\"tidegate\"} 500\n"),
        "{stdout}"
    );
    assert!(stdout.ends_with("\nready\n"), "{stdout}");
}

#[test]
fn custom_partitioner_says_what_each_partition_got() {
    let output = run("custom_partitioner", &["--count", "1000"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    let counts = |what: &str| {
        let of = |line: &str| line.split_once(what)?.1.parse::<u32>().ok();
        stdout.lines().filter_map(of).collect::<Vec<_>>()
    };
    let (urgent, rest) = (counts("(urgent): "), counts("(rest): "));
    assert_eq!((urgent.len(), rest.len()), (2, 4), "{stdout}");
    assert_eq!((urgent.iter().sum::<u32>(), rest.iter().sum::<u32>()), (20, 980), "{stdout}");
    assert!(urgent.iter().all(|count| *count > 0), "{stdout}");
    assert!(rest.iter().all(|count| *count > 150), "{stdout}");
}

/// Runs an example that must succeed, and returns what it printed.
fn printed(name: &str, arguments: &[&str]) -> String {
    let output = run(name, arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    stdout
}

/// The examples assert what they show: here is what their readers must see.
#[test]
fn backoff_strategies_show_the_level_and_what_was_lost() {
    let stdout = printed("backoff_strategies", &["--count", "1000"]);
    for gate in ["open", "closed"] {
        assert!(stdout.lines().any(|line| line.ends_with(&format!("] {gate}"))), "{stdout}");
    }
    assert!(stdout.contains("1000 arrived, 0 dropped, 0 refused"), "park loses none: {stdout}");
    let own = stdout.split("of one's own:").nth(1).unwrap_or_default();
    assert!(own.contains("urgent ones: 100 of 100\n"), "{stdout}");
}

#[test]
fn topic_events_tells_what_happens() {
    let stdout = printed("topic_events", &["--count", "500"]);
    for event in ["orders-0 is led by broker", "topic orders has 3 partitions, and had 2"] {
        assert!(stdout.contains(&format!("  event: {event}")), "{stdout}");
    }
    for event in ["connected to broker", "not connected to broker"] {
        let back = stdout.split(" stops; a record waits").nth(1).unwrap_or_default();
        assert!(back.contains(&format!("  event: {event}")), "{stdout}");
    }
}

#[test]
fn tail_reads_from_a_time_to_the_end() {
    let stdout = printed("tail", &["--count", "200"]);
    assert!(stdout.contains("line 100\n"), "{stdout}");
    assert!(!stdout.contains("line 99\n"), "{stdout}");
    assert!(stdout.contains("\n100 lines were written since\n"), "{stdout}");
    assert_eq!(stdout.matches(", Some(0) behind").count(), 2, "{stdout}");
}

#[test]
fn replay_from_a_time_reads_what_was_written_since() {
    let stdout = printed("replay_from_a_time", &["--count", "200"]);
    assert!(stdout.contains("of the moment: Some(100), of the next day: None\n"), "{stdout}");
    assert!(stdout.contains("it begins with order 100 at offset 100\n"), "{stdout}");
    assert!(stdout.contains("100 orders were read again\ncommitted: Some(200)\n"), "{stdout}");
}

#[test]
fn callbacks_are_all_called() {
    let stdout = printed("callbacks", &["--count", "500"]);
    assert!(stdout.starts_with("500 callbacks for 500 records"), "{stdout}");
    assert!(stdout.contains("\nthe next callback is called: orders-"), "{stdout}");
}

#[test]
fn fallback_loses_nothing() {
    let stdout = printed("fallback", &["--count", "2000"]);
    assert!(stdout.starts_with("2000 records sent while the broker was away"), "{stdout}");
    assert!(stdout.ends_with("2001 different orders in the topic\n"), "{stdout}");
}

#[test]
fn spill_goes_through_a_restart() {
    let stdout = printed("spill", &["--count", "20000"]);
    assert!(stdout.starts_with("20000 records sent while the broker was away"), "{stdout}");
    assert!(stdout.ends_with("20001 records in the topic, each once, in order\n"), "{stdout}");
}

#[test]
fn per_topic_settings_have_the_same_effect_in_code_and_as_properties() {
    let stdout = printed("per_topic_settings", &["--count", "500"]);
    let lines = |topic: &str, words: &str| {
        let is_it = |line: &&str| line.starts_with(topic) && line.ends_with(words);
        stdout.lines().filter(is_it).count()
    };
    assert_eq!(lines("  telemetry", "; not idempotent (acks=1)"), 2, "{stdout}");
    assert_eq!(lines("  audit", "; idempotent"), 2, "{stdout}");
}

#[test]
fn shared_loops_counts_threads() {
    let stdout = printed("shared_loops", &["--count", "500"]);
    let expected = match cfg!(target_os = "linux") {
        true => "all producers on 2 loops:\n  2 event loops: tidegate-loop-0, tidegate-loop-1\n",
        false => "skipped",
    };
    assert!(stdout.contains(expected), "{stdout}");
}

#[test]
fn headers_and_tracing_follows_each_record() {
    let stdout = printed("headers_and_tracing", &["--count", "500"]);
    assert!(stdout.contains("\n501 records: "), "{stdout}");
    assert!(
        stdout.contains("\nread back: 501 records, each with a trace of its own\n"),
        "{stdout}"
    );
}

#[test]
fn test_your_service_checks_all() {
    let stdout = printed("test_your_service", &["--count", "500"]);
    assert_eq!(stdout.lines().filter(|line| line.starts_with("ok ")).count(), 6, "{stdout}");
}

#[test]
fn tokio_service_answers_every_request() {
    let stdout = printed("tokio_service", &["--count", "500"]);
    assert!(stdout.contains("\n500 of 500 requests answered"), "{stdout}");
    assert!(stdout.contains("the longest gap between two was "), "{stdout}");
}

#[test]
fn quickstart_sends_reads_back_and_says_how_fast() {
    let output = run("quickstart", &["--records", "20000"]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_eq!(stderr, "", "no progress bar where nobody sees it");
    let line = |start: &str| stdout.lines().find(|line| line.starts_with(start));
    let rate = line("rate").expect("it says how fast it was");
    assert!(rate.contains("records/s") && rate.contains("MB/s"), "{rate}");
    assert!(rate.contains("20,000 records") && rate.contains("all acknowledged"), "{rate}");
    assert!(line("latency").is_some_and(|line| line.contains("p99.9")), "{stdout}");
    // The last segment may be on its way back.
    assert!(line("memory").is_some_and(|line| line.contains(" of 64.00 MiB taken")), "{stdout}");
    let batches = line("batches").expect("it says how many there were");
    assert!(batches.contains(" records in each; "), "{batches}");
    let counts = stdout.lines().filter_map(|line| {
        let (broker, counts) = line.strip_prefix("broker ")?.split_once("got ")?;
        let count = counts.split(' ').next()?.replace(',', "");
        Some((broker.trim().to_owned(), count.parse::<u32>().expect("a number")))
    });
    let counts: Vec<(String, u32)> = counts.collect();
    assert!(counts.iter().map(|(broker, _)| broker.as_str()).eq(["1", "2", "3"]), "{stdout}");
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u32>(), 20_000, "{stdout}");
    for (broker, _) in counts {
        let levels = format!("broker {broker:<5}level: ");
        let levels = line(&levels).expect("it gives each broker's levels");
        assert!(levels.contains("high watermark"), "{levels}");
    }
    let read_back = line("read back").expect("it says what it found");
    assert!(read_back.contains("20,000 records: each present once"), "{read_back}");
}

#[test]
fn quickstart_sends_to_other_brokers_too() {
    let cluster = EmbeddedCluster::builder().topic("orders", 3).start().unwrap();
    let bootstrap = format!("--bootstrap-server={}", cluster.bootstrap_servers());
    let output = run("quickstart", &["--count", "999", "--topic", "orders", &bootstrap]);
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    assert!(stdout.contains("read back   skipped"), "{stdout}");
    assert_eq!(cluster.stats().records(), 999);
}

#[test]
fn quickstart_fails_with_its_records() {
    const INVALID_RECORD: i16 = 87;
    let cluster = EmbeddedCluster::builder().topic("orders", 3).start().unwrap();
    cluster.script([Fault::produce_error_anywhere(INVALID_RECORD)]);
    let servers = cluster.bootstrap_servers();
    let arguments = ["--count", "9", "--topic", "orders", "--bootstrap-server", &servers];
    let output = run("quickstart", &arguments);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("INVALID_RECORD"), "{}", text(&output.stderr));
}

#[test]
fn unknown_flags_are_errors_with_usage() {
    for (example, usage) in
        [("quickstart", "quickstart [--records"), ("verifiable_producer", "--topic TOPIC")]
    {
        let output = run(example, &["--thruput", "5"]);
        assert_eq!(output.status.code(), Some(1));
        let stderr = text(&output.stderr);
        assert!(stderr.contains("\"--thruput\"") && stderr.contains(usage), "{stderr}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn verifiable_producer_accounts_for_each_record() {
    let output = run(
        "verifiable_producer",
        &[
            "--topic",
            "numbers",
            "--max-messages",
            "500",
            "--acks",
            "-1",
            "--repeating-keys=3",
            "--value-prefix",
            "7",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let (records, data) = records_and_data(events(&output));
    assert_eq!(records.len(), 500);
    assert_eq!((&data["sent"], &data["acked"]), (&500.into(), &500.into()));
    assert_eq!(data["target_throughput"], -1);
    assert!(data["avg_throughput"].as_f64().is_some_and(|average| average > 0.0), "{data}");

    let mut values = BTreeSet::new();
    let mut lines: BTreeMap<i64, Vec<(i64, u32)>> = BTreeMap::new();
    for record in &records {
        assert_eq!(name(record), "producer_send_success");
        assert_eq!(record["topic"], "numbers");
        let value = record["value"].as_str().and_then(|value| value.strip_prefix("7."));
        let value: u32 = value.and_then(|value| value.parse().ok()).expect("values are 7.N");
        assert_eq!(record["key"], (value % 3).to_string());
        values.insert(value);
        let number = |field: &str| record[field].as_i64().expect("it is a number");
        lines.entry(number("partition")).or_default().push((number("offset"), value));
    }
    assert_eq!(values, (0..500).collect());
    // A partition's lines come in the order of its log, which is the order of sending.
    for (partition, lines) in lines {
        assert!(
            lines.iter().map(|line| line.0).eq(0..lines.len() as i64),
            "{partition}: {lines:?}"
        );
        assert!(lines.is_sorted_by_key(|line| line.1), "{partition}: {lines:?}");
    }
}

#[test]
fn verifiable_producer_keeps_to_its_throughput() {
    let flags = ["--topic", "numbers", "--max-messages", "101", "--throughput", "200"];
    let start = Instant::now();
    let output = run("verifiable_producer", &flags);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let (records, data) = records_and_data(events(&output));
    assert_eq!((records.len(), &data["target_throughput"]), (101, &200.into()));
    // 100 intervals of 5 ms; on a busy machine it may take longer, but never less.
    let average = data["avg_throughput"].as_f64().expect("it is a number");
    let whole_run = 101.0 / start.elapsed().as_secs_f64();
    assert!((whole_run..=202.0).contains(&average), "{data}, of the whole run {whole_run}");
}

#[test]
fn verifiable_producer_says_what_failed_and_goes_on() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let servers = cluster.bootstrap_servers();
    let file = properties("tidegate.topic.unknown.max.ms=300\n");
    let path = file.path().to_str().expect("temporary paths are UTF-8");
    let mut flags = vec!["--bootstrap-server", &servers, "--topic", "missing"];
    flags.extend(["--max-messages", "2", "--command-config", path]);
    let output = run("verifiable_producer", &flags);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let (records, data) = records_and_data(events(&output));
    assert_eq!((&data["sent"], &data["acked"]), (&2.into(), &0.into()));
    assert_eq!(records.len(), 2);
    for (value, record) in records.iter().enumerate() {
        assert_eq!(name(record), "producer_send_error");
        assert_eq!((&record["topic"], &record["key"]), (&"missing".into(), &Value::Null));
        assert_eq!(record["value"], value.to_string());
        assert_eq!(record["exception"], "tidegate::DeliveryError");
        let message = record["message"].as_str().expect("it is text");
        assert!(message.contains("does not exist"), "{message}");
    }
}

#[test]
fn verifiable_producer_counts_its_timestamps_from_where_it_is_told() {
    const CREATED: i64 = 1_000_000_000_000;
    let cluster = EmbeddedCluster::builder().topic("numbers", 1).start().unwrap();
    let servers = cluster.bootstrap_servers();
    let created = CREATED.to_string();
    let mut flags = vec!["--bootstrap-server", &servers, "--topic", "numbers"];
    flags.extend(["--max-messages", "20", "--message-create-time", &created]);
    let output = run("verifiable_producer", &flags);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let timestamps: Vec<i64> =
        cluster.records("numbers", 0).iter().map(|record| record.timestamp).collect();
    assert_eq!((timestamps.len(), timestamps[0]), (20, CREATED));
    assert!(timestamps.is_sorted(), "{timestamps:?}");
    // Each is the one before plus the time since the start: far from the real time.
    assert!(timestamps[19] < CREATED + 20 * 600_000, "{timestamps:?}");
}

#[test]
fn verifiable_producer_takes_acks_from_the_file_rather_than_the_flag() {
    let cluster = EmbeddedCluster::builder().topic("numbers", 1).start().unwrap();
    let servers = cluster.bootstrap_servers();
    // Only with acks=all do batches have the number of a producer.
    let is_idempotent = |flags: &[&str], file: Option<&str>| {
        let before = cluster.records("numbers", 0).len();
        let file = file.map(properties);
        let mut all = vec!["--bootstrap-server", &servers, "--topic", "numbers"];
        all.extend(["--max-messages", "3"]);
        all.extend(flags);
        if let Some(file) = &file {
            let path = file.path().to_str().expect("temporary paths are UTF-8");
            all.extend(["--producer.config", path]);
        }
        let output = run("verifiable_producer", &all);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let (records, data) = records_and_data(events(&output));
        assert!(records.iter().all(|record| name(record) == "producer_send_success"), "{data}");
        assert_eq!(data["acked"], 3);
        let records = cluster.records("numbers", 0);
        assert_eq!(records.len(), before + 3);
        records[before].producer_id >= 0
    };
    assert!(is_idempotent(&[], None));
    assert!(is_idempotent(&["--acks", "-1"], Some("linger.ms=1\n")));
    assert!(!is_idempotent(&["--acks", "1"], None));
    assert!(!is_idempotent(&["--acks", "0"], None));
    assert!(!is_idempotent(&["--acks", "1"], Some("linger.ms=1\n")));
    assert!(is_idempotent(&["--acks", "1"], Some("acks=all\n")));
    assert!(!is_idempotent(&["--acks", "-1"], Some("acks=1\n")));
}

#[test]
fn verifiable_producer_refuses_flags_that_it_cannot_follow() {
    let file = properties("acks=all\n");
    let path = file.path().to_str().expect("temporary paths are UTF-8");
    let refused: [(&[&str], &str); 4] = [
        (&["--bootstrap-server", ""], "host:port"),
        (&["--acks", "2"], "--acks 2: choose -1, 0 or 1"),
        (&["--producer.config", path, "--command-config", path], "mutually exclusive"),
        (&["--repeating-keys", "0"], "at least 1"),
    ];
    for (flags, reason) in refused {
        let output = run("verifiable_producer", &[&["--topic", "numbers"], flags].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(reason), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "nothing was started");
    }
}

#[test]
fn misspelt_properties_name_the_nearest() {
    let file = properties("acks=all\nlinger.mz=5\n");
    let path = file.path().to_str().expect("temporary paths are UTF-8");
    for flag in ["--producer.config", "--command-config"] {
        let output = run("verifiable_producer", &["--topic", "numbers", flag, path]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("\"linger.ms\""), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "", "nothing was started");
    }
}

fn properties(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    file.write_all(text.as_bytes()).expect("it can be written");
    file
}

/// What needs signals.
#[cfg(unix)]
mod signals {
    use std::collections::BTreeSet;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, ChildStdout, Command, Stdio};

    use serde_json::Value;
    use tidegate::embedded::EmbeddedCluster;

    use super::{example, name, records_and_data};

    /// A running example that does not outlive its test.
    struct Running {
        child: Child,
        lines: BufReader<ChildStdout>,
    }

    impl Running {
        fn start(name: &str, arguments: &[&str]) -> Running {
            let mut child = example(name)
                .args(arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("the example was found just now");
            let lines = BufReader::new(child.stdout.take().expect("it is piped"));
            Running { child, lines }
        }

        /// The next line, as soon as it is written; `None` at the end.
        fn next_event(&mut self) -> Option<Value> {
            let mut line = String::new();
            let length = self.lines.read_line(&mut line).expect("the pipe can be read");
            (length > 0).then(|| serde_json::from_str(&line).expect("each line is JSON"))
        }

        fn signal(&self, name: &str) {
            let id = self.child.id().to_string();
            let status = Command::new("kill").args([name, &id]).status();
            assert!(status.expect("kill can be run").success());
        }

        /// The remaining events, after which it must end with status 0.
        fn finish(mut self) -> Vec<Value> {
            let rest = std::iter::from_fn(|| self.next_event()).collect();
            let status = self.child.wait().expect("it is our child");
            assert_eq!(status.code(), Some(0));
            rest
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }

    #[test]
    fn verifiable_producer_ends_gracefully_when_asked_to() {
        for signal in ["-TERM", "-INT"] {
            let mut running = Running::start("verifiable_producer", &["--throughput", "1000"]);
            assert_eq!(running.next_event().as_ref().map(name), Some("startup_complete"));
            for _ in 0..10 {
                // Lines come while it runs, not when some buffer is full.
                assert_eq!(running.next_event().as_ref().map(name), Some("producer_send_success"));
            }
            running.signal(signal);
            // As timeout(1) does: the second one must not cut the first one short.
            running.signal(signal);
            let mut rest = running.finish();
            rest.insert(0, serde_json::json!({ "name": "startup_complete" }));
            let (records, data) = records_and_data(rest);
            assert!(records.iter().all(|record| name(record) == "producer_send_success"));
            assert_eq!(data["sent"], data["acked"], "{data}");
            assert_eq!(data["acked"], 10 + records.len());
        }
    }

    #[test]
    fn verifiable_producer_prints_past_a_broker_that_stands_still() {
        let cluster = EmbeddedCluster::builder().brokers(2).topic("numbers", 2).start().unwrap();
        let servers = cluster.address(1).to_string();
        let flags =
            ["--topic", "numbers", "--throughput", "500", "--repeating-keys", "8", "--acks", "-1"];
        let mut running = Running::start(
            "verifiable_producer",
            &[&flags[..], &["--bootstrap-server", &servers]].concat(),
        );
        let mut partitions = BTreeSet::new();
        while partitions.len() < 2 {
            let event = running.next_event().expect("it runs until it is stopped");
            partitions.extend(event["partition"].as_i64());
        }
        let stopped = 1;
        cluster.pause_broker(cluster.leader("numbers", stopped).expect("it has a leader"));
        // What the paused broker had answered may still come: so many more cannot.
        let mut healthy = 0;
        while healthy < 300 {
            let event = running.next_event().expect("it runs until it is stopped");
            assert_eq!(name(&event), "producer_send_success");
            healthy += usize::from(event["partition"] != stopped);
        }
        cluster.resume_broker(cluster.leader("numbers", stopped).expect("it has a leader"));
        running.signal("-TERM");
        let rest = running.finish();
        let data = rest.last().expect("it prints what it did");
        assert_eq!(data["sent"], data["acked"], "{data}");
        assert_eq!(data["acked"], cluster.stats().records());
    }
}
