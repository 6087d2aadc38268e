//! `dmux watch`: what happens on a controller, as it happens.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use dmux_controller::api::v1::event::What;
use dmux_controller::api::v1::{ChoiceEvent, Event, GatewayEvent, RegistrationEvent, WatchRequest};

use crate::api_client::{ApiArgs, Format, refused};
use crate::signals;

/// `dmux watch`
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// Output format: a line, or a JSON document in a line, for each event.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    /// Stop after so many events, the first (the snapshot marker) included. Without it, on Ctrl-C.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Prints events until Ctrl-C. An error when the controller ends the stream.
pub async fn run(args: WatchArgs) -> anyhow::Result<()> {
    let mut client = args.api.connect().await?;
    let mut events = client.watch(WatchRequest {}).await.map_err(refused)?.into_inner();
    let stop = signals::terminated().context("signals cannot be waited for")?;
    tokio::pin!(stop);
    let mut left = args.count;
    while left != Some(0) {
        let event = tokio::select! {
            event = events.message() => event,
            () = &mut stop => return Ok(()),
        };
        let event = event
            .map_err(|status| refused(status).context(format!("the controller at {} broke off", args.api.api)))?
            .with_context(|| format!("the controller at {} ended the stream", args.api.api))?;
        let line = match args.output {
            Format::Json => serde_json::to_string(&event).context("encoding the event as JSON")?,
            Format::Table => text(&event),
        };
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            // Whoever read has had enough, as `head` has.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("the output cannot be written")?,
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

fn text(event: &Event) -> String {
    let what = event.what.as_ref().map_or_else(|| "something that this version does not know".into(), what);
    format!("{}  gateway {}  {what}", clock(event.at_ms), event.gateway)
}

/// The time of day in UTC.
fn clock(at_ms: u64) -> String {
    let (ms, s) = (at_ms % 1000, at_ms / 1000 % 86_400);
    format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60)
}

fn what(what: &What) -> String {
    match what {
        What::Snapshot(s) => {
            format!("watching from log index {}: {} registrations, {} gateways", s.applied, s.registrations, s.gateways)
        }
        What::Missed(n) => format!("MISSED {n} events: this reader is too slow"),
        What::Registration(r) => registration(r),
        What::GatewayEvent(g) => gateway(g),
        What::Choice(c) => choice(c),
        What::Switch(s) if s.detail.is_empty() => format!("switch {} (was {})", s.now, s.before),
        What::Switch(s) => format!("switch {} (was {}): {}", s.now, s.before, s.detail),
        What::Liveness(l) => {
            let state = if l.heard { "heard again" } else { "silent" };
            format!("router {} of protocol {} {state}", l.address, l.protocol)
        }
        What::Dampening(d) => {
            let state = if d.held_out { "held out for its flaps" } else { "no longer held out" };
            format!("router {} of protocol {} {state}", d.address, d.protocol)
        }
        What::Config(c) => format!("configuration replaced by version {}", c.version),
        What::Metalink(m) => {
            let which = if m.mli == 0 { "control MLI".into() } else { format!("metalink {}", m.mli) };
            format!("{which} of {} at port {} {}: {}", m.mac, m.port, m.kind, m.detail)
        }
    }
}

fn registration(event: &RegistrationEvent) -> String {
    let router = event.router.clone().unwrap_or_default();
    let detail = if event.detail.is_empty() { String::new() } else { format!(": {}", event.detail) };
    format!(
        "router {} {} at gateway {} {}, protocol {}, provider {}, weight {}{detail}",
        router.name, router.address, router.gateway, event.kind, event.protocol, router.provider, router.weight
    )
}

fn gateway(event: &GatewayEvent) -> String {
    let name = if event.name.is_empty() { String::new() } else { format!(" ({})", event.name) };
    format!("other gateway {}{name} {}", event.id, event.kind)
}

fn choice(event: &ChoiceEvent) -> String {
    let provider = if event.provider == 1 { "any provider".into() } else { format!("provider {}", event.provider) };
    let at = |gateway: Option<u32>| gateway.map_or_else(|| "nobody".into(), |id| format!("gateway {id}"));
    let suspect = if event.suspect { ", which does not answer" } else { "" };
    format!(
        "protocol {} of {provider}: routers of {}{suspect} chosen, of {} before",
        event.protocol,
        at(event.now),
        at(event.before)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_the_time_of_day() {
        let what = Some(What::Missed(7));
        let event = Event { sequence: 0, at_ms: 86_400_000 + 3_723_004, gateway: 2, what };
        assert_eq!(text(&event), "01:02:03.004  gateway 2  MISSED 7 events: this reader is too slow");
        let choice = ChoiceEvent { protocol: 41, provider: 1, before: Some(2), now: None, suspect: false };
        let event = Event { what: Some(What::Choice(choice)), ..event };
        assert!(text(&event).ends_with("protocol 41 of any provider: routers of nobody chosen, of gateway 2 before"));
    }
}
