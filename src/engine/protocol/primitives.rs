//! The primitive types of Kafka's protocol: a checked reader over received bytes and a writer that
//! appends to a byte vector.
//!
//! An API version is either *classic* (16- and 32-bit length fields) or *flexible* (KIP-482:
//! lengths as unsigned varints one too large, and a section of tagged fields behind every
//! structure). Both [`Reader`] and [`Writer`] are told once which of the two they speak; their
//! strings, bytes, arrays and tagged fields then take that form.
//!
//! Nothing here takes memory because a number on the wire says so: lengths and counts are compared
//! with the bytes that are really there first.

use super::TopicId;

/// The longest string of the protocol, in bytes: classic lengths have 16 bits. Whoever accepts a
/// topic, a client id or a transactional id from a user checks it against this.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Received bytes that are no valid message: the peer is broken, hostile, or not a Kafka broker.
/// The connection they came from cannot be trusted any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid message: {field}: {problem}")]
pub struct DecodeError {
    /// The field that was being read, by a name like the protocol guide's.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: DecodeProblem,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeProblem {
    /// The message ends before the field does.
    #[error("{needed} bytes are needed and {remaining} remain")]
    Truncated {
        /// Bytes that the field takes.
        needed: usize,
        /// Bytes that were left.
        remaining: usize,
    },
    /// A varint goes on for more bytes, or holds more bits, than its type has.
    #[error("a varint is too long")]
    VarintTooLong,
    /// A length or a count is negative and not the mark of null.
    #[error("the length {0} is negative")]
    NegativeLength(i32),
    /// Null where the protocol allows none.
    #[error("null where a value is required")]
    UnexpectedNull,
    /// A string's bytes are not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// An array claims more elements than the bytes that are left could hold.
    #[error("{count} elements cannot be in the {remaining} bytes that remain")]
    CountTooLarge {
        /// The claimed number of elements.
        count: usize,
        /// Bytes that were left.
        remaining: usize,
    },
    /// The field or the message ended and bytes were left over.
    #[error("{0} bytes are left over at the end")]
    TrailingBytes(usize),
}

impl DecodeError {
    /// An error about one field.
    pub fn new(field: &'static str, problem: DecodeProblem) -> Self {
        DecodeError { field, problem }
    }
}

type Result<T> = std::result::Result<T, DecodeError>;

/// Reads primitives off the front of received bytes. Every method names the field it reads, for the
/// error; strings and bytes are borrowed from the input.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    flexible: bool,
}

macro_rules! read_integer {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        #[inline]
        pub fn $name(&mut self, field: &'static str) -> Result<$type> {
            Ok(<$type>::from_be_bytes(self.take_array(field)?))
        })*
    };
}

impl<'a> Reader<'a> {
    /// A reader of a classic or a flexible message.
    pub fn new(bytes: &'a [u8], flexible: bool) -> Self {
        Reader { bytes, flexible }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `count` bytes as they are.
    #[inline]
    pub fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            return Err(self.truncated(count, field));
        };
        self.bytes = rest;
        Ok(taken)
    }

    read_integer! {
        /// One signed byte.
        i8: i8;
        /// A big-endian 16-bit integer.
        i16: i16;
        /// A big-endian 32-bit integer.
        i32: i32;
        /// A big-endian unsigned 32-bit integer, as CRCs are.
        #[cfg(feature = "internals")]
        u32: u32;
        /// A big-endian 64-bit integer.
        i64: i64;
    }

    /// One byte; everything but 0 is true, as Kafka reads it.
    pub fn bool(&mut self, field: &'static str) -> Result<bool> {
        Ok(self.i8(field)? != 0)
    }

    /// 16 bytes: a topic's id.
    pub fn topic_id(&mut self, field: &'static str) -> Result<TopicId> {
        Ok(TopicId(self.take_array(field)?))
    }

    /// A port, 32 bits on the wire. What is none becomes 0, where nobody listens: one broker's
    /// wrong entry must not make the others' unreadable.
    pub fn port(&mut self, field: &'static str) -> Result<u16> {
        Ok(u16::try_from(self.i32(field)?).unwrap_or(0))
    }

    /// An unsigned 32-bit varint, 1 to 5 bytes.
    #[inline]
    pub fn uvarint(&mut self, field: &'static str) -> Result<u32> {
        let value = self.varint_bits(32, field)?;
        Ok(value as u32)
    }

    /// A zigzag 32-bit varint, 1 to 5 bytes.
    #[inline]
    #[cfg(feature = "internals")]
    pub fn varint(&mut self, field: &'static str) -> Result<i32> {
        let raw = self.uvarint(field)?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A zigzag 64-bit varint, 1 to 10 bytes.
    #[inline]
    #[cfg(feature = "internals")]
    pub fn varlong(&mut self, field: &'static str) -> Result<i64> {
        let raw = self.varint_bits(64, field)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A string that must not be null.
    pub fn string(&mut self, field: &'static str) -> Result<&'a str> {
        self.nullable_string(field)?.ok_or(DecodeError::new(field, DecodeProblem::UnexpectedNull))
    }

    /// A string or null.
    pub fn nullable_string(&mut self, field: &'static str) -> Result<Option<&'a str>> {
        let length = if self.flexible {
            self.compact_length(field)?
        } else {
            classic_length(i32::from(self.i16(field)?), field)?
        };
        let Some(length) = length else { return Ok(None) };
        let bytes = self.take(length, field)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| DecodeError::new(field, DecodeProblem::InvalidUtf8))?;
        Ok(Some(text))
    }

    /// Bytes that must not be null.
    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8]> {
        self.nullable_bytes(field)?.ok_or(DecodeError::new(field, DecodeProblem::UnexpectedNull))
    }

    /// Bytes or null.
    pub fn nullable_bytes(&mut self, field: &'static str) -> Result<Option<&'a [u8]>> {
        match self.length_32(field)? {
            Some(length) => self.take(length, field).map(Some),
            None => Ok(None),
        }
    }

    /// The element count of an array that must not be null. At least `count * element_bytes_min`
    /// bytes are left when this returns, so memory for `count` elements may be taken.
    pub fn array(&mut self, field: &'static str, element_bytes_min: usize) -> Result<usize> {
        self.nullable_array(field, element_bytes_min)?
            .ok_or(DecodeError::new(field, DecodeProblem::UnexpectedNull))
    }

    /// The element count of an array, or null; checked as [`Reader::array`] does.
    pub fn nullable_array(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
    ) -> Result<Option<usize>> {
        let Some(count) = self.length_32(field)? else { return Ok(None) };
        let remaining = self.remaining();
        match count.checked_mul(element_bytes_min) {
            Some(needed) if needed <= remaining => Ok(Some(count)),
            _ => Err(DecodeError::new(field, DecodeProblem::CountTooLarge { count, remaining })),
        }
    }

    /// Passes over the tagged fields at the end of a structure; a classic message has none.
    #[inline]
    pub fn skip_tags(&mut self, field: &'static str) -> Result<()> {
        self.visit_tags(field, |_, _| Ok(false))
    }

    /// Hands each tagged field at the end of a structure to `visit`, as its number and a reader of
    /// exactly its bytes. `visit` returns whether it knows the tag: it must then have read it to
    /// the end. Unknown tags are passed over. A classic message has none.
    #[inline]
    pub fn visit_tags(
        &mut self,
        field: &'static str,
        mut visit: impl FnMut(u32, &mut Reader<'a>) -> Result<bool>,
    ) -> Result<()> {
        if !self.flexible {
            return Ok(());
        }
        // The count needs no check of its own: each round takes at least two bytes or fails.
        let count = self.uvarint(field)?;
        for _ in 0..count {
            let tag = self.uvarint(field)?;
            let size = self.uvarint(field)? as usize;
            let mut content = Reader::new(self.take(size, field)?, true);
            if visit(tag, &mut content)? {
                content.finish(field)?;
            }
        }
        Ok(())
    }

    /// Ends reading: an error if bytes are left over, for then the peer means something else than
    /// what was understood.
    pub fn finish(self, field: &'static str) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::new(field, DecodeProblem::TrailingBytes(left))),
        }
    }

    #[inline]
    fn take_array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(self.truncated(N, field));
        };
        self.bytes = rest;
        Ok(*taken)
    }

    /// A little-endian base-128 number of at most `bits` bits.
    #[inline]
    fn varint_bits(&mut self, bits: u32, field: &'static str) -> Result<u64> {
        let mut value = 0u64;
        let mut shift = 0;
        loop {
            let [byte] = self.take_array(field)?;
            let group = u64::from(byte & 0x7f);
            // The last group of a full-length varint has fewer than 7 bits of room.
            if shift + 7 > bits && group >> (bits - shift) != 0 {
                return Err(DecodeError::new(field, DecodeProblem::VarintTooLong));
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
            if shift >= bits {
                return Err(DecodeError::new(field, DecodeProblem::VarintTooLong));
            }
        }
    }

    fn compact_length(&mut self, field: &'static str) -> Result<Option<usize>> {
        Ok((self.uvarint(field)? as usize).checked_sub(1))
    }

    fn length_32(&mut self, field: &'static str) -> Result<Option<usize>> {
        if self.flexible {
            self.compact_length(field)
        } else {
            classic_length(self.i32(field)?, field)
        }
    }

    #[cold]
    fn truncated(&self, needed: usize, field: &'static str) -> DecodeError {
        let remaining = self.remaining();
        DecodeError::new(field, DecodeProblem::Truncated { needed, remaining })
    }
}

/// -1 is null; anything below it is nothing at all.
fn classic_length(length: i32, field: &'static str) -> Result<Option<usize>> {
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(DecodeError::new(field, DecodeProblem::NegativeLength(length))),
    }
}

/// Appends primitives to a byte vector.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    flexible: bool,
}

impl<'a> Writer<'a> {
    /// A writer of a classic or a flexible message, behind what `out` holds already.
    pub fn new(out: &'a mut Vec<u8>, flexible: bool) -> Self {
        Writer { out, flexible }
    }

    /// Length of the vector written to, in bytes: where the next primitive will start.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// One signed byte.
    pub fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian 16-bit integer.
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian 32-bit integer.
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian 64-bit integer.
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.i8(i8::from(value));
    }

    /// 16 bytes: a topic's id.
    pub fn topic_id(&mut self, id: TopicId) {
        self.raw(&id.0);
    }

    /// An unsigned 32-bit varint.
    pub fn uvarint(&mut self, value: u32) {
        self.uvarlong(u64::from(value));
    }

    /// A zigzag 32-bit varint.
    #[cfg(feature = "internals")]
    pub fn varint(&mut self, value: i32) {
        self.uvarint(((value << 1) ^ (value >> 31)) as u32);
    }

    /// A zigzag 64-bit varint.
    #[cfg(feature = "internals")]
    pub fn varlong(&mut self, value: i64) {
        self.uvarlong(((value << 1) ^ (value >> 63)) as u64);
    }

    /// A string. Panics over [`STRING_BYTES_MAX`]: names are checked where the user gives them.
    pub fn string(&mut self, text: &str) {
        self.nullable_string(Some(text));
    }

    /// A string or null. Panics as [`Writer::string`] does.
    pub fn nullable_string(&mut self, text: Option<&str>) {
        let length = text.map_or(0, str::len);
        assert!(
            length <= STRING_BYTES_MAX,
            "a string of {length} bytes is over the protocol's limit"
        );
        match text {
            Some(_) if self.flexible => self.uvarint(length as u32 + 1),
            Some(_) => self.i16(length as i16),
            None if self.flexible => self.uvarint(0),
            None => self.i16(-1),
        }
        self.raw(text.unwrap_or_default().as_bytes());
    }

    /// The length of bytes that follow, or the count of an array's elements that follow.
    pub fn length(&mut self, length: usize) {
        assert!(length < i32::MAX as usize, "a length of {length} is over the protocol's limit");
        if self.flexible {
            self.uvarint(length as u32 + 1);
        } else {
            self.i32(length as i32);
        }
    }

    /// Null in place of bytes or of an array.
    pub fn null_length(&mut self) {
        if self.flexible {
            self.uvarint(0);
        } else {
            self.i32(-1);
        }
    }

    /// The end of a structure that has no tagged fields; nothing in a classic message.
    pub fn no_tags(&mut self) {
        if self.flexible {
            self.uvarint(0);
        }
    }

    fn uvarlong(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

#[cfg(test)]
mod tests;
