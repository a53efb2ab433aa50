//! Metrics in the form of librdkafka's statistics.

use std::collections::BTreeSet;

use serde_json::{Value, json};

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
