//! What an error of TLS means, in words: who is at fault, and which setting to change.

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::names::printable;
use super::verifier::UnknownAuthority;
use crate::problem::{Problem, ProblemKind};

/// So many of the names in a certificate are told.
const NAMES_MAX: usize = 10;

/// What `error` means for a connection to `host`. `has_certificate`: this client has one to
/// present.
///
/// The words name the setting as Kafka does. They hold texts of the peer's, without control
/// characters and cut to a length, and nothing of this client's key or passwords.
pub fn explain(error: &Error, host: &str, has_certificate: bool) -> Problem {
    let words = match error {
        Error::InvalidCertificate(error) => certificate(error, host),
        Error::AlertReceived(alert) => self::alert(*alert, has_certificate),
        Error::InvalidMessage(message) => not_tls(message),
        Error::PeerIncompatible(reason) => incompatible(reason),
        Error::NoCertificatesPresented => {
            "the broker shows no certificate: it needs a keystore (ssl.keystore.location on the \
             broker)"
                .to_owned()
        }
        Error::DecryptError => {
            "what the broker sent cannot be decrypted: something between changes bytes, or the \
             broker's TLS is faulty"
                .to_owned()
        }
        Error::FailedToGetCurrentTime => {
            "this machine's clock cannot be read, which the verification of certificates needs"
                .to_owned()
        }
        Error::FailedToGetRandomBytes => {
            "the operating system gives no random bytes, which encryption needs".to_owned()
        }
        Error::PeerSentOversizedRecord => {
            format!("the peer sends longer records than TLS allows: {PLAINTEXT_PORT}")
        }
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_) => format!("the peer breaks the rules of TLS: {error}"),
        other => format!("no TLS connection came about: {other}"),
    };
    Problem::new(ProblemKind::Tls, words)
}

const PLAINTEXT_PORT: &str = "is this the port of another listener, one without TLS \
    (security.protocol=PLAINTEXT or SASL_PLAINTEXT)? bootstrap.servers must name the listener that \
    has TLS (SSL or SASL_SSL)";

fn certificate(error: &CertificateError, host: &str) -> String {
    match error {
        CertificateError::Other(other) => {
            if let Some(unknown) = other.0.downcast_ref::<UnknownAuthority>() {
                return unknown_authority(unknown);
            }
            let words = printable(&other.to_string());
            if words.contains("CaUsedAsEndEntity") {
                return "the broker shows the certificate of an authority (basicConstraints \
                        CA:TRUE) as its own: give the broker one with CA:FALSE, issued by that \
                        authority"
                    .to_owned();
            }
            if words.contains("UnsupportedCertVersion") {
                return "the broker's certificate is of X.509 version 1, which can name no host: \
                        issue one of version 3, with a subjectAltName (openssl x509 -req makes \
                        version 1 where -extfile is left out)"
                    .to_owned();
            }
            format!("the broker's certificate cannot be used: {words}")
        }
        CertificateError::UnknownIssuer => unknown_authority(&UnknownAuthority { names: None }),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the broker's certificate, or one that it rests on, has expired: it was valid until \
             {}, and this machine's clock says {}; renew it, or set the clock right",
            date(*not_after),
            date(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the broker's certificate, or one that it rests on, is not valid yet: it will be from \
             {}, and this machine's clock says {}; is the clock right?",
            date(*not_before),
            date(*time)
        ),
        CertificateError::NotValidForNameContext { presented, .. } => wrong_host(host, presented),
        CertificateError::NotValidForName => wrong_host(host, &[]),
        CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose => {
            "the broker's certificate is not for servers: it needs the extended key usage \
             serverAuth, or none"
                .to_owned()
        }
        CertificateError::Revoked => "the broker's certificate was revoked: renew it".to_owned(),
        CertificateError::BadEncoding => {
            "the broker's certificate, or one that it rests on, is damaged".to_owned()
        }
        CertificateError::BadSignature => {
            "the broker's certificate is not signed by the authority that it names: most likely \
             the authority was made anew under the same name, and ssl.truststore.location \
             (ssl.ca.location, TlsConfig::truststore_file) holds the old one; else the broker \
             does not own the certificate that it shows"
                .to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the broker's certificate, or one that it rests on, is signed in a way that is not \
             accepted: it needs RSA of at least 2048 bits or ECDSA, with SHA-256 or better"
                .to_owned()
        }
        other => format!("the broker's certificate cannot be used: {other}"),
    }
}

fn unknown_authority(unknown: &UnknownAuthority) -> String {
    let setting = "ssl.truststore.location (ssl.ca.location, TlsConfig::truststore_file) must \
                   name a file with that authority's certificate; without it this machine's own \
                   authorities are trusted";
    match &unknown.names {
        Some(names) if names.issuer == names.subject => format!(
            "the broker's certificate is signed by itself ({}) and is not trusted: {setting}",
            names.subject
        ),
        Some(names) => format!(
            "the broker's certificate ({}) was issued by {}, which is not a trusted authority: \
             {setting}; if it is in there, the broker leaves out a certificate in between",
            names.subject, names.issuer
        ),
        None => format!(
            "the broker's certificate was issued by an authority that is not trusted: {setting}"
        ),
    }
}

fn wrong_host(host: &str, presented: &[String]) -> String {
    let host = printable(host);
    let more = presented.len().saturating_sub(NAMES_MAX);
    let shown: Vec<String> =
        presented.iter().take(NAMES_MAX).map(|name| printable(bare_name(name))).collect();
    let names = match (shown.as_slice(), more) {
        ([], _) => "it has no subjectAltName, and its CN does not count (RFC 9525)".to_owned(),
        (shown, 0) => format!("it is for {}", shown.join(", ")),
        (shown, more) => format!("it is for {} and {more} more", shown.join(", ")),
    };
    format!(
        "the broker's certificate is not for \"{host}\": {names}; connect to the broker by one of \
         its names (bootstrap.servers, and advertised.listeners on the broker), issue a \
         certificate that has this one, or, where only brokers have certificates of this \
         authority, leave ssl.endpoint.identification.algorithm empty \
         (TlsConfig::verify_host_name)"
    )
}

/// What it means that a peer closed a connection before the handshake was complete, without an
/// alert. Brokers do so to a peer whose first bytes they cannot read.
pub fn explain_end(has_certificate: bool) -> Problem {
    let certificate = if has_certificate {
        ""
    } else {
        ", or one that asks for a client certificate, which this client has not \
         (ssl.keystore.location, TlsConfig::keystore_file)"
    };
    let words = format!(
        "the peer closed the connection in the middle of the TLS handshake, as a broker's \
         PLAINTEXT listener does{certificate}: {PLAINTEXT_PORT}"
    );
    Problem::new(ProblemKind::Closed, words)
}

/// The library writes `DnsName("a")`.
fn bare_name(name: &str) -> &str {
    name.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")")).unwrap_or_else(|| {
        name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name)
    })
}

fn alert(alert: AlertDescription, has_certificate: bool) -> String {
    let name = alert.as_str().map_or_else(|| u8::from(alert).to_string(), str::to_owned);
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => "the broker asks for a certificate of this client and got \
                                       none: set ssl.keystore.location \
                                       (TlsConfig::keystore_file; certificate_required)"
            .to_owned(),
        Alert::BadCertificate if !has_certificate => {
            "the broker refused the connection, most likely because it asks for a certificate of \
             this client, which has none: set ssl.keystore.location \
             (TlsConfig::keystore_file; the broker's alert: BadCertificate)"
                .to_owned()
        }
        Alert::HandshakeFailure => handshake_failure(has_certificate),
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::NoCertificate
        | Alert::DecryptError => refused_certificate(alert, &name, has_certificate),
        Alert::ProtocolVersion => {
            "the broker speaks none of the versions of TLS that this client offers: compare \
             ssl.enabled.protocols (TlsConfig::protocols) of both sides, of which one must be \
             TLSv1.2 or TLSv1.3 (the broker's alert: ProtocolVersion)"
                .to_owned()
        }
        Alert::InsufficientSecurity => {
            "the broker wants stronger cipher suites than this client offers: see \
             ssl.cipher.suites (TlsConfig::cipher_suites) of both sides (the broker's alert: \
             InsufficientSecurity)"
                .to_owned()
        }
        Alert::UnrecognisedName => {
            "the broker does not serve the host name that this client connects to: see \
             bootstrap.servers, and advertised.listeners on the broker (the broker's alert: \
             UnrecognisedName)"
                .to_owned()
        }
        _ => format!("the broker broke the TLS connection off; its alert: {name}"),
    }
}

/// Java's brokers answer so for many reasons.
fn handshake_failure(has_certificate: bool) -> String {
    let certificate = if has_certificate {
        "or the broker accepts no certificate of the kind that this client has"
    } else {
        "or the broker asks for a certificate of this client, which has none \
         (ssl.keystore.location, TlsConfig::keystore_file)"
    };
    format!(
        "the broker accepts nothing that this client offers: there is no cipher suite that both \
         have (ssl.cipher.suites of both sides), {certificate} (the broker's alert: \
         HandshakeFailure)"
    )
}

fn refused_certificate(alert: AlertDescription, name: &str, has_certificate: bool) -> String {
    if !has_certificate {
        return format!(
            "the broker refused the connection over a certificate, and this client presents none: \
             set ssl.keystore.location (TlsConfig::keystore_file) if the broker asks for one (the \
             broker's alert: {name})"
        );
    }
    let why = match alert {
        AlertDescription::UnknownCA => {
            "the authority that issued it is not in the broker's ssl.truststore.location"
        }
        AlertDescription::CertificateExpired => "it has expired, by the broker's clock: renew it",
        AlertDescription::CertificateRevoked => "it was revoked: renew it",
        AlertDescription::AccessDenied => "it is valid, and its owner may not connect",
        AlertDescription::UnsupportedCertificate => {
            "its kind of key, or its extended key usage (it needs clientAuth, or none), is not \
             accepted"
        }
        // What Java says where it finds no way from the certificate to its truststore.
        AlertDescription::CertificateUnknown => {
            "most likely the authority that issued it is not in the broker's \
             ssl.truststore.location; the broker's log says more"
        }
        _ => "the broker's log says more",
    };
    format!(
        "the broker refused this client's certificate (ssl.keystore.location): {why} (the \
         broker's alert: {name})"
    )
}

fn not_tls(message: &InvalidMessage) -> String {
    match message {
        InvalidMessage::InvalidContentType
        | InvalidMessage::UnknownProtocolVersion
        | InvalidMessage::MessageTooLarge
        | InvalidMessage::InvalidEmptyPayload => {
            format!("what the peer answers is not TLS: {PLAINTEXT_PORT}")
        }
        other => format!("what the peer sends is no valid TLS ({other:?})"),
    }
}

fn incompatible(reason: &PeerIncompatible) -> String {
    match reason {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls12NotOffered => {
            "the broker speaks a version of TLS that this client does not offer: compare \
             ssl.enabled.protocols (TlsConfig::protocols) of both sides, of which one must be \
             TLSv1.2 or TLSv1.3"
                .to_owned()
        }
        PeerIncompatible::NoCipherSuitesInCommon => {
            "there is no cipher suite that both sides have: compare ssl.cipher.suites \
             (TlsConfig::cipher_suites)"
                .to_owned()
        }
        other => format!("the broker's TLS and this client's have nothing in common: {other:?}"),
    }
}

/// A time as people write it, in UTC: `2026-02-28 09:30:00 UTC`.
fn date(time: UnixTime) -> String {
    let seconds = time.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of year 0, so that a leap day is a year's last one. The
    // calendar repeats every 400 years, which are 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}
