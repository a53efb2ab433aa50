//! A broker by hand, with one partition, `t-0`, whose answers to Fetch a test makes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse, ListOffsetsResponse,
    MetadataResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

/// See the module. It ends when it is dropped, and each connection when its client leaves.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// How many fetches it got.
    pub(crate) fetches: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // It waits for a connection: this one it does not serve.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.listening.take() {
            thread.join().unwrap();
        }
    }
}

/// The error code and the records that the n-th fetch, from 0, is answered with.
type Answer = dyn Fn(usize, &FetchRequest) -> (i16, Vec<u8>) + Send + Sync;

/// Starts one. `closes`: it closes the connection behind each answer to Fetch.
pub(crate) fn peer(
    closes: bool,
    answer: impl Fn(usize, &FetchRequest) -> (i16, Vec<u8>) + Send + Sync + 'static,
) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let fetches = Arc::new(AtomicUsize::new(0));
    let counted = fetches.clone();
    let answer: Arc<Answer> = Arc::new(answer);
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = is_over.clone();
    let listening = thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if ends.load(Ordering::SeqCst) {
                return;
            }
            let (counted, answer) = (counted.clone(), answer.clone());
            thread::spawn(move || serve(stream, address, closes, &counted, &*answer));
        }
    });
    Peer { address, fetches, is_over, listening: Some(listening) }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn reply<M: Encodable + HeaderVersion>(
    stream: &mut TcpStream,
    id: i32,
    version: i16,
    message: &M,
) -> bool {
    let mut body = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(id);
    header.encode(&mut body, M::header_version(version)).unwrap();
    message.encode(&mut body, version).unwrap();
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend(&body);
    stream.write_all(&frame).is_ok()
}

fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    closes: bool,
    fetches: &AtomicUsize,
    answer: &Answer,
) {
    while let Some(mut frame) = read_frame(&mut stream) {
        let api = i16::from_be_bytes([frame[0], frame[1]]);
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let key = ApiKey::try_from(api).unwrap();
        let header = RequestHeader::decode(&mut frame, key.request_header_version(version));
        let id = header.unwrap().correlation_id;
        let is_alive = match key {
            ApiKey::ApiVersions => reply(&mut stream, id, version.min(3), &versions()),
            ApiKey::Metadata => reply(&mut stream, id, version, &metadata(address)),
            ApiKey::ListOffsets => reply(&mut stream, id, version, &offsets()),
            ApiKey::Fetch => {
                let request = FetchRequest::decode(&mut frame, version).unwrap();
                assert!(!frame.has_remaining());
                let count = fetches.fetch_add(1, Ordering::SeqCst);
                let (error, records) = answer(count, &request);
                reply(&mut stream, id, version, &fetched(error, records)) && !closes
            }
            _ => false,
        };
        if !is_alive {
            return;
        }
    }
}

fn read_frame(stream: &mut TcpStream) -> Option<Bytes> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).ok()?;
    let mut frame = vec![0; i32::from_be_bytes(size) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame.into())
}

fn versions() -> ApiVersionsResponse {
    let api = |(key, min, max)| {
        ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
    };
    let apis = [(18, 0, 3), (3, 1, 9), (1, 4, 11), (2, 1, 5)].map(api);
    ApiVersionsResponse::default().with_api_keys(apis.to_vec())
}

fn metadata(address: SocketAddr) -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host(text("127.0.0.1"))
        .with_port(address.port().into());
    let partition = MetadataResponsePartition::default()
        .with_leader_id(BrokerId(1))
        .with_leader_epoch(0)
        .with_replica_nodes(vec![BrokerId(1)])
        .with_isr_nodes(vec![BrokerId(1)]);
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(text("t"))))
        .with_partitions(vec![partition]);
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text("c")))
        .with_controller_id(BrokerId(1))
        .with_topics(vec![topic])
}

fn offsets() -> ListOffsetsResponse {
    let partition = ListOffsetsPartitionResponse::default().with_offset(0).with_leader_epoch(0);
    let topic = ListOffsetsTopicResponse::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![partition]);
    ListOffsetsResponse::default().with_topics(vec![topic])
}

fn fetched(error: i16, records: Vec<u8>) -> FetchResponse {
    let partition = PartitionData::default()
        .with_error_code(error)
        .with_high_watermark(1 << 40)
        .with_last_stable_offset(1 << 40)
        .with_log_start_offset(0)
        .with_aborted_transactions(None)
        .with_preferred_read_replica(BrokerId(-1))
        .with_records(Some(Bytes::from(records)));
    let topic = FetchableTopicResponse::default()
        .with_topic(TopicName(text("t")))
        .with_partitions(vec![partition]);
    FetchResponse::default().with_responses(vec![topic])
}

/// A batch of one record with a value of so many bytes; `attributes` as in its header.
pub(crate) fn batch(offset: i64, attributes: i16, value: usize) -> Vec<u8> {
    fn varint(out: &mut Vec<u8>, value: i64) {
        let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
        while zigzag >= 0x80 {
            out.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        out.push(zigzag as u8);
    }
    let mut body = vec![0];
    varint(&mut body, 0);
    varint(&mut body, 0);
    varint(&mut body, -1);
    varint(&mut body, value as i64);
    body.extend(std::iter::repeat_n(b'v', value));
    varint(&mut body, 0);
    let mut record = Vec::new();
    varint(&mut record, body.len() as i64);
    record.extend(body);
    let mut covered = attributes.to_be_bytes().to_vec();
    covered.extend(0i32.to_be_bytes());
    covered.extend(0i64.to_be_bytes());
    covered.extend(0i64.to_be_bytes());
    covered.extend((-1i64).to_be_bytes());
    covered.extend((-1i16).to_be_bytes());
    covered.extend((-1i32).to_be_bytes());
    covered.extend(1i32.to_be_bytes());
    covered.extend(record);
    let mut out = offset.to_be_bytes().to_vec();
    out.extend((covered.len() as i32 + 9).to_be_bytes());
    out.extend(0i32.to_be_bytes());
    out.push(2);
    out.extend(crc_fast::crc32_iscsi(&covered).to_be_bytes());
    out.extend(covered);
    out
}

/// The offset that is asked for.
pub(crate) fn asked(request: &FetchRequest) -> i64 {
    request.topics[0].partitions[0].fetch_offset
}
