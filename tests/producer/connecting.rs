//! Brokers that cannot be connected to, or that hang up.

use super::*;
use tidegate::embedded::Fault;

const INIT_PRODUCER_ID: i16 = 22;

/// An address where connections are neither accepted nor refused: a firewall that drops packets
/// looks like that. Here the queue of a listener that accepts nothing is full.
#[cfg(target_os = "linux")]
struct Hole {
    listener: socket2::Socket,
    _queued: Vec<std::net::TcpStream>,
}

#[cfg(target_os = "linux")]
impl Hole {
    fn dig() -> Hole {
        use socket2::{Domain, Socket, Type};
        use std::net::{Ipv4Addr, SocketAddr, TcpStream};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let fill = || TcpStream::connect_timeout(&address, millis(300)).ok();
        let _queued: Vec<_> = std::iter::from_fn(fill).take(100).collect();
        assert!(_queued.len() < 100, "the queue of a listener ends somewhere");
        Hole { listener, _queued }
    }

    fn address(&self) -> std::net::SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }
}

/// The loop sleeps until the attempt has timed out, and nothing else wakes it.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_attempt_that_times_out_is_followed_by_another() {
    let (cluster, hole) = (cluster(2, 2), Hole::dig());
    let (one, two) = (cluster.address(1), cluster.address(2));
    cluster.advertise(2, hole.address());
    let producer = Producer::builder(&one.to_string())
        .request_timeout(secs(10))
        .delivery_timeout(FAR)
        .configure(|config| {
            config.pinning = false;
            config.connection_setup_timeout = millis(500);
        })
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let delivery = topic.send_record(to(1, "at last")).unwrap();
    // Heard of when metadata is asked for again, because the attempt has failed.
    cluster.advertise(2, two);
    acked(delivery);
    close(&producer);
}

/// Sends a record to a cluster that gives no producer id. Returns what its delivery says.
fn without_producer_id(cluster: &EmbeddedCluster, is_required: bool) -> String {
    let interval = millis(100);
    let start = Instant::now();
    let producer = builder(cluster)
        .request_timeout(secs(1))
        .delivery_timeout(secs(2))
        .configure(|c| {
            c.enable_idempotence = is_required.then_some(true);
            c.metadata_min_refresh = interval;
            (c.reconnect_backoff, c.reconnect_backoff_max) = (interval, 2 * interval);
        })
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    let error = failed(topic.send((), "v").unwrap());
    let connections = cluster.stats().broker(1).connections_accepted;
    let intervals = start.elapsed().as_millis() / interval.as_millis();
    // One an interval at the most, and two to begin with.
    assert!(
        u128::from(connections) <= 2 + intervals,
        "{connections} connections in {intervals} intervals"
    );
    let _ = producer.close(Duration::ZERO).wait();
    error.to_string()
}

#[test]
fn a_broker_that_knows_no_producer_ids_is_asked_now_and_then() {
    let cluster = cluster(1, 1);
    cluster.limit_api(INIT_PRODUCER_ID, 90, 99);
    let error = without_producer_id(&cluster, true);
    assert!(error.contains("InitProducerId"), "{error}");
}

#[test]
fn a_broker_that_hangs_up_when_asked_for_a_producer_id_is_asked_now_and_then() {
    let cluster = cluster(1, 1);
    cluster.script(Fault::close_before_response().api(INIT_PRODUCER_ID).times(1_000_000));
    let error = without_producer_id(&cluster, false);
    assert!(error.contains("InitProducerId"), "{error}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_socket_option_that_the_system_refuses_costs_no_connection() {
    let cluster = cluster(1, 1);
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .configure(|config| {
            config.pinning = false;
            // Linux takes up to 32,767 s.
            config.tcp_keepalive = Some(Duration::from_secs(12 * 3_600));
        })
        .build()
        .unwrap();
    let delivery = producer.topic("t").unwrap().send((), "v").unwrap();
    acked(delivery);
    producer.close(LONG).wait().unwrap();
}

/// A port that nobody listens on, as brokers advertise where their network is not this one.
fn elsewhere(port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn brokers_that_advertise_what_cannot_be_reached_are_reached_where_the_map_says() {
    let cluster = cluster(2, 2);
    let places = [cluster.address(1), cluster.address(2)];
    cluster.advertise(1, elsewhere(1));
    cluster.advertise(2, elsewhere(2));
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = asked.clone();
    let map = move |place: &tidegate::BrokerPlace<'_>| {
        note.lock().unwrap().push((place.id, place.port));
        let to = places.get(usize::from(place.port) - 1)?;
        Some((to.ip().to_string(), to.port()))
    };
    let producer = Producer::builder(&places[0].to_string())
        .configure(|config| config.pinning = false)
        .address_map(map)
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    close(&producer);
    let asked = asked.lock().unwrap();
    assert!(asked.contains(&(None, places[0].port())), "the bootstrap server: {asked:?}");
    assert!(asked.contains(&(Some(1), 1)) && asked.contains(&(Some(2), 2)), "{asked:?}");
}

#[test]
fn c43_an_address_map_that_panics_costs_attempts_and_says_so() {
    let cluster = cluster(1, 1);
    let map = |_: &tidegate::BrokerPlace<'_>| panic!("a panic that belongs to the test");
    let builder = builder(&cluster).address_map(map);
    let producer = builder.request_timeout(secs(1)).delivery_timeout(secs(2)).build().unwrap();
    let error = failed(producer.topic("t").unwrap().send("k", "v").unwrap());
    assert!(error.to_string().contains("the address map panicked"), "{error}");
    close(&producer);
}
