//! The session with the switch: connects, keeps connected, performs the reconciler's actions. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use dmux_p4rt::ElectionId;
use dmux_p4rt::client::{Arbitration, Commit, Event, Events, Session, SessionError, Target};
use dmux_p4rt::p4::v1::{DigestList, IdleTimeoutNotification, PacketIn, PacketOut};
use tokio::sync::{mpsc, watch};

use super::pipeline::Pipeline;
use super::{Input, io};
use crate::plan::{self, Action};

/// First pause before connecting again; doubles up to [`RECONNECT_MAX`].
const RECONNECT_MIN: Duration = Duration::from_millis(50);
/// Longest pause before connecting again: how long a restarted switch waits at most.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// What the switch did, and in which session: an answer from before a reconnect says nothing about now.
#[derive(Debug)]
pub struct SwitchInput {
    /// Counts connections.
    pub generation: u64,
    /// What happened.
    pub event: SwitchEvent,
}

/// Something that the switch did.
#[derive(Debug)]
pub enum SwitchEvent {
    /// An answer, or a change of the session.
    Reconcile(plan::Event),
    /// A punted frame.
    PacketIn(PacketIn),
    /// Messages of a digest.
    Digest(DigestList),
    /// Entries that nothing hit.
    Idle(IdleTimeoutNotification),
}

/// An action for the session of a generation.
#[derive(Debug)]
pub struct SwitchAction {
    /// The session that it is for.
    pub generation: u64,
    /// What to do.
    pub action: Action,
}

/// Takes frames for the switch to send. The switch behind it comes and goes.
pub trait Frames: Send + Sync + 'static {
    /// Whether it is there.
    fn is_connected(&self) -> bool;

    /// Sends a frame, without waiting.
    ///
    /// # Errors
    /// Why it was dropped.
    fn send(&self, packet: PacketOut) -> Result<(), String>;
}

impl Frames for watch::Receiver<Option<Session>> {
    fn is_connected(&self) -> bool {
        self.borrow().is_some()
    }

    fn send(&self, packet: PacketOut) -> Result<(), String> {
        let session = self.borrow().clone().ok_or("there is no session")?;
        session.try_send_packet_out(packet).map_err(|e| e.to_string())
    }
}

/// What the task works with.
pub(super) struct SwitchTask {
    pub target: Target,
    pub node: u64,
    pub pipeline: Arc<Pipeline>,
    /// Under which epoch to claim the switch; `None` until the cluster has said.
    pub epoch: watch::Receiver<Option<u64>>,
    pub actions: mpsc::Receiver<SwitchAction>,
    pub inputs: mpsc::Sender<Input>,
    /// The session while there is one: for packet-outs and counters.
    pub session: watch::Sender<Option<Session>>,
}

impl SwitchTask {
    /// Runs until the actor is gone.
    pub async fn run(mut self) {
        let mut generation = 0;
        let mut pause = RECONNECT_MIN;
        loop {
            let Ok(epoch) = self.epoch.wait_for(Option::is_some).await.map(|e| *e) else { return };
            let election_id = epoch.map(|epoch| ElectionId::of_epoch(epoch, self.node));
            generation += 1;
            let why = match Session::connect(self.target.clone(), election_id).await {
                Ok((session, events)) => {
                    pause = RECONNECT_MIN;
                    self.session.send_replace(Some(session.clone()));
                    let why = self.serve(generation, session, events).await;
                    self.session.send_replace(None);
                    why
                }
                Err(error) => error.to_string(),
            };
            if !self.tell(generation, plan::Event::Disconnected { why }).await {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.inputs.closed() => return,
            }
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    /// Serves one session to its end. Returns why it ended.
    async fn serve(&mut self, generation: u64, session: Session, mut events: Events) -> String {
        let mut arbitration = session.watch_arbitration();
        let mut primary = false;
        let mut verdict = session.arbitration();
        loop {
            match verdict {
                Arbitration::Primary if !primary => {
                    primary = true;
                    self.tell(generation, plan::Event::Connected).await;
                }
                Arbitration::Primary | Arbitration::Pending => {}
                Arbitration::Backup { primary: other } => {
                    primary = false;
                    let why = match other {
                        Some(id) => format!("another controller, with election id {id}, is its primary"),
                        None => "the switch does not accept this controller as its primary".into(),
                    };
                    self.tell(generation, plan::Event::Disconnected { why }).await;
                }
                Arbitration::Closed { reason } => return reason,
            }
            tokio::select! {
                changed = arbitration.changed() => {
                    if changed.is_err() {
                        return "the session is over".into();
                    }
                }
                event = events.next() => match event {
                    Some(Event::StreamError(error)) => tracing::warn!(?error, "the switch complains about a message"),
                    Some(Event::PacketIn(packet)) => {
                        if !self.hand_on(generation, SwitchEvent::PacketIn(packet)).await {
                            return "the controller stops".into();
                        }
                    }
                    Some(Event::Digest(list)) => {
                        // Acknowledged when the actor has room for it: a switch that tells too much waits.
                        let (digest_id, list_id) = (list.digest_id, list.list_id);
                        if !self.hand_on(generation, SwitchEvent::Digest(list)).await {
                            return "the controller stops".into();
                        }
                        if let Err(error) = session.try_acknowledge(digest_id, list_id) {
                            tracing::debug!(%error, "a list of digests is not acknowledged; the switch gives up waiting for it");
                        }
                    }
                    Some(Event::IdleTimeout(idle)) => {
                        if !self.hand_on(generation, SwitchEvent::Idle(idle)).await {
                            return "the controller stops".into();
                        }
                    }
                    None => return closed_reason(&session),
                },
                action = self.actions.recv() => match action {
                    Some(action) if action.generation == generation => self.start(generation, &session, action.action),
                    Some(_) => {}
                    None => return "the controller stops".into(),
                },
                changed = self.epoch.changed() => {
                    let epoch = *self.epoch.borrow();
                    if let (Ok(()), Some(epoch)) = (changed, epoch)
                        && let Err(error) = session.claim(Some(ElectionId::of_epoch(epoch, self.node))).await
                    {
                        return error.to_string();
                    }
                }
            }
            verdict = session.arbitration();
        }
    }

    /// Performs an action beside the loop, so that packets and arbitration are heard meanwhile.
    fn start(&self, generation: u64, session: &Session, action: Action) {
        let (session, inputs, pipeline) = (session.clone(), self.inputs.clone(), self.pipeline.clone());
        tokio::spawn(async move {
            let Some(event) = perform(&session, &pipeline, action).await else { return };
            let event = SwitchEvent::Reconcile(event);
            // The actor is gone only when the controller stops.
            let _ = inputs.send(Input::Switch(SwitchInput { generation, event })).await;
        });
    }

    async fn tell(&self, generation: u64, event: plan::Event) -> bool {
        self.hand_on(generation, SwitchEvent::Reconcile(event)).await
    }

    /// Whether the actor is still there.
    async fn hand_on(&self, generation: u64, event: SwitchEvent) -> bool {
        self.inputs.send(Input::Switch(SwitchInput { generation, event })).await.is_ok()
    }
}

fn closed_reason(session: &Session) -> String {
    match session.arbitration() {
        Arbitration::Closed { reason } => reason,
        _ => "the switch closed the stream".into(),
    }
}

async fn perform(session: &Session, pipeline: &Pipeline, action: Action) -> Option<plan::Event> {
    let text = |e: SessionError| e.to_string();
    Some(match action {
        Action::Wait { .. } => return None,
        Action::CheckPipeline => {
            let cookie = session.pipeline_cookie().await.map_err(text);
            plan::Event::Pipeline(cookie.map(|c| c == Some(pipeline.cookie())))
        }
        Action::SetPipeline => {
            tracing::info!("the switch does not run our program: loading it");
            // Keeping the entries that still fit keeps packets flowing; the read-back that follows sees what was kept.
            let set = session.set_pipeline(pipeline.to_config(), Commit::Reconcile).await;
            plan::Event::PipelineSet(set.map(drop).map_err(text))
        }
        Action::ReadBack => plan::Event::ReadBack(io::read_back(session).await.map_err(text)),
        Action::Write(updates) => plan::Event::Written(io::write(session, updates).await),
    })
}
