//! What senders that choose among brokers are told of an account.

use super::*;

#[test]
fn a_load_is_the_level_in_thousandths_of_the_high_watermark() {
    let high = Some(100 * KIB);
    let options = BufferPoolOptions { bytes: 4 * CHUNK_BYTES, high, ..Default::default() };
    let pool = BufferPool::new(&options).expect("a small pool can be mapped");
    let (account, other) = (broker(&pool), broker(&pool));
    assert_eq!(pool.load(account), 0);
    let mut held = vec![pool.take_one(account, Class::Kib4).expect("room")];
    assert_eq!((pool.load(account), pool.load(other)), (40, 0));
    held.extend(fill(&pool, account));
    assert_eq!(pool.load(account), 1_000, "at its watermark, and over it");
    // A level that follows what is free, of which nothing is left.
    let small = self::pool(1);
    let account = broker(&small);
    let _all = small.take_one(account, Class::Kib64).expect("room");
    assert_eq!((small.load(account), small.load(AccountId::LEADERLESS)), (1_000, 0));
}

#[test]
fn what_is_said_of_a_stalled_broker_ends_with_its_account() {
    let pool = pool(1);
    let (account, other) = (broker(&pool), broker(&pool));
    pool.set_stalled(account, true);
    assert_eq!((pool.is_stalled(account), pool.is_stalled(other)), (true, false));
    pool.close_account(account);
    assert_eq!(broker(&pool), account, "the next broker has its id");
    assert!(!pool.is_stalled(account));
}
