//! Ports that stay ours while a cluster lives, through kills and restarts of its nodes.
//!
//! They lie below the range from which the kernel takes the ports of outgoing connections, so that
//! none of those sits on a port while its broker is down. Test processes on one machine agree on
//! who uses which block by listening on a port of it, which ends with the process and leaves no
//! file.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

const FIRST_PORT: u16 = 20_000;
const BLOCKS: u16 = 1_000;

/// The ports in one block for nodes; one more is its lock.
pub const BLOCK_PORTS: u16 = 9;

/// Consecutive ports, locked against other test processes until it is dropped.
#[derive(Debug)]
pub struct PortBlock {
    first: u16,
    _lock: PortLock,
}

/// Something that the test processes of one machine share is ours until this is dropped or the
/// process ends, however it does: whoever listens on the port has it.
#[derive(Debug)]
pub struct PortLock {
    _listener: TcpListener,
}

impl PortLock {
    /// Takes it unless another has it.
    fn try_take(port: u16) -> Option<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        Some(Self { _listener: listener })
    }

    /// Takes one of the machine's slots, which are counted down from the first block.
    pub fn try_take_slot(slots: u16) -> Option<Self> {
        (1..=slots).find_map(|slot| Self::try_take(FIRST_PORT - slot))
    }
}

impl PortBlock {
    /// Takes the first free block, looking from a place that differs between processes.
    pub fn take() -> io::Result<Self> {
        let start = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap_or(0);
        for step in 0..BLOCKS {
            let block = (start + step) % BLOCKS;
            let first = FIRST_PORT + block * (BLOCK_PORTS + 1);
            let lock = PortLock::try_take(first + BLOCK_PORTS);
            if let Some(lock) = lock
                && is_free(first)
            {
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
