//! Certificates that are replaced while records flow.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate::TlsConfig;

use super::certificates::Authority;
use super::stage::{LOCAL_NAMES, MUTUAL, Stage, USER, text, write};
use crate::extent;
use crate::kafka::{Kafka, unique_topic};
use crate::streams::{Pace, Streams, patient};

const LIMIT: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 3;

/// What one client trusts and shows, in files.
struct Client {
    truststore: PathBuf,
    key_store: PathBuf,
    _folder: TempDir,
}

impl Client {
    fn new(authority: &Authority) -> Client {
        let folder = tempfile::tempdir().expect("a folder");
        let truststore = folder.path().join("ca.pem");
        let key_store = folder.path().join("client.pem");
        write(&truststore, &authority.pem());
        write(&key_store, &authority.client(USER).key_store_pem());
        Client { truststore, key_store, _folder: folder }
    }

    fn tls(&self) -> TlsConfig {
        TlsConfig::new().truststore_file(&self.truststore).keystore_file(&self.key_store)
    }
}

/// The authority is made anew, and with it both sides' certificates, as an operator does it: first
/// both authorities are trusted, then the certificates are replaced, then the old authority is
/// forgotten. The broker reads its files without a restart; in the end every connection is made
/// again, with what is new.
pub fn of_certificates_stops_nobody(kafka: &Kafka) {
    let stage = Stage::start(kafka);
    let [topic, probes] = ["renewal", "probes"].map(unique_topic);
    stage.cluster.create_topic(&topic, PARTITIONS, 1, &[]);
    stage.cluster.create_topic(&probes, 1, 1, &[]);
    let client = Client::new(&stage.authority);
    let builder = stage.plainly(MUTUAL).tls(client.tls());
    let producer = patient(builder).build().expect("the settings work");
    let streams = Streams::start(&producer, &topic, PARTITIONS, Pace::per_second(300));
    streams.all_go_on(200, LIMIT, "at the start");
    let mut old = stage.authority.pem();
    for _ in 0..extent::pick(1, 5) {
        let authority = Authority::new();
        let both = old + &authority.pem();
        write(&stage.truststore(), &both);
        alter(&stage, "ssl.truststore.location", &stage.truststore());
        write(&client.truststore, &both);
        write(&client.key_store, &authority.client(USER).key_store_pem());
        write(&stage.key_store(), &authority.broker(&LOCAL_NAMES).key_store_pem());
        let start = Instant::now();
        alter(&stage, "ssl.keystore.location", &stage.key_store());
        get_in(&stage, &probes, Client::new(&authority).tls());
        println!("renewal: a new connection uses it after {:.2?}", start.elapsed());
        streams.all_go_on(200, LIMIT, "while new connections use new certificates");
        old = authority.pem();
        write(&client.truststore, &old);
        write(&stage.truststore(), &old);
        streams.reset_gaps();
        let start = Instant::now();
        stage.cluster.terminate(1);
        stage.cluster.restart(1);
        let restarted = start.elapsed();
        streams.all_go_on(200, LIMIT, "after every connection was made again");
        let gap = streams.longest_gap();
        println!("renewal: a restart took {restarted:.2?}, the longest gap was {gap:.2?}");
    }
    let summary = streams.finish(&stage.cluster);
    println!("renewal: {summary:?}");
    assert_eq!((summary.failed(), summary.acked), (0, summary.offered));
}

/// Has the broker read a file that has changed.
fn alter(stage: &Stage, setting: &str, file: &std::path::Path) {
    let setting = format!("listener.name.mtls.{setting}");
    stage.cluster.alter_broker_config(1, &[(&setting, &text(file))]);
}

/// Waits until a client with these certificates, and no others, gets in.
fn get_in(stage: &Stage, topic: &str, tls: TlsConfig) {
    let producer = patient(stage.plainly(MUTUAL).tls(tls)).build().expect("the settings work");
    let topic = producer.topic(topic).expect("a legal name");
    let mut delivery = topic.send((), "v").expect("there is room");
    let outcome = delivery.wait_timeout(LIMIT).expect("the broker has old certificates");
    outcome.expect("acknowledged");
}
