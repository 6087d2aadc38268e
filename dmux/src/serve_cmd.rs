//! `dmux metanet serve`: decides, for a metanet's operator, who gets metalinks to it.
//!
//! Requests are known to the controller of the endpoint's gateway only, so there is a stream to each controller.
//!
//! ```text
//!   controller ◀─verdicts── stream ──requests─┐
//!   controller ◀─────────── stream ───────────┼─▶ decide: by --approve-up-to, or who sits here
//!   …                                         ┘
//! ```

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use dmux_controller::api::v1::from_operator::What as From;
use dmux_controller::api::v1::to_operator::What as To;
use dmux_controller::api::v1::verdict::Decision;
use dmux_controller::api::v1::{
    Closed, ConnectRequest, FromOperator, GetRequest, Grant, Hello, MetanetName, Refusal, Verdict,
};
use dmux_controller::model::LeaseKind;
use dmux_wire::MacAddr;
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::access_cmd::{MetanetId, shown};
use crate::api_client::{ApiArgs, refused};
use crate::rate::Rate;
use crate::signals;

/// Between two looks at which controllers there are, and two tries to reach one.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Verdicts that may wait for a controller.
const VERDICTS: usize = 64;
/// Requests that may wait to be decided here; the controllers keep the others.
const REQUESTS: usize = 256;
/// Bytes of a reason at most.
const MAX_REASON: usize = 200;

/// `dmux metanet serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    metanet: MetanetId,
    /// Grant what is asked for, but no more than this. Without it, each request is asked about here.
    #[arg(long, value_name = "RATE")]
    approve_up_to: Option<Rate>,
    /// Grant leases of this kind, whatever is asked for: short or long.
    #[arg(long, value_name = "KIND")]
    lease: Option<LeaseKind>,
    /// Refuse all other endpoints; may be repeated.
    #[arg(long, value_name = "MAC")]
    only: Vec<MacAddr>,
    #[command(flatten)]
    api: ApiArgs,
}

/// Something that a controller says, and where the answer goes.
struct Heard {
    what: To,
    verdicts: mpsc::Sender<FromOperator>,
}

/// Decides until Ctrl-C.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let metanet = args.metanet.name();
    // An address that nobody answers at is told at once, and not tried forever.
    drop(args.api.connect().await?);
    let stop = signals::terminated().context("signals cannot be waited for")?;
    tokio::pin!(stop);
    let (heard, mut requests) = mpsc::channel(REQUESTS);
    let follow = tokio::spawn(follow(args.api.clone(), metanet, heard));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let outcome = loop {
        let Heard { what, verdicts } = tokio::select! {
            next = requests.recv() => match next {
                Some(next) => next,
                None => break Ok(()),
            },
            () = &mut stop => break Ok(()),
        };
        match what {
            To::Closed(closed) => say(&told(&closed))?,
            To::Request(request) => {
                say(&format!("request {}", described(&request)))?;
                let decision = tokio::select! {
                    decision = decide(&args, &request, &mut lines) => decision?,
                    () = &mut stop => break Ok(()),
                };
                let verdict = Verdict { request: request.id, decision: Some(decision) };
                // If its controller is gone, the endpoint asks again at another, or at the same one anew.
                let _ = verdicts.send(FromOperator { what: Some(From::Verdict(verdict)) }).await;
            }
        }
    };
    follow.abort();
    outcome
}

async fn decide(
    args: &ServeArgs,
    request: &ConnectRequest,
    lines: &mut Lines<BufReader<Stdin>>,
) -> anyhow::Result<Decision> {
    let listed = args.only.is_empty() || args.only.iter().any(|mac| mac.to_string() == request.mac);
    if !listed {
        return Ok(refusal("this endpoint is not admitted"));
    }
    if let Some(limit) = args.approve_up_to {
        return Ok(grant(args, request, request.rate.min(limit.0)));
    }
    loop {
        say("grant it? y, a rate, or n and why:")?;
        let Some(line) = lines.next_line().await.context("the answer cannot be read")? else {
            anyhow::bail!("there is nobody to ask: give --approve-up-to");
        };
        match answer(&line) {
            Some(Answer::Yes) => return Ok(grant(args, request, request.rate)),
            Some(Answer::Rate(rate)) => return Ok(grant(args, request, rate.0)),
            Some(Answer::No(why)) => return Ok(refusal(&why)),
            None => {}
        }
    }
}

#[derive(Debug, PartialEq)]
enum Answer {
    Yes,
    Rate(Rate),
    No(String),
}

fn answer(line: &str) -> Option<Answer> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match word {
        "y" | "yes" => Some(Answer::Yes),
        "n" | "no" => {
            // A character has four bytes at most.
            let why: String = rest.trim().chars().take(MAX_REASON / 4).collect();
            Some(Answer::No(if why.is_empty() { "the metanet's operator refuses".into() } else { why }))
        }
        _ => line.parse().ok().filter(|rate: &Rate| rate.0 > 0).map(Answer::Rate),
    }
}

fn grant(args: &ServeArgs, request: &ConnectRequest, rate: u64) -> Decision {
    let lease = args.lease.map_or_else(|| request.lease.clone(), |lease| lease.to_string());
    Decision::Grant(Grant { rate, lease })
}

fn refusal(text: &str) -> Decision {
    Decision::Refusal(Refusal { text: text.into(), retry_after_ms: 0 })
}

fn described(request: &ConnectRequest) -> String {
    let link = request.link.clone().unwrap_or_default();
    let name = if request.name.is_empty() { String::new() } else { format!(" ({})", request.name) };
    format!(
        "{} of gateway {}: {}{name} at port {} ({}) wants {}, {}-term, to metanet {}",
        request.id,
        link.gateway,
        request.mac,
        request.port,
        link.name,
        Rate(request.rate),
        request.lease,
        request.metanet.as_ref().map_or_else(String::new, shown)
    )
}

fn told(closed: &Closed) -> String {
    let why = if closed.text.is_empty() { String::new() } else { format!(": {}", closed.text) };
    format!("request {} {}{why}", closed.id, closed.state)
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("the output cannot be written")
}

/// Keeps a stream to each controller that there is.
async fn follow(any: ApiArgs, metanet: MetanetName, heard: mpsc::Sender<Heard>) {
    let mut known = BTreeSet::new();
    while !heard.is_closed() {
        // The one that was named may be gone; any other knows them all, too.
        let ask: Vec<String> = std::iter::once(any.api.clone()).chain(known.iter().cloned()).collect();
        for api in ask {
            let Ok(found) = controllers(ApiArgs { api }).await else { continue };
            for api in found {
                if known.insert(api.clone()) {
                    tokio::spawn(stream(ApiArgs { api }, metanet, heard.clone()));
                }
            }
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Where the controllers are.
async fn controllers(api: ApiArgs) -> anyhow::Result<Vec<String>> {
    let gateways = api.connect().await?.get_gateways(GetRequest::default()).await.map_err(refused)?.into_inner();
    Ok(gateways.gateways.into_iter().map(|gateway| gateway.api).filter(|api| !api.is_empty()).collect())
}

/// Listens to one controller, again and again.
async fn stream(api: ApiArgs, metanet: MetanetName, heard: mpsc::Sender<Heard>) {
    let mut complained = false;
    while !heard.is_closed() {
        match listen(&api, metanet, &heard).await {
            Ok(()) => complained = false,
            Err(error) if !complained => {
                complained = true;
                eprintln!("the controller at {} is not served: {error:#}; it is tried again", api.api);
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn listen(api: &ApiArgs, metanet: MetanetName, heard: &mpsc::Sender<Heard>) -> anyhow::Result<()> {
    let (verdicts, said) = mpsc::channel(VERDICTS);
    let hello = FromOperator { what: Some(From::Hello(Hello { metanets: vec![metanet] })) };
    verdicts.send(hello).await?;
    let mut client = api.metanets().await?;
    let mut messages = client.serve(ReceiverStream::new(said)).await.map_err(refused)?.into_inner();
    eprintln!("serving the controller at {}", api.api);
    while let Some(message) = messages.message().await.map_err(refused)? {
        let Some(what) = message.what else { continue };
        if heard.send(Heard { what, verdicts: verdicts.clone() }).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_yes_a_rate_or_no_and_why() {
        assert_eq!(answer("y"), Some(Answer::Yes));
        assert_eq!(answer(" yes please"), Some(Answer::Yes));
        assert_eq!(answer("10M"), Some(Answer::Rate(Rate(10_000_000))));
        assert_eq!(answer("10 Mbit/s"), Some(Answer::Rate(Rate(10_000_000))));
        assert_eq!(answer("n too late"), Some(Answer::No("too late".into())));
        assert_eq!(answer("no"), Some(Answer::No("the metanet's operator refuses".into())));
        for nothing in ["", "maybe", "0"] {
            assert_eq!(answer(nothing), None, "{nothing}");
        }
        let Some(Answer::No(long)) = answer(&format!("n {}", "\u{20ac}".repeat(500))) else { panic!("a refusal") };
        assert!(long.len() <= MAX_REASON);
    }
}
