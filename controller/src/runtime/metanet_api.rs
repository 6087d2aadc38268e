//! The `MetanetService`: operators decide who gets metalinks to their metanets (proto/dmux/api/v1/metanet.proto).
//!
//! ```text
//!   operator ──▶ serve ── Input::Operator(Said) ──▶ actor (attachment/operators.rs decides what is open)
//!            ◀── one bounded queue an operator ◀── Operators, which the actor owns
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Input;
use super::access_api::{metanet_id, metanet_name};
use crate::api::v1::from_operator::What as From;
use crate::api::v1::metanet_service_server::MetanetService;
use crate::api::v1::to_operator::What as To;
use crate::api::v1::verdict::Decision;
use crate::api::v1::{self, FromOperator, ToOperator};
use crate::attachment::{Closing, MAX_WISHES, NotDecided, Verdict, Wish, WishId};
use crate::model::Destination;

/// Operators at a time.
pub(super) const MAX_OPERATORS: usize = 64;
/// Metanets of one operator's stream.
const MAX_SERVED: usize = 64;
/// Messages that may wait for an operator: all that can be open, and as much again.
const QUEUE: usize = 2 * MAX_WISHES;
/// How long an operator may take to say who it is.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an operator's reason at most.
const MAX_TEXT: usize = 200;

type Sender = mpsc::Sender<Result<ToOperator, Status>>;

/// Names an operator's stream at this controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OperatorId(u64);

/// What an operator says.
#[derive(Debug)]
pub(super) enum Said {
    /// It listens.
    Hello {
        /// For these.
        metanets: BTreeSet<Destination>,
        /// Where it hears.
        to: Sender,
    },
    /// It has decided.
    Verdict(WishId, Verdict),
    /// It is gone.
    Goodbye,
}

/// Who listens. Telling never waits: who does not keep up is dropped, and may come again.
#[derive(Debug, Default)]
pub(super) struct Operators {
    streams: BTreeMap<OperatorId, (BTreeSet<Destination>, Sender)>,
}

impl Operators {
    /// A new one, which is told of what is open.
    pub(super) fn enter(&mut self, id: OperatorId, metanets: BTreeSet<Destination>, to: Sender, open: &[Wish]) {
        if self.streams.len() >= MAX_OPERATORS {
            // Nothing was sent yet, so there is room.
            let why = format!("{MAX_OPERATORS} operators listen already; stop one");
            let _ = to.try_send(Err(Status::resource_exhausted(why)));
            return;
        }
        tracing::info!(
            operator = id.0,
            metanets = metanets.len(),
            open = open.len(),
            "an operator of metanets listens"
        );
        self.streams.insert(id, (metanets, to));
        for wish in open {
            self.tell(id, To::Request(request(wish)));
        }
    }

    pub(super) fn leave(&mut self, id: OperatorId) {
        self.streams.remove(&id);
    }

    /// Whether the metanet is an operator's.
    pub(super) fn serves(&self, id: OperatorId, metanet: Destination) -> bool {
        self.streams.get(&id).is_some_and(|(metanets, _)| metanets.contains(&metanet))
    }

    pub(super) fn ask(&mut self, wish: &Wish) {
        self.tell_all(wish, &To::Request(request(wish)));
    }

    pub(super) fn close(&mut self, wish: &Wish, closing: &Closing) {
        let (state, text) = match closing {
            Closing::Granted => ("granted", ""),
            Closing::Refused => ("refused", ""),
            Closing::Failed(why) => ("failed", why.as_str()),
            Closing::Withdrawn => ("withdrawn", ""),
        };
        self.tell_all(wish, &To::Closed(v1::Closed { id: wish.id.0, state: state.into(), text: text.into() }));
    }

    pub(super) fn not_decided(&mut self, id: OperatorId, wish: WishId, why: NotDecided) {
        let closed = v1::Closed { id: wish.0, state: "unknown".into(), text: why.to_string() };
        self.tell(id, To::Closed(closed));
    }

    fn tell_all(&mut self, wish: &Wish, what: &To) {
        let metanet = wish.claim.metanet;
        let theirs = self.streams.iter().filter(|(_, (metanets, _))| metanets.contains(&metanet));
        for id in theirs.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.tell(id, what.clone());
        }
    }

    fn tell(&mut self, id: OperatorId, what: To) {
        let Some((_, to)) = self.streams.get(&id) else { return };
        if to.try_send(Ok(ToOperator { what: Some(what) })).is_err() {
            // Its queue is full, or it is gone: the end of the stream tells it.
            tracing::warn!(operator = id.0, "an operator of metanets does not keep up, and is dropped");
            self.streams.remove(&id);
        }
    }
}

fn request(wish: &Wish) -> v1::ConnectRequest {
    let claim = &wish.claim;
    v1::ConnectRequest {
        id: wish.id.0,
        metanet: Some(metanet_name(claim.metanet)),
        link: Some(v1::AccessLinkName { gateway: claim.link.gateway.0.into(), name: claim.link.name.clone() }),
        port: claim.endpoint.port.into(),
        mac: claim.endpoint.mac.to_string(),
        name: wish.name.clone(),
        rate: claim.rate,
        lease: claim.lease.to_string(),
    }
}

/// The service.
pub(super) struct MetanetApi {
    inputs: mpsc::Sender<Input>,
    last: Arc<AtomicU64>,
}

impl MetanetApi {
    pub(super) fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self { inputs, last: Arc::default() }
    }
}

#[tonic::async_trait]
impl MetanetService for MetanetApi {
    type ServeStream = Pin<Box<dyn Stream<Item = Result<ToOperator, Status>> + Send>>;

    async fn serve(&self, request: Request<Streaming<FromOperator>>) -> Result<Response<Self::ServeStream>, Status> {
        let mut said = request.into_inner();
        let first = tokio::time::timeout(HELLO_WITHIN, said.message());
        let first = first.await.map_err(|_| Status::deadline_exceeded("an operator says hello first"))??;
        let Some(From::Hello(hello)) = first.and_then(|first| first.what) else {
            return Err(Status::invalid_argument("an operator says hello first"));
        };
        let metanets = served(&hello).map_err(Status::invalid_argument)?;
        let id = OperatorId(self.last.fetch_add(1, Ordering::Relaxed));
        let (to, messages) = mpsc::channel(QUEUE);
        let stopping = |_| Status::unavailable("the controller is shutting down");
        self.inputs.send(Input::Operator(id, Said::Hello { metanets, to: to.clone() })).await.map_err(stopping)?;
        let (inputs, weak) = (self.inputs.clone(), to.downgrade());
        drop(to);
        tokio::spawn(async move {
            while let Ok(Some(message)) = said.message().await {
                match verdict(message) {
                    Ok((wish, verdict)) => {
                        if inputs.send(Input::Operator(id, Said::Verdict(wish, verdict))).await.is_err() {
                            return;
                        }
                    }
                    Err(why) => {
                        if let Some(to) = weak.upgrade() {
                            let _ = to.try_send(Err(Status::invalid_argument(why)));
                        }
                        break;
                    }
                }
            }
            // The actor is gone only when the controller stops.
            let _ = inputs.send(Input::Operator(id, Said::Goodbye)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

fn served(hello: &v1::Hello) -> Result<BTreeSet<Destination>, String> {
    let metanets: BTreeSet<_> = hello.metanets.iter().map(|name| metanet_id(Some(name))).collect::<Result<_, _>>()?;
    if (1..=MAX_SERVED).contains(&metanets.len()) {
        Ok(metanets)
    } else {
        Err(format!("{} metanets: name 1 to {MAX_SERVED}", metanets.len()))
    }
}

fn verdict(message: FromOperator) -> Result<(WishId, Verdict), String> {
    let Some(From::Verdict(v1::Verdict { request, decision })) = message.what else {
        return Err("an operator says hello once, and then gives verdicts".into());
    };
    let verdict = match decision.ok_or("a verdict without a decision")? {
        Decision::Grant(v1::Grant { rate: 0, .. }) => return Err("a rate of 0 carries nothing; refuse instead".into()),
        Decision::Grant(v1::Grant { rate, lease }) => Verdict::Grant { rate, lease: lease.parse()? },
        Decision::Refusal(v1::Refusal { text, .. }) if text.len() > MAX_TEXT => {
            return Err(format!("a reason of {} bytes; at most {MAX_TEXT}", text.len()));
        }
        Decision::Refusal(v1::Refusal { text, retry_after_ms }) => {
            Verdict::Refuse { text, retry_after: Duration::from_millis(retry_after_ms.into()) }
        }
    };
    Ok((WishId(request), verdict))
}
