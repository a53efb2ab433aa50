//! Looks names up on a thread of its own, so that a slow name server stalls no loop.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::cluster::BrokerAddress;

/// What a look-up ended with: every address of the name, or why there is none.
pub(super) type Resolved = Result<Vec<SocketAddr>, String>;

struct Question {
    address: BrokerAddress,
    reply: Box<dyn FnOnce(Resolved) + Send>,
}

/// The resolver of one producer; its thread starts with the first name.
#[derive(Default)]
pub struct Resolver {
    questions: Mutex<Option<Sender<Question>>>,
}

impl Resolver {
    /// The address itself, if it is no name.
    pub(super) fn literal(address: &BrokerAddress) -> Option<SocketAddr> {
        let ip: IpAddr = address.host.parse().ok()?;
        Some(SocketAddr::new(ip, address.port))
    }

    /// Looks a name up; `reply` is called on the resolver's thread, at once if no thread can be
    /// had.
    pub(super) fn resolve(
        &self,
        address: BrokerAddress,
        reply: impl FnOnce(Resolved) + Send + 'static,
    ) {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        if questions.is_none() {
            let (sender, receiver) = channel::<Question>();
            let spawned =
                std::thread::Builder::new().name("tidegate-dns".into()).spawn(move || {
                    super::mark_own_thread();
                    for question in receiver {
                        (question.reply)(look_up(&question.address));
                    }
                });
            match spawned {
                Ok(_) => *questions = Some(sender),
                Err(error) => return reply(Err(format!("no thread for the resolver: {error}"))),
            }
        }
        if let Some(sender) = &*questions {
            // The thread ends only when this sender is dropped.
            let _ = sender.send(Question { address, reply: Box::new(reply) });
        }
    }
}

fn look_up(address: &BrokerAddress) -> Resolved {
    let host: &str = &address.host;
    let found: Vec<_> = (host, address.port)
        .to_socket_addrs()
        .map_err(|error| format!("{host} cannot be resolved: {error}"))?
        .collect();
    if found.is_empty() {
        return Err(format!("{host} has no address"));
    }
    Ok(found)
}
