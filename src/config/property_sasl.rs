//! The properties of logins (SASL): Kafka's names, and librdkafka's where it has its own.

use super::login::Login;
use super::names::GivenNames;
use super::property::{NOT_GIVEN, Origin, Property};
use super::property_draft::Draft;
use super::property_oauth::{self, OAuthDraft};
use super::property_parse::Setting;
use crate::engine::policy::{JaasConfig, Plain, Scram, Secret};
use crate::error::BuildError;

/// What can be had by properties alone.
const MECHANISMS: &str = "PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512; OAUTHBEARER with \
                          sasl.oauthbearer.token.endpoint.url, and AWS_MSK_IAM; others with \
                          ProducerBuilder::sasl in code";

/// What was said about the login, put together at the end: the order of properties does not matter.
#[derive(Default)]
pub(super) struct SaslDraft {
    mechanism: Option<String>,
    jaas: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    pub(super) oauth: OAuthDraft,
    /// The first property that was given.
    named: Option<String>,
}

impl SaslDraft {
    /// The first property that was given, as the user named it.
    pub(super) fn named(&self) -> Option<&str> {
        self.named.as_deref()
    }

    /// Applies one property of the login. An empty value leaves what it sets as it is.
    pub(super) fn set(
        draft: &mut Draft,
        setting: Setting<'_>,
        change: impl FnOnce(&mut SaslDraft, &str),
    ) -> Result<(), BuildError> {
        if !setting.value.is_empty() {
            let sasl = &mut draft.security.sasl;
            // What is https's turns no login on.
            if setting.property.name.starts_with("sasl.") {
                sasl.named.get_or_insert_with(|| setting.name.to_owned());
            }
            change(sasl, setting.value);
        }
        Ok(())
    }

    /// The mechanism with its credentials; `None` for one that is set in code.
    ///
    /// # Errors
    ///
    /// [`BuildError::Conflict`], which says what is missing. It holds no value of a property.
    pub(super) fn finish(self, names: &GivenNames<'_>) -> Result<Option<Login>, BuildError> {
        self.oauth.check(self.mechanism.as_deref(), names)?;
        let (name, user, password) =
            (names.of("sasl.mechanism"), names.of("sasl.username"), names.of("sasl.password"));
        let Some(mechanism) = self.mechanism else {
            // A mechanism in code has its name with it. Kafka's default is GSSAPI.
            return match self.jaas.or(self.password) {
                None => Ok(None),
                Some(_) => Err(conflict(&format!("{name} is not given"), MECHANISMS)),
            };
        };
        let has_token = mechanism == "AWS_MSK_IAM" || mechanism == "OAUTHBEARER";
        if has_token && (self.username.is_some() || self.password.is_some()) {
            return Err(BuildError::Conflict(format!(
                "{name} = {mechanism} knows no {user} and no {password}: leave them out"
            )));
        }
        if mechanism == "AWS_MSK_IAM" {
            return property_oauth::aws_msk_iam(self.jaas.as_ref(), names).map(Some);
        }
        if mechanism == "OAUTHBEARER"
            && let Some(login) = self.oauth.finish(self.jaas.as_ref(), names)?
        {
            return Ok(Some(login));
        }
        let jaas_name = names.of("sasl.jaas.config");
        match (self.jaas, self.username, self.password) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Err(BuildError::Conflict(format!(
                "{jaas_name} and {user} or {password} are given: leave one of them out"
            ))),
            (Some(jaas), None, None) => {
                let text = std::str::from_utf8(jaas.expose()).unwrap_or_default();
                let mechanism = JaasConfig::parse(text).and_then(|jaas| jaas.mechanism(&mechanism));
                let told = |error| BuildError::Conflict(format!("{jaas_name}: {error}"));
                mechanism.map(|mechanism| Some(Login::Mechanism(mechanism))).map_err(told)
            }
            (None, username, password) => {
                by_name(&mechanism, username.unwrap_or_default(), password, names)
            }
        }
    }
}

fn by_name(
    mechanism: &str,
    username: String,
    password: Option<Secret>,
    names: &GivenNames<'_>,
) -> Result<Option<Login>, BuildError> {
    let known = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&mechanism);
    if mechanism == "OAUTHBEARER" {
        // Its tokens come from code.
        return Ok(None);
    }
    let name = names.of("sasl.mechanism");
    if !known {
        return Err(conflict(&format!("{name} = {mechanism} is not there"), MECHANISMS));
    }
    let Some(password) = password.filter(|_| !username.is_empty()) else {
        return Err(BuildError::Conflict(format!(
            "{name} = {mechanism} needs credentials: set {}, or {} and {}",
            names.of("sasl.jaas.config"),
            names.of("sasl.username"),
            names.of("sasl.password"),
        )));
    };
    Ok(Some(match mechanism {
        "SCRAM-SHA-256" => Scram::sha_256(username, password).into(),
        "SCRAM-SHA-512" => Scram::sha_512(username, password).into(),
        _ => Plain::new(username, password).into(),
    }))
}

fn conflict(what: &str, can_be_had: &str) -> BuildError {
    BuildError::Conflict(format!("{what}: what can be had is {can_be_had}"))
}

/// Makes a table entry for a part of the login.
macro_rules! part {
    ($name:literal, $origin:ident, $sets:literal, $field:ident, $words:literal) => {
        Property::text($name, Origin::$origin, $sets, $words, |draft, setting| {
            SaslDraft::set(draft, setting, |sasl, text| sasl.$field = Some(text.into()))
        })
    };
}

const KERBEROS: &str = "Kerberos (GSSAPI) is not there";
const REFRESH: &str = "a token is fetched again after 80 % of its lifetime, without options";

const fn kerberos(name: &'static str, origin: Origin) -> Property {
    Property::refused(name, origin, NOT_GIVEN, KERBEROS)
}

const fn refresh(name: &'static str) -> Property {
    Property::ignored(name, Origin::Kafka, NOT_GIVEN, REFRESH)
}

pub(super) const SASL: &[Property] = &[
    part!(
        "sasl.mechanism",
        Kafka,
        "sasl (mechanism)",
        mechanism,
        "`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`, `OAUTHBEARER` or `AWS_MSK_IAM`."
    ),
    part!(
        "sasl.mechanisms",
        Librdkafka,
        "sasl (mechanism)",
        mechanism,
        "As `sasl.mechanism`, of which there is one."
    ),
    part!(
        "sasl.jaas.config",
        Kafka,
        "sasl (JAAS)",
        jaas,
        "A login module with its options, as Java writes it; it holds the password."
    )
    .secret(),
    part!(
        "sasl.username",
        Librdkafka,
        "sasl (user)",
        username,
        "The user of `PLAIN` and `SCRAM`, where there is no `sasl.jaas.config`."
    ),
    part!(
        "sasl.password",
        Librdkafka,
        "sasl (password)",
        password,
        "The password of `sasl.username`."
    )
    .secret(),
    Property::refused(
        "sasl.login.class",
        Origin::Kafka,
        NOT_GIVEN,
        "it names Java classes: set a mechanism in code, with ProducerBuilder::sasl",
    ),
    refresh("sasl.login.refresh.buffer.seconds"),
    refresh("sasl.login.refresh.min.period.seconds"),
    refresh("sasl.login.refresh.window.factor"),
    refresh("sasl.login.refresh.window.jitter"),
    refresh("sasl.login.retry.backoff.max.ms"),
    refresh("sasl.login.retry.backoff.ms"),
    kerberos("sasl.kerberos.kinit.cmd", Origin::Kafka),
    kerberos("sasl.kerberos.min.time.before.relogin", Origin::Kafka),
    kerberos("sasl.kerberos.service.name", Origin::Kafka),
    kerberos("sasl.kerberos.ticket.renew.jitter", Origin::Kafka),
    kerberos("sasl.kerberos.ticket.renew.window.factor", Origin::Kafka),
    kerberos("sasl.kerberos.principal", Origin::Librdkafka),
    kerberos("sasl.kerberos.keytab", Origin::Librdkafka),
];
