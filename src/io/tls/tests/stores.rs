//! Truststores and keystores in every format, from files that OpenSSL and keytool made.

use std::path::PathBuf;

use proptest::prelude::*;

use super::super::{TlsClient, material};
use super::certificates::Authority;
use crate::config::{ProducerConfig, StoreType, TlsConfig};
use crate::error::BuildError;

const PASSWORD: &str = "changeit";

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls")).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).expect("the fixture is there")
}

/// A configuration without a file outside this repository.
fn config() -> TlsConfig {
    TlsConfig::new().truststore_file(fixture("ca.pem"))
}

fn refused(config: &TlsConfig) -> String {
    let error = TlsClient::new(config).expect_err("it cannot be used");
    let debug = format!("{error:?}");
    let text = error.to_string();
    for words in [&debug, &text] {
        assert!(!words.contains(PASSWORD) && !words.contains("hunter"), "{words}");
        assert!(!words.contains("MHcCAQ") && !words.contains("MIG"), "{words}");
    }
    text
}

#[test]
fn private_keys_are_read_in_every_form_of_pem() {
    for name in ["client-key.pem", "key-sec1.pem"] {
        let config = config().keystore_pem_files(fixture(name), fixture("client.pem"));
        assert!(TlsClient::new(&config).expect(name).has_certificate());
    }
    let config = config().keystore_pem(text("rsa-pkcs1.pem"), text("rsa.pem"));
    assert!(TlsClient::new(&config).expect("PKCS#1").has_certificate());
}

#[test]
fn encrypted_private_keys_are_read_with_their_password() {
    for name in ["key-aes256.pem", "key-aes128-sha1.pem", "key-aes192-sha512.pem"] {
        let apart = config().keystore_pem_files(fixture(name), fixture("client.pem"));
        assert!(refused(&apart).contains("set ssl.key.password"), "{name}");
        let wrong = refused(&apart.clone().key_password("hunter2"));
        assert!(wrong.contains("is not the password"), "{wrong}");
        let right = apart.key_password(PASSWORD);
        assert!(TlsClient::new(&right).expect(name).has_certificate());
    }
}

#[test]
fn keys_that_are_encrypted_otherwise_come_with_the_line_that_converts_them() {
    for name in ["key-des3.pem", "key-scrypt.pem", "key-old-encrypted.pem"] {
        let config = config().keystore_pem(text(name), text("client.pem"));
        let words = refused(&config.key_password(PASSWORD));
        assert!(words.contains("openssl pkcs8 -topk8 -v2 aes-256-cbc"), "{name}: {words}");
        assert!(words.contains("keystore_pem = (PEM text)"), "{words}");
    }
}

#[test]
fn one_file_may_hold_key_and_certificates_in_any_order() {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let path = folder.path().join("client.pem");
    let (key, chain) = (text("key-aes256.pem"), text("client.pem"));
    for content in [format!("{key}{chain}"), format!("{chain}# the key\r\n{key}")] {
        std::fs::write(&path, content).expect("the folder is writable");
        let file = config().keystore_file(&path);
        // As Java users write it, either of the two.
        for config in [file.clone().key_password(PASSWORD), file.keystore_password(PASSWORD)] {
            assert!(TlsClient::new(&config).expect("a good file").has_certificate());
        }
    }
}

#[test]
fn line_ends_of_a_text_may_be_written_as_two_characters() {
    let escape = |name: &str| text(name).replace('\n', "\\n");
    let config = TlsConfig::new()
        .truststore_pem(escape("ca.pem"))
        .keystore_pem(escape("client-key.pem"), escape("client.pem"));
    assert!(TlsClient::new(&config).expect("good texts").has_certificate());
}

#[test]
fn a_properties_file_may_hold_pem_in_lines_that_end_in_backslashes() {
    let property = |name: &str, file: &str| {
        let lines: Vec<String> = text(file).lines().map(str::to_owned).collect();
        format!("{name}={}\n", lines.join(" \\\n  "))
    };
    let properties = [
        "security.protocol=SSL\nssl.truststore.type=PEM\nssl.keystore.type=PEM\n".to_owned(),
        property("ssl.truststore.certificates", "ca.pem"),
        property("ssl.keystore.key", "key-aes256.pem"),
        property("ssl.keystore.certificate.chain", "client.pem"),
        "ssl.key.password=changeit\n".to_owned(),
    ];
    let read = ProducerConfig::from_properties_text(&properties.concat());
    let config = read.expect("as KIP-651 has it").tls.expect("TLS is asked for");
    assert!(TlsClient::new(&config).expect("good texts").has_certificate());
}

#[cfg(feature = "pkcs12")]
#[test]
fn keystores_of_openssl_and_keytool_are_read() {
    for name in ["keystore-openssl.p12", "keystore-openssl-legacy.p12", "keystore-keytool.p12"] {
        let file = config().keystore_file(fixture(name));
        for given in [
            file.clone().keystore_password(PASSWORD),
            file.clone().keystore_password(PASSWORD).key_password(PASSWORD),
            file.clone().key_password(PASSWORD).keystore_type(StoreType::Pkcs12),
        ] {
            assert!(TlsClient::new(&given).expect(name).has_certificate());
        }
        let identity = material::identity(&file.clone().keystore_password(PASSWORD));
        let chain = identity.expect(name).expect("there is one").chain;
        assert!(!chain.is_empty(), "{name}");
        let mine = super::super::names::names(&chain[0]).expect("a certificate");
        assert_eq!(mine.subject, "CN=fixture client", "{name}");
        for wrong in [file.clone(), file.clone().keystore_password("hunter2")] {
            let words = refused(&wrong);
            assert!(words.contains("password is missing or wrong"), "{words}");
            assert!(words.contains("keystore_file = ") && words.contains(name), "{words}");
        }
        let two = refused(&file.keystore_password(PASSWORD).key_password("hunter2"));
        assert!(two.contains("ssl.key.password must be ssl.keystore.password"), "{two}");
    }
}

#[cfg(feature = "pkcs12")]
#[test]
fn truststores_of_openssl_and_keytool_are_read() {
    for name in ["truststore-openssl.p12", "truststore-keytool.p12"] {
        let file = TlsConfig::new().truststore_file(fixture(name));
        let roots = material::roots(&file.clone().truststore_password(PASSWORD)).expect(name);
        assert_eq!(roots.len(), 1, "{name}");
        let words = refused(&file.truststore_password("hunter2"));
        assert!(words.contains("truststore_file = "), "{words}");
    }
    let keystore = TlsConfig::new().truststore_file(fixture("keystore-keytool.p12"));
    let words = refused(&keystore.truststore_password(PASSWORD));
    assert!(words.contains("it is a keystore"), "{words}");
    let truststore = config().keystore_file(fixture("truststore-keytool.p12"));
    let words = refused(&truststore.keystore_password(PASSWORD));
    assert!(words.contains("no private key"), "{words}");
}

#[test]
fn a_jks_store_comes_with_the_line_that_converts_it() {
    let path = fixture("truststore.jks");
    let words = refused(&TlsConfig::new().truststore_file(&path).truststore_password(PASSWORD));
    let path = path.display();
    let line = format!(
        "keytool -importkeystore -srckeystore {path} -destkeystore {path}.p12 -deststoretype PKCS12"
    );
    assert!(words.contains(&line), "{words}");
}

#[test]
fn what_is_in_a_file_and_should_not_be_is_said() {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let path = folder.path().join("store");
    let truststore = TlsConfig::new().truststore_file(&path);
    let missing = refused(&truststore);
    assert!(missing.contains("truststore_file = ") && missing.contains("store"), "{missing}");
    for (content, part) in [
        (String::new(), "it is empty"),
        ("hello".to_owned(), "neither PEM nor PKCS#12"),
        (text("client-key.pem"), "no certificate (BEGIN CERTIFICATE), but: PRIVATE KEY"),
        ("-----BEGIN CERTIFICATE-----\nMII".to_owned(), "damaged"),
        (text("ca.pem").replace("MIIB", "AAAA"), "its certificate 1 cannot be read"),
    ] {
        std::fs::write(&path, content).expect("the folder is writable");
        let words = refused(&truststore);
        assert!(words.contains(part), "{words}");
    }
    let chain = config().keystore_pem_files(fixture("ca.pem"), fixture("client.pem"));
    assert!(refused(&chain).contains("no private key"), "{chain:?}");
    let typed = truststore.truststore_file(fixture("ca.pem")).truststore_type(StoreType::Pkcs12);
    assert!(refused(&typed).contains("given as PKCS12, and it is PEM"));
    std::fs::write(&path, vec![b'x'; 17 << 20]).expect("the folder is writable");
    assert!(refused(&TlsConfig::new().truststore_file(&path)).contains("16777216 bytes"));
}

#[test]
fn a_key_that_belongs_to_another_certificate_is_refused() {
    let authority = Authority::new("Kafka CA");
    let (one, other) = (authority.issue("one", &[]), authority.issue("other", &[]));
    let words = refused(&config().keystore_pem(one.key_pem(), other.chain_pem()));
    assert!(words.contains("does not belong to the first certificate"), "{words}");
    assert!(words.contains("keystore_pem = "), "{words}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a file holds, it is an error of the configuration and no panic.
    #[test]
    fn a_damaged_store_is_no_panic(which in 0_usize..6, at in 0_usize..2_000, to in any::<u8>()) {
        let names = ["key-aes256.pem", "client.pem", "keystore-openssl.p12", "ca.pem",
            "truststore-keytool.p12", "truststore.jks"];
        let mut bytes = std::fs::read(fixture(names[which])).expect("the fixture is there");
        let at = at % bytes.len();
        bytes[at] = to;
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        for content in [&bytes[..], &bytes[..at]] {
            std::fs::write(file.path(), content).expect("it is writable");
            let trust = TlsConfig::new().truststore_file(file.path()).truststore_password(PASSWORD);
            let own = TlsConfig::new().keystore_file(file.path()).keystore_password(PASSWORD);
            for error in [material::roots(&trust).err(), material::identity(&own).err()] {
                let known = matches!(
                    error,
                    None | Some(BuildError::InvalidSetting { .. })
                );
                prop_assert!(known, "{error:?}");
            }
        }
    }
}
