//! The manual's page of features against the tests that there are.

use std::collections::BTreeSet;

/// What the page must have a row for: words that are in its first column.
const FEATURES: [&str; 34] = [
    "completion future",
    "chosen partition",
    "event loop",
    "pooled buffers",
    "memory within its limit",
    "watermarks",
    "a strategy of one's own",
    "a partitioner of one's own",
    "acks 0, 1, all",
    "batches of the caller's making",
    "flush",
    "compression with level",
    "retries",
    "idempotence",
    "metadata channel",
    "partitions that are added",
    "events",
    "topics created",
    "connection for each partition",
    "settings of one topic",
    "share event loops",
    "a topic and a key",
    "standard names",
    "callbacks",
    "interceptors",
    "socket options",
    "metrics",
    "a close within its limit",
    "handed back",
    "purge",
    "TLS and logins",
    "chosen partitions are read",
    "offsets, seek",
    "large records are read",
];

/// What is wrong with the page, given all tests.
pub(crate) fn problems(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let rows: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .filter(|(feature, _)| *feature != "feature")
        .collect();
    let mut problems = Vec::new();
    for feature in FEATURES {
        if !rows.iter().any(|(row, _)| row.contains(feature)) {
            problems.push(format!("there is no row for {feature}"));
        }
    }
    for (feature, named) in rows {
        let named: Vec<_> = named.split('`').skip(1).step_by(2).collect();
        let is_missing = page.contains(&format!("| {feature} | not yet |"));
        if named.is_empty() && !is_missing {
            problems.push(format!("{feature}: no test, and not called missing"));
        }
        let unknown = named.into_iter().filter(|name| !tests.contains(*name));
        problems.extend(unknown.map(|name| format!("{feature}: there is no test {name}")));
    }
    problems
}
