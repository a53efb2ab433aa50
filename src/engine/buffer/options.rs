//! What a pool is built from, what the system made of it, and what can go wrong.

use crate::problem::{Problem, ProblemKind};

/// How to build a [`BufferPool`](super::BufferPool).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferPoolOptions {
    /// Bytes to map (`buffer_memory`), rounded down to whole chunks of 64 KiB. Default 64 MiB.
    pub bytes: usize,
    /// Accounts that can exist at one time: one for each broker, and the two fixed ones. 128 bytes
    /// each. Default 1024, at most 65,535.
    pub accounts_max: usize,
    /// The high watermark of every broker's account and of [`AccountId::LEADERLESS`], in bytes.
    /// Default `None`: twice the free bytes of the pool, eight times while there is only one
    /// broker.
    ///
    /// [`AccountId::LEADERLESS`]: super::AccountId::LEADERLESS
    pub high: Option<usize>,
    /// The low watermark of the same accounts, in bytes. Default `None`: half of the high one.
    pub low: Option<usize>,
    /// The stash may hold a quarter of the pool, and at least this many bytes: one largest record
    /// must find room in it. Default 0.
    pub stash_bytes_min: usize,
    /// Ask for transparent huge pages (Linux). Default false.
    pub huge_pages: bool,
    /// Touch every page at once instead of on first use (Linux 5.14 and later). Default false.
    pub populate: bool,
    /// Lock the pages in memory (Unix; limited by `ulimit -l`). Default false.
    pub lock: bool,
}

impl Default for BufferPoolOptions {
    fn default() -> Self {
        BufferPoolOptions {
            bytes: 64 << 20,
            accounts_max: 1024,
            high: None,
            low: None,
            stash_bytes_min: 0,
            huge_pages: false,
            populate: false,
            lock: false,
        }
    }
}

/// What became of a best-effort request to the system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was not asked for.
    NotAsked,
    /// The system did it. (For huge pages: it took the advice.)
    Done,
    /// This platform cannot do it; the pool works without.
    #[cfg(any(not(target_os = "linux"), miri))]
    Unsupported,
    /// The system refused, in its own words; the pool works without.
    Refused(String),
}

impl Outcome {
    #[cfg(all(unix, not(miri)))]
    pub(super) fn of(asked: bool, act: impl FnOnce() -> std::io::Result<()>) -> Outcome {
        if !asked {
            return Outcome::NotAsked;
        }
        act().map_or_else(|error| Outcome::Refused(error.to_string()), |()| Outcome::Done)
    }

    #[cfg(any(not(target_os = "linux"), miri))]
    pub(super) fn unsupported(asked: bool) -> Outcome {
        if asked { Outcome::Unsupported } else { Outcome::NotAsked }
    }
}

/// What the system made of a pool's options.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolReport {
    /// Bytes mapped.
    pub bytes: usize,
    /// [`BufferPoolOptions::huge_pages`].
    pub huge_pages: Outcome,
    /// [`BufferPoolOptions::populate`].
    pub populated: Outcome,
    /// [`BufferPoolOptions::lock`].
    pub locked: Outcome,
}

/// Why a pool cannot be built, or cannot do what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// Not even one chunk.
    #[error("a pool of {bytes} bytes is smaller than one chunk of 65536")]
    TooSmall {
        /// What was asked for, in bytes.
        bytes: usize,
    },
    /// More pages than have a number.
    #[error("a pool of {bytes} bytes is over the limit of 16 TiB")]
    TooLarge {
        /// What was asked for, in bytes.
        bytes: usize,
    },
    /// The system refused the mapping.
    #[error("{bytes} bytes could not be mapped: {problem}")]
    Map {
        /// What was asked for, in bytes.
        bytes: usize,
        /// What the system said.
        #[source]
        problem: Problem,
    },
    /// `accounts_max` is outside of 3 to 65,535.
    #[error("accounts_max = {accounts_max} is outside of 3..=65535")]
    AccountsMax {
        /// What was asked for.
        accounts_max: usize,
    },
    /// The low watermark is above the high one.
    #[error("the low watermark ({low} bytes) is above the high one ({high} bytes)")]
    LevelsCrossed {
        /// In bytes.
        low: usize,
        /// In bytes.
        high: usize,
    },
    /// Every account is open, or closed and not yet empty.
    #[error("all {accounts_max} accounts are in use")]
    NoAccountLeft {
        /// The limit.
        accounts_max: usize,
    },
    /// No run of free chunks is that long.
    #[error("no {bytes} contiguous free bytes for a scratch, of {free} free ones")]
    NoScratch {
        /// What was asked for, in bytes, rounded up to chunks.
        bytes: usize,
        /// What is free.
        free: usize,
    },
    /// Waiting would never end: the account could not get that much from an empty pool.
    #[error("{bytes} bytes never fit: at most {max} can be had")]
    NeverFits {
        /// What was asked for, in bytes, rounded up to pages.
        bytes: usize,
        /// What this account can get from the empty pool, in bytes.
        max: usize,
    },
}

impl From<PoolError> for Problem {
    fn from(error: PoolError) -> Self {
        match &error {
            PoolError::Map { problem, .. } => problem.in_words(&error),
            _ => Problem::new(ProblemKind::Limit, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;

    use super::*;

    #[test]
    fn a_refused_mapping_keeps_the_systems_error() {
        let system = io::Error::from_raw_os_error(12);
        let problem = Problem::from(PoolError::Map { bytes: 1 << 40, problem: system.into() });
        let source = problem.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.and_then(io::Error::raw_os_error), Some(12));
        assert!(problem.message().starts_with("1099511627776 bytes could not be mapped"));
    }
}
