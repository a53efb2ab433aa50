//! Java's own clients as the judges: what its consumer reads, and where its producer would send.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::cluster::Cluster;
use super::process::{self, Output, Process};

/// After its last output a program only closes its client, within a second.
pub(super) const END_LIMIT: Duration = Duration::from_secs(180);

/// `ReadBack` gives up by itself when nothing more arrives; this limits one frame, far above what
/// a broker stores as one record here.
const FRAME_BYTES_MAX: u32 = 256 << 20;

/// How a record got its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// It has none.
    None,
    /// From the producer.
    CreateTime,
    /// From the broker's clock.
    LogAppendTime,
}

/// A record as Java's consumer read it, borrowed from the reader's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The partition it lies in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Whose clock that was.
    pub timestamp_type: TimestampType,
    /// The key; an empty one differs from none.
    pub key: Option<&'a [u8]>,
    /// The value; an empty one differs from none.
    pub value: Option<&'a [u8]>,
    /// All headers in order, also those of one name.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

/// A record as Java's consumer read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// The partition it lies in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Whose clock that was.
    pub timestamp_type: TimestampType,
    /// The key; an empty one differs from none.
    pub key: Option<Vec<u8>>,
    /// The value; an empty one differs from none.
    pub value: Option<Vec<u8>>,
    /// All headers in order, also those of one name.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl RecordView<'_> {
    /// A copy that owns its bytes.
    pub fn to_owned(&self) -> ReadRecord {
        let headers = self.headers.iter();
        ReadRecord {
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            timestamp_type: self.timestamp_type,
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
            headers: headers.map(|&(k, v)| (k.to_owned(), v.map(<[u8]>::to_vec))).collect(),
        }
    }
}

impl Cluster {
    /// Hands every record of a topic to `each`, as read by Java's consumer with CRC checks and
    /// `read_committed`, up to the ends that the partitions have now. Offsets ascend within a
    /// partition; partitions mix. Gives the number of records.
    #[track_caller]
    pub fn read_back_each(&self, topic: &str, each: impl FnMut(RecordView<'_>)) -> u64 {
        self.read_elsewhere(&self.running_servers(), topic, each)
    }

    /// The same, of a topic of other brokers than this cluster's, whose Java client reads it.
    #[track_caller]
    pub fn read_elsewhere(
        &self,
        servers: &str,
        topic: &str,
        mut each: impl FnMut(RecordView<'_>),
    ) -> u64 {
        let arguments = [servers.to_owned(), topic.to_owned()];
        let (mut process, log) = self.run_tool("ReadBack", "512m", &arguments);
        let stdout = process.take_stdout().expect("the tool was started with a pipe");
        let mut input = BufReader::with_capacity(1 << 20, stdout);
        let read = read_frames(&mut input, &mut each);
        let status = process.wait(END_LIMIT);
        match read {
            Ok(count) if status == Some(0) => count,
            Ok(_) => panic!("reading {topic} back ended with {status:?}:\n{}", tail(&log)),
            Err(error) => panic!("reading {topic} back: {error}:\n{}", tail(&log)),
        }
    }

    /// Every record of a topic, by partition, then offset; see [`Cluster::read_back_each`].
    #[track_caller]
    pub fn read_back(&self, topic: &str) -> Vec<ReadRecord> {
        let mut records = Vec::new();
        self.read_back_each(topic, |record| records.push(record.to_owned()));
        records.sort_by_key(|record| record.partition);
        records
    }

    /// Sends a record for each key with Java's producer, and gives the partitions that its
    /// default partitioner chose, in the order of the keys.
    #[track_caller]
    pub fn java_partitions<K: AsRef<[u8]>>(&self, topic: &str, keys: &[K]) -> Vec<i32> {
        let file = tempfile::Builder::new().prefix("keys-").tempfile_in(self.folder());
        let file = file.expect("the cluster's folder takes files");
        write_keys(file.path(), keys).unwrap_or_else(|error| panic!("writing keys: {error}"));
        let keys_file = file.path().display().to_string();
        let arguments = [self.running_servers(), topic.to_owned(), keys_file];
        let (mut process, log) = self.run_tool("KeyedProducer", "256m", &arguments);
        let stdout = process.take_stdout().expect("the tool was started with a pipe");
        let mut partitions = Vec::with_capacity(keys.len());
        for line in BufReader::new(stdout).lines() {
            let line = line.unwrap_or_else(|error| panic!("Java's producer: {error}"));
            let (key, partition) =
                line.split_once(' ').unwrap_or_else(|| panic!("not a key and a partition: {line}"));
            let expected = keys.get(partitions.len()).map(|key| hex(key.as_ref()));
            assert_eq!(Some(key), expected.as_deref(), "Java's producer sent another key");
            partitions.push(partition.parse().unwrap_or_else(|error| panic!("{line}: {error}")));
        }
        let status = process.wait(END_LIMIT);
        assert_eq!(status, Some(0), "Java's producer failed:\n{}", tail(&log));
        assert_eq!(partitions.len(), keys.len(), "Java's producer left keys out");
        partitions
    }

    /// Writes transactions to partition 0 of a topic with Java's producer, some of which it aborts.
    #[track_caller]
    pub fn write_transactions(&self, topic: &str, count: u32) {
        let arguments = [self.running_servers(), topic.to_owned(), count.to_string()];
        let (mut process, log) = self.run_tool("Transactions", "256m", &arguments);
        // It prints nothing; its end closes the pipe.
        drop(process.take_stdout());
        let status = process.wait(END_LIMIT);
        assert_eq!(status, Some(0), "writing transactions failed:\n{}", tail(&log));
    }

    #[track_caller]
    pub(super) fn run_tool(
        &self,
        class: &str,
        heap: &str,
        arguments: &[String],
    ) -> (Process, TempLog) {
        let log =
            tempfile::Builder::new().prefix("tool-").suffix(".log").tempfile_in(self.folder());
        let log = log.expect("the cluster's folder takes files").into_temp_path();
        let mut command = self.install().tool_arguments(heap, self.folder());
        command.push(class.to_owned());
        command.extend(arguments.iter().cloned());
        let process = Process::spawn("java", command, &log, Output::Pipe);
        (process.unwrap_or_else(|error| panic!("starting {class}: {error}")), log)
    }
}

pub(super) type TempLog = tempfile::TempPath;

pub(super) fn tail(log: &Path) -> String {
    process::tail(log, process::TAIL_LINES)
}

/// Reads frames up to the end mark and checks the number that it carries.
fn read_frames(input: &mut impl Read, each: &mut impl FnMut(RecordView<'_>)) -> io::Result<u64> {
    let mut frame = Vec::new();
    let mut count = 0;
    loop {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        if length == [0xff; 4] {
            let mut total = [0; 8];
            input.read_exact(&mut total)?;
            let total = u64::from_be_bytes(total);
            return if total == count {
                Ok(count)
            } else {
                Err(invalid(&format!("{count} records arrived of {total}")))
            };
        }
        let length = u32::from_be_bytes(length);
        if length > FRAME_BYTES_MAX {
            return Err(invalid("a frame is too long"));
        }
        frame.resize(length as usize, 0);
        input.read_exact(&mut frame)?;
        each(record(&frame).ok_or_else(|| invalid("a frame is damaged"))?);
        count += 1;
    }
}

fn record(frame: &[u8]) -> Option<RecordView<'_>> {
    let mut rest = frame;
    let partition = i32::from_be_bytes(take(&mut rest)?);
    let offset = i64::from_be_bytes(take(&mut rest)?);
    let timestamp = i64::from_be_bytes(take(&mut rest)?);
    let timestamp_type = match i8::from_be_bytes(take(&mut rest)?) {
        -1 => TimestampType::None,
        0 => TimestampType::CreateTime,
        1 => TimestampType::LogAppendTime,
        _ => return None,
    };
    let key = bytes(&mut rest)?;
    let value = bytes(&mut rest)?;
    let header_count = u32::from_be_bytes(take(&mut rest)?);
    let mut headers = Vec::new();
    for _ in 0..header_count {
        let name = std::str::from_utf8(bytes(&mut rest)??).ok()?;
        headers.push((name, bytes(&mut rest)?));
    }
    let view = RecordView { partition, offset, timestamp, timestamp_type, key, value, headers };
    rest.is_empty().then_some(view)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

/// A byte string: the outer `Option` is for damage, the inner one for null.
fn bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = i32::from_be_bytes(take(rest)?);
    if length == -1 {
        return Some(None);
    }
    let (head, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = tail;
    Some(Some(head))
}

fn write_keys<K: AsRef<[u8]>>(path: &Path, keys: &[K]) -> io::Result<()> {
    let mut file = io::BufWriter::new(std::fs::File::create(path)?);
    let length = |length: usize| u32::try_from(length).map_err(io::Error::other);
    file.write_all(&length(keys.len())?.to_be_bytes())?;
    for key in keys {
        let key = key.as_ref();
        file.write_all(&length(key.len())?.to_be_bytes())?;
        file.write_all(key)?;
    }
    file.flush()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
