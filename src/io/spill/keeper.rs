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

/// How often files are looked at while records of theirs are on their way, at first and, as long as
/// nothing comes of it, at last: brokers may take nothing for hours.
const LOOKS: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// What a look at the files has found.
#[derive(Default)]
struct Looked {
    /// Something is still on its way.
    again: bool,
    /// Some have come further.
    any_progress: bool,
    /// There may be room for more.
    any_done: bool,
    problems: Vec<Problem>,
    /// What was kept aside.
    damaged: Vec<String>,
}

impl Spill {
    /// The thread's work.
    pub(super) fn run(&self) {
        let (mut synced_at, mut pause) = (Clock.now(), LOOKS[0]);
        while !self.stopped.load(Ordering::SeqCst) {
            match self.has_work.swap(false, Ordering::SeqCst) {
                false => std::thread::park(),
                true => {
                    let looking = lock(&self.looking);
                    let is_held = self.is_held.load(Ordering::SeqCst);
                    let looked = match is_held {
                        true => Looked::default(),
                        false => self.look(false, &mut synced_at),
                    };
                    drop(looking);
                    pause = if looked.any_progress { LOOKS[0] } else { (2 * pause).min(LOOKS[1]) };
                    if self.tell(looked) {
                        self.has_work.store(true, Ordering::SeqCst);
                        std::thread::park_timeout(self.until_sync(pause));
                    }
                }
            }
        }
    }

    /// A pause that does not hold up forcing files to the disk.
    fn until_sync(&self, pause: Duration) -> Duration {
        match self.config.sync {
            SpillSync::Every(time) => pause.min(time),
            _ => pause,
        }
    }

    /// A close fails what is left in lanes, and keeps it anew ([`Spill::keep`]): until
    /// [`Spill::finish`] nothing counts as done with, so that no moment is without a copy.
    pub fn hold(&self) {
        self.is_held.store(true, Ordering::SeqCst);
        // A look that has begun ends before anything is failed.
        drop(lock(&self.looking));
    }

    /// Tells the log what went wrong, and who waits that there is room, with no lock held. Returns
    /// whether to look again.
    fn tell(&self, looked: Looked) -> bool {
        looked.problems.iter().for_each(|problem| self.warn(problem));
        looked.damaged.iter().for_each(|text| log::error!("spill: {text}"));
        if looked.any_done {
            self.room.notify();
        }
        looked.again
    }

    /// Looks at all files.
    fn look(&self, is_last: bool, synced_at: &mut u64) -> Looked {
        let now = Clock.now();
        let is_sync_due = match self.config.sync {
            SpillSync::Every(time) => is_last || *synced_at + crate::io::nanos(time) <= now,
            _ => is_last && self.config.sync != SpillSync::Never,
        };
        if is_sync_due {
            *synced_at = now;
        }
        let mut looked = Looked::default();
        let topics: Vec<_> = lock(&self.topics).values().cloned().collect();
        for topic in topics {
            let files = lock(&topic).files.clone();
            for file in files {
                if is_sync_due && file.take_dirty() {
                    let synced = file.open().and_then(|file| file.sync_data());
                    if let Err(error) = synced {
                        looked.problems.push(problem_of(&file.path, "written", error));
                    }
                }
                let progressed = file.look(is_last);
                for (at, end, problem) in progressed.damaged {
                    looked.damaged.push(keep_damaged(&file, (at, end), &problem));
                }
                let is_dirty = matches!(self.config.sync, SpillSync::Every(_)) && file.is_dirty();
                looked.again |= progressed.is_pending || is_dirty;
                looked.any_progress |= progressed.is_news;
                if progressed.done >= file.len() {
                    looked.any_done = true;
                    looked.problems.extend(self.remove(&topic, &file, progressed.done));
                }
            }
        }
        looked
    }

    /// Deletes a file of which all is done with, unless something was appended meanwhile. Returns
    /// what went wrong.
    fn remove(
        &self,
        topic: &Mutex<TopicFiles>,
        file: &Arc<SegmentFile>,
        done: u64,
    ) -> Option<Problem> {
        let mut files = lock(topic);
        if file.len() != done {
            return None;
        }
        let index = files.files.iter().position(|it| Arc::ptr_eq(it, file))?;
        if files.is_open && index + 1 == files.files.len() {
            self.close_writer(&mut files);
        }
        files.files.remove(index);
        drop(files);
        let removed = std::fs::remove_file(&file.path);
        self.used.fetch_sub(done, Ordering::SeqCst);
        removed.err().map(|error| problem_of(&file.path, "deleted", error))
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
        let looked = self.look(true, &mut 0);
        self.tell(looked);
        *lock(&self.lock_file) = None;
    }
}

/// Copies what is damaged into a file of its own. Returns what the log is told.
fn keep_damaged(file: &SegmentFile, (at, end): (u64, u64), problem: &Problem) -> String {
    let mut bytes = Vec::new();
    let aside = file.path.with_extension("damaged");
    let kept = SpillFile::read(file, at, (end - at) as usize, &mut bytes).is_ok()
        && keep_aside(&aside, &bytes).is_ok();
    let (bytes, kept) = (end - at, if kept { "kept" } else { "lost, and could not be kept" });
    format!("{problem}; {bytes} bytes are {kept} ({})", aside.display())
}
