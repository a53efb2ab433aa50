//! Reads the values of properties, and says what they may be when they cannot be read.

use std::time::Duration;

use super::producer_config::{Acks, ClusterChange};
use super::property::Property;
use super::validate::TIME_MAX;
use super::wait_strategy::WaitStrategy;
use crate::error::BuildError;

/// What stands in errors in the place of a secret.
pub(super) const HIDDEN: &str = "(hidden)";

/// Cores are counted below this: the size of Linux's own CPU sets.
const CORES_MAX: usize = 1_024;

/// A property with the name that the user gave it, and the value, without the blanks around it.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) name: &'a str,
    pub(super) property: &'static Property,
    pub(super) value: &'a str,
}

impl Setting<'_> {
    /// The error that says what the value may be. It does not hold the value of a secret.
    pub(super) fn refuse(self, reason: impl Into<String>) -> BuildError {
        let value = if self.property.is_secret { HIDDEN } else { self.value };
        let (name, value) = (self.name.to_owned(), value.to_owned());
        BuildError::InvalidSetting { name, value, reason: reason.into() }
    }

    pub(super) fn text(self) -> Result<String, BuildError> {
        Ok(self.value.to_owned())
    }

    pub(super) fn boolean(self) -> Result<bool, BuildError> {
        if self.value.eq_ignore_ascii_case("true") {
            Ok(true)
        } else if self.value.eq_ignore_ascii_case("false") {
            Ok(false)
        } else {
            Err(self.refuse("it must be true or false"))
        }
    }

    /// A whole number from `min` to `max`.
    pub(super) fn integer(self, min: i64, max: i64) -> Result<i64, BuildError> {
        match self.value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(self.refuse(format!("it must be a whole number from {min} to {max}"))),
        }
    }

    /// A count or a number of bytes.
    pub(super) fn size(self) -> Result<usize, BuildError> {
        // Only a 64-bit target compiles, where every non-negative i64 fits.
        self.integer(0, i64::MAX).map(|number| number as usize)
    }

    /// A count that fits the protocol.
    pub(super) fn count(self) -> Result<u32, BuildError> {
        self.integer(0, i64::from(i32::MAX)).map(|number| number as u32)
    }

    /// A number of KiB, as bytes.
    pub(super) fn kibibytes(self) -> Result<usize, BuildError> {
        self.integer(1, i64::from(i32::MAX)).map(|number| number as usize * 1_024)
    }

    /// librdkafka's socket buffer: 0 leaves it to the system.
    pub(super) fn socket_buffer_or_zero(self) -> Result<Option<usize>, BuildError> {
        let number = self.integer(0, i64::from(i32::MAX))?;
        Ok(Some(number as usize).filter(|bytes| *bytes > 0))
    }

    /// A socket buffer: -1 leaves it to the system.
    pub(super) fn socket_buffer(self) -> Result<Option<usize>, BuildError> {
        let number = self.integer(-1, i64::from(i32::MAX))?;
        if number == 0 {
            return Err(self.refuse("it must be -1 (the system's own) or at least 1"));
        }
        Ok(usize::try_from(number).ok())
    }

    pub(super) fn milliseconds(self) -> Result<Duration, BuildError> {
        let max = TIME_MAX.as_millis() as i64;
        // Java programs write Long.MAX_VALUE for "never".
        let number = self.integer(0, i64::MAX)?.min(max);
        Ok(Duration::from_millis(number as u64))
    }

    /// Milliseconds, with or without a fraction, as librdkafka reads them.
    pub(super) fn fractional_milliseconds(self) -> Result<Duration, BuildError> {
        if let Ok(number) = self.value.parse::<i64>()
            && number >= 0
        {
            return self.milliseconds();
        }
        let is_plain = self.value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match self.value.parse::<f64>() {
            Ok(number) if is_plain => {
                let number = number.min(TIME_MAX.as_millis() as f64);
                Ok(Duration::from_nanos((number * 1e6).round() as u64))
            }
            _ => Err(self.refuse("it must be a number of milliseconds from 0, as in 5 or 0.5")),
        }
    }

    /// A time that may be switched off: -1 means never, which is as good as a year.
    pub(super) fn milliseconds_or_never(self) -> Result<Duration, BuildError> {
        if self.value == "-1" { Ok(TIME_MAX) } else { self.milliseconds() }
    }

    /// How long a connection may be unused. 0 is never for librdkafka, and at once for Kafka.
    pub(super) fn idle_time(self) -> Result<Duration, BuildError> {
        let time = self.milliseconds_or_never()?;
        if time.is_zero() {
            return Err(self.refuse("it must be at least 1 ms, or -1 for never"));
        }
        Ok(time)
    }

    pub(super) fn microseconds(self) -> Result<Duration, BuildError> {
        Ok(Duration::from_micros(self.integer(0, i64::from(u32::MAX))? as u64))
    }

    pub(super) fn acks(self) -> Result<Acks, BuildError> {
        match self.value {
            "0" => Ok(Acks::None),
            "1" => Ok(Acks::Leader),
            "all" | "-1" => Ok(Acks::All),
            _ => Err(self.refuse("it must be 0, 1, all or -1")),
        }
    }

    pub(super) fn cluster_change(self) -> Result<ClusterChange, BuildError> {
        match self.value {
            "follow" => Ok(ClusterChange::Follow),
            "fail" => Ok(ClusterChange::Fail),
            _ => Err(self.refuse("it must be follow or fail")),
        }
    }

    pub(super) fn wait_strategy(self) -> Result<WaitStrategy, BuildError> {
        match self.value {
            "block" => Ok(WaitStrategy::Block),
            "spin" => Ok(WaitStrategy::Spin),
            number => match number.parse::<u32>() {
                Ok(micros) => Ok(WaitStrategy::SpinThenBlock(Duration::from_micros(micros.into()))),
                Err(_) => Err(self.refuse("it must be block, spin or a number of microseconds")),
            },
        }
    }

    /// Core numbers and ranges of them, as in `0,2-5`.
    pub(super) fn cores(self) -> Result<Vec<usize>, BuildError> {
        let reason = "it must be core numbers below 1024, as in 0,2-5";
        let number = |text: &str| {
            let core = text.trim().parse::<usize>().ok().filter(|core| *core < CORES_MAX);
            core.ok_or_else(|| self.refuse(reason))
        };
        let mut cores = Vec::new();
        for part in self.value.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            cores.extend(number(first)?..=number(last)?);
        }
        Ok(cores)
    }

    /// Accepts one of `allowed` (in any case) and nothing else.
    pub(super) fn only(self, allowed: &[&str], reason: &str) -> Result<(), BuildError> {
        let known = allowed.iter().any(|value| value.eq_ignore_ascii_case(self.value));
        if known { Ok(()) } else { Err(self.refuse(reason)) }
    }
}
