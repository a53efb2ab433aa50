use super::*;

const COMPRESSING: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const MAX: usize = 1 << 22;

/// Bytes with repetitions near and far, and some noise.
fn text(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut out = Vec::with_capacity(len + 40);
    while out.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(b"customer-");
        out.extend_from_slice((state >> 18).to_string().as_bytes());
        out.extend_from_slice(&b"ordered nothing at all today"[..(state >> 28) as usize]);
    }
    out.truncate(len);
    out
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn compressed(codec: Codec, input: &[u8]) -> Vec<u8> {
    let mut out = vec![0; input.len()];
    let len = Compressor::new()
        .compress(&codec.into(), [input].into_iter(), input.len(), &mut out)
        .expect("compressible");
    out.truncate(len);
    out
}

#[test]
fn one_compressor_serves_every_batch_however_it_is_cut() {
    let mut compressor = Compressor::new();
    let mut out = vec![0; 300_000];
    for codec in COMPRESSING {
        for len in [200, 32_768, 65_534, 65_535, 65_536, 65_537, 200_000] {
            let input = text(len);
            let mut lens = Vec::new();
            for piece_len in [len, 65_475, 1000, 7] {
                let pieces = input.chunks(piece_len);
                let len = compressor
                    .compress(&codec.into(), pieces, len, &mut out)
                    .unwrap_or_else(|| panic!("{codec}, {len} in {piece_len}"));
                assert!(len < input.len());
                let back = decompress(codec, &out[..len], input.len()).expect("our own");
                assert!(back == input, "{codec}, {len} in {piece_len}");
                lens.push(len);
            }
            // Blocks are the same however the input is cut, so is what becomes of them.
            if matches!(codec, Codec::Snappy | Codec::Lz4) {
                assert!(lens.iter().all(|other| *other == lens[0]), "{codec}: {lens:?}");
            }
        }
    }
}

#[test]
fn what_does_not_get_smaller_or_does_not_fit_goes_plain() {
    let mut compressor = Compressor::new();
    let mut out = vec![0; 300_000];
    for codec in COMPRESSING {
        let compression = codec.into();
        for input in [noise(150_000), noise(100), b"x".to_vec(), Vec::new()] {
            let pieces = input.chunks(4096);
            let made = compressor.compress(&compression, pieces, input.len(), &mut out);
            assert_eq!(made, None, "{codec}, {} bytes", input.len());
        }
        let input = text(100_000);
        let least = compressed(codec, &input).len();
        for room in [0, 1, 7, 16, 100, least / 2, least - 1, least, least + 1] {
            let pieces = input.chunks(40_000);
            let made = compressor.compress(&compression, pieces, input.len(), &mut out[..room]);
            // zstd and gzip may find other matches in other pieces.
            if matches!(codec, Codec::Snappy | Codec::Lz4) {
                assert_eq!(made, (room >= least).then_some(least), "{codec}, {room}");
            }
            if let Some(len) = made {
                assert!(decompress(codec, &out[..len], MAX).expect("our own") == input);
            }
        }
    }
    let input = text(1000);
    let plain = compressor.compress(&Compression::None, [&input[..]].into_iter(), 1000, &mut out);
    assert_eq!(plain, None);
}

#[test]
fn levels_change_what_is_written_and_may_alternate() {
    let input = text(150_000);
    let mut compressor = Compressor::new();
    let mut out = vec![0; input.len()];
    for (codec, levels) in [(Codec::Gzip, [1, 9, -1]), (Codec::Zstd, [-100, 19, 3])] {
        let mut lens = Vec::new();
        for level in levels.into_iter().chain(levels) {
            let compression = Compression::from(codec).with_level(level).expect("in range");
            let len = compressor
                .compress(&compression, [&input[..]].into_iter(), input.len(), &mut out)
                .expect("compressible");
            assert!(decompress(codec, &out[..len], MAX).expect("our own") == input);
            lens.push(len);
        }
        assert_eq!(lens[..3], lens[3..], "{codec}");
        assert!(lens[0] > lens[2] && lens[2] > lens[1], "{codec}: {lens:?}");
    }
}

#[test]
fn levels_are_kafkas() {
    for level in [-1, 1, 9] {
        assert!(Compression::gzip().with_level(level).is_ok());
    }
    for (compression, level) in [
        (Compression::gzip(), 0),
        (Compression::gzip(), 10),
        (Compression::gzip(), -2),
        (Compression::lz4(), 0),
        (Compression::lz4(), 18),
        (Compression::zstd(), 23),
        (Compression::zstd(), -131_073),
    ] {
        let error = compression.with_level(level).expect_err("out of range");
        assert!(error.to_string().contains(&level.to_string()), "{error}");
    }
    assert_eq!(Compression::snappy().with_level(99), Ok(Compression::Snappy));
    assert_eq!(Compression::lz4(), Compression::Lz4 { level: 9 });
    assert_eq!(Compression::zstd(), Compression::Zstd { level: 3 });
}

#[test]
fn names_and_numbers_are_kafkas() {
    for (id, name) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let codec = Codec::from_name(name).expect("known");
        assert_eq!(codec.to_string(), name);
        assert_eq!(usize::from(codec.id()), id);
        assert_eq!(Codec::from_attributes(id as i16 | 0x38), Some(codec));
        assert!(codec.is_built());
    }
    assert_eq!(Codec::from_name("brotli"), None);
    assert_eq!((5..8).find_map(Codec::from_attributes), None);
}

#[test]
fn the_limit_is_exact() {
    for codec in COMPRESSING {
        for len in [1000, 70_000] {
            let input = text(len);
            let bytes = compressed(codec, &input);
            assert!(decompress(codec, &bytes, len).expect("just enough") == input);
            for max in [0, 1, len / 2, len - 1] {
                let error = decompress(codec, &bytes, max).expect_err("too small");
                assert_eq!(error, DecompressError::TooLarge { max }, "{codec}, {len}");
            }
        }
    }
}

#[test]
fn f28_bombs_are_stopped_at_the_limit() {
    let zeros = vec![0; 1 << 26];
    for codec in COMPRESSING {
        let bomb = compressed(codec, &zeros);
        let error = decompress(codec, &bomb, 100_000).expect_err("a bomb");
        assert_eq!(error, DecompressError::TooLarge { max: 100_000 }, "{codec}");
    }
    // A raw snappy block that claims 4 GiB and holds nothing.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    let error = decompress(Codec::Snappy, &claim, usize::MAX).expect_err("a claim");
    assert!(matches!(error, DecompressError::Malformed { .. }), "{error}");
    // A zstd frame that claims 2^60 bytes: no checksum, 8 bytes of size, no data.
    let mut claim = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    claim.extend_from_slice(&(1u64 << 60).to_le_bytes());
    let error = decompress(Codec::Zstd, &claim, 100_000).expect_err("a claim");
    assert_eq!(error, DecompressError::TooLarge { max: 100_000 });
}

#[test]
fn every_cut_is_an_error_and_no_damage_is_a_panic() {
    let input = text(3000);
    for codec in COMPRESSING {
        let whole = compressed(codec, &input);
        for cut in 0..whole.len() {
            let result = decompress(codec, &whole[..cut], MAX);
            // Behind its header and behind a block, the Java library's framing may well end.
            let may_end = codec == Codec::Snappy && cut == 16;
            assert!(result.is_err() || may_end, "{codec} cut at {cut}");
        }
        for at in 0..whole.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= change;
                if let Ok(bytes) = decompress(codec, &damaged, 10_000) {
                    assert!(bytes.len() <= 10_000);
                }
            }
        }
    }
}

#[test]
fn c38_readers_take_every_form_that_clients_write() {
    let input = text(40_000);
    // Raw snappy, without the Java library's framing.
    let raw = snap::raw::Encoder::new().compress_vec(&input).expect("small");
    assert!(decompress(Codec::Snappy, &raw, MAX).expect("raw") == input);
    // The framing with its versions in little-endian order.
    let mut framed = compressed(Codec::Snappy, &input);
    assert_eq!(framed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    framed[8..16].copy_from_slice(b"\x01\0\0\0\x01\0\0\0");
    assert!(decompress(Codec::Snappy, &framed, MAX).expect("little-endian") == input);
    framed[8] = 2;
    assert!(decompress(Codec::Snappy, &framed, MAX).is_err());
    // Several members, several frames.
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
        let twice = compressed(codec, &input).repeat(2);
        assert!(decompress(codec, &twice, MAX).expect("two") == input.repeat(2), "{codec}");
    }
    // A zstd stream that does not say its size, as Kafka's Java producer writes it.
    let mut encoder = ::zstd::stream::Encoder::new(Vec::new(), 3).expect("level 3");
    std::io::Write::write_all(&mut encoder, &text(300_000)).expect("to memory");
    let unsized_frame = encoder.finish().expect("to memory");
    assert!(decompress(Codec::Zstd, &unsized_frame, MAX).expect("unsized") == text(300_000));
}
