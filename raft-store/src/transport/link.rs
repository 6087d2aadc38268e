//! How a call reaches a member: over TCP, or over a [`Wire`] that a simulation puts in its place.
//!
//! A call is what tonic makes of it, an HTTP request with a gRPC body, on both ways; so whatever is simulated, the
//! same client, server and checks run.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tonic::body::Body;
use tonic::codegen::{Service as TowerService, StdError, http};
use tonic::transport::Channel;

use super::proto::raft_server::RaftServer;
use super::{MAX_MESSAGE_BYTES, Service};

/// A request on its way to a member.
pub struct Call(http::Request<Body>);

/// A member's answer on its way back.
pub struct Answer(http::Response<Body>);

/// What becomes of a call.
pub type Carried = Pin<Box<dyn Future<Output = Result<Answer, Lost>> + Send>>;

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Nothing of it reached the member.
    #[error("no connection")]
    Unreached,
    /// It may have reached the member, and the answer was lost; or neither.
    #[error("the connection broke")]
    Broken,
}

/// Carries calls between members, instead of TCP. For simulated clusters.
pub trait Wire: Send + Sync + 'static {
    /// A member listens at `addr`: hand it what is called there.
    fn listen(&self, addr: &str, server: Server);

    /// Carries a call to `addr`. Its deadline is kept by the caller, who drops the future.
    fn carry(&self, addr: &str, call: Call) -> Carried;
}

/// What answers at a member's address.
#[derive(Clone)]
pub struct Server(RaftServer<Service>);

impl Server {
    pub(super) fn new(service: Service) -> Server {
        let server = RaftServer::new(service)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Server(server)
    }

    pub(super) fn into_inner(self) -> RaftServer<Service> {
        self.0
    }

    /// Has the member answer.
    pub async fn answer(&self, call: Call) -> Answer {
        match self.0.clone().call(call.0).await {
            Ok(response) => Answer(response),
            Err(never) => match never {},
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

/// The way to one member.
#[derive(Clone)]
pub(crate) enum Link {
    Tcp(Channel),
    Wire(Arc<dyn Wire>, String),
}

impl TowerService<http::Request<Body>> for Link {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, StdError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        match self {
            Link::Tcp(channel) => channel.poll_ready(cx).map_err(Into::into),
            Link::Wire(..) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self {
            Link::Tcp(channel) => {
                let response = channel.call(request);
                Box::pin(async move { response.await.map_err(Into::into) })
            }
            Link::Wire(wire, addr) => {
                let within = deadline(&request).unwrap_or(MAX_CALL);
                let carried = wire.carry(addr, Call(request));
                Box::pin(async move {
                    match tokio::time::timeout(within, carried).await {
                        Ok(Ok(answer)) => Ok(answer.0),
                        Ok(Err(lost)) => Err(status(lost).into()),
                        Err(_) => Err(tonic::Status::deadline_exceeded("no answer in time").into()),
                    }
                })
            }
        }
    }
}

/// Longest that a call without a deadline of its own is waited for.
const MAX_CALL: Duration = Duration::from_secs(60);

fn status(lost: Lost) -> tonic::Status {
    let mut status = tonic::Status::unavailable(lost.to_string());
    status.set_source(Arc::new(lost));
    status
}

/// The deadline in a gRPC request (the `grpc-timeout` header: up to eight digits and a unit), which the transport keeps.
fn deadline(request: &http::Request<Body>) -> Option<Duration> {
    let text = request.headers().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let n: u64 = digits.parse().ok()?;
    match unit {
        "n" => Some(Duration::from_nanos(n)),
        "u" => Some(Duration::from_micros(n)),
        "m" => Some(Duration::from_millis(n)),
        "S" => Some(Duration::from_secs(n)),
        "M" => Some(Duration::from_secs(n.saturating_mul(60))),
        "H" => Some(Duration::from_secs(n.saturating_mul(3600))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_of_a_request_is_understood() {
        for within in [Duration::from_micros(1500), Duration::from_millis(700), Duration::from_secs(60)] {
            let mut request = tonic::Request::new(());
            request.set_timeout(within);
            let value = request.metadata().get("grpc-timeout").unwrap().to_str().unwrap().to_owned();
            let request = http::Request::builder().header("grpc-timeout", value).body(Body::empty()).unwrap();
            assert_eq!(deadline(&request), Some(within));
        }
        for bad in ["", "m", "5x", "-1m"] {
            let request = http::Request::builder().header("grpc-timeout", bad).body(Body::empty()).unwrap();
            assert_eq!(deadline(&request), None, "{bad:?}");
        }
    }
}
