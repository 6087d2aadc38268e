//! Keys, records and files as they lie on disk. FORMAT.md describes them byte by byte.

use openraft::{LogId, SnapshotMeta, Vote};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::EngineError;
use crate::status::Member;

/// Version of everything in this module. A higher one on disk is refused.
pub(crate) const FORMAT: u32 = 1;
/// File with the second copy of the vote.
pub(crate) const VOTE_FILE: &str = "vote";
/// File with the snapshot.
pub(crate) const SNAPSHOT_FILE: &str = "snapshot";

pub(crate) const KEY_IDENTITY: &[u8] = b"i";
pub(crate) const KEY_VOTE: &[u8] = b"v";
pub(crate) const KEY_COMMITTED: &[u8] = b"c";
pub(crate) const KEY_PURGED: &[u8] = b"p";
const PREFIX_LOG: u8 = b'l';
const PREFIX_PEER: u8 = b'k';

/// First bytes of the two files.
const VOTE_MAGIC: &[u8; 8] = b"DMUXVOTE";
const SNAPSHOT_MAGIC: &[u8; 8] = b"DMUXSNAP";
/// Magic, format, CRC.
const FILE_HEADER: usize = 16;
/// CRC in front of a record.
const CRC_BYTES: usize = 4;

/// Who a directory belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) node_id: u64,
    /// Random, drawn when the directory was created; tells a node from its wiped successor.
    pub(crate) incarnation: u64,
}

/// The key of log entry `index`; big-endian, so that keys sort as indices do.
pub(crate) fn log_key(index: u64) -> Vec<u8> {
    prefixed(PREFIX_LOG, index)
}

/// One past every log key.
pub(crate) fn log_end() -> Vec<u8> {
    vec![PREFIX_LOG + 1]
}

/// The key of what is known of peer `id`.
pub(crate) fn peer_key(id: u64) -> Vec<u8> {
    prefixed(PREFIX_PEER, id)
}

/// One past every peer key.
pub(crate) fn peer_end() -> Vec<u8> {
    vec![PREFIX_PEER + 1]
}

fn prefixed(prefix: u8, n: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(prefix);
    key.extend_from_slice(&n.to_be_bytes());
    key
}

/// The number in a log or peer key.
pub(crate) fn key_number(key: &[u8]) -> Result<u64, EngineError> {
    let digits: [u8; 8] =
        key.get(1..).and_then(|d| d.try_into().ok()).ok_or_else(|| EngineError::Corrupt(format!("key {key:02x?}")))?;
    Ok(u64::from_be_bytes(digits))
}

fn crc(parts: &[&[u8]]) -> [u8; CRC_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().to_le_bytes()
}

/// A record: CRC over key and payload, then the payload.
pub(crate) fn encode<T: Serialize>(key: &[u8], value: &T) -> Result<Vec<u8>, EngineError> {
    let mut out = vec![0; CRC_BYTES];
    out = postcard::to_extend(value, out).map_err(|e| EngineError::Io(format!("cannot encode a record: {e}")))?;
    let sum = crc(&[key, &out[CRC_BYTES..]]);
    out[..CRC_BYTES].copy_from_slice(&sum);
    Ok(out)
}

/// The inverse of [`encode`]. The key is under the CRC, so a record in another's place is found too.
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], record: &[u8]) -> Result<T, EngineError> {
    let corrupt = |what: &str| EngineError::Corrupt(format!("record {}: {what}", key_name(key)));
    let (sum, payload) = record.split_at_checked(CRC_BYTES).ok_or_else(|| corrupt("too short"))?;
    if sum != crc(&[key, payload]) {
        return Err(corrupt("its CRC is wrong"));
    }
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(corrupt("bytes are left over")),
        Err(e) => Err(corrupt(&format!("does not decode: {e}"))),
    }
}

fn key_name(key: &[u8]) -> String {
    match (key.first(), key_number(key)) {
        (Some(&PREFIX_LOG), Ok(index)) => format!("log entry {index}"),
        (Some(&PREFIX_PEER), Ok(id)) => format!("peer {id}"),
        _ => String::from_utf8_lossy(key).into_owned(),
    }
}

/// The identity record: its first field is the format, readable by every version.
pub(crate) fn encode_identity(identity: Identity) -> Result<Vec<u8>, EngineError> {
    encode(KEY_IDENTITY, &(FORMAT, identity.node_id, identity.incarnation))
}

/// The format and, when it is one of ours, the identity.
pub(crate) fn decode_identity(record: &[u8]) -> Result<(u32, Identity), EngineError> {
    let (format, node_id, incarnation) = decode(KEY_IDENTITY, record)?;
    Ok((format, Identity { node_id, incarnation }))
}

fn file(magic: &[u8; 8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FILE_HEADER + payload.len());
    out.extend_from_slice(magic);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&crc(&[payload]));
    out.extend_from_slice(payload);
    out
}

fn open_file<'a>(name: &str, magic: &[u8; 8], bytes: &'a [u8]) -> Result<&'a [u8], EngineError> {
    let corrupt = |what: &str| EngineError::Corrupt(format!("file {name}: {what}"));
    let (header, payload) = bytes.split_at_checked(FILE_HEADER).ok_or_else(|| corrupt("too short"))?;
    if &header[..8] != magic {
        return Err(corrupt("its first bytes are wrong"));
    }
    if header[8..12] != FORMAT.to_le_bytes() {
        return Err(corrupt("its format is unknown"));
    }
    if header[12..] != crc(&[payload]) {
        return Err(corrupt("its CRC is wrong"));
    }
    Ok(payload)
}

/// The second copy of the vote.
pub(crate) fn encode_vote_file(vote: &Vote<u64>) -> Result<Vec<u8>, EngineError> {
    let payload = postcard::to_stdvec(vote).map_err(|e| EngineError::Io(format!("cannot encode the vote: {e}")))?;
    Ok(file(VOTE_MAGIC, &payload))
}

/// The inverse of [`encode_vote_file`].
pub(crate) fn decode_vote_file(bytes: &[u8]) -> Result<Vote<u64>, EngineError> {
    let payload = open_file(VOTE_FILE, VOTE_MAGIC, bytes)?;
    postcard::from_bytes(payload).map_err(|e| EngineError::Corrupt(format!("file {VOTE_FILE}: {e}")))
}

/// Snapshot metadata as openraft has it.
pub(crate) type Meta = SnapshotMeta<u64, Member>;

/// A snapshot file: metadata, then the application's envelope.
pub(crate) fn encode_snapshot_file(meta: &Meta, data: &[u8]) -> Result<Vec<u8>, EngineError> {
    let mut payload =
        postcard::to_stdvec(meta).map_err(|e| EngineError::Io(format!("cannot encode a snapshot: {e}")))?;
    payload.extend_from_slice(data);
    Ok(file(SNAPSHOT_MAGIC, &payload))
}

/// The inverse of [`encode_snapshot_file`].
pub(crate) fn decode_snapshot_file(bytes: &[u8]) -> Result<(Meta, Vec<u8>), EngineError> {
    let payload = open_file(SNAPSHOT_FILE, SNAPSHOT_MAGIC, bytes)?;
    let (meta, data) =
        postcard::take_from_bytes(payload).map_err(|e| EngineError::Corrupt(format!("file {SNAPSHOT_FILE}: {e}")))?;
    Ok((meta, data.to_vec()))
}

/// A log id in words.
pub(crate) fn log_id_text(id: Option<&LogId<u64>>) -> String {
    id.map_or_else(|| "nothing".to_owned(), |id| format!("{}.{}", id.leader_id.term, id.index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back_and_no_flipped_bit_goes_unseen(payload in proptest::collection::vec(any::<u8>(), 0..64),
                                                              index: u64, bit: proptest::sample::Index) {
            let key = log_key(index);
            let mut record = encode(&key, &payload).unwrap();
            prop_assert_eq!(&decode::<Vec<u8>>(&key, &record).unwrap(), &payload);
            prop_assert!(decode::<Vec<u8>>(&log_key(index.wrapping_add(1)), &record).is_err());
            let bit = bit.index(record.len() * 8);
            record[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode::<Vec<u8>>(&key, &record).is_err());
        }

        #[test]
        fn keys_sort_as_indices_do(a: u64, b: u64) {
            prop_assert_eq!(log_key(a).cmp(&log_key(b)), a.cmp(&b));
            prop_assert_eq!(key_number(&log_key(a)).unwrap(), a);
            prop_assert!(log_key(a) < log_end());
        }

        #[test]
        fn files_of_any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(decode_vote_file(&bytes).is_err());
            prop_assert!(decode_snapshot_file(&bytes).is_err());
        }
    }

    #[test]
    fn the_vote_file_is_what_format_md_says() {
        let bytes = encode_vote_file(&Vote::new(3, 7)).unwrap();
        assert_eq!(&bytes[..8], b"DMUXVOTE");
        assert_eq!(&bytes[8..12], [1, 0, 0, 0]);
        assert_eq!(&bytes[16..], [3, 7, 0], "term, node, not committed");
        assert_eq!(decode_vote_file(&bytes).unwrap(), Vote::new(3, 7));
    }
}
