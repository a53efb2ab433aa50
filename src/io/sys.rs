//! System calls that no crate of ours wraps. The only `unsafe` of this layer.
#![allow(unsafe_code)]

/// Wall time in milliseconds since the Unix epoch, to the kernel's tick.
#[cfg(target_os = "linux")]
#[inline]
pub(super) fn wall_coarse_ms() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; the clock exists since Linux 2.6.32.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut time) };
    // The nanoseconds are less than a second's: 32 bits, which divide in fewer instructions.
    time.tv_sec * 1_000 + i64::from(time.tv_nsec as u32 / 1_000_000)
}

/// Wall time in milliseconds since the Unix epoch.
#[cfg(not(target_os = "linux"))]
pub(super) fn wall_coarse_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as i64)
}

/// How long the machine has been asleep since it was started, in nanoseconds, to a tenth of a
/// second: what the clock that goes on while asleep is ahead of the one that does not. `None` if
/// the two cannot be read together.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(super) fn asleep_ns() -> Option<u64> {
    #[cfg(not(target_vendor = "apple"))]
    const CLOCKS: [libc::clockid_t; 2] = [libc::CLOCK_BOOTTIME, libc::CLOCK_MONOTONIC];
    #[cfg(target_vendor = "apple")]
    const CLOCKS: [libc::clockid_t; 2] = [libc::CLOCK_MONOTONIC, libc::CLOCK_UPTIME_RAW];
    let read = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid timespec to write to.
        let result = unsafe { libc::clock_gettime(clock, &mut time) };
        (result == 0).then_some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    };
    let (before, with_sleep, after) = (read(CLOCKS[1])?, read(CLOCKS[0])?, read(CLOCKS[1])?);
    // A process that is stopped between two readings would take that for sleep.
    (after - before < 100_000_000).then(|| with_sleep.saturating_sub(before))
}

/// Elsewhere no clock tells.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn asleep_ns() -> Option<u64> {
    None
}

/// Bytes of a socket's send queue that the other end's kernel has not acknowledged.
#[cfg(target_os = "linux")]
pub(super) fn unsent(socket: &impl std::os::fd::AsRawFd) -> Option<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while the socket is borrowed, and the call (SIOCOUTQ by its
    // other name) writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).ok() } else { None }
}

/// Elsewhere the system does not tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn unsent<S>(_socket: &S) -> Option<usize> {
    None
}

/// A timer that a poll can wait for: poll timeouts are whole milliseconds.
#[cfg(target_os = "linux")]
pub(super) struct Timer(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl Timer {
    /// A timer that is not running.
    pub(super) fn new() -> std::io::Result<Self> {
        use std::os::fd::FromRawFd;
        // SAFETY: no pointers are passed.
        let fd = unsafe {
            libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
        };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `fd` is open and nobody else owns it.
        Ok(Timer(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes the descriptor readable once after `nanos`. Each setting replaces the one before and
    /// clears an expiry that was not read.
    pub(super) fn set(&self, nanos: u64) {
        use std::os::fd::AsRawFd;
        let value = libc::timespec {
            tv_sec: (nanos / 1_000_000_000) as _,
            tv_nsec: (nanos % 1_000_000_000).max(1) as _,
        };
        let once = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: value,
        };
        // SAFETY: the descriptor is open, `once` is valid, and no old value is asked for.
        unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &once, std::ptr::null_mut()) };
    }

    /// The descriptor, to be registered with a poll.
    pub(super) fn fd(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.0.as_raw_fd()
    }
}

/// Elsewhere poll timeouts of whole milliseconds must do.
#[cfg(not(target_os = "linux"))]
pub(super) struct Timer(std::convert::Infallible);

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub(super) fn set(&self, _nanos: u64) {}
}

/// A timer whose expiry is an event of this token; `None` where there can be none.
#[cfg(target_os = "linux")]
pub(super) fn timer_of(poll: &mio::Poll, token: mio::Token) -> Option<Timer> {
    let timer = Timer::new().ok()?;
    let fd = timer.fd();
    let mut source = mio::unix::SourceFd(&fd);
    poll.registry().register(&mut source, token, mio::Interest::READABLE).ok()?;
    Some(timer)
}

/// Elsewhere there is none.
#[cfg(not(target_os = "linux"))]
pub(super) fn timer_of(_poll: &mio::Poll, _token: mio::Token) -> Option<Timer> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn wall_time_is_the_systems() {
        let system = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        // A tick is at most 10 ms.
        let earliest = system().as_millis() as i64 - 10;
        let coarse = wall_coarse_ms();
        assert!((earliest..=system().as_millis() as i64).contains(&coarse));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no timer descriptors")]
    fn a_timer_becomes_readable_once_its_time_has_passed() {
        let mut poll = mio::Poll::new().expect("the system has descriptors");
        let timer = Timer::new().expect("the system has descriptors");
        let fd = timer.fd();
        let mut source = mio::unix::SourceFd(&fd);
        let readable = mio::Interest::READABLE;
        poll.registry().register(&mut source, mio::Token(7), readable).expect("it is open");
        let mut events = mio::Events::with_capacity(4);
        timer.set(Duration::from_secs(3_600).as_nanos() as u64);
        poll.poll(&mut events, Some(Duration::from_millis(1))).expect("polls");
        assert!(events.is_empty(), "an hour has not passed");
        timer.set(0);
        poll.poll(&mut events, Some(Duration::from_secs(30))).expect("polls");
        assert_eq!(events.iter().map(|event| event.token()).next(), Some(mio::Token(7)));
    }
}
