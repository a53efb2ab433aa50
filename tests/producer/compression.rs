//! Every codec reads back as what was sent, and is smaller on the way.

use tidegate::{Compression, Record};

use super::*;

fn codecs() -> [Compression; 5] {
    [
        Compression::None,
        Compression::Gzip { level: 6 },
        Compression::Snappy,
        Compression::Lz4 { level: 9 },
        Compression::Zstd { level: 3 },
    ]
}

#[test]
fn c37_every_codec_reads_back() {
    for codec in codecs() {
        let cluster = cluster(1, 2);
        let producer = builder(&cluster).compression(codec).build().unwrap();
        let topic = producer.topic("t").unwrap();
        let value = |n: usize| match n % 50 {
            0 => vec![b'z'; 900 * 1_024],
            1 => Vec::new(),
            _ => format!("value {n} ").repeat(1 + n % 40).into_bytes(),
        };
        let deliveries: Vec<_> = (0..500)
            .map(|n| {
                let value = value(n);
                let record = Record::new().value(&value).header("n", "h").timestamp(n as i64);
                topic.send_record(record.partition((n % 2) as i32)).unwrap()
            })
            .collect();
        for (n, delivery) in deliveries.into_iter().enumerate() {
            let at = acked(delivery);
            assert_eq!((at.partition(), at.offset()), ((n % 2) as i32, Some(n as i64 / 2)));
        }
        close(&producer);
        for partition in 0..2 {
            let records = cluster.records("t", partition as i32);
            assert_eq!(records.len(), 250, "{codec:?}");
            for (at, record) in records.iter().enumerate() {
                let n = at * 2 + partition;
                assert!(record.value.as_deref() == Some(&value(n)[..]), "{codec:?} record {n}");
                assert_eq!((record.timestamp, record.headers.len()), (n as i64, 1));
                assert_eq!(i64::from(record.sequence), record.offset);
            }
        }
        let bytes = cluster.stats().bytes();
        let compressed = codec != Compression::None;
        assert_eq!(bytes < 2_000_000, compressed, "{codec:?}: {bytes} bytes on the way");
        assert_eq!(producer.memory().free, producer.memory().capacity, "{codec:?}");
    }
}

#[test]
fn what_does_not_shrink_goes_plain() {
    for codec in codecs() {
        let cluster = cluster(1, 1);
        let producer = builder(&cluster).compression(codec).build().unwrap();
        let topic = producer.topic("t").unwrap();
        let mut state = 88_172_645_463_325_252_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(300_000)
        .collect();
        for chunk in noise.chunks(1_000) {
            drop(topic.send((), chunk).unwrap());
        }
        drop(topic.send((), &noise).unwrap());
        close(&producer);
        let records = cluster.records("t", 0);
        assert_eq!(records.len(), 301, "{codec:?}");
        for (record, chunk) in records.iter().zip(noise.chunks(1_000)) {
            assert!(record.value.as_deref() == Some(chunk), "{codec:?}");
        }
        assert!(records[300].value.as_deref() == Some(&noise[..]));
    }
}

#[test]
fn a_retry_of_a_compressed_batch_sends_the_same_bytes() {
    use tidegate::embedded::Fault;
    for codec in codecs() {
        let cluster = cluster(1, 1);
        cluster.script([
            Fault::produce_error("t", 0, 19),
            Fault::produce_error("t", 0, 7).after_append(),
        ]);
        let producer = builder(&cluster).compression(codec).build().unwrap();
        let topic = producer.topic("t").unwrap();
        let value = "again and again ".repeat(100);
        let deliveries: Vec<_> = (0..100).map(|_| topic.send((), &value).unwrap()).collect();
        deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
        close(&producer);
        assert_eq!(cluster.records("t", 0).len(), 100, "{codec:?}");
        assert_eq!(cluster.faults_left(), 0);
    }
}
