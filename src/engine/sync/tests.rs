//! Cells and the open lock, on one thread and on many. Small enough counts to run under Miri.

#[cfg(not(loom))]
mod cells;
#[cfg(loom)]
mod interleavings;
#[cfg(not(loom))]
mod locks;
