//! Metrics and reports in the forms of others: librdkafka's statistics, and `serde`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidegate::Metrics;
use tidegate::embedded::Fault;

use super::*;

/// A producer whose metrics stand still: everything it sent is acknowledged.
fn at_rest(cluster: &EmbeddedCluster, client_id: &str) -> Producer {
    let producer = builder(cluster).client_id(client_id).build().unwrap();
    warm(&producer.topic("t").unwrap(), 2);
    producer.flush().wait().unwrap();
    producer
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
