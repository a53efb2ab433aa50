//! `tidegate perf`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use tidegate::embedded::Fault;

use super::{cluster, run, start, told};

/// The numbers of a summary line, by the words behind them.
fn summary(line: &str) -> BTreeMap<String, f64> {
    let number = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("{text}: {line}"));
    let line = line.strip_suffix('.').expect("it ends with a full stop");
    let parts = line.replace(" (", ", ").replace("),", ",");
    let fields = parts.split(", ").map(|part| part.split_once(' ').expect("number and words"));
    fields.map(|(value, words)| (words.to_owned(), number(value))).collect()
}

#[test]
fn the_summary_line_is_that_of_kafkas_tool_and_counts_what_arrived() {
    let cluster = cluster("orders", 3);
    let servers = cluster.bootstrap_servers();
    let arguments = ["perf", "-b", &servers, "--topic", "orders", "--num-records", "5000"];
    let more = ["--record-size", "100", "--throughput", "-1", "--producer-props", "acks=all"];
    let (status, out, error) = told(&run(&[&arguments[..], &more].concat(), b""));
    assert_eq!((status, error.as_str()), (Some(0), ""), "{out}");
    let line = out.lines().find(|line| line.contains("99.9th.")).expect("the summary");
    let fields = summary(line);
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    let wanted = [
        "MB/sec",
        "ms 50th",
        "ms 95th",
        "ms 99.9th",
        "ms 99th",
        "ms avg latency",
        "ms max latency",
        "records sent",
        "records/sec",
    ];
    assert_eq!(names, wanted, "{line}");
    let arrived: usize = (0..3).map(|partition| cluster.records("orders", partition).len()).sum();
    assert_eq!((fields["records sent"] as usize, arrived), (5_000, 5_000));
    assert!(fields["ms max latency"] >= fields["ms avg latency"], "{line}");
}

#[test]
fn records_that_fail_do_not_count_and_end_the_command_with_1() {
    let cluster = cluster("orders", 1);
    cluster.script([Fault::produce_error("orders", 0, 29)]);
    let servers = cluster.bootstrap_servers();
    let arguments = ["perf", "-b", &servers, "--topic", "orders", "--num-records", "100"];
    let more = ["--record-size", "10", "--throughput", "1000", "--json", "-"];
    let (status, out, error) = told(&run(&[&arguments[..], &more].concat(), b""));
    assert_eq!(status, Some(1), "{error}");
    let arrived = cluster.records("orders", 0).len() as u64;
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON and nothing else");
    assert_eq!(report["acknowledged"]["records"], arrived);
    assert_eq!(report["failed"], 100 - arrived);
    assert!(report["batch_records"]["max"].as_u64() > Some(0), "{}", report["batch_records"]);
    assert!(arrived < 100 && error.contains(&format!("{arrived} were acknowledged")), "{error}");
    let timeline = report["timeline"].as_array().expect("a list");
    let sum: u64 = timeline.iter().filter_map(|point| point["records"].as_u64()).sum();
    assert_eq!(sum, arrived);
}

/// Every opened element is closed, in order, and attributes are quoted.
fn check_form(html: &str) {
    let body = html.strip_prefix("<!DOCTYPE html>\n").expect("the doctype");
    let mut open = Vec::new();
    for part in body.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'), "{text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{part}");
        } else {
            let name = tag.split([' ', '/']).next().expect("a name").to_owned();
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn the_page_is_well_formed_and_refers_to_nothing_outside() {
    let cluster = cluster("orders", 2);
    let servers = cluster.bootstrap_servers();
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("report.html");
    let page = page.to_str().expect("UTF-8");
    let values = folder.path().join("values");
    std::fs::write(&values, "one\ntwo\n\nthree\n").expect("it is written");
    let values = values.to_str().expect("UTF-8");
    let arguments = ["perf", "-b", &servers, "--topic", "orders", "--num-records", "2000"];
    let more = ["--payload-file", values, "--throughput", "20000", "--report", page];
    let secret = ["--command-property", "client.id=<b>&\"", "linger.ms=1", "--warmup-records", "5"];
    let (status, out, error) = told(&run(&[&arguments[..], &more, &secret].concat(), b""));
    assert_eq!((status, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("1995 steady state records sent"), "{out}");
    let html = std::fs::read_to_string(page).expect("it was written");
    check_form(&html);
    for outside in ["http", "src=", "href", "url(", "@import", "<script"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("<svg").count(), 4);
    assert!(html.contains("linger.ms=1") && html.contains("client.id=…"), "{html}");
    assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
}

/// As `tidegate perf … | head -n 1`.
#[test]
fn a_reader_that_leaves_ends_the_run() {
    let cluster = cluster("orders", 1);
    let servers = cluster.bootstrap_servers();
    let arguments = ["perf", "-b", &servers, "--topic", "orders", "--num-records", "1000000000"];
    let more = ["--record-size", "10", "--throughput", "1000", "--reporting-interval", "50"];
    let mut child = start(&[&arguments[..], &more].concat());
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    stdout.read_line(&mut first).expect("a line");
    assert!(first.contains("records sent"), "{first}");
    drop(stdout);
    let (status, _, error) = told(&child.wait_with_output().expect("it ends"));
    assert_eq!((status, error.as_str()), (Some(0), ""));
}

#[test]
fn arguments_that_do_not_go_together_are_refused() {
    let base = ["perf", "-b", "localhost:1", "--topic", "t", "--num-records", "1"];
    for wrong in [
        &["--throughput", "-1"][..],
        &["--throughput", "-1", "--record-size", "1", "--payload-monotonic"],
        &["--throughput", "0", "--record-size", "1"],
        &["--record-size", "1"],
        &["--throughput", "-1", "--record-size", "0"],
    ] {
        let (status, _, error) = told(&run(&[&base[..], wrong].concat(), b""));
        assert_eq!(status, Some(2), "{wrong:?}: {error}");
    }
}
