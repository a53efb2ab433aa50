//! A blocking connection that speaks the protocol with the codec of the `kafka-protocol` crate:
//! administration must not depend on the codec that is under test.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer,
};

/// Measured answers take up to a second, topics of many partitions a few; on a slow disk ten more.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
const RESPONSE_BYTES_MAX: u32 = 256 << 20;

/// One connection to one broker, with one request at a time.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    client_id: StrBytes,
    correlation_id: i32,
}

impl Wire {
    /// Connects, under the client id of the test support.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_as(address, "test-support")
    }

    /// Connects under a client id, which is what quotas go by.
    pub fn connect_as(address: SocketAddr, client_id: &str) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let client_id = StrBytes::from_string(client_id.to_owned());
        Ok(Self { stream, client_id, correlation_id: 0 })
    }

    /// Replaces the time an answer may take, 30 s unless told.
    pub fn set_answer_limit(&self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))
    }

    /// Sends a request in the given version and waits for its answer.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        self.correlation_id += 1;
        let mut header = RequestHeader::default();
        header.request_api_key = R::KEY;
        header.request_api_version = version;
        header.correlation_id = self.correlation_id;
        header.client_id = Some(self.client_id.clone());
        let mut frame = BytesMut::zeroed(4);
        encode_request_header_into_buffer(&mut frame, &header).map_err(codec)?;
        request.encode(&mut frame, version).map_err(codec)?;
        let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame)?;

        let mut answer = self.read_frame()?;
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut answer, header_version).map_err(codec)?;
        if header.correlation_id != self.correlation_id {
            return Err(io::Error::other("the answer belongs to another request"));
        }
        R::Response::decode(&mut answer, version).map_err(codec)
    }

    fn read_frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > RESPONSE_BYTES_MAX {
            return Err(io::Error::other(format!("an answer of {length} bytes")));
        }
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(Bytes::from(frame))
    }
}

fn codec(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
