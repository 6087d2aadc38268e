//! BMv2's data plane over gRPC: the messages of its `p4.bm.DataplaneInterface`, written out (there are two).

use anyhow::{Context, Result};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use super::{DEVICE_ID, Frame};

/// A frame on its way in or out. `id` of an answer is that of the frame which it came of.
#[derive(Clone, PartialEq, prost::Message)]
struct Packet {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    device_id: u64,
    #[prost(uint32, tag = "3")]
    port: u32,
    #[prost(bytes = "vec", tag = "4")]
    packet: Vec<u8>,
}

/// Sends frames on a stream of their own, closes it, and collects what comes until BMv2 closes it, too, which it does when
/// it has no packet left in it. `None` while it is not ready.
pub(super) async fn exchange(channel: Channel, frames: &[Frame]) -> Result<Option<Vec<Frame>>> {
    let packets: Vec<Packet> = frames
        .iter()
        .zip(1..)
        .map(|((port, frame), id)| Packet { id, device_id: DEVICE_ID, port: (*port).into(), packet: frame.clone() })
        .collect();
    run(channel, tokio_stream::iter(packets)).await
}

/// Collects what comes while `meanwhile` runs: frames that BMv2 sends while nobody listens are lost.
pub(super) async fn listen(
    channel: Channel,
    meanwhile: impl Future<Output = Result<()>>,
) -> Result<Option<Vec<Frame>>> {
    let (open, closed) = tokio::sync::mpsc::channel(1);
    let stream = run(channel, ReceiverStream::new(closed));
    let (out, done) = tokio::join!(stream, async {
        let done = meanwhile.await;
        drop(open);
        done
    });
    done?;
    out
}

async fn run(channel: Channel, packets: impl Stream<Item = Packet> + Send + 'static) -> Result<Option<Vec<Frame>>> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.context("BMv2's data plane is gone")?;
    let path = PathAndQuery::from_static("/p4.bm.DataplaneInterface/PacketStream");
    let request = tonic::Request::new(packets);
    let codec: ProstCodec<Packet, Packet> = ProstCodec::default();
    let mut answers = match client.streaming(request, path, codec).await {
        Ok(answers) => answers.into_inner(),
        // It listens before it has ports, and before it knows the service.
        Err(status) if matches!(status.code(), Code::Unavailable | Code::Unimplemented) => return Ok(None),
        Err(status) => return Err(status).context("BMv2's data plane"),
    };
    let mut out = Vec::new();
    while let Some(packet) = answers.message().await.context("BMv2's data plane")? {
        out.push((u16::try_from(packet.port).context("a port beyond 65535")?, packet.packet));
    }
    Ok(Some(out))
}
