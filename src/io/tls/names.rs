//! Who a certificate is for and from, in words.

use super::der::{Der, OBJECT_ID, SEQUENCE, SET};

/// A name is cut off here: what a stranger sends may be as long as the stranger likes.
const NAME_CHARS_MAX: usize = 200;

/// The parts of names that certificates of brokers have (RFC 5280 section 4.1.2.4), below the
/// object id 2.5.4.
const PARTS: [(u8, &str); 7] =
    [(3, "CN"), (4, "SN"), (6, "C"), (7, "L"), (8, "ST"), (10, "O"), (11, "OU")];

/// The names in a certificate, as `CN=ca, O=Example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) issuer: String,
    pub(super) subject: String,
}

/// The names in a certificate in DER; `None` if it cannot be read.
pub(super) fn names(certificate: &[u8]) -> Option<Names> {
    let mut body = Der::new(certificate).sequence()?.sequence()?;
    // The version, which the oldest certificates leave out.
    if body.peek()? == 0xa0 {
        body.next()?;
    }
    // The serial number.
    body.next()?;
    body.expect(SEQUENCE)?;
    let issuer = body.expect(SEQUENCE)?;
    body.expect(SEQUENCE)?;
    let subject = body.expect(SEQUENCE)?;
    Some(Names { issuer: in_words(issuer)?, subject: in_words(subject)? })
}

/// A name, with what cannot be printed left out.
fn in_words(name: &[u8]) -> Option<String> {
    let mut sets = Der::new(name);
    let mut parts = Vec::new();
    while !sets.is_empty() {
        let mut attributes = Der::new(sets.expect(SET)?);
        while !attributes.is_empty() {
            let mut attribute = attributes.sequence()?;
            let id = attribute.expect(OBJECT_ID)?;
            let (_, value) = attribute.next()?;
            let known = PARTS.iter().find(|(last, _)| id == [0x55, 0x04, *last]);
            if let Some((_, part)) = known {
                parts.push(format!("{part}={}", String::from_utf8_lossy(value)));
            }
        }
    }
    Some(printable(&parts.join(", ")))
}

/// A text of the peer's, fit for a message: no control characters, not too long.
pub(super) fn printable(text: &str) -> String {
    let mut words: String = text.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    if text.chars().count() > NAME_CHARS_MAX {
        words.push_str("...");
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::certificates::Authority;
    use super::*;

    #[test]
    fn a_certificate_says_who_it_is_for_and_from() {
        let authority = Authority::new("Kafka CA");
        let issued = authority.issue("broker-1", &["broker-1"]);
        let names = names(issued.certificate.der()).expect("it can be read");
        assert!(names.issuer.contains("CN=Kafka CA"), "{names:?}");
        assert!(names.subject.contains("CN=broker-1"), "{names:?}");
    }

    #[test]
    fn what_a_stranger_writes_cannot_disturb_a_log() {
        assert_eq!(printable("a\nb\x1b[31mc"), "ab[31mc");
        let long = printable(&"x".repeat(1_000));
        assert_eq!(long.len(), NAME_CHARS_MAX + 3);
        assert!(long.ends_with("..."));
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_is_no_panic(at in 0_usize..400, to in any::<u8>()) {
            let mut der = Authority::new("Kafka CA").certificate.der().to_vec();
            let at = at % der.len();
            der[at] = to;
            let _ = names(&der);
            let _ = names(&der[..at]);
        }
    }
}
