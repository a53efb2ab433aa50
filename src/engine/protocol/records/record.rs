//! The records of a batch, read one after the other.

use std::fmt;

use thiserror::Error;

use super::header::*;
use super::varint::{take_i32, take_i64};
use super::{Header, Length};

/// The fewest bytes a record takes: seven numbers of one byte each.
pub(super) const RECORD_LEN_MIN: usize = 7;
/// The fewest bytes a record's header takes: two lengths.
const HEADER_LEN_MIN: usize = 2;

/// A record whose inside is not what its lengths say.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("record {index}: {reason}")]
pub struct BadRecord {
    /// Which record of the batch, from 0.
    pub index: u32,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The records of one batch: or as many as are left of them.
#[derive(Clone)]
pub struct Records<'a> {
    header: &'a BatchHeader,
    rest: &'a [u8],
    /// The next record's.
    index: u32,
    failed: bool,
}

/// One record, borrowed from its batch.
#[derive(Clone)]
pub struct Record<'a> {
    /// Its offset in the partition; in what a producer sends, its place in the batch.
    pub offset: i64,
    /// In ms since 1970.
    pub timestamp: i64,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
    /// In order; keys may repeat.
    pub headers: Headers<'a>,
}

/// The headers of one record, checked when the record was read.
#[derive(Clone)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: usize,
}

// What users wrote is shown as lengths.
impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("index", &self.index)
            .field("rest", &Length(Some(self.rest)))
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("key", &Length(self.key))
            .field("value", &Length(self.value))
            .field("headers", &self.headers)
            .finish()
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headers")
            .field("left", &self.left)
            .field("rest", &Length(Some(self.rest)))
            .finish()
    }
}

impl<'a> Records<'a> {
    /// The records in `plain`, which are encoded one after the other and not compressed, as those
    /// of a batch with this header.
    pub fn of_plain(header: &'a BatchHeader, plain: &'a [u8]) -> Self {
        Records { header, rest: plain, index: 0, failed: false }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let index = self.index;
        let ended = index == self.header.record_count;
        if ended && self.rest.is_empty() {
            return None;
        }
        let record = match ended {
            true => Err("bytes follow the last record"),
            false => take_record(&mut self.rest, self.header),
        };
        self.index = index.saturating_add(1);
        self.failed = record.is_err();
        Some(record.map_err(|reason| BadRecord { index, reason }))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        // All of them were read once, when the record was.
        take_header(&mut self.rest).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

fn take_record<'a>(rest: &mut &'a [u8], header: &BatchHeader) -> Result<Record<'a>, &'static str> {
    let length = take_i32(rest).ok_or("its length is cut off or too wide")?;
    let length = usize::try_from(length).map_err(|_| "its length is negative")?;
    let mut body = take_bytes(rest, length).ok_or("it is longer than the batch")?;
    let [_attributes] = *take_bytes(&mut body, 1).ok_or("it is empty")? else {
        return Err("it is empty");
    };
    let timestamp_delta = take_i64(&mut body).ok_or("no timestamp")?;
    let offset_delta = take_i32(&mut body).ok_or("no offset")?;
    let key = take_field(&mut body).ok_or("its key is cut off")?;
    let value = take_field(&mut body).ok_or("its value is cut off")?;
    let headers = take_headers(body)?;
    Ok(Record {
        offset: header.base_offset.wrapping_add(i64::from(offset_delta)),
        timestamp: match header.timestamp_type {
            TimestampType::CreateTime => header.base_timestamp.wrapping_add(timestamp_delta),
            TimestampType::LogAppendTime => header.max_timestamp,
        },
        key,
        value,
        headers,
    })
}

/// Reads all headers, to the end of the record, so that iterating them cannot fail.
fn take_headers(mut body: &[u8]) -> Result<Headers<'_>, &'static str> {
    let count = take_i32(&mut body).ok_or("no header count")?;
    let left = usize::try_from(count).map_err(|_| "its header count is negative")?;
    if left > body.len() / HEADER_LEN_MIN {
        return Err("more headers than its bytes could hold");
    }
    let mut walk = body;
    for _ in 0..left {
        take_header(&mut walk)?;
    }
    match walk.is_empty() {
        true => Ok(Headers { rest: body, left }),
        false => Err("bytes follow its headers"),
    }
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<Header<'a>, &'static str> {
    let key = take_field(rest).ok_or("a header is cut off")?.ok_or("a header's key is null")?;
    let key = std::str::from_utf8(key).map_err(|_| "a header's key is not UTF-8")?;
    let value = take_field(rest).ok_or("a header is cut off")?;
    Ok(Header { key, value })
}

/// A nullable field: the outer `None` is a field that is cut off or has a length below -1.
fn take_field<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_i32(rest)? {
        -1 => Some(None),
        length => take_bytes(rest, usize::try_from(length).ok()?).map(Some),
    }
}

fn take_bytes<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(bytes)
}
