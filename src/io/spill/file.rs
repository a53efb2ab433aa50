//! One file of spilled records.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::Spill;
use crate::engine::batch::{LaneTail, MARK_AT, NotRead, SpillFile, SpillMark};
use crate::locking::lock;
use crate::problem::{Problem, ProblemKind};

/// A file, as the producer that writes and reads it sees it. It is opened for each use: thousands
/// of topics may have one.
pub(super) struct SegmentFile {
    pub path: PathBuf,
    spill: Weak<Spill>,
    /// A power failure must not make the mark older than what was sent.
    syncs_marks: bool,
    /// How long it is. Written under the lock of the topic's files.
    len: AtomicU64,
    progress: Mutex<Progress>,
    /// Held while a mark is made and written: an older one must not come after a newer one, or
    /// records that are on their way would count as never sent.
    marking: Mutex<()>,
}

/// How far a file's records have come.
struct Progress {
    mark: SpillMark,
    /// What the mark in the file says.
    written: SpillMark,
    /// Records from here on were moved nowhere by this process.
    moved: u64,
    /// Up to here an earlier process had begun to send.
    doubted: u64,
    /// Ends of runs, in order, each with what has to resolve before it is done with.
    runs: VecDeque<MovedRun>,
    /// Something was written that was not forced to the disk.
    is_dirty: bool,
}

struct MovedRun {
    end: u64,
    lanes: Vec<(Arc<LaneTail>, u64)>,
    /// From here up to the end the file has something else than records, and what is wrong.
    damage: Option<(u64, Problem)>,
}

/// What a look at a file has found.
pub(super) struct Progressed {
    /// Whether something is still to be waited for.
    pub is_pending: bool,
    /// Whether records have come further since the last look.
    pub is_news: bool,
    /// Everything up to here is done with.
    pub done: u64,
    /// What is to be kept aside.
    pub damaged: Vec<(u64, u64, Problem)>,
}

impl SegmentFile {
    /// A file that has `len` bytes, and whose records from `mark.done` on wait.
    pub(super) fn new(
        path: PathBuf,
        spill: Weak<Spill>,
        (len, mark): (u64, SpillMark),
        syncs_marks: bool,
    ) -> Arc<Self> {
        let (moved, runs) = (mark.done, VecDeque::new());
        let doubted = mark.handed;
        let progress = Progress { mark, written: mark, moved, doubted, runs, is_dirty: false };
        Arc::new(SegmentFile {
            path,
            spill,
            syncs_marks,
            len: AtomicU64::new(len),
            progress: Mutex::new(progress),
            marking: Mutex::new(()),
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Appends with `writer`. What a failed write has left is cut off again.
    pub(super) fn append(&self, writer: &mut File, bytes: &[u8], sync: bool) -> io::Result<u64> {
        let at = self.len();
        let written = writer.seek(SeekFrom::Start(at)).and_then(|_| writer.write_all(bytes));
        let written = written.and_then(|()| if sync { writer.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            let _ = writer.set_len(at);
            return Err(error);
        }
        self.len.store(at + bytes.len() as u64, Ordering::Release);
        lock(&self.progress).is_dirty |= !sync;
        Ok(at)
    }

    /// Takes back what was appended last.
    pub(super) fn cut_back(&self, writer: &mut File, at: u64) {
        if writer.set_len(at).is_ok() {
            self.len.store(at, Ordering::Release);
        }
    }

    /// Looks how far the records have come, and writes that into the file. With `is_last` nothing
    /// more is going to be moved.
    pub(super) fn look(&self, is_last: bool) -> Progressed {
        let _marking = lock(&self.marking);
        let (mark, is_news, damaged, is_pending) = {
            let mut progress = lock(&self.progress);
            let mut damaged = Vec::new();
            while let Some(run) = progress.runs.front() {
                if run.lanes.iter().any(|(lane, below)| lane.resolved() < *below) {
                    break;
                }
                let Some(run) = progress.runs.pop_front() else { break };
                damaged.extend(run.damage.map(|(at, problem)| (at, run.end, problem)));
                progress.mark.done = run.end;
            }
            progress.mark.handed = progress.mark.handed.max(progress.mark.done);
            if is_last {
                // What was read and not moved is in no doubt, unless an earlier process had it.
                let begun = progress.moved.max(progress.doubted);
                progress.mark.handed = begun.max(progress.mark.done);
            }
            let is_news = progress.mark != progress.written;
            progress.written = progress.mark;
            (progress.mark, is_news, damaged, !progress.runs.is_empty())
        };
        // Also of a file that is about to be deleted: that may fail, and the next process would
        // send all of it again.
        if is_news {
            let _ = self.open().and_then(|mut file| write_mark(&mut file, mark));
        }
        Progressed { is_pending, is_news, done: mark.done, damaged }
    }

    /// Whether something was written since this was called last.
    pub(super) fn take_dirty(&self) -> bool {
        std::mem::take(&mut lock(&self.progress).is_dirty)
    }

    pub(super) fn is_dirty(&self) -> bool {
        lock(&self.progress).is_dirty
    }

    /// Opens it for reading and writing.
    pub(super) fn open(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.path)
    }

    fn read_from(&self, at: u64, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let mut file = self.open()?;
        let marking = lock(&self.marking);
        let mark = {
            let mut progress = lock(&self.progress);
            progress.mark.handed = progress.mark.handed.max(at + len as u64);
            progress.written = progress.mark;
            progress.mark
        };
        // Before a connection can have the first of them: a process that is killed from here on
        // leaves them in doubt.
        write_mark(&mut file, mark)?;
        if self.syncs_marks {
            file.sync_data()?;
        }
        drop(marking);
        file.seek(SeekFrom::Start(at))?;
        out.resize(len, 0);
        file.read_exact(out)
    }

    fn note_moved(
        &self,
        end: u64,
        lanes: Vec<(Arc<LaneTail>, u64)>,
        damage: Option<(u64, Problem)>,
    ) {
        let mut progress = lock(&self.progress);
        progress.moved = progress.moved.max(end);
        progress.runs.push_back(MovedRun { end, lanes, damage });
        drop(progress);
        if let Some(spill) = self.spill.upgrade() {
            spill.wake();
        }
    }
}

impl SpillFile for SegmentFile {
    fn read(&self, at: u64, len: usize, out: &mut Vec<u8>) -> Result<(), NotRead> {
        self.read_from(at, len, out).map_err(|error| {
            let kind = error.kind();
            let problem = problem_of(&self.path, "read", error);
            if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) {
                return NotRead::Gone(problem);
            }
            if let Some(spill) = self.spill.upgrade() {
                spill.warn(&problem);
            }
            NotRead::Later
        })
    }

    fn handle_moved(&self, end: u64, lanes: Vec<(Arc<LaneTail>, u64)>) {
        self.note_moved(end, lanes, None);
    }

    fn handle_damaged(&self, at: u64, end: u64, problem: &Problem) {
        self.note_moved(end, Vec::new(), Some((at, problem.clone())));
    }
}

/// What the system says of a file, in words.
pub(super) fn problem_of(path: &Path, what: &str, error: io::Error) -> Problem {
    let text = format!("{} cannot be {what}: {error}", path.display());
    Problem::told_by(ProblemKind::System, text, error)
}

fn write_mark(file: &mut File, mark: SpillMark) -> io::Result<()> {
    file.seek(SeekFrom::Start(MARK_AT))?;
    file.write_all(&mark.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mark that a process writes at its end, of a file that it found with this one, after it
    /// has read so far and moved so far.
    fn mark_at_end(found: SpillMark, read: u64, moved: Option<u64>) -> SpillMark {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.spill");
        std::fs::write(&path, [0; 200]).unwrap();
        let file = SegmentFile::new(path.clone(), Weak::new(), (200, found), false);
        if read > found.done {
            let len = (read - found.done) as usize;
            assert!(file.read(found.done, len, &mut Vec::new()).is_ok());
        }
        if let Some(end) = moved {
            file.handle_moved(end, Vec::new());
        }
        file.look(true);
        let bytes = std::fs::read(&path).unwrap();
        SpillMark::decode(&bytes[MARK_AT as usize..]).unwrap_or(found)
    }

    #[test]
    fn what_was_read_and_not_moved_is_in_no_doubt_after_a_close() {
        let found = SpillMark { done: 60, handed: 60 };
        assert_eq!(mark_at_end(found, 160, Some(100)), SpillMark { done: 100, handed: 100 });
        assert_eq!(mark_at_end(found, 160, None), found);
    }

    #[test]
    fn what_an_earlier_process_had_begun_to_send_stays_in_doubt_until_it_is_done_with() {
        let found = SpillMark { done: 60, handed: 120 };
        assert_eq!(mark_at_end(found, 160, None), found);
        assert_eq!(mark_at_end(found, 160, Some(100)), SpillMark { done: 100, handed: 120 });
        assert_eq!(mark_at_end(found, 160, Some(160)), SpillMark { done: 160, handed: 160 });
    }
}
