//! What mutations begin with: bytes made by Kafka's own classes, and the files in the repository.

use std::path::Path;

use tidegate::internals::protocol::compression::Codec;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("golden bytes are hex");
    (0..text.len() / 2).map(|index| byte(2 * index)).collect()
}

/// The seeds of a target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut seeds = match target {
        "api_versions" => responses("ApiVersions", 0),
        "metadata" => responses("Metadata", 1),
        "produce" => responses("Produce", 3),
        "fetch" => responses("Fetch", 0),
        "list_offsets" => responses("ListOffsets", 0),
        "offset_commit" => responses("OffsetCommit", 2),
        "offset_fetch" => responses("OffsetFetch", 1),
        "find_coordinator" => responses("FindCoordinator", 0),
        "init_producer_id" => responses("InitProducerId", 0),
        "sasl_handshake" => responses("SaslHandshake", 0),
        "sasl_authenticate" => responses("SaslAuthenticate", 0),
        "frames" => frames(),
        "batches" => batches(),
        "messages" => messages(),
        "decompression" => compressed(),
        _ => Vec::new(),
    };
    seeds.extend(files(target));
    seeds
}

fn files(target: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder().join("tests/fuzz/corpus").join(target)) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Version byte, header, body. `first` is the lowest version spoken.
fn responses(api: &str, first: i16) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(folder().join("tests/golden/messages.txt")).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let header = |version: &str| {
        let name = format!("ResponseHeader.{api}");
        let line = lines.iter().find(|line| line[0] == name && line[1] == version);
        unhex(line.expect("every response has its header")[2])
    };
    let name = format!("{api}Response");
    let is_response = |line: &&Vec<&str>| line[0].split('.').next() == Some(&name);
    let seed = |line: &Vec<&str>| {
        let version: i16 = line[1].parse().expect("versions are numbers");
        [vec![(version - first) as u8], header(line[1]), unhex(line[2])].concat()
    };
    lines.iter().filter(is_response).map(seed).collect()
}

fn frames() -> Vec<Vec<u8>> {
    let mut stream = vec![7];
    for response in responses("Metadata", 1) {
        stream.extend((response.len() as u32).to_be_bytes());
        stream.extend(response);
    }
    let all_at_once = [vec![255], stream[1..].to_vec()].concat();
    vec![stream, all_at_once, vec![0, 0, 0, 0, 4, 1, 2, 3, 4, 0, 0], b"\xffHTTP/1.1 400".to_vec()]
}

fn batches() -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(folder().join("tests/golden/batches.txt")).unwrap();
    let bytes = text.lines().filter_map(|line| line.strip_prefix("bytes "));
    bytes.map(unhex).filter(|bytes| bytes.len() < 2_000).collect()
}

fn messages() -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(folder().join("tests/golden/message_sets.txt")).unwrap();
    let bytes = text.lines().filter_map(|line| line.strip_prefix("bytes "));
    bytes.filter(|line| !line.contains('*')).map(unhex).filter(|set| set.len() < 2_000).collect()
}

/// The records of the golden batches that are compressed, behind their codec.
fn compressed() -> Vec<Vec<u8>> {
    let codec = |batch: &[u8]| batch.get(22).copied().unwrap_or(0) & 7;
    let batches = batches().into_iter().filter(|batch| batch.len() > 61);
    let of_batch = |batch: Vec<u8>| {
        let known = usize::from(codec(&batch)) < Codec::ALL.len();
        known.then(|| [&[codec(&batch)], &batch[61..]].concat())
    };
    batches.filter_map(of_batch).collect()
}
