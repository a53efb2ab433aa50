//! Whether a file has changed since it was read.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The files of a configuration, as they were when last looked at.
#[derive(Debug)]
pub(super) struct Watch {
    files: Vec<(PathBuf, Stamp)>,
}

/// What tells one content of a file from another without reading it. A secret mounted by Kubernetes
/// is replaced by turning a link: another file, by its number, often of the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(Option<(u64, SystemTime, u64)>);

impl Watch {
    /// Looks at the files. To be done before they are read: what changes in between is then noticed
    /// the next time.
    pub(super) fn new(files: &[&Path]) -> Self {
        let files = files.iter().map(|path| ((*path).to_owned(), Stamp::of(path)));
        Watch { files: files.collect() }
    }

    /// Whether one of them is another than when last looked at.
    pub(super) fn has_changed(&self) -> bool {
        self.files.iter().any(|(path, stamp)| Stamp::of(path) != *stamp)
    }

    /// Looks again.
    pub(super) fn look(&mut self) {
        for (path, stamp) in &mut self.files {
            *stamp = Stamp::of(path);
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Self {
        // One that is gone for a moment is being replaced.
        let metadata = fs::metadata(path).ok();
        Stamp(metadata.map(|metadata| {
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            (metadata.len(), modified, number(&metadata))
        }))
    }
}

#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.ino()
}

#[cfg(not(unix))]
fn number(_: &fs::Metadata) -> u64 {
    0
}
