//! The thread that reads the input and sends its records.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use tidegate::{Delivery, Record, SendErrorKind, Topic};

use super::input::{Piece, Pieces};
use crate::signals::Stop;

/// Records in a chunk at the most.
const CHUNK_MAX: usize = 1_024;

/// A record's way so far.
pub(super) enum Sent {
    Accepted(Delivery),
    /// It was not sent, for this reason.
    Refused(String),
    /// It was not sent because the command ends.
    TooLate,
}

/// Records that follow one another in one input.
pub(super) struct Chunk {
    pub(super) source: Arc<Source>,
    /// The number of the first one in it, from 1.
    pub(super) first: u64,
    pub(super) records: Vec<Sent>,
}

/// What the sending thread tells.
pub(super) enum News {
    Chunk(Chunk),
    /// An input cannot be read.
    Unreadable {
        input: String,
        why: io::Error,
    },
    /// All inputs were read to their end.
    End,
}

/// An input, and how its records are called.
pub(super) enum Source {
    Stdin,
    Lines(String),
    Whole(String),
}

impl Source {
    /// The name of the record of that number.
    pub(super) fn name(&self, number: u64) -> String {
        match self {
            Source::Stdin => format!("line {number}"),
            Source::Lines(file) => format!("{file}, line {number}"),
            Source::Whole(file) => file.clone(),
        }
    }
}

/// What all records have in common.
pub(super) struct Shape {
    pub(super) delimiter: Vec<u8>,
    pub(super) key_delimiter: Option<Vec<u8>>,
    pub(super) key: Option<String>,
    pub(super) headers: Vec<(String, Option<String>)>,
    pub(super) partition: Option<i32>,
    pub(super) empty_is_null: bool,
    /// Bytes of a record at the most.
    pub(super) bytes_max: usize,
}

impl Shape {
    fn record<'a>(&'a self, bytes: &'a [u8]) -> Record<'a> {
        let fixed = self.key.as_deref().map(str::as_bytes);
        let (key, value) = match self.split(bytes) {
            Some((key, value)) => (Some(key), value),
            None => (fixed, bytes),
        };
        let some = |bytes: &&[u8]| !self.empty_is_null || !bytes.is_empty();
        let mut record = Record::new().key(key.filter(some)).value(Some(value).filter(some));
        for (name, value) in &self.headers {
            record = record.header(name, value.as_deref());
        }
        match self.partition {
            Some(partition) => record.partition(partition),
            None => record,
        }
    }

    fn split<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let delimiter = self.key_delimiter.as_deref()?;
        let at = bytes.windows(delimiter.len()).position(|window| window == delimiter)?;
        Some((&bytes[..at], &bytes[at + delimiter.len()..]))
    }
}

/// What is sent, where to, and when to stop.
pub(super) struct Sending {
    pub(super) topic: Topic,
    pub(super) shape: Shape,
    pub(super) stop: Stop,
    /// Set while the thread waits for its input: nothing else is on its way then.
    pub(super) is_reading: Arc<AtomicBool>,
    /// Set when nothing more is to be read, and what was read is to be sent.
    pub(super) is_enough: Arc<AtomicBool>,
    pub(super) news: SyncSender<News>,
}

/// Nobody listens any more, or the command ends: no more is to be read.
struct Over;

impl Sending {
    /// Sends the files, or without any the standard input.
    pub(super) fn run(self, files: &[std::path::PathBuf], lines: bool) {
        let sent = if files.is_empty() {
            self.send_pieces(&Arc::new(Source::Stdin), io::stdin().lock())
        } else {
            files.iter().try_for_each(|file| self.send_file(file, lines))
        };
        if sent.is_ok() {
            let _ = self.news.send(News::End);
        }
    }

    fn send_file(&self, path: &Path, lines: bool) -> Result<(), Over> {
        if self.stop.is_set() {
            return Err(Over);
        }
        let name = path.display().to_string();
        // A FIFO opens when somebody writes to it.
        match self.waiting(|| File::open(path))? {
            Err(error) => self.tell(News::Unreadable { input: name, why: error }),
            Ok(file) if lines => self.send_pieces(&Arc::new(Source::Lines(name)), file),
            Ok(file) => self.send_whole(name, file),
        }
    }

    fn send_whole(&self, name: String, file: File) -> Result<(), Over> {
        let mut bytes = Vec::new();
        let limit = self.shape.bytes_max as u64 + 1;
        if let Err(error) = self.waiting(|| file.take(limit).read_to_end(&mut bytes))? {
            return self.tell(News::Unreadable { input: name, why: error });
        }
        let sent = if bytes.len() as u64 == limit {
            let max = self.shape.bytes_max;
            Sent::Refused(format!(
                "it is longer than a record may be, which is {max} bytes (max.request.size); -l \
                 sends its lines"
            ))
        } else {
            self.send(&bytes)
        };
        let source = Arc::new(Source::Whole(name));
        self.tell(News::Chunk(Chunk { source, first: 1, records: vec![sent] }))
    }

    fn send_pieces(&self, source: &Arc<Source>, input: impl Read) -> Result<(), Over> {
        let mut pieces = Pieces::new(input, &self.shape.delimiter, self.shape.bytes_max);
        let mut chunk = Chunk { source: source.clone(), first: 1, records: Vec::new() };
        loop {
            while !pieces.is_next_known() {
                self.hand_over(&mut chunk)?;
                if let Err(why) = self.read(&mut pieces)? {
                    let input = match &**source {
                        Source::Stdin => "the standard input".to_owned(),
                        Source::Lines(file) | Source::Whole(file) => file.clone(),
                    };
                    return self.tell(News::Unreadable { input, why });
                }
            }
            let sent = match pieces.next() {
                None => return self.hand_over(&mut chunk),
                Some(Piece::Bytes(bytes)) => self.send(bytes),
                Some(Piece::TooLong) => Sent::Refused(format!(
                    "it is longer than a record may be, which is {} bytes (max.request.size)",
                    self.shape.bytes_max
                )),
            };
            chunk.records.push(sent);
            if chunk.records.len() == CHUNK_MAX {
                self.hand_over(&mut chunk)?;
            }
        }
    }

    /// Waits for more input.
    fn read<R: Read>(&self, pieces: &mut Pieces<R>) -> Result<io::Result<()>, Over> {
        self.waiting(|| pieces.read())
    }

    /// Does something with the input that may take for ever. What arrives after the command was
    /// asked to end is not sent.
    fn waiting<T>(&self, act: impl FnOnce() -> io::Result<T>) -> Result<io::Result<T>, Over> {
        // In this order, and both sequentially consistent: who sees `is_reading` after it set
        // `stop` knows that nothing more will be sent.
        let ends = || self.stop.is_set() || self.is_enough.load(Ordering::SeqCst);
        self.is_reading.store(true, Ordering::SeqCst);
        if ends() {
            return Err(Over);
        }
        let done = act();
        self.is_reading.store(false, Ordering::SeqCst);
        if ends() {
            self.is_reading.store(true, Ordering::SeqCst);
            return Err(Over);
        }
        Ok(done)
    }

    fn send(&self, bytes: &[u8]) -> Sent {
        if self.stop.is_set() {
            return Sent::TooLate;
        }
        match self.topic.send_record(self.shape.record(bytes)) {
            Ok(delivery) => Sent::Accepted(delivery),
            Err(error) if *error.kind() == SendErrorKind::Closed => Sent::TooLate,
            Err(error) => Sent::Refused(error.to_string()),
        }
    }

    fn hand_over(&self, chunk: &mut Chunk) -> Result<(), Over> {
        if chunk.records.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut chunk.records);
        let (source, first) = (chunk.source.clone(), chunk.first);
        chunk.first += records.len() as u64;
        self.tell(News::Chunk(Chunk { source, first, records }))
    }

    fn tell(&self, news: News) -> Result<(), Over> {
        self.news.send(news).map_err(|_| Over)?;
        if self.stop.is_set() { Err(Over) } else { Ok(()) }
    }
}
