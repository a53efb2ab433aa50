//! One connection: bytes are taken from one side, cut into frames, and given to the other.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::Shared;
use super::frame::{Act, Direction, Frame};

/// Larger frames are taken for something else, and their stream is carried as it is.
const FRAME_BYTES_MAX: usize = 64 << 20;
const SIZE_BYTES: usize = 4;
/// Bytes written in one piece under a limit of bandwidth.
const PACED_BYTES: usize = 1 << 10;
/// How often a write to a side that does not read looks whether the connection is over.
const WRITE_LIMIT: Duration = Duration::from_millis(20);
/// A wait that is ended by something else.
const LONG: Duration = Duration::from_secs(3600);

/// The two sides of a connection.
#[derive(Debug)]
pub struct Link {
    number: u64,
    /// Where the client connected to.
    address: SocketAddr,
    client: TcpStream,
    upstream: Option<TcpStream>,
    over: AtomicBool,
    deadline: Mutex<Option<Instant>>,
    /// Correlation id → API key and version of requests that were not answered.
    asked: Mutex<HashMap<i32, (i16, i16)>>,
}

impl Link {
    pub fn new(number: u64, client: TcpStream, upstream: Option<TcpStream>) -> io::Result<Link> {
        for stream in std::iter::once(&client).chain(&upstream) {
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(WRITE_LIMIT))?;
        }
        let address = client.local_addr()?;
        let (over, deadline, asked) = Default::default();
        Ok(Link { number, address, client, upstream, over, deadline, asked })
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_deadline(&self, at: Instant) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// Ends both sides: the broker sees a close, the client a reset once the last thread lets go.
    pub fn cut(&self) {
        if self.over.swap(true, Ordering::SeqCst) {
            return;
        }
        // Either may be gone already.
        let _ = SockRef::from(&self.client).set_linger(Some(Duration::ZERO));
        let _ = self.client.shutdown(Shutdown::Read);
        if let Some(upstream) = &self.upstream {
            let _ = upstream.shutdown(Shutdown::Both);
        }
    }

    /// Ends both sides in good order: both see a close.
    pub fn end(&self) {
        if self.over.swap(true, Ordering::SeqCst) {
            return;
        }
        // Either may be gone already.
        let _ = self.client.shutdown(Shutdown::Both);
        if let Some(upstream) = &self.upstream {
            let _ = upstream.shutdown(Shutdown::Both);
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, HashMap<i32, (i16, i16)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries one direction until either side ends, or a script says so.
pub fn pump(shared: &Shared, link: &Link, direction: Direction) {
    let Some(upstream) = &link.upstream else { return };
    let (from, to) = match direction {
        Direction::Request => (&link.client, upstream),
        Direction::Response => (upstream, &link.client),
    };
    let mut pump = Pump { shared, link, direction, from, to, nth: 0, held: None };
    let mut from = io::BufReader::with_capacity(64 << 10, from);
    while let Ok(bytes) = read_frame(&mut from) {
        let carried = match bytes {
            Piece::Frame(bytes) => pump.frame(&mut from, bytes),
            Piece::Other(size) => pump.opaque(&mut from, &size),
        };
        if carried.is_err() {
            return;
        }
    }
    if direction == Direction::Response {
        // The broker closed in good order.
        link.end();
    }
}

/// What comes next from a stream.
enum Piece {
    Frame(Vec<u8>),
    /// Four bytes that are no size.
    Other([u8; SIZE_BYTES]),
}

fn read_frame(from: &mut impl Read) -> io::Result<Piece> {
    let mut size = [0; SIZE_BYTES];
    from.read_exact(&mut size)?;
    match usize::try_from(i32::from_be_bytes(size)) {
        Ok(length) if (4..=FRAME_BYTES_MAX).contains(&length) => {
            let mut bytes = vec![0; SIZE_BYTES + length];
            bytes[..SIZE_BYTES].copy_from_slice(&size);
            from.read_exact(&mut bytes[SIZE_BYTES..])?;
            Ok(Piece::Frame(bytes))
        }
        _ => Ok(Piece::Other(size)),
    }
}

/// The connection is over for this thread.
struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Over {
        Over
    }
}

struct Pump<'a> {
    shared: &'a Shared,
    link: &'a Link,
    direction: Direction,
    from: &'a TcpStream,
    to: &'a TcpStream,
    nth: u64,
    held: Option<Vec<u8>>,
}

impl Pump<'_> {
    fn frame(&mut self, from: &mut impl Read, bytes: Vec<u8>) -> Result<(), Over> {
        let frame = self.describe(&bytes);
        self.nth += 1;
        self.count(frame.api_key);
        let act = match &mut *self.shared.lock_script() {
            Some(script) => script(&frame),
            None => Act::Pass,
        };
        match act {
            Act::Hold => {
                self.held = Some(bytes);
                return Ok(());
            }
            Act::Pass => self.write(&bytes)?,
            Act::CutAt(at) => {
                self.write(&bytes[..at.min(bytes.len())])?;
                return Err(Over);
            }
            Act::Swallow => {}
            Act::Delay(by) => {
                self.sleep(by)?;
                self.write(&bytes)?;
            }
            Act::Replace(other) => self.write(&other)?,
            Act::Answer(answer) => {
                self.write(&bytes)?;
                self.write_to(self.from, &answer)?;
            }
            Act::Trickle(gap) => {
                for byte in bytes.chunks(1) {
                    self.write(byte)?;
                    self.sleep(gap)?;
                }
            }
            Act::Mute => {
                io::copy(from, &mut io::sink())?;
                return Err(Over);
            }
            Act::Stall => {
                // Waits for a byte, and leaves it where it is.
                self.from.peek(&mut [0])?;
                self.shared.lock().seen.unread += 1;
                self.shared.changed.notify_all();
                return self.sleep(LONG);
            }
        }
        match self.held.take() {
            Some(held) => self.write(&held),
            None => Ok(()),
        }
    }

    fn describe<'a>(&self, bytes: &'a [u8]) -> Frame<'a> {
        let number = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
        let number = |at: usize| number(at).map_or(-1, i32::from_be_bytes);
        let mut asked = self.link.asked();
        let (correlation, (api_key, version)) = match self.direction {
            Direction::Request => {
                let kind = ((number(4) >> 16) as i16, number(4) as i16);
                asked.insert(number(8), kind);
                (number(8), kind)
            }
            Direction::Response => (number(4), asked.remove(&number(4)).unwrap_or((-1, -1))),
        };
        let Link { number: connection, address, .. } = *self.link;
        let (direction, nth) = (self.direction, self.nth);
        Frame { connection, address, direction, api_key, version, correlation, nth, bytes }
    }

    fn count(&self, api_key: i16) {
        let mut state = self.shared.lock();
        let counts = match self.direction {
            Direction::Request => &mut state.seen.requests,
            Direction::Response => &mut state.seen.responses,
        };
        *counts.entry(api_key).or_default() += 1;
        self.shared.changed.notify_all();
    }

    /// Carries what has no frames.
    fn opaque(&self, from: &mut impl Read, first: &[u8]) -> Result<(), Over> {
        self.write(first)?;
        let mut buffer = [0; 4 << 10];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(()),
                bytes => self.write(&buffer[..bytes])?,
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Over> {
        let Some(rate) = self.shared.lock().bandwidth else { return self.write_to(self.to, bytes) };
        for piece in bytes.chunks(PACED_BYTES) {
            self.write_to(self.to, piece)?;
            self.sleep(Duration::from_secs_f64(piece.len() as f64 / rate.max(1) as f64))?;
        }
        Ok(())
    }

    fn write_to(&self, mut to: &TcpStream, mut bytes: &[u8]) -> Result<(), Over> {
        while !bytes.is_empty() {
            match to.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(Over),
                },
            }
            if self.link.is_over() {
                return Err(Over);
            }
        }
        Ok(())
    }

    fn sleep(&self, time: Duration) -> Result<(), Over> {
        sleep(self.shared, self.link, time)
    }
}

/// Waits, unless the connection is over before.
fn sleep(shared: &Shared, link: &Link, time: Duration) -> Result<(), Over> {
    let deadline = Instant::now() + time;
    let mut state = shared.lock();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if link.is_over() || state.stopped {
            return Err(Over);
        }
        if left.is_zero() {
            return Ok(());
        }
        state = shared.wait(state, left);
    }
}

/// Reads nothing and says nothing, as long as the connection lasts.
pub fn stand_still(shared: &Shared, link: &Link) {
    // It ends with the connection, or the test has been over for long.
    let _ = sleep(shared, link, LONG);
}

/// Waits for the first bytes, answers with these, and closes in good order.
pub fn say(link: &Link, answer: &[u8]) {
    let mut client = &link.client;
    let mut buffer = [0; 4 << 10];
    let heard = client.read(&mut buffer);
    if heard.is_ok_and(|bytes| bytes > 0) && client.write_all(answer).is_ok() {
        let _ = client.shutdown(Shutdown::Write);
        // A reset could overtake the answer: the other side closes first.
        while client.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
    }
}
