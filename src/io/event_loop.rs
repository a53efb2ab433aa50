//! The thread that drives one shard of each producer that has brokers on it.
//!
//! A turn ([`EventLoop::turn`]): read the clock; receive from the sockets that the last poll named;
//! take messages to the loop; go on with connections in the making; drive each shard; poll, asleep
//! if there is nothing to do. What a shard does in its part of a turn stands in `shard/turn.rs`.

use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll};
use slab::Slab;

use super::clock::{Clock, SleepWatch};
use super::loop_mailbox::{LoopMailbox, LoopMessage, SocketAddress};
use super::seat::Seat;
use super::socket::{Progress, Socket, SocketNews};
use super::sys::Timer;
use crate::config::WaitStrategy;
use crate::engine::cluster::{BrokerAddress, Want};
use crate::engine::protocol::BrokerId;
use crate::engine::shard::{self, Action, Control, Driver, LoopLoad, Shard, Token};
use crate::logging as log;
use crate::problem::Problem;
use crate::user_code;

/// Slices of one vectored write (the system's limit is 1,024).
const SLICES_MAX: usize = 256;
/// Writes to one socket in a row.
const WRITES_MAX: usize = 4;
/// Reads from one socket in a row.
const READS_MAX: usize = 16;
/// Events taken from one poll.
const EVENTS_MAX: usize = 256;
/// Waits shorter than this take the timer: poll timeouts are rounded up to milliseconds.
const TIMER_BELOW: Duration = Duration::from_millis(4);

/// [`PollWaker`](super::loop_mailbox::PollWaker) has the highest.
const TIMER_TOKEN: mio::Token = mio::Token(usize::MAX - 1);

struct SocketEntry {
    socket: Socket,
    seat: usize,
    token: Token,
}

pub(super) struct EventLoop {
    poll: Poll,
    mailbox: Arc<LoopMailbox>,
    wait_strategy: WaitStrategy,
    clock: Clock,
    timer: Option<Timer>,
    seats: Slab<Seat>,
    sockets: Slab<SocketEntry>,
    next_serial: u64,
    sleep_watch: SleepWatch,
    load: LoopLoad,
    /// Since when it has nothing to do, if so.
    idle_since: Option<u64>,
    /// The loop may have slept, or spun, for long: the machine may have been asleep meanwhile.
    slept: bool,
    stopped: bool,
}

/// A shard with the loop that drives it.
struct AtSeat<'a> {
    event_loop: &'a mut EventLoop,
    key: usize,
}

impl Driver for AtSeat<'_> {
    fn shard(&mut self) -> &mut Shard {
        &mut self.event_loop.seats[self.key].shard
    }

    fn write(&mut self, now: u64, token: Token) -> bool {
        self.event_loop.write(now, self.key, token)
    }

    fn act(&mut self, now: u64, action: Action) {
        self.event_loop.act(now, self.key, action);
    }
}

impl EventLoop {
    pub(super) fn new(poll: Poll, mailbox: Arc<LoopMailbox>, wait_strategy: WaitStrategy) -> Self {
        let timer = super::sys::timer_of(&poll, TIMER_TOKEN);
        EventLoop {
            poll,
            mailbox,
            wait_strategy,
            clock: Clock,
            timer,
            seats: Slab::new(),
            sockets: Slab::new(),
            next_serial: 0,
            sleep_watch: SleepWatch::new(),
            load: LoopLoad::default(),
            idle_since: None,
            slept: false,
            stopped: false,
        }
    }

    /// Runs until it is stopped. A panic fails everything that its shards still hold.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let result = catch_unwind(AssertUnwindSafe(|| {
            while !self.stopped {
                self.turn(&mut events);
            }
        }));
        if result.is_err() {
            log::error!("an event loop panicked; everything it still held is failed");
        }
        self.mailbox.end();
        // Dropping the seats drops their lanes, which fails what is in them.
    }

    fn turn(&mut self, events: &mut Events) {
        #[cfg(feature = "internals")]
        crate::engine::planted::begin_turn();
        let now = self.clock.now();
        let idle = self.idle_since.take().map_or(0, |since| now.saturating_sub(since));
        self.load.observe(now, idle);
        self.check_suspended(now);
        self.receive(now, events);
        self.take_messages(now);
        self.check_setup_deadlines(now);
        self.check_unsent(now);
        let (mut more, mut next): (bool, Option<u64>) = (false, None);
        for key in 0..self.seats.capacity() {
            if !self.seats.contains(key) {
                continue;
            }
            more |= self.drive(now, key);
            if let Some(seat) = self.seats.get(key) {
                next = [next, seat.shard.poll_timeout()].into_iter().flatten().min();
            }
        }
        next = [next, self.next_setup_deadline()].into_iter().flatten().min();
        self.wait(events, more, now, next);
    }

    /// Tells shards that the machine was asleep. Before anything is received: bytes would make a
    /// connection look active that was idle for the whole sleep.
    fn check_suspended(&mut self, now: u64) {
        let span = if self.slept { self.sleep_watch.look() } else { 0 };
        if span > 0 {
            for (_, seat) in &mut self.seats {
                seat.shard.handle_suspended(now, span);
            }
        }
    }

    fn take_messages(&mut self, now: u64) {
        while let Some(message) = self.mailbox.pop() {
            match message {
                LoopMessage::Stop => self.stopped = true,
                LoopMessage::Add(mut seat) => {
                    self.next_serial += 1;
                    seat.serial = self.next_serial;
                    self.seats.insert(*seat);
                }
                LoopMessage::Socket { address, news } => {
                    if self.is_there(address) {
                        self.handle_news(now, address, news);
                    }
                }
                LoopMessage::Login { address, answer } => {
                    if self.is_there(address) {
                        let shard = &mut self.seats[address.seat].shard;
                        shard.handle_login(now, address.token, answer);
                        self.note_ready(now, address.seat, address.token);
                    }
                }
            }
        }
    }

    /// One shard's part of a turn. Returns whether more is to be done at once.
    fn drive(&mut self, now: u64, key: usize) -> bool {
        let port = self.seats[key].port.clone();
        self.seats[key].shard.set_load(self.load);
        let turn = shard::turn(now, &port, &mut AtSeat { event_loop: self, key });
        if turn.panics > 0 {
            log::error!("the waker of a task that awaits a delivery panicked");
        }
        if turn.flushed {
            self.seats[key].context.accumulator.flush.notify();
        }
        if turn.stopped {
            self.end_seat(key);
        }
        turn.more
    }

    fn write(&mut self, now: u64, key: usize, token: Token) -> bool {
        let seat = &mut self.seats[key];
        let Some(socket) = socket_of(&seat.sockets, token) else { return false };
        let socket = &mut self.sockets[socket].socket;
        let mut any = false;
        for _ in 0..WRITES_MAX {
            if !socket.is_connected() || !socket.writable {
                return any;
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = seat.shard.slices(token, &mut slices);
            if used == 0 {
                return any;
            }
            match socket.write(&slices[..used]) {
                Ok(None) => return any,
                Ok(Some(bytes)) => {
                    any = true;
                    seat.shard.handle_taken(now, token, bytes);
                    if socket.is_flushed() {
                        seat.shard.handle_flushed(now, token);
                    }
                }
                Err(problem) => {
                    self.lose(now, key, token, problem);
                    // The loss has settled attempts, and their lanes may have something to send on
                    // other connections.
                    return true;
                }
            }
        }
        any
    }

    fn act(&mut self, now: u64, key: usize, action: Action) {
        let context = &self.seats[key].context;
        match action {
            Action::Connect { token, broker, address } => {
                log::debug!("connecting to broker {broker} at {address}");
                self.connect(now, key, token, broker, address);
            }
            Action::Close { token, problem } => {
                self.forget_socket(now, key, token, problem);
            }
            Action::Login { token, task } => {
                let logins = context.dialer.security.logins.clone();
                let (mailbox, address) = (self.mailbox.clone(), self.address(key, token));
                let peer = self.seats[key].shard.address_of(token);
                if let (Some(logins), Some(peer)) = (logins, peer) {
                    logins.compute(peer, task, move |answer| {
                        mailbox.send(LoopMessage::Login { address, answer });
                    });
                }
            }
            Action::SendLane { shard, head } => {
                let port = context.ports.port(shard);
                port.expect("views name shards that exist").send(Control::Lane(head));
                // A loop that has ended drops the head, which resolves what was in the lane.
                context.accumulator.flush.notify();
            }
            Action::RefreshMetadata => context.metadata.refresh(),
            Action::WantTopic(topic) => context.metadata.want(topic, Want::Lane),
            Action::Hint(hint) => context.metadata.hint(hint),
            Action::NewIdentity(identity) => context.metadata.new_identity(identity),
            Action::AskIdentity => context.metadata.ask_identity(),
        }
    }

    fn connect(
        &mut self,
        now: u64,
        key: usize,
        token: Token,
        broker: BrokerId,
        address: BrokerAddress,
    ) {
        let (mailbox, whose) = (self.mailbox.clone(), self.address(key, token));
        let seat = &mut self.seats[key];
        let (id, dialer) = (Some(broker.0), &seat.context.dialer);
        let socket = Socket::dial(id, address, dialer, now, move |news| {
            mailbox.send(LoopMessage::Socket { address: whose, news });
        });
        let index = self.sockets.insert(SocketEntry { socket, seat: key, token });
        if seat.sockets.len() <= token.broker {
            seat.sockets.resize(token.broker + 1, None);
        }
        seat.sockets[token.broker] = Some((token.generation, index));
        self.advance(now, index);
    }

    fn address(&self, seat: usize, token: Token) -> SocketAddress {
        SocketAddress { seat, serial: self.seats[seat].serial, token }
    }

    /// Whether the shard is still there that a message is for.
    fn is_there(&self, address: SocketAddress) -> bool {
        self.seats.get(address.seat).is_some_and(|seat| seat.serial == address.serial)
    }

    fn handle_news(&mut self, now: u64, address: SocketAddress, news: SocketNews) {
        let sockets = &self.seats[address.seat].sockets;
        let Some(index) = socket_of(sockets, address.token) else { return };
        let (socket, registry) = (&mut self.sockets[index].socket, self.poll.registry());
        let progress = socket.handle_news(registry, mio::Token(index), now, news);
        self.progressed(now, index, progress);
        // What came while it could not be read is told by no further event.
        self.read(now, index, true);
    }

    /// Tells the socket how far the handshake is.
    fn note_ready(&mut self, now: u64, key: usize, token: Token) {
        let seat = &self.seats[key];
        let Some(index) = socket_of(&seat.sockets, token) else { return };
        let socket = &mut self.sockets[index].socket;
        if socket.is_ready() {
            return;
        }
        if seat.shard.is_ready(token) {
            socket.handle_ready(now);
        } else if seat.shard.has_versions(token) {
            socket.handle_answered();
        }
    }

    /// Goes on with a connection in the making, as far as it is due.
    fn advance(&mut self, now: u64, index: usize) {
        let (socket, registry) = (&mut self.sockets[index].socket, self.poll.registry());
        let progress = socket.advance(registry, mio::Token(index), now);
        self.progressed(now, index, progress);
    }

    fn progressed(&mut self, now: u64, index: usize, progress: Progress) {
        let (key, token) = (self.sockets[index].seat, self.sockets[index].token);
        match progress {
            Progress::Connecting | Progress::Unchanged => {}
            Progress::Connected => {
                self.seats[key].shard.handle_connected(now, token);
                self.note_ready(now, key, token);
            }
            Progress::Failed(problem) => self.lose(now, key, token, problem),
            Progress::Postponed { until, problem } => {
                let problem = self.forget_socket(now, key, token, problem);
                self.seats[key].shard.handle_postponed(now, token, until, &problem);
            }
        }
    }

    fn receive(&mut self, now: u64, events: &Events) {
        for event in events {
            let mio::Token(index) = event.token();
            let Some(entry) = self.sockets.get_mut(index) else { continue };
            entry.socket.writable |= event.is_writable();
            let registry = self.poll.registry();
            let progress = entry.socket.handle_event(registry, event.token(), now);
            self.progressed(now, index, progress);
            if event.is_writable() {
                self.flush(now, index);
            }
            let ended = event.is_read_closed() || event.is_error();
            if event.is_readable() || ended {
                self.read(now, index, ended);
            }
        }
    }

    /// Writes what an encrypting transport kept back.
    fn flush(&mut self, now: u64, index: usize) {
        let Some(entry) = self.sockets.get_mut(index) else { return };
        let (key, token) = (entry.seat, entry.token);
        if !entry.socket.is_connected() || entry.socket.is_flushed() {
            return;
        }
        match entry.socket.flush() {
            Ok(()) if entry.socket.is_flushed() => {
                self.seats[key].shard.handle_flushed(now, token);
            }
            Ok(()) => {}
            Err(problem) => self.lose(now, key, token, problem),
        }
    }

    /// Reads what is there. With `until_empty` it reads on after a short read, because no further
    /// event will tell of what is left: the stream has ended, or bytes came while nobody could
    /// read.
    fn read(&mut self, now: u64, index: usize, until_empty: bool) {
        for reads in 1.. {
            let Some(entry) = self.sockets.get_mut(index) else { return };
            if !entry.socket.is_connected() {
                return;
            }
            if reads > READS_MAX && !entry.socket.has_received() {
                break;
            }
            let (key, token) = (entry.seat, entry.token);
            let Some(space) = self.seats[key].shard.space(token) else { return };
            let room = space.len();
            match entry.socket.read(space) {
                // What was read may have to be answered: an update of keys.
                Ok(None) => return self.flush(now, index),
                Ok(Some(bytes)) => {
                    let seat = &mut self.seats[key];
                    seat.shard.handle_filled(now, token, bytes);
                    let silence = seat.shard.throttled_for(now, token);
                    entry.socket.expect_silence(silence);
                    let is_empty = bytes < room && entry.socket.short_read_empties();
                    self.note_ready(now, key, token);
                    // Close a connection that the shard gave up, before this reads from it again.
                    while let Some(action) = self.seats[key].shard.poll_action() {
                        self.act(now, key, action);
                    }
                    if is_empty && !until_empty {
                        return;
                    }
                }
                Err(problem) => return self.lose(now, key, token, problem),
            }
        }
        // More may wait in the socket, and no edge will tell: look again next turn.
        self.reread(index);
    }

    /// Edge-triggered polls do not report what was there before: registering again does.
    fn reread(&mut self, index: usize) {
        if let Some(entry) = self.sockets.get_mut(index) {
            entry.socket.rearm(self.poll.registry(), mio::Token(index));
        }
    }

    /// A connection is gone without the shard having given it up: tells the shard.
    fn lose(&mut self, now: u64, key: usize, token: Token, problem: Problem) {
        let problem = self.forget_socket(now, key, token, problem);
        self.seats[key].shard.handle_down(now, token, problem);
    }

    /// Closes a socket. Returns the problem with the address that it was connected to.
    fn forget_socket(&mut self, now: u64, key: usize, token: Token, problem: Problem) -> Problem {
        let seat = &mut self.seats[key];
        let Some(index) = socket_of(&seat.sockets, token) else { return problem };
        seat.sockets[token.broker] = None;
        let mut socket = self.sockets.remove(index).socket;
        let problem = socket.lost(now, problem);
        socket.close(self.poll.registry());
        problem
    }

    /// Goes on with connections in the making. Before the shards are driven, so that they send on
    /// new connections in the same turn.
    fn check_setup_deadlines(&mut self, now: u64) {
        for index in 0..self.sockets.capacity() {
            if self.sockets.get(index).is_some_and(|entry| entry.socket.deadline() <= now) {
                self.advance(now, index);
            }
        }
    }

    /// Tells connections whose answers are late how many bytes the broker's kernel has not
    /// acknowledged, so that a slow link is not taken for a silent broker.
    fn check_unsent(&mut self, now: u64) {
        for (_, entry) in &self.sockets {
            let shard = &mut self.seats[entry.seat].shard;
            if shard.wants_unsent(now, entry.token)
                && let Some(unsent) = entry.socket.unsent()
            {
                shard.handle_unsent(now, entry.token, unsent);
            }
        }
    }

    fn next_setup_deadline(&self) -> Option<u64> {
        let deadlines = self.sockets.iter().map(|(_, entry)| entry.socket.deadline());
        deadlines.min().filter(|&at| at != u64::MAX)
    }

    fn end_seat(&mut self, key: usize) {
        let seat = self.seats.remove(key);
        for (_, index) in seat.sockets.iter().flatten() {
            let mut entry = self.sockets.remove(*index);
            entry.socket.close(self.poll.registry());
        }
        // The last of the producer may go with it, and so the user's retry policy.
        let _inside = user_code::enter();
        if user_code::call(|| drop(seat)).is_err() {
            log::error!(
                "what a closed producer held, perhaps a retry policy, panicked when dropped"
            );
        }
    }

    /// Polls, and sleeps if nothing is to be done at once. The loop announces its sleep and then
    /// looks at its queues once more: a sender that posted before the announcement saw the loop
    /// awake and did not wake it, so its record would wait for the next event.
    fn wait(&mut self, events: &mut Events, more: bool, now: u64, next: Option<u64>) {
        let sleeps = !more && !self.stopped && next.is_none_or(|at| at > now);
        let mut timeout = Some(Duration::ZERO);
        if sleeps {
            let mut now = self.clock.now();
            self.idle_since = Some(now);
            if self.spin(events, now, next) {
                self.slept = true;
                return;
            }
            // The loop must not sleep for the time that it has spun as well: timers would be late.
            if self.wait_strategy != WaitStrategy::Block {
                now = self.clock.now();
            }
            timeout = next.map(|at| Duration::from_nanos(at.saturating_sub(now)));
            self.mailbox.prepare_to_sleep();
            if self.has_news() {
                timeout = Some(Duration::ZERO);
            }
        }
        if let (Some(timer), Some(short)) = (&self.timer, timeout)
            && !short.is_zero()
            && short < TIMER_BELOW
        {
            timer.set(short.as_nanos() as u64);
            timeout = None;
        }
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            log::error!("poll failed: {error}");
        }
        self.slept = sleeps;
        if sleeps {
            self.mailbox.awake();
        }
    }
}

/// How often a spinning loop looks at its queues between two looks at its sockets. The former cost
/// a load for each shard, the latter a system call.
const LOOKS: u32 = 64;

impl EventLoop {
    /// Whether senders or other threads have left something to do.
    fn has_news(&self) -> bool {
        !self.mailbox.is_empty()
            || self.seats.iter().any(|(_, seat)| seat.port.has_news())
            // A sender that waits for memory rings, and leaves nothing in a queue.
            || self.seats.iter().any(|(_, seat)| seat.shard.is_under_pressure())
    }

    /// Looks for something to do without sleeping, as long as the strategy says. Returns whether
    /// there is something; else the loop is to sleep. Nobody rings meanwhile: that is for loops
    /// that sleep.
    fn spin(&mut self, events: &mut Events, now: u64, next: Option<u64>) -> bool {
        if self.seats.is_empty() {
            // It drives no producer. Whoever gives it one rings.
            return false;
        }
        let until = match self.wait_strategy {
            WaitStrategy::Block => return false,
            WaitStrategy::Spin => u64::MAX,
            WaitStrategy::SpinThenBlock(span) => {
                now.saturating_add(span.as_nanos().try_into().unwrap_or(u64::MAX))
            }
        };
        events.clear();
        loop {
            for _ in 0..LOOKS {
                if self.has_news() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if let Err(error) = self.poll.poll(events, Some(Duration::ZERO))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                log::error!("poll failed: {error}");
            }
            let now = self.clock.now();
            if !events.is_empty() || next.is_some_and(|at| at <= now) {
                return true;
            }
            if until <= now {
                return false;
            }
        }
    }
}

fn socket_of(sockets: &[Option<(u32, usize)>], token: Token) -> Option<usize> {
    let (generation, index) = (*sockets.get(token.broker)?)?;
    (generation == token.generation).then_some(index)
}
