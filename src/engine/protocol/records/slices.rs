//! Reading bytes that lie in several slices, from the front.

/// A place in bytes that lie in several slices. A clone reads ahead.
#[derive(Clone, Debug)]
pub(super) struct SliceReader<'a, I> {
    current: &'a [u8],
    rest: I,
}

impl<'a, I: Iterator<Item = &'a [u8]> + Clone> SliceReader<'a, I> {
    /// At the first byte.
    pub fn new(slices: I) -> Self {
        SliceReader { current: &[], rest: slices }
    }

    /// Hands out the next `len` bytes, or what there is of them, and moves behind them. Returns how
    /// many there were.
    pub fn visit(&mut self, len: usize, mut each: impl FnMut(&'a [u8])) -> usize {
        let mut left = len;
        while left > 0 {
            if self.current.is_empty() {
                let Some(next) = self.rest.next() else { break };
                self.current = next;
                continue;
            }
            let (part, behind) = self.current.split_at(self.current.len().min(left));
            each(part);
            self.current = behind;
            left -= part.len();
        }
        len - left
    }

    /// Moves behind the next `len` bytes.
    pub fn skip(&mut self, len: usize) {
        self.visit(len, |_| ());
    }

    /// Appends the next `len` bytes to `out` and moves behind them. Returns how many there were.
    pub fn copy(&mut self, len: usize, out: &mut Vec<u8>) -> usize {
        self.visit(len, |part| out.extend_from_slice(part))
    }

    /// Copies the bytes that come next, as far as `out` has room, and stays where it is. Returns
    /// how many there were.
    pub fn peek(&self, out: &mut [u8]) -> usize {
        if self.current.len() >= out.len() {
            out.copy_from_slice(&self.current[..out.len()]);
            return out.len();
        }
        let mut at = 0;
        self.clone().visit(out.len(), |part| {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        })
    }
}
