//! Records on disk, because there was no room for them in memory: the folder, its files, and the
//! thread that looks how far they have come.
//!
//! Fed by senders ([`Spill::append`]), by the threads that empty stashes (which read files as a
//! [`SpillFile`]) and, at a close, by what is left. The order of locks: a topic's files, then its
//! stash, then a file's progress. Only the first is held while a file is written.

mod file;
mod folder;
mod keeper;
mod recovery;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::Thread;

use file::{SegmentFile, problem_of};
use folder::{files_in, sync_folder, take_lock};
use recovery::{FoundFile, recover};

use super::clock::Clock;
use super::stash_thread::StashMailbox;
use super::threads::OwnThread;
use super::warnings::Warnings;
use crate::config::{SpillConfig, SpillFull, SpillSync};
use crate::engine::batch::{
    CellHandle, Cells, Destination, FlushWaiters, SpillFile, SpillMark, SpilledRange, Stash,
    TopicLanes, TopicState, encode_spill_header, encode_spilled,
};
use crate::engine::policy::UndeliveredRecord;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::RecordParts;
use crate::error::BuildError;
use crate::locking::lock;
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};

/// A file takes no further record once it is this long.
const FILE_BYTES: u64 = 16 << 20;

/// Files that are kept open to be written to. Those of further topics are opened for each record.
const WRITERS_MAX: usize = 64;

/// The number of a folder's first file: what a close leaves goes before files that there are.
const FIRST_NUMBER: u64 = 1 << 40;

/// Files that one close may put before those that there are.
const CLOSE_NUMBERS: u64 = 1 << 20;

/// What [`Spill::append`] did.
pub enum Spilled {
    /// The records are in a file. `asks`: the topic has to be asked about.
    Taken { handles: Vec<CellHandle>, asks: bool },
    /// The folder takes no more, the disk does not, or records of this topic wait for a partition
    /// that is not known: why; and where it is the folder's quota, how many bytes are needed.
    Refused(Problem, Option<u64>),
    /// The producer is closed.
    Closed,
}

/// What is in a spill folder.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use tidegate::embedded::EmbeddedCluster;
/// use tidegate::{Producer, SpillConfig};
///
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let servers = cluster.bootstrap_servers();
/// # let folder = std::env::temp_dir().join(format!("tidegate-status-{}", std::process::id()));
/// let producer = Producer::builder(&servers).spill(SpillConfig::new(&folder)).build()?;
/// let status = producer.spill_status().ok_or("it spills")?;
/// assert_eq!((status.bytes, status.spilled_records), (0, 0));
/// # drop(producer);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpillStatus {
    /// Bytes of files with records that are not acknowledged yet, counted in whole files.
    pub bytes: u64,
    /// What they may take: [`SpillConfig::quota`](crate::SpillConfig#structfield.quota).
    pub quota: u64,
    /// Records that went to the disk since the producer was built.
    pub spilled_records: u64,
    /// Records that were there when it was built, and are sent by it.
    pub recovered_records: u64,
    /// Those of them that an earlier process had begun to send: they may be written twice.
    pub in_doubt_records: u64,
    /// Records that were set aside because of that
    /// ([`SpillInDoubt::SetAside`](crate::SpillInDoubt::SetAside)).
    pub set_aside_records: u64,
    /// Records that did not fit, or could not be written.
    pub refused_records: u64,
}

/// A producer's spill folder.
pub struct Spill {
    config: SpillConfig,
    own: Weak<Spill>,
    /// Held as long as the folder is used.
    lock_file: Mutex<Option<File>>,
    used: AtomicU64,
    next_number: AtomicU64,
    /// The next number before all files that there were.
    front_number: AtomicU64,
    topics: Mutex<BTreeMap<Arc<str>, Arc<Mutex<TopicFiles>>>>,
    writers: AtomicUsize,
    /// Who waits for room.
    pub room: FlushWaiters,
    stashes: Arc<StashMailbox>,
    counts: Mutex<SpillStatus>,
    warnings: Mutex<Warnings>,
    thread: OnceLock<Thread>,
    has_work: AtomicBool,
    /// See [`Spill::hold`].
    is_held: AtomicBool,
    /// Held while the thread looks at the files.
    looking: Mutex<()>,
    stopped: AtomicBool,
    own_thread: Mutex<Option<OwnThread>>,
}

/// The files of one topic, oldest first.
#[derive(Default)]
struct TopicFiles {
    files: Vec<Arc<SegmentFile>>,
    /// The last of them takes more.
    is_open: bool,
    writer: Option<File>,
    /// What takes the records that a close leaves.
    front: Option<(Arc<SegmentFile>, File)>,
}

/// Records that an earlier process has left, of one topic.
pub struct RecoveredTopic {
    /// Its name.
    pub topic: String,
    runs: Vec<(SpilledRange, u32, bool)>,
}

impl Spill {
    /// Takes a folder, reads what is in it, and starts the thread.
    ///
    /// # Errors
    /// The folder is used by another producer, or the system refuses something.
    pub fn open(
        config: &SpillConfig,
        stashes: Arc<StashMailbox>,
    ) -> Result<(Arc<Spill>, Vec<RecoveredTopic>), BuildError> {
        let refuse = |error: io::Error| BuildError::System {
            what: "the spill folder",
            problem: problem_of(&config.directory, "used", error),
        };
        std::fs::create_dir_all(&config.directory).map_err(refuse)?;
        let lock_file = take_lock(&config.directory, refuse)?;
        let mut found = Vec::new();
        let mut numbers = Vec::new();
        for (number, path) in files_in(&config.directory).map_err(refuse)? {
            numbers.push(number);
            found.extend(recover(&path, config.in_doubt).map_err(refuse)?);
        }
        let first = numbers.first().copied().unwrap_or(FIRST_NUMBER);
        let next = numbers.last().map_or(FIRST_NUMBER, |last| last + 1);
        let spill = Arc::new_cyclic(|own| Spill {
            config: config.clone(),
            own: own.clone(),
            lock_file: Mutex::new(Some(lock_file)),
            used: AtomicU64::new(found.iter().map(|it| it.len).sum()),
            next_number: AtomicU64::new(next),
            front_number: AtomicU64::new(first.saturating_sub(CLOSE_NUMBERS)),
            topics: Mutex::default(),
            writers: AtomicUsize::new(0),
            room: FlushWaiters::default(),
            stashes,
            counts: Mutex::new(SpillStatus { quota: config.quota, ..SpillStatus::default() }),
            warnings: Mutex::default(),
            thread: OnceLock::new(),
            has_work: AtomicBool::new(false),
            is_held: AtomicBool::new(false),
            looking: Mutex::new(()),
            stopped: AtomicBool::new(false),
            own_thread: Mutex::default(),
        });
        let recovered = spill.adopt(found);
        let own = spill.clone();
        let thread = OwnThread::spawn("tidegate-spill", move || own.run()).map_err(refuse)?;
        let _ = spill.thread.set(thread.thread().clone());
        *lock(&spill.own_thread) = Some(thread);
        Ok((spill, recovered))
    }

    fn adopt(&self, found: Vec<FoundFile>) -> Vec<RecoveredTopic> {
        let mut topics = BTreeMap::<String, RecoveredTopic>::new();
        let mut counts = *lock(&self.counts);
        for FoundFile { path, topic, len, mark, runs, in_doubt, set_aside } in found {
            counts.in_doubt_records += in_doubt;
            counts.set_aside_records += set_aside;
            if runs.is_empty() {
                self.used.fetch_sub(len, Ordering::SeqCst);
                continue;
            }
            let file = SegmentFile::new(path, self.own.clone(), (len, mark), self.syncs_marks());
            lock(&self.files_of(&topic)).files.push(file.clone());
            let recovered = topics.entry(topic.clone());
            let recovered = recovered.or_insert_with(|| RecoveredTopic { topic, runs: Vec::new() });
            for run in runs {
                counts.recovered_records += u64::from(run.records);
                let file: Arc<dyn SpillFile> = file.clone();
                let range = SpilledRange { file, at: run.at, len: run.len };
                recovered.runs.push((range, run.records, run.together));
            }
        }
        *lock(&self.counts) = counts;
        if counts.recovered_records > 0 {
            log::info!(
                "spill: {} records of an earlier process are sent; it had begun to send {} of them",
                counts.recovered_records,
                counts.in_doubt_records
            );
        }
        topics.into_values().collect()
    }

    /// Puts what an earlier process has left before everything that is sent to the topic.
    pub fn restore(&self, topic: &Arc<TopicLanes>, cells: &Cells, recovered: RecoveredTopic) {
        let destination = Destination { topic: topic.name.clone(), partition: None };
        let now = Clock.now();
        let mut stash = topic.lock_stash();
        for (range, records, together) in recovered.runs {
            stash.push_recovered(cells, &destination, (range, records), (now, together));
        }
        // The metadata thread may have learnt of the topic already, and found nothing to move.
        let is_known = topic.state() != TopicState::Unknown;
        if is_known {
            topic.set_draining(&stash);
        }
        drop(stash);
        if is_known {
            self.stashes.drain(topic.clone());
        }
    }

    /// Writes records behind everything of their topic that waits.
    pub fn append(
        &self,
        topic: &Arc<TopicLanes>,
        cells: &Cells,
        partition: Option<PartitionId>,
        records: &[(i64, RecordParts<'_>)],
    ) -> Spilled {
        let bytes = encode(partition, records);
        let files = self.files_of(&topic.name);
        let mut files = lock(&files);
        if let Err(obstacle) = check_stash(topic, &topic.lock_stash(), partition) {
            return obstacle;
        }
        let written = self.write(&mut files, &topic.name, &bytes);
        let (file, at) = match written {
            Ok(written) => written,
            Err(problem) => {
                drop(files);
                let is_quota = problem.kind() == ProblemKind::Limit;
                lock(&self.counts).refused_records += records.len() as u64;
                self.warn(&problem);
                return Spilled::Refused(problem, is_quota.then_some(bytes.len() as u64));
            }
        };
        let destination = Destination { topic: topic.name.clone(), partition: None };
        let mut stash = topic.lock_stash();
        if let Err(obstacle) = check_stash(topic, &stash, partition) {
            drop(stash);
            self.take_back(&file, at);
            return obstacle;
        }
        let is_first = stash.is_empty();
        let range = SpilledRange { file, at, len: bytes.len() };
        let timestamps = records.iter().map(|(timestamp, _)| *timestamp);
        let as_one = (Clock.now(), records.len() > 1);
        let handles = stash.push_spilled(cells, &destination, range, timestamps, as_one);
        let is_known = topic.state() != TopicState::Unknown;
        if is_known {
            topic.set_draining(&stash);
        }
        drop(stash);
        drop(files);
        lock(&self.counts).spilled_records += records.len() as u64;
        if is_first && is_known {
            self.stashes.drain(topic.clone());
        }
        if self.config.sync != SpillSync::Never {
            self.wake();
        }
        Spilled::Taken { handles, asks: is_first && !is_known }
    }

    /// Keeps a record that a close has left, before all that lies in files already. Returns whether
    /// it could.
    pub fn keep(&self, topic: &Arc<str>, record: &UndeliveredRecord<'_>) -> bool {
        let (key, value) = (record.key(), record.value());
        let parts = RecordParts { key, value, headers: record.headers() };
        let partition = record.partition().map(PartitionId);
        let bytes = encode(partition, &[(record.timestamp_ms(), parts)]);
        let files = self.files_of(topic);
        let mut files = lock(&files);
        if files.is_open {
            // Those that there are stay behind what comes now.
            self.close_writer(&mut files);
        }
        let written = self.front_of(topic, &mut files).and_then(|(file, writer)| {
            let written = file.append(writer, &bytes, false);
            written.map_err(|error| problem_of(&file.path, "written", error))
        });
        match written {
            Ok(_) => {
                self.used.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                true
            }
            Err(problem) => {
                drop(files);
                self.warn(&problem);
                false
            }
        }
    }

    /// The file that takes what a close leaves, opened to be written to.
    fn front_of<'f>(
        &self,
        topic: &Arc<str>,
        files: &'f mut TopicFiles,
    ) -> Result<&'f mut (Arc<SegmentFile>, File), Problem> {
        if files.front.as_ref().is_none_or(|(file, _)| file.len() >= FILE_BYTES) {
            let number = self.front_number.fetch_add(1, Ordering::SeqCst);
            let made = self.make(topic, number)?;
            files.files.push(made.0.clone());
            files.front = Some(made);
        }
        Ok(files.front.as_mut().expect("it was just made"))
    }

    fn files_of(&self, topic: &str) -> Arc<Mutex<TopicFiles>> {
        let mut topics = lock(&self.topics);
        match topics.get(topic) {
            Some(files) => files.clone(),
            None => topics.entry(topic.into()).or_default().clone(),
        }
    }

    fn write(
        &self,
        files: &mut TopicFiles,
        topic: &Arc<str>,
        bytes: &[u8],
    ) -> Result<(Arc<SegmentFile>, u64), Problem> {
        let (len, quota) = (bytes.len() as u64, self.config.quota);
        let fits = |used: u64| used.checked_add(len).filter(|&sum| sum <= quota);
        let reserved = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits);
        if reserved.is_err() {
            let folder = self.config.directory.display();
            let text = format!("the {quota} bytes that {folder} may take are used up");
            return Err(Problem::new(ProblemKind::Limit, text));
        }
        let written = self.write_reserved(files, topic, bytes);
        if written.is_err() {
            self.used.fetch_sub(len, Ordering::SeqCst);
        }
        written
    }

    fn write_reserved(
        &self,
        files: &mut TopicFiles,
        topic: &Arc<str>,
        bytes: &[u8],
    ) -> Result<(Arc<SegmentFile>, u64), Problem> {
        let file_bytes = FILE_BYTES.min(self.config.quota / 4);
        if files.is_open && files.files.last().is_some_and(|file| file.len() >= file_bytes) {
            self.close_writer(files);
        }
        if !files.is_open {
            let number = self.next_number.fetch_add(1, Ordering::SeqCst);
            let (file, writer) = self.make(topic, number)?;
            files.files.push(file);
            (files.is_open, files.writer) = (true, None);
            if self.writers.fetch_add(1, Ordering::SeqCst) < WRITERS_MAX {
                files.writer = Some(writer);
            } else {
                self.writers.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let file = files.files.last().expect("there is one that is open").clone();
        let told = |error| problem_of(&file.path, "written", error);
        let sync = self.config.sync == SpillSync::Always;
        let at = match &mut files.writer {
            Some(writer) => file.append(writer, bytes, sync).map_err(told)?,
            None => {
                let mut writer = file.open().map_err(told)?;
                file.append(&mut writer, bytes, sync).map_err(told)?
            }
        };
        Ok((file, at))
    }

    /// Makes a file, with its header.
    fn make(&self, topic: &str, number: u64) -> Result<(Arc<SegmentFile>, File), Problem> {
        let path = self.config.directory.join(format!("{number:020}.spill"));
        let told = |error| problem_of(&path, "made", error);
        let header = encode_spill_header(topic);
        let mut writer =
            OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(told)?;
        let len = header.len() as u64;
        let mark = SpillMark { done: len, handed: len };
        let file = SegmentFile::new(path.clone(), self.own.clone(), (0, mark), self.syncs_marks());
        let is_synced = self.config.sync != SpillSync::Never;
        let written = file.append(&mut writer, &header, is_synced);
        let written = written.and_then(|_| match is_synced {
            true => sync_folder(&self.config.directory),
            false => Ok(()),
        });
        if let Err(error) = written {
            let _ = std::fs::remove_file(&path);
            return Err(told(error));
        }
        self.used.fetch_add(len, Ordering::SeqCst);
        Ok((file, writer))
    }

    /// The topic's last file takes no more.
    fn close_writer(&self, files: &mut TopicFiles) {
        files.is_open = false;
        if files.writer.take().is_some() {
            self.writers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Takes back what was appended last, under the lock of the topic's files.
    fn take_back(&self, file: &SegmentFile, at: u64) {
        let len = file.len() - at;
        if let Ok(mut writer) = file.open() {
            file.cut_back(&mut writer, at);
            self.used.fetch_sub(len, Ordering::SeqCst);
        }
    }

    /// Tells the log, once in a while.
    pub(super) fn warn(&self, problem: &Problem) {
        let is_due = lock(&self.warnings).is_due(Clock.now(), problem.message());
        if is_due {
            log::warn!("spill: {problem}");
        }
    }

    /// Whether what is said of a file's progress is forced to the disk with it.
    fn syncs_marks(&self) -> bool {
        self.config.sync == SpillSync::Always
    }

    /// What becomes of records that do not fit.
    pub fn full(&self) -> SpillFull {
        self.config.full
    }

    /// Whether the quota leaves room for so many bytes.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.used.load(Ordering::SeqCst).saturating_add(bytes) <= self.config.quota
    }

    /// What is in the folder.
    pub fn status(&self) -> SpillStatus {
        SpillStatus { bytes: self.used.load(Ordering::SeqCst), ..*lock(&self.counts) }
    }

    /// Has the thread look at the files.
    pub(super) fn wake(&self) {
        if !self.has_work.swap(true, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

/// Whether records of a topic may be put behind what its stash holds.
fn check_stash(
    topic: &TopicLanes,
    stash: &Stash,
    partition: Option<PartitionId>,
) -> Result<(), Spilled> {
    if stash.closed {
        return Err(Spilled::Closed);
    }
    // A stash of a topic that is ready has records for partitions that brokers are being asked for:
    // what is put behind them would end that wait.
    let is_unknown = partition.is_some_and(|it| !it.is_among(topic.partitions()));
    if topic.state() == TopicState::Ready && (is_unknown || !stash.is_empty()) {
        let text = "records of this topic wait for a partition that is not known yet";
        return Err(Spilled::Refused(Problem::new(ProblemKind::Limit, text), None));
    }
    Ok(())
}

/// The records as they stand in a file: one by itself, or several that were sent together.
fn encode(partition: Option<PartitionId>, records: &[(i64, RecordParts<'_>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, (timestamp, parts)) in records.iter().enumerate() {
        let goes_on = index + 1 < records.len();
        encode_spilled(&mut bytes, partition, *timestamp, parts, goes_on);
    }
    bytes
}
