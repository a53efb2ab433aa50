//! Files that change while a producer runs.

use std::fs;
use std::path::Path;

use super::super::TlsClient;
use super::certificates::Authority;
use super::pair::{Server, connect};
use crate::config::TlsConfig;

/// As a careful administrator replaces a file: the old one is there until the new one is.
fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).expect("the folder is writable");
    fs::rename(&beside, path).expect("it can be renamed");
}

#[test]
fn a_new_truststore_is_used_once_it_is_there() {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let path = folder.path().join("ca.pem");
    let (old, new) = (Authority::new("Old CA"), Authority::new("New CA"));
    replace(&path, &old.pem());
    let tls = TlsClient::new(&TlsConfig::new().truststore_file(&path)).expect("a good file");
    let broker = new.issue("broker", &["kafka"]);
    let server = Server::with(&broker).start();
    assert!(connect(&tls, "kafka", &server).is_err());
    assert!(!tls.has_changed() && !tls.refresh());
    replace(&path, &new.pem());
    assert!(tls.has_changed());
    assert!(connect(&tls, "kafka", &server).is_err(), "nothing was read yet");
    assert!(tls.refresh());
    assert!(!tls.has_changed());
    connect(&tls, "kafka", &server).expect("the new authority is trusted");
}

#[test]
fn a_new_client_certificate_is_presented_once_key_and_certificate_are_there() {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let (key, chain) = (folder.path().join("key.pem"), folder.path().join("chain.pem"));
    let authority = Authority::new("Kafka CA");
    let (old, new) = (authority.issue("old", &[]), authority.issue("new", &[]));
    replace(&key, &old.key_pem());
    replace(&chain, &old.chain_pem());
    let config = TlsConfig::new().truststore_pem(authority.pem());
    let tls = TlsClient::new(&config.keystore_pem_files(&key, &chain)).expect("good files");
    let broker = authority.issue("broker", &["kafka"]);
    let server = Server { clients: Some(&authority), ..Server::with(&broker) }.start();
    let presented = || {
        let pair = connect(&tls, "kafka", &server).expect("a known client");
        pair.server.peer_certificates().map(<[_]>::to_vec)
    };
    assert_eq!(presented(), Some(old.chain()));
    replace(&key, &new.key_pem());
    assert!(!tls.refresh(), "the new key does not belong to the old certificate");
    assert_eq!(presented(), Some(old.chain()));
    replace(&chain, &new.chain_pem());
    assert!(tls.refresh());
    assert_eq!(presented(), Some(new.chain()));
}

#[test]
fn a_broken_or_missing_new_file_leaves_the_old_one_in_use() {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let path = folder.path().join("ca.pem");
    let authority = Authority::new("Kafka CA");
    replace(&path, &authority.pem());
    let tls = TlsClient::new(&TlsConfig::new().truststore_file(&path)).expect("a good file");
    let broker = authority.issue("broker", &["kafka"]);
    let server = Server::with(&broker).start();
    replace(&path, "-----BEGIN CERTIFICATE-----\nMIIB");
    assert!(tls.has_changed() && !tls.refresh());
    assert!(!tls.has_changed(), "one change is tried, and warned of, once");
    connect(&tls, "kafka", &server).expect("what was read before is in use");
    fs::remove_file(&path).expect("it is there");
    assert!(tls.has_changed() && !tls.refresh() && !tls.refresh());
    connect(&tls, "kafka", &server).expect("what was read before is in use");
    replace(&path, &authority.pem());
    assert!(tls.refresh(), "it is back");
}

#[cfg(unix)]
#[test]
fn a_link_that_is_turned_is_a_change() {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let at = |name: &str| folder.path().join(name);
    let authority = Authority::new("Kafka CA");
    for name in ["one", "two"] {
        fs::write(at(name), authority.pem()).expect("the folder is writable");
    }
    std::os::unix::fs::symlink(at("one"), at("ca.pem")).expect("a link can be made");
    let config = TlsConfig::new().truststore_file(at("ca.pem"));
    let tls = TlsClient::new(&config).expect("a good file");
    assert!(!tls.has_changed());
    std::os::unix::fs::symlink(at("two"), at("next")).expect("a link can be made");
    fs::rename(at("next"), at("ca.pem")).expect("it can be renamed");
    assert!(tls.has_changed(), "another file of the same length");
}
