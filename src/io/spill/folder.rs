//! The folder itself: its lock, the names in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::BuildError;

/// Takes the folder for one producer: as long as the file is open.
pub(super) fn take_lock(
    folder: &Path,
    refuse: impl Fn(io::Error) -> BuildError,
) -> Result<File, BuildError> {
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(&refuse)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(refuse(error)),
        Err(TryLockError::WouldBlock) => Err(BuildError::Conflict(format!(
            "the spill folder {} is used by another producer, in this process or another: each \
             needs one of its own",
            folder.display()
        ))),
    }
}

/// The numbers and paths of the files in a folder, oldest first.
pub(super) fn files_in(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        files.extend(number_of(&path).map(|number| (number, path)));
    }
    files.sort();
    Ok(files)
}

/// The number in a file's name, if it is one of records.
pub(super) fn number_of(path: &Path) -> Option<u64> {
    let is_ours = path.extension().is_some_and(|extension| extension == "spill");
    path.file_stem()?.to_str()?.parse().ok().filter(|_| is_ours)
}

/// Forces a folder's entries to the disk, where the system knows such a thing.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Adds bytes to a file that is kept for people to look at.
pub(super) fn keep_aside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path)?.write_all(bytes)
}
