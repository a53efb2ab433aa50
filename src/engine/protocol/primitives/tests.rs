//! Tests of the primitive types: what is written comes back, and what is damaged is an error.

use super::*;

fn written(flexible: bool, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out, flexible));
    out
}

fn problem<T: std::fmt::Debug>(result: Result<T>) -> DecodeProblem {
    let error = result.expect_err("the input is invalid");
    assert_eq!(error.field, "f");
    error.problem
}

#[test]
fn integers_are_big_endian_and_come_back() {
    let bytes = written(false, |w| {
        w.i8(-2);
        w.i16(0x0102);
        w.i32(i32::MIN);
        w.i64(0x0102_0304_0506_0708);
        w.bool(true);
        w.topic_id(TopicId([7; 16]));
    });
    assert_eq!(bytes[..7], [0xfe, 1, 2, 0x80, 0, 0, 0]);
    let mut r = Reader::new(&bytes, false);
    assert_eq!(r.i8("f"), Ok(-2));
    assert_eq!(r.i16("f"), Ok(0x0102));
    assert_eq!(r.i32("f"), Ok(i32::MIN));
    assert_eq!(r.i64("f"), Ok(0x0102_0304_0506_0708));
    assert_eq!(r.bool("f"), Ok(true));
    assert_eq!(r.topic_id("f"), Ok(TopicId([7; 16])));
    assert_eq!(r.remaining(), 0);
    assert_eq!(problem(r.i8("f")), DecodeProblem::Truncated { needed: 1, remaining: 0 });
    assert_eq!(Reader::new(&[0xff; 4], false).u32("f"), Ok(u32::MAX));
}

#[test]
fn varints_have_the_documented_bytes_and_come_back() {
    assert_eq!(written(true, |w| w.uvarint(300)), [0xac, 0x02]);
    assert_eq!(written(true, |w| w.varint(-1)), [0x01]);
    assert_eq!(written(true, |w| w.varint(150)), [0xac, 0x02]);
    assert_eq!(written(true, |w| w.uvarint(u32::MAX)), [0xff, 0xff, 0xff, 0xff, 0x0f]);
    for value in [0, 1, -1, 63, 64, -64, -65, 8191, i32::MAX, i32::MIN] {
        let bytes = written(true, |w| w.varint(value));
        assert_eq!(Reader::new(&bytes, true).varint("f"), Ok(value));
    }
    for value in [0, -1, 1 << 35, i64::MAX, i64::MIN] {
        let bytes = written(true, |w| w.varlong(value));
        assert_eq!(Reader::new(&bytes, true).varlong("f"), Ok(value));
    }
    for value in [0, 127, 128, 16383, 16384, u32::MAX] {
        let bytes = written(true, |w| w.uvarint(value));
        assert_eq!(Reader::new(&bytes, true).uvarint("f"), Ok(value));
        let truncated = &bytes[..bytes.len() - 1];
        assert!(Reader::new(truncated, true).uvarint("f").is_err());
    }
}

#[test]
fn varints_with_too_many_bytes_or_bits_are_refused() {
    let too_long = DecodeProblem::VarintTooLong;
    for bytes in
        [&[0xff, 0xff, 0xff, 0xff, 0x10][..], &[0x80; 6], &[0x80, 0x80, 0x80, 0x80, 0x80, 0]]
    {
        assert_eq!(problem(Reader::new(bytes, true).uvarint("f")), too_long);
    }
    let mut eleven = [0x80; 11];
    assert_eq!(problem(Reader::new(&eleven, true).varlong("f")), too_long);
    eleven[9] = 0x02;
    assert_eq!(problem(Reader::new(&eleven, true).varlong("f")), too_long);
}

#[test]
fn strings_of_both_encodings() {
    for flexible in [false, true] {
        let bytes = written(flexible, |w| {
            w.string("");
            w.string("tide");
            w.nullable_string(None);
            w.nullable_string(Some("gäte"));
        });
        let mut r = Reader::new(&bytes, flexible);
        assert_eq!(r.string("f"), Ok(""));
        assert_eq!(r.nullable_string("f"), Ok(Some("tide")));
        assert_eq!(r.clone().nullable_string("f"), Ok(None));
        assert_eq!(problem(r.string("f")), DecodeProblem::UnexpectedNull);
        assert_eq!(r.string("f"), Ok("gäte"));
        r.finish("f").expect("everything was read");
    }
    assert_eq!(written(false, |w| w.string("ab")), [0, 2, b'a', b'b']);
    assert_eq!(written(true, |w| w.string("ab")), [3, b'a', b'b']);
}

#[test]
fn bad_strings_are_refused() {
    let classic = |bytes: &[u8]| problem(Reader::new(bytes, false).nullable_string("f"));
    assert_eq!(classic(&[0xff, 0xfe]), DecodeProblem::NegativeLength(-2));
    assert_eq!(classic(&[0, 1, 0xff]), DecodeProblem::InvalidUtf8);
    let short = DecodeProblem::Truncated { needed: 0x7fff, remaining: 1 };
    assert_eq!(classic(&[0x7f, 0xff, b'a']), short);
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f, b'a'];
    let short = DecodeProblem::Truncated { needed: u32::MAX as usize - 1, remaining: 1 };
    assert_eq!(problem(Reader::new(&huge, true).string("f")), short);
}

#[test]
#[should_panic(expected = "over the protocol's limit")]
fn a_string_over_the_limit_is_a_programmer_error() {
    written(true, |w| w.string(&"x".repeat(STRING_BYTES_MAX + 1)));
}

#[test]
fn bytes_of_both_encodings() {
    for flexible in [false, true] {
        let bytes = written(flexible, |w| {
            w.length(3);
            w.raw(b"abc");
            w.null_length();
        });
        let mut r = Reader::new(&bytes, flexible);
        assert_eq!(r.bytes("f"), Ok(&b"abc"[..]));
        assert_eq!(r.clone().nullable_bytes("f"), Ok(None));
        assert_eq!(problem(r.bytes("f")), DecodeProblem::UnexpectedNull);
    }
    let negative = problem(Reader::new(&[0x80, 0, 0, 0], false).nullable_bytes("f"));
    assert_eq!(negative, DecodeProblem::NegativeLength(i32::MIN));
}

#[test]
fn an_array_cannot_claim_more_than_the_bytes_that_are_there() {
    let bytes = [0, 0, 0, 2, 1, 2, 3, 4];
    assert_eq!(Reader::new(&bytes, false).array("f", 2), Ok(2));
    let refused = DecodeProblem::CountTooLarge { count: 2, remaining: 4 };
    assert_eq!(problem(Reader::new(&bytes, false).array("f", 3)), refused);
    let count = i32::MAX as usize;
    let refused = DecodeProblem::CountTooLarge { count, remaining: 0 };
    assert_eq!(problem(Reader::new(&[0x7f, 0xff, 0xff, 0xff], false).array("f", 1)), refused);
    let count = u32::MAX as usize - 1;
    let refused = DecodeProblem::CountTooLarge { count, remaining: 0 };
    let compact = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(problem(Reader::new(&compact, true).array("f", usize::MAX)), refused);
    assert_eq!(Reader::new(&[0], true).nullable_array("f", 1), Ok(None));
    assert_eq!(problem(Reader::new(&[0], true).array("f", 1)), DecodeProblem::UnexpectedNull);
}

#[test]
fn tagged_fields_are_visited_or_passed_over() {
    let bytes = [2, 0, 2, 9, 9, 5, 1, 7, 0xaa];
    let mut r = Reader::new(&bytes, true);
    r.skip_tags("f").expect("unknown tags are passed over");
    assert_eq!(r.rest(), [0xaa]);
    let mut seen = Vec::new();
    let mut r = Reader::new(&bytes, true);
    r.visit_tags("f", |tag, content| {
        seen.push((tag, content.take(content.remaining(), "f")?.to_vec()));
        Ok(true)
    })
    .expect("both tags are read to the end");
    assert_eq!(seen, [(0, vec![9, 9]), (5, vec![7])]);
    let unread = Reader::new(&bytes, true).visit_tags("f", |_, _| Ok(true));
    assert_eq!(problem(unread), DecodeProblem::TrailingBytes(2));
    let mut classic = Reader::new(&bytes, false);
    classic.skip_tags("f").expect("classic messages have no tags");
    assert_eq!(classic.remaining(), bytes.len());
}

#[test]
fn hostile_tag_sections_are_refused_at_once() {
    for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[1, 0, 5, 1], &[1], &[1, 0]] {
        assert!(Reader::new(bytes, true).skip_tags("f").is_err());
    }
}

#[test]
fn ports_outside_16_bits_are_none() {
    for (sent, port) in [(65_535, 65_535), (0, 0), (-1, 0), (65_536, 0), (i32::MIN, 0)] {
        assert_eq!(Reader::new(&i32::to_be_bytes(sent), false).port("f"), Ok(port));
    }
}
