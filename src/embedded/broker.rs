//! The life of one broker: its port, its accepting thread, its connections.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Protocol, Socket, Type};

use super::connection;
use super::gate::Gate;
use super::state::Shared;
use super::stats::add;

const LISTENER: Token = Token(0);
const STOP: Token = Token(1);
const BACKLOG: i32 = 1024;
/// How long to leave a listener alone that has just failed.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);

/// A port that belongs to a broker but is not listened on: connecting to it is refused, and no
/// other socket of this machine gets its number.
#[derive(Debug)]
pub(super) struct ReservedPort(Socket);

impl ReservedPort {
    /// Takes the address; port 0 is any free one.
    pub(super) fn bind(address: SocketAddr) -> io::Result<ReservedPort> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        Ok(ReservedPort(socket))
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

/// A broker that listens.
#[derive(Debug)]
pub(super) struct Running {
    pub gate: Arc<Gate>,
    waker: Waker,
    connections: Arc<Connections>,
    acceptor: JoinHandle<()>,
}

/// The open connections by number, so that a stopping broker can end them.
#[derive(Debug, Default)]
struct Connections(Mutex<HashMap<u64, TcpStream>>);

impl Running {
    pub(super) fn start(shared: Arc<Shared>, id: i32, port: ReservedPort) -> io::Result<Running> {
        port.0.listen(BACKLOG)?;
        port.0.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(port.0.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), STOP)?;
        let gate = Arc::new(Gate::default());
        let connections = Arc::new(Connections::default());
        let mut acceptor = Acceptor {
            shared,
            id,
            gate: gate.clone(),
            connections: connections.clone(),
            listener,
            threads: Vec::new(),
            accepted: 0,
        };
        let acceptor = std::thread::Builder::new()
            .name(format!("embedded-{id}"))
            .spawn(move || acceptor.run(poll))?;
        Ok(Running { gate, waker, connections, acceptor })
    }

    /// Tells every thread to end and closes every connection; [`Running::join`] waits for it.
    pub(super) fn stop(&self) {
        self.gate.stop();
        // Where waking fails the next connection attempt wakes the thread.
        let _ = self.waker.wake();
        self.connections.shut_down();
    }

    pub(super) fn join(self) {
        // A panic was already reported by the thread that had it.
        let _ = self.acceptor.join();
    }
}

impl Connections {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shut_down(&self) {
        for stream in self.lock().values() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

struct Acceptor {
    shared: Arc<Shared>,
    id: i32,
    gate: Arc<Gate>,
    connections: Arc<Connections>,
    listener: TcpListener,
    threads: Vec<JoinHandle<()>>,
    accepted: u64,
}

impl Acceptor {
    fn run(&mut self, mut poll: Poll) {
        let mut events = Events::with_capacity(4);
        while self.gate.pass().is_ok() {
            match self.listener.accept() {
                Ok((stream, _)) => self.connection(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = poll.poll(&mut events, None)
                        && error.kind() != io::ErrorKind::Interrupted
                    {
                        log::error!("embedded broker {} stops accepting: {error}", self.id);
                        break;
                    }
                }
                // The connection was gone before it was accepted, or a limit was reached.
                Err(error) => {
                    log::warn!("embedded broker {}: accept: {error}", self.id);
                    let _ = self.gate.delay(ACCEPT_BACKOFF);
                }
            }
        }
        self.connections.shut_down();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }

    fn connection(&mut self, stream: mio::net::TcpStream) {
        let Some(node) = self.shared.node(self.id) else { return };
        add(&node.counters.connections_accepted, 1);
        self.shared.observers.notify();
        if self.shared.faults.take_accept(self.id) {
            return;
        }
        self.threads.retain(|thread| !thread.is_finished());
        self.accepted += 1;
        let opened = Open::register(stream.into(), self.accepted, self);
        let gate = self.gate.clone();
        let spawned = opened.and_then(|(stream, open)| {
            let name = format!("embedded-{}-{}", self.id, self.accepted);
            std::thread::Builder::new().name(name).spawn(move || {
                if let Some(node) = open.shared.node(open.id) {
                    connection::serve(&open.shared, node, &gate, &stream);
                }
            })
        });
        match spawned {
            Ok(thread) => self.threads.push(thread),
            Err(error) => log::warn!("embedded broker {}: {error}", self.id),
        }
        if self.gate.is_stopped() {
            self.connections.shut_down();
        }
    }
}

/// A registered connection, taken out and closed when dropped.
struct Open {
    number: u64,
    id: i32,
    shared: Arc<Shared>,
    connections: Arc<Connections>,
}

impl Open {
    fn register(
        stream: TcpStream,
        number: u64,
        acceptor: &Acceptor,
    ) -> io::Result<(TcpStream, Open)> {
        let (shared, connections) = (acceptor.shared.clone(), acceptor.connections.clone());
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        connections.lock().insert(number, stream.try_clone()?);
        if let Some(node) = shared.node(acceptor.id) {
            add(&node.counters.connections_open, 1);
        }
        shared.observers.notify();
        Ok((stream, Open { number, id: acceptor.id, shared, connections }))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(stream) = self.connections.lock().remove(&self.number) {
            // The peer may have closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(node) = self.shared.node(self.id) {
            node.counters.connections_open.fetch_sub(1, Ordering::Relaxed);
        }
        self.shared.observers.notify();
    }
}
