//! The properties of TLS: Kafka's names, and librdkafka's where it has its own.

use super::address::split_list;
use super::login::Login;
use super::names::GivenNames;
use super::property::{Origin, Property, Show, Unit, shown_field};
use super::property_draft::Draft;
use super::property_parse::Setting;
use super::property_sasl::SaslDraft;
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
    tls: TlsConfig,
    /// The first property that was given and needs TLS, as the user named it.
    needs_tls: Option<String>,
    pub(super) sasl: SaslDraft,
}

/// What `security.protocol` and the properties that go with it come to.
pub(super) struct Protection {
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
    pub(super) fn finish(
        self,
        protocol: Option<SecurityProtocol>,
        names: &GivenNames<'_>,
    ) -> Result<Protection, BuildError> {
        let has_tls = protocol.is_some_and(SecurityProtocol::has_tls);
        let has_sasl = protocol.is_some_and(SecurityProtocol::has_sasl);
        let tls = self.needs_tls.as_deref().map(|name| (name, Part::Tls));
        let tls = is_on(protocol, has_tls, tls, names)?;
        let sasl = self.sasl.named().map(|name| (name, Part::Login));
        let sasl = is_on(protocol, has_sasl, sasl, names)?;
        let sasl = if sasl { self.sasl.finish(names)? } else { None };
        let tls = tls.then(|| self.tls.named(tls_names(names)));
        Ok(Protection { tls, sasl })
    }
}

/// What the user calls the settings of the methods of [`TlsConfig`].
fn tls_names(names: &GivenNames<'_>) -> Vec<(&'static str, String)> {
    let name = |property: &Property| {
        let method = property.reading()?.sets.strip_prefix("TlsConfig::")?;
        Some((method, names.of(property.name)))
    };
    TLS.iter().filter_map(name).collect()
}

/// What a property belongs to.
#[derive(Clone, Copy)]
enum Part {
    Tls,
    Login,
}

/// Whether what a property belongs to is in effect: `has` says so of the protocol.
fn is_on(
    protocol: Option<SecurityProtocol>,
    has: bool,
    named: Option<(&str, Part)>,
    names: &GivenNames<'_>,
) -> Result<bool, BuildError> {
    let switch = names.of("security.protocol");
    match (protocol, named) {
        (None, Some((name, part))) => {
            let (what, meant) = match part {
                Part::Login => ("nobody would log in", "SASL_SSL or SASL_PLAINTEXT"),
                Part::Tls => ("records would leave unencrypted", "SSL or SASL_SSL"),
            };
            Err(BuildError::Conflict(format!(
                "{name} is given and {switch} is not, so that {what}: set {switch} to {meant}, or \
                 to PLAINTEXT if that is meant"
            )))
        }
        (Some(protocol), Some((name, _))) if !has => {
            log::warn!("{name} has no effect with {switch}={protocol}");
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
    security.needs_tls.get_or_insert_with(|| setting.name.to_owned());
    Ok(())
}

/// Makes a table entry that hands a text over, unless it is empty.
macro_rules! text {
    ($name:literal, $origin:ident, $method:ident, $sets:literal, $words:literal) => {
        Property::read(
            $name,
            Origin::$origin,
            concat!("TlsConfig::", $sets),
            Unit::None,
            Show::Unset,
            $words,
            |draft, setting| match setting.value {
                "" => Ok(()),
                text => set(draft, setting, |tls| Ok(tls.$method(text))),
            },
        )
    };
}

/// Makes a table entry for what names Java classes: only the values that change nothing pass.
macro_rules! java {
    ($name:literal, $($default:literal),*) => {
        Property::refused($name, Origin::Kafka, &["", "null", $($default),*], JAVA)
    };
}

const JAVA: &str =
    "it names Java classes or providers, of which this client has none: leave it out";

/// Takes the protocol, in any case.
pub(super) fn security_protocol(draft: &mut Draft, setting: Setting<'_>) -> Result<(), BuildError> {
    let protocol = SecurityProtocol::from_name(setting.value);
    let reason = "it must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL";
    draft.config.security_protocol = Some(protocol.ok_or_else(|| setting.refuse(reason))?);
    Ok(())
}

pub(super) const TLS: &[Property] = &[
    Property::read(
        "security.protocol",
        Origin::Kafka,
        "security_protocol",
        Unit::None,
        shown_field!(security_protocol, None),
        "`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`; needed where TLS or a login is given.",
        security_protocol,
    ),
    text!(
        "ssl.truststore.location",
        Kafka,
        truststore_file,
        "truststore_file",
        "The file of the authorities to trust, in PEM or PKCS#12; not given: the system's."
    ),
    text!(
        "ssl.truststore.certificates",
        Kafka,
        truststore_pem,
        "truststore_pem",
        "The authorities to trust, as PEM text."
    )
    .secret(),
    text!(
        "ssl.truststore.password",
        Kafka,
        truststore_password,
        "truststore_password",
        "The password of a truststore in PKCS#12."
    )
    .secret(),
    Property::read(
        "ssl.truststore.type",
        Origin::Kafka,
        "TlsConfig::truststore_type",
        Unit::None,
        Show::Unset,
        "`PEM`, `PKCS12` or `JKS`, read where it is PKCS#12; not given: the content tells.",
        |draft, setting| match store_type(setting)? {
            None => Ok(()),
            Some(known) => set(draft, setting, |tls| Ok(tls.truststore_type(known))),
        },
    ),
    text!(
        "ssl.keystore.location",
        Kafka,
        keystore_file,
        "keystore_file",
        "The file of this client's private key and certificates, in PEM or PKCS#12."
    ),
    text!(
        "ssl.keystore.key",
        Kafka,
        key_pem,
        "keystore_pem (key)",
        "This client's private key, as PEM text."
    )
    .secret(),
    text!(
        "ssl.keystore.certificate.chain",
        Kafka,
        certificate_pem,
        "keystore_pem (certificate)",
        "This client's certificate and those up to the authority, as PEM text."
    )
    .secret(),
    text!(
        "ssl.keystore.password",
        Kafka,
        keystore_password,
        "keystore_password",
        "The password of the keystore."
    )
    .secret(),
    Property::read(
        "ssl.keystore.type",
        Origin::Kafka,
        "TlsConfig::keystore_type",
        Unit::None,
        Show::Unset,
        "As `ssl.truststore.type`, of the keystore.",
        |draft, setting| match store_type(setting)? {
            None => Ok(()),
            Some(known) => set(draft, setting, |tls| Ok(tls.keystore_type(known))),
        },
    ),
    text!(
        "ssl.key.password",
        Kafka,
        key_password,
        "key_password",
        "The password of the private key."
    )
    .secret(),
    Property::read(
        "ssl.endpoint.identification.algorithm",
        Origin::Kafka,
        "TlsConfig::verify_host_name",
        Unit::None,
        Show::Draft(|draft| match draft.security.tls.verifies_host_name() {
            true => "https".to_owned(),
            false => "none".to_owned(),
        }),
        "`https`; empty or `none`: the host name is not compared with the broker's certificate.",
        |draft, setting| {
            // librdkafka writes "none".
            let verify = match setting.value.to_ascii_lowercase().as_str() {
                "https" => true,
                "" | "none" => false,
                _ => {
                    return Err(setting.refuse("it must be https, or empty to verify no host name"));
                }
            };
            set(draft, setting, |tls| Ok(tls.verify_host_name(verify)))
        },
    ),
    Property::read(
        "ssl.enabled.protocols",
        Origin::Kafka,
        "TlsConfig::protocols",
        Unit::None,
        Show::Draft(|draft| {
            let versions = draft.security.tls.versions().iter();
            versions.map(|version| version.name()).collect::<Vec<_>>().join(",")
        }),
        "The versions of TLS that may be spoken.",
        |draft, setting| {
            let versions = versions(setting)?;
            set(draft, setting, |tls| Ok(tls.protocols(&versions)))
        },
    ),
    Property::read(
        "ssl.protocol",
        Origin::Kafka,
        "TlsConfig::new",
        Unit::None,
        Show::Unset,
        "`TLS`, `TLSv1.2` or `TLSv1.3`: `ssl.enabled.protocols` says what is spoken.",
        |draft, setting| {
            // Java's name for the whole of its TLS code; `ssl.enabled.protocols` says what is
            // spoken.
            let reason = "TLS 1.2 and 1.3 can be had: leave it out, and name them in \
                          ssl.enabled.protocols";
            setting.only(&["", "TLS", "TLSv1.2", "TLSv1.3"], reason)?;
            set(draft, setting, Ok)
        },
    ),
    Property::read(
        "ssl.cipher.suites",
        Origin::Kafka,
        "TlsConfig::cipher_suites",
        Unit::None,
        Show::Unset,
        "The cipher suites that may be spoken, by Java's or OpenSSL's names; not given: all.",
        |draft, setting| {
            // Java separates by commas, OpenSSL by colons.
            let names: Vec<String> =
                setting.value.split(':').flat_map(split_list).map(str::to_owned).collect();
            if names.is_empty() {
                return Ok(());
            }
            set(draft, setting, |tls| Ok(tls.cipher_suites(names)))
        },
    ),
    Property::read(
        "ssl.ca.location",
        Origin::Librdkafka,
        "TlsConfig::truststore_file",
        Unit::None,
        Show::Unset,
        "As `ssl.truststore.location`, a file; `probe`: the system's authorities, as by default.",
        |draft, setting| match setting.value {
            "" | "probe" => Ok(()),
            text => set(draft, setting, |tls| Ok(tls.truststore_file(text))),
        },
    ),
    text!(
        "ssl.ca.pem",
        Librdkafka,
        truststore_pem,
        "truststore_pem",
        "As `ssl.truststore.certificates`."
    )
    .secret(),
    text!(
        "ssl.certificate.location",
        Librdkafka,
        certificate_file,
        "keystore_pem_files (certificate)",
        "The file of this client's certificate and those up to the authority, in PEM."
    ),
    text!(
        "ssl.certificate.pem",
        Librdkafka,
        certificate_pem,
        "keystore_pem (certificate)",
        "As `ssl.keystore.certificate.chain`."
    )
    .secret(),
    text!(
        "ssl.key.location",
        Librdkafka,
        key_file,
        "keystore_pem_files (key)",
        "The file of this client's private key, in PEM."
    ),
    text!("ssl.key.pem", Librdkafka, key_pem, "keystore_pem (key)", "As `ssl.keystore.key`.")
        .secret(),
    Property::read(
        "enable.ssl.certificate.verification",
        Origin::Librdkafka,
        "TlsConfig::verify_certificates",
        Unit::None,
        Show::Draft(|draft| draft.security.tls.verifies_certificates().to_string()),
        "Whether a broker's certificate must come from a trusted authority.",
        |draft, setting| {
            let verify = setting.boolean()?;
            set(draft, setting, |tls| Ok(tls.verify_certificates(verify)))
        },
    ),
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
            "{}: {} are left out, older versions than TLS 1.2 are broken",
            setting.name,
            dropped.join(", ")
        );
    }
    Ok(versions)
}
