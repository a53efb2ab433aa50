//! Reads DER (X.690), as far as names in certificates and encrypted keys need it.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_ID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// What is left of an encoding. Nothing that it holds is trusted: all reading may fail.
#[derive(Clone, Copy)]
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Der(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next element.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element: its tag and content.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Up to four bytes of length: no file is read that needs more.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
                let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.peek()? != tag {
            return None;
        }
        self.next().map(|(_, content)| content)
    }

    /// What is in the next element, which must be a sequence.
    pub(super) fn sequence(&mut self) -> Option<Der<'a>> {
        self.expect(SEQUENCE).map(Der)
    }

    /// The next element, which must be a number from 0 that fits.
    pub(super) fn number(&mut self) -> Option<u32> {
        let bytes = self.expect(INTEGER)?;
        let digits = bytes.strip_prefix(&[0]).unwrap_or(bytes);
        let negative = bytes.first().is_none_or(|first| first & 0x80 != 0);
        if negative || digits.len() > 4 {
            return None;
        }
        Some(digits.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_are_read_one_after_the_other() {
        let bytes = [0x30, 0x05, 0x02, 0x01, 0x07, 0x04, 0x00, 0x06, 0x81, 0x01, 0x2a];
        let mut outer = Der::new(&bytes);
        let mut inner = outer.sequence().expect("a sequence");
        assert_eq!(inner.number(), Some(7));
        assert_eq!(inner.expect(OCTET_STRING), Some(&[][..]));
        assert!(inner.is_empty());
        assert_eq!(outer.expect(INTEGER), None);
        assert_eq!(outer.expect(OBJECT_ID), Some(&[0x2a][..]));
        assert!(outer.is_empty());
    }

    #[test]
    fn what_is_too_long_is_refused() {
        for bytes in [
            &[0x30, 0x05, 0x02][..],
            &[0x30],
            &[],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(Der::new(bytes).next().is_none(), "{bytes:?}");
        }
        for bytes in [&[0x02, 0x01, 0xff][..], &[0x02, 0x00], &[0x02, 0x05, 1, 0, 0, 0, 0]] {
            assert_eq!(Der::new(bytes).number(), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut der = Der::new(&bytes);
            let _ = Der::new(&bytes).number();
            while let Some((_, content)) = der.next() {
                prop_assert!(content.len() < bytes.len());
            }
        }
    }
}
