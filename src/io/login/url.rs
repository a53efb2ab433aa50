//! The addresses of services that are asked over HTTP, and the encoding of parameters.

use std::fmt::Write as _;

/// A URL of `http` or `https` (RFC 9110 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    is_https: bool,
    /// A name or an address; an IPv6 address without its brackets.
    host: String,
    port: u16,
    /// Path and query, from the first slash on.
    target: String,
}

impl Url {
    /// Reads a URL. The error says what is wrong with it, and repeats nothing: a URL may hold a
    /// password.
    pub(super) fn parse(text: &str) -> Result<Url, &'static str> {
        if text.bytes().any(|byte| !(0x21..0x7f).contains(&byte)) {
            return Err("it has blanks or characters that a URL must encode");
        }
        let lower = text.to_ascii_lowercase();
        let (is_https, rest) = if lower.starts_with("https://") {
            (true, &text["https://".len()..])
        } else if lower.starts_with("http://") {
            (false, &text["http://".len()..])
        } else {
            return Err("it must begin with https:// or http://");
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let target = rest.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.into() } else { format!("/{target}") };
        if authority.contains('@') {
            return Err("it must not hold a user or a password");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) =
                    rest.split_once(']').ok_or("a bracket is missing in its host")?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("")),
            },
        };
        let port = match port.ok_or("something follows the bracket of its host")? {
            "" => Some(if is_https { 443 } else { 80 }),
            port => port.parse().ok().filter(|port| *port > 0),
        };
        let port = port.ok_or("its port is no number from 1 to 65535")?;
        if host.is_empty() {
            return Err("it has no host");
        }
        Ok(Url { is_https, host: host.to_owned(), port, target })
    }

    pub(super) fn is_https(&self) -> bool {
        self.is_https
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Host and port as the header `Host` has them: without the port where it is the usual one.
    pub(super) fn authority(&self) -> String {
        let Url { is_https, host, port, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match (is_https, port) {
            (true, 443) | (false, 80) => host,
            _ => format!("{host}:{port}"),
        }
    }
}

/// As forms are encoded; a blank as `%20`, which every service reads too.
pub(super) fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_host_a_port_and_a_target() {
        for (text, authority, port, target) in [
            ("https://id.example/oauth/token", "id.example", 443, "/oauth/token"),
            ("HTTPS://id.example", "id.example", 443, "/"),
            ("http://127.0.0.1:8080?a=b#c", "127.0.0.1:8080", 8_080, "/?a=b"),
            ("https://[::1]:8443/t", "[::1]:8443", 8_443, "/t"),
            ("http://[fe80::1]/", "[fe80::1]", 80, "/"),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!(
                (url.authority().as_str(), url.port(), url.target()),
                (authority, port, target)
            );
        }
        assert_eq!(Url::parse("https://[::1]:8443/t").map(|url| url.host), Ok("::1".into()));
    }

    #[test]
    fn what_is_no_url_is_refused_and_not_repeated() {
        for text in [
            "",
            "id.example/token",
            "ftp://id.example",
            "https://",
            "https://:443/",
            "https://alice:secret@id.example/",
            "https://id.example:0/",
            "https://id.example:99999/",
            "https://[::1/",
            "https://[::1]x/",
            "https://id.example/a b",
            "https://id.example/\r\nHost: x",
        ] {
            let error = Url::parse(text).expect_err(text);
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
