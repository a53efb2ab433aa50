//! The codecs of record batches.

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, at a level from 1 to 9.
    Gzip {
        /// From 1 (quick) to 9 (small).
        level: i32,
    },
    /// Snappy, which has no levels.
    Snappy,
    /// LZ4, at a level from 1 to 17.
    Lz4 {
        /// From 1 (quick) to 17 (small).
        level: i32,
    },
    /// Zstandard, at a level from -131072 to 22.
    Zstd {
        /// From -131072 (quick) to 22 (small).
        level: i32,
    },
}
