//! Size classes, and the free lists: a buddy system in which a block is four of the next smaller.

use super::arena::{PageMap, Region};

/// The smallest segment and the unit of all accounting: 4 KiB.
pub const PAGE_BYTES: usize = 4 << 10;
/// The largest segment: 64 KiB.
pub const CHUNK_BYTES: usize = 64 << 10;

pub(super) const PAGES_PER_CHUNK: u32 = (CHUNK_BYTES / PAGE_BYTES) as u32;
/// Page maps hold a chunk's pages in the bits of a `u16`.
const _: () = assert!(PAGES_PER_CHUNK == u16::BITS);

/// Rounds up to whole pages, in bytes. Saturates: such a size never fits anyway.
#[inline]
pub(super) fn page_ceil(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(PAGE_BYTES).unwrap_or(usize::MAX)
}

/// The size of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// 4 KiB: a low-traffic lane's.
    Kib4,
    /// 16 KiB.
    Kib16,
    /// 64 KiB: a chunk.
    Kib64,
}

impl Class {
    /// Every class, smallest first.
    pub const ALL: [Class; 3] = [Class::Kib4, Class::Kib16, Class::Kib64];

    /// Bytes of a segment of this class.
    #[inline]
    pub const fn bytes(self) -> usize {
        self.pages() as usize * PAGE_BYTES
    }

    /// The smallest class that holds `bytes`, if one does. (0 bytes take the smallest.)
    #[inline]
    pub fn for_bytes(bytes: usize) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.bytes() >= bytes)
    }

    /// The next smaller class, if there is one.
    #[inline]
    pub const fn smaller(self) -> Option<Class> {
        match self {
            Class::Kib4 => None,
            Class::Kib16 => Some(Class::Kib4),
            Class::Kib64 => Some(Class::Kib16),
        }
    }

    /// The next larger class, if there is one.
    #[inline]
    pub const fn larger(self) -> Option<Class> {
        match self {
            Class::Kib4 => Some(Class::Kib16),
            Class::Kib16 => Some(Class::Kib64),
            Class::Kib64 => None,
        }
    }

    #[inline]
    pub(super) const fn pages(self) -> u32 {
        match self {
            Class::Kib4 => 1,
            Class::Kib16 => 4,
            Class::Kib64 => PAGES_PER_CHUNK,
        }
    }

    /// The largest class of at most `pages` pages (at least 1).
    #[inline]
    pub(super) fn within(pages: u32) -> Class {
        match pages {
            0..4 => Class::Kib4,
            4..PAGES_PER_CHUNK => Class::Kib16,
            _ => Class::Kib64,
        }
    }
}

const NIL: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    next: u32,
    previous: u32,
}

/// The free blocks of every class, last in first out. Allocates nothing after construction.
///
/// A block that is free together with its three buddies is always merged, so the page map alone
/// says which list a free page is in: the chunk's if all its pages are free, the 16 KiB one if
/// all four of its aligned group are, else that of single pages.
pub(super) struct FreeLists {
    map: PageMap,
    /// An entry per page, used while a free block begins there.
    links: Box<[Link]>,
    heads: [u32; 3],
    blocks: [u32; 3],
    pages_free: u32,
}

impl FreeLists {
    /// Lists over a map in which everything is free.
    pub(super) fn new(map: PageMap) -> FreeLists {
        let chunks = map.chunks();
        let pages = chunks * PAGES_PER_CHUNK;
        let links = vec![Link { next: NIL, previous: NIL }; pages as usize].into_boxed_slice();
        let mut lists =
            FreeLists { map, links, heads: [NIL; 3], blocks: [0; 3], pages_free: pages };
        // Backwards, so that the lowest addresses are used first.
        for chunk in (0..chunks).rev() {
            lists.push(chunk * PAGES_PER_CHUNK, Class::Kib64);
        }
        lists
    }

    #[inline]
    pub(super) fn bytes_free(&self) -> usize {
        self.pages_free as usize * PAGE_BYTES
    }

    /// Free blocks of each class, smallest first.
    #[cfg(feature = "internals")]
    pub(super) fn blocks_free(&self) -> [usize; 3] {
        self.blocks.map(|blocks| blocks as usize)
    }

    /// A block of exactly `class`, split from a larger one if there is none.
    #[inline]
    pub(super) fn take(&mut self, class: Class) -> Option<Region> {
        let mut from = class;
        while self.heads[from as usize] == NIL {
            from = from.larger()?;
        }
        let page = self.heads[from as usize];
        self.unlink(page, from);
        while from != class {
            let Some(quarter) = from.smaller() else { break };
            from = quarter;
            for buddy in (1..4).rev() {
                self.push(page + buddy * from.pages(), from);
            }
        }
        self.pages_free -= class.pages();
        Some(self.map.claim(page, class.pages()))
    }

    /// `chunks` contiguous free chunks, from the far end so that small traffic stays together at
    /// the near one. Looks at every chunk: for construction, not for traffic.
    pub(super) fn take_run(&mut self, chunks: u32) -> Option<Region> {
        let mut run = 0;
        for chunk in (0..self.map.chunks()).rev() {
            let first = chunk * PAGES_PER_CHUNK;
            run = if self.map.free_mask(first) == u16::MAX { run + 1 } else { 0 };
            if run == chunks {
                for chunk in chunk..chunk + chunks {
                    self.unlink(chunk * PAGES_PER_CHUNK, Class::Kib64);
                }
                self.pages_free -= chunks * PAGES_PER_CHUNK;
                return Some(self.map.claim(first, chunks * PAGES_PER_CHUNK));
            }
        }
        None
    }

    /// Gives back a region, whatever its length and alignment.
    #[inline]
    pub(super) fn release(&mut self, mut region: Region) {
        self.pages_free += region.pages();
        while region.pages() > 0 {
            // The largest block that begins here; buddies join it in `insert`.
            let mut class = Class::within(region.pages());
            while !region.page().is_multiple_of(class.pages()) {
                let Some(quarter) = class.smaller() else { break };
                class = quarter;
            }
            // One block at a time: the map may show as free only what is in a list.
            let page = self.map.release_front(&mut region, class.pages());
            self.insert(page, class);
        }
    }

    /// Links a block that the map just showed as free, merged with its buddies if all are.
    #[inline]
    fn insert(&mut self, mut page: u32, mut class: Class) {
        let mask = self.map.free_mask(page);
        if class == Class::Kib4 {
            let group = page & !3;
            if (mask >> (group % PAGES_PER_CHUNK)) & 0xf == 0xf {
                self.unlink_buddies(group, page, class);
                (page, class) = (group, Class::Kib16);
            }
        }
        if class == Class::Kib16 && mask == u16::MAX {
            let group = page - page % PAGES_PER_CHUNK;
            self.unlink_buddies(group, page, class);
            (page, class) = (group, Class::Kib64);
        }
        self.push(page, class);
    }

    fn unlink_buddies(&mut self, group: u32, page: u32, class: Class) {
        for buddy in (0..4).map(|n| group + n * class.pages()).filter(|&buddy| buddy != page) {
            self.unlink(buddy, class);
        }
    }

    #[inline]
    fn push(&mut self, page: u32, class: Class) {
        let head = std::mem::replace(&mut self.heads[class as usize], page);
        self.links[page as usize] = Link { next: head, previous: NIL };
        if head != NIL {
            self.links[head as usize].previous = page;
        }
        self.blocks[class as usize] += 1;
    }

    #[inline]
    fn unlink(&mut self, page: u32, class: Class) {
        let Link { next, previous } = self.links[page as usize];
        if previous == NIL {
            self.heads[class as usize] = next;
        } else {
            self.links[previous as usize].next = next;
        }
        if next != NIL {
            self.links[next as usize].previous = previous;
        }
        self.blocks[class as usize] -= 1;
    }
}
