//! The cipher suites there are, by the names that Java, IANA and OpenSSL give them.

use crate::error::BuildError;

/// Every suite of the TLS library: IANA's name, which is Java's too, and OpenSSL's. They all have
/// forward secrecy and authenticated encryption (RFC 8446 appendix B.4, RFC 5289, RFC 7905).
const SUITES: [(&str, &str); 9] = [
    ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    ("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
];

/// What a list of suites comes to.
#[derive(Debug, PartialEq, Eq)]
pub struct SuiteChoice {
    /// IANA's names of those that can be had, in the order given.
    pub usable: Vec<&'static str>,
    /// The others, each with the reason, as one text for a warning.
    pub dropped: Option<String>,
}

/// Chooses among the suites of the library.
///
/// # Errors
///
/// [`BuildError::InvalidSetting`] if none of `names` can be had, with the reason for each.
pub(super) fn choose(setting: &str, names: &[String]) -> Result<SuiteChoice, BuildError> {
    let mut usable = Vec::new();
    let mut dropped = Vec::new();
    for name in names {
        let known = SUITES.iter().find(|(iana, openssl)| {
            iana.eq_ignore_ascii_case(name) || openssl.eq_ignore_ascii_case(name)
        });
        match known {
            Some((iana, _)) if usable.contains(iana) => {}
            Some((iana, _)) => usable.push(*iana),
            None => dropped.push(format!("{name} ({})", reason(name))),
        }
    }
    let dropped = dropped.join(", ");
    if usable.is_empty() {
        let all: Vec<&str> = SUITES.iter().map(|(iana, _)| *iana).collect();
        let why = if dropped.is_empty() { "the list is empty" } else { &dropped };
        return Err(BuildError::InvalidSetting {
            name: setting.to_owned(),
            value: names.join(","),
            reason: format!("{why}; leave it out, or name some of {}", all.join(", ")),
        });
    }
    Ok(SuiteChoice { usable, dropped: Some(dropped).filter(|text| !text.is_empty()) })
}

/// Why a suite cannot be had.
fn reason(name: &str) -> &'static str {
    let name = name.to_ascii_uppercase().replace('-', "_");
    let has = |part: &str| name.contains(part);
    // OpenSSL's names leave the key exchange out where it is RSA.
    let is_rsa_exchange = name.starts_with("TLS_RSA_")
        || name.starts_with("SSL_RSA_")
        || name.starts_with("AES")
        || name.starts_with("DES");
    if has("RC4") || has("3DES") || has("DES_CBC") || has("NULL") || has("EXPORT") || has("ANON") {
        "it is broken"
    } else if is_rsa_exchange {
        "key exchange by RSA, which keeps no past traffic secret once the key is lost"
    } else if has("CBC") || (has("ECDHE") && has("AES") && !has("GCM") && !has("CCM")) {
        "CBC suites are not in the TLS library: their padding was attacked too often"
    } else if has("DHE_") && !has("ECDHE_") {
        "key exchange over finite fields is not in the TLS library: use ECDHE"
    } else {
        "it is not in the TLS library"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<SuiteChoice, BuildError> {
        choose("cipher_suites", &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn suites_are_known_by_ianas_and_openssls_names() {
        for (iana, openssl) in SUITES {
            let lower = iana.to_lowercase();
            let choice = chosen(&[openssl, iana, &lower]).expect("it is in the library");
            assert_eq!((choice.usable, choice.dropped), (vec![iana], None));
        }
    }

    #[test]
    fn what_the_library_has_not_is_refused_with_the_reason() {
        for (name, part) in [
            ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384", "CBC"),
            ("ECDHE-RSA-AES256-SHA384", "CBC"),
            ("TLS_RSA_WITH_AES_128_GCM_SHA256", "by RSA"),
            ("AES128-GCM-SHA256", "by RSA"),
            ("TLS_RSA_WITH_RC4_128_SHA", "broken"),
            ("TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", "finite fields"),
            ("TLS_ECDHE_ECDSA_WITH_AES_128_CCM", "not in the TLS library"),
            ("HIGH", "not in the TLS library"),
        ] {
            let error = chosen(&[name]).expect_err(name).to_string();
            assert!(error.contains("cipher_suites") && error.contains(name), "{error}");
            assert!(error.contains(part), "{error}");
            assert!(error.contains("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), "{error}");
        }
        assert!(chosen(&[]).expect_err("none").to_string().contains("the list is empty"));
    }

    #[test]
    fn of_a_list_with_a_usable_suite_the_others_are_dropped() {
        let names = ["TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_AES_128_GCM_SHA256"];
        let choice = chosen(&names).expect("one can be had");
        assert_eq!(choice.usable, ["TLS_AES_128_GCM_SHA256"]);
        let dropped = choice.dropped.expect("one is dropped");
        assert!(dropped.contains(names[0]) && dropped.contains("by RSA"), "{dropped}");
    }
}
