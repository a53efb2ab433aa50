//! Errors that no server of rustls makes, in words.

use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use super::super::TlsClient;
use super::super::problems::{explain, explain_end};
use super::certificates::Authority;
use super::pair::feed;
use crate::config::TlsConfig;
use crate::problem::ProblemKind;

fn words(error: Error, has_certificate: bool) -> String {
    let problem = explain(&error, "kafka", has_certificate);
    assert_eq!(problem.kind(), ProblemKind::Tls);
    problem.to_string()
}

#[test]
fn what_is_no_tls_is_taken_for_another_listener() {
    let authority = Authority::new("Kafka CA");
    let tls = TlsClient::new(&TlsConfig::new().truststore_pem(authority.pem())).expect("good");
    // A broker's answer in plaintext, a web server's, and noise.
    for bytes in
        [&[0, 0, 0, 10, 0, 0, 0, 0, 0, 0][..], b"HTTP/1.1 400 Bad Request\r\n\r\n", &[7; 20]]
    {
        let mut client = tls.connect("kafka").expect("a name");
        let error = feed(&mut client, bytes).expect_err("that is not TLS");
        let text = tls.explain(&error, "kafka").to_string();
        assert!(text.contains("not TLS"), "{error:?}: {text}");
        assert!(text.contains("security.protocol=PLAINTEXT"), "{text}");
    }
}

#[test]
fn a_peer_that_hangs_up_in_the_handshake_may_be_another_listener() {
    let config = TlsConfig::new().verify_certificates(false);
    let problem = TlsClient::new(&config).expect("good").explain_end();
    assert_eq!(problem.kind(), ProblemKind::Closed);
    let text = problem.to_string();
    assert!(text.contains("security.protocol=PLAINTEXT"), "{text}");
    assert!(text.contains("ssl.keystore.location"), "{text}");
    assert!(!explain_end(true).to_string().contains("ssl.keystore"));
}

#[test]
fn alerts_about_a_certificate_say_whose() {
    use AlertDescription as Alert;
    for alert in [
        Alert::BadCertificate,
        Alert::UnsupportedCertificate,
        Alert::CertificateRevoked,
        Alert::CertificateExpired,
        Alert::CertificateUnknown,
        Alert::UnknownCA,
        Alert::AccessDenied,
    ] {
        let text = words(Error::AlertReceived(alert), true);
        assert!(text.contains("the broker refused this client's certificate"), "{text}");
        assert!(text.contains("ssl.keystore.location"), "{text}");
        let text = words(Error::AlertReceived(alert), false);
        assert!(text.contains("set ssl.keystore.location"), "{text}");
        assert!(!text.contains("refused this client's certificate"), "{text}");
    }
    for alert in [Alert::UnknownCA, Alert::CertificateUnknown] {
        let text = words(Error::AlertReceived(alert), true);
        assert!(text.contains("not in the broker's ssl.truststore.location"), "{text}");
    }
    let text = words(Error::AlertReceived(Alert::CertificateRequired), false);
    assert!(text.contains("got none: set ssl.keystore.location"), "{text}");
}

#[test]
fn other_alerts_name_their_settings() {
    use AlertDescription as Alert;
    for (alert, part) in [
        (Alert::ProtocolVersion, "ssl.enabled.protocols"),
        (Alert::HandshakeFailure, "ssl.cipher.suites"),
        (Alert::HandshakeFailure, "which has none (ssl.keystore.location,"),
        (Alert::InsufficientSecurity, "ssl.cipher.suites"),
        (Alert::UnrecognisedName, "advertised.listeners"),
        (Alert::InternalError, "InternalError"),
        (Alert::Unknown(200), "200"),
    ] {
        let text = words(Error::AlertReceived(alert), false);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_time_is_told_as_people_write_it() {
    for (seconds, expected) in [
        (0, "1970-01-01 00:00:00 UTC"),
        (951_782_399, "2000-02-28 23:59:59 UTC"),
        (951_782_400, "2000-02-29 00:00:00 UTC"),
        (1_709_251_199, "2024-02-29 23:59:59 UTC"),
        (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        (253_402_300_799, "9999-12-31 23:59:59 UTC"),
    ] {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let error = CertificateError::ExpiredContext { time: at(0), not_after: at(seconds) };
        let text = words(Error::InvalidCertificate(error), false);
        assert!(text.contains(&format!("valid until {expected},")), "{text}");
    }
}

#[test]
fn a_certificate_with_many_names_is_not_quoted_in_full() {
    let presented = (0..1_000).map(|n| format!("DnsName(\"host-{n}\")")).collect();
    let expected = "kafka".try_into().expect("a name");
    let error = CertificateError::NotValidForNameContext { expected, presented };
    let text = words(Error::InvalidCertificate(error), false);
    assert!(text.contains("host-0, host-1,") && text.contains("and 990 more"), "{text}");
    assert!(text.len() < 1_000, "{text}");
}
