//! Cuts the received byte stream of a connection into response frames.
//!
//! A frame is a 32-bit size and that many bytes. The size is judged before any memory follows it,
//! and memory then grows only with the bytes that really arrive: a peer that claims 16 MiB and
//! sends ten bytes costs nothing.

use std::ops::Range;

/// The largest frame that is taken by default, in bytes: 16 MiB.
pub const FRAME_SIZE_MAX_DEFAULT: usize = 16 << 20;

/// The buffer's length when nothing large is on its way, in bytes.
const BUFFER_BYTES: usize = 32 << 10;

/// A longer buffer than this is given back as soon as it is empty, in bytes. Shorter ones are kept
/// for [`FRAMES_SMALL_KEPT`] frames, so that responses of a steady size above [`BUFFER_BYTES`] do
/// not allocate each time.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// So many frames in a row that fit [`BUFFER_BYTES`] give a longer buffer back.
const FRAMES_SMALL_KEPT: u32 = 64;

/// Bytes of the size field.
const SIZE_BYTES: usize = 4;

/// The smallest frame there can be: a response header is at least a correlation id.
const FRAME_SIZE_MIN: usize = 4;

const _: () = assert!(BUFFER_BYTES >= 2 * (SIZE_BYTES + FRAME_SIZE_MIN));
const _: () = assert!(BUFFER_BYTES < BUFFER_BYTES_KEPT);

/// A frame size that cannot be right. The stream has lost its frames: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a frame of {size} bytes was announced, and {FRAME_SIZE_MIN} to {size_max} are accepted{}",
    hint.map(|peer| format!(": {peer}")).unwrap_or_default()
)]
pub struct FrameError {
    /// The announced size, in bytes.
    pub size: i32,
    /// The largest size accepted, in bytes.
    pub size_max: usize,
    /// What the peer seems to be, if the four bytes are known from elsewhere.
    pub hint: Option<PeerHint>,
}

/// What a peer that does not answer in Kafka's protocol seems to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerHint {
    /// The bytes start a TLS alert or handshake record.
    #[error("this looks like TLS, so the port may be one of a TLS listener")]
    Tls,
    /// The bytes start an HTTP response.
    #[error("this looks like HTTP, so the port is not one of a Kafka broker")]
    Http,
}

impl PeerHint {
    fn of(bytes: [u8; SIZE_BYTES]) -> Option<PeerHint> {
        match bytes {
            // Record type alert (21) or handshake (22), then the version's major number.
            [0x15 | 0x16, 0x03, ..] => Some(PeerHint::Tls),
            [b'H', b'T', b'T', b'P'] => Some(PeerHint::Http),
            _ => None,
        }
    }
}

/// Collects received bytes and yields the frames among them.
///
/// Per readable socket: fill [`space`](FrameDecoder::space) and report how much with
/// [`filled`](FrameDecoder::filled), then call [`next_frame`](FrameDecoder::next_frame) until it
/// yields none.
#[derive(Debug)]
pub struct FrameDecoder {
    /// Initialised to its whole length; received and not yet yielded is `start..end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    frame_size_min: usize,
    frame_size_max: usize,
    /// Frames in a row that would have fitted [`BUFFER_BYTES`].
    frames_small: u32,
}

impl FrameDecoder {
    /// A decoder that accepts frames of up to `frame_size_max` bytes, their size field not counted.
    pub fn new(frame_size_max: usize) -> Self {
        FrameDecoder {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            frame_size_min: FRAME_SIZE_MIN,
            frame_size_max,
            frames_small: 0,
        }
    }

    /// Whether the next frames may be shorter than any response: those of a login without headers.
    pub fn accept_empty_frames(&mut self, on: bool) {
        self.frame_size_min = if on { 0 } else { FRAME_SIZE_MIN };
    }

    /// Changes the largest frame accepted, from the next one yielded on.
    pub fn set_frame_size_max(&mut self, frame_size_max: usize) {
        self.frame_size_max = frame_size_max;
    }

    /// Forgets everything received, for a new connection. The memory is kept.
    #[cfg(feature = "internals")]
    pub fn reset(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Bytes received and not yet yielded: a part of a frame, once `next_frame` has yielded none.
    #[cfg(feature = "internals")]
    pub fn bytes_pending(&self) -> usize {
        self.end - self.start
    }

    /// Memory held, in bytes.
    #[cfg(feature = "internals")]
    pub fn memory(&self) -> usize {
        self.buffer.capacity()
    }

    /// Where to read the next bytes into. Never empty after `next_frame` yielded none without an
    /// error; it may be empty while frames wait to be yielded.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.shrink();
        }
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER_BYTES, 0);
        }
        // A short tail would mean many short reads. What is moved is less than one frame.
        if self.start > 0 && self.buffer.len() - self.end < BUFFER_BYTES / 4 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.grow();
        }
        &mut self.buffer[self.end..]
    }

    /// Takes over the first `count` bytes of [`space`](FrameDecoder::space), which were read into
    /// it. Panics if it is not that long.
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.buffer.len() - self.end, "more bytes were reported than offered");
        self.end += count;
    }

    /// The next complete frame, without its size field; none if it has not arrived whole. After an
    /// error every further call returns the same error.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let Some(frame) = self.frame_range()? else { return Ok(None) };
        if frame.end > self.end {
            return Ok(None);
        }
        self.start = frame.end;
        let small = frame.len() + SIZE_BYTES <= BUFFER_BYTES;
        self.frames_small = if small { self.frames_small.saturating_add(1) } else { 0 };
        Ok(Some(&self.buffer[frame]))
    }

    /// Where the frame at the front lies, or will once it has arrived, if its size has.
    fn frame_range(&self) -> Result<Option<Range<usize>>, FrameError> {
        let received = &self.buffer[self.start..self.end];
        let Some(&bytes) = received.first_chunk::<SIZE_BYTES>() else { return Ok(None) };
        let size = i32::from_be_bytes(bytes);
        match usize::try_from(size) {
            Ok(length) if (self.frame_size_min..=self.frame_size_max).contains(&length) => {
                let first = self.start + SIZE_BYTES;
                Ok(Some(first..first + length))
            }
            _ => {
                let hint = PeerHint::of(bytes);
                Err(FrameError { size, size_max: self.frame_size_max, hint })
            }
        }
    }

    /// The buffer is full: doubles it, but no further than the frame at the front needs. So memory
    /// is at most twice what was received.
    fn grow(&mut self) {
        let Ok(Some(frame)) = self.frame_range() else { return };
        if frame.end > self.end {
            let length = frame.end.min(2 * self.buffer.len());
            self.buffer.reserve_exact(length - self.buffer.len());
            self.buffer.resize(length, 0);
        }
    }

    /// The buffer is empty: gives back what a large frame left behind.
    fn shrink(&mut self) {
        let long = self.buffer.len() > BUFFER_BYTES;
        let unused = self.frames_small >= FRAMES_SMALL_KEPT;
        if self.buffer.len() > BUFFER_BYTES_KEPT || (long && unused) {
            self.buffer.truncate(BUFFER_BYTES);
            self.buffer.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(content: &[u8]) -> Vec<u8> {
        let mut bytes = (content.len() as i32).to_be_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes
    }

    /// Feeds `input` in pieces of at most `piece` bytes and returns the frames that came out.
    fn feed(decoder: &mut FrameDecoder, mut input: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while !input.is_empty() {
            let space = decoder.space();
            let count = piece.min(space.len()).min(input.len());
            assert!(count > 0, "space is never empty once the frames are drained");
            space[..count].copy_from_slice(&input[..count]);
            decoder.filled(count);
            input = &input[count..];
            while let Some(frame) = decoder.next_frame().expect("the sizes are valid") {
                frames.push(frame.to_vec());
            }
        }
        frames
    }

    fn error_of(bytes: [u8; 4], frame_size_max: usize) -> FrameError {
        let mut decoder = FrameDecoder::new(frame_size_max);
        decoder.space()[..4].copy_from_slice(&bytes);
        decoder.filled(4);
        let error = decoder.next_frame().expect_err("the size is invalid");
        assert_eq!(decoder.next_frame(), Err(error), "the stream stays broken");
        assert!(decoder.memory() <= BUFFER_BYTES);
        error
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let contents: Vec<Vec<u8>> = [4usize, 5, 100, 9_000, 70_000, 4, 33_000, 12]
            .iter()
            .enumerate()
            .map(|(i, &size)| (0..size).map(|at| (at * 7 + i) as u8).collect())
            .collect();
        let input: Vec<u8> = contents.iter().flat_map(|content| frame(content)).collect();
        for piece in [1, 3, 1000, 8192, usize::MAX] {
            let mut decoder = FrameDecoder::new(FRAME_SIZE_MAX_DEFAULT);
            assert_eq!(feed(&mut decoder, &input, piece), contents, "pieces of {piece}");
            assert_eq!(decoder.bytes_pending(), 0);
        }
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_before_memory_is_taken() {
        for (size, max) in
            [(-1, 100), (i32::MIN, 100), (0, 100), (3, 100), (101, 100), (i32::MAX, 1 << 24)]
        {
            let error = error_of(size.to_be_bytes(), max);
            assert_eq!(error, FrameError { size, size_max: max, hint: None });
        }
        let text = error_of(101i32.to_be_bytes(), 100).to_string();
        assert_eq!(text, "a frame of 101 bytes was announced, and 4 to 100 are accepted");
    }

    #[test]
    fn the_largest_and_the_smallest_frame_are_accepted() {
        let mut decoder = FrameDecoder::new(100);
        let input = [frame(&[1; 100]), frame(&[2; 4])].concat();
        assert_eq!(feed(&mut decoder, &input, usize::MAX), [vec![1; 100], vec![2; 4]]);
    }

    #[test]
    fn a_peer_that_speaks_something_else_is_named() {
        let max = FRAME_SIZE_MAX_DEFAULT;
        assert_eq!(error_of([0x15, 0x03, 0x03, 0x00], max).hint, Some(PeerHint::Tls));
        assert_eq!(error_of([0x16, 0x03, 0x01, 0x02], max).hint, Some(PeerHint::Tls));
        let http = error_of(*b"HTTP", max);
        assert_eq!(http.hint, Some(PeerHint::Http));
        assert!(http.to_string().ends_with("not one of a Kafka broker"), "{http}");
    }

    #[test]
    fn memory_follows_the_bytes_received_and_not_the_size_claimed() {
        let mut decoder = FrameDecoder::new(FRAME_SIZE_MAX_DEFAULT);
        let input = frame(&vec![3; 4 << 20]);
        for received in [10, 20_000, 100_000, 1 << 20] {
            decoder.reset();
            assert!(feed(&mut decoder, &input[..received], 4096).is_empty());
            assert!(decoder.memory() <= BUFFER_BYTES.max(2 * received), "{received} received");
        }
    }

    #[test]
    fn a_large_frame_gives_its_memory_back() {
        let mut decoder = FrameDecoder::new(FRAME_SIZE_MAX_DEFAULT);
        assert_eq!(feed(&mut decoder, &frame(&vec![3; 4 << 20]), 65_536).len(), 1);
        assert!(decoder.memory() >= 4 << 20);
        decoder.space();
        assert_eq!(decoder.memory(), BUFFER_BYTES);
    }

    #[test]
    fn medium_frames_keep_their_memory_while_they_keep_coming() {
        let mut decoder = FrameDecoder::new(FRAME_SIZE_MAX_DEFAULT);
        let (medium, small) = (frame(&[3; 100_000]), frame(&[4; 20]));
        feed(&mut decoder, &medium, usize::MAX);
        let memory = decoder.memory();
        for _ in 0..5 {
            feed(&mut decoder, &small, usize::MAX);
            feed(&mut decoder, &medium, usize::MAX);
            assert_eq!(decoder.memory(), memory);
        }
        for _ in 0..=FRAMES_SMALL_KEPT {
            feed(&mut decoder, &small, usize::MAX);
        }
        assert_eq!(decoder.memory(), BUFFER_BYTES);
    }

    #[test]
    fn undrained_frames_never_make_the_buffer_grow() {
        let mut decoder = FrameDecoder::new(FRAME_SIZE_MAX_DEFAULT);
        let one = frame(&[5; 1020]);
        for _ in 0..BUFFER_BYTES / one.len() {
            decoder.space()[..one.len()].copy_from_slice(&one);
            decoder.filled(one.len());
        }
        assert!(decoder.space().is_empty());
        assert_eq!(decoder.memory(), BUFFER_BYTES);
    }

    #[test]
    fn a_lower_limit_applies_from_the_next_frame_on() {
        let mut decoder = FrameDecoder::new(8);
        assert_eq!(feed(&mut decoder, &frame(&[1; 8]), 3).len(), 1);
        decoder.set_frame_size_max(16);
        assert_eq!(feed(&mut decoder, &frame(&[1; 16]), 3).len(), 1);
    }
}
