//! `tidegate produce`.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

use tidegate::embedded::EmbeddedRecord;

use super::{cluster, run, start, told};

/// Sends `input` to a topic of one partition, and returns what arrived there.
fn sent(arguments: &[&str], input: &[u8]) -> Vec<EmbeddedRecord> {
    let cluster = cluster("orders", 1);
    let servers = cluster.bootstrap_servers();
    let all = [&["produce", "-b", &servers, "-t", "orders"], arguments].concat();
    let (status, out, error) = told(&run(&all, input));
    let records = cluster.records("orders", 0);
    let told = format!("tidegate: {} acknowledged\n", records.len());
    assert_eq!((status, out.as_str(), error), (Some(0), "", told), "{arguments:?}");
    records
}

type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

fn pairs(records: &[EmbeddedRecord]) -> Vec<Pair> {
    let bytes = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
    records.iter().map(|record| (bytes(&record.key), bytes(&record.value))).collect()
}

fn pair(key: Option<&str>, value: Option<&str>) -> Pair {
    let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
    (bytes(key), bytes(value))
}

#[test]
fn lines_with_keys_and_headers_arrive_in_order() {
    let records = sent(&["-K", ":", "-H", "source=till 3", "-H", "none"], b"a:1\nno key\n:3\nb:");
    assert_eq!(
        pairs(&records),
        [
            pair(Some("a"), Some("1")),
            pair(None, Some("no key")),
            pair(Some(""), Some("3")),
            pair(Some("b"), Some("")),
        ]
    );
    for record in &records {
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (&**name, value)).collect();
        assert_eq!(headers[0].0, "source");
        assert_eq!(headers[0].1.as_deref(), Some(&b"till 3"[..]));
        assert_eq!((headers[1].0, headers[1].1.as_deref()), ("none", None));
    }
}

#[test]
fn empty_keys_and_values_can_be_null() {
    let records = sent(&["-Z", "-K", ":", "-k", "fixed"], b":1\nb:\n\n");
    assert_eq!(
        pairs(&records),
        [pair(None, Some("1")), pair(Some("b"), None), pair(Some("fixed"), None)]
    );
}

#[test]
fn bytes_that_are_no_text_arrive_as_they_are() {
    let value: Vec<u8> = (1..=255).collect();
    let input = [&value[..], &[0], &value[..], &[0]].concat();
    let records = sent(&["-D", "\\0", "-z", "lz4"], &input);
    assert_eq!(pairs(&records), [(None, Some(value.clone())), (None, Some(value))]);
}

#[test]
fn files_are_records_and_with_l_their_lines_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    std::fs::write(&one, "1\n2\n").expect("it is written");
    std::fs::write(&two, "3").expect("it is written");
    let files = [one.to_str().expect("UTF-8"), two.to_str().expect("UTF-8")];
    let whole = [pair(None, Some("1\n2\n")), pair(None, Some("3"))];
    assert_eq!(pairs(&sent(&files, b"")), whole);
    let lines = [pair(None, Some("1")), pair(None, Some("2")), pair(None, Some("3"))];
    assert_eq!(pairs(&sent(&[&["-l"], &files[..]].concat(), b"")), lines);
}

#[test]
fn a_topic_that_does_not_exist_is_named_and_ends_with_1() {
    let cluster = cluster("orders", 1);
    let servers = cluster.bootstrap_servers();
    let soon = "tidegate.topic.unknown.max.ms=200";
    let arguments = ["produce", "-b", &servers, "-t", "order", "-X", soon];
    let (status, out, error) = told(&run(&arguments, b"1\n2\n"));
    assert_eq!((status, out.as_str()), (Some(1), ""), "{error}");
    assert!(error.contains("line 1: delivery to order failed (not written)"), "{error}");
    assert!(error.contains("the topic does not exist"), "{error}");
    assert!(error.contains("0 acknowledged, 2 failed"), "{error}");
}

#[test]
fn a_file_that_is_missing_and_a_line_that_is_too_long_fail_and_the_rest_is_sent() {
    let cluster = cluster("orders", 1);
    let servers = cluster.bootstrap_servers();
    let base = ["produce", "-b", &servers, "-t", "orders", "-X", "max.request.size=1000"];
    let long = "x".repeat(3_000);
    let input = format!("first\n{long}\nlast\n");
    let (status, _, error) = told(&run(&base, input.as_bytes()));
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("line 2: it is longer than a record may be"), "{error}");
    assert!(error.contains("2 acknowledged, 1 failed"), "{error}");
    let (status, _, error) = told(&run(&[&base[..], &["no-such-file"]].concat(), b""));
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("no-such-file: No such file"), "{error}");
    assert_eq!(cluster.records("orders", 0).len(), 2);
}

#[test]
fn failures_are_told_with_their_lines_and_their_number_is_limited() {
    let cluster = cluster("orders", 1);
    let servers = cluster.bootstrap_servers();
    let arguments = ["produce", "-b", &servers, "-t", "orders", "-p", "7"];
    let input: String = (1..=500).map(|n| format!("{n}\n")).collect();
    let (status, _, error) = told(&run(&arguments, input.as_bytes()));
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("line 1: ") && error.contains("line 10: the same"), "{error}");
    assert!(!error.contains("line 11: "), "{error}");
    assert!(error.contains("0 acknowledged, 500 failed"), "{error}");
}

/// As `tidegate produce -v … | head -n 1`.
#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let cluster = cluster("orders", 1);
    let servers = cluster.bootstrap_servers();
    let mut child = start(&["produce", "-b", &servers, "-t", "orders", "-v"]);
    let mut stdin = child.stdin.take().expect("it is piped");
    let writer = std::thread::spawn(move || {
        let lines = "line\n".repeat(1_000);
        // Until the command is gone.
        while stdin.write_all(lines.as_bytes()).is_ok() {}
    });
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    stdout.read_line(&mut first).expect("a line");
    assert_eq!(first, "orders-0@0\n");
    drop(stdout);
    let mut error = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut error).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{error}");
    assert!(!error.contains("panicked") && error.contains("acknowledged"), "{error}");
    writer.join().expect("it ends with the pipe");
}

#[test]
fn errors_that_nobody_reads_are_no_panic() {
    let cluster = cluster("orders", 1);
    let servers = cluster.bootstrap_servers();
    let mut child = start(&["produce", "-b", &servers, "-t", "orders", "-p", "7"]);
    drop(child.stderr.take());
    child.stdin.take().expect("it is piped").write_all(b"1\n2\n").expect("the command reads");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
}

#[cfg(unix)]
#[test]
fn an_interrupted_command_sends_what_it_has_read_and_says_that_it_was_not_all() {
    let cluster = cluster("orders", 1);
    let servers = cluster.bootstrap_servers();
    let mut child = start(&["produce", "-b", &servers, "-t", "orders"]);
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(b"1\n2\n3").expect("the command reads");
    assert!(cluster.wait_until(Duration::from_secs(60), |stats| stats.records() == 2));
    let pid = child.id().to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &pid]).status();
    assert!(killed.expect("kill is there").success());
    let (status, _, error) = told(&child.wait_with_output().expect("it ends"));
    drop(stdin);
    assert_eq!(status, Some(1), "{error}");
    let words = "2 acknowledged; the input was not read to its end, but up to line 2";
    assert!(error.contains(words), "{error}");
}

/// As `tidegate produce -v … > sent.log` on a disk that is full: records go on, and the status
/// tells.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_a_failure_and_loses_no_record() {
    let cluster = cluster("orders", 1);
    let servers = cluster.bootstrap_servers();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["produce", "-b", &servers, "-t", "orders", "-v"])
        .stdin(std::process::Stdio::piped())
        .stdout(full)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all("line\n".repeat(20_000).as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("20000 acknowledged") && error.contains("No space left"), "{error}");
    assert_eq!(cluster.records("orders", 0).len(), 20_000);
}
