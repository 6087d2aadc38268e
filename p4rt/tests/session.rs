//! The session against a P4Runtime server whose behaviour each test writes down: what a serious server does is tested
//! against real ones elsewhere, here are the answers that a real one gives rarely or never.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dmux_p4rt::ElectionId;
use dmux_p4rt::client::{
    Arbitration, Commit, Committed, EVENT_QUEUE, Event, Events, MAX_UPDATES, Session, SessionError, Target, insert,
};
use dmux_p4rt::p4::v1;
use dmux_p4rt::p4::v1::p4_runtime_server::{P4Runtime, P4RuntimeServer};
use dmux_p4rt::p4::v1::set_forwarding_pipeline_config_request::Action;
use dmux_p4rt::p4::v1::stream_message_request::Update as Inbound;
use dmux_p4rt::p4::v1::stream_message_response::Update as Outbound;
use dmux_p4rt::status::{self, UpdateError};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};

type Responses = mpsc::Sender<Result<v1::StreamMessageResponse, Status>>;

/// What the server does; a test changes what matters to it.
struct Script {
    /// Answers to claims, in order; the last one repeats.
    verdicts: Vec<Verdict>,
    /// Codes that the actions are refused with.
    refuse: Vec<(Action, Code)>,
    cookie: Option<u64>,
    /// Whether updates of odd table ids fail.
    odd_fail: bool,
    /// Refuse whole batches after this many requests.
    batches_before_loss: usize,
    /// Never answer reads.
    mute: bool,
}

#[derive(Clone)]
enum Verdict {
    Status(Code, Option<u128>),
    Stream(Code),
}

impl Default for Script {
    fn default() -> Self {
        Self {
            verdicts: vec![Verdict::Status(Code::Ok, Some(7))],
            refuse: Vec::new(),
            cookie: None,
            odd_fail: false,
            batches_before_loss: usize::MAX,
            mute: false,
        }
    }
}

#[derive(Default)]
struct Seen {
    streams: Vec<Responses>,
    packets: Vec<v1::PacketOut>,
    batches: Vec<v1::WriteRequest>,
    actions: Vec<Action>,
    closed: usize,
}

#[derive(Clone)]
struct Server {
    script: Arc<Script>,
    seen: Arc<Mutex<Seen>>,
}

fn verdict(code: Code, id: Option<u128>) -> v1::StreamMessageResponse {
    v1::StreamMessageResponse {
        update: Some(Outbound::Arbitration(v1::MasterArbitrationUpdate {
            device_id: 1,
            role: None,
            election_id: id.map(|id| ElectionId(id).into()),
            status: Some(tonic_types::Status { code: code as i32, ..Default::default() }),
        })),
    }
}

fn packet_in(n: u32) -> v1::StreamMessageResponse {
    v1::StreamMessageResponse {
        update: Some(Outbound::Packet(v1::PacketIn { payload: n.to_be_bytes().to_vec().into(), metadata: vec![] })),
    }
}

#[tonic::async_trait]
impl P4Runtime for Server {
    type ReadStream = ReceiverStream<Result<v1::ReadResponse, Status>>;
    type StreamChannelStream = ReceiverStream<Result<v1::StreamMessageResponse, Status>>;

    async fn write(&self, request: Request<v1::WriteRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let request = request.into_inner();
        let mut seen = self.seen.lock().unwrap();
        if seen.batches.len() == self.script.batches_before_loss {
            return Err(Status::permission_denied("not primary"));
        }
        let results: Vec<_> = request
            .updates
            .iter()
            .map(|u| match &u.entity.as_ref().unwrap().entity {
                Some(v1::entity::Entity::TableEntry(e)) if self.script.odd_fail && e.table_id % 2 == 1 => {
                    // As long as what a careful server writes: the trailers must still fit.
                    let text = format!("{:0>200}", e.table_id);
                    Err(UpdateError::new(Code::AlreadyExists, text))
                }
                _ => Ok(()),
            })
            .collect();
        seen.batches.push(request);
        match status::pack(&results) {
            None => Ok(Response::new(v1::WriteResponse {})),
            Some(status) => Err(status),
        }
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let (tx, rx) = mpsc::channel(4);
        let mute = self.script.mute;
        tokio::spawn(async move {
            for entity in request.into_inner().entities {
                let default = v1::TableEntry { is_default_action: true, ..Default::default() };
                let response = v1::ReadResponse { entities: vec![entity, default.into()] };
                let _ = tx.send(Ok(response)).await;
            }
            if mute {
                tx.closed().await;
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn set_forwarding_pipeline_config(
        &self,
        request: Request<v1::SetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::SetForwardingPipelineConfigResponse>, Status> {
        let action = request.into_inner().action();
        self.seen.lock().unwrap().actions.push(action);
        match self.script.refuse.iter().find(|(a, _)| *a == action) {
            Some((_, code)) => Err(Status::new(*code, "no")),
            None => Ok(Response::new(Default::default())),
        }
    }

    async fn get_forwarding_pipeline_config(
        &self,
        _: Request<v1::GetForwardingPipelineConfigRequest>,
    ) -> Result<Response<v1::GetForwardingPipelineConfigResponse>, Status> {
        use v1::forwarding_pipeline_config::Cookie;
        let Some(cookie) = self.script.cookie else {
            return Err(Status::failed_precondition("no program"));
        };
        Ok(Response::new(v1::GetForwardingPipelineConfigResponse {
            config: Some(v1::ForwardingPipelineConfig { cookie: Some(Cookie { cookie }), ..Default::default() }),
        }))
    }

    async fn stream_channel(
        &self,
        request: Request<Streaming<v1::StreamMessageRequest>>,
    ) -> Result<Response<Self::StreamChannelStream>, Status> {
        let (tx, rx) = mpsc::channel(EVENT_QUEUE);
        let mut inbound = request.into_inner();
        let server = self.clone();
        server.seen.lock().unwrap().streams.push(tx.clone());
        tokio::spawn(async move {
            let mut verdicts = server.script.verdicts.iter();
            let mut last = server.script.verdicts[0].clone();
            while let Ok(Some(message)) = inbound.message().await {
                match message.update {
                    Some(Inbound::Arbitration(_)) => {
                        last = verdicts.next().cloned().unwrap_or(last);
                        let answer = match last {
                            Verdict::Status(code, id) => Ok(verdict(code, id)),
                            Verdict::Stream(code) => Err(Status::new(code, "duplicate")),
                        };
                        let _ = tx.send(answer).await;
                    }
                    Some(Inbound::Packet(packet)) => {
                        server.seen.lock().unwrap().packets.push(packet);
                    }
                    _ => {}
                }
            }
            let mut seen = server.seen.lock().unwrap();
            seen.closed += 1;
            seen.streams.clear();
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn capabilities(
        &self,
        _: Request<v1::CapabilitiesRequest>,
    ) -> Result<Response<v1::CapabilitiesResponse>, Status> {
        Err(Status::unimplemented("before 1.1"))
    }
}

async fn serve(script: Script) -> (Server, Target) {
    let server = Server { script: Arc::new(script), seen: Arc::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let service = P4RuntimeServer::new(server.clone());
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (server, Target::new(endpoint, 1))
}

async fn session(script: Script) -> (Server, Session, Events) {
    let (server, target) = serve(script).await;
    let (session, events) = Session::connect(target, Some(ElectionId(7))).await.unwrap();
    (server, session, events)
}

/// Waits until the server has seen what the test waits for.
async fn eventually(server: &Server, what: impl Fn(&Seen) -> bool) {
    let seen = async {
        while !what(&server.seen.lock().unwrap()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await.expect("the server never saw it");
}

fn entries(count: u32) -> Vec<v1::Update> {
    (0..count).map(|table_id| insert(v1::TableEntry { table_id, ..Default::default() })).collect()
}

#[tokio::test]
async fn a_primary_is_told_when_it_is_deposed() {
    let (server, session, _events) = session(Script::default()).await;
    assert_eq!(session.arbitration(), Arbitration::Primary);
    let mut watch = session.watch_arbitration();
    let stream = server.seen.lock().unwrap().streams[0].clone();
    let news = verdict(Code::AlreadyExists, Some(9));
    stream.send(Ok(news)).await.unwrap();
    watch.changed().await.unwrap();
    let primary = Some(ElectionId(9));
    assert_eq!(session.arbitration(), Arbitration::Backup { primary });
}

#[tokio::test]
async fn a_higher_claim_on_the_same_stream_wins_the_switch_back() {
    let script = Script {
        verdicts: vec![Verdict::Status(Code::AlreadyExists, Some(9)), Verdict::Status(Code::Ok, Some(10))],
        ..Default::default()
    };
    let (_server, session, _events) = session(script).await;
    let primary = Some(ElectionId(9));
    assert_eq!(session.arbitration(), Arbitration::Backup { primary });
    let verdict = session.claim(Some(ElectionId(10))).await.unwrap();
    assert_eq!(verdict, Arbitration::Primary);
    assert_eq!(session.election_id(), Some(ElectionId(10)));
}

#[tokio::test]
async fn a_duplicate_election_id_ends_the_attempt_with_its_reason() {
    let (_server, target) =
        serve(Script { verdicts: vec![Verdict::Stream(Code::InvalidArgument)], ..Default::default() }).await;
    let error = Session::connect(target, Some(ElectionId(7))).await.unwrap_err();
    assert!(matches!(error, SessionError::Closed { .. }), "{error}");
    assert!(error.to_string().contains("duplicate"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    // A port that was free a moment ago, and which nothing listens on.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let target = Target::new(format!("http://{address}"), 1);
    let error = Session::connect(target, None).await.unwrap_err();
    assert!(matches!(error, SessionError::Connect { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let error = Session::connect(Target::new("not an address", 1), None).await.unwrap_err();
    assert!(matches!(error, SessionError::Endpoint { .. }), "{error}");
}

#[tokio::test]
async fn dropping_the_last_clone_ends_the_stream() {
    let (server, session, mut events) = session(Script::default()).await;
    let clone = session.clone();
    drop(session);
    assert_eq!(clone.arbitration(), Arbitration::Primary);
    drop(clone);
    eventually(&server, |seen| seen.closed == 1).await;
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn the_end_of_the_stream_is_an_arbitration_outcome() {
    let (server, session, mut events) = session(Script::default()).await;
    let mut watch = session.watch_arbitration();
    let stream = server.seen.lock().unwrap().streams[0].clone();
    let gone = Status::unavailable("going down");
    stream.send(Err(gone)).await.unwrap();
    watch.wait_for(|a| matches!(a, Arbitration::Closed { reason } if reason.contains("going down"))).await.unwrap();
    assert_eq!(events.next().await, None);
    let error = session.claim(Some(ElectionId(8))).await.unwrap_err();
    assert!(matches!(error, SessionError::Closed { .. }), "{error}");
}

#[tokio::test]
async fn packets_go_both_ways_in_order() {
    let (server, session, mut events) = session(Script::default()).await;
    let stream = server.seen.lock().unwrap().streams[0].clone();
    for n in 0..100u32 {
        stream.send(Ok(packet_in(n))).await.unwrap();
        let packet = v1::PacketOut { payload: n.to_be_bytes().to_vec().into(), metadata: vec![] };
        session.send_packet_out(packet).await.unwrap();
    }
    for n in 0..100u32 {
        let Some(Event::PacketIn(packet)) = events.next().await else {
            panic!("no packet {n}");
        };
        assert_eq!(packet.payload, n.to_be_bytes().to_vec());
    }
    eventually(&server, |seen| seen.packets.len() == 100).await;
    let seen = server.seen.lock().unwrap();
    for (n, packet) in (0..100u32).zip(&seen.packets) {
        assert_eq!(packet.payload, n.to_be_bytes().to_vec());
    }
}

#[tokio::test]
async fn a_flood_of_packets_does_not_delay_arbitration_and_is_counted() {
    let (server, session, mut events) = session(Script::default()).await;
    let mut watch = session.watch_arbitration();
    let stream = server.seen.lock().unwrap().streams[0].clone();
    let flood = EVENT_QUEUE as u32 + 500;
    for n in 0..flood {
        stream.send(Ok(packet_in(n))).await.unwrap();
    }
    let news = verdict(Code::NotFound, Some(7));
    stream.send(Ok(news)).await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(session.arbitration(), Arbitration::Backup { primary: None });
    let mut got = 0;
    while events.try_next().is_some() {
        got += 1;
    }
    assert_eq!(got, EVENT_QUEUE as u64);
    assert_eq!(session.dropped_events(), u64::from(flood) - got);
}

#[tokio::test]
async fn writes_are_batched_and_each_update_has_its_result() {
    let (server, session, _events) = session(Script { odd_fail: true, ..Default::default() }).await;
    let count = 2 * MAX_UPDATES as u32 + 10;
    let results = session.write(entries(count)).await.unwrap();
    assert_eq!(results.len(), count as usize);
    for (n, result) in results.iter().enumerate() {
        match result {
            Ok(()) => assert_eq!(n % 2, 0),
            Err(e) => {
                assert_eq!((n % 2, e.code), (1, Code::AlreadyExists));
                assert_eq!(e.message.trim_start_matches('0'), n.to_string());
            }
        }
    }
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.batches.len(), 3);
    for batch in &seen.batches {
        assert_eq!(batch.election_id, Some(ElectionId(7).into()));
    }
}

#[tokio::test]
async fn a_write_that_stops_tells_what_was_done() {
    let (_server, session, _events) = session(Script { batches_before_loss: 1, ..Default::default() }).await;
    let error = session.write(entries(MAX_UPDATES as u32 + 1)).await.unwrap_err();
    assert_eq!(error.done.len(), MAX_UPDATES);
    assert_eq!(error.source.code(), Some(Code::PermissionDenied));
}

#[tokio::test]
async fn a_standby_reads_but_never_writes() {
    let (server, target) = serve(Script::default()).await;
    let (session, _events) = Session::connect(target, None).await.unwrap();
    // The scripted server, like BMv2, tells it OK.
    assert_eq!(session.arbitration(), Arbitration::Backup { primary: None });
    let error = session.write(entries(1)).await.unwrap_err().source;
    assert!(matches!(error, SessionError::Standby(_)), "{error}");
    let config = v1::ForwardingPipelineConfig::default();
    let error = session.set_pipeline(config, Commit::Replace).await;
    assert!(matches!(error, Err(SessionError::Standby(_))));
    assert_eq!(session.read_table(5).await.unwrap()[0].table_id, 5);
    assert!(server.seen.lock().unwrap().batches.is_empty());
}

#[tokio::test]
async fn reads_leave_out_default_entries_and_have_a_deadline() {
    let (_server, session, _events) = session(Script::default()).await;
    assert_eq!(session.read_table(5).await.unwrap().len(), 1);

    let (_server, mut target) = serve(Script { mute: true, ..Default::default() }).await;
    target.call_timeout = Duration::from_millis(200);
    let (session, _events) = Session::connect(target, Some(ElectionId(7))).await.unwrap();
    let error = session.read_table(5).await.unwrap_err();
    assert!(matches!(error, SessionError::Timeout { call: "Read", .. }), "{error}");
}

#[tokio::test]
async fn reconciling_falls_back_where_the_switch_cannot() {
    let config = v1::ForwardingPipelineConfig::default;
    for (refused, outcome) in [
        (None, Ok(Committed::Reconciled)),
        (Some(Code::Unimplemented), Ok(Committed::Replaced)),
        (Some(Code::InvalidArgument), Ok(Committed::Replaced)),
        (Some(Code::Unknown), Ok(Committed::Replaced)),
        (Some(Code::PermissionDenied), Err(Code::PermissionDenied)),
    ] {
        let (server, session, _events) = session(Script {
            refuse: refused.map(|code| (Action::ReconcileAndCommit, code)).into_iter().collect(),
            cookie: Some(1),
            ..Default::default()
        })
        .await;
        let got = session.set_pipeline(config(), Commit::Reconcile).await;
        assert_eq!(got.map_err(|e| e.code().unwrap()), outcome);
        let tried = &server.seen.lock().unwrap().actions;
        let fell_back = tried.contains(&Action::VerifyAndCommit);
        assert_eq!(fell_back, outcome == Ok(Committed::Replaced));
    }
    // Nothing runs: it is not even asked.
    let (server, session, _events) = session(Script::default()).await;
    assert_eq!(session.set_pipeline(config(), Commit::Reconcile).await.unwrap(), Committed::Replaced);
    assert_eq!(server.seen.lock().unwrap().actions, [Action::VerifyAndCommit]);
}

#[tokio::test]
async fn the_cookie_tells_which_program_runs() {
    let (_server, without, _events) = session(Script::default()).await;
    assert_eq!(without.pipeline_cookie().await.unwrap(), None);
    assert!(without.pipeline().await.unwrap().is_none());
    assert_eq!(without.capabilities().await.unwrap(), None);
    let (_server, with, _events) = session(Script { cookie: Some(42), ..Default::default() }).await;
    assert_eq!(with.pipeline_cookie().await.unwrap(), Some(42));
}
