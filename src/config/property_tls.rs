//! The properties of TLS: Kafka's names, and librdkafka's where it has its own.

use super::address::split_list;
use super::login::Login;
use super::property_parse::Setting;
use super::property_sasl::SaslDraft;
use super::property_table::{Draft, Property};
use super::security::SecurityProtocol;
use super::tls::{StoreType, TlsConfig, TlsVersion};
use crate::error::BuildError;
use crate::logging as log;

/// Versions that Java and OpenSSL know and the TLS library has not.
const OLD_VERSIONS: &[&str] =
    &["TLSv1", "TLSv1.0", "TLSv1.1", "SSL", "SSLv2", "SSLv2Hello", "SSLv3"];

/// What was said about security, put together at the end: the order of properties does not matter.
#[derive(Default)]
pub(super) struct SecurityDraft {
    protocol: Option<SecurityProtocol>,
    tls: TlsConfig,
    /// The first property that was given and needs TLS.
    needs_tls: Option<&'static str>,
    pub(super) sasl: SaslDraft,
}

/// What `security.protocol` and the properties that go with it come to.
pub(super) struct Protection {
    pub protocol: Option<SecurityProtocol>,
    pub tls: Option<TlsConfig>,
    pub sasl: Option<Login>,
}

impl SecurityDraft {
    /// Puts together what was said.
    ///
    /// # Errors
    ///
    /// [`BuildError::Conflict`] if TLS or a login was set up and not turned on, which would send
    /// records in the clear, and for a login that cannot work.
    pub(super) fn finish(self) -> Result<Protection, BuildError> {
        let protocol = self.protocol;
        let tls = is_on(protocol, protocol.is_some_and(SecurityProtocol::has_tls), self.needs_tls)?;
        let named = self.sasl.named();
        let sasl = is_on(protocol, protocol.is_some_and(SecurityProtocol::has_sasl), named)?;
        let sasl = if sasl { self.sasl.finish()? } else { None };
        Ok(Protection { protocol, tls: tls.then_some(self.tls), sasl })
    }
}

/// Whether what property `named` belongs to is in effect: `has` says so of the protocol.
fn is_on(
    protocol: Option<SecurityProtocol>,
    has: bool,
    named: Option<&'static str>,
) -> Result<bool, BuildError> {
    match (protocol, named) {
        (None, Some(name)) => {
            let (what, meant) = match name.starts_with("sasl.") {
                true => ("nobody would log in", "SASL_SSL or SASL_PLAINTEXT"),
                false => ("records would leave unencrypted", "SSL or SASL_SSL"),
            };
            Err(BuildError::Conflict(format!(
                "{name} is given and security.protocol is not, so that {what}: set \
                 security.protocol to {meant}, or to PLAINTEXT if that is meant"
            )))
        }
        (Some(protocol), Some(name)) if !has => {
            log::warn!("{name} has no effect with security.protocol={protocol}");
            Ok(false)
        }
        _ => Ok(has),
    }
}

/// Applies one property of TLS. An empty value leaves what it sets as it is, as templates write it.
fn set(
    draft: &mut Draft,
    setting: Setting<'_>,
    change: impl FnOnce(TlsConfig) -> Result<TlsConfig, BuildError>,
) -> Result<(), BuildError> {
    let security = &mut draft.security;
    security.tls = change(std::mem::take(&mut security.tls))?;
    security.needs_tls.get_or_insert(setting.name);
    Ok(())
}

/// Makes a table entry that hands a text over, unless it is empty.
macro_rules! text {
    ($name:literal, $method:ident) => {
        ($name, |draft, setting| match setting.value {
            "" => Ok(()),
            text => set(draft, setting, |tls| Ok(tls.$method(text))),
        })
    };
}

/// Makes a table entry for what names Java classes: only the values that change nothing pass.
macro_rules! java {
    ($name:literal, $($default:literal),*) => {
        ($name, |_, setting| {
            let reason = "it names Java classes or providers, of which this client has none: leave \
                          it out";
            setting.only(&["", "null", $($default),*], reason)
        })
    };
}

pub(super) const TLS: &[Property] = &[
    ("security.protocol", |draft, setting| {
        let protocol = SecurityProtocol::from_name(setting.value);
        let reason = "it must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL";
        draft.security.protocol = Some(protocol.ok_or_else(|| setting.refuse(reason))?);
        Ok(())
    }),
    text!("ssl.truststore.location", truststore_file),
    text!("ssl.truststore.certificates", truststore_pem),
    text!("ssl.truststore.password", truststore_password),
    ("ssl.truststore.type", |draft, setting| match store_type(setting)? {
        None => Ok(()),
        Some(known) => set(draft, setting, |tls| Ok(tls.truststore_type(known))),
    }),
    text!("ssl.keystore.location", keystore_file),
    text!("ssl.keystore.key", key_pem),
    text!("ssl.keystore.certificate.chain", certificate_pem),
    text!("ssl.keystore.password", keystore_password),
    ("ssl.keystore.type", |draft, setting| match store_type(setting)? {
        None => Ok(()),
        Some(known) => set(draft, setting, |tls| Ok(tls.keystore_type(known))),
    }),
    text!("ssl.key.password", key_password),
    ("ssl.endpoint.identification.algorithm", |draft, setting| {
        // librdkafka writes "none".
        let verify = match setting.value.to_ascii_lowercase().as_str() {
            "https" => true,
            "" | "none" => false,
            _ => return Err(setting.refuse("it must be https, or empty to verify no host name")),
        };
        set(draft, setting, |tls| Ok(tls.verify_host_name(verify)))
    }),
    ("ssl.enabled.protocols", |draft, setting| {
        let versions = versions(setting)?;
        set(draft, setting, |tls| Ok(tls.protocols(&versions)))
    }),
    ("ssl.protocol", |draft, setting| {
        // Java's name for the whole of its TLS code; `ssl.enabled.protocols` says what is spoken.
        let reason = "TLS 1.2 and 1.3 can be had: leave it out, and name them in \
                      ssl.enabled.protocols";
        setting.only(&["", "TLS", "TLSv1.2", "TLSv1.3"], reason)?;
        set(draft, setting, Ok)
    }),
    ("ssl.cipher.suites", |draft, setting| {
        // Java separates by commas, OpenSSL by colons.
        let names: Vec<String> =
            setting.value.split(':').flat_map(split_list).map(str::to_owned).collect();
        if names.is_empty() {
            return Ok(());
        }
        set(draft, setting, |tls| Ok(tls.cipher_suites(names)))
    }),
    text!("ssl.ca.location", truststore_file),
    text!("ssl.ca.pem", truststore_pem),
    text!("ssl.certificate.location", certificate_file),
    text!("ssl.certificate.pem", certificate_pem),
    text!("ssl.key.location", key_file),
    text!("ssl.key.pem", key_pem),
    ("enable.ssl.certificate.verification", |draft, setting| {
        let verify = setting.boolean()?;
        set(draft, setting, |tls| Ok(tls.verify_certificates(verify)))
    }),
    java!("ssl.provider",),
    java!("ssl.keymanager.algorithm", "SunX509", "PKIX"),
    java!("ssl.trustmanager.algorithm", "PKIX", "SunX509"),
    java!("ssl.secure.random.implementation",),
    java!("ssl.engine.factory.class",),
];

/// Java reads PKCS#12 also where JKS is asked for, which is its default: there the content tells.
fn store_type(setting: Setting<'_>) -> Result<Option<StoreType>, BuildError> {
    match setting.value.to_ascii_uppercase().as_str() {
        "" | "JKS" => Ok(None),
        "PEM" => Ok(Some(StoreType::Pem)),
        "PKCS12" | "P12" => Ok(Some(StoreType::Pkcs12)),
        _ => Err(setting.refuse("it must be PEM, PKCS12 or JKS")),
    }
}

fn versions(setting: Setting<'_>) -> Result<Vec<TlsVersion>, BuildError> {
    let mut versions = Vec::new();
    let mut dropped = Vec::new();
    for name in split_list(setting.value) {
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        if is("TLSv1.2") {
            versions.push(TlsVersion::Tls12);
        } else if is("TLSv1.3") {
            versions.push(TlsVersion::Tls13);
        } else if OLD_VERSIONS.iter().any(|old| is(old)) {
            dropped.push(name);
        } else {
            let reason = format!("{name} is no version of TLS: name TLSv1.2, TLSv1.3 or both");
            return Err(setting.refuse(reason));
        }
    }
    if versions.is_empty() {
        return Err(setting.refuse(
            "older versions than TLS 1.2 are not in the TLS library, because they are broken: \
             name TLSv1.2, TLSv1.3 or both",
        ));
    }
    if !dropped.is_empty() {
        log::warn!(
            "ssl.enabled.protocols: {} are left out, older versions than TLS 1.2 are broken",
            dropped.join(", ")
        );
    }
    Ok(versions)
}
