//! The properties of a SOCKS5 proxy.

use super::address::{HostPort, parse_address};
use super::names::GivenNames;
use super::property::{Origin, Property, Show, Unit};
use super::property_parse::HIDDEN;
use super::security::SecurityProtocol;
use super::socks5::Socks5;
use crate::engine::policy::Secret;
use crate::error::BuildError;

/// What was said about the proxy, put together at the end.
#[derive(Default)]
pub(super) struct Socks5Draft {
    address: Option<HostPort>,
    username: Option<String>,
    password: Option<Secret>,
}

impl Socks5Draft {
    /// The proxy, if there is one.
    ///
    /// # Errors
    ///
    /// [`BuildError::Conflict`] where a part is missing. It holds no value of a property.
    pub(super) fn finish(self, names: &GivenNames<'_>) -> Result<Option<Socks5>, BuildError> {
        let (proxy, user, password) = (
            names.of("tidegate.socks5"),
            names.of("tidegate.socks5.username"),
            names.of("tidegate.socks5.password"),
        );
        match (self.address, self.username, self.password) {
            (None, None, None) => Ok(None),
            (None, ..) => Err(BuildError::Conflict(format!("{user} and {password} need {proxy}"))),
            (Some(address), None, None) => Ok(Some(Socks5::new(address))),
            (Some(address), Some(username), Some(secret)) => {
                Ok(Some(Socks5::new(address).login(username, secret)))
            }
            _ => Err(BuildError::Conflict(format!("{user} and {password} need each other"))),
        }
    }
}

pub(super) const SOCKS5: &[Property] = &[
    Property::read(
        "tidegate.socks5",
        Origin::Tidegate,
        "socks5",
        Unit::None,
        Show::Unset,
        "A SOCKS5 proxy through which all brokers are reached, as `host:port`.",
        |draft, setting| {
            // Many write the login here, and it must not be shown.
            if setting.value.contains('@') || setting.value.contains("://") {
                let reason = "it is host:port, without a scheme; user and password go into \
                              tidegate.socks5.username and tidegate.socks5.password";
                let (name, value) = (setting.name.to_owned(), HIDDEN.to_owned());
                return Err(BuildError::InvalidSetting { name, value, reason: reason.to_owned() });
            }
            let address = parse_address(setting.value, SecurityProtocol::Plaintext);
            let address = address.map_err(|error| setting.refuse(error.to_string()))?;
            draft.socks5.address = Some(address);
            Ok(())
        },
    ),
    Property::read(
        "tidegate.socks5.username",
        Origin::Tidegate,
        "Socks5::login (user)",
        Unit::None,
        Show::Unset,
        "The user's name at the proxy, of 1 to 255 bytes.",
        |draft, setting| {
            draft.socks5.username = Some(setting.value.to_owned());
            Ok(())
        },
    ),
    Property::read(
        "tidegate.socks5.password",
        Origin::Tidegate,
        "Socks5::login (password)",
        Unit::None,
        Show::Unset,
        "The user's password at the proxy, of 1 to 255 bytes.",
        |draft, setting| {
            draft.socks5.password = Some(setting.value.into());
            Ok(())
        },
    )
    .secret(),
];
