//! Reading a produce request in passing, for brokers that discard payloads: batch headers are kept,
//! records are dropped unseen, most of them without ever being copied out of the socket.

use std::io;

use super::batch::HEADER_BYTES;
use super::handlers::produce::{Call, TopicCall, TopicKey};
use super::log::Submitted;
use super::reader::Reader;

/// The longest string taken, as a 16-bit length allows.
const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Reads the rest of a produce request of `version`, 3 to 13, after the size, API key, version and
/// correlation id. `left` is the count of bytes that the rest has.
pub(super) fn read_call(reader: &mut Reader<'_>, left: usize, version: i16) -> io::Result<Call> {
    let mut frame = Frame { reader, left, compact: false };
    frame.string()?; // The client id, in this form in every header version.
    frame.compact = version >= 9;
    frame.tags()?;
    frame.string()?; // The transactional id.
    let acks = i16::from_be_bytes(frame.array()?);
    let _timeout_ms: [u8; 4] = frame.array()?;
    let mut topics = Vec::new();
    for _ in 0..frame.count()? {
        let key = match version {
            ..=12 => TopicKey::Name(frame.string()?),
            _ => TopicKey::Id(frame.array()?),
        };
        let mut partitions = Vec::new();
        for _ in 0..frame.count()? {
            let index = i32::from_be_bytes(frame.array()?);
            partitions.push((index, frame.records()?));
            frame.tags()?;
        }
        frame.tags()?;
        topics.push(TopicCall { key, partitions });
    }
    frame.tags()?;
    match frame.left {
        0 => Ok(Call { acks, topics }),
        _ => Err(malformed("bytes after the request")),
    }
}

struct Frame<'a, 'b> {
    reader: &'a mut Reader<'b>,
    left: usize,
    /// Lengths are varints plus one (KIP-482), and structures have tagged fields.
    compact: bool,
}

impl Frame<'_, '_> {
    fn claim(&mut self, n: usize) -> io::Result<()> {
        self.left = self.left.checked_sub(n).ok_or_else(|| malformed("a request cut short"))?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.claim(N)?;
        let mut out = [0; N];
        out.copy_from_slice(self.reader.take(N)?);
        Ok(out)
    }

    fn varint(&mut self) -> io::Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a varint of more than five bytes"))
    }

    /// A length, `None` for null.
    fn length<const WIDTH: usize>(&mut self) -> io::Result<Option<usize>> {
        if self.compact {
            return Ok(self.varint()?.checked_sub(1));
        }
        let raw: [u8; WIDTH] = self.array()?;
        let value = raw.iter().fold(0, |value, &byte| value << 8 | usize::from(byte));
        Ok((raw[0] & 0x80 == 0).then_some(value))
    }

    /// The count of an array. Every element takes a byte of the frame at least.
    fn count(&mut self) -> io::Result<usize> {
        match self.length::<4>()? {
            Some(count) if count > self.left => Err(malformed("a count larger than the request")),
            count => Ok(count.unwrap_or(0)),
        }
    }

    fn string(&mut self) -> io::Result<String> {
        let length = self.length::<2>()?.unwrap_or(0);
        if length > STRING_BYTES_MAX {
            return Err(malformed("a string that is too long"));
        }
        self.claim(length)?;
        let bytes = self.reader.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("a string is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn records(&mut self) -> io::Result<Submitted> {
        let Some(size) = self.length::<4>()? else { return Ok(Submitted::Whole(None)) };
        self.claim(size)?;
        if size < HEADER_BYTES {
            return Ok(Submitted::Whole(Some(self.reader.take_owned(size)?.into())));
        }
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(self.reader.take(HEADER_BYTES)?);
        self.reader.skip(size - HEADER_BYTES)?;
        Ok(Submitted::HeaderOnly { size, header })
    }

    fn tags(&mut self) -> io::Result<()> {
        if self.compact {
            for _ in 0..self.varint()? {
                self.varint()?;
                let size = self.varint()?;
                self.claim(size)?;
                self.reader.skip(size)?;
            }
        }
        Ok(())
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
