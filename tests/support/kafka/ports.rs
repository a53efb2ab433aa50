//! Ports that stay ours while a cluster lives, through kills and restarts of its nodes.
//!
//! They lie below the range from which the kernel takes the ports of outgoing connections, so that
//! none of those sits on a port while its broker is down. Test processes on one machine agree on
//! who uses which block through file locks, which end with the process that holds them.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const FIRST_PORT: u16 = 20_000;
const BLOCKS: u16 = 1_000;

/// The ports in one block.
pub const BLOCK_PORTS: u16 = 10;

/// Ten consecutive ports, locked against other test processes until it is dropped.
#[derive(Debug)]
pub struct PortBlock {
    first: u16,
    _lock: File,
}

impl PortBlock {
    /// Takes the first free block, looking from a place that differs between processes.
    pub fn take() -> io::Result<Self> {
        let folder = lock_folder()?;
        let start = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap_or(0);
        for step in 0..BLOCKS {
            let block = (start + step) % BLOCKS;
            let lock = File::create(folder.join(format!("ports-{block}")))?;
            let first = FIRST_PORT + block * BLOCK_PORTS;
            if lock.try_lock().is_ok() && is_free(first) {
                return Ok(Self { first, _lock: lock });
            }
        }
        Err(io::Error::other("no block of ports in 20000-29999 is free"))
    }

    /// A port of the block, by its place in it.
    pub fn port(&self, index: u16) -> u16 {
        assert!(index < BLOCK_PORTS, "a block has {BLOCK_PORTS} ports, not a port {index}");
        self.first + index
    }
}

fn is_free(first: u16) -> bool {
    (first..first + BLOCK_PORTS).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}

/// The folder of the machine-wide locks, one per user, as one user cannot write another's files.
pub fn lock_folder() -> io::Result<PathBuf> {
    let user = std::fs::metadata("/proc/self")?.uid();
    let folder = std::env::temp_dir().join(format!("tidegate-kafka-{user}"));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
