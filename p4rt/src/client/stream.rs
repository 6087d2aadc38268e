//! What comes back on the stream: the verdicts of arbitration, packets, and complaints.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tonic::{Code, Streaming};

use crate::ElectionId;
use crate::p4::v1::stream_message_response::Update;
use crate::p4::v1::{
    DigestList, IdleTimeoutNotification, MasterArbitrationUpdate, PacketIn, StreamError, StreamMessageResponse,
};

/// What the switch last said about who is primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arbitration {
    /// A claim was sent and is not answered yet.
    Pending,
    /// This session is primary: it may write.
    Primary,
    /// This session is a backup.
    Backup {
        /// The primary's election id; `None` while there is no primary.
        primary: Option<ElectionId>,
    },
    /// The stream has ended, and the session with it.
    Closed {
        /// What the switch or the transport said.
        reason: String,
    },
}

impl Arbitration {
    /// Whether writes are allowed.
    pub fn is_primary(&self) -> bool {
        *self == Self::Primary
    }

    /// What an answer means to a session whose last claim is `claim`; `None` if it answers an older claim.
    fn judge(answer: &MasterArbitrationUpdate, claim: Option<ElectionId>) -> Option<Self> {
        let named = answer.election_id.map(ElectionId::from);
        let code = answer.status.as_ref().map_or(Code::Ok, |s| s.code.into());
        match code {
            // BMv2 takes a missing id for 0 and may then tell a standby that it is primary. It is not: it cannot write.
            Code::Ok if claim.is_none() => Some(Self::Backup { primary: None }),
            Code::Ok if named == claim => Some(Self::Primary),
            Code::Ok => None,
            Code::NotFound => Some(Self::Backup { primary: None }),
            _ => Some(Self::Backup { primary: named }),
        }
    }
}

/// Something that the switch sent on its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A frame for the controller.
    PacketIn(PacketIn),
    /// A message on the stream was wrong; lossy and optional (§16.6).
    StreamError(StreamError),
    /// Digests.
    Digest(DigestList),
    /// Entries that nothing hit; lossy and repeated (§16.4).
    IdleTimeout(IdleTimeoutNotification),
}

/// The events of a session, in order.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    pub(super) fn new(receiver: mpsc::Receiver<Event>) -> Self {
        Self(receiver)
    }

    /// The next event; `None` when the session is over. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }

    /// An event that has come already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.0.try_recv().ok()
    }
}

pub(super) struct Reader {
    pub responses: Streaming<StreamMessageResponse>,
    pub claim: Arc<Mutex<Option<ElectionId>>>,
    pub arbitration: Arc<watch::Sender<Arbitration>>,
    pub events: mpsc::Sender<Event>,
    pub dropped: Arc<AtomicU64>,
}

impl Reader {
    pub async fn run(mut self) {
        let reason = loop {
            match self.responses.message().await {
                Ok(Some(response)) => self.handle(response),
                Ok(None) => break "the switch closed the stream".to_owned(),
                Err(status) => break format!("{:?}: {}", status.code(), status.message()),
            }
        };
        self.arbitration.send_replace(Arbitration::Closed { reason });
    }

    fn handle(&self, response: StreamMessageResponse) {
        match response.update {
            Some(Update::Arbitration(answer)) => {
                // Held while the verdict is published, so that a new claim cannot come between.
                let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(verdict) = Arbitration::judge(&answer, *claim) {
                    self.arbitration.send_replace(verdict);
                }
            }
            Some(Update::Packet(packet)) => self.deliver(Event::PacketIn(packet)),
            Some(Update::Error(error)) => self.deliver(Event::StreamError(error)),
            Some(Update::Digest(list)) => self.deliver(Event::Digest(list)),
            Some(Update::IdleTimeoutNotification(n)) => self.deliver(Event::IdleTimeout(n)),
            // Extensions of other architectures.
            Some(Update::Other(_)) | None => {}
        }
    }

    fn deliver(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::pb;

    use super::*;

    fn answer(code: Code, id: Option<u128>) -> MasterArbitrationUpdate {
        MasterArbitrationUpdate {
            device_id: 1,
            role: None,
            election_id: id.map(|n| ElectionId(n).into()),
            status: Some(pb::Status { code: code as i32, ..Default::default() }),
        }
    }

    #[test]
    fn ok_with_our_id_makes_us_primary() {
        let verdict = Arbitration::judge(&answer(Code::Ok, Some(5)), Some(ElectionId(5)));
        assert_eq!(verdict, Some(Arbitration::Primary));
    }

    #[test]
    fn ok_with_another_id_answers_an_older_claim() {
        let verdict = Arbitration::judge(&answer(Code::Ok, Some(4)), Some(ElectionId(5)));
        assert_eq!(verdict, None);
    }

    #[test]
    fn already_exists_makes_us_backup_of_the_named_primary() {
        let verdict = Arbitration::judge(&answer(Code::AlreadyExists, Some(9)), Some(ElectionId(5)));
        let primary = Some(ElectionId(9));
        assert_eq!(verdict, Some(Arbitration::Backup { primary }));
    }

    #[test]
    fn not_found_means_that_nobody_is_primary() {
        // The id is then the highest that was ever seen, not a primary's.
        let verdict = Arbitration::judge(&answer(Code::NotFound, Some(9)), Some(ElectionId(5)));
        assert_eq!(verdict, Some(Arbitration::Backup { primary: None }));
    }

    #[test]
    fn a_standby_is_never_primary() {
        for id in [None, Some(0)] {
            let verdict = Arbitration::judge(&answer(Code::Ok, id), None);
            assert_eq!(verdict, Some(Arbitration::Backup { primary: None }));
        }
    }
}
