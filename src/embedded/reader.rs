//! The bytes of one connection as they come in: whole frames, or pieces of them in passing.

use std::io;
#[cfg(target_os = "linux")]
use std::net::TcpStream;

use super::gate::Gate;
use super::wire::Wire;

/// Bytes read at once. As small as this they are still in cache when they are looked at.
const BUFFER_BYTES: usize = 128 << 10;
/// From this size on, what is skipped is dropped in the socket.
#[cfg(target_os = "linux")]
const UNREAD_BYTES_MIN: usize = 32 << 10;
/// What is read after such a skip: the next header will be in it, and little that is skipped next.
#[cfg(target_os = "linux")]
const HEAD_BYTES: usize = 4 << 10;
/// A frame's memory grows with what was really received, by this much at least.
const FRAME_GROWTH_BYTES: usize = 1 << 20;

/// A buffered reader that keeps to its broker's gate.
pub(super) struct Reader<'a> {
    wire: &'a Wire<'a>,
    gate: &'a Gate,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The most that the next read takes.
    read_bytes_max: usize,
    #[cfg(target_os = "linux")]
    unread: Unread,
}

impl<'a> Reader<'a> {
    pub(super) fn new(wire: &'a Wire<'a>, gate: &'a Gate) -> Reader<'a> {
        Reader {
            wire,
            gate,
            buffer: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            read_bytes_max: BUFFER_BYTES,
            #[cfg(target_os = "linux")]
            unread: Unread::new(),
        }
    }

    /// The next `n` bytes, which stay to be read. `n` is at most the buffer's size.
    pub(super) fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        assert!(n <= self.buffer.len(), "more is looked at than the buffer holds");
        while self.end - self.start < n {
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.start + n])
    }

    /// The next `n` bytes. `n` is at most the buffer's size.
    pub(super) fn take(&mut self, n: usize) -> io::Result<&[u8]> {
        self.peek(n)?;
        self.start += n;
        Ok(&self.buffer[self.start - n..self.start])
    }

    /// The next `n` bytes in memory of their own, however many.
    pub(super) fn take_owned(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(n.min(FRAME_GROWTH_BYTES));
        while out.len() < n {
            let missing = n - out.len();
            if self.start == self.end && missing >= self.buffer.len() {
                let (length, more) = (out.len(), missing.min(out.len().max(FRAME_GROWTH_BYTES)));
                out.resize(length + more, 0);
                let count = received(self.gate, self.wire.read(&mut out[length..]))?;
                out.truncate(length + count);
                continue;
            }
            if self.start == self.end {
                self.fill()?;
            }
            let count = missing.min(self.end - self.start);
            out.extend_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
        }
        Ok(out)
    }

    /// Drops the next `n` bytes, without having them copied here where the system can.
    pub(super) fn skip(&mut self, mut n: usize) -> io::Result<()> {
        loop {
            let buffered = n.min(self.end - self.start);
            self.start += buffered;
            n -= buffered;
            if n == 0 {
                return Ok(());
            }
            #[cfg(target_os = "linux")]
            if n >= UNREAD_BYTES_MIN
                && let Some(stream) = self.wire.plain()
            {
                self.read_bytes_max = HEAD_BYTES;
                n -= received(self.gate, self.unread.drop_from(stream, n))?;
                continue;
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let until = self.buffer.len().min(self.end + self.read_bytes_max);
        self.read_bytes_max = BUFFER_BYTES;
        let read = self.wire.read(&mut self.buffer[self.end..until]);
        self.end += received(self.gate, read)?;
        Ok(())
    }
}

/// What came of a read: held back while the broker is paused, an error at the end of the stream.
fn received(gate: &Gate, read: io::Result<usize>) -> io::Result<usize> {
    gate.pass()?;
    match read {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        other => other,
    }
}

/// Takes bytes out of a TCP socket without copying them (Linux: MSG_TRUNC, see tcp(7)).
#[cfg(target_os = "linux")]
struct Unread {
    /// Says how much may be dropped at once, and is never written: no memory is behind it.
    nowhere: Box<[std::mem::MaybeUninit<u8>]>,
}

#[cfg(target_os = "linux")]
impl Unread {
    fn new() -> Unread {
        Unread { nowhere: Box::new_uninit_slice(1 << 20) }
    }

    fn drop_from(&mut self, stream: &TcpStream, n: usize) -> io::Result<usize> {
        let n = n.min(self.nowhere.len());
        socket2::SockRef::from(stream).recv_with_flags(&mut self.nowhere[..n], libc::MSG_TRUNC)
    }
}
