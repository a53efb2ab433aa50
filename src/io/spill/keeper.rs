//! The thread that looks how far spilled records have come.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::file::{SegmentFile, problem_of};
use super::folder::keep_aside;
use super::{Spill, TopicFiles};
use crate::config::SpillSync;
use crate::engine::batch::SpillFile;
use crate::io::clock::Clock;
use crate::io::threads::Watch;
use crate::locking::lock;
use crate::logging as log;
use crate::problem::Problem;

/// How often files are looked at while records of theirs are on their way.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Spill {
    /// The thread's work.
    pub(super) fn run(&self) {
        let mut synced_at = Clock.now();
        while !self.stopped.load(Ordering::SeqCst) {
            match self.has_work.swap(false, Ordering::SeqCst) {
                false => std::thread::park(),
                true => {
                    if self.look(false, &mut synced_at) {
                        self.has_work.store(true, Ordering::SeqCst);
                        std::thread::park_timeout(LOOK_AGAIN);
                    }
                }
            }
        }
    }

    /// Looks at all files. Returns whether it has to look again.
    fn look(&self, is_last: bool, synced_at: &mut u64) -> bool {
        let now = Clock.now();
        let is_sync_due = match self.config.sync {
            SpillSync::Every(time) => is_last || *synced_at + crate::io::nanos(time) <= now,
            _ => is_last && self.config.sync != SpillSync::Never,
        };
        if is_sync_due {
            *synced_at = now;
        }
        let mut again = false;
        let topics: Vec<_> = lock(&self.topics).values().cloned().collect();
        for topic in topics {
            let files = lock(&topic).files.clone();
            for file in files {
                if is_sync_due && file.take_dirty() {
                    let synced = file.open().and_then(|file| file.sync_data());
                    if let Err(error) = synced {
                        self.warn(&problem_of(&file.path, "written", error));
                    }
                }
                let progressed = file.look(is_last);
                for (at, end, problem) in progressed.damaged {
                    self.keep_damaged(&file, (at, end), &problem);
                }
                let is_dirty = matches!(self.config.sync, SpillSync::Every(_)) && file.is_dirty();
                again |= progressed.is_pending || is_dirty;
                if progressed.done >= file.len() {
                    self.remove(&topic, &file, progressed.done);
                }
            }
        }
        again
    }

    /// Deletes a file of which all is done with, unless something was appended meanwhile.
    fn remove(&self, topic: &Mutex<TopicFiles>, file: &Arc<SegmentFile>, done: u64) {
        let mut files = lock(topic);
        if file.len() != done {
            return;
        }
        let Some(index) = files.files.iter().position(|it| Arc::ptr_eq(it, file)) else { return };
        if files.is_open && index + 1 == files.files.len() {
            self.close_writer(&mut files);
        }
        files.files.remove(index);
        drop(files);
        if let Err(error) = std::fs::remove_file(&file.path) {
            self.warn(&problem_of(&file.path, "deleted", error));
        }
        self.used.fetch_sub(done, Ordering::SeqCst);
        self.room.notify();
    }

    fn keep_damaged(&self, file: &SegmentFile, (at, end): (u64, u64), problem: &Problem) {
        let mut bytes = Vec::new();
        let aside = file.path.with_extension("damaged");
        let kept = SpillFile::read(file, at, (end - at) as usize, &mut bytes).is_ok()
            && keep_aside(&aside, &bytes).is_ok();
        let (bytes, kept) = (end - at, if kept { "kept" } else { "lost, and could not be kept" });
        log::error!("spill: {problem}; {bytes} bytes are {kept} ({})", aside.display());
    }

    /// The producer has ended: writes down how far the records came, and gives the folder up.
    pub fn finish(&self, watch: &mut Watch) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        if let Some(thread) = lock(&self.own_thread).take() {
            thread.join_in_time(watch);
        }
        self.look(true, &mut 0);
        *lock(&self.lock_file) = None;
    }
}
