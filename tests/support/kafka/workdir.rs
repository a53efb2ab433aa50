//! The folder of one test process, in the target folder, for data directories and logs. It goes
//! when the process ends in order; otherwise the next process that comes removes it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder that belongs to this process, marked by a file lock that ends with the process.
#[derive(Debug)]
pub struct WorkDir {
    folder: TempDir,
    _lock: File,
}

impl WorkDir {
    /// Makes the folder, after removing those of processes that are gone.
    pub fn create() -> io::Result<Self> {
        let parent = parent();
        fs::create_dir_all(&parent)?;
        // Held while a folder exists that is not locked yet, so that nobody sweeps it away.
        let sweeping = File::create(parent.join("lock"))?;
        sweeping.lock()?;
        sweep(&parent)?;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&parent)?;
        let lock = File::create(folder.path().join("lock"))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn parent() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka")
}

fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let folder = entry?.path();
        if !folder.is_dir() {
            continue;
        }
        let abandoned = match File::open(folder.join("lock")) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(_) => true,
        };
        if abandoned {
            // A watchdog may be killing the last broker in it: then the next sweep takes it.
            let _ = fs::remove_dir_all(&folder);
        }
    }
    Ok(())
}
