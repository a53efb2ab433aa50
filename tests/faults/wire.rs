//! Bytes that are not what they should be: garbage, flipped bits, impossible sizes and counts, and
//! responses to other requests than the one that is due.

use super::*;

/// Sends 20 records while `change` has its way with one response to Produce: no delivery may hear
/// of it what is not so. Returns how many connections it took.
fn one_wrong_response(
    request_timeout: Duration,
    change: impl Fn(&Frame<'_>) -> Act + Send + 'static,
) -> u64 {
    let stage = Stage::new(1, 1);
    let producer = stage.builder().request_timeout(request_timeout).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let before = stage.proxy(1).seen().accepted;
    let mut done = false;
    stage.proxy(1).script(move |frame| {
        if done || !frame.answers(api::PRODUCE) {
            return Act::Pass;
        }
        done = true;
        change(frame)
    });
    let sent: Vec<_> = (0..20).map(|n| send(&topic, 0, n.to_string())).collect();
    stage.judge_all_acked(sent);
    // And afterwards nothing is amiss.
    let sent: Vec<_> = (20..40).map(|n| send(&topic, 0, n.to_string())).collect();
    stage.judge_all_acked(sent);
    producer.close(LONG).wait().unwrap();
    assert_eq!(producer.memory().free, producer.memory().capacity);
    stage.proxy(1).seen().accepted - before
}

/// [`one_wrong_response`], which costs the connection at once.
#[track_caller]
fn closes(change: impl Fn(&Frame<'_>) -> Act + Send + 'static) {
    let start = Instant::now();
    assert_eq!(one_wrong_response(LONG, change), 1, "one new connection");
    assert!(start.elapsed() < LONG, "it was closed, not waited for");
}

/// [`one_wrong_response`], of which something may have to be waited for that never comes.
fn closes_or_times_out(change: impl Fn(&Frame<'_>) -> Act + Send + 'static) {
    assert!(one_wrong_response(millis(300), change) >= 1, "a new connection");
}

#[test]
fn f24_a_wrong_correlation_id_closes_and_completes_nothing() {
    for by in [1, -1, 1_000, i32::MIN] {
        closes(move |frame| {
            Act::Replace(frame.with_correlation(frame.correlation.wrapping_add(by)))
        });
    }
}

#[test]
fn f24_a_doubled_response_completes_nothing_twice() {
    // Whatever was in flight behind it is not taken for answered.
    closes(|frame| Act::Replace([frame.bytes, frame.bytes].concat()));
}

#[test]
fn f24_responses_out_of_order_complete_nothing() {
    // The first goes behind the second, or, if there is none, never.
    closes_or_times_out(|_| Act::Hold);
}

#[test]
fn f24_a_response_that_nobody_asked_for_closes() {
    let stray = [0, 0, 0, 8, 0x7f, 0, 0, 1, 0, 0, 0, 0];
    closes(move |frame| Act::Replace([&stray[..], frame.bytes].concat()));
}

#[test]
fn c26_bytes_behind_a_frame_close_the_connection() {
    // Those within its size are ignored; these are taken for another frame, and are none.
    closes(|frame| Act::Replace([frame.bytes, &[0xff; 64]].concat()));
}

#[test]
fn f25_truncated_responses_close() {
    closes(|frame| {
        let mut bytes = frame.bytes[..frame.bytes.len() - 1].to_vec();
        let size = (bytes.len() - 4) as i32;
        bytes[..4].copy_from_slice(&size.to_be_bytes());
        Act::Replace(bytes)
    });
    // The missing byte is taken from the next response, or never comes.
    closes_or_times_out(|frame| Act::Replace(frame.bytes[..frame.bytes.len() - 1].to_vec()));
}

#[test]
fn f25_impossible_sizes_close_before_memory_is_taken() {
    for size in [-1, i32::MIN, i32::MAX, 0, 3, (16 << 20) + 1] {
        closes(move |frame| Act::Replace(frame.patched(0, &size.to_be_bytes())));
    }
}

#[test]
fn f25_garbage_closes() {
    let mut random = Random(25);
    for _ in 0..20 {
        let garbage: Vec<u8> = (0..200).map(|_| random.next() as u8).collect();
        // With this seed each begins with an impossible size.
        closes(move |_| Act::Replace(garbage.clone()));
    }
    closes(|frame| {
        let mut random = Random(frame.correlation as u64);
        let mut bytes = frame.bytes.to_vec();
        bytes[8..].fill_with(|| random.next() as u8);
        Act::Replace(bytes)
    });
}

#[test]
fn f25_impossible_counts_close() {
    // Behind size, correlation id and the header's tags comes the count of topics, plus one.
    for count in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff, 0xff, 0xff, 0xff, 0x07]] {
        closes(move |frame| {
            let mut bytes = [&frame.bytes[..9], count, &frame.bytes[10..]].concat();
            let size = (bytes.len() - 4) as i32;
            bytes[..4].copy_from_slice(&size.to_be_bytes());
            Act::Replace(bytes)
        });
    }
}

/// One bit flipped in each byte of a frame of Produce in turn. Wherever it is, every delivery
/// resolves, and when it is over all is well. `lies`: the log cannot be held against what a flipped
/// response said.
fn flip_a_bit_in_every_byte(chosen: fn(&Frame<'_>) -> bool, lies: bool) {
    let stage = Stage::new(1, 1);
    let builder = stage.builder().request_timeout(millis(100)).delivery_timeout(LONG);
    let producer = builder.build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let mut random = Random(25);
    let mut count = 0;
    for at in 0.. {
        let (told, length) = std::sync::mpsc::channel();
        let bit = random.below(8);
        let mut done = false;
        stage.proxy(1).script(move |frame| {
            if done || !chosen(frame) {
                return Act::Pass;
            }
            done = true;
            let length = frame.bytes.len();
            // The test waits for it.
            told.send(length).unwrap();
            let throttle_time =
                frame.answers(api::PRODUCE) && (length - 5..length - 1).contains(&at);
            match frame.bytes.get(at) {
                // A throttle is obeyed up to `delivery_timeout`: a fault of its own.
                Some(byte) if !throttle_time => {
                    Act::Replace(frame.patched(at, &[byte ^ (1 << bit)]))
                }
                _ => Act::Pass,
            }
        });
        let first = send(&topic, 0, format!("{at}"));
        let length = length.recv_timeout(LONG).expect("there is a frame of that kind");
        let sent = vec![first, send(&topic, 0, format!("{at} behind"))];
        if lies {
            sent.into_iter().for_each(|sent| drop(outcome(sent.delivery)));
        } else {
            let tally = stage.judge(sent);
            assert_eq!(tally.unknown, 0, "{at}");
        }
        if at >= length {
            break;
        }
        count += 1;
    }
    assert!(count > 50, "every byte had its turn");
    stage.proxy(1).clear();
    let sent: Vec<_> = (0..20).map(|n| send(&topic, 0, format!("well {n}"))).collect();
    stage.judge_all_acked(sent);
    producer.close(LONG).wait().unwrap();
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn f25_a_flipped_bit_in_every_byte_of_a_request() {
    flip_a_bit_in_every_byte(|frame| frame.asks(api::PRODUCE), false);
}

#[test]
fn f25_a_flipped_bit_in_every_byte_of_a_response() {
    flip_a_bit_in_every_byte(|frame| frame.answers(api::PRODUCE), true);
}
