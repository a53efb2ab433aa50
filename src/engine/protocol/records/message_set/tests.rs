use super::*;
use crate::engine::protocol::records::{Header, encode_contiguous};

const BASE: i64 = 1_700_000_000_000;

type Kept = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

/// Records of every shape that a message can have.
fn kept() -> Vec<Kept> {
    vec![
        (None, None, 0),
        (Some(Vec::new()), Some(Vec::new()), 5),
        (Some(b"key".to_vec()), Some(vec![7; 300]), -40),
        (None, Some(vec![9; 70_000]), 90_000),
        (Some(vec![1; 200]), None, 1),
    ]
}

fn encoded(records: &[Kept], headers: &[Header<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (place, (key, value, delta)) in records.iter().enumerate() {
        let parts = RecordParts { key: key.as_deref(), value: value.as_deref(), headers };
        let size = RecordSize::of(place as u32, *delta, &parts).expect("small");
        let at = out.len();
        out.resize(at + size.total, 0);
        encode_contiguous(&mut out[at..], size, place as u32, *delta, &parts);
    }
    out
}

fn source(bytes: &[u8], piece: usize, records: usize) -> MessageSource<std::slice::Chunks<'_, u8>> {
    MessageSource {
        slices: bytes.chunks(piece),
        records: records as u32,
        codec: 0,
        base_timestamp: BASE,
        max_timestamp: BASE + 90_000,
    }
}

fn written<'a>(
    source: &MessageSource<impl Iterator<Item = &'a [u8]> + Clone>,
    format: RecordFormat,
    room: usize,
) -> Vec<u8> {
    let (mut cursor, mut set) = (MessageSetCursor::default(), Vec::new());
    loop {
        let mut window = Vec::new();
        let at_end = cursor.write(source, format, &mut window, room);
        assert!(window.len() <= room);
        set.extend_from_slice(&window);
        if at_end {
            return set;
        }
        assert!(!window.is_empty(), "it goes on");
    }
}

#[test]
fn a_message_is_laid_out_as_kafkas_protocol_guide_says() {
    let records = [(Some(b"k".to_vec()), Some(b"vw".to_vec()), 2)];
    let bytes = encoded(&records, &[]);
    let v1 = written(&source(&bytes, 3, 1), RecordFormat::MessagesV1, 1_000);
    let body =
        [&[1, 0][..], &(BASE + 2).to_be_bytes(), &[0, 0, 0, 1, b'k'], &[0, 0, 0, 2, b'v', b'w']]
            .concat();
    let crc = crc32fast::hash(&body).to_be_bytes();
    let expected = [&[0; 8][..], &[0, 0, 0, 25], &crc, &body].concat();
    assert_eq!(v1, expected);

    let v0 = written(&source(&bytes, 3, 1), RecordFormat::MessagesV0, 1_000);
    let body = [0, 0, 0, 0, 0, 1, b'k', 0, 0, 0, 2, b'v', b'w'];
    let crc = crc32fast::hash(&body).to_be_bytes();
    assert_eq!(v0, [&[0; 8][..], &[0, 0, 0, 17], &crc, &body].concat());
}

#[test]
fn a_set_is_the_same_however_its_records_and_its_window_are_cut() {
    let records = kept();
    let bytes = encoded(&records, &[]);
    for format in [RecordFormat::MessagesV0, RecordFormat::MessagesV1] {
        let whole = written(&source(&bytes, bytes.len(), records.len()), format, 1 << 20);
        for piece in [1, 7, 4_096] {
            let source = source(&bytes, piece, records.len());
            assert_eq!(source.survey(format).len, whole.len());
            for room in [MESSAGE_HEAD_MAX, 101, 4_096] {
                // A window of a few bytes over pieces of one byte takes for ever.
                if piece > 1 || room > 101 {
                    assert_eq!(written(&source, format, room), whole, "{piece}, {room}");
                }
            }
        }
        let growth = whole.len() as f64 / bytes.len() as f64;
        assert!(growth <= MESSAGE_SET_GROWTH_MAX as f64);
    }
}

#[test]
fn a_set_leads_back_to_the_records() {
    let records = kept();
    let bytes = encoded(&records, &[]);
    let source = source(&bytes, 100, records.len());
    let set = written(&source, RecordFormat::MessagesV1, 1_000);
    assert_eq!(records_of_message_set(&set, RecordFormat::MessagesV1, BASE), Some(bytes.clone()));

    // Without timestamps all records have that of the first.
    let set = written(&source, RecordFormat::MessagesV0, 1_000);
    let timeless: Vec<_> = records.into_iter().map(|(key, value, _)| (key, value, 0)).collect();
    let back = records_of_message_set(&set, RecordFormat::MessagesV0, BASE);
    assert_eq!(back, Some(encoded(&timeless, &[])));

    for cut in 1..set.len().min(400) {
        let back = records_of_message_set(&set[..cut], RecordFormat::MessagesV0, BASE);
        assert!(back.is_none_or(|records| records.len() < bytes.len()));
    }
}

#[test]
fn records_with_headers_are_found() {
    let parts = |n: u8| (None, Some(vec![n]), 0);
    let mut bytes = encoded(&[parts(1)], &[]);
    let headers = [Header { key: "h", value: None }, Header { key: "i", value: Some(b"x") }];
    bytes.extend(encoded(&[parts(2)], &headers));
    bytes.extend(encoded(&[parts(3)], &[]));
    let survey = source(&bytes, 5, 3).survey(RecordFormat::MessagesV1);
    assert_eq!(survey.with_headers, [1]);
}

#[test]
fn a_compressed_set_is_one_message_with_the_last_offset_and_the_latest_time() {
    let packed = [5; 99];
    let source = MessageSource { codec: 3, ..source(&packed, 10, 4) };
    let set = written(&source, RecordFormat::MessagesV1, 50);
    assert_eq!(set.len(), source.survey(RecordFormat::MessagesV1).len);
    let body = [
        &[1, 3][..],
        &(BASE + 90_000).to_be_bytes(),
        &[0xff, 0xff, 0xff, 0xff],
        &99_u32.to_be_bytes(),
        &packed,
    ]
    .concat();
    let crc = crc32fast::hash(&body).to_be_bytes();
    let size = (body.len() as u32 + 4).to_be_bytes();
    assert_eq!(set, [&3_u64.to_be_bytes()[..], &size, &crc, &body].concat());
}

#[test]
fn chunks_to_compress_are_the_plain_set() {
    let records = kept();
    let bytes = encoded(&records, &[]);
    let format = RecordFormat::MessagesV1;
    let mut chunks = MessageSetChunks::new(source(&bytes, 100, records.len()), format);
    let mut set = Vec::new();
    while let Some(chunk) = chunks.next_chunk() {
        set.extend_from_slice(chunk);
    }
    assert_eq!(set, written(&source(&bytes, 100, records.len()), format, 1 << 20));
}
