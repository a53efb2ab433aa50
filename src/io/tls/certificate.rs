//! What a broker's certificate says, for people who look for what is wrong with it.

use std::net::IpAddr;

use super::der::{Der, OBJECT_ID, OCTET_STRING, SEQUENCE};
use super::names::{names, printable};

/// Names of a certificate that are told; some have hundreds.
const NAMES_MAX: usize = 20;
/// The tags of times (RFC 5280 section 4.1.2.5) and of what this reads in a list of names.
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
/// The object id 2.5.29.17, that of the names that a certificate is for.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];

/// A certificate in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::io) struct CertificateWords {
    pub(in crate::io) subject: String,
    pub(in crate::io) issuer: String,
    /// The host names and addresses that it is for, twenty at the most.
    pub(in crate::io) names: Vec<String>,
    /// When it ends, in seconds since the Unix epoch.
    pub(in crate::io) expires: Option<u64>,
}

/// What a certificate in DER says; `None` if it cannot be read.
pub(in crate::io) fn certificate_words(certificate: &[u8]) -> Option<CertificateWords> {
    let whole = names(certificate)?;
    let mut body = Der::new(certificate).sequence()?.sequence()?;
    // The version, which the oldest certificates leave out.
    if body.peek()? == 0xa0 {
        body.next()?;
    }
    // The serial number, the signature's algorithm and the issuer.
    body.next()?;
    body.expect(SEQUENCE)?;
    body.expect(SEQUENCE)?;
    let mut validity = body.sequence()?;
    validity.next()?;
    let expires = validity.next().and_then(|(tag, text)| seconds(tag, text));
    let mut alternatives = Vec::new();
    while let Some((tag, content)) = body.next() {
        if tag == EXTENSIONS {
            alternatives = alternative_names(content).unwrap_or_default();
        }
    }
    let (subject, issuer) = (whole.subject, whole.issuer);
    Some(CertificateWords { subject, issuer, names: alternatives, expires })
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut extensions = Der::new(extensions).sequence()?;
    while !extensions.is_empty() {
        let mut extension = extensions.sequence()?;
        if extension.expect(OBJECT_ID)? != SUBJECT_ALT_NAME {
            continue;
        }
        // Whether it is critical may stand before it.
        let content = loop {
            let (tag, content) = extension.next()?;
            if tag == OCTET_STRING {
                break content;
            }
        };
        let mut list = Der::new(content).sequence()?;
        let mut found = Vec::new();
        while let Some((tag, name)) = list.next() {
            let text = match (tag, name.len()) {
                (DNS_NAME, _) => printable(&String::from_utf8_lossy(name)),
                (IP_ADDRESS, 4) => IpAddr::from(<[u8; 4]>::try_from(name).ok()?).to_string(),
                (IP_ADDRESS, 16) => IpAddr::from(<[u8; 16]>::try_from(name).ok()?).to_string(),
                _ => continue,
            };
            if found.len() < NAMES_MAX {
                found.push(text);
            }
        }
        return Some(found);
    }
    None
}

/// A time such as `491231235959Z` or `20491231235959Z`, in seconds since the Unix epoch.
fn seconds(tag: u8, text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u64>().ok();
    let (year, rest) = match (tag, digits.len()) {
        // Two digits stand for 1950 to 2049.
        (UTC_TIME, 12) => {
            let year = number(&digits[..2])?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4])?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| number(rest.get(at..at + 2)?);
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days before the year and the month, with the leap days of the Gregorian calendar.
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month as usize - 1];
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + before + day - 1;
    let days = days + u64::from(is_leap && month > 2);
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::certificates::Authority;
    use super::*;

    #[test]
    fn a_certificate_tells_its_names_and_its_end() {
        let issued = Authority::new("Kafka CA").issue("broker-1", &["broker-1", "127.0.0.1"]);
        let words = certificate_words(issued.certificate.der()).expect("it can be read");
        assert!(words.subject.contains("CN=broker-1"), "{words:?}");
        assert!(words.issuer.contains("CN=Kafka CA"), "{words:?}");
        assert_eq!(words.names, ["broker-1", "127.0.0.1"]);
        assert!(words.expires.is_some_and(|at| at > 1_700_000_000), "{words:?}");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (tag, text, expected) in [
            (UTC_TIME, &b"700101000000Z"[..], Some(0)),
            (UTC_TIME, b"000229000000Z", Some(951_782_400)),
            (GENERALIZED_TIME, b"20251231235959Z", Some(1_767_225_599)),
            (GENERALIZED_TIME, b"21000301000000Z", Some(4_107_542_400)),
            (UTC_TIME, b"500101000000Z", None),
            (UTC_TIME, b"251331235959Z", None),
            (GENERALIZED_TIME, b"2025", None),
        ] {
            assert_eq!(seconds(tag, text), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_is_no_panic(at in 0_usize..600, to in any::<u8>()) {
            let issued = Authority::new("Kafka CA").issue("broker-1", &["broker-1"]);
            let mut der = issued.certificate.der().to_vec();
            let at = at % der.len();
            der[at] = to;
            let _ = certificate_words(&der);
            let _ = certificate_words(&der[..at]);
        }
    }
}
