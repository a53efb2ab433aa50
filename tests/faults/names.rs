//! Names: a name server that hangs, a name with addresses of which some are of no use; and many
//! producers whose broker is away.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex};

use kafka_protocol::protocol::StrBytes;
use tidegate::{Problem, ProblemKind};

use super::*;

/// A name that leads to these addresses; the name server can be made to hang. It answers again when
/// this is dropped.
struct Name {
    host: &'static str,
    server: Arc<(Mutex<Server>, Condvar)>,
}

#[derive(Default)]
struct Server {
    hangs: bool,
    asked: u32,
}

impl Name {
    fn of(host: &'static str, addresses: &[[u8; 4]]) -> Name {
        let server: Arc<(Mutex<Server>, Condvar)> = Arc::default();
        let answers = server.clone();
        let addresses: Vec<IpAddr> = addresses.iter().map(|&octets| octets.into()).collect();
        let answer = move || -> io::Result<Vec<IpAddr>> {
            let (lock, changed) = &*answers;
            let mut server = lock.lock().unwrap();
            server.asked += 1;
            changed.notify_all();
            drop(changed.wait_while(server, |server| server.hangs).unwrap());
            Ok(addresses.clone())
        };
        tidegate::internals::answer_name(host, Arc::new(answer));
        Name { host, server }
    }

    fn hang(&self, hangs: bool) {
        self.server.0.lock().unwrap().hangs = hangs;
        self.server.1.notify_all();
    }

    fn wait_until_asked(&self) {
        let (lock, changed) = &*self.server;
        let server = lock.lock().unwrap();
        let waited = changed.wait_timeout_while(server, LONG, |server| server.asked == 0);
        assert!(!waited.unwrap().1.timed_out(), "{} was never asked for", self.host);
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.hang(false);
    }
}

const HERE: [u8; 4] = [127, 0, 0, 1];
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

/// Brokers are advertised by these names from now on.
fn advertise(stage: &Stage, names: &[&'static str]) {
    for proxy in &stage.proxies {
        let names = names.to_vec();
        rewrite::metadata(proxy, move |response| {
            for broker in &mut response.brokers {
                broker.host = StrBytes::from_static_str(names[broker.node_id.0 as usize - 1]);
            }
        });
    }
}

#[test]
fn c53_f46_a_name_that_hangs_holds_up_no_other_broker() {
    let stage = Stage::new(2, 2);
    let (hung, well) = (Name::of("f46-hangs.test", &[HERE]), Name::of("f46-well.test", &[HERE]));
    hung.hang(true);
    advertise(&stage, &[hung.host, well.host]);
    let producer = stage.producer();
    let topic = producer.topic("t").unwrap();
    let waits = send(&topic, 0, "waits".to_owned());
    hung.wait_until_asked();
    let start = Instant::now();
    let mut sent: Vec<_> = (0..20).map(|n| send(&topic, 1, n.to_string())).collect();
    assert!(stage.cluster.wait_until(LONG, |stats| stats.broker(2).records == 20));
    assert!(start.elapsed() < secs(9), "{:?}", start.elapsed());
    hung.hang(false);
    sent.push(waits);
    stage.judge_all_acked(sent);
}

#[test]
fn c53_f46_a_names_last_good_answer_is_used_while_the_name_server_hangs() {
    let stage = Stage::new(1, 1);
    let name = Name::of("f46-fickle.test", &[HERE]);
    advertise(&stage, &[name.host]);
    let producer = stage.producer();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    name.hang(true);
    let start = Instant::now();
    for n in 0..5 {
        stage.proxy(1).cut_all();
        acked(topic.send_record(to(0, &n.to_string())).unwrap());
    }
    // The name server is given up after ten.
    assert!(start.elapsed() < secs(8), "{:?}", start.elapsed());
}

/// Records flow through the second address of a name whose first one is of no use, and reconnecting
/// begins with the second.
#[cfg(target_os = "linux")]
fn passes_over(host: &'static str, welcome: Welcome) {
    let stage = Stage::new(1, 1);
    let port = stage.proxy(1).address().port();
    let bad = Proxy::at(SocketAddr::from((ELSEWHERE, port)));
    bad.welcome(welcome);
    let name = Name::of(host, &[ELSEWHERE, HERE]);
    advertise(&stage, &[name.host]);
    let builder = quick(Producer::builder(&format!("{host}:{port}")));
    let setup_timeout = millis(500);
    let builder = builder.configure(|c| c.connection_setup_timeout = setup_timeout);
    let start = Instant::now();
    let producer = builder.build().unwrap();
    let topic = producer.topic("t").unwrap();
    let mut sent = vec![send(&topic, 0, "first".to_owned())];
    assert!(stage.cluster.wait_until(LONG, |stats| stats.broker(1).records == 1), "{host}");
    let took = start.elapsed();
    assert!(took < 10 * setup_timeout, "{host}: passed over after {took:?}");
    let tried = bad.seen().accepted;
    assert!(tried > 0, "{host}: it was tried first");
    for n in 0..3 {
        // Lost with an answer on its way, a connection has certainly completed its handshake: a
        // loss before that would speak against this address.
        let answers = stage.proxy(1).seen().responses_of(api::PRODUCE);
        let mut cuts = 0;
        stage.proxy(1).script(move |frame| {
            cuts += u32::from(frame.answers(api::PRODUCE));
            if frame.answers(api::PRODUCE) && cuts == 1 { Act::CutAt(0) } else { Act::Pass }
        });
        sent.push(send(&topic, 0, n.to_string()));
        let again = |seen: &Seen| seen.responses_of(api::PRODUCE) >= answers + 2;
        assert!(stage.proxy(1).wait_until(LONG, again), "{host}: it is answered again");
    }
    assert_eq!(bad.seen().accepted, tried, "{host}: reconnecting begins where it was well");
    stage.judge_all_acked(sent);
}

#[cfg(target_os = "linux")]
#[test]
fn c52_f45_a_first_address_that_accepts_and_says_nothing_is_passed_over() {
    passes_over("f45-silent.test", Welcome::Silent);
}

#[cfg(target_os = "linux")]
#[test]
fn c52_f45_a_first_address_that_closes_or_speaks_something_else_is_passed_over() {
    passes_over("f45-closes.test", Welcome::Say(Vec::new()));
    passes_over("f45-resets.test", Welcome::Reset);
    passes_over("f45-tls.test", Welcome::Say(vec![0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a]));
}

/// A firewall that drops packets: the queue of a listener that accepts nothing is full.
#[cfg(target_os = "linux")]
#[test]
fn c52_an_address_that_swallows_connections_costs_a_quarter_of_a_second_once() {
    use socket2::{Domain, Socket, Type};
    let stage = Stage::new(1, 1);
    let port = stage.proxy(1).address().port();
    let address = SocketAddr::from((ELSEWHERE, port));
    let hole = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    hole.bind(&address.into()).unwrap();
    hole.listen(0).unwrap();
    let fill = || std::net::TcpStream::connect_timeout(&address, millis(300)).ok();
    let queued: Vec<_> = std::iter::from_fn(fill).take(100).collect();
    assert!(queued.len() < 100, "the queue of a listener ends somewhere");
    let name = Name::of("f45-swallows.test", &[ELSEWHERE, HERE]);
    advertise(&stage, &[name.host]);
    let start = Instant::now();
    let builder = quick(Producer::builder(&format!("{}:{port}", name.host)));
    let producer = builder.request_timeout(secs(20)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    for n in 0..3 {
        stage.proxy(1).cut_all();
        acked(topic.send_record(to(0, &n.to_string())).unwrap());
    }
    // One address alone would have been given ten.
    assert!(start.elapsed() < secs(7), "{:?}", start.elapsed());
}

/// The text of a record's failure where nobody listens.
fn refused(list: &str) -> String {
    let builder = quick(Producer::builder(list)).request_timeout(millis(200));
    let producer = builder.delivery_timeout(millis(600)).build().unwrap();
    failed(producer.topic("t").unwrap().send((), "v").unwrap()).to_string()
}

#[cfg(target_os = "linux")]
#[test]
fn a_refusal_names_each_address_that_was_tried_once() {
    let nobody = Proxy::start();
    nobody.refuse();
    let port = nobody.address().port();
    let text = refused(&nobody.address().to_string());
    assert_eq!(text.matches(&port.to_string()).count(), 1, "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port}: Connection refused")), "{text}");
    let name = Name::of("refused.test", &[ELSEWHERE, HERE]);
    let text = refused(&format!("{}:{port}", name.host));
    assert!(text.contains(&format!("refused.test:{port}: ")), "{text}");
    for ip in [Ipv4Addr::from(ELSEWHERE), Ipv4Addr::from(HERE)] {
        assert_eq!(text.matches(&format!("{ip}:{port}: Connection refused")).count(), 1, "{text}");
    }
}

/// The problem that a record's failure names as the last one.
fn last_problem(list: &str) -> Problem {
    let builder = quick(Producer::builder(list)).request_timeout(millis(300));
    let producer = builder.delivery_timeout(millis(900)).build().unwrap();
    let error = failed(producer.topic("t").unwrap().send((), "v").unwrap());
    error.problem().unwrap_or_else(|| panic!("{error}"))
}

#[test]
fn a_failure_tells_programs_what_kind_of_problem_stood_in_the_way() {
    let proxy = Proxy::start();
    let address = proxy.address().to_string();
    let kind_at = |welcome| {
        proxy.welcome(welcome);
        last_problem(&address).kind()
    };
    assert_eq!(kind_at(Welcome::Say(b"HTTP/1.1 400 Bad Request".into())), ProblemKind::NotKafka);
    assert_eq!(kind_at(Welcome::Say(vec![0x15, 3, 3, 0, 2, 2, 10])), ProblemKind::NotKafka);
    // A frame by chance.
    assert_eq!(kind_at(Welcome::Say(vec![0, 0, 0, 4, 1, 2, 3, 4])), ProblemKind::NotKafka);
    assert_eq!(kind_at(Welcome::Silent), ProblemKind::TimedOut);
    proxy.refuse();
    let refused = last_problem(&address);
    assert_eq!(refused.kind(), ProblemKind::Refused, "{refused}");
    let system = refused.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(system.map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused));
    let nowhere = Name::of("nowhere.test", &[]);
    assert_eq!(last_problem(&format!("{}:9092", nowhere.host)).kind(), ProblemKind::Dns);
}

/// How many descriptors this process may have open. A producer, its proxy and its broker take a
/// dozen.
fn open_files_max() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    soft.map_or(0, |soft| soft.parse().unwrap_or(u64::MAX))
}

/// As many producers as the system lets this process have, 200 at the most.
fn many() -> u32 {
    if open_files_max() > 8_192 { 200 } else { 30 }
}

/// Connections a second that each of many producers makes whose broker is away, over `span` and
/// once their waits have `grown`.
fn dials_of_each(
    stage: &Stage,
    builder: impl Fn() -> ProducerBuilder,
    grown: Duration,
    span: Duration,
) -> f64 {
    let producers: Vec<_> = (0..many()).map(|_| builder().build().unwrap()).collect();
    let topics: Vec<_> = producers.iter().map(|producer| producer.topic("t").unwrap()).collect();
    topics.iter().for_each(|topic| warm(topic, 1));
    stage.proxy(1).welcome(Welcome::Reset);
    stage.proxy(1).cut_all();
    let sent: Vec<_> = topics.iter().map(|topic| topic.send((), "v").unwrap()).collect();
    // What is measured is what happens in a time, so time has to pass.
    std::thread::sleep(grown);
    let before = stage.proxy(1).seen().accepted;
    let start = Instant::now();
    std::thread::sleep(span);
    let dials = stage.proxy(1).seen().accepted - before;
    let each = dials as f64 / f64::from(many()) / start.elapsed().as_secs_f64();
    stage.proxy(1).welcome(Welcome::Forward);
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    each
}

/// With every wait as it is by default, but for the half minute in which they do not grow.
#[test]
fn c65_f52_each_of_many_producers_without_their_broker_tries_it_once_a_second_by_default() {
    let stage = Stage::new(1, 1);
    let servers = stage.bootstrap_servers();
    let builder = || {
        Producer::builder(&servers).configure(|c| {
            c.pinning = false;
            c.reconnect_quick = secs(1);
        })
    };
    // Waits are as long as they get by then: 50 ms doubled five times, after one second.
    let each = dials_of_each(&stage, builder, secs(5), secs(8));
    // Waits are shorter by a fifth at the most.
    assert!(each < 1.3, "{each:.2} connections a second from each");
    assert!(each > 0.1, "they are tried: {each:.2}");
}

#[test]
fn c65_f52_many_producers_without_their_broker_make_no_storm() {
    let stage = Stage::new(1, 1);
    let builder = || {
        stage.builder().configure(|c| {
            c.reconnect_quick = Duration::ZERO;
            (c.reconnect_backoff, c.reconnect_backoff_max) = (millis(50), millis(500));
        })
    };
    // Each producer's two channels want the same address.
    let each = dials_of_each(&stage, builder, secs(2), secs(2));
    // One in 0.4 s at the most.
    assert!(each < 3.0, "{each:.1} connections a second from each");
    assert!(each > 0.2, "they are tried: {each:.1}");
}
