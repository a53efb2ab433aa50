//! The properties of a SOCKS5 proxy.

use super::address::{HostPort, parse_address};
use super::property_table::Property;
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
    pub(super) fn finish(self) -> Result<Option<Socks5>, BuildError> {
        let conflict = |text: &str| Err(BuildError::Conflict(text.to_owned()));
        match (self.address, self.username, self.password) {
            (None, None, None) => Ok(None),
            (None, ..) => conflict("tidegate.socks5.username and .password need tidegate.socks5"),
            (Some(address), None, None) => Ok(Some(Socks5::new(address))),
            (Some(address), Some(username), Some(password)) => {
                Ok(Some(Socks5::new(address).login(username, password)))
            }
            _ => conflict("tidegate.socks5.username and tidegate.socks5.password need each other"),
        }
    }
}

pub(super) const SOCKS5: &[Property] = &[
    ("tidegate.socks5", |draft, setting| {
        // Many write the login here, and it must not be shown.
        if setting.value.contains('@') || setting.value.contains("://") {
            let reason = "it is host:port, without a scheme; user and password go into \
                          tidegate.socks5.username and tidegate.socks5.password";
            let (name, value, reason) = (setting.name, "(hidden)".to_owned(), reason.to_owned());
            return Err(BuildError::InvalidSetting { name, value, reason });
        }
        let address = parse_address(setting.value, SecurityProtocol::Plaintext);
        let address = address.map_err(|error| setting.refuse(error.to_string()))?;
        draft.socks5.address = Some(address);
        Ok(())
    }),
    ("tidegate.socks5.username", |draft, setting| {
        draft.socks5.username = Some(setting.value.to_owned());
        Ok(())
    }),
    ("tidegate.socks5.password", |draft, setting| {
        draft.socks5.password = Some(setting.value.into());
        Ok(())
    }),
];
