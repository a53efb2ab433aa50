//! Kafka's compression of a batch's records: gzip, snappy, lz4 and zstd, each a feature.
//!
//! Fed by `shard/`, which compresses a sealed batch before it is packed into a request; feeds it
//! the bytes that go behind the batch's header. Readers of batches use [`decompress`].
//!
//! Compressing takes the batch as it lies, a chain of slices, into memory that the caller chose:
//! a [`Compressor`] takes its contexts when a codec is first used and nothing after that.

#[cfg(any(feature = "snappy", feature = "lz4"))]
mod blocks;
#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "lz4")]
mod lz4_block;
#[cfg(any(feature = "gzip", feature = "snappy", feature = "lz4"))]
mod output;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(test)]
mod tests;
#[cfg(feature = "zstd")]
mod zstd;

use std::fmt;
use std::ops::RangeInclusive;

use thiserror::Error;

/// How a batch is compressed, as its attributes say.
///
/// ```
/// use tidegate::Codec;
///
/// // The codecs among which a user of this build may choose.
/// let built: Vec<Codec> = Codec::ALL.into_iter().filter(|codec| codec.is_built()).collect();
/// assert!(built.contains(&Codec::None));
/// assert_eq!(Codec::from_name("zstd"), Some(Codec::Zstd));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip, RFC 1952.
    Gzip = 1,
    /// Snappy blocks in the framing of the Java library (xerial).
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// Zstandard, RFC 8878; needs Produce v7 (KIP-110).
    Zstd = 4,
}

impl Codec {
    /// All of them, in the order of their numbers.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The number in a batch's attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The codec that the lowest three bits of a batch's attributes name, if Kafka defines it.
    pub fn from_attributes(attributes: i16) -> Option<Codec> {
        Codec::ALL.get(usize::from(attributes as u16 & 7)).copied()
    }

    /// Kafka's name for it, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// The codec of that name, as in `compression.type`.
    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Whether this build of the crate can use it: each is a feature of its own name.
    pub fn is_built(self) -> bool {
        match self {
            Codec::None => true,
            Codec::Gzip => cfg!(feature = "gzip"),
            Codec::Snappy => cfg!(feature = "snappy"),
            Codec::Lz4 => cfg!(feature = "lz4"),
            Codec::Zstd => cfg!(feature = "zstd"),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a producer compresses its batches: a codec, with its level where it has one (KIP-390).
///
/// A batch that would not become smaller is sent as it is. Levels and their defaults are those of
/// Kafka's producer.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use tidegate::Compression;
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .compression(Compression::gzip().with_level(9)?)
///     .build()?;
/// producer.topic("orders")?.send("customer-42", "shoes, ".repeat(1_000))?.wait()?;
/// let broker = &producer.metrics().brokers[0];
/// assert!(broker.packed_bytes < broker.plain_bytes / 10);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Batches are sent as they are.
    #[default]
    None,
    /// Small, and slow to make.
    Gzip {
        /// 1 (fastest) to 9 (smallest), or -1, the default, for the library's own choice: 6.
        level: i32,
    },
    /// Fast; has no levels.
    Snappy,
    /// Fast.
    Lz4 {
        /// 1 to 17, default 9. Accepted for the sake of Kafka's configurations, but every level
        /// compresses alike: the LZ4 library used here has the fast compressor only, which is
        /// about Kafka's level 1.
        level: i32,
    },
    /// Smaller than gzip at several times its speed; brokers since 2.1 (KIP-110).
    Zstd {
        /// -131,072 (fastest) to 22 (smallest), default 3; 0 is the default too.
        level: i32,
    },
}

/// A level outside of what Kafka allows for the codec.
///
/// ```
/// use tidegate::Compression;
///
/// let error = Compression::gzip().with_level(12).unwrap_err();
/// assert_eq!(error.to_string(), "gzip has no level 12: Kafka allows 1 to 9");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{codec} has no level {level}: Kafka allows {least} to {most}")]
pub struct LevelOutOfRange {
    codec: Codec,
    level: i32,
    least: i32,
    most: i32,
}

/// zlib's name for "your own choice".
const GZIP_LEVEL_DEFAULT: i32 = -1;
const GZIP_LEVELS: RangeInclusive<i32> = 1..=9;
const LZ4_LEVEL_DEFAULT: i32 = 9;
const LZ4_LEVELS: RangeInclusive<i32> = 1..=17;
const ZSTD_LEVEL_DEFAULT: i32 = 3;
const ZSTD_LEVELS: RangeInclusive<i32> = -131_072..=22;

impl Compression {
    /// gzip at Kafka's default level, -1.
    pub const fn gzip() -> Compression {
        Compression::Gzip { level: GZIP_LEVEL_DEFAULT }
    }

    /// Snappy, which has no levels.
    pub const fn snappy() -> Compression {
        Compression::Snappy
    }

    /// LZ4 at Kafka's default level, 9.
    pub const fn lz4() -> Compression {
        Compression::Lz4 { level: LZ4_LEVEL_DEFAULT }
    }

    /// Zstandard at Kafka's default level, 3.
    pub const fn zstd() -> Compression {
        Compression::Zstd { level: ZSTD_LEVEL_DEFAULT }
    }

    /// The same codec at another level. Of a codec without levels nothing changes.
    ///
    /// # Errors
    ///
    /// When Kafka does not allow that level for the codec.
    pub fn with_level(self, level: i32) -> Result<Compression, LevelOutOfRange> {
        let changed = match self {
            Compression::Gzip { .. } => Compression::Gzip { level },
            Compression::Lz4 { .. } => Compression::Lz4 { level },
            Compression::Zstd { .. } => Compression::Zstd { level },
            Compression::None | Compression::Snappy => self,
        };
        changed.validate()?;
        Ok(changed)
    }

    /// Checks the level, for values that were put together by hand.
    ///
    /// # Errors
    ///
    /// When Kafka does not allow that level for the codec.
    pub fn validate(&self) -> Result<(), LevelOutOfRange> {
        let (level, levels) = match *self {
            Compression::None | Compression::Snappy => return Ok(()),
            Compression::Gzip { level: GZIP_LEVEL_DEFAULT } => return Ok(()),
            Compression::Gzip { level } => (level, GZIP_LEVELS),
            Compression::Lz4 { level } => (level, LZ4_LEVELS),
            Compression::Zstd { level } => (level, ZSTD_LEVELS),
        };
        if levels.contains(&level) {
            return Ok(());
        }
        let (least, most) = levels.into_inner();
        Err(LevelOutOfRange { codec: self.codec(), level, least, most })
    }

    /// The codec that compressed batches name.
    pub fn codec(&self) -> Codec {
        match self {
            Compression::None => Codec::None,
            Compression::Gzip { .. } => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 { .. } => Codec::Lz4,
            Compression::Zstd { .. } => Codec::Zstd,
        }
    }

    /// Whether this build of the crate can use it: each codec is a feature of its own name.
    pub fn is_built(&self) -> bool {
        self.codec().is_built()
    }
}

impl From<Codec> for Compression {
    /// The codec at its default level.
    fn from(codec: Codec) -> Compression {
        match codec {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::gzip(),
            Codec::Snappy => Compression::snappy(),
            Codec::Lz4 => Compression::lz4(),
            Codec::Zstd => Compression::zstd(),
        }
    }
}

/// Gives an LZ4 frame that [`Compressor::compress`] made the header that Kafka wrote, and wants, in
/// messages of magic 0: their checksum covers the frame's magic number as well (KAFKA-3160).
pub fn use_lz4_header_of_magic_0(frame: &mut [u8]) {
    #[cfg(feature = "lz4")]
    lz4::use_header_of_magic_0(frame);
    #[cfg(not(feature = "lz4"))]
    let _ = frame;
}

/// The contexts of all codecs, one of these per loop. Each codec's is made at its first use, 64 to
/// 400 KiB (zstd: more at high levels), and reused for every batch after that.
#[derive(Default)]
pub struct Compressor {
    #[cfg(any(feature = "snappy", feature = "lz4"))]
    blocks: Option<Box<blocks::BlockBuffers>>,
    #[cfg(feature = "gzip")]
    gzip: Option<gzip::Encoder>,
    #[cfg(feature = "snappy")]
    snappy: Option<snappy::Encoder>,
    #[cfg(feature = "lz4")]
    lz4: Option<lz4::Encoder>,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::Encoder>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// No context is made before it is used.
    pub fn new() -> Compressor {
        Compressor::default()
    }

    /// Compresses `input`, chunks of together `input_len` bytes, into `out` and returns how many
    /// bytes it took.
    ///
    /// `None` when the result would not be smaller than the input or does not fit `out`, whose
    /// content is then undefined, and when the codec is none or not built: the batch goes plain.
    pub fn compress<'a>(
        &mut self,
        compression: &Compression,
        input: impl Chunks<'a>,
        input_len: usize,
        out: &mut [u8],
    ) -> Option<usize> {
        let room = out.len().min(input_len.checked_sub(1)?);
        let out = &mut out[..room];
        match *compression {
            #[cfg(feature = "gzip")]
            Compression::Gzip { level } => {
                self.gzip.get_or_insert_with(|| gzip::Encoder::new(level)).encode(level, input, out)
            }
            #[cfg(feature = "snappy")]
            Compression::Snappy => {
                let blocks = self.blocks.get_or_insert_default();
                let encoder = self.snappy.get_or_insert_with(snappy::Encoder::new);
                snappy::encode(encoder, blocks, input, out)
            }
            #[cfg(feature = "lz4")]
            Compression::Lz4 { .. } => {
                let blocks = self.blocks.get_or_insert_default();
                self.lz4.get_or_insert_default().encode(blocks, input, out)
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd { level } => self
                .zstd
                .get_or_insert_with(zstd::Encoder::new)
                .encode(level, input, input_len, out),
            _ => {
                let _ = (input, out);
                None
            }
        }
    }
}

/// Bytes to compress, chunk by chunk. A chunk lives until the next is asked for.
#[cfg_attr(
    not(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
    allow(dead_code, reason = "no codec is built that would ask for chunks")
)]
pub trait Chunks<'a> {
    /// The next chunk, which may be empty; `None` behind the last.
    fn next_chunk<'s>(&'s mut self) -> Option<&'s [u8]>
    where
        'a: 's;
}

impl<'a, I: Iterator<Item = &'a [u8]>> Chunks<'a> for I {
    fn next_chunk<'s>(&'s mut self) -> Option<&'s [u8]>
    where
        'a: 's,
    {
        self.next()
    }
}

/// Why bytes could not be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecompressError {
    /// This build of the crate lacks the codec's feature.
    #[error("this build has no {0}: turn on the feature of that name")]
    NotBuilt(Codec),
    /// The bytes are not of the codec's format, or are cut off.
    #[cfg(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
    #[error("not well-formed {codec}: {reason}")]
    Malformed {
        /// The codec that was named.
        codec: Codec,
        /// What is wrong.
        reason: &'static str,
    },
    /// The result would be longer than the caller allows.
    #[error("more than {max} bytes once decompressed")]
    TooLarge {
        /// The most bytes that were allowed.
        max: usize,
    },
}

/// Decompresses `input` into at most `max` bytes; never takes more memory than that for the
/// result, whatever the input says about itself.
///
/// Reads all that Kafka's clients have written: several gzip members, raw snappy blocks besides
/// the Java library's framing, LZ4 frames with linked blocks and checksums, zstd frames of unknown
/// size.
///
/// # Errors
///
/// See [`DecompressError`].
pub fn decompress(codec: Codec, input: &[u8], max: usize) -> Result<Vec<u8>, DecompressError> {
    match codec {
        Codec::None if input.len() > max => Err(DecompressError::TooLarge { max }),
        Codec::None => Ok(input.to_vec()),
        #[cfg(feature = "gzip")]
        Codec::Gzip => gzip::decode(input, max),
        #[cfg(feature = "snappy")]
        Codec::Snappy => snappy::decode(input, max),
        #[cfg(feature = "lz4")]
        Codec::Lz4 => lz4::decode(input, max),
        #[cfg(feature = "zstd")]
        Codec::Zstd => zstd::decode(input, max),
        #[allow(unreachable_patterns)]
        codec => Err(DecompressError::NotBuilt(codec)),
    }
}
