//! Brokers behind a SOCKS5 proxy: names that only the proxy knows, logins, and what goes wrong.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tidegate::embedded::EmbeddedTls;
use tidegate::{BrokerPlace, Certainty, HostPort, ProblemKind, ProducerConfig, Socks5, TlsConfig};

use super::*;

/// A SOCKS5 proxy on a thread of its own, with two for each connection.
struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// The names that it knows.
    names: Mutex<HashMap<String, SocketAddr>>,
    login: Option<(String, String)>,
    /// It accepts connections and says nothing.
    is_silent: bool,
    tunnels: AtomicUsize,
    ends: AtomicBool,
}

impl Proxy {
    fn start(state: State) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(state);
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            let mut ends = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.ends.load(Ordering::Relaxed) {
                    break;
                }
                ends.push(stream.try_clone().unwrap());
                let state = shared.clone();
                std::thread::spawn(move || drop(serve(&state, stream)));
            }
            ends.into_iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        });
        Proxy { address, state, thread: Some(thread) }
    }

    /// A proxy that knows the brokers as `kafka-1.inside` and so on.
    fn to(cluster: &EmbeddedCluster) -> Proxy {
        let names = cluster.broker_ids().into_iter().map(|id| (name(id), cluster.address(id)));
        Proxy::start(State { names: Mutex::new(names.collect()), ..State::default() })
    }

    fn socks5(&self) -> Socks5 {
        let host = self.address.ip().to_string();
        Socks5::new(HostPort { host, port: self.address.port() })
    }

    fn tunnels(&self) -> usize {
        self.state.tunnels.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ends.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn name(id: i32) -> String {
    format!("kafka-{id}.inside")
}

fn take<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn take_text(stream: &mut TcpStream) -> io::Result<String> {
    let [len] = take(stream)?;
    let mut text = vec![0; usize::from(len)];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8(text).expect("the tests' names are text"))
}

/// RFC 1928, as far as a CONNECT goes.
fn serve(state: &State, mut client: TcpStream) -> io::Result<()> {
    if state.is_silent {
        return client.read_to_end(&mut Vec::new()).map(drop);
    }
    let [version, count] = take(&mut client)?;
    assert_eq!(version, 5);
    let mut methods = vec![0; usize::from(count)];
    client.read_exact(&mut methods)?;
    match &state.login {
        None => client.write_all(&[5, 0])?,
        Some(_) if !methods.contains(&2) => return client.write_all(&[5, 0xff]),
        Some((user, password)) => {
            client.write_all(&[5, 2])?;
            assert_eq!(take(&mut client)?, [1]);
            let given = (take_text(&mut client)?, take_text(&mut client)?);
            let is_right = given == (user.clone(), password.clone());
            client.write_all(&[1, u8::from(!is_right)])?;
            if !is_right {
                return Ok(());
            }
        }
    }
    assert_eq!(take(&mut client)?, [5, 1, 0]);
    let [kind] = take(&mut client)?;
    let target = match kind {
        1 => {
            let (ip, port): ([u8; 4], [u8; 2]) = (take(&mut client)?, take(&mut client)?);
            Some(SocketAddr::from((ip, u16::from_be_bytes(port))))
        }
        _ => {
            let name = take_text(&mut client)?;
            let _port: [u8; 2] = take(&mut client)?;
            state.names.lock().unwrap().get(&name).copied()
        }
    };
    let Some(target) = target else { return client.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]) };
    let broker = match TcpStream::connect(target) {
        Ok(broker) => broker,
        Err(_) => return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]),
    };
    state.tunnels.fetch_add(1, Ordering::Relaxed);
    client.write_all(&[5, 0, 0, 3, 2, b'm', b'e', 1, 1])?;
    let (mut back, mut to_client) = (broker.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut back, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let mut broker = broker;
    let _ = io::copy(&mut client, &mut broker);
    broker.shutdown(Shutdown::Both)
}

/// A producer that knows brokers by names alone, which it cannot look up itself.
fn through(proxy: &Proxy) -> ProducerBuilder {
    let by_name = |place: &BrokerPlace<'_>| {
        // The bootstrap address is a name already.
        place.id.map(|id| (name(id), 9_092))
    };
    Producer::builder("kafka-1.inside:9092")
        .configure(|config| config.pinning = false)
        .address_map(by_name)
        .socks5(proxy.socks5())
}

#[test]
fn brokers_are_reached_by_names_that_only_the_proxy_knows() {
    let cluster = cluster(3, 6);
    let proxy = Proxy::to(&cluster);
    let producer = through(&proxy).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let sent: Vec<_> =
        (0..3_000).map(|n| topic.send_record(to(n % 6, &n.to_string())).unwrap()).collect();
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
    assert_eq!(proxy.tunnels(), 4, "one for each broker, and one for metadata");
    let stored: usize = (0..6).map(|partition| cluster.records("t", partition).len()).sum();
    assert_eq!(stored, 3_000);
}

#[test]
fn a_certificate_is_still_the_brokers_own_behind_a_proxy() {
    let tls = EmbeddedTls::new();
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 2).tls(tls).start().unwrap();
    let proxy = Proxy::to(&cluster);
    let producer = builder(&cluster)
        .tls(TlsConfig::new().truststore_pem(cluster.authority_pem()))
        .socks5(proxy.socks5())
        .build()
        .unwrap();
    warm(&producer.topic("t").unwrap(), 2);
    close(&producer);
    assert_eq!(proxy.tunnels(), 3);
}

#[test]
fn a_login_at_the_proxy_is_right_or_wrong() {
    let cluster = cluster(1, 1);
    let mut state = State { login: Some(("me".into(), "hunter2".into())), ..State::default() };
    state.names = Mutex::new([(name(1), cluster.address(1))].into());
    let proxy = Proxy::start(state);
    let right = through(&proxy).socks5(proxy.socks5().login("me", "hunter2"));
    let right = right.build().unwrap();
    acked(right.topic("t").unwrap().send((), "x").unwrap());
    close(&right);
    for (wrong, words) in [
        (proxy.socks5().login("me", "wrong-secret"), "refused the user's name or password"),
        (proxy.socks5(), "set tidegate.socks5.username"),
    ] {
        let builder = through(&proxy).socks5(wrong);
        let producer = builder.request_timeout(secs(1)).delivery_timeout(secs(2)).build().unwrap();
        let error = failed(producer.topic("t").unwrap().send((), "x").unwrap());
        let told = error.to_string();
        assert_eq!(error.certainty(), Certainty::NotWritten);
        assert_eq!(
            error.problem().map(|it| it.kind()),
            Some(ProblemKind::Authentication),
            "{told}"
        );
        assert!(told.contains("SOCKS5 proxy") && told.contains(words), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
}

#[test]
fn a_broker_that_the_proxy_does_not_reach_holds_up_no_other() {
    let cluster = cluster(2, 2);
    let proxy = Proxy::to(&cluster);
    proxy.state.names.lock().unwrap().remove(&name(2));
    let producer =
        through(&proxy).request_timeout(secs(1)).delivery_timeout(secs(2)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for _ in 0..20 {
        // Partition 1 is broker 2's.
        let lost = topic.send_record(to(1, "x")).unwrap();
        acked(topic.send_record(to(0, "x")).unwrap());
        drop(lost);
    }
    let error = failed(topic.send_record(to(1, "x")).unwrap()).to_string();
    assert!(error.contains("SOCKS5 proxy") && error.contains("kafka-2.inside:9092"), "{error}");
    assert!(error.contains("host is unreachable"), "{error}");
    // The proxy hears of it.
    proxy.state.names.lock().unwrap().insert(name(2), cluster.address(2));
    goes_on(&topic, 1, "after");
}

#[test]
fn a_proxy_that_is_away_or_says_nothing_is_named() {
    let cluster = cluster(1, 1);
    let gone = Proxy::to(&cluster).socks5();
    let silent = Proxy::start(State { is_silent: true, ..State::default() });
    for (socks5, kind) in [(gone, ProblemKind::Refused), (silent.socks5(), ProblemKind::TimedOut)] {
        let producer = through(&silent)
            .socks5(socks5)
            .configure(|config| config.connection_setup_timeout = millis(200))
            .request_timeout(secs(1))
            .delivery_timeout(secs(2))
            .build()
            .unwrap();
        let error = failed(producer.topic("t").unwrap().send((), "x").unwrap());
        let told = error.to_string();
        assert_eq!(error.problem().map(|it| it.kind()), Some(kind), "{told}");
        assert!(told.contains("SOCKS5 proxy"), "{told}");
    }
}

#[test]
fn a_proxy_is_set_by_properties_too() {
    let cluster = cluster(1, 1);
    let proxy = Proxy::to(&cluster);
    let socks5 = proxy.address.to_string();
    let properties = [
        ("bootstrap.servers", "kafka-1.inside:9092"),
        ("tidegate.socks5", &socks5),
        ("tidegate.pinning", "false"),
    ];
    let config = ProducerConfig::from_properties(properties).unwrap();
    let producer = ProducerBuilder::from_config(config).build().unwrap();
    acked(producer.topic("t").unwrap().send((), "x").unwrap());
    close(&producer);
    let refused = |more: &[(&str, &str)]| {
        let all = properties.iter().chain(more).copied();
        ProducerConfig::from_properties(all).and_then(|config| config.validate()).unwrap_err()
    };
    let half = refused(&[("tidegate.socks5.username", "me")]).to_string();
    assert!(half.contains("tidegate.socks5.password"), "{half}");
    for address in ["me:hunter2@bastion:1080", "socks5://me:hunter2@bastion:1080"] {
        let all = [("bootstrap.servers", "k:1"), ("tidegate.socks5", address)];
        let error = ProducerConfig::from_properties(all).unwrap_err().to_string();
        assert!(
            error.contains("tidegate.socks5.username") && !error.contains("hunter2"),
            "{error}"
        );
    }
    let long = "x".repeat(256);
    let both = [("tidegate.socks5.username", "me"), ("tidegate.socks5.password", long.as_str())];
    let error = refused(&both).to_string();
    assert!(error.contains("255") && !error.contains("xxx"), "{error}");
}

#[test]
fn a_probe_goes_through_the_proxy_and_looks_no_name_up_itself() {
    use tidegate::probe::{Probe, ProbeStage};
    let cluster = cluster(2, 2);
    let proxy = Proxy::to(&cluster);
    let servers = [("bootstrap.servers", "kafka-1.inside:9092")];
    let mut config = ProducerConfig::from_properties(servers).unwrap();
    config.socks5 = Some(proxy.socks5());
    let probe = Probe::new(config).unwrap();
    let mut stages = Vec::new();
    let described = probe.run(|step| stages.push(step.stage)).unwrap();
    assert_eq!(stages, [ProbeStage::Connect, ProbeStage::Versions, ProbeStage::Metadata]);
    for broker in &described.brokers {
        probe.reach(&described, broker, |_| {}).unwrap();
    }
    assert_eq!(proxy.tunnels(), 3, "one to start from, and one for each broker");
}
