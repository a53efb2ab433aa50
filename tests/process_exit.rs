//! A process that ends while a dropped producer goes on in the background.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use tidegate::embedded::EmbeddedCluster;
use tidegate::{OnDrop, Producer};

/// Set in the process that ends.
const CHILD: &str = "TIDEGATE_TEST_EXITS";

/// Writes what is logged to the standard error output.
struct ToStderr;

impl log::Log for ToStderr {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let _ = writeln!(std::io::stderr(), "{}", record.args());
        }
    }

    fn flush(&self) {}
}

#[test]
fn what_the_end_of_a_process_loses_is_told() {
    let test = "what_the_end_of_a_process_loses_is_told";
    if let Ok(what) = std::env::var(CHILD) {
        log::set_logger(&ToStderr).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
        let cluster = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
        let producer = Producer::builder(&cluster.bootstrap_servers()).on_drop(OnDrop::Detach);
        let producer = producer.build().unwrap();
        let topic = producer.topic("t").unwrap();
        topic.send((), "warm").unwrap().wait().unwrap();
        if what == "loses" {
            cluster.pause_broker(1);
        }
        drop(topic.send((), &[7; 10_000][..]).unwrap());
        if what == "is closed" {
            producer.close(Duration::from_secs(60)).wait().unwrap();
        }
        drop(producer);
        std::process::exit(0);
    }
    for (what, is_told) in [("loses", true), ("is closed", false)] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, what)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        let line = told.lines().find(|line| line.contains("OnDrop::Detach"));
        assert_eq!(line.is_some(), is_told, "{what}: {told}");
        if let Some(line) = line {
            assert!(line.contains("bytes of buffer memory") && line.contains("lost"), "{line}");
        }
    }
}
