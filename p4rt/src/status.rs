//! The per-update results of a Write inside a gRPC status (specification §12.3).
//!
//! A server that refuses some of a batch answers with code UNKNOWN; the details of the status hold one `p4.v1.Error` per
//! update, in the order of the updates, those that succeeded included.

use std::fmt;

use prost::Message;
use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::pb;

use crate::p4::v1;

const TYPE_NAME: &str = "p4.v1.Error";
const TYPE_URL: &str = "type.googleapis.com/p4.v1.Error";

/// Why the switch refused one update.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct UpdateError {
    /// Never `Ok`.
    pub code: Code,
    /// For a person.
    pub message: String,
    /// Whose numbering `number` is in; empty where there is none.
    pub space: String,
    /// The switch's own number for the error.
    pub number: i32,
}

impl UpdateError {
    /// An error with a canonical code and a message only.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), space: String::new(), number: 0 }
    }
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)?;
        if !self.space.is_empty() {
            write!(f, " ({} {})", self.space, self.number)?;
        }
        Ok(())
    }
}

/// The result of one update.
pub type UpdateResult = Result<(), UpdateError>;

/// Details of a status that are not one `p4.v1.Error` per update.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnpackError {
    /// No details: the status is about the whole batch.
    #[error("the status has no details: the whole batch was refused")]
    WholeBatch,
    /// The bytes are no `google.rpc.Status`, or a detail is no `p4.v1.Error`.
    #[error("the details of the status are no p4.v1.Error messages: {0}")]
    Malformed(String),
    /// Another number of errors than of updates.
    #[error("the status tells the results of {found} updates, but {sent} were sent")]
    Count {
        /// Updates in the batch.
        sent: usize,
        /// Errors in the details.
        found: usize,
    },
}

/// The status that a server answers a batch with, whose updates had these results: `None` if all succeeded.
pub fn pack(results: &[UpdateResult]) -> Option<Status> {
    let failed = results.iter().filter(|r| r.is_err()).count();
    if failed == 0 {
        return None;
    }
    let message = format!("{failed} of {} updates failed", results.len());
    let details = results
        .iter()
        .map(|result| {
            let error = match result {
                Ok(()) => v1::Error::default(),
                Err(e) => v1::Error {
                    canonical_code: e.code as i32,
                    message: e.message.clone(),
                    space: e.space.clone(),
                    code: e.number,
                    details: None,
                },
            };
            prost_types::Any { type_url: TYPE_URL.to_owned(), value: error.encode_to_vec() }
        })
        .collect();
    let rich = pb::Status { code: Code::Unknown as i32, message: message.clone(), details };
    Some(Status::with_details(Code::Unknown, message, rich.encode_to_vec().into()))
}

/// The results of the `sent` updates of a batch that a server answered with `status`.
pub fn unpack(status: &Status, sent: usize) -> Result<Vec<UpdateResult>, UnpackError> {
    let malformed = |e: prost::DecodeError| UnpackError::Malformed(e.to_string());
    let rich = pb::Status::decode(status.details()).map_err(malformed)?;
    if rich.details.is_empty() {
        return Err(UnpackError::WholeBatch);
    }
    if rich.details.len() != sent {
        return Err(UnpackError::Count { sent, found: rich.details.len() });
    }
    rich.details
        .iter()
        .map(|any| {
            // Only the part after the last slash names the type.
            let name = any.type_url.rsplit('/').next().unwrap_or_default();
            if name != TYPE_NAME {
                return Err(UnpackError::Malformed(format!("a detail is a {name:?}")));
            }
            let error = v1::Error::decode(any.value.as_slice()).map_err(malformed)?;
            Ok(match Code::from_i32(error.canonical_code) {
                Code::Ok => Ok(()),
                code => Err(UpdateError { code, message: error.message, space: error.space, number: error.code }),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Vec<UpdateResult> {
        vec![
            Ok(()),
            Err(UpdateError::new(Code::AlreadyExists, "the entry exists")),
            Ok(()),
            Err(UpdateError {
                code: Code::ResourceExhausted,
                message: "the table is full".into(),
                space: "softswitch".into(),
                number: 7,
            }),
        ]
    }

    #[test]
    fn unpacking_undoes_packing() {
        let status = pack(&results()).unwrap();
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(status.message(), "2 of 4 updates failed");
        assert_eq!(unpack(&status, 4), Ok(results()));
    }

    #[test]
    fn success_is_no_status() {
        assert!(pack(&[Ok(()), Ok(())]).is_none());
        assert!(pack(&[]).is_none());
    }

    #[test]
    fn a_count_that_differs_is_told() {
        let status = pack(&results()).unwrap();
        assert_eq!(unpack(&status, 3), Err(UnpackError::Count { sent: 3, found: 4 }));
    }

    #[test]
    fn a_status_without_details_is_about_the_whole_batch() {
        let status = Status::permission_denied("not primary");
        assert_eq!(unpack(&status, 4), Err(UnpackError::WholeBatch));
    }

    #[test]
    fn foreign_details_are_refused() {
        let garbage = Status::with_details(Code::Unknown, "", vec![0xff; 9].into());
        assert!(matches!(unpack(&garbage, 1), Err(UnpackError::Malformed(_))));
        let other = pb::Status {
            details: vec![prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.DebugInfo".into(),
                value: vec![],
            }],
            ..Default::default()
        };
        let status = Status::with_details(Code::Unknown, "", other.encode_to_vec().into());
        assert!(matches!(unpack(&status, 1), Err(UnpackError::Malformed(_))));
    }
}
