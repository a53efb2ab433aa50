//! librdkafka through its C calls: `rd_kafka_produce_batch` and `rd_kafka_produce`. Every record's
//! delivery report is counted by a callback, which the sending threads run when they poll.

use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka_sys as sys;
use sys::rd_kafka_resp_err_t as Code;

use crate::measure::{Measured, Stopwatch};
use crate::settings::{BUFFER_BYTES, Client, Random, Settings, Spread, TOPIC};

/// Milliseconds that a thread polls for when the queue is full.
const POLL_FULL_MS: c_int = 1;

/// Sends of `rd_kafka_produce` between two polls.
const POLL_EVERY: u64 = 256;

/// What librdkafka is set to, its best of those tried (see `--set` to try others).
pub fn properties(settings: &Settings, bootstrap: &str) -> Vec<(String, String)> {
    let buffer_kib = (BUFFER_BYTES / 1024).to_string();
    let mut properties: Vec<(String, String)> = [
        ("bootstrap.servers", bootstrap),
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("max.in.flight.requests.per.connection", "5"),
        ("linger.ms", "50"),
        ("batch.size", "1000000"),
        ("batch.num.messages", "10000"),
        ("queue.buffering.max.kbytes", &buffer_kib),
        ("queue.buffering.max.messages", "1000000"),
        ("message.max.bytes", "2000000"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    properties.extend(settings.encryption());
    properties.extend(settings.set.iter().cloned());
    properties
}

/// Counts of delivery reports.
#[derive(Default)]
struct Reports {
    acked: AtomicU64,
    errors: AtomicU64,
}

impl Reports {
    fn sum(&self) -> u64 {
        self.acked.load(Ordering::Acquire) + self.errors.load(Ordering::Acquire)
    }
}

/// Called by `rd_kafka_poll` once a record; `opaque` is the client's [`Reports`].
unsafe extern "C" fn report(
    _client: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: librdkafka passes the pointer that `Native::new` gave it, to reports that outlive the
    // client, and a message that is valid during the call.
    let (reports, message) = unsafe { (&*opaque.cast::<Reports>(), &*message) };
    match message.err {
        Code::RD_KAFKA_RESP_ERR_NO_ERROR => {
            reports.acked.fetch_add(1, Ordering::Release);
        }
        code => {
            if reports.errors.fetch_add(1, Ordering::Release) == 0 {
                eprintln!("the first error: {code:?}");
            }
        }
    }
}

struct Native {
    client: *mut sys::rd_kafka_t,
    topic: *mut sys::rd_kafka_topic_t,
    reports: Box<Reports>,
}

// SAFETY: librdkafka's handles may be used by any number of threads at once, and the reports are
// atomic.
unsafe impl Sync for Native {}

impl Native {
    fn new(properties: &[(String, String)]) -> Result<Native, Box<dyn Error>> {
        let reports = Box::<Reports>::default();
        let mut problem = [0 as c_char; 512];
        // SAFETY: the pointers are valid for their calls; `rd_kafka_new` takes over the
        // configuration, and the process ends if it fails.
        unsafe {
            let config = sys::rd_kafka_conf_new();
            for (name, value) in properties {
                let (name, value) = (CString::new(name.as_str())?, CString::new(value.as_str())?);
                let (name, value) = (name.as_ptr(), value.as_ptr());
                let (text, len) = (problem.as_mut_ptr(), problem.len());
                let outcome = sys::rd_kafka_conf_set(config, name, value, text, len);
                if outcome != sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                    return Err(CStr::from_ptr(text).to_string_lossy().into_owned().into());
                }
            }
            let opaque: *const Reports = &*reports;
            sys::rd_kafka_conf_set_opaque(config, opaque.cast_mut().cast());
            sys::rd_kafka_conf_set_dr_msg_cb(config, Some(report));
            let kind = sys::rd_kafka_type_t::RD_KAFKA_PRODUCER;
            let client = sys::rd_kafka_new(kind, config, problem.as_mut_ptr(), problem.len());
            if client.is_null() {
                let text = CStr::from_ptr(problem.as_ptr());
                return Err(text.to_string_lossy().into_owned().into());
            }
            let name = CString::new(TOPIC)?;
            let topic = sys::rd_kafka_topic_new(client, name.as_ptr(), null_mut());
            Ok(Native { client, topic, reports })
        }
    }

    fn poll(&self, milliseconds: c_int) {
        // SAFETY: the client lives as long as `self`.
        unsafe { sys::rd_kafka_poll(self.client, milliseconds) };
    }

    /// Sends one record by itself, polling while the queue is full. Returns whether it was taken.
    fn produce(&self, partition: i32, value: &[u8]) -> bool {
        loop {
            // SAFETY: MSG_F_COPY: the value is read during the call only.
            let code = unsafe {
                let value_at = value.as_ptr().cast_mut().cast();
                let flags = sys::RD_KAFKA_MSG_F_COPY;
                let key = null();
                let opaque = null_mut();
                let len = value.len();
                match sys::rd_kafka_produce(
                    self.topic, partition, flags, value_at, len, key, 0, opaque,
                ) {
                    0 => return true,
                    _ => sys::rd_kafka_last_error(),
                }
            };
            if code != Code::RD_KAFKA_RESP_ERR__QUEUE_FULL {
                return false;
            }
            self.poll(POLL_FULL_MS);
        }
    }

    /// Sends messages by as few calls as the queue allows. Returns how many were refused for good.
    fn produce_batch(
        &self,
        partition: i32,
        flags: c_int,
        messages: &mut [sys::rd_kafka_message_t],
    ) -> u64 {
        let flags = flags | sys::RD_KAFKA_MSG_F_COPY;
        let (mut left, mut refused) = (messages.len(), 0);
        loop {
            let count = c_int::try_from(left).expect("a call has at most 2^31 messages");
            // SAFETY: `left` messages of the slice are initialised, and what they point to lives.
            let taken = unsafe {
                let messages = messages.as_mut_ptr();
                sys::rd_kafka_produce_batch(self.topic, partition, flags, messages, count)
            };
            if taken == count {
                return refused;
            }
            // Those that were not taken are gathered in front.
            let mut again = 0;
            for at in 0..left {
                match messages[at].err {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                    Code::RD_KAFKA_RESP_ERR__QUEUE_FULL => {
                        messages[again] = messages[at];
                        again += 1;
                    }
                    _ => refused += 1,
                }
            }
            if again == 0 {
                return refused;
            }
            left = again;
            self.poll(POLL_FULL_MS);
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: nobody uses the handles any more, and the reports are freed after this.
        unsafe {
            sys::rd_kafka_topic_destroy(self.topic);
            sys::rd_kafka_destroy(self.client);
        }
    }
}

pub fn run(
    settings: &Settings,
    bootstrap: &str,
    client: Client,
) -> Result<Measured, Box<dyn Error>> {
    let native = Native::new(&properties(settings, bootstrap))?;
    for partition in 0..settings.partitions {
        native.produce(partition, b"warm-up");
    }
    let warm = settings.partitions as u64;
    while native.reports.sum() < warm {
        native.poll(10);
    }
    if native.reports.errors.load(Ordering::Acquire) > 0 {
        return Err("the first records failed".into());
    }
    let stopwatch = Stopwatch::start();
    let refused: u64 = std::thread::scope(|scope| {
        let native = &native;
        let send = move |index| match client {
            Client::Batch => send_batches(settings, native, index),
            _ => send_singly(settings, native, index),
        };
        let others: Vec<_> =
            (1..settings.threads).map(|index| scope.spawn(move || send(index))).collect();
        let mine = send(0);
        others
            .into_iter()
            .fold(mine, |sum, thread| sum + thread.join().expect("a sending thread does not panic"))
    });
    while native.reports.sum() < warm + settings.records - refused {
        native.poll(10);
    }
    let acked = native.reports.acked.load(Ordering::Acquire) - warm;
    let errors = native.reports.errors.load(Ordering::Acquire) + refused;
    Ok(stopwatch.stop(acked, errors))
}

/// One thread's share by `rd_kafka_produce_batch`. Sticky: each call fills one partition, which is
/// what costs librdkafka least; random: each message names its own.
fn send_batches(settings: &Settings, native: &Native, index: usize) -> u64 {
    let value = settings.value();
    let message = sys::rd_kafka_message_t {
        err: Code::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: null_mut(),
        partition: 0,
        payload: value.as_ptr().cast_mut().cast(),
        len: value.len(),
        key: null_mut(),
        key_len: 0,
        offset: 0,
        _private: null_mut(),
    };
    let mut messages = vec![message; settings.call];
    let mut random = Random::new(index as u64 + 1);
    let partitions = settings.partitions as u32;
    let (mut left, mut refused) = (settings.share(index), 0);
    let mut turn = index as u32;
    while left > 0 {
        let count = left.min(settings.call as u64) as usize;
        let messages = &mut messages[..count];
        messages.fill(message);
        refused += match settings.spread {
            Spread::Sticky => {
                turn = turn.wrapping_add(1);
                native.produce_batch((turn % partitions) as i32, 0, messages)
            }
            Spread::Random => {
                for message in messages.iter_mut() {
                    message.partition = random.below(partitions) as i32;
                }
                let unassigned = -1; // RD_KAFKA_PARTITION_UA
                native.produce_batch(unassigned, sys::RD_KAFKA_MSG_F_PARTITION, messages)
            }
        };
        left -= count as u64;
        native.poll(0);
    }
    refused
}

/// One thread's share by `rd_kafka_produce`. Sticky: a partition for a while, then the next.
fn send_singly(settings: &Settings, native: &Native, index: usize) -> u64 {
    let value = settings.value();
    let mut random = Random::new(index as u64 + 1);
    let partitions = settings.partitions as u32;
    let mut refused = 0;
    for n in 0..settings.share(index) {
        let partition = match settings.spread {
            Spread::Sticky => (n / settings.call as u64 + index as u64) as u32 % partitions,
            Spread::Random => random.below(partitions),
        };
        refused += u64::from(!native.produce(partition as i32, &value));
        if n % POLL_EVERY == 0 {
            native.poll(0);
        }
    }
    refused
}
