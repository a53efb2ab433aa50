//! The cryptography that TLS runs on: which it is, and whether this processor can run it.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, SupportedProtocolVersion};

use crate::config::{TlsConfig, TlsVersion};
use crate::error::BuildError;
use crate::logging as log;

/// The cryptography of this build, with the suites that the configuration leaves.
pub(super) fn provider(config: &TlsConfig) -> Result<Arc<CryptoProvider>, BuildError> {
    let mut provider = built_in()?;
    if let Some(choice) = config.suites()? {
        let all = std::mem::take(&mut provider.cipher_suites);
        // In the order of the user's, which is that of preference.
        for name in &choice.usable {
            provider.cipher_suites.extend(all.iter().find(|suite| iana(suite.suite()) == *name));
        }
        if let Some(dropped) = &choice.dropped {
            log::warn!("{}: some are left out: {dropped}", config.name("cipher_suites"));
        }
    }
    let versions = config.versions();
    let speaks = |suite: &rustls::SupportedCipherSuite| {
        versions.iter().any(|version| protocol(*version).version == suite.version().version)
    };
    if !provider.cipher_suites.iter().any(speaks) {
        return Err(BuildError::Conflict(format!(
            "none of {} belongs to a version in {}: TLS 1.3 has the suites TLS_AES_... and \
             TLS_CHACHA20_..., TLS 1.2 has TLS_ECDHE_...",
            config.name("cipher_suites"),
            config.name("protocols"),
        )));
    }
    Ok(Arc::new(provider))
}

/// The library's value for a version.
pub(super) fn protocol(version: TlsVersion) -> &'static SupportedProtocolVersion {
    match version {
        TlsVersion::Tls12 => &rustls::version::TLS12,
        TlsVersion::Tls13 => &rustls::version::TLS13,
    }
}

#[cfg(feature = "tls-ring")]
fn built_in() -> Result<CryptoProvider, BuildError> {
    Ok(rustls::crypto::ring::default_provider())
}

#[cfg(all(not(feature = "tls-ring"), any(target_arch = "x86_64", target_arch = "aarch64")))]
fn built_in() -> Result<CryptoProvider, BuildError> {
    if let Some(missing) = missing_instructions() {
        return Err(lacks(missing));
    }
    Ok(rustls_graviola::default_provider())
}

#[cfg(all(not(feature = "tls-ring"), not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn built_in() -> Result<CryptoProvider, BuildError> {
    Err(BuildError::FeatureNotBuilt { what: "TLS on this processor", feature: "tls-ring" })
}

/// The library panics at its first use where one is missing.
#[cfg(any(test, not(feature = "tls-ring")))]
fn lacks(instructions: &str) -> BuildError {
    BuildError::Conflict(format!(
        "TLS needs instructions that this processor has not ({instructions}): build with the \
         feature \"tls-ring\" of the tidegate crate, whose cryptography does without"
    ))
}

/// What graviola needs, by its `is_cpu_supported`, and what its code for AVX2 and BMI2 assumes.
#[cfg(all(not(feature = "tls-ring"), target_arch = "x86_64"))]
fn missing_instructions() -> Option<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    let needed = [
        ("AES", has!("aes")),
        ("PCLMULQDQ", has!("pclmulqdq")),
        ("SSSE3", has!("ssse3")),
        ("AVX", has!("avx")),
        ("AVX2", has!("avx2")),
        ("BMI1", has!("bmi1")),
        ("BMI2", has!("bmi2")),
        ("ADX", has!("adx")),
    ];
    needed.into_iter().find(|(_, there)| !there).map(|(name, _)| name)
}

#[cfg(all(not(feature = "tls-ring"), target_arch = "aarch64"))]
fn missing_instructions() -> Option<&'static str> {
    use std::arch::is_aarch64_feature_detected as has;
    let needed = [
        ("NEON", has!("neon")),
        ("AES", has!("aes")),
        ("PMULL", has!("pmull")),
        ("SHA-256", has!("sha2")),
    ];
    needed.into_iter().find(|(_, there)| !there).map(|(name, _)| name)
}

/// IANA's name of a suite; the library has names of its own for those of TLS 1.3.
fn iana(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_of_the_configuration_is_one_of_the_library() {
        let all = provider(&TlsConfig::new()).expect("this processor can").cipher_suites.clone();
        assert_eq!(all.len(), 9);
        for suite in all {
            let name = iana(suite.suite());
            let one = provider(&TlsConfig::new().cipher_suites([name])).expect(name);
            assert_eq!(one.cipher_suites, [suite], "{name}");
        }
    }

    #[test]
    fn suites_are_offered_in_the_users_order() {
        let names = ["ECDHE-RSA-AES128-GCM-SHA256", "RC4-SHA", "TLS_AES_128_GCM_SHA256"];
        let chosen = provider(&TlsConfig::new().cipher_suites(names)).expect("two can be had");
        let chosen: Vec<_> = chosen.cipher_suites.iter().map(|suite| iana(suite.suite())).collect();
        assert_eq!(chosen, ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"]);
    }

    #[test]
    fn suites_and_versions_that_exclude_each_other_are_refused() {
        let config = TlsConfig::new().protocols(&[TlsVersion::Tls12]);
        let config = config.cipher_suites(["TLS_AES_128_GCM_SHA256"]);
        let error = provider(&config).expect_err("a suite of TLS 1.3 only").to_string();
        assert!(error.contains("cipher_suites") && error.contains("protocols"), "{error}");
    }

    #[test]
    fn a_processor_without_the_instructions_is_told_of_the_other_feature() {
        let error = lacks("ADX").to_string();
        assert!(error.contains("(ADX)") && error.contains("\"tls-ring\""), "{error}");
    }
}
