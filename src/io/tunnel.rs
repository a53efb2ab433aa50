//! Asking a SOCKS5 proxy for a connection to a broker (RFC 1928, RFC 1929).

use std::io::{self, IoSlice};
use std::net::IpAddr;

use mio::net::TcpStream;
use zeroize::Zeroize;

use super::transport::{receive, send};
use crate::config::Socks5;
use crate::engine::cluster::BrokerAddress;
use crate::problem::{Problem, ProblemKind};

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
const NO_LOGIN: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NOTHING_ACCEPTED: u8 = 0xff;
const CONNECT: u8 = 1;
const ADDRESS_V4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;

/// The longest host name that a request can carry, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// What the proxy's next answer is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Which logins this client can do.
    Greeting,
    Login,
    /// The connection that is wanted. Of its answer so many bytes are to come, as far as is known.
    Request {
        needs: usize,
    },
    Open,
}

/// The longest part of an answer: a name's length, the name and a port.
const ANSWER_BYTES_MAX: usize = 4 + 1 + 255 + 2;

/// What came of reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advanced {
    /// Nothing more can be done before an event.
    Blocked,
    /// It may go on at once.
    Moved,
    /// The connection to the broker is there.
    Open,
}

/// A connection to a proxy that is to become one to a broker.
pub(super) struct Tunnel {
    proxy: Socks5,
    target: BrokerAddress,
    stage: Stage,
    /// To be written.
    out: Vec<u8>,
    /// What has come of the next answer.
    answer: Vec<u8>,
}

impl Tunnel {
    /// Wants a connection to this broker.
    ///
    /// # Errors
    ///
    /// If the broker's name is too long for the protocol.
    pub(super) fn new(proxy: Socks5, target: BrokerAddress) -> Result<Self, Problem> {
        if target.host.len() > NAME_BYTES_MAX {
            let text = format_args!("its name is over {NAME_BYTES_MAX} bytes long");
            return Err(of_proxy(&proxy, ProblemKind::Dns, text));
        }
        let out = match proxy.credentials() {
            None => vec![VERSION, 1, NO_LOGIN],
            Some(_) => vec![VERSION, 2, NO_LOGIN, USER_AND_PASSWORD],
        };
        Ok(Tunnel { proxy, target, stage: Stage::Greeting, out, answer: Vec::new() })
    }

    /// Writes and reads what can be now. To be called again as long as that moves it.
    ///
    /// # Errors
    ///
    /// If the proxy is gone, or makes no connection.
    pub(super) fn advance(&mut self, stream: &mut TcpStream) -> Result<Advanced, Problem> {
        if !self.unwritten().is_empty() {
            let written = send(stream, &[IoSlice::new(self.unwritten())]);
            return match written.map_err(|error| self.lost(error))? {
                None => Ok(Advanced::Blocked),
                Some(bytes) => {
                    self.handle_written(bytes);
                    Ok(Advanced::Moved)
                }
            };
        }
        let mut answer = [0; ANSWER_BYTES_MAX];
        let into = &mut answer[..self.needs()];
        let read = receive(stream, into).map_err(|error| self.lost(error))?;
        let Some(bytes) = read else { return Ok(Advanced::Blocked) };
        let is_open = self.handle_read(&answer[..bytes])?;
        Ok(if is_open { Advanced::Open } else { Advanced::Moved })
    }

    fn lost(&self, error: io::Error) -> Problem {
        let problem = Problem::from(error);
        self.problem(problem.kind(), "it closed the connection, or it broke")
    }

    /// What is to be written next.
    fn unwritten(&self) -> &[u8] {
        &self.out
    }

    /// So many bytes of that were written.
    fn handle_written(&mut self, bytes: usize) {
        self.out[..bytes].zeroize();
        self.out.drain(..bytes);
    }

    /// How many bytes may be read: not one of those that come from the broker.
    fn needs(&self) -> usize {
        let needed = match self.stage {
            Stage::Greeting | Stage::Login => 2,
            Stage::Request { needs } => needs,
            Stage::Open => 0,
        };
        needed - self.answer.len()
    }

    /// What was read, at most as much as it [`needs`](Self::needs). Returns whether the connection
    /// to the broker is there.
    fn handle_read(&mut self, bytes: &[u8]) -> Result<bool, Problem> {
        self.answer.extend_from_slice(bytes);
        while self.needs() == 0 && self.stage != Stage::Open {
            self.handle_answer()?;
        }
        Ok(self.stage == Stage::Open)
    }

    /// The proxy, and what is wrong with it.
    fn problem(&self, kind: ProblemKind, words: impl std::fmt::Display) -> Problem {
        of_proxy(&self.proxy, kind, words)
    }

    fn handle_answer(&mut self) -> Result<(), Problem> {
        // Some proxies answer a login with the version of the protocol, not with that of the login.
        if self.stage != Stage::Login && self.answer[0] != VERSION {
            let text = "it does not speak SOCKS5";
            return Err(self.problem(ProblemKind::Proxy, text));
        }
        let code = self.answer[1];
        match self.stage {
            Stage::Greeting => {
                self.answer.clear();
                self.choose_login(code)
            }
            Stage::Login if code == 0 => {
                self.answer.clear();
                self.request();
                Ok(())
            }
            Stage::Login => {
                let text = "it refused the user's name or password";
                Err(self.problem(ProblemKind::Authentication, text))
            }
            Stage::Request { needs } => self.handle_reply(code, needs),
            Stage::Open => Ok(()),
        }
    }

    fn choose_login(&mut self, method: u8) -> Result<(), Problem> {
        let credentials = self.proxy.credentials();
        match (method, credentials) {
            (NO_LOGIN, _) => {
                self.request();
                Ok(())
            }
            (USER_AND_PASSWORD, Some((user, password))) => {
                let password = password.expose();
                // Both were checked when the producer was built.
                self.out.extend([LOGIN_VERSION, user.len() as u8]);
                self.out.extend(user.as_bytes());
                self.out.push(password.len() as u8);
                self.out.extend(password);
                self.stage = Stage::Login;
                Ok(())
            }
            (NOTHING_ACCEPTED, None) => {
                let text = "it wants a login: set tidegate.socks5.username and \
                            tidegate.socks5.password, in code with Socks5::login";
                Err(self.problem(ProblemKind::Authentication, text))
            }
            (NOTHING_ACCEPTED, Some(_)) => {
                let text = "it takes neither a user's name with password nor no login";
                Err(self.problem(ProblemKind::Authentication, text))
            }
            _ => {
                let text = "it chose a login that was not offered";
                Err(self.problem(ProblemKind::Proxy, text))
            }
        }
    }

    fn request(&mut self) {
        self.out.extend([VERSION, CONNECT, 0]);
        match self.target.host.parse() {
            Ok(IpAddr::V4(address)) => {
                self.out.push(ADDRESS_V4);
                self.out.extend(address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                self.out.push(ADDRESS_V6);
                self.out.extend(address.octets());
            }
            Err(_) => {
                self.out.extend([ADDRESS_NAME, self.target.host.len() as u8]);
                self.out.extend(self.target.host.as_bytes());
            }
        }
        self.out.extend(self.target.port.to_be_bytes());
        // Version, code, a reserved byte, and the kind of address that follows.
        self.stage = Stage::Request { needs: 4 };
    }

    fn handle_reply(&mut self, code: u8, needs: usize) -> Result<(), Problem> {
        if code != 0 {
            let (kind, text) = refusal(code);
            let target = &self.target;
            return Err(self.problem(kind, format_args!("no connection to {target}: {text}")));
        }
        // The address that the proxy connects from follows, and its port.
        let whole = match (self.answer[3], self.answer.get(4)) {
            (ADDRESS_V4, _) => 4 + 4 + 2,
            (ADDRESS_V6, _) => 4 + 16 + 2,
            (ADDRESS_NAME, None) => 5,
            (ADDRESS_NAME, Some(&len)) => 5 + usize::from(len) + 2,
            _ => {
                let text = "it answered with an address of no known kind";
                return Err(self.problem(ProblemKind::Proxy, text));
            }
        };
        self.stage = if needs < whole { Stage::Request { needs: whole } } else { Stage::Open };
        if self.stage == Stage::Open {
            self.answer.clear();
        }
        Ok(())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.out.zeroize();
    }
}

fn of_proxy(proxy: &Socks5, kind: ProblemKind, words: impl std::fmt::Display) -> Problem {
    Problem::new(kind, format_args!("SOCKS5 proxy {}: {words}", proxy.address()))
}

/// What RFC 1928 means by a reply.
fn refusal(code: u8) -> (ProblemKind, &'static str) {
    match code {
        2 => (ProblemKind::Proxy, "its rules do not allow it"),
        3 => (ProblemKind::Unreachable, "the network is unreachable from there"),
        4 => (ProblemKind::Unreachable, "the host is unreachable from there, or has no address"),
        5 => (ProblemKind::Refused, "refused"),
        6 => (ProblemKind::TimedOut, "it took too long"),
        8 => (ProblemKind::Proxy, "it takes no address of this kind"),
        _ => (ProblemKind::Proxy, "it could not be made"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostPort;

    fn proxy() -> Socks5 {
        Socks5::new(HostPort { host: "bastion".to_owned(), port: 1080 })
    }

    fn tunnel(proxy: Socks5, host: &str) -> Tunnel {
        let target = BrokerAddress { host: host.into(), port: 9092 };
        Tunnel::new(proxy, target).expect("a short name")
    }

    /// What the tunnel says next.
    fn says(tunnel: &mut Tunnel) -> Vec<u8> {
        let out = tunnel.unwritten().to_vec();
        tunnel.handle_written(out.len());
        out
    }

    /// Hands over an answer as it may arrive: byte by byte, and never more than is asked for.
    fn hears(tunnel: &mut Tunnel, answer: &[u8]) -> Result<bool, Problem> {
        let mut is_open = false;
        for byte in answer {
            assert!(!is_open && tunnel.needs() > 0, "this byte is the broker's");
            is_open = tunnel.handle_read(&[*byte])?;
        }
        Ok(is_open)
    }

    #[test]
    fn a_name_is_left_to_the_proxy_to_look_up() {
        let mut tunnel = tunnel(proxy(), "kafka");
        assert_eq!(says(&mut tunnel), [5, 1, 0]);
        assert_eq!(hears(&mut tunnel, &[5, 0]), Ok(false));
        assert_eq!(says(&mut tunnel), b"\x05\x01\x00\x03\x05kafka\x23\x84");
        assert_eq!(hears(&mut tunnel, &[5, 0, 0, 1, 10, 0, 0, 1, 4, 1]), Ok(true));
        assert_eq!(tunnel.needs(), 0, "what comes now is the broker's");
    }

    #[test]
    fn addresses_go_as_addresses_and_come_in_every_form() {
        for (host, request) in [
            ("10.1.2.3", &[1, 10, 1, 2, 3][..]),
            ("::1", &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ] {
            for bound in [&[1, 0, 0, 0, 0][..], &[4; 17], &[3, 2, b'a', b'b'], &[3, 0]] {
                let mut tunnel = tunnel(proxy(), host);
                says(&mut tunnel);
                assert_eq!(hears(&mut tunnel, &[5, 0]), Ok(false));
                assert_eq!(says(&mut tunnel), [&[5, 1, 0], request, &[0x23, 0x84]].concat());
                let reply = [&[5, 0, 0], bound, &[1, 1]].concat();
                assert_eq!(hears(&mut tunnel, &reply), Ok(true), "{host}, {bound:?}");
            }
        }
    }

    #[test]
    fn a_login_is_said_where_the_proxy_wants_it() {
        let mut tunnel = tunnel(proxy().login("me", "secret"), "kafka");
        assert_eq!(says(&mut tunnel), [5, 2, 0, 2]);
        assert_eq!(hears(&mut tunnel, &[5, 2]), Ok(false));
        assert_eq!(says(&mut tunnel), b"\x01\x02me\x06secret");
        assert_eq!(hears(&mut tunnel, &[1, 0]), Ok(false));
        assert_eq!(says(&mut tunnel)[..3], [5, 1, 0]);
    }

    #[test]
    fn each_refusal_says_what_to_change_and_no_password() {
        let kind_of = |login: bool, answers: &[&[u8]]| {
            let proxy = if login { proxy().login("me", "secret") } else { proxy() };
            let mut tunnel = tunnel(proxy, "kafka");
            let mut last = Ok(false);
            for answer in answers {
                says(&mut tunnel);
                last = hears(&mut tunnel, answer);
            }
            let problem = last.expect_err("it was refused");
            let words = problem.to_string();
            assert!(words.contains("SOCKS5 proxy bastion:1080") && !words.contains("secret"));
            (problem.kind(), words)
        };
        let (kind, words) = kind_of(false, &[&[5, 0xff]]);
        assert_eq!(kind, ProblemKind::Authentication);
        assert!(words.contains("tidegate.socks5.username"), "{words}");
        assert_eq!(kind_of(true, &[&[5, 2], &[1, 1]]).0, ProblemKind::Authentication);
        assert_eq!(kind_of(true, &[&[5, 0xff]]).0, ProblemKind::Authentication);
        assert_eq!(kind_of(false, &[&[5, 2]]).0, ProblemKind::Proxy, "it was not offered");
        assert_eq!(kind_of(false, &[b"HT"]).0, ProblemKind::Proxy);
        for (code, expected) in [
            (1, ProblemKind::Proxy),
            (2, ProblemKind::Proxy),
            (3, ProblemKind::Unreachable),
            (4, ProblemKind::Unreachable),
            (5, ProblemKind::Refused),
            (6, ProblemKind::TimedOut),
            (9, ProblemKind::Proxy),
        ] {
            let (kind, words) = kind_of(false, &[&[5, 0], &[5, code, 0, 1]]);
            assert_eq!(kind, expected, "{code}");
            assert!(words.contains("kafka:9092"), "{words}");
        }
        assert_eq!(kind_of(false, &[&[5, 0], &[5, 0, 0, 9]]).0, ProblemKind::Proxy);
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        let target = BrokerAddress { host: "k".repeat(256).as_str().into(), port: 1 };
        let problem = Tunnel::new(proxy(), target).err().expect("it is too long");
        assert_eq!(problem.kind(), ProblemKind::Dns);
    }
}
