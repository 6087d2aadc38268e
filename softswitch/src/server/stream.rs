//! StreamChannel's outgoing side: what waits to be sent to one controller.

use std::pin::Pin;
use std::task::{Context, Poll};

use dmux_p4rt::p4::v1::StreamMessageResponse;
use dmux_p4rt::p4::v1::stream_message_response::Update;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

/// Packet-ins and stream errors that may wait for a controller; further ones are dropped and counted (§16.1 allows
/// both to be lossy).
pub const PACKET_QUEUE: usize = 1024;

/// Arbitration notices that may wait. They must not be lost, so a controller that reads none of so many is cut off.
pub const NOTICE_QUEUE: usize = 64;

/// The sending end of a controller's stream.
#[derive(Clone, Debug)]
pub(crate) struct StreamSender {
    notices: mpsc::Sender<Result<StreamMessageResponse, Status>>,
    packets: mpsc::Sender<StreamMessageResponse>,
}

/// The receiving end, which gRPC drains: notices first, then packets. It ends after an error and when every sender
/// is gone.
#[derive(Debug)]
pub(crate) struct StreamReceiver {
    notices: mpsc::Receiver<Result<StreamMessageResponse, Status>>,
    packets: mpsc::Receiver<StreamMessageResponse>,
    ended: bool,
}

/// A new stream's two ends.
pub(crate) fn channel() -> (StreamSender, StreamReceiver) {
    let (notices, notices_out) = mpsc::channel(NOTICE_QUEUE);
    let (packets, packets_out) = mpsc::channel(PACKET_QUEUE);
    (StreamSender { notices, packets }, StreamReceiver { notices: notices_out, packets: packets_out, ended: false })
}

fn message(update: Update) -> StreamMessageResponse {
    StreamMessageResponse { update: Some(update) }
}

impl StreamSender {
    /// Sends a notice; false when the controller does not read its stream, which must then be ended.
    pub(crate) fn notify(&self, update: Update) -> bool {
        self.notices.try_send(Ok(message(update))).is_ok()
    }

    /// Ends the stream with a status.
    pub(crate) fn end(&self, status: Status) {
        // With a full queue the stream ends without the status, when the last sender is dropped.
        let _ = self.notices.try_send(Err(status));
    }

    /// Sends a packet or an error report; false when the queue is full or the controller gone.
    pub(crate) fn offer(&self, update: Update) -> bool {
        self.packets.try_send(message(update)).is_ok()
    }
}

impl Stream for StreamReceiver {
    type Item = Result<StreamMessageResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let notices = self.notices.poll_recv(context);
        if let Poll::Ready(Some(notice)) = notices {
            self.ended = notice.is_err();
            return Poll::Ready(Some(notice));
        }
        match (notices, self.packets.poll_recv(context)) {
            (_, Poll::Ready(Some(packet))) => Poll::Ready(Some(Ok(packet))),
            (Poll::Ready(None), Poll::Ready(None)) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmux_p4rt::p4::v1::{MasterArbitrationUpdate, PacketIn};
    use tokio_stream::StreamExt;

    fn notice() -> Update {
        Update::Arbitration(MasterArbitrationUpdate::default())
    }

    fn packet() -> Update {
        Update::Packet(PacketIn::default())
    }

    #[tokio::test]
    async fn notices_overtake_packets_that_wait() {
        let (sender, mut receiver) = channel();
        assert!(sender.offer(packet()));
        assert!(sender.notify(notice()));
        assert_eq!(receiver.next().await.unwrap().unwrap().update, Some(notice()));
        assert_eq!(receiver.next().await.unwrap().unwrap().update, Some(packet()));
    }

    #[tokio::test]
    async fn a_full_packet_queue_refuses_and_does_not_block_notices() {
        let (sender, mut receiver) = channel();
        let taken = (0..PACKET_QUEUE + 10).filter(|_| sender.offer(packet())).count();
        assert_eq!(taken, PACKET_QUEUE);
        assert!(sender.notify(notice()));
        assert_eq!(receiver.next().await.unwrap().unwrap().update, Some(notice()));
    }

    #[tokio::test]
    async fn a_controller_that_reads_no_notices_is_found_out() {
        let (sender, _receiver) = channel();
        assert_eq!((0..NOTICE_QUEUE + 1).filter(|_| sender.notify(notice())).count(), NOTICE_QUEUE);
    }

    #[tokio::test]
    async fn a_status_ends_the_stream_whatever_waits() {
        let (sender, mut receiver) = channel();
        assert!(sender.offer(packet()));
        sender.end(Status::aborted("enough"));
        assert_eq!(receiver.next().await.unwrap().unwrap_err().code(), tonic::Code::Aborted);
        assert!(receiver.next().await.is_none());
    }

    #[tokio::test]
    async fn the_stream_ends_when_the_last_sender_is_gone_and_everything_was_read() {
        let (sender, mut receiver) = channel();
        assert!(sender.offer(packet()));
        drop(sender);
        assert!(receiver.next().await.unwrap().is_ok());
        assert!(receiver.next().await.is_none());
    }
}
