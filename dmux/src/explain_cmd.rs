//! `dmux explain`: which router a client's packets reach, why no other, and the switch's entries that show it.

use std::fmt::Write;
use std::net::Ipv4Addr;

use clap::Args;
use dmux_controller::api::v1::{Considered, Draining, ExplainRequest, Explanation, Proof};
use dmux_wire::{ProtocolId, ProviderId};

use crate::api_client::{ApiArgs, Format, micros, refused, table, to_json};

/// `dmux explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The client's IPv4 address.
    #[arg(long, value_name = "A.B.C.D")]
    client: Ipv4Addr,
    /// The protocol that it asks for.
    #[arg(long, value_name = "ID")]
    protocol: ProtocolId,
    /// The provider that it names; without it, any.
    #[arg(long, value_name = "ID", default_value_t = ProviderId::ANY)]
    provider: ProviderId,
    /// The gateway that the client's packets reach, by its id; without it, that of the asked controller.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..))]
    gateway: Option<u16>,
    /// The service address that it sends to; without it, the first that the cluster has.
    #[arg(long, value_name = "A.B.C.D")]
    service: Option<Ipv4Addr>,
    /// The UDP port that it sends from: matters only where a route shares flows over several next hops.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    client_port: Option<u16>,
    #[command(flatten)]
    api: ApiArgs,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// Asks and prints.
pub async fn run(args: ExplainArgs) -> anyhow::Result<()> {
    let request = ExplainRequest {
        client: args.client.to_string(),
        client_port: args.client_port.unwrap_or(0).into(),
        protocol: args.protocol.0.into(),
        provider: args.provider.0,
        service: args.service.map_or_else(String::new, |s| s.to_string()),
        gateway: args.gateway.unwrap_or(0).into(),
        local: false,
    };
    let answer = args.api.connect().await?.explain(request).await.map_err(refused)?.into_inner();
    println!("{}", if args.output == Format::Json { to_json(&answer)? } else { text(&answer) });
    Ok(())
}

/// An explanation for people.
pub fn text(answer: &Explanation) -> String {
    let mut out = String::new();
    let any = u64::from(answer.provider) == u64::from(ProviderId::ANY.0);
    let provider = if any { "any provider".into() } else { format!("provider {}", answer.provider) };
    let bucket = match answer.bucket {
        Some(bucket) => format!("bucket {bucket} of its set"),
        None => "there is no set, so no bucket".into(),
    };
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "client {}, protocol {} of {provider}, at gateway {} ({}); client hash {:#06x}, {bucket}",
        answer.client, answer.protocol, answer.gateway, answer.gateway_name, answer.client_hash
    );
    match &answer.chosen {
        Some(chosen) => {
            let at = if chosen.gateway == answer.gateway {
                "at this gateway".into()
            } else {
                let distance = answer.distance_us.map_or_else(|| "at an unknown distance".into(), micros);
                format!("at gateway {}, {distance}", chosen.gateway)
            };
            let _ = writeln!(out, "chosen: {}, provider {}, {at}", router(chosen), chosen.provider);
        }
        None => {
            let _ = writeln!(out, "chosen: none");
        }
    }
    if let Some(draining) = &answer.draining {
        let _ = writeln!(out, "        {}", leaving(draining));
    }
    if answer.suspect {
        let _ = writeln!(out, "        its gateway does not answer, and no gateway that does has a router");
    }
    if let Some(next) = answer.next_gateway {
        let _ = writeln!(out, "next:   routers at gateway {next}, ready in the switch");
    }
    let _ = write!(out, "\n{}", rejected(answer));
    let _ = write!(out, "\n{}", proof(answer));
    out.trim_end().to_owned()
}

/// Which of a draining router and its heir the client belongs to, and how that is known.
fn leaving(draining: &Draining) -> String {
    let name = |r: &Option<Considered>| r.as_ref().map_or_else(|| "a router that is gone".into(), router);
    let [leaves, heir] = [&draining.router, &draining.heir].map(name);
    let seconds = |ms: u64| format!("{:.0} s", ms as f64 / 1000.0);
    let silent = draining.silent_ms.map_or_else(String::new, seconds);
    let idle = seconds(draining.idle_ms);
    let is = match draining.client.as_str() {
        "present" => format!("this client is one of its, heard {silent} ago, and stays until it is silent for {idle}"),
        "idle" => format!("this client was one of its, but has been silent for {silent}, longer than {idle}"),
        "new" => "this client never was one of its".into(),
        "learning" => "everybody that sends now counts as one of its clients".into(),
        _ => "whether this client is one of its could not be found out, so it is taken for new".into(),
    };
    let cell = if draining.cell_read { format!(" (cell {} of client_seen)", draining.cell) } else { String::new() };
    format!("{leaves} drains and leaves the bucket to {heir}: {is}{cell}")
}

fn router(router: &Considered) -> String {
    format!("router {} {} ({})", router.index, router.name, router.address)
}

fn rejected(answer: &Explanation) -> String {
    if answer.rejected.is_empty() {
        return "no other router speaks this protocol\n".into();
    }
    let mut table = table(&["REJECTED", "NAME", "PROVIDER", "GATEWAY", "WHY", "THAT IS"]);
    for rejected in &answer.rejected {
        let router = rejected.router.clone().unwrap_or_default();
        table.add_row([
            router.address,
            router.name,
            router.provider.to_string(),
            router.gateway.to_string(),
            rejected.reason.clone(),
            rejected.detail.clone(),
        ]);
    }
    let more = if answer.left_out > 0 { format!("and {} more\n", answer.left_out) } else { String::new() };
    format!("{table}\n{more}")
}

fn proof(answer: &Explanation) -> String {
    if !answer.no_proof.is_empty() {
        return format!("no proof: {}\nby the plan: {}", answer.no_proof, answer.planned_outcome);
    }
    let mut table = table(&["", "READ FROM THE SWITCH", "ACTION", "IN THE PLAN"]);
    for entry in &answer.proof {
        table.add_row(row(entry));
    }
    let mut out = format!("{table}\nby the switch: {}\n", answer.outcome);
    if answer.outcome != answer.planned_outcome {
        let _ = writeln!(out, "by the plan:   {}", answer.planned_outcome);
    }
    if answer.differs {
        let _ = writeln!(out, "THE SWITCH DIFFERS FROM THE PLAN; its state is {:?}", answer.switch_state);
    }
    out
}

fn row(entry: &Proof) -> [String; 4] {
    let or = |action: &str| if action.is_empty() { "(no entry)".into() } else { action.to_owned() };
    let planned = if entry.differs { or(&entry.in_plan) } else { "the same".into() };
    [if entry.differs { "!" } else { "" }.into(), entry.key.clone(), or(&entry.in_switch), planned]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(table: &str, in_switch: &str, in_plan: &str) -> Proof {
        Proof {
            table: table.into(),
            key: format!("{table}[x=1]"),
            in_switch: in_switch.into(),
            in_plan: in_plan.into(),
            differs: in_switch != in_plan,
        }
    }

    #[test]
    fn a_difference_is_flagged_on_its_line_and_at_the_end() {
        let answer = Explanation {
            proof: vec![entry("demux", "to_router(router=1)", "to_router(router=1)"), entry("router", "", "tunnel(…)")],
            differs: true,
            switch_state: "writing".into(),
            outcome: "dropped: no_router".into(),
            planned_outcome: "to router 1".into(),
            ..Explanation::default()
        };
        let text = text(&answer);
        let line = |word: &str| text.lines().find(|l| l.contains(word)).unwrap_or_default().to_owned();
        assert!(line("demux[x=1]").contains("the same") && !line("demux[x=1]").starts_with(" !"), "{text}");
        assert!(line("router[x=1]").contains('!') && line("router[x=1]").contains("(no entry)"), "{text}");
        for words in ["chosen: none", "dropped: no_router", "to router 1", "DIFFERS", "writing"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn of_a_bucket_that_is_being_left_it_says_whose_the_client_is() {
        let considered = |index, name: &str| Some(Considered { index, name: name.into(), ..Considered::default() });
        let said = |client: &str, silent_ms, cell_read| {
            let (router, heir) = (considered(3, "old"), considered(4, "new"));
            let draining =
                Draining { router, heir, client: client.into(), silent_ms, idle_ms: 600_000, cell: 77, cell_read };
            text(&Explanation { draining: Some(draining), ..Explanation::default() })
        };
        let present = said("present", Some(4_194), true);
        assert!(present.contains("router 3 old") && present.contains("to router 4 new"), "{present}");
        assert!(present.contains("heard 4 s ago") && present.contains("silent for 600 s"), "{present}");
        assert!(present.contains("cell 77 of client_seen"), "{present}");
        assert!(said("new", None, true).contains("never was one of its"));
        let unknown = said("unknown", None, false);
        assert!(unknown.contains("could not be found out") && !unknown.contains("cell 77"), "{unknown}");
    }

    #[test]
    fn without_a_proof_it_says_why() {
        let answer = Explanation {
            no_proof: "the switch is not connected: gone".into(),
            planned_outcome: "to router 1".into(),
            ..Explanation::default()
        };
        let text = text(&answer);
        assert!(text.contains("no proof: the switch is not connected: gone") && text.contains("by the plan"), "{text}");
        assert!(!text.contains("READ FROM"), "{text}");
    }
}
