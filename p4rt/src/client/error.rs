use std::time::Duration;

use thiserror::Error;
use tonic::{Code, Status};

use super::MAX_READ_ENTITIES;

/// Why a session, or a call of it, failed.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The endpoint is no address, or its TLS settings are wrong.
    #[error("{endpoint:?} is no address of a switch, write http://HOST:PORT: {source}")]
    Endpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// No connection.
    #[error("cannot connect to the switch at {endpoint}, is it running? {}", chain(source))]
    Connect {
        /// Where it should be.
        endpoint: String,
        /// What went wrong.
        source: tonic::transport::Error,
    },
    /// No answer in time: whether the switch did what was asked is unknown.
    #[error("the switch at {endpoint} did not answer {call} within {after:?}")]
    Timeout {
        /// Where it is.
        endpoint: String,
        /// The call.
        call: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The switch, or the transport, answered with an error.
    #[error("{call} failed: {:?}: {}", status.code(), status.message())]
    Refused {
        /// The call.
        call: &'static str,
        /// The answer.
        status: Box<Status>,
    },
    /// The stream has ended: the session is over, connect anew.
    #[error("the session with the switch at {endpoint} is over: {reason}")]
    Closed {
        /// Where it is.
        endpoint: String,
        /// What the switch or the transport said.
        reason: String,
    },
    /// The switch does not take messages as fast as they come.
    #[error("too many messages wait to be sent to the switch")]
    Busy,
    /// A session without election id, a standby, cannot change anything.
    #[error("a standby session, without an election id, cannot {0}")]
    Standby(&'static str),
    /// An answer without bound.
    #[error("the switch answered with more than {MAX_READ_ENTITIES} entities: read fewer at a time")]
    TooMany,
}

impl SessionError {
    pub(super) fn refused(call: &'static str, status: Status) -> Self {
        Self::Refused { call, status: Box::new(status) }
    }

    /// The gRPC code of the answer, where there was one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { status, .. } => Some(status.code()),
            _ => None,
        }
    }
}

/// The transport's own messages name only the layer; the cause is further down.
fn chain(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
