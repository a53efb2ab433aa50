//! How to test a service that sends to Kafka, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example test_your_service
//! ```
//!
//! `OrderService` stands for a service of yours. Each function below it is what a `#[test]` would
//! be: it starts brokers within the process, lets something happen to them, and looks at what the
//! service does and at what the brokers were sent.

use std::error::Error;
use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tidegate::embedded::{EmbeddedCluster, Fault};
use tidegate::{Certainty, Delivery, DeliveryErrorCause, Producer, SendError, Topic};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
test_your_service [--count N]

  --count N  how many orders the first check places; default 100";

const TOPIC: &str = "orders";
const BROKER: i32 = 1;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Kafka's code of an error that a retry mends.
const NOT_LEADER_OR_FOLLOWER: i16 = 6;

/// What is tested. It is given its producer, so that a test can give it another one.
struct OrderService {
    producer: Producer,
    orders: Topic,
}

impl OrderService {
    fn new(producer: Producer) -> Result<OrderService, SendError> {
        let orders = producer.topic(TOPIC)?;
        Ok(OrderService { producer, orders })
    }

    /// Places an order. The customer is told that it is placed once the delivery has resolved.
    fn place(&self, customer: &str, order: &str) -> Result<Delivery, SendError> {
        self.orders.send(customer, order)
    }
}

/// One broker and a service. An order fails after `delivery_timeout`: by default that is two
/// minutes, for which no test should wait.
fn start(delivery_timeout: Duration) -> Result<(EmbeddedCluster, OrderService), Box<dyn Error>> {
    let cluster = EmbeddedCluster::builder().brokers(1).topic(TOPIC, 1).start()?;
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .request_timeout(delivery_timeout)
        .delivery_timeout(delivery_timeout)
        .build()?;
    Ok((cluster, OrderService::new(producer)?))
}

/// The values in the log, as a consumer would get them.
fn values(cluster: &EmbeddedCluster) -> Vec<String> {
    let values = cluster.records(TOPIC, 0).into_iter().map(|record| record.value);
    values.map(|value| String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()).collect()
}

/// Stops the broker, and waits until the service has noticed. An order that is placed earlier may
/// still be written to the old connection, and nobody knows then whether the broker has it.
fn stop_broker(cluster: &EmbeddedCluster, service: &OrderService) {
    cluster.stop_broker(BROKER);
    let deadline = Instant::now() + TIMEOUT;
    while service.producer.metrics().brokers.iter().any(|broker| broker.is_connected) {
        assert!(Instant::now() < deadline, "the lost connection goes unnoticed");
        sleep(Duration::from_millis(1));
    }
}

fn orders_are_in_the_log_in_order(count: u32) -> Result<(), Box<dyn Error>> {
    let (cluster, service) = start(TIMEOUT)?;
    let placed: Vec<String> = (0..count).map(|n| format!("order {n}")).collect();
    for order in &placed {
        drop(service.place("customer-42", order)?);
    }
    service.producer.close(TIMEOUT).wait()?;
    assert_eq!(values(&cluster), placed);
    let record = &cluster.records(TOPIC, 0)[0];
    assert_eq!(record.key.as_deref(), Some(&b"customer-42"[..]));
    Ok(())
}

/// The broker refuses the first attempt, and writes the second.
fn a_refused_attempt_is_repeated() -> Result<(), Box<dyn Error>> {
    let (cluster, service) = start(TIMEOUT)?;
    cluster.script([Fault::produce_error(TOPIC, 0, NOT_LEADER_OR_FOLLOWER)]);
    service.place("customer-42", "shoes")?.wait()?;
    assert_eq!(cluster.faults_left(), 0, "the fault has happened");
    assert_eq!(service.producer.metrics().records.retries, 1);
    assert_eq!(values(&cluster), ["shoes"]);
    Ok(())
}

/// The broker writes the record, and its answer is lost. The second attempt must not double it.
fn a_lost_answer_does_not_double_an_order() -> Result<(), Box<dyn Error>> {
    let (cluster, service) = start(TIMEOUT)?;
    cluster.script([Fault::close_after_append()]);
    service.place("customer-42", "shoes")?.wait()?;
    assert_eq!(cluster.stats().duplicates(), 1, "the broker was sent it twice");
    assert_eq!(values(&cluster), ["shoes"]);
    Ok(())
}

fn an_order_waits_for_a_broker_that_comes_back() -> Result<(), Box<dyn Error>> {
    let (cluster, service) = start(TIMEOUT)?;
    service.place("customer-42", "shoes")?.wait()?;
    stop_broker(&cluster, &service);
    let mut delivery = service.place("customer-42", "socks")?;
    assert!(delivery.wait_timeout(Duration::from_millis(100)).is_none(), "it waits");
    cluster.restart_broker(BROKER)?;
    delivery.wait()?;
    assert_eq!(values(&cluster), ["shoes", "socks"]);
    Ok(())
}

fn an_order_fails_in_time_while_the_broker_is_away() -> Result<(), Box<dyn Error>> {
    let (cluster, service) = start(Duration::from_millis(500))?;
    service.place("customer-42", "shoes")?.wait()?;
    stop_broker(&cluster, &service);
    let began = Instant::now();
    let error = service.place("customer-42", "socks")?.wait().err().ok_or("it was written")?;
    assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
    // It can be placed again: nothing of it was sent.
    assert_eq!(error.certainty(), Certainty::NotWritten, "{error}");
    assert!(began.elapsed() < TIMEOUT);
    Ok(())
}

/// What the service could not send before its end it gets back, to keep it elsewhere.
fn orders_come_back_at_the_close() -> Result<(), Box<dyn Error>> {
    let (cluster, service) = start(TIMEOUT)?;
    service.place("customer-42", "shoes")?.wait()?;
    stop_broker(&cluster, &service);
    let deliveries =
        [service.place("customer-42", "socks")?, service.place("customer-42", "laces")?];
    let (sender, unsent) = mpsc::channel();
    let close = service.producer.close_handing_back(Duration::from_millis(100), move |record| {
        let value = String::from_utf8_lossy(record.value().unwrap_or_default());
        // The receiver is there for as long as the close takes.
        let _ = sender.send(value.into_owned());
    });
    assert!(close.wait().is_err(), "the broker was away until the end");
    assert_eq!(unsent.iter().collect::<Vec<_>>(), ["socks", "laces"]);
    for delivery in deliveries {
        let error = delivery.wait().err().ok_or("it was written")?;
        assert_eq!(error.certainty(), Certainty::NotWritten, "{error}");
    }
    assert_eq!(values(&cluster), ["shoes"]);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(100);
    check("orders are in the log, in the order of placing", || {
        orders_are_in_the_log_in_order(count)
    })?;
    check("a refused attempt is repeated", a_refused_attempt_is_repeated)?;
    check("a lost answer does not double an order", a_lost_answer_does_not_double_an_order)?;
    check(
        "an order waits for a broker that comes back",
        an_order_waits_for_a_broker_that_comes_back,
    )?;
    check(
        "an order fails in time while the broker is away",
        an_order_fails_in_time_while_the_broker_is_away,
    )?;
    check("orders come back at the close", orders_come_back_at_the_close)
}

/// Prints a check and how long it took. A failed one ends the example.
fn check(
    what: &str,
    run: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    run().map_err(|error| format!("{what}: {error}"))?;
    println!("ok {:>4} ms  {what}", began.elapsed().as_millis());
    Ok(())
}
