//! JSON (RFC 8259) as services answer in it, and what is read of it.

#[cfg(feature = "aws-msk-iam")]
use std::ops::Deref;

use serde_json::Value;
#[cfg(feature = "aws-msk-iam")]
use zeroize::Zeroize;

/// An object with secrets in it: its texts are overwritten when it is dropped.
#[cfg(feature = "aws-msk-iam")]
pub(super) struct Secrets(Value);

#[cfg(feature = "aws-msk-iam")]
impl Secrets {
    /// Reads an object, or `None` for anything else.
    pub(super) fn read(bytes: &[u8]) -> Option<Secrets> {
        object(bytes).map(Secrets)
    }
}

#[cfg(feature = "aws-msk-iam")]
impl Deref for Secrets {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

#[cfg(feature = "aws-msk-iam")]
impl Drop for Secrets {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

#[cfg(feature = "aws-msk-iam")]
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// An object, or `None` for anything else.
pub(super) fn object(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Value>(bytes).ok().filter(Value::is_object)
}

/// A text that is not empty.
pub(super) fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// Seconds; some services write them as text. Parts of a second are dropped.
pub(super) fn seconds(object: &Value, name: &str) -> Option<u64> {
    let value = object.get(name)?;
    let number = value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64));
    number.or_else(|| value.as_str()?.parse().ok())
}
