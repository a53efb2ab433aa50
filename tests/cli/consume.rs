//! `tidegate consume`.

use std::io::{BufRead, BufReader, Read};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{Producer, Record};

use super::{cluster, run, start, told};

/// A cluster whose topic `orders` has `values` in its one partition.
fn filled(values: &[&str]) -> EmbeddedCluster {
    let cluster = cluster("orders", 1);
    send(&cluster, values);
    cluster
}

fn send(cluster: &EmbeddedCluster, values: &[&str]) {
    let producer = Producer::builder(&cluster.bootstrap_servers()).build().expect("it starts");
    let orders = producer.topic("orders").expect("a name");
    for value in values {
        orders.send("k", *value).expect("there is room").wait().expect("it is acknowledged");
    }
}

/// What `tidegate consume -t orders` prints.
fn printed(cluster: &EmbeddedCluster, arguments: &[&str]) -> String {
    let servers = cluster.bootstrap_servers();
    let all = [&["consume", "-b", &servers, "-t", "orders", "-q"], arguments].concat();
    let (status, out, error) = told(&run(&all, b""));
    assert_eq!((status, error.as_str()), (Some(0), ""), "{arguments:?}");
    out
}

#[test]
fn what_was_sent_is_printed_to_the_end() {
    let cluster = filled(&["1", "2", "3"]);
    let servers = cluster.bootstrap_servers();
    let (status, out, error) =
        told(&run(&["consume", "-b", &servers, "-t", "orders", "--exit"], b""));
    assert_eq!((status, out.as_str()), (Some(0), "1\n2\n3\n"), "{error}");
    assert_eq!(error, "tidegate: 3 read\n");
    assert_eq!(printed(&cluster, &["-e", "-K", ": ", "-D", "\\r\\n"]), "k: 1\r\nk: 2\r\nk: 3\r\n");
}

#[test]
fn an_empty_topic_ends_at_once() {
    assert_eq!(printed(&cluster("orders", 3), &["-e"]), "");
    assert_eq!(printed(&cluster("orders", 3), &["-e", "-o", "-5"]), "");
    assert_eq!(printed(&filled(&["1"]), &["-e", "-o", "latest"]), "");
}

#[test]
fn it_begins_where_it_is_told_to() {
    let cluster = filled(&["0", "1", "2", "3", "4"]);
    for (start, expected) in [
        ("earliest", "0\n1\n2\n3\n4\n"),
        ("3", "3\n4\n"),
        ("-2", "3\n4\n"),
        ("-100", "0\n1\n2\n3\n4\n"),
        ("-0", ""),
        ("@0", "0\n1\n2\n3\n4\n"),
        ("@9000000000000", ""),
    ] {
        assert_eq!(printed(&cluster, &["-e", "-o", start]), expected, "{start}");
    }
    assert_eq!(printed(&cluster, &["-n", "2", "-o", "1"]), "1\n2\n");
    assert_eq!(printed(&cluster, &["-n", "0"]), "");
}

#[test]
fn partitions_are_all_or_those_that_are_named() {
    let cluster = cluster("orders", 3);
    let producer = Producer::builder(&cluster.bootstrap_servers()).build().expect("it starts");
    let orders = producer.topic("orders").expect("a name");
    for partition in 0..3 {
        let record = Record::new().value(format!("v{partition}")).partition(partition);
        orders.send_record(record).expect("there is room").wait().expect("it is acknowledged");
    }
    let all = printed(&cluster, &["-e", "-f", "%t-%p@%o %s\\n"]);
    let mut lines: Vec<_> = all.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["orders-0@0 v0", "orders-1@0 v1", "orders-2@0 v2"]);
    assert_eq!(printed(&cluster, &["-e", "-p", "1"]), "v1\n");
}

/// One with everything, and one with nothing.
fn both_extremes() -> EmbeddedCluster {
    let cluster = cluster("orders", 1);
    let producer = Producer::builder(&cluster.bootstrap_servers()).build().expect("it starts");
    let orders = producer.topic("orders").expect("a name");
    let full = Record::new()
        .key("a \"key\"")
        .value(&b"\xff\x00"[..])
        .header("one", Some("1"))
        .header("none", None::<&str>)
        .timestamp(1_767_225_600_000);
    let empty = Record::new().timestamp(1);
    for record in [full, empty] {
        orders.send_record(record).expect("there is room").wait().expect("it is acknowledged");
    }
    cluster
}

#[test]
fn formats_show_every_part() {
    let cluster = both_extremes();
    let format = "%T %K:%k %S [%h] 100%%\\n";
    assert_eq!(
        printed(&cluster, &["-e", "-Z", "NULL", "-f", format]),
        "1767225600000 7:a \"key\" 2 [one=1,none=NULL] 100%\n1 -1:NULL -1 [] 100%\n"
    );
}

#[test]
fn json_has_every_part_and_bytes_in_base64() {
    let out = printed(&both_extremes(), &["-e", "-J"]);
    let records: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let headers = serde_json::json!([{"key": "one", "value": "1"}, {"key": "none", "value": null}]);
    assert_eq!(
        records,
        [
            serde_json::json!({
                "topic": "orders", "partition": 0, "offset": 0, "tstype": "create",
                "ts": 1_767_225_600_000_i64, "headers": headers, "key": "a \"key\"",
                "payload_base64": "/wA=",
            }),
            serde_json::json!({
                "topic": "orders", "partition": 0, "offset": 1, "tstype": "create", "ts": 1,
                "headers": [], "key": null, "payload": null,
            }),
        ]
    );
}

#[test]
fn properties_of_a_consumer_are_read_and_those_of_groups_warned_of() {
    let cluster = filled(&["1"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("consumer.properties");
    let servers = cluster.bootstrap_servers();
    let text = format!(
        "bootstrap.servers={servers}\nisolation.level=read_committed\ngroup.id=g\n\
         group.instance.id=1\n"
    );
    std::fs::write(&file, text).expect("it is written");
    let file = file.to_str().expect("UTF-8");
    let base = ["consume", "-F", file, "-t", "orders", "-e"];
    let (status, out, error) = told(&run(&base, b""));
    assert_eq!((status, out.as_str()), (Some(0), "1\n"), "{error}");
    let told_once = "group.instance.id has no effect: no consumer group is joined";
    assert_eq!(error.matches(told_once).count(), 1, "{error}");
    assert!(!error.contains("isolation.level") && !error.contains("group.id "), "{error}");
    // The log does not have it, and the properties say what then.
    let reset = ["-o", "7", "-X", "auto.offset.reset=earliest", "-q"];
    assert_eq!(told(&run(&[&base[..], &reset].concat(), b"")).1, "1\n");
    let (status, _, error) =
        told(&run(&[&base[..], &["-X", "isolation.level=none"]].concat(), b""));
    assert_eq!(status, Some(2), "{error}");
    assert!(error.contains("read_uncommitted or read_committed"), "{error}");
}

#[test]
fn what_cannot_be_read_ends_with_1_and_its_reason() {
    let cluster = filled(&["1"]);
    let servers = cluster.bootstrap_servers();
    let soon = "tidegate.topic.unknown.max.ms=200";
    for (arguments, words) in [
        (["-t", "order", "-X", soon], "order: the topic cannot be read"),
        (["-t", "orders", "-o", "7"], "orders-0: offset 7 is not in the log"),
    ] {
        let all = [&["consume", "-b", &servers, "-e"], &arguments[..]].concat();
        let (status, out, error) = told(&run(&all, b""));
        assert_eq!((status, out.as_str()), (Some(1), ""), "{error}");
        assert!(error.contains(words), "{error}");
    }
}

/// As `tidegate consume … | head -n 1`, with records that come while it runs.
#[test]
fn it_waits_for_records_and_a_reader_that_leaves_ends_it_quietly() {
    let cluster = filled(&["1"]);
    let mut child = start(&["consume", "-b", &cluster.bootstrap_servers(), "-t", "orders"]);
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    for value in ["1", "2", "3"] {
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        assert_eq!(line.trim_end(), value);
        send(&cluster, &[if value == "1" { "2" } else { "3" }]);
    }
    drop(stdout);
    send(&cluster, &["4"]);
    let mut error = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut error).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{error}");
    assert!(!error.contains("panicked"), "{error}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_command_ends_with_0() {
    let cluster = filled(&["1"]);
    let mut child = start(&["consume", "-b", &cluster.bootstrap_servers(), "-t", "orders"]);
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    let pid = child.id().to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &pid]).status();
    assert!(killed.expect("kill is there").success());
    let (status, _, error) = told(&child.wait_with_output().expect("it ends"));
    assert_eq!((status, error.as_str()), (Some(0), "tidegate: 1 read\n"));
}
