//! A consumer's thread: its connections, the metadata machine, and the fetcher, which says what to
//! ask whom.
//!
//! It is a thread of its own, and no seat on a producer's event loop: an answer of megabytes is
//! copied there in one go, which would hold up every producer on the loop.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll};

use super::client_parts::ClientParts;
use super::clock::{Clock, SleepWatch};
use super::dialer::Dialer;
use super::fetch_calls::FetchCalls;
use super::fetch_mailbox::Message;
use super::fetch_question::send_question;
use super::links::{LinkEvent, Links};
use super::metadata_link::send_query;
use super::warnings::Warnings;
use crate::config::StartAt;
use crate::engine::cluster::{
    BrokerAddress, ChannelId, ClusterSnapshot, MetadataConfig, MetadataMachine, UnknownTopic, Want,
};
use crate::engine::connection::Incoming;
use crate::engine::fetch::{
    Abilities, Coordinator, FetchConfig, FetchQueue, Fetched, Fetcher, Item,
};
use crate::engine::protocol::{ApiKey, BrokerId, ErrorCode, PartitionId};
use crate::engine::sync::Mailbox;
use crate::error::{ConsumeErrorCause, DeliveryErrorCause};
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};

/// A topic that was told to be unknown is asked about again after this, in nanoseconds.
const TOPIC_INTERVAL: u64 = 1_000_000_000;

/// A topic that is read: which of its partitions, or all; and from where on.
pub type WantedTopic = (Arc<str>, Option<Vec<PartitionId>>, StartAt);

/// What a consumer's thread is made of.
pub struct FetchParts {
    /// How brokers are reached.
    pub client: ClientParts,
    /// When to ask for metadata, and whom.
    pub machine: MetadataConfig,
    /// A connection that was idle for so long, in nanoseconds, is not trusted after the machine was
    /// asleep.
    pub idle_max: u64,
    /// What to ask for.
    pub fetch: FetchConfig,
    /// How long a broker may wait for more, in milliseconds, and for how many bytes.
    pub wait: (i32, i32),
    /// The group whose committed offsets are asked for, and for which offsets are committed.
    pub group: Option<Arc<str>>,
    /// No record of a transaction that may still be aborted.
    pub read_committed: bool,
    /// What is read.
    pub topics: Vec<WantedTopic>,
    /// Where it goes.
    pub queue: Arc<FetchQueue>,
}

/// What a connection is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Metadata(ChannelId),
    Records(BrokerId),
    /// The coordinator of the consumer's group, or a broker that is asked who that is.
    Group(BrokerId),
}

/// See the module.
pub(super) struct FetchLoop {
    parts: FetchParts,
    poll: Poll,
    mailbox: Arc<Mailbox<Message>>,
    clock: Clock,
    pub(super) machine: MetadataMachine,
    pub(super) fetcher: Fetcher,
    pub(super) coordinator: Coordinator,
    pub(super) calls: FetchCalls,
    pub(super) links: Links,
    /// By the number of the connection.
    purposes: BTreeMap<usize, Purpose>,
    /// Topics that are told to be unknown, and when to ask about them again.
    unknown: BTreeMap<Arc<str>, u64>,
    /// Where the next round of questions begins.
    turn: usize,
    warnings: Warnings,
    sleep_watch: SleepWatch,
    stopped: bool,
}

impl FetchLoop {
    pub(super) fn new(mut parts: FetchParts, poll: Poll, mailbox: Arc<Mailbox<Message>>) -> Self {
        let client = &parts.client;
        let client_random = client.random;
        let dialer = Dialer::new(client.sockets.clone(), client.security.clone(), client.random);
        let dialer = dialer.with_map(client.address_map.clone()).through(client.socks5.clone());
        let post = mailbox.clone();
        let links = Links::new(Arc::new(dialer), client.connection.clone(), move |news| {
            post.send(Message::Link(news));
        });
        let mut machine = MetadataMachine::new(parts.machine.clone(), client.random);
        let mut fetcher = Fetcher::new(parts.fetch.clone(), client.random.rotate_left(1));
        for (topic, partitions, start) in std::mem::take(&mut parts.topics) {
            machine.handle_wanted(Clock.now(), topic.clone(), Want::Record);
            fetcher.want(topic, partitions, start);
        }
        let backoff = parts.fetch.retry_backoff;
        let coordinator = Coordinator::new(parts.group.clone(), backoff, client_random);
        FetchLoop {
            parts,
            poll,
            mailbox,
            clock: Clock,
            machine,
            fetcher,
            coordinator,
            calls: FetchCalls::default(),
            links,
            purposes: BTreeMap::new(),
            unknown: BTreeMap::new(),
            turn: 0,
            warnings: Warnings::default(),
            sleep_watch: SleepWatch::new(),
            stopped: false,
        }
    }

    /// Turns until the consumer is dropped.
    pub(super) fn run(&mut self) {
        let mut events = Events::with_capacity(64);
        while !self.stopped {
            self.turn(&mut events);
        }
        self.links.close_all(self.poll.registry());
        self.calls.drop_all();
    }

    fn turn(&mut self, events: &mut Events) {
        let now = self.clock.now();
        let span = self.sleep_watch.look();
        if span > 0 {
            self.machine.handle_refresh_wanted();
            self.links.handle_suspended(self.poll.registry(), now, span, self.parts.idle_max);
        }
        for event in events.iter() {
            self.links.handle_event(self.poll.registry(), now, event);
        }
        while let Some(message) = self.mailbox.pop() {
            self.handle(now, message);
        }
        self.links.handle_timeouts(self.poll.registry(), now);
        self.handle_links(now);
        self.drive_metadata(now);
        self.follow(now);
        // What has come takes room, and is to be counted before more is asked for.
        self.hand_over();
        self.drive_group(now);
        let full = self.ask_brokers(now);
        self.hand_over();
        self.links.write(self.poll.registry(), now);
        // A write may have failed.
        self.handle_links(now);
        self.calls.tell(now, &mut self.fetcher);
        self.wait(events, now, full);
    }

    fn handle(&mut self, now: u64, message: Message) {
        match message {
            Message::Link(news) => self.links.handle_news(self.poll.registry(), now, news),
            Message::Seek(slot, start) => {
                self.fetcher.seek(slot, start);
                let topic = self.fetcher.slot(slot).0.clone();
                // What was not there may be there by now.
                if self.fetcher.leave_missing(slot, self.machine.snapshot()) {
                    self.machine.handle_wanted(now, topic, Want::Partition);
                }
            }
            Message::Pause(slot, paused) => self.fetcher.set_paused(slot, paused),
            Message::Fail(slot, generation) => self.fetcher.stop(slot, generation),
            Message::Call(call, timeout) => {
                let snapshot = self.machine.snapshot().clone();
                let machines = (&mut self.fetcher, &mut self.coordinator);
                let wanted = self.calls.begin(now, call, timeout, machines, &snapshot);
                // What was not there may be there by now.
                if let Some((topic, want)) = wanted {
                    self.machine.handle_wanted(now, topic, want);
                }
            }
            Message::Room => {}
            Message::Stop => self.stopped = true,
        }
    }

    pub(super) fn handle_links(&mut self, now: u64) {
        while let Some((number, event)) = self.links.poll_event() {
            match event {
                LinkEvent::Answer(answer) => self.handle_answer(now, number, answer),
                LinkEvent::Ready => match self.purposes.get(&number) {
                    Some(Purpose::Metadata(id)) => self.machine.handle_ready(*id),
                    Some(&Purpose::Records(id)) => self.handle_records_ready(number, id),
                    Some(Purpose::Group(_)) => self.coordinator.handle_ready(),
                    None => {}
                },
                LinkEvent::Down(problem) => {
                    let is_idle = match self.purposes.get(&number) {
                        Some(Purpose::Metadata(id)) => self.machine.is_idle(*id),
                        Some(Purpose::Group(_)) => self.coordinator.is_idle(),
                        _ => false,
                    };
                    let is_news = !is_idle && self.warnings.is_due(now, problem.message());
                    let level = if is_news { log::Level::Warn } else { log::Level::Debug };
                    log::log!(level, "consumer: {problem}");
                    self.blame(number, &problem);
                    match self.purposes.remove(&number) {
                        Some(Purpose::Metadata(id)) => self.machine.handle_down(id, now, problem),
                        Some(Purpose::Records(id)) => match problem.kind() {
                            ProblemKind::Protocol => {
                                self.fetcher.handle_unreadable(now, id, &problem);
                            }
                            _ => self.fetcher.handle_down(now, id),
                        },
                        Some(Purpose::Group(_)) => self.coordinator.handle_down(now, &problem),
                        None => {}
                    }
                }
                LinkEvent::Postponed { until, problem } => {
                    self.blame(number, &problem);
                    match self.purposes.remove(&number) {
                        Some(Purpose::Metadata(id)) => {
                            self.machine.handle_postponed(id, now, until, problem);
                        }
                        Some(Purpose::Records(id)) => self.fetcher.handle_postponed(now, id, until),
                        Some(Purpose::Group(_)) => self.coordinator.handle_down(now, &problem),
                        None => {}
                    }
                }
            }
        }
    }

    /// Why a connection is of no use, for calls that wait for it.
    fn blame(&mut self, number: usize, problem: &Problem) {
        match self.purposes.get(&number) {
            Some(Purpose::Metadata(_)) => self.fetcher.blame(None, problem),
            Some(&Purpose::Records(id)) => self.fetcher.blame(Some(id), problem),
            // It is told with the loss.
            Some(Purpose::Group(_)) | None => {}
        }
    }

    /// A broker can be asked for records.
    fn handle_records_ready(&mut self, number: usize, id: BrokerId) {
        let Some(connection) = self.links.connection(number) else { return };
        let version = |api| connection.version(api).unwrap_or(0);
        let (fetch, list_offsets) = (version(ApiKey::Fetch), version(ApiKey::ListOffsets));
        self.fetcher.handle_ready(id, Abilities::of_versions(fetch, list_offsets));
    }

    fn handle_answer(&mut self, now: u64, number: usize, answer: Incoming) {
        match (self.purposes.get(&number), answer) {
            (Some(&Purpose::Metadata(id)), Incoming::Metadata(response)) => {
                self.machine.handle_metadata(id, now, &response);
            }
            (Some(&Purpose::Records(id)), Incoming::Fetch(response)) => {
                self.fetcher.handle_records(now, id, &response);
            }
            (Some(&Purpose::Records(id)), Incoming::ListOffsets(response)) => {
                self.fetcher.handle_offsets(now, id, &response);
            }
            (Some(Purpose::Group(_)), Incoming::FindCoordinator(response)) => {
                self.coordinator.handle_found(now, &response);
            }
            (Some(Purpose::Group(_)), Incoming::OffsetCommit(response)) => {
                self.coordinator.handle_committed(now, &response);
            }
            (Some(Purpose::Group(_)), Incoming::OffsetFetch(response)) => {
                self.coordinator.handle_fetched(now, &response);
            }
            // Nothing else was asked.
            _ => {}
        }
    }

    /// The number of a connection with this purpose.
    pub(super) fn number_of(&self, is_it: impl Fn(Purpose) -> bool) -> Option<usize> {
        self.purposes.iter().find(|(_, purpose)| is_it(**purpose)).map(|(number, _)| *number)
    }

    fn channel(&self, id: ChannelId) -> Option<usize> {
        self.number_of(|it| matches!(it, Purpose::Metadata(other) if other == id))
    }

    pub(super) fn close(&mut self, number: usize) {
        self.purposes.remove(&number);
        self.links.close(self.poll.registry(), number);
    }

    pub(super) fn open(&mut self, now: u64, purpose: Purpose, address: BrokerAddress) {
        let (id, cluster_id) = match purpose {
            Purpose::Metadata(_) => (None, None),
            Purpose::Records(id) | Purpose::Group(id) => {
                (Some(id.0), self.machine.snapshot().cluster_id.clone())
            }
        };
        let number = self.links.open(self.poll.registry(), now, (id, address), cluster_id);
        self.purposes.insert(number, purpose);
    }

    /// Has the metadata machine's questions asked.
    fn drive_metadata(&mut self, now: u64) {
        if let Some(id) = self.machine.wants_rebootstrap()
            && let Some(number) = self.channel(id)
        {
            let text = "the broker asks to go back to the bootstrap servers";
            let problem = Problem::new(ProblemKind::Closed, text);
            self.links.give_up(self.poll.registry(), now, number, problem);
            self.handle_links(now);
        }
        while let Some(id) = self.machine.poll_close(now) {
            if let Some(number) = self.channel(id) {
                self.close(number);
            }
        }
        while let Some((id, address)) = self.machine.poll_connect(now) {
            self.open(now, Purpose::Metadata(id), address);
            // It may have failed already, and the next one is to be tried.
            self.handle_links(now);
        }
        for id in ChannelId::ALL {
            let Some(number) = self.channel(id) else { continue };
            let Some(connection) = self.links.connection(number) else { continue };
            if self.machine.poll_timeout(now).is_some_and(|at| at <= now) {
                connection.renew_login(now);
            }
            if !connection.may_send(now) {
                continue;
            }
            let Some(query) = self.machine.poll_query(id, now) else { continue };
            match connection.version(ApiKey::Metadata) {
                Some(version) => send_query(connection, now, version, &query),
                None => {
                    let text = "the broker speaks no version of Metadata that this client knows";
                    let problem = Problem::new(ProblemKind::BrokerTooOld, text);
                    self.links.give_up(self.poll.registry(), now, number, problem);
                }
            }
        }
        self.handle_links(now);
    }

    /// Tells the fetcher what the metadata machine has learnt.
    fn follow(&mut self, now: u64) {
        for arrived in self.machine.take_arrived() {
            self.unknown.remove(&arrived.topic);
        }
        for topic in self.machine.poll_suspicious(now) {
            self.fetcher.handle_absent(&topic);
            if !self.unknown.contains_key(&topic) {
                log::warn!("consumer: brokers say that the topic {topic} does not exist");
            }
        }
        for UnknownTopic { topic, cause, .. } in self.machine.poll_unknown(now) {
            // It is told once, and asked about until it is there.
            let is_known = self.unknown.insert(topic.clone(), now + TOPIC_INTERVAL).is_some();
            let cause = ConsumeErrorCause::Topic(Some(topic_problem(&cause)));
            if !self.fetcher.fail_topic(&topic, &cause) && !is_known {
                let fetched = Fetched::Failed(cause);
                let (slot, generation, partition) = (None, 0, None);
                self.parts.queue.put(Item { slot, generation, topic, partition, fetched });
            }
        }
        for (topic, at) in &mut self.unknown {
            if *at <= now {
                *at = u64::MAX;
                self.machine.handle_wanted(now, topic.clone(), Want::Record);
            }
        }
        if let Some(snapshot) = self.machine.take_snapshot() {
            for slot in self.fetcher.handle_snapshot(&snapshot) {
                let (topic, partition, _) = self.fetcher.slot(slot);
                self.parts.queue.add_partition(topic.clone(), partition);
            }
            self.parts.queue.set_complete(self.fetcher.knows_all());
            self.leave_moved(now, &snapshot);
        }
    }

    /// Gives up connections to brokers that are reached elsewhere now.
    fn leave_moved(&mut self, now: u64, snapshot: &ClusterSnapshot) {
        let moved = self.purposes.iter().filter_map(|(&number, purpose)| {
            let Purpose::Records(id) = purpose else { return None };
            let address = snapshot.brokers.get(id)?;
            (self.links.peer(number) != Some(address)).then_some(number)
        });
        for number in moved.collect::<Vec<_>>() {
            let problem = Problem::new(ProblemKind::Closed, "the broker has another address now");
            self.links.give_up(self.poll.registry(), now, number, problem);
        }
        self.handle_links(now);
    }

    /// Connects to brokers and asks them. If something would be asked for and there is no room for
    /// it, returns how many bytes were in the queue.
    fn ask_brokers(&mut self, now: u64) -> Option<usize> {
        while let Some(id) = self.fetcher.poll_connect(now) {
            match self.machine.snapshot().brokers.get(&id).cloned() {
                Some(address) => self.open(now, Purpose::Records(id), address),
                None => self.fetcher.handle_down(now, id),
            }
            self.handle_links(now);
        }
        let mut queued = 0;
        let brokers = self.purposes.iter().filter_map(|(&number, purpose)| match purpose {
            Purpose::Records(id) => Some((number, *id)),
            Purpose::Metadata(_) | Purpose::Group(_) => None,
        });
        let mut brokers: Vec<_> = brokers.collect();
        // Where room is short, not always the same broker gets it.
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % brokers.len().max(1);
        brokers.rotate_left(first);
        for (number, id) in brokers {
            let Some(connection) = self.links.connection(number) else { continue };
            if connection.in_flight() == 0 {
                connection.renew_login(now);
            }
            if !connection.may_send(now) {
                continue;
            }
            if connection.was_assumed_wrongly(now) {
                if connection.in_flight() == 0 {
                    let text = "it was taken for an old broker, and has said since what it speaks";
                    let problem = Problem::new(ProblemKind::Closed, text);
                    self.links.give_up(self.poll.registry(), now, number, problem);
                }
                continue;
            }
            if connection.is_assumed() && self.parts.read_committed {
                let text = "read_committed needs a broker that says what it speaks";
                self.fetcher.handle_lacking(id, &Problem::new(ProblemKind::BrokerTooOld, text));
                continue;
            }
            for api in [ApiKey::Fetch, ApiKey::ListOffsets] {
                if connection.version(api).is_none() {
                    let text = format_args!(
                        "broker {id} speaks no version of {api:?} that this consumer knows"
                    );
                    self.fetcher.handle_lacking(id, &Problem::new(ProblemKind::BrokerTooOld, text));
                }
            }
            queued = self.parts.queue.bytes();
            if let Some(question) = self.fetcher.poll_question(now, id, queued) {
                send_question(connection, now, &question, &self.parts);
            }
        }
        for topic in self.fetcher.take_denied() {
            self.machine.handle_wanted(now, topic, Want::Lane);
        }
        if self.fetcher.take_refresh_wanted() {
            self.machine.handle_refresh_wanted();
        }
        self.fetcher.take_lacks_room().then_some(queued)
    }

    /// Hands over what has come.
    fn hand_over(&mut self) {
        while let Some((slot, high_watermark, log_start)) = self.fetcher.poll_ends() {
            self.parts.queue.set_ends(slot, high_watermark, log_start);
        }
        while let Some((slot, generation, fetched)) = self.fetcher.poll_fetched() {
            let (topic, partition, _) = self.fetcher.slot(slot);
            let (topic, partition) = (topic.clone(), Some(partition));
            let item = Item { slot: Some(slot), generation, topic, partition, fetched };
            self.parts.queue.put(item);
        }
    }

    fn wait(&mut self, events: &mut Events, now: u64, full: Option<usize>) {
        // What may not be asked yet is looked at again later.
        let (mut channels_until, mut brokers_until) = (0, None);
        for (&number, purpose) in &self.purposes {
            match (purpose, self.links.may_not_send_until(now, number)) {
                (_, None) => {}
                (Purpose::Metadata(_), Some(until)) => channels_until = until.max(channels_until),
                (Purpose::Records(_) | Purpose::Group(_), until) => {
                    brokers_until = [brokers_until, until].into_iter().flatten().min();
                }
            }
        }
        let machine = self.machine.poll_timeout(now).map(|at| at.max(channels_until));
        let fetcher = self.fetcher.poll_timeout(now);
        let unknown = self.unknown.values().copied().min().filter(|&at| at != u64::MAX);
        let group = self.coordinator.poll_timeout(now);
        let next = [self.links.poll_timeout(), machine, fetcher, brokers_until, unknown, group];
        let next = next.into_iter().flatten().min();
        let mut timeout = next.map(|at| Duration::from_nanos(at.saturating_sub(now)));
        self.mailbox.prepare_to_sleep();
        let has_room = full.is_some_and(|seen| !self.parts.queue.wait_for_room(seen));
        if !self.mailbox.is_empty() || self.stopped || has_room {
            timeout = Some(Duration::ZERO);
        }
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            log::error!("consumer: poll failed: {error}");
        }
        self.mailbox.awake();
    }
}

/// Why a topic is not read, in words for who reads.
fn topic_problem(cause: &DeliveryErrorCause) -> Problem {
    match cause {
        DeliveryErrorCause::Broker { code, .. } => Problem::from(*code),
        DeliveryErrorCause::UnknownTopic { after, .. } => {
            let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            let text = format_args!("brokers have said for {after:?} that it does not exist");
            Problem::new(ProblemKind::Broker(code), text)
        }
        cause => Problem::new(ProblemKind::NoLeader, cause),
    }
}
