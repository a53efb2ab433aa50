//! A raw client: requests and responses by the `kafka-protocol` crate, one connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiKey, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

/// So long that only a broken test reaches it.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

/// One batch for one partition.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) topic: &'static str,
    pub(crate) topic_id: [u8; 16],
    pub(crate) partition: i32,
    pub(crate) bytes: Bytes,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Client { stream, correlation_id: 0 }
    }

    pub(crate) fn send<M: Encodable + HeaderVersion>(
        &mut self,
        key: ApiKey,
        version: i16,
        message: &M,
    ) {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("raw")));
        let mut body = BytesMut::new();
        header.encode(&mut body, M::header_version(version)).unwrap();
        message.encode(&mut body, version).unwrap();
        self.write_frame(&body);
    }

    /// Sends a request with a body of the caller's making.
    pub(crate) fn send_bytes(&mut self, api_key: i16, version: i16, body: &[u8]) {
        self.correlation_id += 1;
        let mut frame = api_key.to_be_bytes().to_vec();
        frame.extend(version.to_be_bytes());
        frame.extend(self.correlation_id.to_be_bytes());
        frame.extend(b"\0\x03raw");
        frame.extend(body);
        self.write_frame(&frame);
    }

    fn write_frame(&mut self, body: &[u8]) {
        let mut frame = (body.len() as i32).to_be_bytes().to_vec();
        frame.extend(body);
        // In two pieces: a broker must not rely on a frame coming at once.
        let (a, b) = frame.split_at(frame.len() / 2);
        self.stream.write_all(a).unwrap();
        self.stream.write_all(b).unwrap();
    }

    /// The next response, which must be the one to the last request.
    pub(crate) fn receive<M: Decodable + HeaderVersion>(&mut self, version: i16) -> io::Result<M> {
        let correlation_id = self.correlation_id;
        self.receive_of(correlation_id, version)
    }

    pub(crate) fn receive_of<M: Decodable + HeaderVersion>(
        &mut self,
        correlation_id: i32,
        version: i16,
    ) -> io::Result<M> {
        let mut body = self.read_frame()?;
        let header = ResponseHeader::decode(&mut body, M::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, correlation_id, "responses come in order");
        let message = M::decode(&mut body, version).unwrap();
        assert!(body.is_empty(), "bytes after a response");
        Ok(message)
    }

    /// The body of the next response, which must be the one to the last request.
    pub(crate) fn receive_bytes(&mut self) -> io::Result<Bytes> {
        let mut frame = self.read_frame()?;
        let correlation_id = frame.split_to(4);
        assert_eq!(correlation_id, self.correlation_id.to_be_bytes()[..], "responses in order");
        Ok(frame)
    }

    fn read_frame(&mut self) -> io::Result<Bytes> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let mut body = vec![0; i32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut body)?;
        Ok(body.into())
    }

    pub(crate) fn call<M, R>(&mut self, key: ApiKey, version: i16, message: &M) -> io::Result<R>
    where
        M: Encodable + HeaderVersion,
        R: Decodable + HeaderVersion,
    {
        self.send(key, version, message);
        self.receive(version)
    }

    pub(crate) fn send_produce(&mut self, version: i16, acks: i16, batches: &[Batch]) {
        self.send(ApiKey::Produce, version, &request(version, acks, batches));
    }

    /// Sends one batch with acks=all and gives its partition's response.
    pub(crate) fn produce(&mut self, version: i16, batch: &Batch) -> PartitionProduceResponse {
        self.send_produce(version, -1, std::slice::from_ref(batch));
        let response: ProduceResponse = self.receive(version).expect("a response");
        response.responses[0].partition_responses[0].clone()
    }

    /// Whether the broker closes the connection, instead of sending anything more.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(n) => n == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

fn request(version: i16, acks: i16, batches: &[Batch]) -> ProduceRequest {
    let topic = |batch: &Batch| {
        let data = PartitionProduceData::default()
            .with_index(batch.partition)
            .with_records(Some(batch.bytes.clone()));
        let topic = TopicProduceData::default().with_partition_data(vec![data]);
        match version {
            ..=12 => topic.with_name(TopicName(StrBytes::from_static_str(batch.topic))),
            _ => topic.with_topic_id(batch.topic_id.to_vec().try_into().unwrap()),
        }
    };
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(1000)
        .with_topic_data(batches.iter().map(topic).collect())
}

/// A batch of the given values, for partition 0 of "t". `producer` is (id, epoch, first sequence).
pub(crate) fn batch(producer: Option<(i64, i16, i32)>, values: &[&'static str]) -> Batch {
    let (producer_id, producer_epoch, sequence) = producer.unwrap_or((-1, -1, -1));
    let record = |(i, value): (usize, &&'static str)| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id,
        producer_epoch,
        timestamp_type: TimestampType::Creation,
        offset: i as i64,
        // Counted on also from -1: the encoder starts a new batch where it is not.
        sequence: sequence.wrapping_add(i as i32),
        timestamp: 1_700_000_000_000 + i as i64,
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from_static(value.as_bytes())),
        headers: [(StrBytes::from_static_str("h"), None)].into_iter().collect(),
    };
    let records: Vec<Record> = values.iter().enumerate().map(record).collect();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    Batch { topic: "t", topic_id: [0; 16], partition: 0, bytes: bytes.freeze() }
}

impl Batch {
    /// Changes bytes of the batch; `reseal` makes the CRC right again.
    pub(crate) fn altered(mut self, reseal: bool, change: impl FnOnce(&mut Vec<u8>)) -> Batch {
        let mut bytes = self.bytes.to_vec();
        change(&mut bytes);
        if reseal {
            let crc = crc_fast::crc32_iscsi(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        self.bytes = bytes.into();
        self
    }

    pub(crate) fn to(mut self, topic: &'static str, partition: i32) -> Batch {
        (self.topic, self.partition) = (topic, partition);
        self
    }
}
