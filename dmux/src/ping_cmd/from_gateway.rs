//! Requests that a gateway's controller sends through its own switch, as the client that the gateway itself is.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::Context;
use dmux_controller::api::v1::ProbeRequest;
use dmux_host::ping::{Pings, ipv6_of};

use super::{By, Heard, PingArgs, begin, end, explain, line};
use crate::api_client::{ApiArgs, Format, refused};

/// One request after the other, each with its answer.
pub(super) async fn run(args: &PingArgs, api: String) -> anyhow::Result<()> {
    let mut controller = ApiArgs { api }.connect().await?;
    let path = explain(args, &mut controller, None).await?;
    let address =
        path.client.parse().with_context(|| format!("the controller names {:?} as its gateway", path.client))?;
    // The controller takes a port for each request.
    let client = SocketAddrV4::new(address, 0);
    begin(args, client, Some(&path));
    let mut pings = Pings::new(ipv6_of(address), rand::random());
    let (mut replies, mut undelivered) = (Vec::new(), Vec::new());
    let mut interval = tokio::time::interval(Duration::from_millis(args.interval_ms));
    // The controller measures; this clock only has to tell the requests apart.
    let mut now = Duration::ZERO;
    for _ in 0..args.count {
        interval.tick().await;
        let request = ProbeRequest {
            protocol: args.protocol.0.into(),
            provider: args.provider.0,
            service: args.service.to_string(),
            packet: pings.request(now).context("a request cannot be built")?,
            timeout_ms: u32::try_from(args.timeout_ms).unwrap_or(u32::MAX),
        };
        let answer = controller.probe(request).await.map_err(refused)?.into_inner();
        now += Duration::from_micros(answer.rtt_us.into());
        let why = if !answer.dropped.is_empty() {
            Some(format!("the switch drops it: {}", answer.dropped))
        } else if answer.answered {
            match pings.reply(now, &answer.packet) {
                Some(reply) => {
                    let by = Some(By { router: answer.router, ttl: answer.ttl });
                    let heard = Heard { reply, by };
                    if args.output == Format::Table {
                        println!("{}", line(&heard));
                    }
                    replies.push(heard);
                    None
                }
                None => Some(format!("router {} answers with something that is no echo reply", answer.router)),
            }
        } else {
            None
        };
        if let Some(why) = why {
            if args.output == Format::Table {
                println!("a request did not get through: {why}");
            }
            undelivered.push(why);
        }
    }
    end(args, client, &replies, &pings.summary(), &undelivered, Some(path))
}
