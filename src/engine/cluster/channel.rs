//! The metadata channel's connections: the one that is asked, and a second one beside it while the
//! first owes an answer, or gives answers that help nobody.

use super::{BrokerAddress, MetadataQuery};

/// Which of the metadata channel's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelId(u8);

impl ChannelId {
    /// The one that is made first. Either may become the one that is kept.
    pub const FIRST: ChannelId = ChannelId(0);
    /// The other.
    pub const SECOND: ChannelId = ChannelId(1);
    /// Both: there are no more.
    pub const ALL: [ChannelId; 2] = [ChannelId::FIRST, ChannelId::SECOND];

    /// Its place among [`ChannelId::ALL`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn other(self) -> ChannelId {
        ChannelId(1 - self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelState {
    Down { retry_at: u64 },
    Connecting,
    Ready,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Channel {
    pub state: ChannelState,
    /// Whom it is to.
    pub address: Option<BrokerAddress>,
    pub in_flight: Option<MetadataQuery>,
    /// Since when it owes an answer: the attempt to connect counts.
    pub owes_since: Option<u64>,
    /// It has answered something.
    pub answered: bool,
    /// It has answered with metadata, and not as a broker of another cluster. (Kafka before 0.10.1
    /// does not say which one it is of.)
    pub is_of_cluster: bool,
    /// What was asked was asked because lanes are in trouble.
    pub for_trouble: bool,
    /// The question is not about all topics.
    pub in_part: bool,
    /// Its question is about topics that have leaders, or had.
    pub about_leaders: bool,
    /// It is of no use any more, and the driver must close it.
    pub is_left: bool,
}

impl Channel {
    pub(super) fn new() -> Self {
        Channel {
            state: ChannelState::Down { retry_at: 0 },
            address: None,
            in_flight: None,
            owes_since: None,
            answered: false,
            is_of_cluster: false,
            for_trouble: false,
            in_part: false,
            about_leaders: false,
            is_left: false,
        }
    }

    /// Nobody is connected to, before `retry_at`.
    pub(super) fn clear(&mut self, retry_at: u64) {
        *self = Channel { state: ChannelState::Down { retry_at }, ..Channel::new() };
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.state, ChannelState::Down { .. })
    }
}

/// How long the first broker may owe an answer before a second is asked, in nanoseconds. A healthy
/// broker takes far less; a broker that hangs delays records by at least this.
const PATIENCE_MIN: u64 = 1_000_000_000;

/// The wait doubles up to this: over a slow link every broker's answers are late, and going from
/// broker to broker would bring none.
const PATIENCE_MAX: u64 = 16_000_000_000;

/// Answers without news after which another broker is asked, while lanes are in trouble.
const FRUITLESS_MIN: u32 = 2;

/// Each broker that knows nothing better is left after twice as many answers as the one before, up
/// to this: the trouble may be the whole cluster's, and no other broker knows more.
const FRUITLESS_MAX: u32 = 64;

/// Trouble that was not heard of for so long has ended, in nanoseconds: one minute, or longer where
/// connections are tried more seldom.
const TROUBLE_LASTS_MIN: u64 = 60_000_000_000;

/// What an answer says of the broker that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// What was known already.
    Nothing,
    /// Topics or partitions that the client did not know. A broker with an old picture can tell of
    /// them too.
    Added,
    /// Other brokers, or other leaders or epochs of partitions that were known.
    Moved,
}

/// How many answers of the present connection were of no help to those in trouble.
#[derive(Debug)]
struct Fruitless {
    answers: u32,
    /// From so many on another broker is asked.
    max: u32,
    /// When the last of them came.
    at: u64,
}

impl Fruitless {
    const NONE: Fruitless = Fruitless { answers: 0, max: FRUITLESS_MIN, at: 0 };

    fn add(&mut self, now: u64) {
        self.answers = self.answers.saturating_add(1);
        self.at = now;
    }

    /// Trouble that nobody had for `lasts` is another one when it comes again.
    fn lapse(&mut self, now: u64, lasts: u64) {
        if self.at.saturating_add(lasts) < now {
            *self = Fruitless::NONE;
        }
    }

    fn is_over(&self) -> bool {
        self.answers >= self.max
    }

    /// The connection was left for another one, whose answers are counted from now on. The trouble
    /// may be the cluster's own: that one is left later than this was.
    fn begin_anew(&mut self) {
        if self.is_over() {
            self.max = (2 * self.max).min(FRUITLESS_MAX);
        }
        self.answers = 0;
    }
}

/// When a second broker is asked.
#[derive(Debug)]
pub(super) struct SecondOpinion {
    patience: u64,
    /// Not before this.
    not_before: u64,
    /// When the second, if it has not answered, makes room for a third.
    gives_up_at: u64,
    /// How far apart answers to one and the same trouble can be, in nanoseconds.
    trouble_lasts: u64,
    /// Answers to questions for lanes, whose leaders are gone or refuse them.
    lanes: Fruitless,
    /// Answers to questions for topics that something waits for.
    topics: Fruitless,
}

impl SecondOpinion {
    /// `retries_within`: lanes that wait for a connection ask again after this at the latest.
    pub(super) fn new(retries_within: u64) -> Self {
        SecondOpinion {
            trouble_lasts: TROUBLE_LASTS_MIN.max(4 * retries_within),
            patience: PATIENCE_MIN,
            not_before: 0,
            gives_up_at: u64::MAX,
            lanes: Fruitless::NONE,
            topics: Fruitless::NONE,
        }
    }

    /// When a second connection is wanted beside `present`.
    pub(super) fn due_at(&self, present: &Channel) -> Option<u64> {
        if planted!(StaysWithFruitlessBroker) {
            return None;
        }
        let is_fruitless = self.is_fruitless() && !present.is_down();
        let slow = present.owes_since.map(|since| since.saturating_add(self.patience));
        let at = if is_fruitless { Some(0) } else { slow };
        at.map(|at| at.max(self.not_before))
    }

    /// A second broker is asked.
    pub(super) fn handle_begun(&mut self, now: u64) {
        self.gives_up_at = now.saturating_add(2 * self.patience);
    }

    fn grow_patience(&mut self) {
        self.patience = (2 * self.patience).min(PATIENCE_MAX);
    }

    /// When the second connection is given up, unless it answers.
    pub(super) fn gives_up_at(&self) -> u64 {
        self.gives_up_at
    }

    /// The second is of no use. The next is asked at once, if there is one that was not tried.
    pub(super) fn handle_failed(&mut self, now: u64, others_left: bool) {
        let in_vain = self.gives_up_at <= now;
        self.gives_up_at = u64::MAX;
        self.not_before = if others_left { now } else { now.saturating_add(self.patience) };
        if in_vain || !others_left {
            self.grow_patience();
        }
    }

    /// The present connection answered, after so long.
    pub(super) fn handle_answer(&mut self, took: u64) {
        self.not_before = 0;
        if took < PATIENCE_MIN {
            self.patience = PATIENCE_MIN;
        } else if took >= self.patience {
            self.grow_patience();
        }
    }

    /// Another connection is the present one from now on.
    pub(super) fn handle_switched(&mut self) {
        self.gives_up_at = u64::MAX;
        self.lanes.begin_anew();
        self.topics.begin_anew();
    }

    /// Counts answers of the present connection that helped nobody: what `news` they brought, and
    /// whether lanes or topics waited for it. What others asked about in between tells nothing of
    /// how lanes fare.
    pub(super) fn handle_metadata(
        &mut self,
        now: u64,
        news: News,
        for_lanes: bool,
        for_topics: bool,
    ) {
        self.lanes.lapse(now, self.trouble_lasts);
        self.topics.lapse(now, self.trouble_lasts);
        match news {
            News::Moved => return self.handle_moved(),
            News::Added => self.topics = Fruitless::NONE,
            News::Nothing if for_topics => self.topics.add(now),
            News::Nothing => {}
        }
        if for_lanes {
            self.lanes.add(now);
        }
    }

    /// The picture has other leaders now, whoever told of them.
    pub(super) fn handle_moved(&mut self) {
        (self.lanes, self.topics) = (Fruitless::NONE, Fruitless::NONE);
    }

    /// Whether the present connection's answers help nobody.
    pub(super) fn is_fruitless(&self) -> bool {
        self.lanes.is_over() || self.topics.is_over()
    }
}
