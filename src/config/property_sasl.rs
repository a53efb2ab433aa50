//! The properties of logins (SASL): Kafka's names, and librdkafka's where it has its own.

use super::login::Login;
use super::property_oauth::{self, OAuthDraft};
use super::property_parse::Setting;
use super::property_table::{Draft, Property};
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
    named: Option<&'static str>,
}

impl SaslDraft {
    /// The first property that was given.
    pub(super) fn named(&self) -> Option<&'static str> {
        self.named
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
            if setting.name.starts_with("sasl.") {
                sasl.named.get_or_insert(setting.name);
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
    pub(super) fn finish(self) -> Result<Option<Login>, BuildError> {
        self.oauth.check(self.mechanism.as_deref())?;
        let Some(mechanism) = self.mechanism else {
            // A mechanism in code has its name with it. Kafka's default is GSSAPI.
            return match self.jaas.or(self.password) {
                None => Ok(None),
                Some(_) => Err(conflict("sasl.mechanism is not given", MECHANISMS)),
            };
        };
        let has_token = mechanism == "AWS_MSK_IAM" || mechanism == "OAUTHBEARER";
        if has_token && (self.username.is_some() || self.password.is_some()) {
            return Err(BuildError::Conflict(format!(
                "sasl.mechanism = {mechanism} knows no sasl.username and no sasl.password: leave \
                 them out"
            )));
        }
        if mechanism == "AWS_MSK_IAM" {
            return property_oauth::aws_msk_iam(self.jaas.as_ref()).map(Some);
        }
        if mechanism == "OAUTHBEARER"
            && let Some(login) = self.oauth.finish(self.jaas.as_ref())?
        {
            return Ok(Some(login));
        }
        match (self.jaas, self.username, self.password) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Err(BuildError::Conflict(
                "sasl.jaas.config and sasl.username or sasl.password are given: leave one of them \
                 out"
                .to_owned(),
            )),
            (Some(jaas), None, None) => {
                let text = std::str::from_utf8(jaas.expose()).unwrap_or_default();
                let mechanism = JaasConfig::parse(text).and_then(|jaas| jaas.mechanism(&mechanism));
                let told = |error| BuildError::Conflict(format!("sasl.jaas.config: {error}"));
                mechanism.map(|mechanism| Some(Login::Mechanism(mechanism))).map_err(told)
            }
            (None, username, password) => {
                by_name(&mechanism, username.unwrap_or_default(), password)
            }
        }
    }
}

fn by_name(
    mechanism: &str,
    username: String,
    password: Option<Secret>,
) -> Result<Option<Login>, BuildError> {
    let known = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&mechanism);
    if mechanism == "OAUTHBEARER" {
        // Its tokens come from code.
        return Ok(None);
    }
    if !known {
        return Err(conflict(&format!("sasl.mechanism = {mechanism} is not there"), MECHANISMS));
    }
    let Some(password) = password.filter(|_| !username.is_empty()) else {
        return Err(BuildError::Conflict(format!(
            "sasl.mechanism = {mechanism} needs credentials: set sasl.jaas.config, or \
             sasl.username and sasl.password"
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

pub(super) const SASL: &[Property] = &[
    ("sasl.mechanism", |draft, setting| {
        SaslDraft::set(draft, setting, |sasl, name| sasl.mechanism = Some(name.to_owned()))
    }),
    // librdkafka's older name.
    ("sasl.mechanisms", |draft, setting| {
        SaslDraft::set(draft, setting, |sasl, name| sasl.mechanism = Some(name.to_owned()))
    }),
    ("sasl.jaas.config", |draft, setting| {
        SaslDraft::set(draft, setting, |sasl, text| sasl.jaas = Some(text.into()))
    }),
    ("sasl.username", |draft, setting| {
        SaslDraft::set(draft, setting, |sasl, name| sasl.username = Some(name.to_owned()))
    }),
    ("sasl.password", |draft, setting| {
        SaslDraft::set(draft, setting, |sasl, password| sasl.password = Some(password.into()))
    }),
    ("sasl.login.class", |_, setting| {
        let reason = "it names Java classes: set a mechanism in code, with ProducerBuilder::sasl";
        setting.only(&["", "null"], reason)
    }),
];
