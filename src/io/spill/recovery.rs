//! What an earlier process has left in a spill folder.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::folder::keep_aside;
use crate::config::{SpillInDoubt, check_topic_name};
use crate::engine::batch::{
    FRAME_HEADER, MARK_AT, SPILL_RUN_BYTES_MAX, SpillDamage, SpillMark, decode_spill_header,
    decode_spilled, encode_spill_header, spilled_len,
};
use crate::logging as log;

/// Kafka's names are no longer, and what a header has besides.
const HEADER_MAX: u64 = 48 + 249;

/// Records that lie beside each other in a file.
pub(super) struct FoundRun {
    pub at: u64,
    pub len: usize,
    pub records: u32,
    /// They were sent together.
    pub together: bool,
}

/// What a file holds that is still to be sent.
pub(super) struct FoundFile {
    pub path: PathBuf,
    pub topic: String,
    pub len: u64,
    pub mark: SpillMark,
    pub runs: Vec<FoundRun>,
    /// Records that were begun to be sent when the process ended.
    pub in_doubt: u64,
    /// Records that were kept aside because of that.
    pub set_aside: u64,
}

/// Reads a file, and cuts off what a crash has left half written. `None`: it is no spill file, or
/// nothing in it is still to be sent; it is out of the way.
///
/// # Errors
/// The system reads or writes it not.
pub(super) fn recover(path: &Path, in_doubt: SpillInDoubt) -> io::Result<Option<FoundFile>> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    let mut header = Vec::new();
    (&mut file).take(HEADER_MAX.min(len)).read_to_end(&mut header)?;
    let found = decode_spill_header(&header).map(|(topic, start)| (topic.to_owned(), start as u64));
    let Some((topic, start)) = found.filter(|(topic, _)| check_topic_name(topic).is_ok()) else {
        if len < HEADER_MAX {
            // The process ended while it made the file: no record was in it yet.
            log::warn!("spill: {} has no whole header, and is deleted", path.display());
            std::fs::remove_file(path)?;
        } else {
            set_aside_whole(path, "it is no spill file of this version")?;
        }
        return Ok(None);
    };
    let mark = header.get(MARK_AT as usize..).and_then(SpillMark::decode);
    let mark = mark.filter(|mark| (start..=len).contains(&mark.done));
    let mark = mark.unwrap_or_else(|| {
        log::warn!("spill: {} does not say how far it was sent", path.display());
        SpillMark { done: start, handed: len }
    });
    let mut scan = Scan::new(&file, mark)?;
    let ended = scan.read_all(len)?;
    let Scan { whole, runs, in_doubt: doubted, .. } = scan;
    let len = match ended {
        None => len,
        Some(damage) => cut(&mut file, path, (whole, len), damage)?,
    };
    let mut found = FoundFile {
        path: path.to_owned(),
        topic,
        len,
        mark: SpillMark { done: mark.done, handed: mark.handed.min(len) },
        in_doubt: doubted,
        runs,
        set_aside: 0,
    };
    if in_doubt == SpillInDoubt::SetAside && found.in_doubt > 0 {
        set_aside_doubted(&mut file, &mut found)?;
    }
    if found.runs.is_empty() {
        std::fs::remove_file(path)?;
        let is_empty = found.set_aside == 0;
        return Ok((!is_empty).then_some(found));
    }
    Ok(Some(found))
}

/// A walk through a file's records.
struct Scan<'a> {
    reader: BufReader<&'a File>,
    mark: SpillMark,
    at: u64,
    /// Up to here there are whole records, and whole groups of those that were sent together.
    whole: u64,
    runs: Vec<FoundRun>,
    in_doubt: u64,
    /// The run that is being put together, and whether the last record of it goes on.
    open: Option<(FoundRun, bool)>,
}

impl<'a> Scan<'a> {
    fn new(mut file: &'a File, mark: SpillMark) -> io::Result<Self> {
        file.seek(SeekFrom::Start(mark.done))?;
        let reader = BufReader::with_capacity(64 << 10, file);
        let (at, runs) = (mark.done, Vec::new());
        Ok(Scan { reader, mark, at, whole: at, runs, in_doubt: 0, open: None })
    }

    /// Goes through all of it. Returns what is wrong behind [`Scan::whole`].
    fn read_all(&mut self, len: u64) -> io::Result<Option<SpillDamage>> {
        let mut bytes = Vec::new();
        let damage = loop {
            let left = len - self.at;
            if left == 0 {
                break None;
            }
            match self.read_record(left, &mut bytes)? {
                Ok(goes_on) => self.add(bytes.len(), goes_on),
                Err(damage) => break Some(damage),
            }
        };
        // A group of which the end is missing is left out as a whole.
        let is_cut = self.open.as_ref().is_some_and(|(_, goes_on)| *goes_on);
        self.close_run(is_cut);
        Ok(damage.or(is_cut.then_some(SpillDamage::Torn)))
    }

    fn read_record(
        &mut self,
        left: u64,
        bytes: &mut Vec<u8>,
    ) -> io::Result<Result<bool, SpillDamage>> {
        if left < FRAME_HEADER as u64 {
            return Ok(Err(SpillDamage::Torn));
        }
        bytes.resize(FRAME_HEADER, 0);
        self.reader.read_exact(bytes)?;
        let len = spilled_len(bytes).unwrap_or(usize::MAX);
        // No memory is taken for a length that the file does not have.
        if len as u64 > left {
            return Ok(Err(SpillDamage::Torn));
        }
        bytes.resize(len, 0);
        self.reader.read_exact(&mut bytes[FRAME_HEADER..])?;
        Ok(decode_spilled(bytes).map(|(_, goes_on, _)| goes_on))
    }

    fn add(&mut self, len: usize, goes_on: bool) {
        let is_doubted = self.at < self.mark.handed;
        self.in_doubt += u64::from(is_doubted);
        let in_group = self.open.as_ref().is_some_and(|(_, goes_on)| *goes_on);
        let fits = |run: &FoundRun| {
            // What is in doubt is kept apart: it may be set aside.
            let crosses = run.at < self.mark.handed && !is_doubted;
            !run.together && !goes_on && run.len + len <= SPILL_RUN_BYTES_MAX && !crosses
        };
        if !in_group && !self.open.as_ref().is_some_and(|(run, _)| fits(run)) {
            self.close_run(false);
        }
        let fresh = (FoundRun { at: self.at, len: 0, records: 0, together: goes_on }, goes_on);
        let (run, last_goes_on) = self.open.get_or_insert(fresh);
        run.len += len;
        run.records += 1;
        *last_goes_on = goes_on;
        self.at += len as u64;
        if !goes_on {
            self.whole = self.at;
        }
    }

    fn close_run(&mut self, is_cut: bool) {
        if let Some((run, _)) = self.open.take().filter(|_| !is_cut) {
            self.runs.push(run);
        }
    }
}

/// Cuts a file off behind its last whole record. What is not just the end of a crash is kept.
fn cut(
    file: &mut File,
    path: &Path,
    (at, len): (u64, u64),
    damage: SpillDamage,
) -> io::Result<u64> {
    let mut rest = vec![0; usize::try_from(len - at).unwrap_or(usize::MAX)];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut rest)?;
    let is_crash = damage == SpillDamage::Torn || rest.iter().all(|&byte| byte == 0);
    let (name, bytes) = (path.display(), rest.len());
    if is_crash {
        log::warn!("spill: {name} ends in the midst of a record: {bytes} bytes are cut off");
    } else {
        let aside = path.with_extension("damaged");
        keep_aside(&aside, &rest)?;
        let aside = aside.display();
        log::error!("spill: {name} is damaged: {bytes} bytes of it are kept in {aside}, not sent");
    }
    file.set_len(at)?;
    Ok(at)
}

fn set_aside_whole(path: &Path, why: &str) -> io::Result<()> {
    let aside = path.with_extension("damaged");
    log::error!("spill: {}: {why}; it is kept as {}", path.display(), aside.display());
    std::fs::rename(path, aside)
}

/// Moves what is in doubt into a file of its own.
fn set_aside_doubted(file: &mut File, found: &mut FoundFile) -> io::Result<()> {
    let handed = found.mark.handed;
    let doubted = found.runs.iter().take_while(|run| run.at < handed).count();
    let end = found.runs[..doubted].last().map_or(handed, |run| run.at + run.len as u64);
    let aside = found.path.with_extension("indoubt");
    let mut out = File::create(&aside)?;
    out.write_all(&encode_spill_header(&found.topic))?;
    file.seek(SeekFrom::Start(found.mark.done))?;
    io::copy(&mut file.take(end - found.mark.done), &mut out)?;
    out.sync_all()?;
    // All of those that were sent together, although only the first may have been begun.
    found.set_aside = found.runs.drain(..doubted).map(|run| u64::from(run.records)).sum();
    found.in_doubt = 0;
    found.mark = SpillMark { done: end, handed: end };
    file.seek(SeekFrom::Start(MARK_AT))?;
    file.write_all(&found.mark.encode())?;
    log::warn!(
        "spill: {} records of topic {} may have been written already, and are kept in {}",
        found.set_aside,
        found.topic,
        aside.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::batch::encode_spilled;
    use crate::engine::protocol::records::RecordParts;

    /// A file with these records, some of them sent together.
    fn file() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = encode_spill_header("t");
        let mut ends = vec![bytes.len()];
        for (number, goes_on) in [false, true, true, false, false].into_iter().enumerate() {
            let value = vec![number as u8; 20 * number];
            let parts = RecordParts { value: Some(&value), ..RecordParts::default() };
            encode_spilled(&mut bytes, None, 7, &parts, goes_on);
            if !goes_on {
                ends.push(bytes.len());
            }
        }
        (bytes, ends)
    }

    /// What is found in a file with these bytes, and once more after that.
    fn found(bytes: &[u8], in_doubt: SpillInDoubt) -> Option<FoundFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.spill");
        std::fs::write(&path, bytes).unwrap();
        let found = recover(&path, in_doubt).unwrap();
        // However it was left, it is in order now.
        if path.exists() {
            let again = recover(&path, in_doubt).unwrap();
            let ends = |it: &Option<FoundFile>| it.as_ref().map(|it| (it.len, it.runs.len()));
            assert_eq!(ends(&again), ends(&found));
        }
        found
    }

    fn records(found: &Option<FoundFile>) -> usize {
        let runs = found.iter().flat_map(|found| &found.runs);
        runs.map(|run| run.records as usize).sum()
    }

    /// Records before each of [`file`]'s ends.
    const WHOLE: [usize; 4] = [0, 1, 4, 5];

    #[test]
    fn f37_a_file_cut_at_any_byte_keeps_what_is_whole() {
        let (bytes, ends) = file();
        assert_eq!(records(&found(&bytes, SpillInDoubt::Send)), 5);
        for cut in 0..bytes.len() {
            let whole = ends.iter().rposition(|&end| end <= cut).map_or(0, |index| WHOLE[index]);
            let found = found(&bytes[..cut], SpillInDoubt::Send);
            assert_eq!(records(&found), whole, "cut at {cut}");
        }
    }

    #[test]
    fn f37_a_file_with_any_bit_flipped_keeps_what_stands_before() {
        let (bytes, ends) = file();
        let records_begin = ends[0];
        for bit in 8 * records_begin..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let whole = ends.iter().rposition(|&end| end <= bit / 8).expect("the header is whole");
            let found = found(&flipped, SpillInDoubt::Send);
            assert_eq!(records(&found), WHOLE[whole], "bit {bit}");
        }
        // Of the header nothing is believed that is not whole; in the worst case nobody knows what
        // of the file was sent.
        for bit in 0..8 * records_begin {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            found(&flipped, SpillInDoubt::Send);
        }
    }

    #[test]
    fn records_that_were_begun_to_be_sent_are_told_apart() {
        let (mut bytes, ends) = file();
        // The first is done with, and a connection may have had the four that follow but the last:
        // it was read as far as into the midst of the second of them.
        let mark = SpillMark { done: ends[1] as u64, handed: ends[1] as u64 + 60 };
        bytes[MARK_AT as usize..][..20].copy_from_slice(&mark.encode());
        let sent = found(&bytes, SpillInDoubt::Send).expect("there are four");
        assert_eq!((sent.in_doubt, sent.set_aside), (2, 0));
        assert_eq!(sent.runs.iter().map(|run| run.records).collect::<Vec<_>>(), [3, 1]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.spill");
        std::fs::write(&path, &bytes).unwrap();
        let aside = recover(&path, SpillInDoubt::SetAside).unwrap().expect("one is left");
        assert_eq!(aside.runs.iter().map(|run| run.records).collect::<Vec<_>>(), [1]);
        assert_eq!((aside.in_doubt, aside.set_aside), (0, 3));
        // Those that were sent together stay so.
        let kept = std::fs::read(path.with_extension("indoubt")).unwrap();
        assert!(kept.ends_with(&bytes[ends[1]..ends[2]]));
        assert_eq!(aside.mark.done, ends[2] as u64);
    }
}
