//! Keys and values as a caller hands them over: null, borrowed or shared.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::engine::protocol::records::Length;

/// A record's key or value, or a header's value.
///
/// `send` takes `impl Into<Payload<'_>>`: byte slices, arrays, strings, vectors and [`Bytes`] all
/// convert, `()` is null, and an `Option` is null when it is `None`. Null and empty are different
/// things to Kafka: a null value deletes its key in a compacted topic.
///
/// A payload is encoded before `send` returns, a shared one too: nothing of it is referenced later.
/// What sharing is for is getting it back from the error of a record that was not accepted.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Payload<'a> {
    /// No key, or no value: length -1 in Kafka's format.
    #[default]
    Null,
    /// Bytes that stay the caller's.
    Slice(&'a [u8]),
    /// Bytes that are handed over, by reference count. A record that is not accepted gives them
    /// back in its error.
    Shared(Bytes),
}

impl Payload<'_> {
    /// The bytes, or `None` for null.
    #[inline]
    pub fn as_option(&self) -> Option<&[u8]> {
        match self {
            Payload::Null => None,
            Payload::Slice(slice) => Some(slice),
            Payload::Shared(bytes) => Some(bytes),
        }
    }

    /// Length in bytes; 0 for null.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_option().map_or(0, <[u8]>::len)
    }

    /// Whether there are no bytes: null or empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is null, which is not the same as empty.
    #[inline]
    pub fn is_null(&self) -> bool {
        matches!(self, Payload::Null)
    }

    /// The shared bytes, if that is what it is.
    pub fn into_shared(self) -> Option<Bytes> {
        match self {
            Payload::Shared(bytes) => Some(bytes),
            Payload::Null | Payload::Slice(_) => None,
        }
    }
}

impl fmt::Debug for Payload<'_> {
    /// Its kind and length only: the bytes may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Null => f.write_str("Null"),
            Payload::Slice(slice) => f.debug_tuple("Slice").field(&Length(Some(slice))).finish(),
            Payload::Shared(bytes) => f.debug_tuple("Shared").field(&Length(Some(bytes))).finish(),
        }
    }
}

impl From<()> for Payload<'_> {
    #[inline]
    fn from((): ()) -> Self {
        Payload::Null
    }
}

impl<'a, T: Into<Payload<'a>>> From<Option<T>> for Payload<'a> {
    #[inline]
    fn from(option: Option<T>) -> Self {
        option.map_or(Payload::Null, Into::into)
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    #[inline]
    fn from(slice: &'a [u8]) -> Self {
        Payload::Slice(slice)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    #[inline]
    fn from(array: &'a [u8; N]) -> Self {
        Payload::Slice(array)
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    #[inline]
    fn from(string: &'a str) -> Self {
        Payload::Slice(string.as_bytes())
    }
}

impl<'a> From<&'a String> for Payload<'a> {
    #[inline]
    fn from(string: &'a String) -> Self {
        Payload::Slice(string.as_bytes())
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    #[inline]
    fn from(vector: &'a Vec<u8>) -> Self {
        Payload::Slice(vector)
    }
}

impl<'a> From<&'a Bytes> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a Bytes) -> Self {
        Payload::Slice(bytes)
    }
}

impl From<Bytes> for Payload<'_> {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        Payload::Shared(bytes)
    }
}

impl From<Vec<u8>> for Payload<'_> {
    #[inline]
    fn from(vector: Vec<u8>) -> Self {
        Payload::Shared(vector.into())
    }
}

impl From<String> for Payload<'_> {
    #[inline]
    fn from(string: String) -> Self {
        Payload::Shared(string.into())
    }
}

impl From<Box<[u8]>> for Payload<'_> {
    #[inline]
    fn from(boxed: Box<[u8]>) -> Self {
        Payload::Shared(boxed.into())
    }
}

impl<'a> From<Cow<'a, [u8]>> for Payload<'a> {
    #[inline]
    fn from(cow: Cow<'a, [u8]>) -> Self {
        match cow {
            Cow::Borrowed(slice) => Payload::Slice(slice),
            Cow::Owned(vector) => vector.into(),
        }
    }
}

impl<'a> From<Cow<'a, str>> for Payload<'a> {
    #[inline]
    fn from(cow: Cow<'a, str>) -> Self {
        match cow {
            Cow::Borrowed(string) => string.into(),
            Cow::Owned(string) => string.into(),
        }
    }
}

impl From<BytesMut> for Payload<'_> {
    #[inline]
    fn from(bytes: BytesMut) -> Self {
        Payload::Shared(bytes.freeze())
    }
}

/// Shared as it is: the payload holds one more count of it.
impl From<Arc<[u8]>> for Payload<'_> {
    #[inline]
    fn from(bytes: Arc<[u8]>) -> Self {
        Payload::Shared(Bytes::from_owner(bytes))
    }
}

/// Shared as it is: the payload holds one more count of it.
impl From<Arc<str>> for Payload<'_> {
    #[inline]
    fn from(string: Arc<str>) -> Self {
        Payload::from(Arc::<[u8]>::from(string))
    }
}

impl<'a> From<&'a &'a str> for Payload<'a> {
    #[inline]
    fn from(string: &'a &'a str) -> Self {
        Payload::Slice(string.as_bytes())
    }
}

impl<'a> From<&'a &'a [u8]> for Payload<'a> {
    #[inline]
    fn from(slice: &'a &'a [u8]) -> Self {
        Payload::Slice(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload<'a>(from: impl Into<Payload<'a>>) -> Payload<'a> {
        from.into()
    }

    #[test]
    fn borrowed_things_stay_borrowed() {
        let vector = b"abc".to_vec();
        let string = String::from("abc");
        let bytes = Bytes::from_static(b"abc");
        let (twice, slice_twice): (&&str, &&[u8]) = (&"abc", &&b"abc"[..]);
        for borrowed in [
            payload(b"abc"),
            payload(&b"abc"[..]),
            payload("abc"),
            payload(&string),
            payload(&vector),
            payload(&bytes),
            payload(Some("abc")),
            payload(Cow::Borrowed("abc")),
            payload(Cow::Borrowed(&b"abc"[..])),
            payload(twice),
            payload(slice_twice),
        ] {
            assert_eq!(borrowed, Payload::Slice(b"abc"));
        }
    }

    #[test]
    fn owned_things_are_shared_without_a_copy() {
        let vector = b"abc".to_vec();
        let address = vector.as_ptr();
        let shared = payload(vector).into_shared().expect("a vector is handed over");
        assert_eq!(shared.as_ptr(), address);
        for owned in [
            payload(String::from("abc")),
            payload(b"abc".to_vec().into_boxed_slice()),
            payload(Bytes::from_static(b"abc")),
            payload(Some(Bytes::from_static(b"abc"))),
            payload(Cow::<str>::Owned("abc".into())),
            payload(Cow::<[u8]>::Owned(b"abc".to_vec())),
            payload(BytesMut::from(&b"abc"[..])),
            payload(Arc::<[u8]>::from(&b"abc"[..])),
            payload(Arc::<str>::from("abc")),
        ] {
            assert_eq!(owned, Payload::Shared(Bytes::from_static(b"abc")));
        }
        assert_eq!(payload("abc").into_shared(), None);
        let counted: Arc<[u8]> = Arc::from(&b"abc"[..]);
        let shared = payload(counted.clone());
        assert_eq!(Arc::strong_count(&counted), 2, "shared without a copy");
        drop(shared);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn null_is_not_empty() {
        for null in [payload(()), payload(None::<&str>), payload(None::<Option<Bytes>>)] {
            assert!(null.is_null() && null.is_empty());
            assert_eq!((null.as_option(), null.len()), (None, 0));
        }
        let empty = payload("");
        assert!(!empty.is_null() && empty.is_empty());
        assert_eq!((empty.as_option(), empty.len()), (Some(&b""[..]), 0));
        assert_eq!(payload(Bytes::from_static(b"abcd")).len(), 4);
    }
}
