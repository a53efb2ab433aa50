//! Configurations from variables of the environment.

use std::ffi::OsString;

use super::names::{Given, Spelling};
use super::producer_config::ProducerConfig;
use super::properties;
use super::property::{Property, all_properties};
use super::property_parse::HIDDEN;
use crate::error::BuildError;

/// What this client's own variables begin with.
const PREFIX: &str = "TIDEGATE_";

/// What no setting is, behind [`PREFIX`]: variables of this crate's own tests and checks. One that
/// ends in an underscore stands for all that begin so.
const RESERVED: &[&str] = &[
    "CHAOS_",
    "FUZZ_",
    "TEST_",
    "KAFKA_RECORDS",
    "KAFKA_SLOT_HELD",
    "LOG",
    "NIGHTLY",
    "REQUIRE_KAFKA",
];

impl ProducerConfig {
    /// Reads the variables of the environment that begin with `TIDEGATE_`. Nothing else reads them:
    /// a producer that is set up in another way does not look at the environment.
    ///
    /// A variable is named as a property is, in capitals, with underscores for dots:
    /// `TIDEGATE_LINGER_MS` is `linger.ms`. This client's own properties do not repeat `tidegate.`:
    /// `TIDEGATE_BROKERS_MAX` is `tidegate.brokers.max`. Otherwise the rules are those of
    /// [`ProducerConfig::from_properties`], and errors name the variable.
    ///
    /// A variable that is empty counts as not set. A few are no settings, and are passed over:
    /// those that Kubernetes and Docker set beside a service of that name (`TIDEGATE_SERVICE_HOST`,
    /// `TIDEGATE_PORT_9092_TCP`), and those of this crate's own tests, which begin with
    /// `TIDEGATE_TEST_`, `TIDEGATE_CHAOS_` or `TIDEGATE_FUZZ_`, or are `TIDEGATE_LOG`,
    /// `TIDEGATE_NIGHTLY`, `TIDEGATE_REQUIRE_KAFKA`, `TIDEGATE_KAFKA_RECORDS` or
    /// `TIDEGATE_KAFKA_SLOT_HELD`.
    ///
    /// # Errors
    ///
    /// Those of [`ProducerConfig::from_properties`]; [`BuildError::UnknownProperty`] for a variable
    /// that begins so and is no setting, with the nearest one that is;
    /// [`BuildError::InvalidSetting`] for a value that is not UTF-8.
    pub fn from_env() -> Result<Self, BuildError> {
        from_variables(std::env::vars_os(), PREFIX, RESERVED)
    }

    /// Reads the variables of the environment that begin with `prefix`, as
    /// [`ProducerConfig::from_env`] reads its own: with `SHOP_KAFKA_`, `SHOP_KAFKA_LINGER_MS` is
    /// `linger.ms`. Every one that begins so must be a setting, or be of a service as above.
    ///
    /// # Errors
    ///
    /// Those of [`ProducerConfig::from_env`].
    pub fn from_env_prefixed(prefix: &str) -> Result<Self, BuildError> {
        from_variables(std::env::vars_os(), prefix, &[])
    }
}

fn from_variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    prefix: &str,
    reserved: &[&str],
) -> Result<ProducerConfig, BuildError> {
    let mut texts: Vec<(String, &'static Property, String)> = Vec::new();
    for (name, value) in variables {
        // The name of a setting is plain ASCII.
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let Some(property) = setting(rest) else {
            if is_reserved(rest, reserved) || is_of_a_service(rest) {
                continue;
            }
            let spelling = Spelling::Variables(prefix.to_owned());
            let property = rest.to_ascii_lowercase().replace('_', ".");
            properties::warn_of_another(&spelling, name, &property)?;
            continue;
        };
        let Ok(value) = value.into_string() else {
            return Err(BuildError::InvalidSetting {
                name: name.to_owned(),
                value: HIDDEN.to_owned(),
                reason: "it must be UTF-8".to_owned(),
            });
        };
        // Templates leave a variable empty for what is not given. What an empty property means, as
        // that of the host names' verification does, must be said in words here.
        if !value.trim().is_empty() {
            texts.push((name.to_owned(), property, value));
        }
    }
    // The environment has no order that a user could see: errors are to come in the same one.
    texts.sort_by(|one, other| one.0.cmp(&other.0));
    let given =
        texts.iter().map(|(name, property, value)| Given { name, property, value: value.trim() });
    properties::read(given.collect(), Spelling::Variables(prefix.to_owned()))
}

/// The setting of this name without its prefix. Two properties that come to the same name set the
/// same field.
fn setting(rest: &str) -> Option<&'static Property> {
    all_properties().find(|property| property.variable() == rest)
}

fn is_reserved(rest: &str, reserved: &[&str]) -> bool {
    reserved.iter().any(|word| match word.ends_with('_') {
        true => rest.starts_with(word),
        false => rest == *word,
    })
}

/// Whether Kubernetes, or Docker for a link, sets such a variable in every container beside a
/// service of the prefix's name.
fn is_of_a_service(rest: &str) -> bool {
    let is_port = |rest: &str| {
        let number = rest.split('_').next().unwrap_or_default();
        number.chars().all(|c| c.is_ascii_digit()) && !number.is_empty()
    };
    matches!(rest, "SERVICE_HOST" | "PORT" | "NAME")
        || rest.starts_with("SERVICE_PORT")
        || rest.strip_prefix("PORT_").is_some_and(is_port)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<ProducerConfig, BuildError> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        from_variables(variables, PREFIX, RESERVED)
    }

    fn refused(variables: &[(&str, &str)]) -> String {
        let config = read(variables).and_then(|config| config.validate());
        config.expect_err("they cannot be used").to_string()
    }

    #[test]
    fn variables_are_properties_in_capitals() {
        let config = read(&[
            ("TIDEGATE_BOOTSTRAP_SERVERS", "a:1,b:2"),
            ("TIDEGATE_LINGER_MS", "5"),
            ("TIDEGATE_BROKERS_MAX", "7"),
            ("TIDEGATE_MESSAGE_TIMEOUT_MS", "60000"),
            ("HOME", "/"),
            ("LINGER_MS", "9"),
        ])
        .expect("the variables are good");
        assert_eq!(config.bootstrap_servers, ["a:1", "b:2"]);
        assert_eq!((config.linger, config.brokers_max), (Duration::from_millis(5), 7));
        assert_eq!(config.delivery_timeout, Duration::from_secs(60));
        assert_eq!(config.validate(), Ok(()));
        let shop = [("SHOP_LINGER_MS".into(), "3".into()), ("TIDEGATE_X".into(), "".into())];
        let shop = from_variables(shop, "SHOP_", &[]).expect("only its own are read");
        assert_eq!(shop.linger, Duration::from_millis(3));
    }

    #[test]
    fn errors_name_the_variable_and_the_nearest_one() {
        for (name, nearest) in [
            ("TIDEGATE_LINGER", "TIDEGATE_LINGER_MS"),
            ("TIDEGATE_BROKER_MAX", "TIDEGATE_BROKERS_MAX"),
            ("TIDEGATE_TIDEGATE_BROKERS_MAX", "TIDEGATE_BROKERS_MAX"),
        ] {
            let words = refused(&[(name, "5")]);
            assert!(words.contains(name) && words.contains(&format!("\"{nearest}\"")), "{words}");
        }
        let words = refused(&[("TIDEGATE_LINGER_MS", "soon")]);
        assert!(words.starts_with("TIDEGATE_LINGER_MS = soon"), "{words}");
        let words = refused(&[
            ("TIDEGATE_BOOTSTRAP_SERVERS", "a:1"),
            ("TIDEGATE_DELIVERY_TIMEOUT_MS", "10"),
        ]);
        for name in ["TIDEGATE_DELIVERY_TIMEOUT_MS", "TIDEGATE_LINGER_MS"] {
            assert!(words.contains(name), "{words}");
        }
        let words =
            refused(&[("TIDEGATE_LINGER_MS", "1"), ("TIDEGATE_QUEUE_BUFFERING_MAX_MS", "2")]);
        assert!(words.contains("TIDEGATE_LINGER_MS = 1"), "{words}");
        assert!(words.contains("TIDEGATE_QUEUE_BUFFERING_MAX_MS = 2"), "{words}");
        let words = refused(&[("TIDEGATE_SSL_CA_LOCATION", "/ca.pem")]);
        assert!(words.contains("TIDEGATE_SSL_CA_LOCATION is given"), "{words}");
        assert!(words.contains("set TIDEGATE_SECURITY_PROTOCOL to SSL"), "{words}");
    }

    #[test]
    fn what_a_cluster_or_a_template_sets_is_no_setting() {
        let config = read(&[
            ("TIDEGATE_SERVICE_HOST", "10.0.0.7"),
            ("TIDEGATE_SERVICE_PORT_KAFKA", "9092"),
            ("TIDEGATE_PORT", "tcp://10.0.0.7:9092"),
            ("TIDEGATE_PORT_9092_TCP_ADDR", "10.0.0.7"),
            ("TIDEGATE_GROUP_ID", "of the consumer beside"),
            ("TIDEGATE_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", ""),
            ("TIDEGATE_LINGER_MS", " "),
            ("TIDEGATE_BOOTSTRAP_SERVERS", "a:1"),
        ])
        .expect("all of that is passed over");
        assert_eq!(config.bootstrap_servers, ["a:1"]);
        assert_eq!(config.linger, ProducerConfig::default().linger);
    }

    #[test]
    fn two_properties_of_one_variable_set_the_same() {
        for property in all_properties() {
            let found = setting(&property.variable()).expect("it finds one");
            let sets = |property: &Property| property.reading().map(|it| it.sets);
            assert_eq!(sets(found), sets(property), "{}", property.name);
        }
    }

    #[test]
    fn variables_of_the_tests_are_no_settings_and_no_errors() {
        let config = read(&[("TIDEGATE_REQUIRE_KAFKA", "1"), ("TIDEGATE_TEST_BROKERS", "3")]);
        assert!(config.is_ok());
        // A setting goes first, and other prefixes have no such variables.
        assert!(read(&[("TIDEGATE_LOG_LEVEL", "7"), ("TIDEGATE_LOG", "debug")]).is_ok());
        for property in all_properties().filter(|property| property.name != "log_level") {
            assert!(!is_reserved(&property.variable(), RESERVED), "{}", property.name);
        }
        assert!(from_variables([("A_LOG".into(), "".into())], "A_", &[]).is_err());
    }

    /// What the tests, benches, examples and checks of this repository read is reserved.
    #[test]
    fn every_variable_of_this_repository_is_reserved() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = Vec::new();
        for folder in ["tests", "benches", "examples", ".ci"] {
            collect(&root.join(folder), &mut found);
        }
        assert!(found.contains(&"REQUIRE_KAFKA".to_owned()), "{found:?}");
        for rest in found {
            assert!(setting(&rest).is_some() || is_reserved(&rest, RESERVED), "{PREFIX}{rest}");
        }
    }

    fn collect(folder: &std::path::Path, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.expect("a listed entry is readable").path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                collect(&path, found);
            } else if path.extension().is_none_or(|extension| extension == "rs") {
                // Files without an extension may be recordings of bytes.
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let names = text.split(PREFIX).skip(1).map(|rest| {
                    let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_');
                    rest[..end.unwrap_or(rest.len())].to_owned()
                });
                found.extend(names.filter(|name| !name.is_empty()));
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn no_secret_of_a_variable_is_in_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let secret = b"hunter2\xff".to_vec();
        for name in ["TIDEGATE_SASL_PASSWORD", "TIDEGATE_LINGER_MS"] {
            let variables = [(name.into(), OsString::from_vec(secret.clone()))];
            let error = from_variables(variables, PREFIX, RESERVED).expect_err("it is no text");
            let words = format!("{error} {error:?}");
            assert!(words.contains(name) && !words.contains("hunter"), "{words}");
        }
        for name in [
            "TIDEGATE_SASL_PASSWORD",
            "TIDEGATE_SASL_PASWORD",
            "TIDEGATE_SSL_KEY_PASSWORD",
            "TIDEGATE_SSL_KEY",
            "TIDEGATE_SOCKS5_PASSWORD",
            "TIDEGATE_SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_PEM",
        ] {
            let error = read(&[(name, "hunter2")]).expect_err("it cannot be used alone");
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        }
        let words = refused(&[
            ("TIDEGATE_SSL_KEY_PEM", "hunter1"),
            ("TIDEGATE_SSL_KEYSTORE_KEY", "hunter2"),
        ]);
        assert!(words.contains("TIDEGATE_SSL_KEY_PEM") && !words.contains("hunter"), "{words}");
    }
}
