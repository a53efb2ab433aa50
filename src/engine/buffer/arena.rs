//! The mapping itself, and the tokens that own parts of it. The only file here with `unsafe`.
//!
//! Why it is sound: a [`Region`] cannot be cloned, and is made only by [`PageMap::claim`], which
//! asserts that every page of it is free and marks them taken, and by splitting one in two. So
//! any two regions of a mapping are disjoint whatever the free lists above do wrong, and a borrow
//! of a region is a borrow of its bytes. An arena and its page map come from one call and live in
//! one pool, next to which every region is kept.

#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

use super::free_list::{CHUNK_BYTES, PAGE_BYTES, PAGES_PER_CHUNK};
use super::options::{BufferPoolOptions, Outcome, PoolError, PoolReport};
use crate::problem::{Problem, ProblemKind};

#[cfg(not(miri))]
type Mapping = memmap2::MmapRaw;
#[cfg(miri)]
type Mapping = heap::Allocation;

/// One anonymous private mapping, zeroed by the system, unmapped on drop.
pub(super) struct Arena {
    base: NonNull<u8>,
    bytes: usize,
    _mapping: Mapping,
}

// SAFETY: `base` points into the mapping that `_mapping` owns and keeps until the arena is
// dropped; nothing in it belongs to a thread. Bytes are reached through regions only, whose
// borrows rule out races.
unsafe impl Send for Arena {}
// SAFETY: as above; a shared arena gives out bytes only for a borrowed region.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps `options.bytes`, rounded down to whole chunks, and makes the page map with every page
    /// free.
    pub(super) fn map(
        options: &BufferPoolOptions,
    ) -> Result<(Arena, PageMap, PoolReport), PoolError> {
        let chunks = options.bytes / CHUNK_BYTES;
        let bytes = chunks * CHUNK_BYTES;
        if chunks == 0 {
            return Err(PoolError::TooSmall { bytes: options.bytes });
        }
        if u32::try_from(chunks * PAGES_PER_CHUNK as usize).is_err() {
            return Err(PoolError::TooLarge { bytes: options.bytes });
        }
        let mapping =
            map_zeroed(bytes).map_err(|error| PoolError::Map { bytes, problem: error.into() })?;
        let base = NonNull::new(mapping.as_mut_ptr()).ok_or_else(|| PoolError::Map {
            bytes,
            problem: Problem::new(ProblemKind::System, "the mapping has no address"),
        })?;
        let report = advise(&mapping, options, bytes);
        let map = PageMap { free: vec![u16::MAX; chunks].into_boxed_slice() };
        Ok((Arena { base, bytes, _mapping: mapping }, map, report))
    }

    /// Bytes of the mapping.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes of `region`, which this arena's page map made.
    #[inline]
    pub(super) fn slice<'a>(&'a self, region: &'a Region) -> &'a [u8] {
        debug_assert!(region.end() <= self.bytes);
        // SAFETY: `claim` asserted that the region lies inside the mapping, which lives at least
        // as long as `self` is borrowed and is initialised throughout (zeroed by the system). No
        // other region overlaps this one, and this one is borrowed, so nothing writes to it.
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr().add(region.start()), region.bytes())
        }
    }

    /// The bytes of `region`, which this arena's page map made, to write.
    #[inline]
    pub(super) fn slice_mut<'a>(&'a self, region: &'a mut Region) -> &'a mut [u8] {
        debug_assert!(region.end() <= self.bytes);
        // SAFETY: as in `slice`; the region is borrowed exclusively, so these are the only
        // references to its bytes.
        unsafe {
            std::slice::from_raw_parts_mut(self.base.as_ptr().add(region.start()), region.bytes())
        }
    }
}

/// Which pages are free: the one truth about who owns what, and the check behind every region.
pub(super) struct PageMap {
    /// An entry per chunk; bit `i` is set while page `i` of that chunk belongs to no region.
    free: Box<[u16]>,
}

impl PageMap {
    /// Chunks in the mapping.
    pub(super) fn chunks(&self) -> u32 {
        // `Arena::map` checked that even the number of pages fits.
        self.free.len() as u32
    }

    /// The free pages of the chunk that `page` is in, a bit each.
    #[inline]
    pub(super) fn free_mask(&self, page: u32) -> u16 {
        self.free[(page / PAGES_PER_CHUNK) as usize]
    }

    /// Makes the region of `pages` pages from `page` on.
    ///
    /// # Panics
    /// If one of them is not free or outside of the mapping: the free lists are wrong, and going on
    /// would put one record's bytes into another's.
    #[inline]
    pub(super) fn claim(&mut self, page: u32, pages: u32) -> Region {
        for (chunk, mask) in masks(page, pages) {
            assert!(self.free[chunk] & mask == mask, "a page in use was handed out again");
        }
        for (chunk, mask) in masks(page, pages) {
            self.free[chunk] &= !mask;
        }
        Region { page, pages }
    }

    /// Frees the first `pages` pages of `region`, which shrinks by them; returns the first one.
    #[inline]
    pub(super) fn release_front(&mut self, region: &mut Region, pages: u32) -> u32 {
        let page = region.page;
        assert!(pages <= region.pages, "a region gives back no more than it has");
        region.page += pages;
        region.pages -= pages;
        for (chunk, mask) in masks(page, pages) {
            self.free[chunk] |= mask;
        }
        page
    }
}

/// (chunk, its pages as bits) for every chunk that `pages` pages from `page` on touch.
#[inline]
fn masks(page: u32, pages: u32) -> impl Iterator<Item = (usize, u16)> {
    let (mut at, mut left) = (page, pages);
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let (chunk, offset) = (at / PAGES_PER_CHUNK, at % PAGES_PER_CHUNK);
        let here = left.min(PAGES_PER_CHUNK - offset);
        at += here;
        left -= here;
        Some((chunk as usize, ((((1u32 << here) - 1) << offset) & 0xffff) as u16))
    })
}

/// Exclusive ownership of a run of pages. One that is lost is never free again; it owes its pages
/// to [`FreeLists::release`](super::free_list::FreeLists::release).
#[derive(Debug)]
pub(super) struct Region {
    page: u32,
    pages: u32,
}

impl Region {
    /// Pages left in it; 0 once it was released.
    #[inline]
    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// Bytes left in it.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.pages as usize * PAGE_BYTES
    }

    /// Number of its first page.
    #[inline]
    pub(super) fn page(&self) -> u32 {
        self.page
    }

    /// Moves everything beyond the first `keep` pages to a region of its own.
    pub(super) fn split_off(&mut self, keep: u32) -> Region {
        assert!(keep <= self.pages, "a region is split inside of itself");
        let tail = Region { page: self.page + keep, pages: self.pages - keep };
        self.pages = keep;
        tail
    }

    /// Takes everything out, leaving an empty region.
    #[inline]
    pub(super) fn take(&mut self) -> Region {
        self.split_off(0)
    }

    #[inline]
    fn start(&self) -> usize {
        self.page as usize * PAGE_BYTES
    }

    #[inline]
    fn end(&self) -> usize {
        self.start() + self.bytes()
    }
}

#[cfg(not(miri))]
fn map_zeroed(bytes: usize) -> io::Result<Mapping> {
    let mapping = memmap2::MmapOptions::new().len(bytes).map_anon()?;
    // The raw form never makes a reference to the whole mapping, which regions must not meet.
    Ok(mapping.into())
}

/// Asks for huge pages first: pages that are already populated would stay small.
#[cfg(all(target_os = "linux", not(miri)))]
fn advise(mapping: &Mapping, options: &BufferPoolOptions, bytes: usize) -> PoolReport {
    use memmap2::Advice;
    PoolReport {
        bytes,
        huge_pages: Outcome::of(options.huge_pages, || mapping.advise(Advice::HugePage)),
        populated: Outcome::of(options.populate, || mapping.advise(Advice::PopulateWrite)),
        locked: Outcome::of(options.lock, || mapping.lock()),
    }
}

#[cfg(all(unix, not(target_os = "linux"), not(miri)))]
fn advise(mapping: &Mapping, options: &BufferPoolOptions, bytes: usize) -> PoolReport {
    PoolReport {
        bytes,
        huge_pages: Outcome::unsupported(options.huge_pages),
        populated: Outcome::unsupported(options.populate),
        locked: Outcome::of(options.lock, || mapping.lock()),
    }
}

#[cfg(any(not(unix), miri))]
fn advise(_mapping: &Mapping, options: &BufferPoolOptions, bytes: usize) -> PoolReport {
    PoolReport {
        bytes,
        huge_pages: Outcome::unsupported(options.huge_pages),
        populated: Outcome::unsupported(options.populate),
        locked: Outcome::unsupported(options.lock),
    }
}

#[cfg(miri)]
use heap::map_zeroed;

/// Under Miri the arena is one aligned allocation, whose bounds and borrows Miri checks exactly.
#[cfg(miri)]
mod heap {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::io;

    use super::super::free_list::PAGE_BYTES;

    pub(super) struct Allocation {
        base: *mut u8,
        layout: Layout,
    }

    impl Allocation {
        pub(super) fn as_mut_ptr(&self) -> *mut u8 {
            self.base
        }
    }

    impl Drop for Allocation {
        fn drop(&mut self) {
            // SAFETY: allocated by `map_zeroed` with this layout, freed only here.
            unsafe { dealloc(self.base, self.layout) }
        }
    }

    pub(super) fn map_zeroed(bytes: usize) -> io::Result<Allocation> {
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).map_err(io::Error::other)?;
        // SAFETY: the arena is at least one chunk, so the layout is not empty.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(Allocation { base, layout })
    }
}
