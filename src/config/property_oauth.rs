//! The properties of OAUTHBEARER with an identity provider, and of AWS_MSK_IAM: Kafka's names, and
//! librdkafka's where it has its own.

use std::time::Duration;

use super::login::Login;
use super::names::GivenNames;
use super::property::{NOT_GIVEN, Origin, Property, Show, Unit};
use super::property_draft::Draft;
use super::property_parse::Setting;
use super::property_sasl::SaslDraft;
#[cfg(any(feature = "oidc", feature = "aws-msk-iam"))]
use crate::engine::policy::JaasConfig;
use crate::engine::policy::Secret;
use crate::error::BuildError;

/// The class that Java programs name for a login with IAM.
#[cfg(feature = "aws-msk-iam")]
const IAM_MODULE: &str = "IAMLoginModule";
#[cfg(feature = "oidc")]
const OAUTH_MODULE: &str = "OAuthBearerLoginModule";

/// What was said about tokens of an identity provider.
// Without the feature these are carried and refused, not read.
#[cfg_attr(not(feature = "oidc"), allow(dead_code))]
#[derive(Default)]
pub(super) struct OAuthDraft {
    endpoint: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scope: Option<String>,
    extensions: Vec<(String, String)>,
    url_encode: bool,
    /// Of the token endpoint, as Java has it: from the login module's options.
    #[cfg(feature = "oidc")]
    tls: super::tls::TlsConfig,
    ca_location: Option<String>,
    ca_pem: Option<String>,
    connect_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
    /// The first property that has no effect without a token endpoint.
    needs_endpoint: Option<String>,
}

impl OAuthDraft {
    /// Refuses what would have no effect: properties of tokens with another mechanism, and a client
    /// without a token endpoint.
    pub(super) fn check(
        &self,
        mechanism: Option<&str>,
        names: &GivenNames<'_>,
    ) -> Result<(), BuildError> {
        let endpoint = names.of("sasl.oauthbearer.token.endpoint.url");
        let named = self.endpoint.as_ref().map(|_| &endpoint).or(self.needs_endpoint.as_ref());
        let Some(named) = named else { return Ok(()) };
        if mechanism != Some("OAUTHBEARER") {
            return Err(BuildError::Conflict(format!(
                "{named} has no effect without {} = OAUTHBEARER: set that, or leave this out",
                names.of("sasl.mechanism"),
            )));
        }
        if self.endpoint.is_none() {
            return Err(BuildError::Conflict(format!("{named} needs {endpoint}: set that too")));
        }
        Ok(())
    }
}

#[cfg(not(feature = "oidc"))]
impl OAuthDraft {
    /// The login that it comes to; `None` if tokens come from code.
    pub(super) fn finish(
        self,
        _jaas: Option<&Secret>,
        _names: &GivenNames<'_>,
    ) -> Result<Option<Login>, BuildError> {
        match self.endpoint {
            None => Ok(None),
            Some(_) => Err(BuildError::FeatureNotBuilt {
                what: "sasl.oauthbearer.token.endpoint.url",
                feature: "oidc",
            }),
        }
    }
}

#[cfg(feature = "oidc")]
impl OAuthDraft {
    /// The login that it comes to; `None` if tokens come from code.
    pub(super) fn finish(
        mut self,
        jaas: Option<&Secret>,
        names: &GivenNames<'_>,
    ) -> Result<Option<Login>, BuildError> {
        let Some(endpoint) = self.endpoint.take() else { return Ok(None) };
        if let Some(jaas) = jaas {
            self.take_options(&module(jaas, OAUTH_MODULE, "OAUTHBEARER", names)?, names)?;
        }
        if let Some(path) = endpoint.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let file = super::login::TokenFile::new(path);
            let add = |file: super::login::TokenFile, (key, value)| file.extension(key, value);
            return Ok(Some(self.extensions.into_iter().fold(file, add).into()));
        }
        let (Some(id), Some(secret)) = (self.client_id, self.client_secret) else {
            return Err(BuildError::Conflict(format!(
                "{} needs a client: set {} and {}, or clientId and clientSecret in {}",
                names.of("sasl.oauthbearer.token.endpoint.url"),
                names.of("sasl.oauthbearer.client.credentials.client.id"),
                names.of("sasl.oauthbearer.client.credentials.client.secret"),
                names.of("sasl.jaas.config"),
            )));
        };
        let mut tls = self.tls;
        // librdkafka's word for what the system trusts.
        if let Some(path) = self.ca_location.filter(|path| path != "probe") {
            tls = tls.truststore_file(path);
        }
        if let Some(pem) = self.ca_pem {
            tls = tls.truststore_pem(pem);
        }
        let mut login = super::login::Oidc::new(endpoint, id, secret);
        login = login.url_encode(self.url_encode).tls(tls);
        if let Some(scope) = self.scope {
            login = login.scope(scope);
        }
        for (key, value) in self.extensions {
            login = login.extension(key, value);
        }
        if let Some(timeout) = self.connect_timeout {
            login = login.connect_timeout(timeout);
        }
        if let Some(timeout) = self.read_timeout {
            login = login.read_timeout(timeout);
        }
        Ok(Some(login.into()))
    }

    /// What a login module's options say. Properties go first.
    fn take_options(
        &mut self,
        jaas: &JaasConfig,
        names: &GivenNames<'_>,
    ) -> Result<(), BuildError> {
        let text = |value: &Secret| String::from_utf8_lossy(value.expose()).into_owned();
        let mut extensions = Vec::new();
        for (name, value) in jaas.options() {
            let tls = self.tls.clone();
            match name {
                "clientId" if self.client_id.is_none() => self.client_id = Some(text(value)),
                "clientSecret" if self.client_secret.is_none() => {
                    self.client_secret = Some(value.clone());
                }
                "scope" if self.scope.is_none() => self.scope = Some(text(value)),
                "clientId" | "clientSecret" | "scope" => {}
                "ssl.truststore.location" => self.tls = tls.truststore_file(text(value)),
                "ssl.truststore.certificates" => self.tls = tls.truststore_pem(text(value)),
                "ssl.truststore.password" => self.tls = tls.truststore_password(text(value)),
                // It shows in the file's content.
                "ssl.truststore.type" | "ssl.protocol" => {}
                name => match name.strip_prefix("extension_") {
                    Some(key) => extensions.push((key.to_owned(), text(value))),
                    None => {
                        return Err(BuildError::Conflict(format!(
                            "{}: the option {name} of OAuthBearerLoginModule has no effect here: \
                             leave it out",
                            names.of("sasl.jaas.config"),
                        )));
                    }
                },
            }
        }
        for (key, value) in extensions {
            // The last one counts, as in Java.
            self.extensions.retain(|(other, _)| *other != key);
            self.extensions.push((key, value));
        }
        Ok(())
    }
}

/// A login with AWS_MSK_IAM.
#[cfg(not(feature = "aws-msk-iam"))]
pub(super) fn aws_msk_iam(
    _jaas: Option<&Secret>,
    _names: &GivenNames<'_>,
) -> Result<Login, BuildError> {
    let what = "sasl.mechanism = AWS_MSK_IAM";
    Err(BuildError::FeatureNotBuilt { what, feature: "aws-msk-iam" })
}

/// A login with AWS_MSK_IAM.
#[cfg(feature = "aws-msk-iam")]
pub(super) fn aws_msk_iam(
    jaas: Option<&Secret>,
    names: &GivenNames<'_>,
) -> Result<Login, BuildError> {
    let mut login = super::login::AwsMskIam::new();
    let Some(jaas) = jaas else { return Ok(login.into()) };
    let jaas = module(jaas, IAM_MODULE, "AWS_MSK_IAM", names)?;
    for (name, value) in jaas.options() {
        match name {
            "awsProfileName" => {
                login = login.profile(String::from_utf8_lossy(value.expose()).into_owned());
            }
            // They only say more about what goes wrong.
            "awsDebugCreds" | "awsMaxRetries" | "awsMaxBackOffTimeMs" => {}
            _ => {
                return Err(BuildError::Conflict(format!(
                    "{}: of IAMLoginModule's options only awsProfileName has an effect: for a \
                     role, name a profile with credential_process, or set \
                     AwsMskIam::with_credentials in code",
                    names.of("sasl.jaas.config"),
                )));
            }
        }
    }
    Ok(login.into())
}

/// A login module's options, if it is of this class.
#[cfg(any(feature = "oidc", feature = "aws-msk-iam"))]
fn module(
    jaas: &Secret,
    class: &str,
    mechanism: &str,
    names: &GivenNames<'_>,
) -> Result<JaasConfig, BuildError> {
    let name = names.of("sasl.jaas.config");
    let conflict = |what: String| BuildError::Conflict(format!("{name}: {what}"));
    let text = std::str::from_utf8(jaas.expose()).unwrap_or_default();
    let jaas = JaasConfig::parse(text).map_err(|error| conflict(error.to_string()))?;
    if jaas.module().rsplit('.').next() != Some(class) {
        let switch = names.of("sasl.mechanism");
        return Err(conflict(format!("{switch} = {mechanism} needs the login module {class}")));
    }
    Ok(jaas)
}

/// Applies one property, which has no effect without a token endpoint. An empty value leaves what
/// it sets as it is.
fn set(
    draft: &mut Draft,
    setting: Setting<'_>,
    change: impl FnOnce(&mut OAuthDraft, &str),
) -> Result<(), BuildError> {
    SaslDraft::set(draft, setting, |sasl, value| {
        if setting.property.name.starts_with("sasl.oauthbearer.") {
            sasl.oauth.needs_endpoint.get_or_insert_with(|| setting.name.to_owned());
        }
        change(&mut sasl.oauth, value);
    })
}

/// A time that 0 switches off, as in Java.
fn limit(setting: Setting<'_>) -> Result<Duration, BuildError> {
    match setting.value {
        "" => Ok(Duration::ZERO),
        _ => Ok(Some(setting.milliseconds()?).filter(|it| !it.is_zero()).unwrap_or(Duration::MAX)),
    }
}

/// `key=value` pairs with commas between them.
fn extensions(setting: Setting<'_>) -> Result<Vec<(String, String)>, BuildError> {
    let pairs = setting.value.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        Some((key.trim().to_owned(), value.trim().to_owned()))
    };
    let pairs: Option<Vec<_>> = pairs.map(pair).collect();
    pairs.ok_or_else(|| setting.refuse("it must be key=value pairs with commas between them"))
}

/// Makes a table entry for a text.
macro_rules! text {
    ($name:literal, $origin:ident, $sets:literal, $field:ident, $words:literal) => {
        Property::text($name, Origin::$origin, $sets, $words, |draft, setting| {
            set(draft, setting, |oauth, text| oauth.$field = Some(text.into()))
        })
    };
}

const CLASSES: &str = "it names Java classes: set a mechanism in code, with ProducerBuilder::sasl";
const ASSERTION: &str = "only the client credentials grant is there: set an OAuthBearer with \
                         ProducerBuilder::sasl for tokens that are fetched another way";
const BROKERS: &str = "it is a broker's: a client checks no signatures";
const NOT_LOOKED_INTO: &str = "this client does not look into tokens: the broker does";
const UNSECURED: &str = "unsecured tokens are not made here: set an OAuthBearer with \
                         ProducerBuilder::sasl";

const fn kafka(name: &'static str, words: &'static str) -> Property {
    Property::refused(name, Origin::Kafka, NOT_GIVEN, words)
}

const fn librdkafka(
    name: &'static str,
    same: &'static [&'static str],
    words: &'static str,
) -> Property {
    Property::refused(name, Origin::Librdkafka, same, words)
}

/// What names classes of Java's that do what this client does as well.
const fn classes(name: &'static str, same: &'static [&'static str]) -> Property {
    Property::refused(name, Origin::Kafka, same, CLASSES)
}

pub(super) const OAUTH: &[Property] = &[
    text!(
        "sasl.oauthbearer.token.endpoint.url",
        Kafka,
        "Oidc (endpoint)",
        endpoint,
        "Where tokens are fetched: a URL of https, or of a file (KIP-768)."
    ),
    text!(
        "sasl.oauthbearer.client.credentials.client.id",
        Kafka,
        "Oidc (client id)",
        client_id,
        "The name of this client at the identity provider."
    ),
    text!(
        "sasl.oauthbearer.client.credentials.client.secret",
        Kafka,
        "Oidc (client secret)",
        client_secret,
        "The secret of this client at the identity provider."
    )
    .secret(),
    text!("sasl.oauthbearer.scope", Kafka, "Oidc::scope", scope, "What the token is asked for."),
    Property::read(
        "sasl.oauthbearer.header.urlencode",
        Origin::Kafka,
        "Oidc::url_encode",
        Unit::None,
        Show::Draft(|_| OAuthDraft::default().url_encode.to_string()),
        "Whether the client's name and secret are URL-encoded in the header.",
        |draft, setting| {
            let encode = !setting.value.is_empty() && setting.boolean()?;
            set(draft, setting, |oauth, _| oauth.url_encode = encode)
        },
    ),
    Property::read(
        "sasl.login.connect.timeout.ms",
        Origin::Kafka,
        "Oidc::connect_timeout",
        Unit::Milliseconds,
        Show::Unset,
        "How long the identity provider may take to accept a connection; `0` for no limit.",
        |draft, setting| {
            let timeout = limit(setting)?;
            set(draft, setting, |oauth, _| oauth.connect_timeout = Some(timeout))
        },
    ),
    Property::read(
        "sasl.login.read.timeout.ms",
        Origin::Kafka,
        "Oidc::read_timeout",
        Unit::Milliseconds,
        Show::Unset,
        "How long the identity provider may take to answer; `0` for no limit.",
        |draft, setting| {
            let timeout = limit(setting)?;
            set(draft, setting, |oauth, _| oauth.read_timeout = Some(timeout))
        },
    ),
    text!(
        "sasl.oauthbearer.client.id",
        Librdkafka,
        "Oidc (client id)",
        client_id,
        "As `sasl.oauthbearer.client.credentials.client.id`."
    ),
    text!(
        "sasl.oauthbearer.client.secret",
        Librdkafka,
        "Oidc (client secret)",
        client_secret,
        "As `sasl.oauthbearer.client.credentials.client.secret`."
    )
    .secret(),
    librdkafka("sasl.oauthbearer.method", &["", "default", "oidc"], "it must be default or oidc"),
    librdkafka(
        "sasl.oauthbearer.grant.type",
        &["", "client_credentials"],
        "only client_credentials is there: set an OAuthBearer in code for another",
    ),
    Property::read(
        "sasl.oauthbearer.extensions",
        Origin::Librdkafka,
        "Oidc::extension",
        Unit::None,
        Show::Unset,
        "What is told to the broker beside the token: `key=value` pairs with commas between.",
        |draft, setting| {
            let pairs = extensions(setting)?;
            set(draft, setting, |oauth, _| oauth.extensions = pairs)
        },
    ),
    text!(
        "https.ca.location",
        Librdkafka,
        "Oidc::tls (authorities, file)",
        ca_location,
        "The file of the authorities that the identity provider's certificate may come from."
    ),
    text!(
        "https.ca.pem",
        Librdkafka,
        "Oidc::tls (authorities)",
        ca_pem,
        "The authorities that the identity provider's certificate may come from, as PEM text."
    )
    .secret(),
    classes(
        "sasl.login.callback.handler.class",
        &[
            "",
            "null",
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
            "org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler",
        ],
    ),
    classes(
        "sasl.client.callback.handler.class",
        &["", "null", "software.amazon.msk.auth.iam.IAMClientCallbackHandler"],
    ),
    classes(
        "sasl.oauthbearer.jwt.retriever.class",
        &[
            "",
            "null",
            "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever",
            "org.apache.kafka.common.security.oauthbearer.ClientCredentialsJwtRetriever",
            "org.apache.kafka.common.security.oauthbearer.FileJwtRetriever",
        ],
    ),
    classes(
        "sasl.oauthbearer.jwt.validator.class",
        &[
            "",
            "null",
            "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator",
            "org.apache.kafka.common.security.oauthbearer.ClientJwtValidator",
        ],
    ),
    Property::ignored("sasl.oauthbearer.scope.claim.name", Origin::Kafka, &[], NOT_LOOKED_INTO),
    Property::ignored("sasl.oauthbearer.sub.claim.name", Origin::Kafka, &[], NOT_LOOKED_INTO),
    Property::ignored("sasl.oauthbearer.clock.skew.seconds", Origin::Kafka, &[], NOT_LOOKED_INTO),
    kafka("sasl.oauthbearer.jwks.endpoint.url", BROKERS),
    kafka("sasl.oauthbearer.jwks.endpoint.refresh.ms", BROKERS),
    kafka("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", BROKERS),
    kafka("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", BROKERS),
    kafka("sasl.oauthbearer.expected.audience", BROKERS),
    kafka("sasl.oauthbearer.expected.issuer", BROKERS),
    kafka("sasl.oauthbearer.assertion.algorithm", ASSERTION),
    kafka("sasl.oauthbearer.assertion.claim.aud", ASSERTION),
    kafka("sasl.oauthbearer.assertion.claim.exp.seconds", ASSERTION),
    kafka("sasl.oauthbearer.assertion.claim.iss", ASSERTION),
    kafka("sasl.oauthbearer.assertion.claim.jti.include", ASSERTION),
    kafka("sasl.oauthbearer.assertion.claim.nbf.seconds", ASSERTION),
    kafka("sasl.oauthbearer.assertion.claim.sub", ASSERTION),
    kafka("sasl.oauthbearer.assertion.file", ASSERTION),
    kafka("sasl.oauthbearer.assertion.private.key.file", ASSERTION),
    kafka("sasl.oauthbearer.assertion.private.key.passphrase", ASSERTION).secret(),
    kafka("sasl.oauthbearer.assertion.template.file", ASSERTION),
    librdkafka("sasl.oauthbearer.assertion.private.key.pem", NOT_GIVEN, ASSERTION).secret(),
    librdkafka("sasl.oauthbearer.assertion.jwt.template.file", NOT_GIVEN, ASSERTION),
    librdkafka("sasl.oauthbearer.metadata.authentication.type", &["", "none"], ASSERTION),
    librdkafka("sasl.oauthbearer.config", NOT_GIVEN, UNSECURED).secret(),
    librdkafka("enable.sasl.oauthbearer.unsecure.jwt", &["", "false"], UNSECURED),
    librdkafka(
        "oauthbearer_token_refresh_cb",
        &[],
        "set an OAuthBearer with ProducerBuilder::sasl: it is asked for each token",
    ),
];
