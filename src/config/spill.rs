//! Keeping records on disk while brokers take none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::BuildError;

const MIB: u64 = 1 << 20;

/// A file holds a mebibyte at the least: each costs a name and an entry in its folder.
const QUOTA_MIN: u64 = 4 * MIB;

/// Where records go on disk for which there is no room in memory, and how.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use tidegate::embedded::EmbeddedCluster;
/// use tidegate::{Producer, SpillConfig};
///
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let servers = cluster.bootstrap_servers();
/// # let folder = std::env::temp_dir().join(format!("tidegate-doc-{}", std::process::id()));
/// let spill = SpillConfig::new(&folder).quota(10 << 30);
/// let producer = Producer::builder(&servers).spill(spill).build()?;
/// let orders = producer.topic("orders")?;
/// orders.send("customer-42", "paid")?.wait()?; // on disk only if there is no room
/// # drop(orders);
/// # drop(producer);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
///
/// The manual's page [`spill`](crate::manual::spill) says what is kept, when, and what a crash
/// costs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpillConfig {
    /// The folder, which is made if it does not exist. It belongs to one producer at a time.
    /// `tidegate.spill.directory`.
    pub directory: PathBuf,
    /// Bytes that the files may take together. Default: 1 GiB; 4 MiB at the least. A close may go
    /// over it by what is in buffer memory. `tidegate.spill.quota`.
    pub quota: u64,
    /// When files are forced to the disk. Default: [`SpillSync::Never`]. `tidegate.spill.sync`.
    pub sync: SpillSync,
    /// What becomes of a record that does not fit, or that cannot be written. Default:
    /// [`SpillFull::Park`] for 60 s. `tidegate.spill.full`.
    pub full: SpillFull,
    /// What becomes of records that an earlier process had begun to send when it ended without a
    /// close. Default: [`SpillInDoubt::Send`]. `tidegate.spill.in.doubt`.
    pub in_doubt: SpillInDoubt,
}

/// When spilled records are forced to the disk (`fsync`). Without that they survive the end of the
/// process, not a power failure.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{SpillConfig, SpillSync};
///
/// let spill = SpillConfig::new("/var/spool/agent").sync(SpillSync::Every(Duration::from_secs(1)));
/// # let _ = spill;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpillSync {
    /// Never: the system writes them when it likes, mostly within 30 s.
    Never,
    /// At most so long after they were spilled.
    Every(Duration),
    /// Before `send` returns. It waits for the disk: some 100 µs to 10 ms for each record.
    Always,
}

/// What becomes of a record for which there is no room on the disk either.
///
/// ```
/// use tidegate::{SpillConfig, SpillFull};
///
/// let spill = SpillConfig::new("/var/spool/agent").full(SpillFull::Drop);
/// # let _ = spill;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpillFull {
    /// Its sender waits until there is: at most for so long.
    Park(Duration),
    /// It is dropped, and counted as such.
    Drop,
    /// It is refused, with [`SendErrorKind::SpillFull`](crate::SendErrorKind::SpillFull).
    Reject,
}

/// What becomes of records that may have been written, or not.
///
/// ```
/// use tidegate::{SpillConfig, SpillInDoubt};
///
/// let spill = SpillConfig::new("/var/spool/agent").in_doubt(SpillInDoubt::SetAside);
/// # let _ = spill;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpillInDoubt {
    /// They are sent: none is lost, some may be written twice.
    Send,
    /// They go into a file of their own, whose name ends in `.indoubt`, for people to decide: none
    /// is written twice.
    SetAside,
}

impl SpillConfig {
    /// A folder, and the defaults.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        SpillConfig {
            directory: directory.as_ref().to_owned(),
            quota: 1 << 30,
            sync: SpillSync::Never,
            full: SpillFull::Park(Duration::from_secs(60)),
            in_doubt: SpillInDoubt::Send,
        }
    }

    /// See [`SpillConfig::quota`](#structfield.quota).
    #[must_use]
    pub fn quota(mut self, bytes: u64) -> Self {
        self.quota = bytes;
        self
    }

    /// See [`SpillConfig::sync`](#structfield.sync).
    #[must_use]
    pub fn sync(mut self, sync: SpillSync) -> Self {
        self.sync = sync;
        self
    }

    /// See [`SpillConfig::full`](#structfield.full).
    #[must_use]
    pub fn full(mut self, full: SpillFull) -> Self {
        self.full = full;
        self
    }

    /// See [`SpillConfig::in_doubt`](#structfield.in_doubt).
    #[must_use]
    pub fn in_doubt(mut self, in_doubt: SpillInDoubt) -> Self {
        self.in_doubt = in_doubt;
        self
    }

    pub(super) fn validate(
        &self,
        name_of: impl Fn(&'static str) -> String,
    ) -> Result<(), BuildError> {
        let invalid = |name: &'static str, value: String, reason: &str| {
            Err(BuildError::InvalidSetting {
                name: name_of(name),
                value,
                reason: reason.to_owned(),
            })
        };
        if self.directory.as_os_str().is_empty() {
            let reason = "spilling to disk needs a folder of its own: name one";
            return invalid("spill (directory)", String::new(), reason);
        }
        if self.quota < QUOTA_MIN {
            let reason = "it must be 4194304 (4 MiB) at the least";
            return invalid("spill (quota)", self.quota.to_string(), reason);
        }
        if self.sync == SpillSync::Every(Duration::ZERO) {
            let reason = "it must be above 0: for each record by itself there is always";
            return invalid("spill (sync)", "0".to_owned(), reason);
        }
        Ok(())
    }
}
