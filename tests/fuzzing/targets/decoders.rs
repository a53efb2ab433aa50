//! Responses, frames, record batches and what is compressed in them.

use tidegate::internals::protocol::compression::{Codec, decompress};
use tidegate::internals::protocol::records::{
    MessageRun, RecordBatchReader, Records, read_messages,
};
use tidegate::internals::protocol::{
    ApiKey, ApiVersionsResponse, FetchResponse, FindCoordinatorResponse, FrameDecoder,
    InitProducerIdResponse, ListOffsetsResponse, MetadataResponse, OffsetCommitResponse,
    OffsetFetchResponse, ProduceResponse, split_response,
};

use super::memory::bounded;

/// A decoded value may be so many times larger than the bytes it was read from: an empty element
/// of an array is a byte or two on the wire.
const GROWTH: usize = 160;
const FIXED: usize = 4 << 10;
/// What decompression may take besides its result: windows and tables of the codecs.
const CODEC_STATE: usize = 16 << 20;
const DECOMPRESSED_MAX: usize = 1 << 20;
const FRAME_MAX: usize = 1 << 20;

/// The first byte says the version, the rest is a response without its size.
fn response(api: ApiKey, bytes: &[u8], decode: impl FnOnce(i16, &[u8])) {
    let Some((&version, frame)) = bytes.split_first() else { return };
    let range = api.versions();
    let versions = (range.max - range.min + 1) as u8;
    let version = range.min + i16::from(version % versions);
    bounded(frame.len() * GROWTH + FIXED, || {
        if let Ok((_, body)) = split_response(frame, api, version) {
            assert!(body.len() <= frame.len());
            decode(version, body);
        }
    });
}

pub fn api_versions(bytes: &[u8]) {
    response(ApiKey::ApiVersions, bytes, |version, body| {
        if let Ok(response) = ApiVersionsResponse::decode(version, body) {
            for api in ApiKey::ALL {
                let Some(spoken) = response.negotiate(api) else { continue };
                let (own, theirs) = (api.versions(), response.range(api));
                let theirs = theirs.expect("what is not there is not negotiated");
                assert!((own.min..=own.max).contains(&spoken));
                assert!((theirs.min..=theirs.max).contains(&spoken));
            }
        }
    });
}

pub fn metadata(bytes: &[u8]) {
    response(ApiKey::Metadata, bytes, |version, body| {
        let _ = MetadataResponse::decode(version, body);
    });
}

pub fn produce(bytes: &[u8]) {
    response(ApiKey::Produce, bytes, |version, body| {
        let mut response = ProduceResponse::new();
        if response.decode_into(version, body).is_ok() {
            assert_eq!(response.iter().count(), response.len());
        }
        // It is used again, whatever came before.
        let again = response.decode_into(version, body).is_ok();
        assert_eq!(again, ProduceResponse::new().decode_into(version, body).is_ok());
    });
}

pub fn fetch(bytes: &[u8]) {
    response(ApiKey::Fetch, bytes, |version, body| {
        if let Ok(response) = FetchResponse::decode(version, body) {
            let partitions = response.topics.iter().flat_map(|(_, partitions)| partitions);
            let records: usize = partitions.map(|it| it.records.len()).sum();
            assert!(records <= body.len(), "no byte is read twice");
        }
    });
}

pub fn list_offsets(bytes: &[u8]) {
    response(ApiKey::ListOffsets, bytes, |version, body| {
        let _ = ListOffsetsResponse::decode(version, body);
    });
}

pub fn offset_commit(bytes: &[u8]) {
    response(ApiKey::OffsetCommit, bytes, |version, body| {
        let _ = OffsetCommitResponse::decode(version, body);
    });
}

pub fn offset_fetch(bytes: &[u8]) {
    response(ApiKey::OffsetFetch, bytes, |version, body| {
        let _ = OffsetFetchResponse::decode(version, body);
    });
}

pub fn find_coordinator(bytes: &[u8]) {
    response(ApiKey::FindCoordinator, bytes, |version, body| {
        let _ = FindCoordinatorResponse::decode(version, body);
    });
}

pub fn init_producer_id(bytes: &[u8]) {
    response(ApiKey::InitProducerId, bytes, |version, body| {
        let _ = InitProducerIdResponse::decode(version, body);
    });
}

/// The first byte says in which pieces the rest arrives.
pub fn frames(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else { return };
    let piece = usize::from(piece) + 1;
    bounded(stream.len() * 4 + (128 << 10), || {
        let mut decoder = FrameDecoder::new(FRAME_MAX);
        let (mut rest, mut seen) = (stream, 0);
        while !rest.is_empty() {
            let space = decoder.space();
            let taken = space.len().min(rest.len()).min(piece);
            assert!(taken > 0, "there is always room");
            space[..taken].copy_from_slice(&rest[..taken]);
            decoder.filled(taken);
            rest = &rest[taken..];
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => seen = check_frame(stream, seen, frame),
                    Ok(None) => break,
                    Err(error) => {
                        let size = stream[seen..].first_chunk().map(|raw| i32::from_be_bytes(*raw));
                        assert_eq!(size, Some(error.size), "it is the size that stands there");
                        assert!(!(4..=FRAME_MAX as i32).contains(&error.size));
                        assert_eq!(decoder.next_frame().err(), Some(error), "it stays an error");
                        return;
                    }
                }
            }
        }
        assert_eq!(decoder.bytes_pending(), stream.len() - seen);
    });
}

fn check_frame(stream: &[u8], at: usize, frame: &[u8]) -> usize {
    let (start, end) = (at + 4, at + 4 + frame.len());
    assert_eq!(stream[at..start], (frame.len() as u32).to_be_bytes());
    assert_eq!(&stream[start..end], frame);
    end
}

pub fn batches(bytes: &[u8]) {
    let limit = bytes.len() * 4 + DECOMPRESSED_MAX * 2 + CODEC_STATE;
    bounded(limit, || {
        read_batches(bytes);
        // Almost no mutation keeps the CRC: once more with the right one.
        let mut mended = bytes.to_vec();
        if let Some((head, rest)) = mended.split_at_mut_checked(21) {
            let length = head[8..12].first_chunk().map_or(0, |raw| i32::from_be_bytes(*raw));
            let covered = usize::try_from(length).unwrap_or(0).saturating_sub(9);
            let covered = covered.min(rest.len());
            let crc = tidegate::internals::protocol::records::records_crc([&rest[..covered]]);
            head[17..].copy_from_slice(&crc.to_be_bytes());
            read_batches(&mended);
        }
    });
}

fn read_batches(mut bytes: &[u8]) {
    while let Ok((batch, rest)) = RecordBatchReader::read(bytes, DECOMPRESSED_MAX) {
        assert!(rest.len() < bytes.len(), "it gets on");
        let records = batch.records().count();
        assert!(records <= batch.header().record_count as usize + 1, "one error at the most");
        bytes = rest;
    }
}

pub fn messages(bytes: &[u8]) {
    let limit = bytes.len() * 4 + DECOMPRESSED_MAX * 2 + CODEC_STATE;
    bounded(limit, || {
        take_messages(bytes);
        // The first one's CRC is right once more.
        let mut mended = bytes.to_vec();
        if let Some((head, rest)) = mended.split_at_mut_checked(16) {
            let size = head[8..12].first_chunk().map_or(0, |raw| u32::from_be_bytes(*raw));
            let covered = (size as usize).saturating_sub(4).min(rest.len());
            head[12..].copy_from_slice(&crc32fast::hash(&rest[..covered]).to_be_bytes());
            take_messages(&mended);
        }
    });
}

fn take_messages(mut bytes: &[u8]) {
    while let Ok(run) = MessageRun::at_front(bytes) {
        assert!((1..=bytes.len()).contains(&run.len), "it gets on");
        let (front, rest) = bytes.split_at(run.len);
        if let Ok((header, plain)) = read_messages(front, DECOMPRESSED_MAX) {
            assert!(plain.len() <= front.len().max(DECOMPRESSED_MAX));
            let records = Records::of_plain(&header, &plain);
            let count = records.inspect(|record| assert!(record.is_ok())).count();
            assert_eq!(count, header.record_count as usize);
        }
        bytes = rest;
    }
}

/// The first byte says the codec.
pub fn decompression(bytes: &[u8]) {
    let Some((&codec, input)) = bytes.split_first() else { return };
    let codec = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
    let limit = input.len() * 2 + DECOMPRESSED_MAX * 2 + CODEC_STATE;
    if let Ok(output) = bounded(limit, || decompress(codec, input, DECOMPRESSED_MAX)) {
        assert!(output.len() <= DECOMPRESSED_MAX);
    }
}
