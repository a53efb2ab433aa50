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
///
/// ```
/// use tidegate::Payload;
///
/// let text = Payload::from("paid");
/// assert_eq!(text.as_option(), Some(&b"paid"[..]));
/// // Null is not the same as empty.
/// assert!(Payload::from(()).is_null() && Payload::from(None::<&str>).is_null());
/// assert!(!Payload::from("").is_null() && Payload::from("").is_empty());
/// ```
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
    /// A few bytes that are handed over in their place: an array of at most 31.
    Inline(InlineBytes),
}

/// The most bytes that a payload has in its own place: as many as make it no larger.
const INLINE_MAX: usize = 31;

const _: () = assert!(size_of::<Payload<'_>>() == 40);

/// A few bytes in their place: [`Payload::Inline`].
///
/// ```
/// use tidegate::Payload;
///
/// // A number as a key, without a vector and without anything to borrow from.
/// let key = Payload::from(42_u64.to_be_bytes());
/// assert!(matches!(key, Payload::Inline(bytes) if bytes.as_slice() == 42_u64.to_be_bytes()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InlineBytes {
    len: u8,
    bytes: [u8; INLINE_MAX],
}

impl InlineBytes {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for InlineBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Length(Some(self.as_slice())).fmt(f)
    }
}

impl Payload<'_> {
    /// The bytes, or `None` for null.
    #[inline]
    pub fn as_option(&self) -> Option<&[u8]> {
        match self {
            Payload::Null => None,
            Payload::Slice(slice) => Some(slice),
            Payload::Shared(bytes) => Some(bytes),
            Payload::Inline(bytes) => Some(bytes.as_slice()),
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

    /// The bytes that were handed over, if they were.
    pub fn into_shared(self) -> Option<Bytes> {
        match self {
            Payload::Shared(bytes) => Some(bytes),
            Payload::Inline(bytes) => Some(Bytes::copy_from_slice(bytes.as_slice())),
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
            Payload::Inline(bytes) => f.debug_tuple("Inline").field(bytes).finish(),
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

/// Arrays up to 31 bytes, such as ids and numbers, stay in their place. Longer ones are borrowed:
/// by value they would have to be copied to the heap.
macro_rules! from_short_arrays {
    ($($len:literal)*) => {$(
        impl From<[u8; $len]> for Payload<'_> {
            #[inline]
            fn from(array: [u8; $len]) -> Self {
                let mut bytes = [0; INLINE_MAX];
                bytes[..$len].copy_from_slice(&array);
                Payload::Inline(InlineBytes { len: $len, bytes })
            }
        }
    )*};
}

from_short_arrays!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
from_short_arrays!(16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);

/// Each on its own: for all types at once the compiler could not tell which is meant where a type
/// is left open.
macro_rules! from_borrowed_options {
    ($($of:ty),*) => {$(
        impl<'a> From<&'a Option<$of>> for Payload<'a> {
            #[inline]
            fn from(option: &'a Option<$of>) -> Self {
                option.as_ref().map_or(Payload::Null, Into::into)
            }
        }
    )*};
}

from_borrowed_options!(String, Vec<u8>, Bytes, &'a str, &'a [u8]);

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
        let optional = Some(String::from("abc"));
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
            payload(&optional),
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
    fn a_short_array_stays_in_its_place() {
        let short = payload([7; INLINE_MAX]);
        assert!(matches!(short, Payload::Inline(_)), "{short:?}");
        assert_eq!(short.as_option(), Some(&[7; INLINE_MAX][..]));
        assert_eq!(short.into_shared().as_deref(), Some(&[7; INLINE_MAX][..]));
        assert_eq!(payload([]).as_option(), Some(&[][..]));
        assert_eq!(format!("{:?}", payload(*b"secret")), "Inline(6 bytes)");
    }

    #[test]
    fn null_is_not_empty() {
        let none = None::<Vec<u8>>;
        for null in
            [payload(()), payload(None::<&str>), payload(None::<Option<Bytes>>), payload(&none)]
        {
            assert!(null.is_null() && null.is_empty());
            assert_eq!((null.as_option(), null.len()), (None, 0));
        }
        let empty = payload("");
        assert!(!empty.is_null() && empty.is_empty());
        assert_eq!((empty.as_option(), empty.len()), (Some(&b""[..]), 0));
        assert_eq!(payload(Bytes::from_static(b"abcd")).len(), 4);
    }
}
