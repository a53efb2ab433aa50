//! What a connection sends: from a request's making until its last byte is written.

use std::io::IoSlice;

use super::connection::{Connection, Phase};
use super::request::{Request, RequestKind};
use crate::engine::protocol::encode_request;

/// Correlation ids of acks=0 requests that a broker may still answer by mistake.
const UNANSWERED_IDS_MAX: usize = 64;

impl Connection {
    /// Sends a request whose bytes are ready.
    pub fn send(&mut self, now: u64, mut request: Request) {
        request.deadline =
            now.max(self.throttled_until).saturating_add(self.config.request_timeout);
        self.sent_bytes += request.wire_len as u64;
        request.ends_at = self.sent_bytes;
        if self.requests.is_empty() {
            self.check_unsent_later(now);
        }
        (self.last_sent, request.sent_at) = (now, now);
        self.mark_active(now);
        self.requests.push_back(request);
    }

    /// Sends a request without batches; `body` writes what follows the header.
    pub fn send_simple(
        &mut self,
        now: u64,
        kind: RequestKind,
        version: i16,
        body: impl FnOnce(i16, &mut Vec<u8>),
    ) {
        let mut request = self.new_request();
        request.kind = kind;
        request.version = version;
        request.correlation = self.next_correlation();
        let (api, correlation) = (kind.api_key(), request.correlation);
        let out = &mut request.framing;
        encode_request(out, api, version, correlation, &self.config.client_id, |out| {
            body(version, out);
        });
        request.wire_len = request.framing.len();
        self.send(now, request);
    }

    /// Whether bytes wait to be written.
    pub fn wants_write(&self) -> bool {
        self.unwritten() > 0
    }

    /// The bytes to write next, as far as `out` has room. Returns the number of slices.
    pub fn slices<'a>(&'a mut self, out: &mut [IoSlice<'a>]) -> usize {
        let unwritten = self.requests.range(self.written..);
        let in_sets = unwritten.clone().find(|request| request.format().is_message_set());
        if let Some(request) = in_sets {
            self.set_writer.advance(request);
        }
        let mut used = 0;
        for request in unwritten {
            let ended = if !request.format().is_message_set() {
                let (count, ended) = request.slices(&mut out[used..]);
                used += count;
                ended
            } else if let Some(slot) = out.get_mut(used) {
                *slot = IoSlice::new(self.set_writer.unwritten(request));
                used += 1;
                // The next request's sets are made once this one is written.
                false
            } else {
                false
            };
            if !ended {
                break;
            }
        }
        used
    }

    /// The socket took `bytes`. Requests that get no response settle with their last byte: they
    /// are appended to `settled`.
    #[cfg(feature = "internals")]
    pub fn handle_written(&mut self, now: u64, bytes: usize, settled: &mut Vec<Request>) {
        self.handle_taken(now, bytes);
        self.handle_flushed(now, settled);
    }

    /// The transport took `bytes`, and will write them. Once it has written all that it took,
    /// [`Connection::handle_flushed`] is due.
    pub fn handle_taken(&mut self, now: u64, mut bytes: usize) {
        self.mark_active(now);
        self.written_bytes += bytes as u64;
        let deadline = now.saturating_add(self.config.request_timeout);
        while bytes > 0 {
            let request = &mut self.requests[self.written];
            bytes = request.add_written(bytes);
            // Its time runs from its last byte. (The handshake's has limits of its own.)
            if self.phase == Phase::Ready {
                request.deadline = request.deadline.max(deadline);
            }
            if !request.is_written() {
                break;
            }
            if request.kind.has_response() {
                self.written += 1;
            } else if let Some(request) = self.requests.remove(self.written) {
                self.unflushed.push_back(request);
            }
        }
    }

    /// Everything that the transport took is written. Requests that get no response settle.
    pub fn handle_flushed(&mut self, now: u64, settled: &mut Vec<Request>) {
        while let Some(request) = self.unflushed.pop_front() {
            if self.unanswered_ids.len() == UNANSWERED_IDS_MAX {
                self.unanswered_ids.pop_front();
            }
            self.unanswered_ids.push_back(request.correlation);
            let records = request.batches.iter().map(|entry| u64::from(entry.batch.records()));
            self.unconfirmed.add(now, request.correlation, records.sum());
            settled.push(request);
        }
    }
}
