use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread::{self, JoinHandle};

use super::*;
use crate::engine::policy::{SaslPeer, Secret};

/// A time that no test lives to see.
const LONG: Duration = Duration::from_secs(60);

/// When the tests take place: 2027-01-15T08:00:00Z.
pub(in crate::io::login) const NOW: u64 = 1_800_000_000;

/// A small HTTP server on the loopback interface. It ends with its value.
pub(in crate::io::login) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers each request, which is given whole, with a status and a body.
    pub(in crate::io::login) fn new(
        answer: impl Fn(&str) -> (u16, String) + Send + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (asked, ends) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, over) = (asked.clone(), ends.clone());
        let serve = move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.expect("somebody connects");
                let request = request(&mut stream);
                log.lock().expect("nobody panics with it").push(request.clone());
                let (status, body) = answer(&request);
                let length = body.len();
                let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n");
                // Who has given up does not read.
                let _ = stream.write_all((head + &body).as_bytes());
            }
        };
        Server { address, asked, ends, thread: Some(thread::spawn(serve)) }
    }

    pub(in crate::io::login) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub(in crate::io::login) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

fn request(stream: &mut TcpStream) -> String {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a whole request comes");
        bytes.extend(byte);
    }
    let head = String::from_utf8(bytes).expect("text");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    stream.read_exact(&mut body).expect("a whole request comes");
    head + &String::from_utf8(body).expect("text")
}

/// Surroundings with these variables, in which nobody listens anywhere.
pub(in crate::io::login) fn around(variables: &[(&str, &str)]) -> Surroundings {
    let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let variables: BTreeMap<String, String> = owned.collect();
    let timeouts = Timeouts { connect: LONG, answer: LONG };
    Surroundings {
        lookup: Box::new(move |name| variables.get(name).cloned()),
        clock: Box::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)),
        container: "http://127.0.0.1:1",
        instance: "http://127.0.0.1:1",
        instance_over_ipv6: "http://127.0.0.1:1",
        near: timeouts,
        far: timeouts,
        process_timeout: LONG,
        tls: OnceLock::new(),
    }
}

pub(in crate::io::login) fn seconds_from_now(seconds: u64) -> Option<SystemTime> {
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + seconds))
}

/// What a look gave: the id, and what is signed with it, which tells secret and token apart.
pub(in crate::io::login) fn given(looked: Looked) -> (String, Option<SystemTime>, String) {
    let credentials = looked.expect("there are credentials");
    let shown = format!("{credentials:?}");
    let id = shown.split('"').nth(1).expect("the id is shown").to_owned();
    (id, credentials.expiry(), message(credentials))
}

/// The first message of a login with these credentials.
pub(in crate::io::login) fn message(credentials: AwsCredentials) -> String {
    // It is about what they are, not about how long.
    let credentials = credentials.expires_at(seconds_from_now(1).expect("it is one"));
    first_message(&MskIam::new(Arc::new(credentials)), "b.kafka.eu-west-1.amazonaws.com")
}

fn first_message(mechanism: &dyn SaslMechanism, host: &str) -> String {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let begun = mechanism.begin(&SaslPeer::new(host, 9098, now));
    let first = begun.expect("it begins").next(None).expect("it begins").expect("a message");
    String::from_utf8(first).expect("text")
}

/// The same with these three parts.
pub(in crate::io::login) fn message_of(id: &str, secret: &str, token: Option<&str>) -> String {
    let credentials = AwsCredentials::new(id, secret);
    message(match token {
        Some(token) => credentials.session_token(token),
        None => credentials,
    })
}

/// Why a look gave nothing, and whether the next source is asked. Holds no secret.
pub(in crate::io::login) fn missed(looked: Looked) -> (bool, String) {
    let (goes_on, words) = match looked.expect_err("there are no credentials") {
        Miss::Absent(words) => (true, words),
        Miss::Failed(words) => (false, words),
    };
    assert!(!words.contains("hunter2"), "a secret is told: {words}");
    (goes_on, words)
}

fn chain(surroundings: Surroundings) -> Chain {
    Chain::new(surroundings, &AwsMskIam::new())
}

#[test]
fn the_environment_gives_a_key_and_a_token() {
    let mut variables =
        vec![("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", " hunter2\n")];
    let (id, expiry, first) = given(environment(&around(&variables)));
    assert_eq!((id.as_str(), expiry), ("AKIDENV", None));
    assert_eq!(first, message_of("AKIDENV", "hunter2", None));
    variables.push(("AWS_SESSION_TOKEN", "token"));
    let (_, _, first) = given(environment(&around(&variables)));
    assert_eq!(first, message_of("AKIDENV", "hunter2", Some("token")));
}

#[test]
fn half_a_key_in_the_environment_ends_the_search() {
    assert!(missed(environment(&around(&[]))).0);
    for (set, lacks) in [
        ("AWS_ACCESS_KEY_ID", "not AWS_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "not AWS_ACCESS_KEY_ID"),
    ] {
        let (goes_on, words) = missed(environment(&around(&[(set, "hunter2")])));
        assert!(!goes_on && words.contains(lacks), "{words}");
        let error = chain(around(&[(set, "hunter2")])).kept_or_fetched().expect_err("half of it");
        assert!(error.message().starts_with("no credentials of AWS from the environment"));
    }
}

#[test]
fn where_nothing_is_set_up_every_place_is_named_with_its_reason() {
    let error = chain(around(&[("HOME", "/nowhere")])).kept_or_fetched();
    let error = error.expect_err("there is nothing");
    assert_eq!(error.kind(), SaslErrorKind::Credentials);
    for words in [
        "AwsMskIam::with_credentials",
        "the environment: AWS_ACCESS_KEY_ID is not set",
        "a web identity: AWS_WEB_IDENTITY_TOKEN_FILE is not set",
        "the files of AWS: there is no profile \"default\": /nowhere/.aws/config is not there, \
         /nowhere/.aws/credentials is not there",
        "the container: neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "the instance's metadata: 127.0.0.1:1: cannot connect",
    ] {
        assert!(error.message().contains(words), "{words:?} is not in {error}");
    }
    // All of it reaches the user, and none of it as the words of an application's provider.
    let mechanism = with_surroundings(&AwsMskIam::new(), around(&[])).expect("it may work later");
    let begun = mechanism.begin(&SaslPeer::new("b.eu-west-1.amazonaws.com", 1, SystemTime::now()));
    let told = begun.err().expect("there is nothing");
    assert!(told.message().starts_with("no credentials of AWS were found"), "{told}");
    assert!(told.message().contains("AWS_EC2_METADATA") || told.message().contains("metadata"));
}

#[test]
fn the_first_source_that_has_any_is_taken_in_awss_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (file, token) = (path("credentials"), path("token"));
    let text = "[default]\naws_access_key_id = AKIDFILE\naws_secret_access_key = hunter2\n";
    std::fs::write(&file, text).expect("it is written");
    std::fs::write(&token, "jwt").expect("it is written");
    let answer = r#"{"AccessKeyId": "AKIDSERVER", "SecretAccessKey": "hunter2", "Token": "t"}"#;
    let sts = "<Credentials><AccessKeyId>AKIDSTS</AccessKeyId><SecretAccessKey>hunter2\
               </SecretAccessKey><SessionToken>t</SessionToken>\
               <Expiration>2027-01-15T09:00:00Z</Expiration></Credentials>";
    let server = Server::new(move |request| match request.starts_with("POST") {
        true => (200, sts.to_owned()),
        false => (200, answer.to_owned()),
    });
    let url = server.url();
    let mut variables = vec![
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
    ];
    let id = |variables: &[(&str, &str)]| {
        let fetched = chain(around(variables)).fetch().expect("there are credentials");
        given(Ok(fetched)).0
    };
    assert_eq!(id(&variables), "AKIDSERVER");
    variables.push(("AWS_SHARED_CREDENTIALS_FILE", &file));
    assert_eq!(id(&variables), "AKIDFILE");
    variables.push(("AWS_ROLE_ARN", "arn:aws:iam::1:role/shop"));
    variables.push(("AWS_WEB_IDENTITY_TOKEN_FILE", &token));
    assert_eq!(id(&variables), "AKIDSTS");
    variables.push(("AWS_ACCESS_KEY_ID", "AKIDENV"));
    variables.push(("AWS_SECRET_ACCESS_KEY", "hunter2"));
    assert_eq!(id(&variables), "AKIDENV");
    // A profile that is asked for is the only source.
    let asked = AwsMskIam::new().profile("default");
    let fetched = Chain::new(around(&variables), &asked).fetch().expect("it has credentials");
    assert_eq!(given(Ok(fetched)).0, "AKIDFILE");
    let other = AwsMskIam::new().profile("other");
    let error = Chain::new(around(&variables), &other).fetch().expect_err("there is none");
    assert!(error.contains("there is no profile \"other\""), "{error}");
}

/// What an agent answers.
fn answer(id: &str, expires: u64) -> String {
    let key = format!(r#""AccessKeyId":"{id}","SecretAccessKey":"hunter2""#);
    format!(r#"{{{key},"Token":"t","Expiration":{expires}}}"#)
}

/// A container's agent whose credentials are good for an hour each, and a clock that is set by
/// hand. The agent answers 500 while told to.
struct Expiring {
    server: Server,
    now: Arc<AtomicU64>,
    is_down: Arc<AtomicBool>,
    chain: Chain,
}

impl Expiring {
    fn new() -> Expiring {
        let (now, is_down) = (Arc::new(AtomicU64::new(NOW)), Arc::new(AtomicBool::new(false)));
        let (time, down, count) = (now.clone(), is_down.clone(), AtomicUsize::new(0));
        let server = Server::new(move |_| {
            if down.load(Ordering::SeqCst) {
                return (500, "hunter2".to_owned());
            }
            let count = count.fetch_add(1, Ordering::SeqCst) + 1;
            let expires = time.load(Ordering::SeqCst) + 3_600;
            (200, answer(&format!("AKID{count}"), expires))
        });
        let mut surroundings = around(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &server.url())]);
        let clock = now.clone();
        surroundings.clock = Box::new(move || {
            SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst))
        });
        Expiring { server, now, is_down, chain: chain(surroundings) }
    }

    fn at(&self, seconds: u64) -> Result<String, SaslError> {
        self.now.store(NOW + seconds, Ordering::SeqCst);
        self.chain.kept_or_fetched().map(|credentials| given(Ok(credentials)).0)
    }
}

#[test]
fn credentials_serve_until_five_minutes_before_they_expire() {
    let expiring = Expiring::new();
    let id = |seconds| expiring.at(seconds).expect("the agent answers");
    assert_eq!(id(0), "AKID1");
    assert_eq!(id(3_299), "AKID1");
    assert_eq!(expiring.server.asked().len(), 1);
    assert_eq!(id(3_300), "AKID2");
    assert_eq!(id(3_301), "AKID2");
    assert_eq!(expiring.server.asked().len(), 2);
}

#[test]
fn old_credentials_serve_while_they_are_good_if_no_new_ones_are_had() {
    let expiring = Expiring::new();
    expiring.at(0).expect("the agent answers");
    expiring.is_down.store(true, Ordering::SeqCst);
    assert_eq!(expiring.at(3_599).expect("they are good for a second"), "AKID1");
    let error = expiring.at(3_600).expect_err("they have expired");
    assert!(error.message().contains("status 500") && !error.message().contains("hunter2"));
    expiring.is_down.store(false, Ordering::SeqCst);
    assert_eq!(expiring.at(3_601).expect("the agent is back"), "AKID2");
}

#[test]
fn one_login_fetches_while_the_others_wait_and_share_what_came() {
    const LOGINS: usize = 4;
    for status in [200, 500] {
        let (go, gate) = mpsc::channel::<()>();
        let server = Server::new(move |_| {
            gate.recv().expect("the test lets it go");
            (status, answer("AKID", NOW + 3_600))
        });
        let mut around = around(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &server.url())]);
        let (looks, looked) = mpsc::channel();
        around.clock = Box::new(move || {
            let _ = looks.send(());
            SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
        });
        let chain = chain(around);
        thread::scope(|scope| {
            let logins = [(); LOGINS].map(|()| scope.spawn(|| chain.kept_or_fetched()));
            // Each looks at the clock as it arrives, and one again as it begins to fetch.
            for _ in 0..LOGINS + 1 {
                looked.recv().expect("logins arrive");
            }
            go.send(()).expect("the server waits");
            for login in logins {
                assert_eq!(login.join().expect("no panic").is_ok(), status == 200);
            }
        });
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn settings_that_cannot_work_are_found_at_once() {
    let key = || AwsCredentials::new("AKID", Secret::from("hunter2"));
    for (settings, words) in [
        (AwsMskIam::new().region("Ireland, I think"), "region"),
        (AwsMskIam::new().region(""), "region"),
        (AwsMskIam::new().profile(""), "name is empty"),
        (AwsMskIam::with_credentials(key()).profile("shop"), "give one"),
    ] {
        let error = with_surroundings(&settings, around(&[])).expect_err("it cannot work");
        let told = error.to_string();
        assert!(told.contains("AWS_MSK_IAM") && told.contains(words), "{told}");
        assert!(!told.contains("hunter2") && !format!("{settings:?}").contains("hunter2"));
    }
}

#[test]
fn the_region_of_the_environment_serves_brokers_with_other_names() {
    let settings = AwsMskIam::with_credentials(AwsCredentials::new("AKID", "hunter2"));
    for (variables, expected) in [
        ([("AWS_REGION", "eu-west-1"), ("AWS_DEFAULT_REGION", "us-east-1")], "eu-west-1"),
        ([("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "us-east-1")], "us-east-1"),
    ] {
        let mechanism = with_surroundings(&settings, around(&variables)).expect("it works");
        let first = first_message(&*mechanism, "kafka.example");
        assert!(first.contains(&format!("/{expected}/kafka-cluster/")), "{first}");
    }
}

#[test]
fn over_https_nothing_is_sent_in_the_open() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let url = format!("https://127.0.0.1:{port}/hunter2");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        let mut seen = vec![0; 64 * 1024];
        let count = stream.read(&mut seen).expect("something is sent");
        seen.truncate(count);
        seen
    });
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hunter2"),
    ];
    let error = chain(around(&variables)).kept_or_fetched().expect_err("it speaks no TLS");
    let words = error.message();
    assert!(words.contains(&format!("the container: 127.0.0.1:{port}: ")), "{words}");
    assert!(!words.contains("hunter2"), "{words}");
    let seen = server.join().expect("no panic");
    // A record of the handshake (RFC 8446 section 5.1).
    assert_eq!(seen[0], 22);
    assert!(!seen.windows(7).any(|bytes| bytes == b"hunter2"));
}
