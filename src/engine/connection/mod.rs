//! Layer 3: one connection to one broker, without the socket.
//!
//! Fed by `shard/` and by the metadata machine's driver: requests to send, bytes that were
//! received, how many bytes were written, the time. Feeds them with bytes to write and with decoded
//! responses.
//!
//! Calling order of a [`Connection`]: after [`Connection::new`] it has an ApiVersions request to
//! write, or is ready at once where it is configured what the broker is. Whenever it
//! [`wants_write`](Connection::wants_write), write its [`slices`](Connection::slices) and report
//! with [`handle_taken`](Connection::handle_taken) what the transport took, and with
//! [`handle_flushed`](Connection::handle_flushed) when it keeps none of it back any more: one that
//! encrypts (TLS) may, while others never do. Read into [`space`](Connection::space), report with
//! [`handle_filled`](Connection::handle_filled) and take responses with
//! [`poll_response`](Connection::poll_response) until there is none. Call
//! [`handle_timeout`](Connection::handle_timeout) at [`poll_timeout`](Connection::poll_timeout); at
//! [`poll_unsent`](Connection::poll_unsent), before that, a driver that can ask its kernel says how
//! much of what was written has not left yet, with [`handle_unsent`](Connection::handle_unsent). If
//! the socket is gone, tell it with [`handle_lost`](Connection::handle_lost), which finds the words
//! for it; after that, or after any error, take what is unsettled with
//! [`into_unsettled`](Connection::into_unsettled).
//!
//! Where a login is configured it follows ApiVersions: the driver computes what
//! [`poll_login`](Connection::poll_login) asks for, off the loop, and brings it back with
//! [`handle_login`](Connection::handle_login).
//!
//! Where the cluster's id is known ([`Connection::of_cluster`]), Metadata ends the handshake, and a
//! broker of another cluster is not spoken to.
//!
//! A broker answers the requests of a connection in their order, so what is in flight is a FIFO. A
//! [`Request`] owns its framing bytes and its batches, which are written from where they lie. Only
//! message sets, for brokers before Kafka 0.11, are made while they are written, in a window that
//! belongs to the connection (`set_writer`).

#[allow(clippy::module_inception)]
mod connection;
mod handshake;
mod login;
mod outgoing;
mod peers;
mod request;
mod response;
mod set_writer;
mod settings;
#[cfg(test)]
mod tests;
mod unconfirmed;

pub use connection::{Connection, Incoming};
pub use login::{HeldExchange, LoginAnswer, LoginTask};
pub use peers::{Peers, Steps};
pub use request::{InFlightBatch, Request, RequestKind};
pub use settings::ConnectionConfig;
#[cfg(feature = "internals")]
pub use unconfirmed::Unconfirmed;
