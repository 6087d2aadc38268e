//! Refusals of single updates and reads, and how they travel: specification 1.4, sections 10 and 12.3.

use dmux_p4rt::p4::v1;
use prost::Message;
use tonic::{Code, Status};

use crate::pipeline::TableError;

/// The most bytes of details put into a status: they travel in one HTTP/2 header, which clients bound.
pub const MAX_STATUS_DETAILS: usize = 1 << 20;

/// What a status' metadata may take for a batch of this many updates by P4Runtime's rule of thumb (appendix), in
/// bytes before base64 adds a third.
fn details_budget(updates: usize) -> usize {
    (8192 + 100 * updates) * 3 / 4
}

/// What one element of the details takes without its message: type URL, codes, tags and lengths.
const ERROR_OVERHEAD: usize = 48;

/// A message is never cut below this, so that a batch of nothing but failures still says why.
const MIN_MESSAGE: usize = 16;

/// Why one update, one read or one stream message was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The canonical code.
    pub code: Code,
    /// What is wrong and what to do.
    pub message: String,
}

impl Refused {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(crate) fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, message)
    }
}

impl From<TableError> for Refused {
    fn from(error: TableError) -> Self {
        let code = match &error {
            TableError::Exists { .. } | TableError::MemberExists { .. } => Code::AlreadyExists,
            TableError::NotFound { .. } | TableError::NoSuchObject { .. } | TableError::NoSuchMember { .. } => {
                Code::NotFound
            }
            TableError::Full { .. } | TableError::ProfileFull { .. } => Code::ResourceExhausted,
            TableError::InUse { .. } => Code::FailedPrecondition,
            TableError::Constant { .. } => Code::PermissionDenied,
            TableError::BadIndex { .. } => Code::OutOfRange,
            TableError::BadKey { .. }
            | TableError::BadPriority { .. }
            | TableError::BadAction { .. }
            | TableError::BadProfile { .. }
            | TableError::NoIdleTimeout { .. }
            | TableError::NoDirect { .. }
            | TableError::BadHash { .. }
            | TableError::BadMeter { .. } => Code::InvalidArgument,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        Self::new(refused.code, refused.message)
    }
}

/// Turns the results of a batch into the RPC's status: OK when all are, otherwise UNKNOWN with one `p4.v1.Error`
/// for each element, in order (§12.3). `what` is "update" or "read".
pub(crate) fn batch_status(what: &str, results: &[Result<(), Refused>]) -> Result<(), Status> {
    let failures = results.iter().filter(|r| r.is_err()).count();
    if failures == 0 {
        return Ok(());
    }
    let room = details_budget(results.len()).saturating_sub(results.len() * ERROR_OVERHEAD) / failures;
    let mut size = 0;
    let mut details = Vec::with_capacity(results.len());
    for result in results {
        let error = match result {
            Ok(()) => v1::Error::default(),
            Err(refused) => v1::Error {
                canonical_code: refused.code as i32,
                message: shorten(&refused.message, room.max(MIN_MESSAGE)),
                space: String::new(),
                ..v1::Error::default()
            },
        };
        let any =
            prost_types::Any { type_url: "type.googleapis.com/p4.v1.Error".to_owned(), value: error.encode_to_vec() };
        size += any.encoded_len();
        details.push(any);
    }
    let first = results.iter().enumerate().find_map(|(i, r)| r.as_ref().err().map(|e| (i, e)));
    let message = match first {
        Some((index, refused)) => {
            format!("{failures} of {} {what}s failed; the first is number {index}: {refused}", results.len())
        }
        None => format!("{failures} of {} {what}s failed", results.len()),
    };
    if size > MAX_STATUS_DETAILS {
        // Without details the client cannot tell which ones failed, but a status beyond what it accepts would
        // not reach it at all.
        return Err(Status::new(
            Code::Unknown,
            format!("{message} (the errors of so large a batch do not fit a status: send smaller ones)"),
        ));
    }
    let status = tonic_types::pb::Status { code: Code::Unknown as i32, message: message.clone(), details };
    Err(Status::with_details(Code::Unknown, message, status.encode_to_vec().into()))
}

fn shorten(message: &str, bytes: usize) -> String {
    message[..message.floor_char_boundary(bytes)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(status: &Status) -> (tonic_types::pb::Status, Vec<v1::Error>) {
        let packed = tonic_types::pb::Status::decode(status.details()).unwrap();
        let errors = packed.details.iter().map(|d| v1::Error::decode(d.value.as_slice()).unwrap()).collect();
        (packed, errors)
    }

    #[test]
    fn a_batch_without_failures_is_ok() {
        assert!(batch_status("update", &[Ok(()), Ok(())]).is_ok());
        assert!(batch_status("update", &[]).is_ok());
    }

    #[test]
    fn a_failed_batch_has_one_error_for_each_update_in_order() {
        let results = [Ok(()), Err(Refused::new(Code::AlreadyExists, "there already")), Ok(())];
        let status = batch_status("update", &results).unwrap_err();
        assert_eq!(status.code(), Code::Unknown);
        let (packed, errors) = unpack(&status);
        assert_eq!(packed.code, Code::Unknown as i32);
        assert_eq!(packed.message, status.message());
        assert_eq!(errors.iter().map(|e| e.canonical_code).collect::<Vec<_>>(), [0, 6, 0]);
        assert_eq!(errors[1].message, "there already");
        assert!(packed.details.iter().all(|d| d.type_url == "type.googleapis.com/p4.v1.Error"));
    }

    #[test]
    fn the_status_of_a_large_failed_batch_stays_within_the_rule_of_thumb() {
        let failure =
            Refused::invalid("a sentence that goes on and on about what is wrong with one single update".repeat(3));
        let results = vec![Err(failure); 1000];
        let status = batch_status("update", &results).unwrap_err();
        assert_eq!(unpack(&status).1.len(), 1000);
        // Base64 adds a third.
        assert!(status.details().len() * 4 / 3 < 8192 + 1000 * 100, "{}", status.details().len());
    }
}
