//! Metrics and reports in the forms of others: Prometheus, `prometheus-client`, `metrics`,
//! librdkafka, `serde`; and the dashboard that reads them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use ::metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit, with_local_recorder,
};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tidegate::Metrics;
use tidegate::embedded::Fault;

use super::*;

/// The page's values by name and labels, and the types of its metrics.
struct Page {
    values: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

fn page(text: &str) -> Page {
    let (mut values, mut types) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(metric) = line.strip_prefix("# TYPE ") {
            let (name, kind) = metric.split_once(' ').unwrap();
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
        } else if !line.starts_with('#') {
            let (place, value) = line.rsplit_once(' ').unwrap();
            // The writers differ in how they print a bound: 1.0 or 1, 0.000064 or 6.4e-5.
            let place = match place.split_once("le=\"") {
                Some((start, bound)) => {
                    let bound = bound.trim_end_matches("\"}");
                    format!("{start}le={}", bound.parse::<f64>().unwrap())
                }
                None => place.to_owned(),
            };
            assert!(values.insert(place, value.parse().unwrap()).is_none(), "{line} twice");
        }
    }
    Page { values, types }
}

/// A producer whose metrics stand still: everything it sent is acknowledged.
fn at_rest(cluster: &EmbeddedCluster, client_id: &str) -> Producer {
    let producer = builder(cluster).client_id(client_id).build().unwrap();
    warm(&producer.topic("t").unwrap(), 2);
    producer.flush().wait().unwrap();
    producer
}

/// Without what differs from one moment to the next.
fn lasting(mut values: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    values.retain(|place, _| !place.contains("_age_seconds{"));
    values
}

#[test]
fn a_registry_tells_what_the_page_tells() {
    let cluster = cluster(2, 2);
    let (one, two) = (at_rest(&cluster, "one"), at_rest(&cluster, "two \"2\""));
    let mut registry = Registry::default();
    let collector = one.prometheus_collector().and(&two).with_partitions();
    registry.register_collector(Box::new(collector));
    let (first, second) = (one.metrics(), two.metrics());
    let own = page(&first.prometheus().and(&second).with_partitions().to_string());
    let mut told = String::new();
    prometheus_text::encode(&mut told, &registry).unwrap();
    let theirs = page(&told);
    assert_eq!(own.types, theirs.types);
    assert!(own.values.contains_key("tidegate_metadata_age_seconds{client_id=\"one\"}"));
    assert_eq!(own.values.keys().collect::<Vec<_>>(), theirs.values.keys().collect::<Vec<_>>());
    assert_eq!(lasting(own.values), lasting(theirs.values));

    // In the form of OpenMetrics too, and no longer than the producers live.
    let mut open = String::new();
    text::encode(&mut open, &registry).unwrap();
    assert!(open.contains("# TYPE tidegate_acked_records counter\n"), "{open}");
    drop((one, two));
    // The thread that closes a producer lets go of it a moment later.
    eventually("nothing is told of producers that are gone", || {
        let mut empty = String::new();
        text::encode(&mut empty, &registry).unwrap();
        empty == "# EOF\n"
    });
}

/// The kind of a metric, its unit, and what it is.
type Description = (&'static str, Option<Unit>, String);

/// A recorder that remembers what it was told.
#[derive(Default)]
struct Notes {
    described: Mutex<BTreeMap<String, Description>>,
    told: Mutex<HashMap<Key, Arc<Note>>>,
}

#[derive(Default)]
struct Note(Mutex<Vec<f64>>);

impl Note {
    fn values(&self) -> Vec<f64> {
        self.0.lock().unwrap().clone()
    }
}

impl CounterFn for Note {
    fn increment(&self, value: u64) {
        let mut told = self.0.lock().unwrap();
        let before = told.first().copied().unwrap_or(0.0);
        *told = vec![before + value as f64];
    }

    fn absolute(&self, _: u64) {
        panic!("a recorder keeps the largest: a count that begins anew would not be seen");
    }
}

impl GaugeFn for Note {
    fn increment(&self, _: f64) {
        panic!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        panic!("gauges are set");
    }

    fn set(&self, value: f64) {
        *self.0.lock().unwrap() = vec![value];
    }
}

impl HistogramFn for Note {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl Notes {
    fn describe(&self, kind: &'static str, name: KeyName, unit: Option<Unit>, help: SharedString) {
        let description = (kind, unit, help.to_string());
        let before = self.described.lock().unwrap().insert(name.as_str().to_owned(), description);
        assert_eq!(before, None, "{name:?} is described twice");
    }

    fn note(&self, key: &Key) -> Arc<Note> {
        self.told.lock().unwrap().entry(key.clone()).or_default().clone()
    }

    /// Every value that was told, by name and labels as the page has them.
    fn values(&self) -> BTreeMap<String, Vec<f64>> {
        let told = self.told.lock().unwrap();
        let place = |key: &Key| {
            let labels = key.labels().map(|label| format!("{}={:?}", label.key(), label.value()));
            format!("{}{{{}}}", key.name(), labels.collect::<Vec<_>>().join(","))
        };
        told.iter().map(|(key, note)| (place(key), note.values())).collect()
    }
}

impl Recorder for Notes {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe("counter", name, unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe("gauge", name, unit, help);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe("histogram", name, unit, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.note(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.note(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.note(key))
    }
}

#[test]
fn the_facade_is_told_what_the_page_tells() {
    let cluster = cluster(2, 2);
    let producer = at_rest(&cluster, "shop");
    let (notes, mut facade) = (Notes::default(), producer.metrics_facade().with_partitions());
    assert!(with_local_recorder(&notes, || facade.publish()));
    let metrics = producer.metrics();
    let Page { values, mut types } = page(&metrics.prometheus().with_partitions().to_string());

    // The facade has no counters of anything but whole numbers.
    types.insert("tidegate_broker_throttle_seconds_total".into(), "gauge".into());
    let described = notes.described.lock().unwrap().clone();
    let kinds = described.iter().map(|(name, (kind, ..))| (name.clone(), (*kind).to_owned()));
    assert_eq!(types, kinds.collect());
    let unit = |name: &str| described[name].1;
    assert_eq!(unit("tidegate_memory_free_bytes"), Some(Unit::Bytes));
    assert_eq!(unit("tidegate_broker_throttle_seconds_total"), Some(Unit::Seconds));
    assert_eq!(unit("tidegate_records_total"), Some(Unit::Count));

    let is_distribution = |place: &str| types[place.split('{').next().unwrap()] == "histogram";
    let (distributions, singles): (BTreeMap<_, _>, _) =
        notes.values().into_iter().partition(|(place, _)| is_distribution(place));
    let singles = singles.into_iter().map(|(place, values)| (place, values[0]));
    let bare = |place: &str| {
        let name = place.split('{').next().unwrap();
        ["_bucket", "_sum", "_count"]
            .iter()
            .any(|end| name.strip_suffix(end).is_some_and(|name| types.contains_key(name)))
    };
    let expected = values.iter().filter(|(place, _)| !bare(place));
    let expected = expected.map(|(place, value)| (place.clone(), *value)).collect();
    assert_eq!(lasting(singles.collect()), lasting(expected));
    assert_eq!(distributions.len(), 4 * metrics.brokers.len());
    for (place, told) in distributions {
        let count = place.replacen('{', "_count{", 1);
        assert_eq!(told.len() as f64, values[&count], "{place}");
    }
}

#[test]
fn the_facade_is_told_of_each_value_once_and_of_what_is_gone() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let (notes, mut facade) = (Notes::default(), producer.metrics_facade());
    for round in 1..4 {
        acked(topic.send((), "v").unwrap());
        assert!(with_local_recorder(&notes, || facade.publish()));
        let values = notes.values();
        let latency = values.iter().find(|it| it.0.contains("_request_latency_seconds")).unwrap();
        assert_eq!(latency.1.len(), round);
        assert!(latency.1.iter().all(|&seconds| seconds > 0.0 && seconds < 60.0), "{latency:?}");
        let acked = &values["tidegate_producer_acked_records_total{client_id=\"tidegate\"}"];
        assert_eq!(*acked, [round as f64]);
    }
    let capacity = "tidegate_memory_capacity_bytes{client_id=\"tidegate\"}";
    assert!(notes.values()[capacity][0] > 0.0);
    drop((topic, producer));
    // The thread that closes a producer lets go of it a moment later.
    eventually("the facade notices that the producer is gone", || {
        !with_local_recorder(&notes, || facade.publish())
    });
    assert_eq!(notes.values()[capacity], [0.0]);
    // Counters of what is gone stay.
    assert_eq!(
        notes.values()["tidegate_producer_acked_records_total{client_id=\"tidegate\"}"],
        [3.0]
    );
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn statistics_in_the_names_of_librdkafka_have_the_numbers_of_the_snapshot() {
    let cluster = cluster(2, 2);
    let producer = at_rest(&cluster, "a \"shop\"\n");
    let before = producer.metrics();
    let topic = producer.topic("t").unwrap();
    acked(topic.send_record(to(0, "one more")).unwrap());
    let now = producer.metrics();
    let parsed = |statistics: String| serde_json::from_str::<Value>(&statistics).unwrap();
    let told = parsed(now.librdkafka_json().to_string());
    assert_eq!(told["client_id"], "a \"shop\"\n");
    assert_eq!(
        (&told["name"], &told["type"]),
        (&json!("a \"shop\"\n#producer"), &json!("producer"))
    );
    assert_eq!(told["age"], now.age.as_micros() as u64);
    assert_eq!(told["time"], now.time_ms / 1_000);
    let elapsed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(elapsed.abs_diff(now.time_ms as u64 / 1_000) < 60, "{told}");
    assert!(now.age > Duration::ZERO && now.age < 2 * LONG, "{:?}", now.age);
    assert_eq!(told["msg_size_max"], now.memory_capacity);
    assert_eq!(told["msg_size"], now.memory_capacity - now.memory_free);
    assert_eq!((&told["metadata_cache_cnt"], &told["txmsgs"]), (&json!(1), &json!(3)));
    let bytes: u64 = now.brokers.iter().map(|it| it.batch_bytes.sum()).sum();
    assert_eq!(told["txmsg_bytes"], bytes);

    let brokers = told["brokers"].as_object().unwrap();
    assert_eq!(brokers.len(), 2);
    let mut toppars = BTreeSet::new();
    for broker in &now.brokers {
        let told = &brokers[&format!("{}/{}", broker.address, broker.broker)];
        assert_eq!((&told["nodeid"], &told["state"]), (&json!(broker.broker), &json!("UP")));
        assert_eq!(told["nodename"], broker.address);
        assert_eq!(told["stateage"], broker.state_for.as_micros() as u64);
        assert_eq!(told["req"], json!({ "Produce": broker.requests }));
        assert_eq!(told["throttle"], json!({ "avg": 0, "sum": 0, "cnt": 0 }));
        let (rtt, latency) = (&told["rtt"], &broker.request_latency_us);
        assert_eq!((&rtt["cnt"], &rtt["sum"]), (&json!(latency.count()), &json!(latency.sum())));
        assert_eq!(
            (&rtt["p50"], &rtt["max"]),
            (&json!(latency.quantile(0.5)), &json!(latency.max()))
        );
        let order = ["min", "p50", "p75", "p90", "p95", "p99", "p99_99", "max"];
        assert!(
            order.windows(2).all(|pair| number(&rtt[pair[0]]) <= number(&rtt[pair[1]])),
            "{rtt}"
        );
        assert!(number(&rtt["stddev"]) <= number(&rtt["max"]), "{rtt}");
        assert_eq!(told["int_latency"]["cnt"], broker.queue_time_us.count());
        let led = told["toppars"].as_object().unwrap();
        assert!(led.values().all(|it| it["topic"] == "t"), "{led:?}");
        toppars.extend(led.keys().cloned());
    }
    assert_eq!(toppars, ["t-0", "t-1"].map(String::from).into());
    let t = &told["topics"]["t"];
    assert_eq!(t["batchcnt"], json!({ "avg": 1, "sum": 3, "cnt": 3 }));
    assert_eq!(t["batchsize"]["sum"], now.topics[0].records.acked_bytes);
    let leader = now.topics[0].partitions[0].leader.unwrap();
    assert_eq!(t["partitions"]["0"], json!({ "partition": 0, "leader": leader, "msgs": 2 }));

    // Of the window only what came since.
    let told = parsed(now.librdkafka_json().since(&before).named("shop-1").to_string());
    assert_eq!((&told["name"], &told["txmsgs"]), (&json!("shop-1"), &json!(3)));
    assert_eq!(told["topics"]["t"]["batchcnt"], json!({ "avg": 1, "sum": 1, "cnt": 1 }));
    let brokers = told["brokers"].as_object().unwrap().values();
    assert_eq!(brokers.map(|it| number(&it["rtt"]["cnt"])).sum::<f64>(), 1.0);
}

/// With a fixed value for what differs between runs: times, and where brokers listen.
fn masked(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = masked(item.take())),
        Value::Object(members) => {
            for (name, member) in members {
                *member = match name.as_str() {
                    "address" | "asks" => json!("HOST:PORT"),
                    "cluster_id" => json!("CLUSTER"),
                    _ if name.ends_with("_s") && member.is_f64() => json!("SECONDS"),
                    _ => masked(member.take()),
                };
            }
        }
        _ => {}
    }
    value
}

#[test]
fn a_report_is_json_that_a_person_can_read() {
    let cluster = cluster(1, 1);
    let producer =
        lingering(&cluster).configure(|config| config.topic_unknown_max = FAR).build().unwrap();
    let warm = producer.topic("t").unwrap().send((), "warm").unwrap();
    producer.flush().wait().unwrap();
    acked(warm);
    let waits = producer.topic("t").unwrap().send((), "secret").unwrap();
    let lost = producer.topic("misspelt").unwrap().send((), "secret").unwrap();
    eventually("its topic is known not to exist", || {
        matches!(lost.status().waits_for, Some(tidegate::WaitsFor::Topic { .. }))
    });
    let report = producer.report();
    let (capacity, free) = (report.memory.capacity, report.memory.free);
    let broker = cluster.broker_ids()[0];
    let charged = report.brokers[0].charged;
    let linger = json!({ "kind": "linger", "left_s": "SECONDS" });
    let health = masked(serde_json::to_value(&report.health).unwrap());
    assert!(["ready", "degraded"].contains(&health["state"].as_str().unwrap()), "{health}");
    let expected = json!({
        "health": health,
        "memory": { "capacity": capacity, "free": free },
        "metadata": {
            "cluster_id": "CLUSTER", "asks": "HOST:PORT", "is_connected": true,
            "answered_s": "SECONDS", "problem": null,
        },
        "brokers": [{
            "broker": broker, "address": "HOST:PORT", "state": "ready", "state_for_s": "SECONDS",
            "failures": 0, "problem": null, "throttled_for_s": null, "requests_in_flight": 0,
            "charged": charged, "writable": true,
        }],
        "topics": [{
            "topic": "misspelt", "oldest_s": "SECONDS",
            "waits_for": { "kind": "topic", "unknown_for_s": "SECONDS" },
        }],
        "partitions": [{
            "topic": "t", "partition": 0, "leader": broker, "batches_waiting": 1,
            "batches_in_flight": 0, "attempts": 0, "last_problem": null, "fails_in_s": "SECONDS",
            "waits_for": linger,
        }],
        "more_partitions": 0,
        "silent_loops": 0,
    });
    assert_eq!(masked(serde_json::to_value(&report).unwrap()), expected);
    let status = masked(serde_json::to_value(waits.status()).unwrap());
    let expected = json!({
        "topic": "t", "partition": 0, "waits_for": linger, "attempts": 0, "batches_ahead": 0,
        "last_problem": null, "maybe_written": false, "fails_in_s": "SECONDS",
    });
    assert_eq!(status, expected);
    let levels = serde_json::to_value(producer.broker_levels()).unwrap();
    let names: BTreeSet<_> = levels[0].as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["broker", "charged", "high", "low", "writable", "times_unwritable", "times_writable"];
    assert_eq!(names, expected.into());
    let _ = producer.close(Duration::ZERO).wait();
    failed(lost);
}

fn counts(records: u64, metrics: &Metrics) -> Value {
    let counted = &metrics.records;
    json!({
        "records": records, "bytes": counted.bytes, "batches": counted.batches,
        "acked_records": records, "acked_bytes": counted.acked_bytes,
        "acked_batches": counted.acked_batches, "failed_records": 0, "retries": 0,
        "dropped_records": 0,
    })
}

#[test]
fn metrics_are_json_with_every_number() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).client_id("shop").build().unwrap();
    let metadata = acked(producer.topic("t").unwrap().send((), "secret").unwrap());
    producer.flush().wait().unwrap();
    let metrics = producer.metrics();
    let [broker] = &metrics.brokers[..] else { panic!("there is one broker") };
    let told = serde_json::to_value(&metrics).unwrap();
    let latency = &told["brokers"][0]["request_latency_us"];
    let max = broker.request_latency_us.max();
    let bucket = broker.request_latency_us.buckets().next().unwrap();
    let one = json!({
        "count": 1, "sum": max, "mean": max, "max": max, "p50": max, "p90": max, "p99": max,
        "p999": max, "buckets": [bucket],
    });
    assert_eq!(*latency, one);
    let records = counts(1, &metrics);
    let expected = json!({
        "client_id": "shop", "time_ms": metrics.time_ms, "age_s": "SECONDS", "records": records,
        "failed": {
            "total": 0, "unread": 0, "maybe_written": 0, "timed_out": 0, "refused": 0,
            "disconnected": 0, "unknown_topic": 0, "closed": 0, "other": 0,
        },
        "dropped": { "total": 0, "broker": 0, "pool": 0, "stash": 0, "leaderless": 0 },
        "fallback_records": 0,
        "topics": [{
            "topic": "t", "records": records,
            "partitions": [{
                "partition": 0, "leader": broker.broker, "records": records,
                "unresolved_batches": 0, "open_for_s": null,
            }],
        }],
        "brokers": [{
            "broker": broker.broker, "address": "HOST:PORT", "is_connected": true,
            "state": "ready", "state_for_s": "SECONDS", "charged": broker.charged,
            "high": broker.high, "low": broker.low, "writable": true, "requests": 1,
            "request_bytes": broker.request_bytes, "request_records": 1, "responses": 1,
            "in_flight": 0, "connects": 1, "connection_failures": 0, "throttles": 0,
            "throttle_time_s": "SECONDS", "dropped_records": 0, "plain_bytes": 0, "packed_bytes": 0,
            "request_latency_us": one, "queue_time_us": told["brokers"][0]["queue_time_us"],
            "batch_bytes": told["brokers"][0]["batch_bytes"],
            "batch_records": told["brokers"][0]["batch_records"],
        }],
        "requests": 1, "request_bytes": metrics.request_bytes, "connects": 1,
        "connection_failures": 0, "memory_capacity": metrics.memory_capacity,
        "memory_free": metrics.memory_free, "metadata_age_s": "SECONDS",
    });
    assert_eq!(masked(told), expected);
    let written = json!({
        "topic": "t", "partition": 0, "offset": 0, "timestamp_ms": metadata.timestamp(),
    });
    assert_eq!(serde_json::to_value(&metadata).unwrap(), written);
}

#[test]
fn events_are_json_with_their_kind_and_no_payload() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).build().unwrap();
    let mut events = producer.events().unwrap();
    cluster.script([Fault::produce_error("t", 0, 29)]);
    failed(producer.topic("t").unwrap().send("secret", "secret").unwrap());
    let mut told = BTreeMap::new();
    while !told.contains_key("failed") {
        let event = events.next_timeout(LONG).expect("records that fail are told of");
        let event = masked(serde_json::to_value(event).unwrap());
        assert!(!event.to_string().contains("secret"), "{event}");
        told.insert(event["kind"].as_str().unwrap().to_owned(), event);
    }
    let broker = cluster.broker_ids()[0];
    let problem = "the broker answered TOPIC_AUTHORIZATION_FAILED (29)";
    let failed = json!({
        "kind": "failed", "records": 1,
        "error": {
            "topic": "t", "partition": 0, "broker": broker, "cause": "broker",
            "certainty": "not_written",
            "message":
                format!("delivery to t-0 at broker {broker} failed (not written): {problem}"),
            "problem": {
                "kind": "broker", "message": problem, "code": 29,
                "code_name": "TOPIC_AUTHORIZATION_FAILED",
            },
        },
    });
    assert_eq!(told["failed"], failed);
    let connected = json!({ "kind": "connected", "broker": broker, "address": "HOST:PORT" });
    assert_eq!(told["connected"], connected);
    let found = json!({ "kind": "topic_found", "topic": "t", "partitions": 1 });
    assert_eq!(told["topic_found"], found);
}

/// The names of metrics in the dashboard's expressions, and in the queries of its variables.
fn names_in(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| names_in(item, names)),
        Value::Object(members) => members.values().for_each(|member| names_in(member, names)),
        Value::String(text) => {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let metrics = words.filter(|word| word.starts_with("tidegate_"));
            names.extend(metrics.map(str::to_owned));
        }
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_only_for_metrics_that_are_told() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    warm(&producer.topic("t").unwrap(), 1);
    let told = page(&producer.metrics().prometheus().to_string());
    let known: BTreeSet<_> =
        told.values.keys().map(|place| place.split('{').next().unwrap().to_owned()).collect();
    let mut asked = BTreeSet::new();
    names_in(&dashboard, &mut asked);
    assert!(asked.len() > 20, "{asked:?}");
    assert_eq!(asked.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
    for label in ["client_id", "topic", "broker", "cause"] {
        assert!(told.values.keys().any(|place| place.contains(&format!("{label}=\""))), "{label}");
    }
}
